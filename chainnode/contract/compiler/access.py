"""Derives which storage keys a method touches, as templates over sender, arguments, constants.

A method's checked body is run on symbols instead of values, own functions inlined. Both arms of a
condition count, so a template names everything a call may touch, and sometimes more. What depends
on storage, loops or computation is unknown: the template then ends and stands for every key that
begins so. The section it fills in the ABI: docs/spec/access-templates.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chainnode.contract.codec import encode_key
from chainnode.contract.compiler.declarations import FunctionInfo, Program
from chainnode.contract.compiler.expressions import CONTEXT
from chainnode.contract.compiler.ir import Expr, Stmt, Storage, fields_of
from chainnode.contract.schema import STR, U64, Int, Plain, Struct, TupleOf, Type

TEMPLATES_MAX: Final = 64
STEPS_MAX: Final = 20_000
RECORD_DEPTH_MAX: Final = 4
_SAME_VALUE: Final = {"same", "int_to", "fixed32"}
_ENDS: Final = {"break", "continue"}
_READS: Final = {"map_get", "map_find", "map_default", "map_has", "counter_read"}


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of the method, or a part of one."""

    index: int
    path: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """What `ctx` says."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A value written in the source."""

    value: int | bytes | None


@dataclass(frozen=True, slots=True)
class Record:
    """A tuple or record made of known and unknown parts."""

    parts: tuple[Symbol, ...]


Symbol = Argument | Context | Constant | Record | None
Variables = dict[str, Symbol]
Key = tuple[int, tuple[tuple[tuple[str, Any], ...], ...]]


class TooLarge(Exception):
    """The body is too large to follow."""


@dataclass(slots=True)
class Accesses:
    """Templates by kind, each once, in the order a body meets them."""

    reads: dict[Key, None] = field(default_factory=dict)
    writes: dict[Key, None] = field(default_factory=dict)
    adds: dict[Key, None] = field(default_factory=dict)
    calls_out: bool = False


def access_section(program: Program, bodies: Mapping[str, list[Stmt]]) -> list[dict[str, Any]]:
    """Return the ABI's `access` section: one entry per `@call` method, in source order."""
    return [
        {"method": info.name, **_entry(_Walk(program, bodies).method(info))}
        for info in program.methods.values()
        if info.kind == "call"
    ]


def _entry(found: Accesses) -> dict[str, Any]:
    groups = {"reads": found.reads, "writes": found.writes, "adds": found.adds}
    outside: dict[str, Any] = {"calls_out": True} if found.calls_out else {}
    return outside | {
        name: [{"storage": number, "key": [dict(part) for part in parts]} for number, parts in keys]
        for name, keys in groups.items()
    }


def _names(items: list[Stmt]) -> Iterator[str]:
    """Every variable that a piece of code assigns."""
    pending: list[Stmt | Expr] = list(items)
    while pending:
        item = pending.pop()
        pending += item.args
        if isinstance(item, Stmt):
            pending += item.body + item.other
        if item.op in {"assign", "bind", "for_items"}:
            yield item.value
        elif item.op == "try":
            yield from item.value
        elif item.op == "for_range":
            yield item.value[0]


def _calls_out(bodies: Mapping[str, list[Stmt]]) -> bool:
    pending: list[Stmt | Expr] = [item for body in bodies.values() for item in body]
    while pending:
        item = pending.pop()
        if item.op == "invoke":
            return True
        pending += item.args
        if isinstance(item, Stmt):
            pending += item.body + item.other
    return False


def _joined(one: Variables | None, other: Variables | None) -> Variables | None:
    if one is None or other is None:
        return one if other is None else other
    return {name: value for name, value in one.items() if other.get(name) == value}


class _Walk:
    """One method's run on symbols."""

    def __init__(self, program: Program, bodies: Mapping[str, list[Stmt]]) -> None:
        self.program, self.bodies = program, bodies
        self.found = Accesses()
        self.known: dict[tuple[str, tuple[Symbol, ...]], Symbol] = {}
        self.active: list[str] = []
        self.results: list[Symbol] = []
        self.holes: list[Symbol] = []
        self.steps = 0

    def method(self, info: FunctionInfo) -> Accesses:
        """Return what a call of this method may touch."""
        arguments = tuple(Argument(index) for index in range(len(info.params)))
        try:
            self.inline(info, arguments)
        except (TooLarge, RecursionError):
            self.found = self.everything()
        groups = (self.found.reads, self.found.writes, self.found.adds)
        return self.everything() if any(len(g) > TEMPLATES_MAX for g in groups) else self.found

    def everything(self) -> Accesses:
        """The answer for a body that cannot be followed: any key of any field."""
        fields = self.program.storage.values()
        keys = {
            (item.id, _flat(item.types[0], None)): None for item in fields if item.kind == "map"
        }
        single: dict[Key, None] = {(item.id, ()): None for item in fields if item.kind != "map"}
        counters: dict[Key, None] = {(i.id, ()): None for i in fields if i.kind == "counter"}
        return Accesses(keys | single, keys | single, counters, _calls_out(self.bodies))

    def inline(self, info: FunctionInfo, arguments: tuple[Symbol, ...]) -> Symbol:
        """Run a function on symbols and return its result."""
        if info.symbol in self.active:
            raise TooLarge
        if (info.symbol, arguments) in self.known:
            return self.known[info.symbol, arguments]
        saved, self.results = self.results, []
        self.active.append(info.symbol)
        names = (name for name, _ in info.params)
        self.block(self.bodies[info.symbol], dict(zip(names, arguments, strict=True)))
        self.active.pop()
        results, self.results = self.results, saved
        result = results[0] if results and all(r == results[0] for r in results) else None
        self.known[info.symbol, arguments] = result
        return result

    def touch(self, group: dict[Key, None], storage: Storage, key: Expr | None, at: Symbol) -> None:
        """Note an access to a field, at a key for maps."""
        group[(storage.id, _flat(key.type, at) if key is not None else ())] = None

    # --- statements; None stands for code that is not reached

    def block(self, items: list[Stmt], variables: Variables) -> Variables | None:
        now: Variables | None = variables
        for item in items:
            if now is None:
                break
            now = self.statement(item, now)
        return now

    def statement(self, item: Stmt, now: Variables) -> Variables | None:
        if item.op in _ENDS:
            return None
        if item.op in {"while", "for_range", "for_items"}:
            return self.loop(item, now)
        values = [self.value(part, now) for part in item.args]
        match item.op:
            case "assign":
                now[item.value] = values[0]
            case "if":
                other = self.block(item.other, dict(now))
                return _joined(self.block(item.body, now), other)
            case "try":
                return self.tried(item, now)
            case "return":
                self.results.append(values[0] if values else None)
                return None
            case "raise":
                return None
            case "map_set":
                self.touch(self.found.writes, item.value, item.args[1], values[1])
            case "map_del":
                # A key that is not there reverts, so it is read first.
                self.touch(self.found.reads, item.value, item.args[0], values[0])
                self.touch(self.found.writes, item.value, item.args[0], values[0])
            case _:
                pass
        return now

    def tried(self, item: Stmt, now: Variables) -> Variables | None:
        # Both arms begin with what the call left, of which nothing is known.
        now = {name: value for name, value in now.items() if name not in item.value}
        other = dict(now)
        return _joined(self.block(item.body, now), self.block(item.other, other))

    def loop(self, item: Stmt, now: Variables) -> Variables:
        changed = set(_names([item]))
        now = {name: value for name, value in now.items() if name not in changed}
        for part in item.args:
            self.value(part, now)
        self.block(item.body, dict(now))
        return now

    # --- expressions

    def value(self, item: Expr, now: Variables) -> Symbol:
        """Note an expression's accesses and return what is known of its value."""
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise TooLarge
        match item.op:
            case "int" | "bytes" | "bool":
                return Constant(item.value)
            case "local":
                return now.get(item.value)
            case "hole":
                return self.holes[-1]
            case "context":
                return _context(item)
            case "if":
                return self.chosen(item, now)
            case "rebuild":
                return self.rebuilt(item, now)
            case _:
                values = tuple(self.value(part, now) for part in item.args)
                return self.combined(item, values, now)

    def chosen(self, item: Expr, now: Variables) -> Symbol:
        test, left, right = item.args
        self.value(test, now)
        one, other = self.value(left, now), self.value(right, now)
        return one if one == other else None

    def rebuilt(self, item: Expr, now: Variables) -> Symbol:
        whole, *parts = item.args
        self.holes.append(self.value(whole, now))
        made = Record(tuple(self.value(part, now) for part in parts))
        self.holes.pop()
        return made if _depth(made) <= RECORD_DEPTH_MAX else None

    def combined(self, item: Expr, values: tuple[Symbol, ...], now: Variables) -> Symbol:
        """The value of an expression whose parts are known."""
        if item.op in _SAME_VALUE:
            return values[0]
        if item.op in _READS:
            self.read(item, values)
            return None
        match item.op:
            case "bind":
                now[item.value] = values[0]
                return values[0]
            case "record":
                made = Record(values)
                return made if _depth(made) <= RECORD_DEPTH_MAX else None
            case "field":
                return _part(values[0], item.value[1])
            case "call":
                return self.inline(item.value, values)
            case "var_set":
                self.touch(self.found.writes, item.value, None, None)
            case "map_range":
                # Whatever the bounds, any key of the field may come or be missed.
                storage = item.value[0]
                self.found.reads[(storage.id, _flat(storage.types[0], None))] = None
            case "add":
                self.touch(self.found.adds, item.value, *self.key_of(item, values))
            case "invoke":
                self.found.calls_out = True
            case _:
                pass
        return None

    def read(self, item: Expr, values: tuple[Symbol, ...]) -> None:
        self.touch(self.found.reads, item.value, *self.key_of(item, values))

    def key_of(self, item: Expr, values: tuple[Symbol, ...]) -> tuple[Expr | None, Symbol]:
        """The key that an access to a field names, and what is known of it."""
        return (item.args[0], values[0]) if item.value.kind == "map" else (None, None)


def _context(item: Expr) -> Symbol:
    for name, (kind, number) in CONTEXT.items():
        if number == item.value and (kind == U64) == (item.type == U64):
            return Context(name)
    return None


def _part(whole: Symbol, index: int) -> Symbol:
    match whole:
        case Record(parts):
            return parts[index]
        case Argument(number, path):
            return Argument(number, (*path, index))
        case _:
            return None


def _depth(item: Symbol) -> int:
    return 1 + max(map(_depth, item.parts), default=0) if isinstance(item, Record) else 0


def _flat(kind: Type, at: Symbol) -> tuple[tuple[tuple[str, Any], ...], ...]:
    """The parts of a key up to the first unknown one."""
    parts: list[tuple[tuple[str, Any], ...]] = []
    for leaf, symbol in _leaves(kind, at):
        part = _leaf(leaf, symbol)
        if parts and parts[-1][0][0] == part[0][0] == "constant":
            part = (("constant", parts.pop()[0][1] + part[0][1]),)
        parts.append(part)
        if part[0][0] == "unknown":
            break
    return tuple(parts)


def _leaves(kind: Type, at: Symbol) -> Iterator[tuple[Type, Symbol]]:
    if isinstance(kind, TupleOf | Struct):
        for index, item in enumerate(fields_of(kind)):
            yield from _leaves(item, _part(at, index))
    else:
        yield kind, at


def _leaf(kind: Type, at: Symbol) -> tuple[tuple[str, Any], ...]:
    match at:
        case Constant(value):
            return (("constant", _constant_key(kind, value).hex()),)
        case Argument(index, path) if isinstance(kind, Int | Plain):
            return (("argument", index), ("path", path), ("as", str(kind)))
        case Context(name) if isinstance(kind, Int | Plain):
            return (("context", name), ("as", str(kind)))
        case _:
            return (("unknown", True),)


def _constant_key(kind: Type, value: int | bytes | None) -> bytes:
    return encode_key(kind, value.decode() if isinstance(value, bytes) and kind == STR else value)
