"""Ranges over maps: order, bounds, limits and copies are the same on every backend."""

import json
from typing import Any

import pytest
from compiled_contract import compiled
from executor_backend import ExecutorBackend
from hinted_backend import HintedBackend
from hypothesis import given, settings
from hypothesis import strategies as st
from test_differential import load
from wasmtime_host import WasmtimeBackend

from chainnode import _native
from chainnode.contract import Address, Bytes32, Contract, schema
from chainnode.contract.codec import decode_key, encode_key
from chainnode.contract.compiler import CompileError, compile_source
from chainnode.contract.sdk import method_types
from chainnode.contract.testing import NativeBackend, Reverted, deploy
from chainnode.types.limits import CONTRACT_SCAN_ROWS_MAX

BACKENDS = [NativeBackend, HintedBackend, WasmtimeBackend, ExecutorBackend]
HEADER = """
from dataclasses import dataclass
from chainnode.contract import (
    Address, Bytes32, Contract, Counter, Map, Var, call, i64, u8, u16, u32, u64, u128, view)

@dataclass(frozen=True)
class Place:
    shelf: u8
    name: str

"""
SHOP = (
    HEADER
    + """
class Program(Contract, name="shop"):
    before: Map[u8, u8]
    prices: Map[tuple[u8, str], u64]
    after: Map[u8, u8]

    @call
    def put(self, shelf: u8, name: str, price: u64) -> None:
        self.before[shelf] = 1
        self.prices[(shelf, name)] = price
        self.after[shelf] = 1

    @call
    def remove(self, shelf: u8, name: str) -> None:
        del self.prices[(shelf, name)]

    @view
    def shelf(self, shelf: u8, limit: int) -> list[tuple[tuple[u8, str], u64]]:
        return self.prices.range((shelf, ""), (shelf + 1, ""), limit=limit)

    @view
    def all(self) -> list[tuple[tuple[u8, str], u64]]:
        return self.prices.range(limit=1000)

    @view
    def dearest(self, top: u8) -> int:
        best = 0
        for (shelf, name), price in self.prices.range(None, (top, ""), limit=10, reverse=True):
            if price > best and len(name) > shelf * 0:
                best = price
        return best

    @call
    def raise_all(self, factor: u64) -> int:
        done = 0
        for key, price in self.prices.range(limit=5):
            self.prices[key] = price * factor
            self.prices[(key[0], key[1] + "'")] = price
            done += len(self.prices.range(key, None, limit=1000))
        return done
"""
)


CALLS = {"put", "remove", "raise_all"}


class Deployment:
    """A contract on a chain whose methods are called by name with arguments in order."""

    def __init__(self, contract: type[Contract], backend: Any) -> None:
        self.contract = contract
        self.deployed = deploy(contract, backend=backend)

    def __getattr__(self, method: str) -> Any:
        names = [name for name, _ in method_types(getattr(self.contract, method))[0]]
        run = self.deployed.call if method in CALLS else self.deployed.view
        return lambda *args: run(method, **dict(zip(names, args, strict=True)))


def shop(backend: Any) -> Deployment:
    return Deployment(load(SHOP), backend)


@pytest.fixture(params=BACKENDS, ids=lambda backend: str(backend.__name__))
def filled(request: pytest.FixtureRequest) -> Deployment:
    deployed = shop(request.param)
    for shelf, name, price in [(1, "b", 5), (1, "a\0c", 9), (0, "z", 7), (255, "", 2), (1, "ä", 3)]:
        deployed.put(shelf, name, price)
    return deployed


ROWS = [
    ((0, "z"), 7), ((1, "a\0c"), 9), ((1, "b"), 5), ((1, "ä"), 3), ((255, ""), 2),
]  # fmt: skip


def test_rows_come_in_the_order_of_their_keys_and_of_no_other_field(filled: Deployment) -> None:
    assert filled.all() == ROWS
    assert filled.shelf(1, 1000) == ROWS[1:4]
    assert filled.shelf(1, 2) == ROWS[1:3]
    assert filled.shelf(1, 0) == filled.shelf(2, 5) == []
    assert filled.dearest(1) == 7
    assert filled.dearest(255) == 9


def test_what_a_loop_stores_does_not_change_its_rows(filled: Deployment) -> None:
    filled.remove(1, "b")
    # Four rounds, each over the rows from its own on with those stored so far.
    assert filled.raise_all(2) == 5 + 4 + 3 + 2
    assert dict(filled.all())[1, "a\0c"] == 18


@pytest.mark.parametrize("limit", [-1, 1001, 2**64, 2**126])
def test_a_limit_above_that_of_the_host_is_refused(filled: Deployment, limit: int) -> None:
    with pytest.raises(Reverted) as failed:
        filled.shelf(1, limit)
    assert failed.value.code == schema.FAULT_VALUE


def test_a_bound_outside_its_type_reverts(filled: Deployment) -> None:
    with pytest.raises(Reverted) as failed:
        filled.shelf(255, 1)
    assert failed.value.code == schema.FAULT_OVERFLOW


def test_each_row_costs_gas() -> None:
    deployed = shop(ExecutorBackend)
    for name in ("a", "b", "c"):
        deployed.put(1, name, 1)
    spent = []
    for limit in (1, 2, 3):
        deployed.shelf(1, limit)
        spent.append(deployed.deployed.backend.gas_used)
    assert spent[1] - spent[0] == spent[2] - spent[1] >= 100


def test_the_access_template_names_the_whole_field() -> None:
    section = json.loads(compiled(SHOP).abi)["access"]
    reads = {entry["method"]: entry["reads"] for entry in section}["raise_all"]
    assert {"storage": 2, "key": [{"unknown": True}]} in reads
    templates = _native.AccessTemplates(compiled(SHOP).abi)
    args = (2).to_bytes(8, "big")
    found = templates.predict("shop", "raise_all", args, sender=bytes(32))
    assert found is not None
    assert b"\x04\x04shop\x02" in found[3]


BYTES = st.one_of(st.binary(max_size=4), st.lists(st.sampled_from(b"\0\1\xff")).map(bytes))
TEXT = st.text(alphabet="\0\1az\u00e4\uffff\U0001f600", max_size=4)
KEYS: dict[str, tuple[schema.Type, st.SearchStrategy[Any]]] = {
    **{
        str(kind): (kind, st.integers(kind.low, kind.high))
        for kind in (schema.U8, schema.U16, schema.U32, schema.U64, schema.U128)
    },
    **{
        str(kind): (
            kind,
            st.one_of(st.integers(-3, 3), st.integers(kind.low, kind.high)),
        )
        for kind in (schema.I64, schema.INT)
    },
    "bool": (schema.BOOL, st.booleans()),
    "bytes": (schema.BYTES, BYTES),
    "str": (schema.STR, TEXT),
    "Bytes32": (schema.BYTES32, st.binary(min_size=32, max_size=32).map(Bytes32)),
    "Address": (schema.ADDRESS, st.binary(min_size=32, max_size=32).map(Address)),
    "tuple[str, i64]": (
        schema.TupleOf((schema.STR, schema.I64)),
        st.tuples(TEXT, st.integers(-2, 2)),
    ),
    "tuple[bytes, bytes]": (schema.TupleOf((schema.BYTES, schema.BYTES)), st.tuples(BYTES, BYTES)),
}


@pytest.mark.parametrize("name", KEYS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_encoded_keys_are_ordered_as_the_keys_and_decode(name: str, data: st.DataObject) -> None:
    kind, values = KEYS[name]
    keys = data.draw(st.lists(values, max_size=8))
    assert sorted(keys) == [
        decode_key(kind, key) for key in sorted(encode_key(kind, one) for one in keys)
    ]


def program(kind: str) -> type[Contract]:
    source = f"""
class Program(Contract):
    rows: Map[{kind}, u64]

    @call
    def put(self, key: {kind}, value: u64) -> None:
        self.rows[key] = value

    @call
    def remove(self, key: {kind}) -> None:
        if key in self.rows:
            del self.rows[key]

    @view
    def up(self, start: {kind}, stop: {kind}, limit: u16) -> list[tuple[{kind}, u64]]:
        return self.rows.range(start, stop, limit=limit)

    @view
    def down(self, start: {kind}, stop: {kind}, limit: u16) -> list[tuple[{kind}, u64]]:
        return self.rows.range(start, stop, limit=limit, reverse=True)

    @view
    def last(self, start: {kind}) -> list[tuple[{kind}, u64]]:
        return self.rows.range(start, limit=2, reverse=True)
"""
    return load(HEADER + source)


@pytest.mark.parametrize("name", KEYS)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_ranges_of_every_key_type_are_those_of_a_sorted_dict(
    name: str, data: st.DataObject
) -> None:
    _, values = KEYS[name]
    contract = PROGRAMS.setdefault(name, program(name))
    chains = [Deployment(contract, backend) for backend in BACKENDS]
    rows: dict[Any, int] = {}
    for key in data.draw(st.lists(values, min_size=1, max_size=6)):
        value = data.draw(st.integers(0, 9))
        keep = data.draw(st.booleans()) or not rows
        for chain in chains:
            chain.put(key, value) if keep else chain.remove(key)
        if keep:
            rows[key] = value
        else:
            rows.pop(key, None)
    ends = st.one_of(values, st.sampled_from([*rows])) if rows else values
    start, stop, limit = data.draw(ends), data.draw(ends), data.draw(st.integers(0, 4))
    inside = [(key, rows[key]) for key in sorted(rows) if start <= key < stop]
    last = [(key, rows[key]) for key in sorted(rows, reverse=True) if start <= key]
    for chain in chains:
        assert chain.up(start, stop, limit) == inside[:limit]
        assert chain.down(start, stop, limit) == inside[::-1][:limit]
        assert chain.last(start) == last[:2]


PROGRAMS: dict[str, type[Contract]] = {}


def test_as_many_rows_can_be_read_as_the_host_scans() -> None:
    deployed = Deployment(program("u16"), ExecutorBackend)
    rows = [(key, 3 * key) for key in range(CONTRACT_SCAN_ROWS_MAX + 1)]
    stored = {b"\1" + key.to_bytes(2, "big"): value.to_bytes(8, "big") for key, value in rows}
    deployed.deployed.storage.update(stored)
    assert deployed.up(0, 2**16 - 1, CONTRACT_SCAN_ROWS_MAX) == rows[:-1]


def test_a_record_is_ordered_by_its_fields() -> None:
    for backend in BACKENDS:
        deployed = Deployment(program("Place"), backend)
        for shelf, name in [(2, "a"), (1, "z"), (1, "")]:
            deployed.put({"shelf": shelf, "name": name}, shelf)
        last = deployed.last({"shelf": 1, "name": "a"})
        assert [(key.shelf, key.name) for key, _ in last] == [(2, "a"), (1, "z")]


REFUSED = {
    "self.maybe.range(limit=5)": "may be None",
    "self.pairs.range(limit=5)": "may be None",
    "self.rows.range(1, 2)": "range takes",
    "self.rows.range(1, 2, 3)": "range takes",
    "self.rows.range(1, 2, 3, limit=5)": "range takes",
    "self.rows.range(start=1, limit=5)": "range takes",
    "self.rows.range(limit=0)": "limit is 1 to 1000",
    "self.rows.range(limit=1001)": "limit is 1 to 1000",
    "self.rows.range(limit=5, reverse=self.flag.get())": "reverse is",
    "self.rows.range('a', limit=5)": "expected",
    "self.flag.range(limit=5)": "a var has no range",
    "self.count.range(limit=5)": "a counter has no range",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_has_no_order_or_no_limit_is_refused_with_a_way_around(text: str) -> None:
    source = f"""
class Program(Contract):
    rows: Map[u64, u64]
    maybe: Map[u64 | None, u64]
    pairs: Map[tuple[bool, u64 | None], u64]
    flag: Var[bool]
    count: Counter

    @view
    def main(self) -> int:
        return len({text})
"""
    with pytest.raises(CompileError) as refused:
        compile_source(HEADER + source)
    (problem,) = refused.value.diagnostics
    assert REFUSED[text] in problem.message
    assert problem.hint or "expected" in problem.message


def test_the_last_possible_field_ends_with_the_contract() -> None:
    fields = "\n".join(f"    f{number}: Map[u8, u8]" for number in range(1, 256))
    source = f"""
class Program(Contract):
{fields}

    @call
    def put(self, key: u8) -> None:
        self.f254[key] = 1
        self.f255[key] = 2

    @view
    def all(self) -> list[tuple[u8, u8]]:
        return self.f255.range(limit=9)
"""
    for backend in BACKENDS:
        deployed = Deployment(load(HEADER + source), backend)
        deployed.put(255)
        deployed.put(0)
        assert deployed.all() == [(0, 2), (255, 2)]
