"""The ABI of a contract: how clients encode arguments and read results, events and errors.

The ABI is canonical JSON (sorted keys, no spaces) stored on chain beside the code. Nothing here
needs the compiler.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from chainnode.contract import codec, schema
from chainnode.contract.codec import CodecError
from chainnode.contract.schema import ADDRESS, BYTES, BYTES32, Struct, Type, parse_type
from chainnode.types.errors import ClientFault
from chainnode.types.limits import CONTRACT_REVERT_TEXT_MAX_BYTES

ABI_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Method:
    """One entry point. `kind` is `init`, `call` or `view`."""

    name: str
    kind: str
    args: tuple[tuple[str, Type], ...]
    returns: Type
    doc: str


@dataclass(frozen=True, slots=True)
class Abi:
    """A parsed ABI; `source` is the JSON it came from."""

    name: str
    version: str
    source: bytes
    methods: Mapping[str, Method]
    events: Mapping[str, Struct]
    errors: Mapping[int, Struct]

    @staticmethod
    def parse(source: bytes | str) -> Abi:
        """Read ABI JSON.

        Raises:
            ClientFault: `INVALID_ABI`.
        """
        return _parse(source.encode() if isinstance(source, str) else bytes(source))

    def method(self, name: str) -> Method:
        """Return a method.

        Raises:
            ClientFault: `UNKNOWN_METHOD`, listing those there are.
        """
        try:
            return self.methods[name]
        except KeyError:
            raise ClientFault(
                "UNKNOWN_METHOD",
                f"contract {self.name} has no method {name!r}",
                subject=name,
                fix=f"use one of: {', '.join(sorted(self.methods))}",
            ) from None


@lru_cache(maxsize=256)
def _parse(source: bytes) -> Abi:
    try:
        raw = json.loads(source)
        if raw["abi"] != ABI_VERSION:
            raise ClientFault("INVALID_ABI", f"unknown ABI version {raw['abi']}")
        structs: dict[str, Struct] = {}
        for entry in raw["types"]["structs"]:
            structs[entry["name"]] = _struct(entry, structs)
        methods = [_method(entry, structs) for entry in raw["methods"]]
        return Abi(
            name=str(raw["name"]),
            version=str(raw["version"]),
            source=source,
            methods={method.name: method for method in methods},
            events={entry["name"]: _struct(entry, structs) for entry in raw["events"]},
            errors={int(entry["code"]): _struct(entry, structs) for entry in raw["errors"]},
        )
    except (KeyError, TypeError, ValueError) as fault:
        raise ClientFault(
            "INVALID_ABI",
            f"not the ABI of a contract ({type(fault).__name__}: {fault})",
            fix="build the contract again: chainnode contract build",
        ) from None


def _struct(entry: Mapping[str, Any], structs: Mapping[str, Struct]) -> Struct:
    fields = tuple(
        schema.Field(item["name"], parse_type(item["type"], structs)) for item in entry["fields"]
    )
    return Struct(entry["name"], fields)


def _method(entry: Mapping[str, Any], structs: Mapping[str, Struct]) -> Method:
    args = tuple((item["name"], parse_type(item["type"], structs)) for item in entry["args"])
    returns = parse_type(entry["returns"], structs)
    return Method(entry["name"], entry["kind"], args, returns, entry.get("doc", ""))


def dump(document: Mapping[str, Any]) -> bytes:
    """Return canonical JSON: sorted keys, no spaces, UTF-8."""
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _as_abi(abi: Abi | bytes | str) -> Abi:
    return abi if isinstance(abi, Abi) else Abi.parse(abi)


def encode_args(abi: Abi | bytes | str, method: str, kwargs: Mapping[str, Any]) -> bytes:
    """Return the argument bytes of a call.

    Args:
        kwargs: a value for every argument by name; bytes, hashes and addresses may also be given
            as hexadecimal text (with or without 0x).

    Raises:
        ClientFault: `UNKNOWN_METHOD`, or `INVALID_ARGUMENTS` naming the argument.
    """
    parsed = _as_abi(abi)
    found = parsed.method(method)
    names = [name for name, _ in found.args]
    for name in [*(n for n in names if n not in kwargs), *(n for n in kwargs if n not in names)]:
        verb = "misses" if name in names else "does not take"
        raise ClientFault(
            "INVALID_ARGUMENTS",
            f"{parsed.name}.{method} {verb} the argument {name!r}",
            subject=name,
            fix=f"arguments: {', '.join(f'{n}: {t}' for n, t in found.args) or 'none'}",
        )
    out = bytearray()
    for name, kind in found.args:
        try:
            out += codec.encode(kind, from_text(kind, kwargs[name], name), name)
        except CodecError as fault:
            raise ClientFault(
                "INVALID_ARGUMENTS",
                f"{parsed.name}.{method}: {fault.reason}",
                subject=fault.path or name,
                fix=f"{name} is a {kind}",
            ) from None
    return bytes(out)


def from_text(kind: Type, value: Any, path: str) -> Any:
    """Return a JSON value with hexadecimal text turned into bytes where bytes are meant.

    Raises:
        CodecError: the text is not hexadecimal.
    """
    match kind:
        case schema.Plain() if kind in {BYTES, BYTES32, ADDRESS} and isinstance(value, str):
            try:
                return bytes.fromhex(value.removeprefix("0x"))
            except ValueError:
                raise CodecError(path, "expected bytes or hexadecimal text") from None
        case schema.OptionalOf(item) if value is not None:
            return from_text(item, value, path)
        case schema.ListOf(item) if isinstance(value, list | tuple):
            return [from_text(item, entry, path) for entry in value]
        case schema.TupleOf(items) if isinstance(value, list | tuple) and len(value) == len(items):
            return tuple(from_text(t, v, path) for t, v in zip(items, value, strict=True))
        case Struct(_, fields) if isinstance(value, Mapping):
            types = {entry.name: entry.type for entry in fields}
            return {n: from_text(types[n], v, n) if n in types else v for n, v in value.items()}
        case _:
            return value


def decode_args(abi: Abi | bytes | str, method: str, data: bytes) -> dict[str, Any]:
    """Return the arguments of a call by name.

    Raises:
        ClientFault: `MALFORMED` when the bytes do not fit.
    """
    found = _as_abi(abi).method(method)
    args = Struct(method, tuple(schema.Field(name, kind) for name, kind in found.args))
    return _decode(args, data, method)  # type: ignore[no-any-return]


def decode_result(abi: Abi | bytes | str, method: str, data: bytes) -> Any:
    """Return a method's result; records become dictionaries.

    Raises:
        ClientFault: `MALFORMED` when the bytes do not fit the ABI.
    """
    return _decode(_as_abi(abi).method(method).returns, data, method)


def decode_event(abi: Abi | bytes | str, name: str, data: bytes) -> dict[str, Any]:
    """Return an event's fields.

    Raises:
        ClientFault: `UNKNOWN_EVENT`, or `MALFORMED`.
    """
    parsed = _as_abi(abi)
    if name not in parsed.events:
        raise ClientFault("UNKNOWN_EVENT", f"{parsed.name} has no event {name!r}", subject=name)
    return _decode(parsed.events[name], data, name)  # type: ignore[no-any-return]


def error_text(name: str, data: bytes) -> str:
    """Return how a declared error travels in a receipt: its name and its fields in hexadecimal.

    Fields that would make the text longer than a receipt allows are left out.
    """
    text = f"{name} 0x{data.hex()}" if data else name
    return text if len(text) <= CONTRACT_REVERT_TEXT_MAX_BYTES else name


def decode_error(
    abi: Abi | bytes | str, code: int, message: str | bytes
) -> tuple[str, dict[str, Any]]:
    """Return the name and the fields of what a contract reverted with.

    Args:
        code: `error_code` of the receipt.
        message: `message` of the receipt.

    Built-in failures have the one field `text`, which may be empty. Never raises on a code or text
    the ABI does not know: the name is then `Error<code>`.
    """
    parsed = _as_abi(abi)
    text = message if isinstance(message, str) else message.decode(errors="replace")
    if code not in parsed.errors:
        return schema.FAULT_NAMES.get(code, f"Error{code}"), {"text": text}
    record = parsed.errors[code]
    try:
        return record.name, codec.decode(record, bytes.fromhex(text.partition(" 0x")[2]))
    except (CodecError, ValueError):
        return record.name, {"text": text}


def _decode(kind: Type, data: bytes, subject: str) -> Any:
    try:
        return codec.decode(kind, data)
    except CodecError as fault:
        raise ClientFault(
            "MALFORMED",
            f"the bytes do not fit the ABI: {fault}",
            subject=subject,
            fix="fetch the contract's current ABI and try again",
        ) from None
