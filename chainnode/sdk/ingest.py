"""A bank's rows to cells in registry order, every bad cell named, and a journal to go on from."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from chainnode.he import encode
from chainnode.he.encode import Cell
from chainnode.he.planner import derived
from chainnode.he.profiles import ProfileName
from chainnode.he.schema import Column, Digits, TableSchema
from chainnode.sdk.source_table import SourceTable
from chainnode.types.errors import ClientFault

FAULTS_SHOWN: Final = 20
_JOURNAL_VERSION: Final = 2
_SALT_BYTES: Final = 16


def align(
    source: SourceTable, schema: TableSchema, owner: str, ids: Sequence[str]
) -> dict[str, list[Cell]]:
    """The owner's cells in registry order, checked one by one.

    An enterprise of the registry that the table lacks has missing values.

    Args:
        source: the table, with the schema's id column.
        schema: as published.
        owner: organisation whose columns to take; derived ones are computed.
        ids: the registry's.

    Raises:
        ClientFault: `TABLE_COLUMN_MISSING`, or `TABLE_ROWS_INVALID` naming file, line and column
            of up to 20 bad cells.
    """
    rows = _rows_by_id(source, schema.id_column, ids)
    own = [column for column in schema.columns if column.owner == owner]
    cells: dict[str, list[Cell]] = {}
    faults: list[str] = []
    for column in own:
        if column.derived:
            continue
        given = source.column(column.name)
        placed: list[Cell] = [None if row < 0 else given[row] for row in rows]
        cells[column.name] = placed
        _check(column, placed, rows, ids, source, faults)
    if faults:
        more = f" and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
        raise ClientFault(
            "TABLE_ROWS_INVALID",
            "; ".join(faults[:FAULTS_SHOWN]) + more,
            subject=source.name,
            fix="correct these cells, or publish a schema whose encodings allow them",
        )
    for column in own:
        if column.derived:
            cells[column.name] = list(derived.cells(column, schema, cells))
            _check(column, cells[column.name], rows, ids, source, faults)
    if faults:
        raise ClientFault(
            "TABLE_ROWS_INVALID",
            faults[0],
            subject=source.name,
            fix="raise the derived column's value_maximum in the schema",
        )
    return cells


def _rows_by_id(source: SourceTable, id_column: str, ids: Sequence[str]) -> list[int]:
    found: dict[str, int] = {}
    known = set(ids)
    faults: list[str] = []
    for row, cell in enumerate(source.column(id_column)):
        name = "" if cell is None else str(cell).strip()
        reason = ""
        if name not in known:
            reason = "no id" if name == "" else f"{name} is not in the registry"
        elif name in found:
            reason = f"{name} stands also at {source.place(found[name])}"
        if reason:
            faults.append(f"{source.place(row, id_column)}: {reason}")
        found.setdefault(name, row)
    if faults:
        raise ClientFault(
            "TABLE_ROWS_INVALID",
            "; ".join(faults[:FAULTS_SHOWN]),
            subject=source.name,
            fix="give every enterprise of the registry at most one row",
        )
    return [found.get(name, -1) for name in ids]


def _check(
    column: Column,
    cells: Sequence[Cell],
    rows: Sequence[int],
    ids: Sequence[str],
    source: SourceTable,
    faults: list[str],
) -> None:
    outcome: dict[Cell, str] = {}
    for position, cell in enumerate(cells):
        if cell not in outcome:
            outcome[cell] = _fault(column, cell)
        if outcome[cell]:
            row = rows[position]
            place = f"{source.name}, enterprise {ids[position]} has no row, column {column.name}"
            if row >= 0:
                place = source.place(row, column.name)
            faults.append(f"{place}: {outcome[cell]}")


def _fault(column: Column, cell: Cell) -> str:
    try:
        if isinstance(column.encoding, Digits):
            encode.digit_offsets(column, [cell])
        elif column.encoding is not None:
            encode.bin_index(column, cell)
        if column.value_maximum is not None:
            encode.integer_values(column, [cell])
    except ClientFault as error:
        return error.message
    missing = cell is None or str(cell).strip() == ""
    if missing and column.encoding is not None and not column.encoding.missing:
        return "missing, and the encoding has no place for missing values"
    return ""


class Journal:
    """Which blocks are uploaded: a file beside the data, so that an interrupted upload goes on.

    A line holds a keyed hash of what was encrypted and the hash of the uploaded ciphertext. Without
    the key, which stays in the same private file, the hash says nothing about the rows. The salt
    of the publication stands in it too: blocks uploaded before and after an interruption share one.

    Args:
        path: of the file; made at first use, readable by its owner only.
        scope: what the blocks belong to: table, schema, epoch, keys and the owner's secret. Another
            scope starts anew.
    """

    def __init__(self, path: Path, scope: bytes) -> None:
        self._path = path
        self._scope = hashlib.sha256(b"chainnode/ingest/v1" + scope).hexdigest()
        self._known: dict[str, str] = {}
        self._key = b""
        self.salt = b""
        self.reused = 0
        if path.exists():
            self._read()
        if not self._key:
            self._begin()

    def _read(self) -> None:
        for number, line in enumerate(self._path.read_text(encoding="utf-8").splitlines()):
            try:
                entry = json.loads(line)
                if number == 0:
                    if entry["version"] != _JOURNAL_VERSION or entry["scope"] != self._scope:
                        return
                    self.salt = bytes.fromhex(entry["salt"])
                    self._key = bytes.fromhex(entry["key"])
                else:
                    bytes.fromhex(entry["blob"])
                    self._known[str(entry["block"])] = str(entry["blob"])
            except (ValueError, KeyError, TypeError):
                # The line being written when the process died: what follows is not trusted.
                return

    def _begin(self) -> None:
        self._key = secrets.token_bytes(32)
        self.salt = fresh_salt()
        self._known = {}
        entry = {
            "version": _JOURNAL_VERSION,
            "scope": self._scope,
            "key": self._key.hex(),
            "salt": self.salt.hex(),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def label(self, profile: str, column: str, block: int, slots: bytes) -> str:
        """The keyed hash that stands for one block's plaintext."""
        head = f"{profile}/{column}/{block}/".encode()
        return hmac.new(self._key, head + slots, hashlib.sha256).hexdigest()

    def uploaded(self, label: str) -> bytes | None:
        """The hash of the ciphertext uploaded for a block, or None."""
        found = self._known.get(label)
        if found is not None:
            self.reused += 1
        return None if found is None else bytes.fromhex(found)

    def record(self, label: str, blob: bytes) -> None:
        """Note an upload; on disk before the next block begins."""
        self._known[label] = blob.hex()
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"block": label, "blob": blob.hex()}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def fresh_salt() -> bytes:
    """What tells one publication's encryptions from another's; public."""
    return secrets.token_bytes(_SALT_BYTES)


def scope_of(
    schema: TableSchema, epoch: int, keys: Mapping[ProfileName, bytes], secret: bytes
) -> bytes:
    """What a journal's blocks are valid for; `secret` is the fingerprint of the owner's."""
    parts = [schema.hash(), epoch.to_bytes(8, "big"), secret]
    parts += [name.encode() + b"=" + bytes(keys[name]) for name in sorted(keys)]
    return b"".join(parts)
