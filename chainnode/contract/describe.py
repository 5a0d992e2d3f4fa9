"""The ABI of a contract class, read from the class itself."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from chainnode.contract import schema
from chainnode.contract.abi import ABI_VERSION
from chainnode.contract.modules import modules_of
from chainnode.contract.reflection import resolve_struct
from chainnode.contract.sdk import (
    Contract,
    Error,
    Event,
    contract_classes,
    method_types,
    storage_fields,
)


def records(cls: type[Contract]) -> tuple[list[schema.Struct], list[schema.Struct]]:
    """Return the events and the errors of the contract's files, in source order."""
    events: list[schema.Struct] = []
    errors: list[schema.Struct] = []
    for module in modules_of(sys.modules[cls.__module__]):
        for item in vars(module).values():
            if not isinstance(item, type) or item.__module__ != module.__name__:
                continue
            if issubclass(item, Error):
                errors.append(resolve_struct(item))
            elif issubclass(item, Event) or hasattr(item, "_is_event"):
                events.append(resolve_struct(item))
    return events, errors


def entry_points(cls: type[Contract]) -> list[tuple[str, str, Any]]:
    """Return (name, init | call | view, function) in source order, bases first."""
    return [
        (name, item._contract_kind, item)
        for part in contract_classes(cls)
        for name, item in vars(part).items()
        if hasattr(item, "_contract_kind")
    ]


def describe(cls: type[Contract]) -> dict[str, Any]:
    """Return the ABI document of a contract class, without hashes of source and code."""
    structs: dict[str, schema.Struct] = {}
    methods = []
    for name, kind, function in entry_points(cls):
        args, returns = method_types(function)
        for used in [*(item for _, item in args), returns]:
            collect_structs(used, structs)
        methods.append(
            method_entry(name, kind, list(args), returns, (inspect.getdoc(function) or ""))
        )
    events, errors = records(cls)
    storage = []
    for index, (field, kind, types) in enumerate(storage_fields(cls), start=1):
        storage.append(storage_entry(index, field, kind, types))
        for used in types:
            collect_structs(used, structs)
    for record in [*events, *errors]:
        for entry in record.fields:
            collect_structs(entry.type, structs)
    return {
        "abi": ABI_VERSION,
        "name": cls.contract_name,
        "version": cls.contract_version,
        "types": {"structs": [record_entry(item) for item in structs.values()]},
        "methods": methods,
        "events": [record_entry(item) for item in events],
        "errors": [
            {"code": schema.USER_ERROR + index, **record_entry(item)}
            for index, item in enumerate(errors)
        ],
        "storage": storage,
    }


def method_entry(
    name: str, kind: str, args: list[tuple[str, schema.Type]], returns: schema.Type, doc: str
) -> dict[str, Any]:
    """Return one method of the ABI; of the docstring only the first paragraph is kept."""
    return {
        "name": name,
        "kind": kind,
        "args": [{"name": arg, "type": str(item)} for arg, item in args],
        "returns": str(returns),
        "doc": " ".join(doc.split("\n\n")[0].split()),
    }


def record_entry(record: schema.Struct) -> dict[str, Any]:
    """Return a record of the ABI: a struct, event or error."""
    fields = [{"name": entry.name, "type": str(entry.type)} for entry in record.fields]
    return {"name": record.name, "fields": fields}


def storage_entry(
    index: int, field: str, kind: str, types: tuple[schema.Type, ...]
) -> dict[str, Any]:
    """Return one storage field of the ABI."""
    entry: dict[str, Any] = {"id": index, "field": field, "kind": kind}
    if kind == "map":
        entry |= {"key": str(types[0]), "value": str(types[1])}
    elif kind == "var":
        entry |= {"value": str(types[0])}
    return entry


def collect_structs(kind: schema.Type, found: dict[str, schema.Struct]) -> None:
    """Add every record inside a type, inner ones first."""
    match kind:
        case schema.ListOf(item) | schema.OptionalOf(item):
            collect_structs(item, found)
        case schema.TupleOf(items):
            for item in items:
                collect_structs(item, found)
        case schema.Struct():
            for entry in kind.fields:
                collect_structs(entry.type, found)
            found.setdefault(kind.name, kind)
        case _:
            pass
