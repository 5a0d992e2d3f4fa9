"""Contract tests on the real executor: the Rust state, gas injection and engine."""

import hashlib
from dataclasses import replace

from compiled_contract import compiled

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.contract import Contract
from chainnode.contract.frame import Frame
from chainnode.contract.testing import Deployed, Neighbours, Outcome
from chainnode.types.codec import encode

ROLES = {"admin": 1, "client": 2, "consensus": 3, "common": 4, "light": 5}
GAS_LIMIT = 2_000_000_000
FOREVER_MS = 2**62


class ExecutorBackend:
    """Every call is one block on a fresh executor loaded with the frame's storage.

    The `@init` method runs as the installation does it. The transaction id is the executor's own.
    """

    def __init__(self, contract: type[Contract] | str) -> None:
        self.compiled = compiled(contract)
        self.gas_used = 0
        self.receipts: list[bytes] = []

    def run(self, frame: Frame, kind: str, method: str, args: bytes) -> Outcome:
        executor = self._executor(frame, installed=kind != "init")
        if kind == "view":
            data = executor.evaluate(
                bytes(frame.caller.address), frame.contract, method, args, GAS_LIMIT
            )
            return self._outcome(data)
        if kind == "init":
            return self._execute(executor, frame, "install", self._package(frame.contract, args))
        return self._execute(executor, frame, method, args)

    def _package(self, name: str, init_args: bytes) -> bytes:
        made = self.compiled
        return encode(
            types_pb2.ContractPackage(
                name=name,
                version=made.version,
                wasm=made.wasm,
                abi=made.abi,
                source_hash=made.source_sha256,
                init_args=init_args,
            )
        )

    def _executor(self, frame: Frame, *, installed: bool) -> _native.Executor:
        caller = frame.caller
        config = types_pb2.ChainConfig(
            chain_id=frame.chain_id,
            suite="ed25519-sha256",
            engine="tbft",
            expiry_window=1000,
            execution_depth=1,
            gas_limit_max=GAS_LIMIT,
            policies=[types_pb2.Policy(action="contract-admin", organisations=1)],
        )
        member = types_pb2.Member(
            public_key=caller.public_key,
            organisation=caller.organisation,
            role=ROLES[caller.role],  # type: ignore[arg-type]
            name=caller.name,
            status=types_pb2.MEMBER_STATUS_ACTIVE,
            not_after_ms=FOREVER_MS,
        )
        entries = [
            (b"\x01config", encode(config)),
            (b"\x02" + bytes(caller.address), encode(member)),
        ]
        if installed:
            entries += self.entries(frame.contract, frame.committed)
        for name, other in self.others(frame):
            assert isinstance(other.backend, ExecutorBackend)
            entries += other.backend.entries(name, other.storage, frozen=other.frozen)
        executor = _native.Executor(frame.chain_id)
        # Two contracts may share their code.
        executor.load(list(dict(entries).items()))
        return executor

    def others(self, frame: Frame) -> list[tuple[str, Deployed]]:
        """The contracts that are installed beside this one."""
        if not isinstance(frame.calls, Neighbours):
            return []
        found = frame.calls.contracts.items()
        return [(name, other) for name, other in found if name != frame.contract]

    def entries(
        self, name: str, storage: dict[bytes, bytes], *, frozen: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """What the state holds for the installed contract."""
        made, text = self.compiled, name.encode()
        code_hash = hashlib.sha256(made.wasm).digest()
        frozen_or_not = (types_pb2.CONTRACT_STATUS_ACTIVE, types_pb2.CONTRACT_STATUS_FROZEN)
        record = types_pb2.ContractRecord(
            name=name,
            version=made.version,
            code_hash=code_hash,
            abi_hash=hashlib.sha256(made.abi).digest(),
            source_hash=made.source_sha256,
            status=frozen_or_not[frozen],
            installed_height=1,
        )
        prefix = b"\x04" + bytes([len(text)]) + text
        return [
            (b"\x03" + text, encode(record)),
            (b"\x05" + text, made.abi),
            (b"\x06" + code_hash, made.wasm),
            *((prefix + key, value) for key, value in storage.items()),
        ]

    def _execute(
        self, executor: _native.Executor, frame: Frame, method: str, args: bytes
    ) -> Outcome:
        install = method == "install"
        payload = types_pb2.Payload(
            chain_id=frame.chain_id,
            kind=types_pb2.PAYLOAD_KIND_CONTRACT_ADMIN
            if install
            else types_pb2.PAYLOAD_KIND_INVOKE,
            contract=frame.contract,
            method=method,
            args=args,
            sender=frame.caller.public_key,
            salt=frame.tx_id[:16],
            expiry_height=frame.height + 10,
            gas_limit=GAS_LIMIT,
        )
        transaction = encode(types_pb2.Transaction(payload=payload, signature=bytes(64)))
        context = types_pb2.BlockContext(
            height=frame.height, timestamp_ms=frame.time_ms, randomness=bytes(32)
        )
        batch = encode(types_pb2.TransactionBatch(transactions=[transaction]))
        block = executor.execute_block(encode(context), batch, b"\x01")
        self.receipts.append(block.receipts[0])
        outcome = self._outcome(block.receipts[0], frame)
        for key, value in block.writes:
            if key.startswith(b"\x04"):
                name, short = key[2 : 2 + key[1]].decode(), key[2 + key[1] :]
                self._frame(frame, name).put(short, value)
        return outcome

    def _frame(self, frame: Frame, name: str) -> Frame:
        """The frame of a contract that was called, as if it had been called once."""
        if name == frame.contract:
            return frame
        for item in frame.inner:
            if item.contract == name:
                return item
        made = replace(frame, contract=name, writes={}, events=[], inner=[], outer=frame)
        frame.inner.append(made)
        return made

    def _outcome(self, data: bytes, frame: Frame | None = None) -> Outcome:
        receipt = types_pb2.Receipt.FromString(data)
        self.gas_used = receipt.gas_used
        if receipt.status == types_pb2.RECEIPT_STATUS_OK:
            for item in receipt.events:
                if frame is not None:
                    self._frame(frame, item.contract).emit(item.name, item.data)
            return Outcome(result=receipt.result)
        if receipt.status == types_pb2.RECEIPT_STATUS_REVERTED:
            return Outcome(code=receipt.error_code, data=receipt.message.encode())
        status = types_pb2.ReceiptStatus.Name(receipt.status)
        raise RuntimeError(f"{status}: {receipt.message}")
