"""Schemas refuse what cannot be encoded; rows become slots in registry order and come back."""

import msgspec
import numpy as np
import pytest

from chainnode.he import encode
from chainnode.he.encode import Cell
from chainnode.he.schema import (
    PRESENCE_COLUMN,
    ROWS_PER_BLOCK,
    SLOTS_PER_BLOCK,
    Bins,
    Column,
    Digits,
    OneHot,
    TableSchema,
)
from chainnode.types.errors import ClientFault


def one_column(column: Column) -> TableSchema:
    return TableSchema("t", 10, "id", "registry", (column,))


@pytest.mark.parametrize(
    "column",
    [
        Column("id", "o", OneHot(("a",))),
        Column("presence", "o", OneHot(("a",))),
        Column("a b", "o", OneHot(("a",))),
        Column("a/../b", "o", OneHot(("a",))),
        Column("c", "o"),
        Column("c", "o", OneHot(())),
        Column("c", "o", OneHot(("a", "a"))),
        Column("c", "o", Bins(0, (5, 5), 9)),
        Column("c", "o", Bins(0, (10,), 9)),
        Column("c", "o", Bins(0, (5,), 9, decimals=7)),
        Column("c", "o", None, 0),
        Column("c", "o", None, 1 << 40),
        Column("c", "o", None, 100, value_limb_bits=40),
    ],
)
def test_impossible_columns_are_refused(column: Column) -> None:
    with pytest.raises(ClientFault) as caught:
        one_column(column).validate()
    assert caught.value.code == "SCHEMA_INVALID"
    assert caught.value.subject == column.name


def test_schema_json_is_canonical_and_hash_follows_every_field(schema: TableSchema) -> None:
    assert TableSchema.decode(schema.encode()) == schema
    assert msgspec.structs.replace(schema, rows=schema.rows + 1).hash() != schema.hash()
    for bad in (
        b"",
        b"\xff",
        b"{}",
        b" " + schema.encode(),
        schema.encode().replace(b'"rows":9000', b'"rows":9000.0'),
        schema.encode().replace(b'"rows":9000', b'"rows":9000,"seed":1'),
    ):
        with pytest.raises(ClientFault) as caught:
            TableSchema.decode(bad)
        assert caught.value.code == "MALFORMED"


def test_stored_columns_follow_profile_and_owner(schema: TableSchema) -> None:
    scores, sums = schema.stored_columns("S"), schema.stored_columns("S36")
    assert "court.1" in scores and "court.1" not in sums
    assert "sector.missing" in scores and "sector.missing" in sums
    assert {PRESENCE_COLUMN, "turnover", "debt.limb0", "debt.limb1"} <= set(sums) - set(scores)
    owners = ("registry", "bank-a", "statistics")
    for profile in ("S", "S36"):
        parts = [name for owner in owners for name in schema.stored_columns(profile, owner)]
        assert sorted(parts) == sorted(schema.stored_columns(profile))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("-1", 0), ("-0.01", 0), (0, 1), ("0.49", 1), ("0.5", 2), ("1.25", 3), ("10", 3), ("", -1)],
)
def test_bins_are_half_open(schema: TableSchema, cell: Cell, expected: int) -> None:
    ratio = schema.column("RATIO")
    assert ratio is not None
    assert encode.bin_index(ratio, cell) == expected


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("sector", "mining"),
        ("overdue", "121"),
        ("overdue", "-1"),
        ("overdue", "many"),
        ("overdue", "NaN"),
        ("ratio", "1e30"),
        ("ratio", "1e999999999"),
        ("turnover", "3"),
    ],
)
def test_cells_outside_the_encoding_are_refused(schema: TableSchema, name: str, cell: Cell) -> None:
    column = schema.column(name)
    assert column is not None
    with pytest.raises(ClientFault) as caught:
        encode.bin_index(column, cell)
    assert (caught.value.code, caught.value.subject) == ("VALUE_OUT_OF_DOMAIN", name)


@pytest.mark.parametrize("cell", ["", None, "1.5", "-1", "5000001", "x", "Infinity", "1e999999999"])
def test_values_to_sum_are_whole_and_in_range(schema: TableSchema, cell: Cell) -> None:
    column = schema.column("turnover")
    assert column is not None
    with pytest.raises(ClientFault) as caught:
        encode.integer_values(column, [cell])
    assert caught.value.code == "VALUE_OUT_OF_DOMAIN"


def test_rows_fill_8128_slots_of_each_block_and_come_back() -> None:
    rows = ROWS_PER_BLOCK + 2
    values = np.arange(1, rows + 1, dtype=np.uint64)
    blocks = encode.pack(values, rows)
    assert [len(block) for block in blocks] == [8 * SLOTS_PER_BLOCK] * 2
    tables = [np.frombuffer(block, dtype="<u8") for block in blocks]
    assert tables[0][ROWS_PER_BLOCK - 1] == ROWS_PER_BLOCK
    assert not tables[0][ROWS_PER_BLOCK:].any()
    assert list(tables[1][:3]) == [ROWS_PER_BLOCK + 1, ROWS_PER_BLOCK + 2, 0]
    assert np.array_equal(encode.unpack(blocks, rows), values)
    with pytest.raises(ClientFault) as caught:
        encode.pack(values[:-1], rows)
    assert caught.value.code == "ROWS_MISALIGNED"


def test_each_row_is_in_exactly_one_bin_or_missing(
    schema: TableSchema, firms: dict[str, list[Cell]]
) -> None:
    for column in schema.columns:
        if column.encoding is None:
            continue
        encoded = encode.column_blocks(column, firms[column.name], schema.rows, "S")
        stored = {name: encode.unpack(blocks, schema.rows) for name, blocks in encoded}
        missing = stored.pop(column.missing_indicator(), np.zeros(schema.rows, dtype=np.uint64))
        places = {name.rpartition(".")[0] for name in stored}
        for place in places:
            bins = [slots for name, slots in stored.items() if name.rpartition(".")[0] == place]
            assert np.all(sum(bins) + missing == 1), place
        assert len(places) == (2 if isinstance(column.encoding, Digits) else 1)


def test_digits_add_up_to_the_value(schema: TableSchema, firms: dict[str, list[Cell]]) -> None:
    age = schema.column("age")
    assert age is not None
    total = np.zeros(schema.rows, dtype=np.uint64)
    for name, blocks in encode.column_blocks(age, firms["age"], schema.rows, "S"):
        _, _, place = name.rpartition(".")[0].partition("digit")
        if place:
            weight = int(name.rpartition(".")[2]) << (5 * int(place))
            total += encode.unpack(blocks, schema.rows) * np.uint64(weight)
    assert total.tolist() == [0 if cell == "" else cell for cell in firms["age"]]


def test_joints_are_products_of_their_columns(
    schema: TableSchema, firms: dict[str, list[Cell]]
) -> None:
    stored = {
        name: encode.unpack(blocks, schema.rows)
        for name, blocks in encode.owner_blocks(schema, "registry", firms, "S36")
    }
    joint = [stored[f"place.{index}"] for index in range(8)]
    assert np.all(sum(joint) == 1)
    for index, slots in enumerate(joint):
        sector = ("sector.0", "sector.1", "sector.2", "sector.missing")[index // 2]
        assert np.array_equal(slots, stored[sector] * stored[f"region.{index % 2}"])


def test_value_limbs_add_up(schema: TableSchema, firms: dict[str, list[Cell]]) -> None:
    debt = schema.column("debt")
    assert debt is not None
    multipliers = {name: multiplier for name, multiplier, _ in debt.value_columns()}
    total = np.zeros(schema.rows, dtype=np.uint64)
    for name, blocks in encode.column_blocks(debt, firms["debt"], schema.rows, "S36"):
        total += encode.unpack(blocks, schema.rows) * np.uint64(multipliers[name])
    assert total.tolist() == firms["debt"]


def test_sentinels_depend_on_query_and_block() -> None:
    first = encode.sentinel_values(b"q1", 0)
    assert len(first) == SLOTS_PER_BLOCK - ROWS_PER_BLOCK
    assert not np.array_equal(first, encode.sentinel_values(b"q1", 1))
    assert not np.array_equal(first, encode.sentinel_values(b"q2", 0))
    known = encode.sentinel_values(b"query-1", 0)[:4].tolist()
    assert known == [31_900, 15_217, 51_367, 43_858]
