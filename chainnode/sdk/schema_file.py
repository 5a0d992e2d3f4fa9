"""A table's schema as a TOML file that people write and owners agree on."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from chainnode.he.planner import derived
from chainnode.he.schema import TableSchema, day_number
from chainnode.types.errors import ClientFault


def load_schema(path: Path, rows: int) -> TableSchema:
    """Read a schema file.

    Args:
        path: TOML; see `docs/how-to/ingest-a-table.md`.
        rows: enterprises in the registry.

    Raises:
        ClientFault: `SCHEMA_INVALID` naming the file and the column.
    """
    try:
        described = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _invalid(path, str(error)) from error
    described.setdefault("rows", rows)
    columns = described.get("columns")
    if isinstance(columns, list):
        described["columns"] = [_column(path, at, column) for at, column in enumerate(columns)]
    try:
        schema = msgspec.convert(described, TableSchema)
        schema.validate()
        derived.known(schema)
    except msgspec.ValidationError as error:
        raise _invalid(path, str(error)) from error
    except ClientFault as error:
        raise _invalid(path, f"{error.subject}: {error.message}") from error
    if schema.rows != rows:
        raise _invalid(path, f"rows is {schema.rows}, the registry has {rows}")
    return schema


def dump_schema(schema: TableSchema) -> str:
    """The TOML text of a schema, without its rows."""
    lines = [
        f"table = {_text(schema.table)}",
        f"id_column = {_text(schema.id_column)}",
        f"presence_owner = {_text(schema.presence_owner)}",
    ]
    for kind, items in (("columns", schema.columns), ("joints", schema.joints)):
        for item in items:
            lines += ["", f"[[{kind}]]"]
            for key, value in msgspec.to_builtins(item).items():
                if value not in (None, "", [], 0, False) or key == "minimum":
                    lines.append(f"{key} = {_toml(value, item)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any, item: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        parts = [f"{key} = {_toml(part, item)}" for key, part in value.items() if part is not None]
        return "{ " + ", ".join(parts) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(part, item) for part in value) + "]"
    return str(value)


def _text(value: str) -> str:
    return msgspec.json.encode(value).decode()


def _column(path: Path, at: int, column: Any) -> Any:
    if not isinstance(column, dict) or not isinstance(column.get("encoding", {}), dict):
        raise _invalid(path, f"columns[{at}] is no table")
    encoding = dict(column.get("encoding", {}))
    if encoding.get("dates"):
        for key in ("minimum", "maximum"):
            encoding[key] = _day(path, at, encoding.get(key))
        if isinstance(encoding.get("edges"), list):
            encoding["edges"] = [_day(path, at, edge) for edge in encoding["edges"]]
    return {**column, "encoding": encoding} if encoding else column


def _day(path: Path, at: int, value: Any) -> Any:
    days = day_number(str(value))
    if days is None and not isinstance(value, int):
        raise _invalid(path, f"columns[{at}]: {value!r} is not a date YYYY-MM-DD")
    return value if days is None else days


def _invalid(path: Path, reason: str) -> ClientFault:
    return ClientFault(
        "SCHEMA_INVALID", reason, subject=str(path), fix="correct the schema file at that place"
    )
