"""One binary form for arguments, results, events and stored values, and one for storage keys.

Values carry no types: integers are fixed-width big-endian two's complement, `bytes` and `str`
follow a u32 length, lists a u32 count, optionals a tag byte; tuples and records are their fields in
order. Keys keep their order: comparing encoded keys compares the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chainnode.contract.schema import (
    ADDRESS,
    BOOL,
    BYTES,
    BYTES32,
    STR,
    Int,
    ListOf,
    OptionalOf,
    Plain,
    Struct,
    TupleOf,
    Type,
)
from chainnode.contract.values import Address, Bytes32


class CodecError(Exception):
    """A value does not fit its type, or bytes do not decode; `path` names the place."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class RangeError(CodecError):
    """An integer lies outside its type's range."""


def encode(kind: Type, value: Any, path: str = "") -> bytes:
    """Return the canonical bytes of a value.

    Raises:
        CodecError: the value is not of this type; RangeError if only the range is wrong.
    """
    out = bytearray()
    _encode(kind, value, path, out)
    return bytes(out)


def _encode(kind: Type, value: Any, path: str, out: bytearray) -> None:
    match kind:
        case Int():
            out += check_int(kind, value, path).to_bytes(kind.size_bytes, "big", signed=value < 0)
        case Plain():
            out += _encode_plain(kind, value, path)
        case OptionalOf(item):
            out.append(value is not None)
            if value is not None:
                _encode(item, value, path, out)
        case ListOf(item):
            if not isinstance(value, list | tuple):
                raise CodecError(path, "expected a list")
            out += len(value).to_bytes(4, "big")
            for index, entry in enumerate(value):
                _encode(item, entry, f"{path}[{index}]", out)
        case TupleOf(items):
            if not isinstance(value, list | tuple) or len(value) != len(items):
                raise CodecError(path, f"expected a tuple of {len(items)}")
            for index, entry in enumerate(value):
                _encode(items[index], entry, f"{path}[{index}]", out)
        case Struct():
            _encode_struct(kind, value, path, out)


def _encode_struct(kind: Struct, value: Any, path: str, out: bytearray) -> None:
    names = [entry.name for entry in kind.fields]
    if isinstance(value, Mapping):
        if sorted(value) != sorted(names):
            raise CodecError(path, f"expected the fields {', '.join(names)} of {kind.name}")
        parts = [value[name] for name in names]
    else:
        try:
            parts = [getattr(value, name) for name in names]
        except AttributeError:
            raise CodecError(path, f"expected a {kind.name}") from None
    for entry, part in zip(kind.fields, parts, strict=True):
        _encode(entry.type, part, f"{path}.{entry.name}" if path else entry.name, out)


def check_int(kind: Int, value: Any, path: str = "") -> int:
    """Return the value if it is an integer of the type's range."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise CodecError(path, f"expected an integer ({kind.name})")
    if not kind.low <= value <= kind.high:
        raise RangeError(path, f"{value} is outside {kind.name} ({kind.low}..{kind.high})")
    return value


def _encode_plain(kind: Plain, value: Any, path: str) -> bytes:
    if kind == BOOL:
        if not isinstance(value, bool):
            raise CodecError(path, "expected a bool")
        return b"\x01" if value else b"\x00"
    if kind == STR:
        if not isinstance(value, str):
            raise CodecError(path, "expected a str")
        try:
            data = value.encode()
        except UnicodeEncodeError:
            raise CodecError(path, "not valid text") from None
        return len(data).to_bytes(4, "big") + data
    if kind in {BYTES, BYTES32, ADDRESS}:
        if not isinstance(value, bytes):
            raise CodecError(path, "expected bytes")
        if kind == BYTES:
            return len(value).to_bytes(4, "big") + value
        if len(value) != 32:
            raise CodecError(path, f"expected 32 bytes ({kind.name}), not {len(value)}")
        return bytes(value)
    if value is not None:
        raise CodecError(path, "expected None")
    return b""


class Reader:
    """A position in bytes being decoded; every short read is a CodecError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size_bytes: int, path: str) -> bytes:
        end = self._position + size_bytes
        if end > len(self._data):
            raise CodecError(path, "the data ends too early")
        part = self._data[self._position : end]
        self._position = end
        return part

    def finish(self) -> None:
        """Refuse bytes after the last value."""
        if self._position != len(self._data):
            raise CodecError("", f"{len(self._data) - self._position} bytes too many")

    @property
    def left_bytes(self) -> int:
        return len(self._data) - self._position


def decode(kind: Type, data: bytes) -> Any:
    """Return the value of exactly these bytes.

    Raises:
        CodecError: the bytes are not the canonical form of a value of this type.
    """
    reader = Reader(data)
    value = decode_from(kind, reader, "")
    reader.finish()
    return value


def decode_from(kind: Type, reader: Reader, path: str) -> Any:
    """Decode one value at the reader's position."""
    match kind:
        case Int():
            raw = int.from_bytes(reader.take(kind.size_bytes, path), "big", signed=kind.low < 0)
            return check_int(kind, raw, path)
        case Plain():
            return _decode_plain(kind, reader, path)
        case OptionalOf(item):
            return decode_from(item, reader, path) if _flag(reader, path) else None
        case ListOf(item):
            count = int.from_bytes(reader.take(4, path), "big")
            if count > reader.left_bytes:
                raise CodecError(path, "the data ends too early")
            return [decode_from(item, reader, f"{path}[{i}]") for i in range(count)]
        case TupleOf(items):
            return tuple(decode_from(t, reader, f"{path}[{i}]") for i, t in enumerate(items))
        case Struct():
            parts = {f.name: decode_from(f.type, reader, f.name) for f in kind.fields}
            return parts if kind.factory is None else kind.factory(**parts)


def _flag(reader: Reader, path: str) -> bool:
    tag = reader.take(1, path)[0]
    if tag > 1:
        raise CodecError(path, "a flag byte must be 0 or 1")
    return tag == 1


def _decode_plain(kind: Plain, reader: Reader, path: str) -> Any:
    if kind == BOOL:
        return _flag(reader, path)
    if kind in {BYTES, STR}:
        data = reader.take(int.from_bytes(reader.take(4, path), "big"), path)
        if kind == BYTES:
            return data
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise CodecError(path, "not valid UTF-8") from None
    if kind in {BYTES32, ADDRESS}:
        return wrap_fixed(kind, reader.take(32, path))
    return None


def wrap_fixed(kind: Type, data: bytes) -> bytes:
    """Return 32 bytes as the class contract authors see."""
    return Address(data) if kind == ADDRESS else Bytes32(data)


def decode_key(kind: Type, data: bytes) -> Any:
    """Return the value whose order-preserving form these bytes are.

    Raises:
        CodecError: the bytes are not the key form of a value of this type.
    """
    reader = Reader(data)
    value = _decode_key(kind, reader)
    reader.finish()
    return value


def _decode_key(kind: Type, reader: Reader) -> Any:
    match kind:
        case Int():
            low = kind.low if kind.low < 0 else 0
            return check_int(kind, int.from_bytes(reader.take(kind.size_bytes, ""), "big") + low)
        case TupleOf(items):
            return tuple(_decode_key(item, reader) for item in items)
        case Struct():
            parts = {entry.name: _decode_key(entry.type, reader) for entry in kind.fields}
            return parts if kind.factory is None else kind.factory(**parts)
        case OptionalOf(item):
            return _decode_key(item, reader) if _flag(reader, "") else None
        case Plain() if kind in {BYTES, STR}:
            data = _unescaped(reader)
            return data if kind == BYTES else data.decode()
        case _:
            return decode_from(kind, reader, "")


def _unescaped(reader: Reader) -> bytes:
    out = bytearray()
    while (byte := reader.take(1, "")) != b"\0" or reader.take(1, "") == b"\xff":
        out += byte
    return bytes(out)


def encode_key(kind: Type, value: Any) -> bytes:
    """Return the order-preserving form of a map key.

    Raises:
        CodecError: the value is not of this type.
    """
    match kind:
        case Int():
            shifted = check_int(kind, value) - (kind.low if kind.low < 0 else 0)
            return shifted.to_bytes(kind.size_bytes, "big")
        case TupleOf(items):
            if not isinstance(value, tuple) or len(value) != len(items):
                raise CodecError("", f"expected a tuple of {len(items)} as key")
            return b"".join(encode_key(t, v) for t, v in zip(items, value, strict=True))
        case Struct(_, fields):
            return b"".join(encode_key(f.type, getattr(value, f.name)) for f in fields)
        case OptionalOf(item):
            return b"\x00" if value is None else b"\x01" + encode_key(item, value)
        case ListOf():
            raise CodecError("", "a list cannot be a key")
        case Plain():
            data = _encode_plain(kind, value, "")
            if kind in {BYTES, STR}:
                return data[4:].replace(b"\x00", b"\x00\xff") + b"\x00\x00"
            return data
