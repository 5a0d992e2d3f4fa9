"""Python annotations as contract types."""

from __future__ import annotations

import dataclasses
import types
import typing
from functools import cache
from typing import Any

from chainnode.contract import schema
from chainnode.contract.codec import CodecError
from chainnode.contract.values import Address, Bytes32

_NAMED: dict[Any, schema.Type] = {
    bool: schema.BOOL,
    int: schema.INT,
    bytes: schema.BYTES,
    str: schema.STR,
    Bytes32: schema.BYTES32,
    Address: schema.ADDRESS,
}


def resolve(hint: Any) -> schema.Type:
    """Return the contract type of an annotation.

    Raises:
        CodecError: the annotation has no contract type.
    """
    if hint in _NAMED:
        return _NAMED[hint]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated and isinstance(args[1], schema.Int):
        return args[1]
    if origin is list:
        return schema.ListOf(resolve(args[0]))
    if origin is tuple and args and args[-1] is not Ellipsis:
        return schema.TupleOf(tuple(resolve(item) for item in args))
    if origin in {typing.Union, types.UnionType}:
        others = [item for item in args if item is not type(None)]
        if len(others) == 1 and len(args) == 2:
            return schema.OptionalOf(resolve(others[0]))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return resolve_struct(hint)
    raise CodecError(str(hint), "not a contract type")


def resolve_struct(cls: type) -> schema.Struct:
    """Return the record type of a dataclass, event or error."""
    return _resolve_struct(cls)


@cache
def _resolve_struct(cls: Any) -> schema.Struct:
    if not isinstance(cls, type) or not dataclasses.is_dataclass(cls):
        raise CodecError(str(cls), "not a dataclass, @event or @error")
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = tuple(
        schema.Field(entry.name, resolve(hints[entry.name])) for entry in dataclasses.fields(cls)
    )
    return schema.Struct(cls.__name__, fields, cls)
