"""Contract tests on the real executor: the Rust state, gas injection and engine."""

import hashlib

from compiled_contract import compiled

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.contract import Contract
from chainnode.contract.frame import Frame
from chainnode.contract.schema import FAULT_OVERFLOW
from chainnode.contract.testing import Outcome
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
                bytes(frame.caller.address), self.compiled.name, method, args, GAS_LIMIT
            )
            return self._outcome(data)
        if kind == "init":
            return self._execute(executor, frame, "install", self._package(args))
        return self._execute(executor, frame, method, args)

    def _package(self, init_args: bytes) -> bytes:
        made = self.compiled
        return encode(
            types_pb2.ContractPackage(
                name=made.name,
                version=made.version,
                wasm=made.wasm,
                abi=made.abi,
                source_hash=made.source_sha256,
                init_args=init_args,
            )
        )

    def _executor(self, frame: Frame, *, installed: bool) -> _native.Executor:
        caller, name = frame.caller, self.compiled.name.encode()
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
            code_hash = hashlib.sha256(self.compiled.wasm).digest()
            record = types_pb2.ContractRecord(
                name=self.compiled.name,
                version=self.compiled.version,
                code_hash=code_hash,
                abi_hash=hashlib.sha256(self.compiled.abi).digest(),
                source_hash=self.compiled.source_sha256,
                status=types_pb2.CONTRACT_STATUS_ACTIVE,
                installed_height=1,
            )
            entries += [
                (b"\x03" + name, encode(record)),
                (b"\x05" + name, self.compiled.abi),
                (b"\x06" + code_hash, self.compiled.wasm),
            ]
        prefix = b"\x04" + bytes([len(name)]) + name
        entries += [(prefix + key, value) for key, value in frame.committed.items()]
        executor = _native.Executor(frame.chain_id)
        executor.load(entries)
        return executor

    def _execute(
        self, executor: _native.Executor, frame: Frame, method: str, args: bytes
    ) -> Outcome:
        install = method == "install"
        payload = types_pb2.Payload(
            chain_id=frame.chain_id,
            kind=types_pb2.PAYLOAD_KIND_CONTRACT_ADMIN
            if install
            else types_pb2.PAYLOAD_KIND_INVOKE,
            contract=self.compiled.name,
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
        name = self.compiled.name.encode()
        prefix = b"\x04" + bytes([len(name)]) + name
        for key, value in block.writes:
            if key.startswith(prefix):
                frame.put(key[len(prefix) :], value)
        return outcome

    def _outcome(self, data: bytes, frame: Frame | None = None) -> Outcome:
        receipt = types_pb2.Receipt.FromString(data)
        self.gas_used = receipt.gas_used
        if receipt.status == types_pb2.RECEIPT_STATUS_OK:
            for item in receipt.events:
                if frame is not None:
                    frame.emit(item.name, item.data)
            return Outcome(result=receipt.result)
        if receipt.status == types_pb2.RECEIPT_STATUS_REVERTED:
            return Outcome(code=receipt.error_code, data=receipt.message.encode())
        if receipt.message == "counter overflow":
            # The node's counter traps where the other two raise a fault.
            return Outcome(code=FAULT_OVERFLOW)
        status = types_pb2.ReceiptStatus.Name(receipt.status)
        raise RuntimeError(f"{status}: {receipt.message}")
