"""Blocks of the shipped asset contract's transfers on the real executor."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.bench import vm
from chainnode.contract.compiler import compile_path
from chainnode.types.codec import encode
from chainnode.types.errors import InternalError

CHAIN_ID: Final = "bench"
ACCOUNTS: Final = 100_000
BALANCE: Final = 10**12
GAS_LIMIT: Final = 2_000_000_000
FOREVER_MS: Final = 2**62
BALANCES_FIELD: Final = 4


@dataclass(frozen=True, slots=True)
class Chain:
    """A state with the contract, members and balances; blocks for it.

    Args:
        public_keys: members with a balance, who pay and are paid.
    """

    entries: list[tuple[bytes, bytes]]
    public_keys: list[bytes]

    def executor(self) -> _native.Executor:
        """A fresh executor over this state."""
        executor = _native.Executor(CHAIN_ID)
        executor.load(self.entries)
        return executor

    def block(
        self, height: int, transactions: int, *, one_merchant: bool = False
    ) -> tuple[bytes, bytes, bytes]:
        """(context, batch, verified) of transfers between random members, or of different members
        to the first one.

        Signatures count as checked: their cost is another figure.
        """
        draw = random.Random(height)
        merchant, *others = self.public_keys
        if one_merchant:
            pairs = [(payer, merchant) for payer in draw.sample(others, transactions)]
        else:
            drawn = (draw.sample(self.public_keys, 2) for _ in range(transactions))
            pairs = [(payer, paid) for payer, paid in drawn]
        made = [
            self._transfer(payer, paid, height, number)
            for number, (payer, paid) in enumerate(pairs)
        ]
        context = types_pb2.BlockContext(
            height=height, timestamp_ms=1_000 * height, randomness=bytes(32)
        )
        batch = types_pb2.TransactionBatch(transactions=made)
        return encode(context), encode(batch), b"\1" * transactions

    def _transfer(self, sender: bytes, to: bytes, height: int, number: int) -> bytes:
        payload = types_pb2.Payload(
            chain_id=CHAIN_ID,
            kind=types_pb2.PAYLOAD_KIND_INVOKE,
            contract="asset",
            method="transfer",
            args=_native.address(to) + (1).to_bytes(8, "big"),
            sender=sender,
            salt=height.to_bytes(8, "big") + number.to_bytes(8, "big"),
            expiry_height=height + 10,
            gas_limit=GAS_LIMIT,
        )
        return encode(types_pb2.Transaction(payload=payload, signature=bytes(64)))


def chain(accounts: int = ACCOUNTS) -> Chain:
    """The contract installed, and members with a balance each."""
    path = vm.shipped("asset")
    made = compile_path(path)
    keys = [hashlib.sha256(b"payer %d" % number).digest() for number in range(accounts)]
    config = types_pb2.ChainConfig(
        chain_id=CHAIN_ID,
        suite="ed25519-sha256",
        engine="tbft",
        expiry_window=1_000,
        execution_depth=1,
        gas_limit_max=GAS_LIMIT,
    )
    code_hash = hashlib.sha256(made.wasm).digest()
    record = types_pb2.ContractRecord(
        name=made.name,
        version=made.version,
        code_hash=code_hash,
        abi_hash=hashlib.sha256(made.abi).digest(),
        source_hash=made.source_sha256,
        status=types_pb2.CONTRACT_STATUS_ACTIVE,
        installed_height=1,
    )
    entries = [
        (b"\x01config", encode(config)),
        (b"\x03asset", encode(record)),
        (b"\x05asset", made.abi),
        (b"\x06" + code_hash, made.wasm),
    ]
    return Chain([*entries, *_members(keys)], keys)


def _members(keys: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for key in keys:
        address = _native.address(key)
        member = types_pb2.Member(
            public_key=key,
            organisation="bank-a",
            role=types_pb2.ROLE_CLIENT,
            name="payer",
            status=types_pb2.MEMBER_STATUS_ACTIVE,
            not_after_ms=FOREVER_MS,
        )
        yield b"\x02" + address, encode(member)
        prefix = b"\x04\x05asset" + bytes([BALANCES_FIELD])
        yield prefix + address, BALANCE.to_bytes(8, "big")


def recorded(
    made: Chain, transactions: int, runs: int, *, one_merchant: bool = False
) -> _native.Trace:
    """A block as the executor records it, of every transaction the quickest of several runs."""
    executor = made.executor()
    # Compiles the contract.
    executor.execute_block(*made.block(1, 100))
    block = made.block(2, transactions, one_merchant=one_merchant)
    return executor.record_block(*block, runs=runs)


def compared(made: Chain, threads: int, transactions: int, repeats: int) -> list[float]:
    """Serial time over parallel time of whole blocks, pairs interleaved on two executors.

    Raises:
        InternalError: `BENCH_MISMATCH`, when receipts or state differ.
    """
    serial, parallel = made.executor(), made.executor()
    serial.set_engine(1)
    parallel.set_engine(threads)
    ratios = []
    for height in range(1, repeats + 2):
        block = made.block(height, transactions)
        spent, roots = [], []
        for executor in (serial, parallel):
            start = time.perf_counter()
            result = executor.execute_block(*block)
            spent.append(time.perf_counter() - start)
            roots.append((result.receipts_root, result.state_root, result.gas_used))
        if roots[0] != roots[1]:
            raise InternalError(
                "BENCH_MISMATCH",
                f"{threads} threads gave another result than serial execution",
                subject=f"block {height}",
                fix="do not run a node on this machine; report it",
            )
        ratios.append(spent[0] / spent[1])
    # The first block compiles the contract.
    return ratios[1:]
