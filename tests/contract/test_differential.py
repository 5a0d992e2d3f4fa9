"""Random typed programs mean the same under CPython, on wasmtime and on the chain's executor."""

import itertools
import linecache
import sys
import types
from typing import Any

import pytest
from executor_backend import ExecutorBackend
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from wasmtime_host import WasmtimeBackend

from chainnode.contract import Contract
from chainnode.contract.compiler import CompileError, compile_source
from chainnode.contract.testing import Deployed, NativeBackend, deploy, member

NUMBERS = itertools.count()
INTERESTING = [0, 1, 2, 3, 7, 255, 2**31, 2**32 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**100, 2**126]

HEADER = """
from dataclasses import dataclass, replace
from chainnode.contract import (
    Contract, Counter, Error, Map, Var, call, emit, error, event, sha256, u8, u16, u32, u64, u128,
    i64)

LIMIT = 10 ** 6

@dataclass(frozen=True)
class Point:
    x: int
    y: u64 = 5

@event
class Seen:
    tag: u8
    value: int

@error
class Refused(Error):
    at: int

class Program(Contract):
    cells: Map[tuple[u8, i64], int]
    notes: Map[bytes, bytes]
    last: Var[int]
    sum: Counter
    tiny: Map[u8, u8]
    small: Map[u8, u16]
    middle: Map[u8, u32]
    large: Map[u8, u64]
    wide: Map[u8, u128]
    signed: Map[u8, i64]
    whole: Map[u8, int]

    def tick(self, tag: u8, value: int) -> int:
        emit(Seen(tag, value))
        return value

"""


def load(source: str) -> type[Contract]:
    """Import a generated program as a module of its own."""
    module = types.ModuleType(f"generated_{next(NUMBERS)}")
    module.__file__ = f"{module.__name__}.py"
    sys.modules[module.__name__] = module
    lines = source.splitlines(keepends=True)
    linecache.cache[module.__file__] = (len(source), None, lines, module.__file__)
    exec(compile(source, module.__file__, "exec"), module.__dict__)
    contract: type[Contract] = module.Program
    return contract


def outcome(deployed: Deployed, args: bytes) -> tuple[Any, ...]:
    found = deployed.run_raw("call", "main", member("alice"), args)
    # Built-in failures carry no agreed text besides an assertion's.
    return found.code, found.result, found.data, sorted(deployed.storage.items()), deployed.events


def agree(source: str, calls: list[bytes], *backends: Any) -> None:
    try:
        compile_source(source)
    except CompileError as refused:
        # A constant that cannot fit is refused at once; everything else must compile.
        assert all("is outside" in item.message for item in refused.diagnostics), source
        assume(False)
    contract = load(source)
    native = deploy(contract, backend=NativeBackend)
    others = [deploy(contract, backend=backend) for backend in backends]
    for args in calls:
        expected = outcome(native, args)
        for other in others:
            assert outcome(other, args) == expected, source


@st.composite
def integers(draw: st.DrawFn, depth: int) -> str:
    """An integer expression over a, b (int), c (u64), d (i64), p (Point), data, items."""
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        leaf = st.sampled_from(
            [
                "a",
                "b",
                "c",
                "d",
                "p.x",
                "p.y",
                "LIMIT",
                "len(data)",
                "len(items)",
                "self.last.get(3)",
            ]
        )
        constant = st.sampled_from([*INTERESTING, *(-n for n in INTERESTING)]).map(
            lambda n: f"({n})"
        )
        return draw(st.one_of(leaf, leaf, constant))
    inner = integers(depth - 1)
    kind = draw(st.integers(0, 13))
    if kind <= 5:
        operator = draw(st.sampled_from(["+", "-", "*", "//", "%", "&", "|", "^"]))
        return f"({draw(inner)} {operator} {draw(inner)})"
    one, two = draw(inner), draw(inner)
    return [
        f"(-{one})",
        f"self.tick({draw(st.integers(0, 255))}, {one})",
        f"({one} if {draw(booleans(depth - 1))} else {two})",
        f"{draw(st.sampled_from(['min', 'max']))}({one}, {two})",
        f"abs({one})",
        f"items[{one}]",
        f"data[{one}]",
        f"self.cells.get(({draw(st.integers(0, 3))}, d), {one})",
    ][kind - 6]


@st.composite
def booleans(draw: st.DrawFn, depth: int) -> str:
    """A condition."""
    if depth <= 0:
        return draw(st.sampled_from(["flag", "True", "data == b'ab'", "text < 'm'", "c in items"]))
    number, inner = integers(depth - 1), booleans(depth - 1)
    compare = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
    choice = draw(st.integers(0, 4))
    if choice == 0:
        return f"({draw(number)} {draw(compare)} {draw(number)})"
    if choice == 1:
        return f"({draw(number)} {draw(compare)} {draw(number)} {draw(compare)} {draw(number)})"
    if choice == 2:
        return f"({draw(inner)} {draw(st.sampled_from(['and', 'or']))} {draw(inner)})"
    if choice == 3:
        return f"(not {draw(inner)})"
    return f"(({draw(number)}, {draw(number)}) == ({draw(number)}, {draw(number)}))"


@st.composite
def statements(draw: st.DrawFn, depth: int) -> list[str]:
    """A few statements on the same names."""
    made: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        made += draw(statement(depth))
    return made


INTEGER_MAPS = {
    "tiny": 8, "small": 16, "middle": 32, "large": 64, "wide": 127, "signed": 63, "whole": 127,
}  # fmt: skip


@st.composite
def additions(draw: st.DrawFn, number: str) -> list[str]:
    """Additions to a map of integers, near the end of their range or anywhere, and reads."""
    name, bits = draw(st.sampled_from(sorted(INTEGER_MAPS.items())))
    key = draw(st.integers(0, 2))
    whole = st.sampled_from([number, "c", str(2**bits - 1)])
    amounts = st.one_of(whole, st.sampled_from(["1", "-1", str(1 - 2**bits)]))
    made = [f"self.{name}.add({key}, {draw(amounts)})"]
    after = [
        f"self.{name}.add(self.tick({key}, 0) % 256, self.tick(2, {draw(amounts)}))",
        f"a = self.{name}[{key}]",
        f"del self.{name}[{key}]",
        f"self.{name}[{key}] = {draw(whole)}",
        f"a = self.{name}.get({key}, 3)",
        "pass",
    ]
    return [*made, *draw(st.lists(st.sampled_from(after), max_size=3))]


@st.composite
def statement(draw: st.DrawFn, depth: int) -> list[str]:
    number = draw(integers(2))
    small = draw(st.integers(0, 3))
    kind = draw(st.integers(0, 16 if depth else 10))
    if kind >= 11:
        body = ["    " + line for line in draw(statements(depth - 1))]
        test = draw(booleans(1))
        # One name a level: an inner loop must not set an outer one back.
        index = f"i{depth}"
        step = draw(st.sampled_from([-2, -1, 1, 3]))
        stop = draw(st.sampled_from(["continue", "break", "pass"]))
        flow = [f"    if {test}:", f"        {stop}"]
        if kind == 11:
            return [f"if {test}:", *body, "else:", f"    a = {number}"]
        if kind == 12:
            return [f"for {index} in range({number} % 7 - 3, 4, {step}):", *flow, *body]
        if kind == 13:
            # The body may append to what it runs over: without the break it would never end.
            bound = [f"    if {index} > 9:", "        break"]
            head = f"for {index}, v in enumerate(items):"
            return [head, *bound, f"    b = {index} + v", *flow, *body]
        if kind == 14:
            return [f"{index} = 0", f"while {index} < 4:", f"    {index} += 1", *flow, *body]
        if kind == 15:
            return [f"for {index} in data:", f"    a = {index}", *body, *flow]
        return [f"if {test}:", f"    return ({number}, data, text)"]
    return [
        [f"a = {number}"],
        [f"b {draw(st.sampled_from(['+=', '-=', '*=', '//=', '%=']))} {number}"],
        [f"self.cells[({small}, {number})] = {draw(integers(1))}"],
        [f"self.cells[({small}, 0)] = 1", f"self.cells[({small}, b * 0)] += {number}"],
        [f"items[{number} % 4] += self.tick(1, {draw(integers(1))})"],
        ["items.append(c)", f"data = data[{number} : {draw(integers(1))}] + b'\\x00x'"],
        [f"self.notes[data + b'k'] = sha256(data)[:{small}]", f"self.sum.add({number})"],
        [f"p = replace(p, x={number}, y={draw(integers(1))})"],
        [f"a, b = b, {number}", "text = text + 'é' + str(a)"],
        [f"if {draw(booleans(1))}:", f"    raise Refused({number})"],
        draw(additions(number)),
    ][kind]


@st.composite
def programs(draw: st.DrawFn) -> str:
    lines = draw(statements(2))
    body = "\n".join("        " + line for line in lines)
    return (
        HEADER
        + "    @call\n    def main(self, a: int, b: int, c: u64, d: i64, flag: bool,\n"
        + "             data: bytes, text: str) -> tuple[int, bytes, str]:\n"
        + "        p = Point(a)\n        items: list[u64] = [1, c, 3]\n"
        + f"{body}\n        self.last.set(b)\n        return (a, data, text)\n"
    )


WIDE = st.one_of(
    st.sampled_from([*INTERESTING, *(-n for n in INTERESTING)]),
    st.integers(-(2**127), 2**127 - 1),
    st.integers(-10, 10),
)


@st.composite
def arguments(draw: st.DrawFn) -> bytes:
    text = draw(st.text(max_size=5)).encode()
    data = draw(st.binary(max_size=6))
    return (
        b"".join(draw(WIDE).to_bytes(16, "big", signed=True) for _ in range(2))
        + draw(st.integers(0, 2**64 - 1)).to_bytes(8, "big")
        + draw(st.integers(-(2**63), 2**63 - 1)).to_bytes(8, "big", signed=True)
        + bytes([draw(st.booleans())])
        + len(data).to_bytes(4, "big")
        + data
        + len(text).to_bytes(4, "big")
        + text
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
)
@given(programs(), st.lists(arguments(), min_size=2, max_size=3))
def test_random_programs_agree(source: str, calls: list[bytes]) -> None:
    agree(source, calls, WasmtimeBackend, ExecutorBackend)


def main_of(*lines: str) -> str:
    """A program of these statements on the usual names."""
    return (
        HEADER
        + "    @call\n    def main(self, a: int, b: int, c: u64, d: i64, flag: bool,\n"
        + "             data: bytes, text: str) -> tuple[int, bytes, str]:\n"
        + "".join(f"        {line}\n" for line in lines)
        + "        self.last.set(b)\n        return (a, data, text)\n"
    )


def test_an_operation_whose_every_result_is_outside_int_overflows() -> None:
    source = main_of(f"b = {2**127 - 1} + (c % 5 + 1)")
    agree(source, [bytes(57)], WasmtimeBackend, ExecutorBackend)
    assert outcome(deploy(load(source), backend=WasmtimeBackend), bytes(57))[0] == 2


@pytest.mark.parametrize("expression", ["0 // 0", "-(0 // 0)", "0 % 0", "7 % (1 - 1)"])
def test_a_division_of_constants_by_zero_fails_when_it_is_reached(expression: str) -> None:
    source = main_of(f"b = {expression}")
    agree(source, [bytes(57)], WasmtimeBackend, ExecutorBackend)
    assert outcome(deploy(load(source), backend=WasmtimeBackend), bytes(57))[0] == 3


def test_a_constant_outside_int_is_refused_where_it_stands() -> None:
    with pytest.raises(CompileError, match=f"{2**127} is outside int"):
        compile_source(main_of(f"b += {2**63} + {2**63} * {2**64 - 1}"))


@pytest.mark.parametrize("operation", ["0 // 0", "0 % 0", "7 % 0", "7 // 0"])
def test_a_constant_division_by_zero_fails_when_it_runs(operation: str) -> None:
    source = main_of("if flag:", f"    b = {operation}")
    agree(source, [bytes(57), bytes(48) + b"\x01" + bytes(8)], WasmtimeBackend, ExecutorBackend)
