"""The names contract authors import: contract base class, storage, decorators, events, errors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import (
    Any,
    ClassVar,
    Final,
    Generic,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from chainnode.contract import frame
from chainnode.contract.codec import (
    CodecError,
    RangeError,
    decode,
    decode_key,
    encode,
    encode_key,
)
from chainnode.contract.reflection import resolve, resolve_struct
from chainnode.contract.schema import INT, NONE, Type
from chainnode.contract.values import Bytes32
from chainnode.types.limits import CONTRACT_SCAN_ROWS_MAX, CONTRACT_STORAGE_FIELDS_MAX

K = TypeVar("K")
V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)
_UNSET: Final = object()


@dataclass_transform()
class Error(Exception):
    """A failure the contract declares; subclasses are records, raised with `raise Name(...)`."""

    def __init_subclass__(cls) -> None:
        dataclass(unsafe_hash=True)(cls)


@dataclass_transform(frozen_default=True)
class Event:
    """A record published with `emit`; subclasses are frozen dataclasses."""

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True)(cls)


@dataclass_transform(frozen_default=True)
def event(cls: C) -> C:
    """Make a class an event: a frozen record that `emit` accepts."""
    made: Any = dataclass(frozen=True)(cls)
    made._is_event = True
    return made  # type: ignore[no-any-return]


@dataclass_transform()
def error(cls: C) -> C:
    """Make a class a declared error; subclass `Error` as well to please type checkers."""
    if issubclass(cls, Error):
        return cls
    body = {k: v for k, v in vars(cls).items() if k not in {"__dict__", "__weakref__"}}
    return type(cls.__name__, (Error,), body)  # type: ignore[return-value]


def _marked(kind: str) -> Callable[[F], F]:
    def mark(method: F) -> F:
        method._contract_kind = kind  # type: ignore[attr-defined]
        return method

    return mark


def init(method: F) -> F:
    """Run this method once, when the contract is installed."""
    return _marked("init")(method)


def call(method: F) -> F:
    """Let transactions run this method."""
    return _marked("call")(method)


def view(method: F) -> F:
    """Let queries run this method; it cannot change storage or emit events."""
    return _marked("view")(method)


def emit(record: object) -> None:
    """Publish an event; it reaches the receipt only if the transaction succeeds."""
    name = type(record).__name__
    frame.current().emit(name, encode(resolve_struct(type(record)), record))


def sha256(data: bytes) -> Bytes32:
    """SHA-256 of the bytes."""
    return Bytes32(hashlib.sha256(data).digest())


class Map(Generic[K, V]):
    """A stored mapping. Values are copies: change one by storing it again."""

    def __init__(self, field_id: int, key: Type, value: Type) -> None:
        self._prefix = bytes([field_id])
        # The next field's keys begin there; after the last one there is nothing.
        self._end = bytes([field_id + 1]) if field_id < CONTRACT_STORAGE_FIELDS_MAX else None
        self._key = key
        self._value = value

    def _encoded(self, key: K) -> bytes:
        return self._prefix + encode_key(self._key, key)

    def __getitem__(self, key: K) -> V:
        """Return the stored value; a missing key reverts with `MissingKey`."""
        data = frame.current().get(self._encoded(key))
        if data is None:
            raise KeyError(key)
        return decode(self._value, data)  # type: ignore[no-any-return]

    def __setitem__(self, key: K, value: V) -> None:
        frame.current().put(self._encoded(key), encode(self._value, value))

    def __delitem__(self, key: K) -> None:
        """Remove a key; a missing one reverts with `MissingKey`."""
        encoded = self._encoded(key)
        if frame.current().get(encoded) is None:
            raise KeyError(key)
        frame.current().put(encoded, None)

    def __contains__(self, key: K) -> bool:
        return frame.current().get(self._encoded(key)) is not None

    def add(self: Map[K, int], key: K, amount: int) -> None:
        """Add an amount, which may be negative, to a stored integer; one that is absent is 0.

        Adding never conflicts with other transactions' adding; reading does. A sum outside the
        values' type reverts with `Overflow`.
        """
        before = self.get(key, 0)
        frame.current().put(self._encoded(key), encode(self._value, before + amount))

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: V) -> V: ...
    def get(self, key: K, default: Any = None) -> Any:
        """Return the stored value, else the default."""
        data = frame.current().get(self._encoded(key))
        if data is None:
            return default
        return decode(self._value, data)

    def range(
        self,
        start: K | None = None,
        stop: K | None = None,
        /,
        *,
        limit: int,
        reverse: bool = False,
    ) -> list[tuple[K, V]]:
        """Return (key, value) of the first rows from `start` to before `stop`, by key.

        The rows are copies: what is stored afterwards does not change them.

        Args:
            start: None begins with the smallest key.
            stop: None ends with the largest.
            limit: rows at most, up to 1,000; more reverts with `InvalidValue`.
            reverse: begin with the last row and go down.
        """
        low = self._prefix if start is None else self._encoded(start)
        high = self._end if stop is None else self._encoded(stop)
        if not 0 <= limit <= CONTRACT_SCAN_ROWS_MAX:
            raise ValueError("limit")
        rows = frame.current().scan(low, high, limit, reverse=reverse)
        return [(decode_key(self._key, key[1:]), decode(self._value, row)) for key, row in rows]


class Var(Generic[V]):
    """One stored value."""

    def __init__(self, field_id: int, value: Type) -> None:
        self._key = bytes([field_id])
        self._value = value

    @overload
    def get(self) -> V: ...
    @overload
    def get(self, default: V) -> V: ...
    def get(self, default: Any = _UNSET) -> Any:
        """Return the value, else the default; unset without a default reverts `MissingKey`."""
        data = frame.current().get(self._key)
        if data is not None:
            return decode(self._value, data)
        if default is _UNSET:
            raise KeyError("unset")
        return default

    def set(self, value: V) -> None:
        frame.current().put(self._key, encode(self._value, value))

    def exists(self) -> bool:
        """Whether the value was ever set."""
        return frame.current().get(self._key) is not None


class Counter:
    """A stored sum. Adding never conflicts with other transactions' adding; reading does."""

    def __init__(self, field_id: int) -> None:
        self._key = bytes([field_id])

    def add(self, amount: int) -> None:
        """Add an amount, which may be negative."""
        total = self.read() + amount
        if not INT.low <= amount <= INT.high or not INT.low <= total <= INT.high:
            raise RangeError("counter", "the sum leaves the range of int")
        frame.current().put(self._key, encode(INT, total))

    def read(self) -> int:
        """Return the sum so far; 0 before the first add."""
        data = frame.current().get(self._key)
        return 0 if data is None else int.from_bytes(data, "big", signed=True)


class Contract:
    """Base class of a contract: annotated storage fields and methods marked init, call or view.

    Args:
        version: shown on chain; an upgrade carries another one.
        name: on-chain name; the class name in snake case unless given.
    """

    contract_version: ClassVar[str] = "1"
    contract_name: ClassVar[str] = ""

    def __init_subclass__(cls, version: str = "1", name: str = "") -> None:
        _check_new_names(cls)
        cls.contract_version = version
        cls.contract_name = name or snake_case(cls.__name__)

    def __init__(self) -> None:
        for index, (name, kind, types) in enumerate(storage_fields(type(self)), start=1):
            stored: Map[Any, Any] | Var[Any] | Counter
            if kind == "map":
                stored = Map(index, *types)
            elif kind == "var":
                stored = Var(index, *types)
            else:
                stored = Counter(index)
            object.__setattr__(self, name, stored)


def snake_case(name: str) -> str:
    """`CreditScoring` as `credit_scoring`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def contract_classes(cls: type[Contract]) -> list[type[Contract]]:
    """Return the classes a contract is made of, the innermost base first, itself last."""
    return [item for item in reversed(cls.__mro__) if issubclass(item, Contract)][1:]


def _check_new_names(cls: type[Contract]) -> None:
    own = _names(cls)
    for base in contract_classes(cls)[:-1]:
        for name in _names(base):
            if name in own:
                raise CodecError(name, f"{cls.__name__} declares again what {base.__name__} does")


def _names(cls: type[Contract]) -> dict[str, None]:
    members = [*vars(cls), *vars(cls).get("__annotations__", {})]
    return {name: None for name in members if not name.startswith(("__", "contract_"))}


def storage_fields(cls: type[Contract]) -> tuple[tuple[str, str, tuple[Type, ...]], ...]:
    """Return (field, map | var | counter, types) in declaration order, bases first.

    Raises:
        CodecError: an annotation is no storage type.
    """
    contract: Any = cls
    return _storage_fields(contract)


@lru_cache(maxsize=256)
def _storage_fields(contract: Any) -> tuple[tuple[str, str, tuple[Type, ...]], ...]:
    # An instance is made for every call, and reading annotations costs more than the call.
    found: list[tuple[str, str, tuple[Type, ...]]] = []
    for name, hint in get_type_hints(contract, include_extras=True).items():
        if get_origin(hint) is ClassVar or name.startswith("contract_"):
            continue
        origin = get_origin(hint) or hint
        types = tuple(resolve(item) for item in get_args(hint))
        if origin is Map and len(types) == 2:
            found.append((name, "map", types))
        elif origin is Var and len(types) == 1:
            found.append((name, "var", types))
        elif origin is Counter:
            found.append((name, "counter", ()))
        else:
            raise CodecError(name, "storage fields are Map[K, V], Var[T] or Counter")
    return tuple(found)


@lru_cache(maxsize=4096)
def method_types(method: Callable[..., Any]) -> tuple[tuple[tuple[str, Type], ...], Type]:
    """Return a method's (argument, type) pairs without `self`, and its result type."""
    hints = get_type_hints(method, include_extras=True)
    result = hints.pop("return", type(None))
    kind = NONE if result is type(None) else resolve(result)
    return tuple((name, resolve(hint)) for name, hint in hints.items()), kind
