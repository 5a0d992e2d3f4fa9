"""Plaintext rows to slot blocks, aligned on the registry, and the public masks over them.

Row r lies in block r // 8128, slot r % 8128. The last 64 slots of a block hold zeros in every
column; a score result gets known sentinel values there, so that a wrong share is noticed.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
from numpy.typing import NDArray

from chainnode.he.plan import Plan
from chainnode.he.profiles import PROFILES, SCORES, ProfileName
from chainnode.he.schema import (
    EXACT,
    PRESENCE_COLUMN,
    SENTINEL_SLOTS,
    Bins,
    Column,
    Digits,
    Joint,
    OneHot,
    TableSchema,
    day_number,
    plain_number,
    rows_per_block,
)
from chainnode.types.errors import ClientFault, InternalError

Cell = str | int | Decimal | None
"""A plaintext value as read from a file: empty text or None is missing."""

MISSING_BIN = -1


def bin_index(column: Column, cell: Cell) -> int:
    """The bin a value falls in; -1 for a missing one.

    Raises:
        ClientFault: `VALUE_OUT_OF_DOMAIN` naming the column and the value.
    """
    encoding = column.encoding
    if encoding is None or isinstance(encoding, Digits):
        raise _out_of_domain(column, cell, "the column has no bins")
    text = "" if cell is None else str(cell).strip()
    if text == "":
        return MISSING_BIN
    if isinstance(encoding, OneHot):
        if text not in encoding.categories:
            raise _out_of_domain(column, cell, "not one of its categories")
        return encoding.categories.index(text)
    scaled = _allowed(column, encoding, text)
    return bisect_right(encoding.edges, scaled)


def _allowed(column: Column, encoding: Bins | Digits, text: str) -> int:
    scaled = scale(column, encoding, text)
    if not encoding.minimum <= scaled <= encoding.maximum:
        raise _out_of_domain(column, text, "outside the column's minimum and maximum")
    return scaled


def scale(column: Column, encoding: Bins | Digits, text: str) -> int:
    """A decimal text as the column's integer, rounded half to even to its decimals.

    Raises:
        ClientFault: `VALUE_OUT_OF_DOMAIN` when it is no number, or no date for a date column.
    """
    if encoding.dates:
        days = day_number(text[:10])
        if days is None or text[10:] not in ("", " 00:00:00"):
            raise _out_of_domain(column, text, "not a date YYYY-MM-DD")
        return days
    number = plain_number(text)
    if number is None:
        raise _out_of_domain(column, text, "not a decimal number of at most 15 digits")
    scaled = number.scaleb(encoding.decimals, context=EXACT)
    return int(scaled.to_integral_value(ROUND_HALF_EVEN, context=EXACT))


def digit_offsets(column: Column, cells: Sequence[Cell]) -> NDArray[np.int64]:
    """Value - minimum of every row of a digit-encoded column; -1 where the value is missing."""
    encoding = column.encoding
    if not isinstance(encoding, Digits):
        raise _out_of_domain(column, None, "the column has no digits")
    known: dict[Cell, int] = {}
    for cell in cells:
        if cell not in known:
            text = "" if cell is None else str(cell).strip()
            known[cell] = (
                MISSING_BIN if text == "" else _allowed(column, encoding, text) - encoding.minimum
            )
    return np.array([known[cell] for cell in cells], dtype=np.int64)


def bin_indices(column: Column, cells: Sequence[Cell]) -> NDArray[np.int64]:
    """The bin of every row; -1 where the value is missing."""
    known: dict[Cell, int] = {}
    for cell in cells:
        if cell not in known:
            known[cell] = bin_index(column, cell)
    return np.array([known[cell] for cell in cells], dtype=np.int64)


def integer_values(column: Column, cells: Sequence[Cell]) -> NDArray[np.uint64]:
    """Values of a column that can be summed, times 10^value_decimals; 0 for a missing one.

    Raises:
        ClientFault: `VALUE_OUT_OF_DOMAIN` naming the column and the value.
    """
    limit = column.value_maximum
    if limit is None:
        raise _out_of_domain(column, None, "the column has no values to sum")
    values = np.zeros(len(cells), dtype=np.uint64)
    for row, cell in enumerate(cells):
        text = "" if cell is None else str(cell).strip()
        if text == "" and column.may_be_missing():
            continue
        number = plain_number(text)
        scaled = None if number is None else number.scaleb(column.value_decimals, context=EXACT)
        if scaled is None or scaled != scaled.to_integral_value(context=EXACT):
            raise _out_of_domain(column, cell, _number_rule(column))
        if not 0 <= scaled <= limit:
            raise _out_of_domain(column, cell, f"not between 0 and {_shown(column, limit)}")
        values[row] = int(scaled)
    return values


def _number_rule(column: Column) -> str:
    if column.value_decimals == 0:
        return "not a whole number"
    return f"not a number of at most {column.value_decimals} decimals"


def _shown(column: Column, scaled: int) -> str:
    return str(Decimal(scaled).scaleb(-column.value_decimals, context=EXACT))


def pack(values: NDArray[np.uint64], rows: int, profile: ProfileName = "S") -> list[bytes]:
    """One value a row to blocks of little-endian u64 slots (8,192; 16,384 in M), else zeros."""
    if len(values) != rows:
        raise ClientFault(
            "ROWS_MISALIGNED",
            f"{len(values)} values for a registry of {rows} rows",
            fix="align the rows on the registry order, one row for every id",
        )
    held = rows_per_block(profile)
    blocks = -(-rows // held)
    padded = np.zeros(blocks * held, dtype="<u8")
    padded[:rows] = values
    table = np.zeros((blocks, PROFILES[profile].slots), dtype="<u8")
    table[:, :held] = padded.reshape(blocks, held)
    return [row.tobytes() for row in table]


def unpack(blocks: Sequence[bytes], rows: int, profile: ProfileName = "S") -> NDArray[np.uint64]:
    """The rows of slot blocks, sentinels left out."""
    slots, held = PROFILES[profile].slots, rows_per_block(profile)
    table = np.frombuffer(b"".join(blocks), dtype="<u8").reshape(len(blocks), slots)
    return table[:, :held].reshape(-1)[:rows].astype(np.uint64)


def column_blocks(
    column: Column, cells: Sequence[Cell], rows: int, profile: ProfileName
) -> Iterator[tuple[str, list[bytes]]]:
    """Every stored column of one SQL column in one profile: (stored name, slot blocks).

    Args:
        column: from the schema.
        cells: one per registry row, in registry order; missing where the owner has no such row.
        rows: rows of the registry.
        profile: `S` gives indicators, `S36` and `M` indicators and values.

    Raises:
        ClientFault: `VALUE_OUT_OF_DOMAIN` or `ROWS_MISALIGNED`.
    """
    if isinstance(column.encoding, Digits) and profile in column.profiles:
        yield from _digit_blocks(column, column.encoding, cells, rows, profile)
    elif isinstance(column.encoding, OneHot | Bins) and profile in column.profiles:
        bins = bin_indices(column, cells)
        for index in range(column.encoding.bin_count()):
            yield column.indicator(index), pack((bins == index).astype(np.uint64), rows, profile)
        if column.encoding.missing:
            is_missing = (bins == MISSING_BIN).astype(np.uint64)
            yield column.missing_indicator(), pack(is_missing, rows, profile)
    if column.stores_values(profile):
        values = integer_values(column, cells)
        for name, multiplier, _ in column.value_columns():
            limb = values // np.uint64(multiplier)
            if column.value_limb_bits != 0:
                limb &= np.uint64((1 << column.value_limb_bits) - 1)
            yield name, pack(limb, rows, profile)


def _digit_blocks(
    column: Column, encoding: Digits, cells: Sequence[Cell], rows: int, profile: ProfileName
) -> Iterator[tuple[str, list[bytes]]]:
    offsets = digit_offsets(column, cells)
    known = offsets >= 0
    for place in range(encoding.digit_count()):
        digits = (offsets >> (place * encoding.digit_bits)) & ((1 << encoding.digit_bits) - 1)
        for value in range(encoding.digit_values(place)):
            hit = (known & (digits == value)).astype(np.uint64)
            yield f"{column.digit(place)}.{value}", pack(hit, rows, profile)
    if encoding.missing:
        yield column.missing_indicator(), pack((~known).astype(np.uint64), rows, profile)


def _joint_blocks(
    schema: TableSchema,
    joint: Joint,
    cells: Mapping[str, Sequence[Cell]],
    profile: ProfileName,
) -> Iterator[tuple[str, list[bytes]]]:
    rows = len(cells[joint.columns[0]])
    index = np.zeros(rows, dtype=np.int64)
    known = np.ones(rows, dtype=np.bool_)
    for name, count in zip(joint.columns, schema.joint_shape(joint), strict=True):
        column = schema.column(name)
        if column is None:
            raise InternalError("SCHEMA_UNCHECKED", f"no column {name}", subject=name)
        bins = bin_indices(column, cells[name])
        index = index * count + np.where(bins == MISSING_BIN, count - 1, bins)
        known &= (bins != MISSING_BIN) | column.may_be_missing()
    for number, stored in enumerate(schema.joint_indicators(joint)):
        yield stored, pack((known & (index == number)).astype(np.uint64), schema.rows, profile)


def owner_blocks(
    schema: TableSchema,
    owner: str,
    cells: Mapping[str, Sequence[Cell]],
    profile: ProfileName,
) -> Iterator[tuple[str, list[bytes]]]:
    """Everything one organisation encrypts for one profile, in the schema's order.

    Args:
        schema: of the table.
        owner: organisation whose columns to encode.
        cells: SQL column name to one cell per registry row.
        profile: ring the blocks are for.
    """
    if schema.stores(profile) and owner == schema.presence_owner:
        yield PRESENCE_COLUMN, pack(np.ones(schema.rows, dtype=np.uint64), schema.rows, profile)
    for column in schema.columns:
        if column.owner == owner:
            yield from column_blocks(column, cells[column.name], schema.rows, profile)
    for joint in schema.stored_joints(profile):
        if joint.owner == owner:
            yield from _joint_blocks(schema, joint, cells, profile)


def selected_rows(plan: Plan, ids: Sequence[str]) -> NDArray[np.bool_]:
    """Which registry rows a score plan asks about.

    Args:
        plan: of kind `scores`.
        ids: the registry's ids in order.

    Raises:
        ClientFault: `ID_UNKNOWN` naming an id that is not in the registry.
    """
    if plan.scores is None or plan.scores.ids is None:
        return np.ones(len(ids), dtype=np.bool_)
    position = {identifier: row for row, identifier in enumerate(ids)}
    chosen = np.zeros(len(ids), dtype=np.bool_)
    for identifier in plan.scores.ids:
        if identifier not in position:
            raise ClientFault(
                "ID_UNKNOWN",
                f"enterprise {identifier} is not in the registry",
                subject=identifier,
                fix="check the id; only registered enterprises can be scored",
            )
        chosen[position[identifier]] = True
    return chosen


def mask_blocks(keep: NDArray[np.bool_], rows: int, profile: ProfileName = "S") -> list[bytes]:
    """The public 0/1 mask (WHERE and consent and presence) as slot blocks."""
    return pack(keep.astype(np.uint64), rows, profile)


def sentinel_values(query_id: bytes, block: int) -> NDArray[np.uint64]:
    """The values a score result carries in the last 64 slots of a block: SHAKE-256 of the query.

    They catch an accidental or careless wrong share. They are public, so a crafted share can spare
    them: agreement of two active sets is the check against that.
    """
    seed = b"chainnode/he-sentinel/v1" + query_id + block.to_bytes(4, "big")
    data = hashlib.shake_256(seed).digest(2 * SENTINEL_SLOTS)
    return np.frombuffer(data, dtype=">u2").astype(np.uint64) % SCORES.plain_modulus


def _out_of_domain(column: Column, cell: Cell, reason: str) -> ClientFault:
    return ClientFault(
        "VALUE_OUT_OF_DOMAIN",
        f"value {cell!r} of column {column.name}: {reason}",
        subject=column.name,
        fix="correct the row, or publish a schema whose encoding allows the value",
    )
