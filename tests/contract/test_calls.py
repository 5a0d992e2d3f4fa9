"""Calls of other contracts mean the same under CPython, on wasmtime and on the executor."""

import itertools
import linecache
import sys
import types
from typing import Any

import pytest
from executor_backend import ExecutorBackend
from wasmtime_host import WasmtimeBackend

from chainnode.contract import Contract, contract_address
from chainnode.contract.compiler import CompileError, compile_source
from chainnode.contract.testing import Deployed, NativeBackend, Reverted, deploy, member

NUMBERS = itertools.count()
BACKENDS = [NativeBackend, WasmtimeBackend, ExecutorBackend]
ALICE = member("alice")

HEADER = """
from dataclasses import dataclass
from chainnode.contract import (
    Address, CallFailed, Contract, Counter, Error, Event, Interface, Map, Var, at, call, ctx, emit,
    error, event, u8, u32, u64, view)

@dataclass(frozen=True)
class Point:
    x: int
    y: u8

class Other(Interface):
    @call
    def put(self, key: u8, value: Point) -> Point | None:
        '''Store a value; return the one before.'''
        ...

    @call
    def fail(self, how: u8) -> None: ...

    @call
    def back(self, to: str, deep: u8) -> str: ...

    @call
    def wrong(self) -> u64: ...

    @view
    def who(self) -> tuple[str, Address, Address, str, str, str]: ...

    @view
    def total(self) -> int: ...
"""

CALLEE = (
    HEADER
    + """
@event
class Put:
    key: u8
    value: Point

@error
class Refused(Error):
    how: u8
    why: str

class Program(Contract, name="callee"):
    points: Map[u8, Point]
    sum: Counter

    @call
    def put(self, key: u8, value: Point) -> Point | None:
        old = self.points.get(key)
        self.points[key] = value
        self.sum.add(value.x)
        emit(Put(key, value))
        return old

    @call
    def fail(self, how: u8) -> None:
        self.put(1, Point(7, 7))
        if how == 1:
            raise Refused(how, "né")
        assert how != 2, "two"
        self.points[9] = self.points[10 + how]

    @call
    def back(self, to: str, deep: u8) -> str:
        if deep == 0:
            return ctx.caller
        return at(to, Other).back("callee", deep - 1)

    @call
    def wrong(self) -> bytes:
        self.sum.add(1)
        return b"no number"

    @view
    def who(self) -> tuple[str, Address, Address, str, str, str]:
        first = (ctx.caller, ctx.sender, ctx.origin)
        return (first[0], first[1], first[2], ctx.sender_role, ctx.sender_name, ctx.sender_org)

    @view
    def total(self) -> int:
        return self.sum.read()
"""
)

CALLER = (
    HEADER
    + """
@event
class Caught:
    method: str
    status: str
    code: u32
    text: str

class Program(Contract, name="caller"):
    last: Var[u32]
    kept: Map[u8, str]

    @call
    def put(self, key: u8, x: int) -> int:
        old = at("call" + "ee", Other).put(key, Point(x, key))
        return -1 if old is None else old.x

    @call
    def fail(self, how: u8) -> None:
        self.kept[how] = "before"
        at("callee", Other).fail(how)

    @call
    def attempt(self, name: str, how: u8) -> str:
        self.kept[0] = "before"
        answer = "none"
        try:
            at(name, Other).fail(how)
        except CallFailed as failed:
            self.last.set(failed.code)
            emit(Caught(failed.method, failed.status, failed.code, failed.text))
            answer = failed.contract
            if how == 2:
                return failed.text
        else:
            answer = "fine"
        self.kept[1] = answer
        return answer

    @call
    def sums(self, values: list[int]) -> tuple[int, int]:
        failures = 0
        total = 0
        for value in values:
            try:
                old = at("callee", Other).put(3, Point(value, 3))
            except CallFailed:
                failures += 1
                continue
            if old is not None:
                total += old.x
        seen: int = 0
        try:
            seen = at("callee", Other).total()
        except CallFailed as failed:
            assert False, failed.status
        return (failures * 1000 + total, seen)

    @call
    def back(self, to: str, deep: u8) -> str:
        return at(to, Other).back("caller", deep)

    @call
    def wrong(self) -> u64:
        value: u64 = 3
        try:
            value = at("callee", Other).wrong()
        except CallFailed as failed:
            return 4
        return value

    @view
    def who(self) -> tuple[str, Address, Address, str, str, str]:
        return at("callee", Other).who()
"""
)


def load(source: str) -> type[Contract]:
    """Import a program as a module of its own."""
    module = types.ModuleType(f"calls_{next(NUMBERS)}")
    module.__file__ = f"{module.__name__}.py"
    sys.modules[module.__name__] = module
    lines = source.splitlines(keepends=True)
    linecache.cache[module.__file__] = (len(source), None, lines, module.__file__)
    exec(compile(source, module.__file__, "exec"), module.__dict__)
    contract: type[Contract] = module.Program
    return contract


class Pair:
    """Caller and callee on one chain, on each backend; every step must agree on all."""

    def __init__(self) -> None:
        callee, caller = load(CALLEE), load(CALLER)
        self.chains: list[tuple[Deployed, Deployed]] = []
        for backend in BACKENDS:
            first = deploy(callee, backend=backend)
            self.chains.append((deploy(caller, backend=backend, beside=first), first))

    def run(self, method: str, kind: str = "call", **kwargs: Any) -> Any:
        """A result, or the text of what it reverted with."""
        found = []
        for caller, callee in self.chains:
            try:
                end = caller.run(kind, method, ALICE, kwargs)
            except Reverted as reverted:
                end = str(reverted)
            stored = [sorted(item.storage.items()) for item in (caller, callee)]
            found.append((end, stored, caller.events, callee.events))
        assert found[1] == found[0]
        assert found[2] == found[0]
        return found[0][0]


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair()


def test_results_arguments_and_events_cross(pair: Pair) -> None:
    assert pair.run("put", key=3, x=5) == -1
    assert pair.run("put", key=3, x=2**100) == 5
    assert pair.run("put", key=3, x=1) == 2**100
    assert pair.chains[0][1].events[-1][0] == "Put"


def test_what_is_not_caught_undoes_all_and_says_what(pair: Pair) -> None:
    before = dict(pair.chains[0][0].storage)
    text = pair.run("fail", how=1)
    assert "callee.fail: REVERTED 100 Refused 0x01" in text
    assert "callee.fail: REVERTED 1 two" in pair.run("fail", how=2)
    assert "callee.fail: REVERTED 5" in pair.run("fail", how=3)
    assert pair.chains[0][0].storage == before


def test_what_is_caught_undoes_the_callee_alone(pair: Pair) -> None:
    before = dict(pair.chains[0][1].storage)
    assert pair.run("attempt", name="callee", how=1) == "callee"
    assert pair.run("attempt", name="callee", how=2) == "two"
    assert pair.run("attempt", name="nobody", how=3) == "nobody"
    assert pair.run("attempt", name="x" * 70, how=3) == "x" * 70
    assert pair.run("attempt", name="caller", how=3) == "caller"
    caller, callee = pair.chains[0]
    assert callee.storage == before
    statuses = [fields["status"] for name, fields in caller.events if name == "Caught"]
    assert statuses[-3:] == ["UNKNOWN_CONTRACT", "UNKNOWN_CONTRACT", "REENTRANT"]


def test_a_loop_of_tries_goes_on_and_sees_what_was_kept(pair: Pair) -> None:
    first = pair.run("sums", values=[0])[1]
    ended, seen = pair.run("sums", values=[4, 2**127 - 1, 6])
    assert (ended, seen) == (1004, first + 10)


def test_a_contract_that_waits_is_not_called(pair: Pair) -> None:
    assert pair.run("back", to="callee", deep=0) == "caller"
    text = pair.run("back", to="callee", deep=1)
    assert "callee.back: REVERTED 10 caller.back: REENTRANT" in text
    assert "caller.back: REENTRANT" in pair.run("back", to="caller", deep=0)


def test_a_result_that_the_interface_does_not_know_undoes_all(pair: Pair) -> None:
    before = dict(pair.chains[0][1].storage)
    assert "MalformedInput" in pair.run("wrong")
    assert pair.chains[0][1].storage == before


def test_the_callee_sees_the_caller_and_who_signed(pair: Pair) -> None:
    caller = contract_address("caller")
    expected = ("caller", caller, ALICE.address, "contract", "caller", "")
    assert pair.run("who", "view") == expected


METHOD = "\n    @call\n    def main(self, a: u8) -> None:\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("other = at('callee', Other)", "at.* is no value"),
        ("at('callee', Point).fail(a)", "Point is no interface"),
        ("at('callee', Other).nothing(a)", "Other has no nothing"),
        ("at('callee', Other, 5).fail(a)", "at takes a name and an interface"),
        ("at(5, Other).fail(a)", "expected str"),
        ("at('callee', Other).fail('x')", "expected u8, found str"),
        ("try:\n            a = 1\n        except CallFailed:\n            pass", "holds one call"),
        (
            "try:\n            at('c', Other).fail(a)\n        finally:\n            pass",
            "try is only for one call",
        ),
        (
            "try:\n            at('c', Other).fail(a)\n        except Exception:\n            pass",
            "try is only for one call",
        ),
        (
            "try:\n            at('c', Other).fail(self.one())\n        except CallFailed:\n"
            "            pass",
            "an argument inside try calls something itself",
        ),
        (
            "try:\n            at('c', Other).fail(a)\n        except CallFailed as f:\n"
            "            pass\n        assert f.code == 0",
            "f may have no value here",
        ),
        (
            "try:\n            x = at('c', Other).total()\n        except CallFailed:\n"
            "            pass\n        assert x == 0",
            "x may have no value here",
        ),
    ],
)
def test_what_is_not_in_the_subset_is_refused_with_a_reason(body: str, message: str) -> None:
    head = "\nclass Program(Contract):\n    def one(self) -> u8:\n        return 1\n"
    with pytest.raises(CompileError, match=message):
        compile_source(HEADER + head + METHOD + f"        {body}\n")


def test_an_interface_holds_signatures_alone() -> None:
    for body, message in [
        ("    def f(self) -> None: ...", "neither @call nor @view"),
        ("    @call\n    def f(self) -> u8:\n        return 1", "f has a body"),
        ("    x: Var[u8]", "may only have methods"),
    ]:
        source = f"{HEADER}\nclass Bad(Interface):\n{body}\n\nclass Program(Contract):\n    pass\n"
        with pytest.raises(CompileError, match=message):
            compile_source(source)


def test_a_view_calls_only_views() -> None:
    head = "\nclass Program(Contract):\n    @view\n    def main(self) -> None:\n        "
    compile_source(HEADER + head + "assert at('c', Other).total() == 0\n")
    with pytest.raises(CompileError, match="the view main changes storage"):
        compile_source(HEADER + head + "at('c', Other).fail(1)\n")
