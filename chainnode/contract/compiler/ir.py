"""The typed tree between checking and code generation, and the rules of its types."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any, Final

from chainnode.contract.compiler.diagnostics import Refused
from chainnode.contract.compiler.wasm import I32, I64
from chainnode.contract.schema import (
    ADDRESS,
    BOOL,
    BYTES,
    BYTES32,
    INT,
    INT_MAX,
    INT_MIN,
    NONE,
    STR,
    U32,
    Field,
    Int,
    ListOf,
    OptionalOf,
    Struct,
    TupleOf,
    Type,
)

BYTES_FAMILY = (BYTES, BYTES32, ADDRESS)
CALL_FAILED: Final = Struct(
    "CallFailed",
    (
        Field("contract", STR),
        Field("method", STR),
        Field("status", STR),
        Field("code", U32),
        Field("text", STR),
    ),
)


@dataclass(frozen=True, slots=True)
class Expr:
    """A value being computed; `op` says how from `args` and the constant `value`."""

    op: str
    type: Type
    args: tuple[Expr, ...] = ()
    value: Any = None


@dataclass(frozen=True, slots=True)
class Stmt:
    op: str
    args: tuple[Expr, ...] = ()
    value: Any = None
    body: list[Stmt] = field(default_factory=list)
    other: list[Stmt] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage field: `kind` is map, var or counter."""

    name: str
    id: int
    kind: str
    types: tuple[Type, ...]


def span(low: int, high: int) -> Int:
    """An integer known to lie in a range, as far as `int` goes.

    An operation whose every result is outside faults, so the bound nearest to it stands for both.
    """
    return Int("int", 16, *(min(max(end, INT_MIN), INT_MAX) for end in (low, high)))


def fits64(kind: Type) -> bool:
    """Whether a value of this type travels in one i64."""
    return isinstance(kind, Int) and kind.low >= -(2**63) and kind.high < 2**63


def representation(kind: Type) -> tuple[int, ...]:
    """The WebAssembly values a type becomes; integers are low word, high word."""
    if kind == NONE:
        return ()
    if isinstance(kind, Int):
        return (I64,) if fits64(kind) else (I64, I64)
    return (I32,)


def slot_bytes(kind: Type) -> int:
    """The size of a value in memory, in bytes."""
    return sum(8 if item == I64 else 4 for item in representation(kind))


def describe(kind: Type) -> str:
    """The type as an author writes it."""
    match kind:
        case Int(low=low, high=high) if kind.name == "int":
            return str(low) if low == high else "int"
        case OptionalOf(item):
            return f"{describe(item)} | None"
        case TupleOf(items):
            return f"tuple[{', '.join(map(describe, items))}]"
        case ListOf(item):
            return f"list[{describe(item)}]"
        case _:
            return {"bytes32": "Bytes32", "address": "Address", "none": "None"}.get(
                str(kind), str(kind)
            )


def widened(kind: Type) -> Type:
    """The type of a variable that may be assigned again: any int, not just this range."""
    match kind:
        case Int():
            return INT
        case TupleOf(items):
            return TupleOf(tuple(map(widened, items)))
        case OptionalOf(Int() as item) if not fits64(item):
            return OptionalOf(INT)
        case _:
            return kind


def coerce(expr: Expr, kind: Type, node: ast.AST) -> Expr:
    """Return the expression as a value of another type, checked at run time if it must be.

    Raises:
        Refused: no value of the one type is a value of the other.
    """
    have = expr.type
    if have == kind:
        return expr
    match have, kind:
        case Int(), Int():
            return _coerce_int(expr, have, kind, node)
        case _, OptionalOf(item) if have == NONE:
            return Expr("none", kind)
        case OptionalOf(inner), OptionalOf(item):
            if _same_box(inner, item):
                return Expr("same", kind, (expr,))
        case _, OptionalOf(item):
            return Expr("box", kind, (coerce(expr, item, node),))
        case TupleOf(old), TupleOf(new) if len(old) == len(new):
            return _coerce_tuple(expr, new, node)
        case _ if (have in {ADDRESS, BYTES32} and kind == BYTES) or (have, kind) == (
            ADDRESS,
            BYTES32,
        ):
            return Expr("same", kind, (expr,))
        case _:
            pass
    raise Refused(
        node, f"expected {describe(kind)}, found {describe(have)}", _coercion_hint(have, kind)
    )


def _same_box(have: Type, kind: Type) -> bool:
    if isinstance(have, Int) and isinstance(kind, Int):
        inside = kind.low <= have.low and have.high <= kind.high
        return inside and representation(have) == representation(kind)
    return have in BYTES_FAMILY and kind == BYTES


def _coercion_hint(have: Type, kind: Type) -> str:
    if isinstance(have, OptionalOf):
        return "test it with `is None` first"
    if isinstance(have, ListOf) and isinstance(kind, ListOf):
        return "annotate the list where it is made with the item type it needs"
    if have == BOOL and isinstance(kind, Int):
        return "write `1 if condition else 0`"
    if have in BYTES_FAMILY and kind in BYTES_FAMILY:
        return f"convert it: {describe(kind)}(...)"
    if (have, kind) == (STR, BYTES):
        return "write text.encode()"
    return ""


def _coerce_int(expr: Expr, have: Int, kind: Int, node: ast.AST) -> Expr:
    if have.low > kind.high or have.high < kind.low:
        raise Refused(node, f"{describe(have)} is outside {kind.name}", "use a wider type")
    if expr.op == "int":
        return Expr("int", kind, value=expr.value)
    inside = kind.low <= have.low and have.high <= kind.high
    return Expr("int_to", kind, (expr,), not inside)


def _coerce_tuple(expr: Expr, new: tuple[Type, ...], node: ast.AST) -> Expr:
    kind = TupleOf(new)
    if expr.op == "record":
        pairs = zip(expr.args, new, strict=True)
        return Expr("record", kind, tuple(coerce(item, t, node) for item, t in pairs))
    assert isinstance(expr.type, TupleOf)
    parts = []
    for index, (old, item) in enumerate(zip(expr.type.items, new, strict=True)):
        part = Expr("field", old, (Expr("hole", expr.type),), (expr.type, index))
        parts.append(coerce(part, item, node))
    return Expr("rebuild", kind, (expr, *parts))


def join(left: Type, right: Type, node: ast.AST) -> Type:
    """Return the type both values have.

    Raises:
        Refused: there is none.
    """
    if left == right:
        return left
    match left, right:
        case Int(), Int():
            return span(min(left.low, right.low), max(left.high, right.high))
        case (OptionalOf(item), other) | (other, OptionalOf(item)):
            return (
                left
                if isinstance(left, OptionalOf) and other == NONE
                else OptionalOf(item if other == NONE else join(item, other, node))
            )
        case TupleOf(first), TupleOf(second) if len(first) == len(second):
            pairs = zip(first, second, strict=True)
            return TupleOf(tuple(join(one, other, node) for one, other in pairs))
        case _ if left == NONE:
            return OptionalOf(right)
        case _ if right == NONE:
            return OptionalOf(left)
        case _ if left in BYTES_FAMILY and right in BYTES_FAMILY:
            return BYTES if BYTES in (left, right) else BYTES32
        case _:
            pass
    raise Refused(
        node, f"{describe(left)} and {describe(right)} have no common type", "convert one of them"
    )


def fields_of(kind: Type) -> list[Type]:
    """The types of a tuple's or a record's parts."""
    match kind:
        case TupleOf(items):
            return list(items)
        case Struct(_, fields):
            return [entry.type for entry in fields]
        case _:
            return []


def offset_of(kind: Type, index: int) -> int:
    """Where a part lies in a tuple or record, in bytes."""
    return sum(slot_bytes(item) for item in fields_of(kind)[:index])


def arithmetic_range(op: str, a: Int, b: Int) -> Int:
    """The range of an integer operation's exact result, not cut to `int`."""
    if op == "add":
        return Int("int", 16, a.low + b.low, a.high + b.high)
    if op == "sub":
        return Int("int", 16, a.low - b.high, a.high - b.low)
    if op == "mul":
        corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
        return Int("int", 16, min(corners), max(corners))
    if op == "div":
        if b.low > 0:
            corners = [x // y for x in (a.low, a.high) for y in (b.low, b.high)]
            return Int("int", 16, min(corners), max(corners))
        most = max(abs(a.low), abs(a.high))
        return Int("int", 16, -most, most)
    if op == "mod":
        return Int("int", 16, min(0, b.low + 1), max(0, b.high - 1))
    if a.low >= 0 and b.low >= 0:
        top = 1 << max(a.high.bit_length(), b.high.bit_length())
        return Int("int", 16, 0, top - 1)
    most = max(abs(x) for x in (a.low, a.high, b.low, b.high))
    return Int("int", 16, -(1 << most.bit_length()), (1 << most.bit_length()) - 1)
