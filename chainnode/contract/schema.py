"""The value types of contracts: what storage, arguments, results and events are made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chainnode.types.errors import ClientFault

INT_MIN: Final = -(2**127)
INT_MAX: Final = 2**127 - 1


@dataclass(frozen=True, slots=True)
class Int:
    """An integer range and its width on the wire.

    `u128` ends at 2**127 - 1, because every integer of a contract fits a signed 128-bit `int`.
    """

    name: str
    size_bytes: int
    low: int
    high: int

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Plain:
    """`bool`, `bytes`, `str`, `bytes32`, `address`, or `none` (a method without a result)."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class ListOf:
    item: Type

    def __str__(self) -> str:
        return f"list[{self.item}]"


@dataclass(frozen=True, slots=True)
class OptionalOf:
    item: Type

    def __str__(self) -> str:
        return f"optional[{self.item}]"


@dataclass(frozen=True, slots=True)
class TupleOf:
    items: tuple[Type, ...]

    def __str__(self) -> str:
        return f"tuple[{','.join(map(str, self.items))}]"


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Struct:
    """A record. `factory` builds the Python object; without one, values are dictionaries."""

    name: str
    fields: tuple[Field, ...]
    factory: Callable[..., Any] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.name


Type = Int | Plain | ListOf | OptionalOf | TupleOf | Struct

BOOL: Final = Plain("bool")
BYTES: Final = Plain("bytes")
STR: Final = Plain("str")
BYTES32: Final = Plain("bytes32")
ADDRESS: Final = Plain("address")
NONE: Final = Plain("none")
INT: Final = Int("int", 16, INT_MIN, INT_MAX)
U8: Final = Int("u8", 1, 0, 2**8 - 1)
U16: Final = Int("u16", 2, 0, 2**16 - 1)
U32: Final = Int("u32", 4, 0, 2**32 - 1)
U64: Final = Int("u64", 8, 0, 2**64 - 1)
U128: Final = Int("u128", 16, 0, INT_MAX)
I64: Final = Int("i64", 8, -(2**63), 2**63 - 1)

SCALARS: Final[Mapping[str, Type]] = {
    str(item): item
    for item in (BOOL, BYTES, STR, BYTES32, ADDRESS, NONE, INT, U8, U16, U32, U64, U128, I64)
}


# Codes a contract reverts with on its own; the errors an author declares start at USER_ERROR.
FAULT_ASSERT: Final = 1
FAULT_OVERFLOW: Final = 2
FAULT_DIVISION: Final = 3
FAULT_INDEX: Final = 4
FAULT_KEY: Final = 5
FAULT_DECODE: Final = 6
FAULT_VALUE: Final = 7
FAULT_PAILLIER_KEY: Final = 8
FAULT_PAILLIER_CIPHERTEXT: Final = 9
FAULT_CALL: Final = 10
USER_ERROR: Final = 100

FAULT_NAMES: Final[Mapping[int, str]] = {
    FAULT_ASSERT: "AssertionFailed",
    FAULT_OVERFLOW: "Overflow",
    FAULT_DIVISION: "DivisionByZero",
    FAULT_INDEX: "IndexOutOfRange",
    FAULT_KEY: "MissingKey",
    FAULT_DECODE: "MalformedInput",
    FAULT_VALUE: "InvalidValue",
    FAULT_PAILLIER_KEY: "PaillierKeyInvalid",
    FAULT_PAILLIER_CIPHERTEXT: "PaillierCiphertextInvalid",
    FAULT_CALL: "CallFailed",
}

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[\[\],]")


def parse_type(text: str, structs: Mapping[str, Struct]) -> Type:
    """Return the type an ABI names, as `str(type)` wrote it.

    Raises:
        ClientFault: `INVALID_ABI` when the text is no type.
    """
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != text:
        raise _bad_type(text)
    parsed, rest = _parse(tokens, structs, text)
    if rest:
        raise _bad_type(text)
    return parsed


def _bad_type(text: str) -> ClientFault:
    return ClientFault("INVALID_ABI", "the ABI names a type that does not exist", subject=text)


def _parse(tokens: list[str], structs: Mapping[str, Struct], text: str) -> tuple[Type, list[str]]:
    if not tokens:
        raise _bad_type(text)
    name, rest = tokens[0], tokens[1:]
    if name in SCALARS:
        return SCALARS[name], rest
    if name in structs:
        return structs[name], rest
    if name not in {"list", "optional", "tuple"} or not rest or rest[0] != "[":
        raise _bad_type(text)
    items: list[Type] = []
    while rest and rest[0] in {"[", ","}:
        item, rest = _parse(rest[1:], structs, text)
        items.append(item)
    if not rest or rest[0] != "]":
        raise _bad_type(text)
    if name == "tuple":
        return TupleOf(tuple(items)), rest[1:]
    if len(items) != 1:
        raise _bad_type(text)
    return (ListOf if name == "list" else OptionalOf)(items[0]), rest[1:]


def has_order(kind: Type) -> bool:
    """Whether values of a key type are ordered, as their encoded keys are; None is not."""
    match kind:
        case TupleOf(items):
            return all(map(has_order, items))
        case Struct(_, fields):
            return all(has_order(entry.type) for entry in fields)
        case _:
            return not isinstance(kind, OptionalOf | ListOf)


def contains_list(kind: Type) -> bool:
    """Whether a value of this type is mutable somewhere inside."""
    match kind:
        case ListOf():
            return True
        case OptionalOf(item):
            return contains_list(item)
        case TupleOf(items):
            return any(map(contains_list, items))
        case Struct(_, fields):
            return any(contains_list(entry.type) for entry in fields)
        case _:
            return False
