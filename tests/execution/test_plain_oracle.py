"""Random blocks of compiled contracts' calls on every engine against a chain of plain Python.

`CHAINNODE_PLAIN_BLOCKS` says how many blocks; `make test` runs 120.
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random
from typing import Any

import pytest
from execution_chain import ADMINS, ALICE, BOB, CHAIN_ID, Chain, Person, receipts, transaction
from plain_chain import PlainChain, state_root, told
from second_engine import Machine

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.contract import abi as abi_module
from chainnode.contract.compiler import compile_source
from chainnode.types.codec import encode

BLOCKS = int(os.environ.get("CHAINNODE_PLAIN_BLOCKS", "120"))
ENGINES = [
    (1, "serial"),
    (1, "stm"),
    (2, "gate"),
    (2, "stm"),
    (4, "blind"),
    (8, "dag"),
    (96, "stm"),
]
NAMES = ("one", "two")
# Into purses of 16 bits, of the payer's too.
PAID = [0, 1, 2, 3, 4, 2**15, 2**16 - 1, 2**16, -1, -(2**15), 2**80]
STRANGER = Person("stranger", "b", types_pb2.ROLE_CLIENT)
PROGRAM = """
from dataclasses import dataclass
from chainnode.contract import (
    Address, CallFailed, Contract, Counter, Error, Interface, Map, Var, at, call, ctx, emit, error,
    event, i64, u8, u16, u64)

@dataclass(frozen=True)
class Row:
    owner: Address
    amount: int

@event
class Moved:
    source: u8
    to: u8
    amount: int

@error
class TooLittle(Error):
    have: int

class Other(Interface):
    @call
    def move(self, source: u8, to: u8, amount: u64) -> int: ...
    @call
    def scan(self, start: u8, stop: u8, limit: u16, to: u8) -> int: ...
    @call
    def pay(self, source: u8, to: u8, amount: int) -> None: ...
    @call
    def spin(self) -> None: ...
    @call
    def missing(self) -> None: ...

class Program(Contract, name="one"):
    cells: Map[u8, int]
    rows: Map[tuple[u8, str], Row]
    signed: Map[i64, u8]
    sum: Counter
    purses: Map[u8, u16]
    last: Var[int]

    @call
    def move(self, source: u8, to: u8, amount: u64) -> int:
        have = self.cells.get(source, 0)
        self.cells[to] = self.cells.get(to, 0) + amount
        emit(Moved(source, to, amount))
        if amount > 90 + have:
            raise TooLittle(have)
        self.cells[source] = self.cells[source] - amount if source in self.cells else -amount
        return have

    @call
    def count(self, amount: int) -> None:
        self.sum.add(amount)
        self.sum.add(1)

    @call
    def pay(self, source: u8, to: u8, amount: int) -> None:
        self.purses.add(to, amount)
        self.purses.add(source, 3 - amount)

    @call
    def total(self, to: u8) -> int:
        self.cells[to] = self.sum.read() % 1_000
        return self.sum.read() + self.purses.get(to, 7)

    @call
    def drop(self, key: u8) -> None:
        del self.cells[key]

    @call
    def note(self, shelf: u8, name: str, amount: int) -> None:
        self.rows[(shelf, name)] = Row(ctx.sender, amount + self.last.get(0))
        self.signed[shelf - 100] = shelf

    @call
    def forget(self, shelf: u8, name: str) -> None:
        del self.rows[(shelf, name)]
        self.last.set(ctx.height)

    @call
    def scan(self, start: u8, stop: u8, limit: u16, to: u8) -> int:
        seen = 0
        for (shelf, name), row in self.rows.range((start, ""), (stop, "b"), limit=limit):
            seen = (seen * 31 + shelf * 7 + len(name) + row.amount) % 1_000_003
        for number, shelf in self.signed.range(start - 110, limit=3, reverse=True):
            seen = (seen * 31 + number * 5 + shelf) % 1_000_003
        self.cells[to] = seen
        return seen

    @call
    def clear(self, start: u8) -> u16:
        rows = self.rows.range((start, ""), limit=4)
        for key, _row in rows:
            del self.rows[key]
        return len(rows)

    @call
    def divide(self, key: u8, by: i64) -> int:
        self.cells[key] = self.cells.get(key, 1_000) // by
        return self.cells[key]

    @call
    def spin(self) -> None:
        while True:
            self.last.set(self.last.get(0) + 1)

    @call
    def ask(self, name: str, source: u8, to: u8, amount: u64, how: u8) -> int:
        self.cells[to] = how
        emit(Moved(source, to, how))
        got = 0
        if how == 0:
            got = at(name, Other).move(source, to, amount)
        elif how == 1:
            try:
                got = at(name, Other).move(source, to, amount)
            except CallFailed as failed:
                got = failed.code + len(failed.text)
        elif how == 2:
            try:
                at(name, Other, gas=20_000).spin()
            except CallFailed as failed:
                got = len(failed.status)
        elif how == 3:
            try:
                at(name, Other).missing()
            except CallFailed as failed:
                got = len(failed.status)
        elif how == 4:
            try:
                at(name, Other).pay(source, to, amount)
            except CallFailed as failed:
                got = failed.code
        else:
            got = at(name, Other).scan(source, to, 5, to)
        self.cells[to] = got
        return got
"""


def shapes(random: Random, keys: int) -> tuple[str, dict[str, Any]]:
    """A method with arguments."""
    key = random.randrange(keys)
    to, amount = random.randrange(keys), random.choice([0, 1, 5, 60, 95, 2**63])
    few = random.choice([0, 2, 9])
    # The last is longer than a key may be.
    name = random.choice([*["", "a", "b", "a\0", "\u00e4"] * 4, "a" * 1_100])
    big = random.choice([2**126, -(2**126)])
    return random.choice(
        [
            *[("move", {"source": key, "to": to, "amount": amount})] * 4,
            *[("count", {"amount": random.choice([1, -1, 7, 2**40, big])})] * 3,
            *[("pay", {"source": key, "to": to, "amount": random.choice(PAID)})] * 4,
            ("total", {"to": to}),
            ("drop", {"key": key}),
            *[("note", {"shelf": key, "name": name, "amount": amount})] * 3,
            ("forget", {"shelf": key, "name": name}),
            *[("scan", {"start": key, "stop": to, "limit": few, "to": to})] * 2,
            ("scan", {"start": key, "stop": to, "limit": 1_001, "to": to}),
            ("clear", {"start": key}),
            ("divide", {"key": key, "by": random.choice([-3, 0, 2])}),
            ("spin", {}),
            *[
                (
                    "ask",
                    {
                        "name": random.choice([*NAMES, "three"]),
                        "source": key,
                        "to": to,
                        "amount": amount,
                        "how": random.randrange(6),
                    },
                )
            ]
            * 3,
        ]
    )


class Blocks:
    """Random blocks for the two contracts, each transaction as (bytes, id, payload)."""

    def __init__(self, abi: bytes, seed: int) -> None:
        self.abi = abi_module.Abi.parse(abi)
        self.random = Random(seed)
        self.salt = 0

    def block(self, height: int) -> list[tuple[bytes, bytes, types_pb2.Payload]]:
        keys = self.random.choice([1, 3, 20, 200])
        made: list[tuple[bytes, bytes, types_pb2.Payload]] = []
        for _ in range(self.random.randrange(50)):
            if made and self.random.randrange(40) == 0:
                made.append(self.random.choice(made))
            else:
                made.append(self.transaction(height, keys))
        return made

    def transaction(self, height: int, keys: int) -> tuple[bytes, bytes, types_pb2.Payload]:
        random = self.random
        self.salt += 1
        method, arguments = shapes(random, keys)
        args = abi_module.encode_args(self.abi, method, arguments)
        odd = random.randrange(60)
        payload = types_pb2.Payload(
            chain_id=CHAIN_ID,
            kind=types_pb2.PAYLOAD_KIND_INVOKE,
            contract="three" if odd == 0 else random.choice(NAMES),
            method="nothing" if odd == 1 else method,
            args=args[:-1] if odd == 2 else args,
            sender=random.choice([ALICE, BOB, *ADMINS]).public_key,
            salt=self.salt.to_bytes(16, "big"),
            expiry_height=height + random.randrange(90),
            # A long name takes the contract that much to get wrong.
            gas_limit=random.choice([200, 3_000, *[300_000 if method == "note" else 60_000] * 6]),
        )
        if odd == 3:
            payload.expiry_height = height - 1
        elif odd == 4:
            payload.expiry_height = height + 101
        elif odd == 5:
            payload.sender = STRANGER.public_key
        sent = encode(types_pb2.Transaction(payload=payload, signature=bytes(64)))
        return sent, _native.tx_id(encode(payload)), payload


def installation(wasm: bytes, abi: bytes, name: str, salt: int) -> bytes:
    package = types_pb2.ContractPackage(name=name, version="1", wasm=wasm, abi=abi)
    return transaction(
        ADMINS[0],
        "install",
        encode(package),
        salt,
        kind=types_pb2.PAYLOAD_KIND_CONTRACT_ADMIN,
        endorsers=[ADMINS[1]],
    )


@pytest.mark.timeout(900)
def test_every_engine_gives_what_plain_python_gives() -> None:
    made = compile_source(PROGRAM)
    installs = [installation(made.wasm, made.abi, name, salt) for salt, name in enumerate(NAMES)]
    chains = []
    for threads, engine in ENGINES:
        chain = Chain()
        chain.executor.set_engine(threads, engine)
        assert [receipt.status for receipt in chain.run(*installs)] == [1, 1]
        chains.append(chain)
    machine = Machine(_native.meter_module(made.wasm), NAMES)
    people = [ALICE, BOB, *ADMINS]
    plain = PlainChain(people, machine, dict(chains[0].stored), chains[0].height)
    blocks = Blocks(made.abi, seed=BLOCKS)
    seen: Counter[str] = Counter()
    for _ in range(BLOCKS):
        block = blocks.block(plain.height + 1)
        before = dict(plain.state)
        expected = plain.block([(tx_id, payload) for _, tx_id, payload in block])
        root = state_root(plain.state)
        net = {
            key: plain.state.get(key)
            for key in {*before, *plain.state}
            if before.get(key) != plain.state.get(key)
        }
        for chain, engine in zip(chains, ENGINES, strict=True):
            result = chain.block([sent for sent, _, _ in block], verified=1)
            for (_, _, payload), receipt, outcome in zip(
                block, receipts(result), expected, strict=True
            ):
                assert told(receipt) == outcome, (engine, plain.height, payload)
            assert dict(result.writes) == net, engine
            assert result.state_root == root, engine
        for (_, _, payload), outcome in zip(block, expected, strict=True):
            number = types_pb2.ReceiptStatus.ValueType(outcome.status)
            status = types_pb2.ReceiptStatus.Name(number).removeprefix("RECEIPT_STATUS_")
            seen[status] += 1
            seen[f"{payload.method} {outcome.error_code or status}"] += 1
            seen["events of both"] += len({place for place, _, _ in outcome.events}) == 2
    print(f"{BLOCKS} blocks on {len(ENGINES)} engines, mismatches 0: {dict(sorted(seen.items()))}")
    wanted = {"OK", "REVERTED", "OUT_OF_GAS", "TRAPPED", "DUPLICATE", "EXPIRED", "UNKNOWN_MEMBER"}
    wanted |= {"UNKNOWN_CONTRACT", "UNKNOWN_METHOD", "scan OK", "clear OK", "drop 5", "ask OK"}
    wanted |= {"count OK", "count 2", "pay OK", "pay 2", "note TRAPPED", "ask 10", "scan 7"}
    assert wanted <= {*seen}, wanted - {*seen}
    assert seen["events of both"] > 0
    assert seen["OK"] > seen["REVERTED"] + seen["OUT_OF_GAS"]


def test_the_oracle_notices_a_lost_write() -> None:
    state = {b"a": b"1", b"b": b"2"}
    root = state_root(state)
    assert root != state_root({b"a": b"1"}) != state_root({})
    assert state_root({}) == bytes(32)
    del state[b"b"]
    assert state_root(state) == state_root({b"a": b"1"})
