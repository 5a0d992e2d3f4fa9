"""A condition with an encrypted constant answers as SQL does, and shows the constant nowhere."""

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from fractions import Fraction

import duckdb
import msgspec
import numpy as np
import pytest
from he_council import Council
from he_portfolio import write_csv
from test_noise import SoleKey

from chainnode._native import HeColumns, he_add, he_encrypt, he_multiply, he_relinearise
from chainnode.he import engine, results
from chainnode.he.answer import number
from chainnode.he.encode import Cell
from chainnode.he.engine import LocalEngine
from chainnode.he.plan import Plan
from chainnode.he.planner import degree_and_noise
from chainnode.he.planner.chunks import split
from chainnode.he.planner.private_names import private_name, with_record
from chainnode.he.private_constants import (
    CHECKS,
    check_places,
    chosen,
    encrypt_selectors,
    gate_places,
    private_of,
    released_places,
    released_plan,
    require_checks,
    require_record,
    require_selector,
    select,
)
from chainnode.he.profiles import DEEP
from chainnode.he.schema import Bins, Column, Digits, OneHot, TableSchema
from chainnode.he.sql import Catalog, Policy, explain, plan_query, verify_plan
from chainnode.sdk.scoring import result_size_bytes
from chainnode.types.errors import ClientFault, PeerFault
from chainnode.types.limits import BLOB_SIZE_MAX_BYTES

ROWS = 17_000
SECRET = b"\x07" * 32
SECTORS = ("farming", "trade", "services")
DEEP_TOO = ("S36", "M")
TRADE = "SELECT COUNT(*), SUM(turnover), AVG(turnover) FROM firms WHERE sector = PRIVATE(x)"


def rounded(value: float | Fraction | None) -> float | None:
    return None if value is None else round(float(value), 6)


@dataclasses.dataclass
class Firms:
    schema: TableSchema
    council: Council
    columns: HeColumns
    catalog: Catalog
    database: duckdb.DuckDBPyConnection

    def plaintext(self, sql: str, value: str) -> list[tuple[object, ...]]:
        shown = sql.replace("PRIVATE(x)", value)
        rows = self.database.execute(shown).fetchall()
        return [
            tuple(None if cell is None else round(float(cell), 6) for cell in row) for row in rows
        ]


@pytest.fixture(scope="module")
def firms(tmp_path_factory: pytest.TempPathFactory) -> Firms:
    schema = TableSchema(
        "firms",
        ROWS,
        "id",
        "registry",
        (
            Column("sector", "registry", OneHot(SECTORS, missing=True), profiles=DEEP_TOO),
            Column("overdue", "bank-a", Bins(0, (1, 3), 8), profiles=DEEP_TOO),
            Column("region", "registry", Bins(1, (2,), 2), profiles=DEEP_TOO),
            Column("age", "bank-a", Digits(0, 63, 3), profiles=DEEP_TOO),
            Column("turnover", "bank-a", None, 900_000, profiles=DEEP_TOO),
        ),
    )
    schema.validate()
    random = np.random.default_rng(11)
    cells: dict[str, list[Cell]] = {
        "sector": [(*SECTORS, "")[int(i)] for i in random.integers(0, 4, ROWS)],
        "overdue": [int(value) for value in random.integers(0, 9, ROWS)],
        "region": [int(value) for value in random.integers(1, 3, ROWS)],
        "age": [int(value) for value in random.integers(0, 64, ROWS)],
        "turnover": [int(value) for value in random.integers(0, 900_001, ROWS)],
    }
    council = Council("M")
    stored = ("presence.0", "turnover", "sector.", "overdue.", "region.")
    only = [name for name in schema.stored_columns("M") if name.startswith(stored)]
    columns = council.encrypt_table(tmp_path_factory.mktemp("M"), schema, cells, only)
    database = duckdb.connect()
    path = tmp_path_factory.mktemp("firms") / "firms.csv"
    write_csv(path, {name: cells[name] for name in ("sector", "overdue", "region", "turnover")})
    database.execute("CREATE TABLE firms (sector VARCHAR, overdue INT, region INT, turnover INT)")
    database.execute(
        f"INSERT INTO firms SELECT * FROM read_csv('{path}', header = true, all_varchar = true, "
        "nullstr = '')"
    )
    catalog = Catalog(schema, {}, Policy(minimum_group_size=5))
    return Firms(schema, council, columns, catalog, database)


def in_two_chunks(plan: Plan) -> Plan:
    """So that sums of several chunks are chosen from: so few blocks are one chunk otherwise."""
    return msgspec.structs.replace(plan, chunks=split(2, 2))


def totals(firms: Firms, sql: str) -> tuple[Plan, list[bytes]]:
    """Chunk results are the same for every constant."""
    plan = in_two_chunks(plan_query(sql, firms.catalog))
    local = LocalEngine(2)
    return plan, [local.run_chunk(plan, i, firms.columns, [], b"q") for i in (0, 1)]


def hidden(firms: Firms, plan: Plan, value: str) -> tuple[Plan, tuple[bytes, ...]]:
    picks = chosen(private_of(plan), firms.schema, value)
    return encrypted(firms, plan, picks)


def encrypted(firms: Firms, plan: Plan, picks: Sequence[bool]) -> tuple[Plan, tuple[bytes, ...]]:
    record, blobs = encrypt_selectors(plan, picks, 3, firms.council.public_key, SECRET)
    plan = in_two_chunks(plan_query(with_record(plan.sql, record.hash()), firms.catalog))
    require_record(plan, record, 3)
    for blob in blobs:
        require_selector(plan, blob)
    return plan, tuple(blobs)


def opened(
    firms: Firms, plan: Plan, chunks: Sequence[bytes], selectors: Sequence[bytes]
) -> list[int]:
    result = LocalEngine().reduce(plan, chunks, firms.council.relin_key, selectors)
    return firms.council.open_scalars(plan, engine.validate_result(plan, result))


def answer(plan: Plan, residues: Sequence[int]) -> list[tuple[object, ...]]:
    released = [residues[place] for place in released_places(plan)]
    rows = results.assemble(released_plan(plan), released)
    return [tuple(rounded(number(cell)) for cell in row.values) for row in rows]


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        (TRADE, {name: f"'{name}'" for name in SECTORS}),
        (
            "SELECT SUM(turnover), COUNT(*) FROM firms WHERE sector <> PRIVATE(x) AND region = 2",
            {name: f"'{name}'" for name in SECTORS},
        ),
        (
            "SELECT COUNT(*), SUM(turnover) FROM firms WHERE region = 1 AND overdue < PRIVATE(x)",
            {value: value for value in ("0", "1", "3", "9")},
        ),
        ("SELECT COUNT(*) FROM firms WHERE PRIVATE(x) <= overdue", {"1": "1", "3": "3"}),
    ],
)
def test_the_answer_is_sqls_for_every_constant(
    firms: Firms, sql: str, values: dict[str, str]
) -> None:
    plan, chunks = totals(firms, sql)
    for value, shown in values.items():
        asked, selectors = hidden(firms, plan, value)
        residues = opened(firms, asked, chunks, selectors)
        # Of no rows, for a constant below every value, the sum is NULL.
        assert answer(asked, residues) == firms.plaintext(sql, shown)
        require_checks(asked, [residues[place] for place in check_places(asked)])


def test_groups_beside_a_private_constant_are_released_each(firms: Firms) -> None:
    sql = "SELECT region, COUNT(*), SUM(turnover) FROM firms WHERE sector = PRIVATE(x) GROUP BY 1"
    plan, chunks = totals(firms, sql)
    assert plan.aggregate is not None and len(plan.aggregate.groups) == 6
    asked, selectors = hidden(firms, plan, "services")
    residues = opened(firms, asked, chunks, selectors)
    rows = results.assemble(
        released_plan(asked), [residues[place] for place in released_places(asked)]
    )
    found = {tuple(map(str, row.values)) for row in rows}
    expected = firms.database.execute(sql.replace("PRIVATE(x)", "'services'")).fetchall()
    assert found == {tuple(map(str, row)) for row in expected}
    # The council sees every group's count, whatever was chosen.
    counts = [residues[place] for place in gate_places(asked)]
    every = "SELECT COUNT(*) FROM firms WHERE sector = '{}' AND region = {}"
    assert counts[0] == firms.database.execute(every.format("farming", 1)).fetchall()[0][0]
    assert len(counts) == 6 and len(check_places(asked)) == CHECKS


def test_selectors_that_choose_no_whole_category_fail_the_checks(firms: Firms) -> None:
    plan, chunks = totals(firms, "SELECT COUNT(*) FROM firms WHERE sector = PRIVATE(x)")
    one_row = np.zeros(DEEP.slots, dtype="<u8")
    one_row[7] = 1
    lies = {
        "two categories": (1, 1, 0),
        "none": (0, 0, 0),
        "twice one": (2, 0, 0),
        "they add up": (3, DEEP.plain_modulus - 2, 0),
        "one row": (one_row, 0, 0),
        "all rows but one": (1 - one_row, 0, 0),
        "rows of two": (one_row, 1 - one_row, 0),
    }
    asked, honest = hidden(firms, plan, "trade")
    for lie, values in lies.items():
        forged = []
        for place, value in enumerate(values):
            slots = np.full(DEEP.slots, 0, dtype="<u8") + value
            seed = bytes([place]) * 32
            data = slots.astype("<u8").tobytes()
            forged.append(he_encrypt("M", firms.council.public_key, data, seed, plan.limbs))
        residues = opened(firms, asked, chunks, forged)
        checks = [residues[place] for place in check_places(asked)]
        with pytest.raises(PeerFault, match="SELECTORS_MALFORMED"):
            require_checks(asked, checks)
        assert all(checks), lie
    residues = opened(firms, asked, chunks, honest)
    assert not any(residues[place] for place in check_places(asked))


def test_any_whole_categories_pass_where_the_operator_chooses_several(firms: Firms) -> None:
    sql = "SELECT COUNT(*) FROM firms WHERE overdue > PRIVATE(x)"
    plan, chunks = totals(firms, sql)
    for picks in ((True, False, True), (False, False, False)):
        asked, selectors = encrypted(firms, plan, picks)
        residues = opened(firms, asked, chunks, selectors)
        require_checks(asked, [residues[place] for place in check_places(asked)])
        # What comes out is a sum of groups that are treated as opened anyway.
        counts = [residues[place] for place in gate_places(asked)]
        picked = sum(count for count, pick in zip(counts, picks, strict=True) if pick)
        assert residues[released_places(asked)[0]] == picked


def test_nothing_of_a_plan_or_record_depends_on_the_constant(firms: Firms) -> None:
    plan = plan_query(TRADE, firms.catalog)
    shapes = set()
    for value in SECTORS:
        picks = chosen(private_of(plan), firms.schema, value)
        record, blobs = encrypt_selectors(plan, picks, 3, firms.council.public_key, SECRET)
        asked = plan_query(with_record(TRADE, record.hash()), firms.catalog)
        verify_plan(asked, firms.catalog)
        shown = asked.encode() + record.encode() + explain(asked).encode()
        shapes.add(re.sub(rb"[0-9a-f]{64}", b"", shown))
        assert {len(blob) for blob in blobs} == {2 * plan.limbs * DEEP.slots * 8}
    assert len(shapes) == 1
    assert private_name(TRADE) == "x" and private_name(with_record(TRADE, bytes(32))) == ""


def test_noise_stays_below_the_bound_that_the_limbs_are_chosen_by(firms: Firms) -> None:
    sole = SoleKey(DEEP)
    catalog = Catalog(firms.schema, {}, Policy(minimum_group_size=5), parties=1)
    plan = plan_query(TRADE, catalog)
    record, selectors = encrypt_selectors(plan, (False, True, False), 3, sole.public_key, SECRET)
    plan = plan_query(with_record(TRADE, record.hash()), catalog)
    assert plan.aggregate is not None
    random = np.random.default_rng(5)

    def fresh(values: np.ndarray, label: str) -> bytes:
        seed, data = hashlib.sha256(label.encode()).digest(), values.astype("<u8").tobytes()
        return he_encrypt("M", sole.public_key, data, seed, plan.limbs)

    totals = []
    for place in range(len(plan.aggregate.outputs)):
        blocks = []
        for block in ("a", "b"):
            bins = fresh(random.integers(0, 2, DEEP.slots), f"bin {place} {block}")
            cells = fresh(random.integers(0, 900_001, DEEP.slots), f"value {place} {block}")
            blocks.append(he_multiply("M", plan.limbs, bins, cells))
        added = he_add("M", plan.limbs, blocks)
        totals.append(he_relinearise("M", plan.limbs, added, sole.relin_key))
    result = select(plan, totals, selectors, sole.relin_key)
    bits = DEEP.modulus_bits(plan.limbs)
    noise = [bits - sole.key.noise_budget_bits(item, plan.limbs) for item in result]
    assert plan.noise_bits - 8 < max(noise[place] for place in released_places(plan))
    assert max(noise) <= plan.noise_bits <= plan.capacity_bits
    bound = degree_and_noise.selector_check_noise_bits(3, 1)
    checks = [noise[place] for place in check_places(plan)]
    assert bound - 12 < max(checks) <= bound


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT COUNT(*) FROM firms WHERE sector = PRIVATE('trade')", "takes a name"),
        ("SELECT COUNT(*) FROM firms WHERE sector = PRIVATE(a, b)", "takes a name"),
        ("SELECT COUNT(*) FROM firms WHERE sector < PRIVATE(a)", "no order"),
        ("SELECT COUNT(*) FROM firms WHERE age = PRIVATE(a)", "categories or bins"),
        ("SELECT COUNT(*) FROM firms WHERE sector = PRIVATE(a) OR region = 1", "alone or beside"),
        ("SELECT COUNT(*) FROM firms WHERE NOT sector = PRIVATE(a)", "alone or beside"),
        (
            "SELECT COUNT(*) FROM firms WHERE sector = PRIVATE(a) AND overdue < PRIVATE(b)",
            "one PRIVATE comparison",
        ),
        (
            "SELECT COUNT(*) FILTER (WHERE sector = PRIVATE(a)) FROM firms",
            "alone or beside",
        ),
        (
            "SELECT sector, COUNT(*) FROM firms WHERE sector = PRIVATE(a) GROUP BY sector",
            "grouped by, too",
        ),
        (
            "SELECT COUNT(*) FROM firms WHERE sector = PRIVATE(a) AND sector <> 'trade'",
            "every category must be possible",
        ),
        ("SELECT COUNT(*) FROM firms WHERE nothing = PRIVATE(a)", "no such column"),
    ],
)
def test_what_cannot_be_private_is_refused_with_its_reason(
    firms: Firms, sql: str, reason: str
) -> None:
    with pytest.raises(ClientFault, match=reason) as caught:
        plan_query(sql, firms.catalog)
    assert caught.value.code == "SQL_UNSUPPORTED"


@pytest.mark.parametrize(
    ("condition", "value", "reason"),
    [
        ("sector = PRIVATE(x)", "mining", "not a category"),
        ("overdue = PRIVATE(x)", "0.5", "in no bin"),
        ("overdue = PRIVATE(x)", "2", "not a bin of its own"),
        ("overdue < PRIVATE(x)", "2", "not on a bin edge"),
        ("overdue < PRIVATE(x)", "many", "not a number"),
    ],
)
def test_a_constant_the_column_has_not_is_refused_before_anything_leaves(
    firms: Firms, condition: str, value: str, reason: str
) -> None:
    plan = plan_query(f"SELECT COUNT(*) FROM firms WHERE {condition}", firms.catalog)
    with pytest.raises(ClientFault, match=reason):
        chosen(private_of(plan), firms.schema, value)


def test_columns_outside_profile_m_and_five_factors_are_refused(firms: Firms) -> None:
    columns = tuple(
        msgspec.structs.replace(column, profiles=("S36",)) for column in firms.schema.columns
    )
    shallow = TableSchema("firms", ROWS, "id", "registry", columns)
    with pytest.raises(ClientFault, match="not stored in profile M"):
        plan_query(TRADE, Catalog(shallow, {}))
    deep = (
        "SELECT SUM(turnover) FROM firms WHERE sector = PRIVATE(x) AND overdue < 3 AND region = 1"
    )
    with pytest.raises(ClientFault, match="PLAN_TOO_DEEP"):
        plan_query(deep, firms.catalog)


def test_records_and_ciphertexts_of_something_else_are_refused(firms: Firms) -> None:
    plan = plan_query(TRADE, firms.catalog)
    picks, key = (True, False, False), firms.council.public_key
    record, blobs = encrypt_selectors(plan, picks, 3, key, SECRET)
    for field, value in (
        ("table", "others"),
        ("schema_hash", "00" * 32),
        ("epoch", 4),
        ("column", "overdue"),
        ("limbs", plan.limbs - 1),
        ("selectors", record.selectors[:2]),
    ):
        with pytest.raises(PeerFault, match="another query"):
            require_record(plan, msgspec.structs.replace(record, **{field: value}), 3)
    for digest in ("", "zz" * 32, record.selectors[0].upper(), record.selectors[0] + "\n"):
        named = msgspec.structs.replace(record, selectors=(*record.selectors[:2], digest))
        with pytest.raises(PeerFault, match="no hash"):
            require_record(plan, named, 3)
    for bad in (blobs[0][:-8], b"\xff" * len(blobs[0])):
        with pytest.raises(PeerFault, match="it is no ciphertext"):
            require_selector(plan, bad)
    # The same secret and constant give the same bytes: what an auditor compares.
    assert encrypt_selectors(plan, picks, 3, key, SECRET) == (record, blobs)


def test_explain_tells_degree_and_price(firms: Firms) -> None:
    shown = explain(plan_query(TRADE, firms.catalog))
    assert "profile   M" in shown and "degree 3" in shown
    found = re.search(r"sector = PRIVATE: one of 3 selectors; .* about (\d+) times", shown)
    assert found is not None and 3 < int(found[1]) < 60


def of_sectors(count: int, rows: int) -> Catalog:
    names = tuple(f"s{place}" for place in range(count))
    columns = (
        Column("sector", "registry", OneHot(names), profiles=DEEP_TOO),
        Column("overdue", "bank-a", Bins(0, (1, 3), 8), profiles=DEEP_TOO),
        Column("turnover", "statistics", None, 5_000, profiles=DEEP_TOO),
    )
    schema = TableSchema("firms", rows, "id", "registry", columns)
    return Catalog(schema, {}, parties=6)


@pytest.mark.parametrize("rows", [10_000, 1_000_000])
@pytest.mark.parametrize("answers", ["COUNT(*)", "COUNT(*), SUM(turnover)"])
@pytest.mark.parametrize("further", ["", " AND overdue < 3"])
def test_explain_compares_with_the_plan_of_the_same_text_shown(
    answers: str, further: str, rows: int
) -> None:
    for count in (2, 8):
        catalog = of_sectors(count, rows)
        text = f"SELECT {answers} FROM firms WHERE sector = "
        plan = plan_query(f"{text}PRIVATE(x){further}", catalog)
        shown = plan_query(f"{text}'s0'{further}", catalog)
        factor = plan.cost.bytes_read / shown.cost.bytes_read
        assert f"about {factor:.0f} times the bytes" in explain(plan)
        # docs/explanation/private-constants.md
        low, high = (1.1, 1.8) if rows == 1_000_000 else (1.3, 4)
        assert low < factor / count < high


@pytest.mark.parametrize(
    ("answers", "further", "categories"),
    [
        ("COUNT(*)", "", 46),
        ("COUNT(*)", " AND overdue < 3", 28),
        ("COUNT(*), SUM(turnover)", "", 17),
        ("COUNT(*), SUM(turnover)", " AND overdue < 3", 10),
    ],
)
def test_so_many_categories_fit_a_blob(answers: str, further: str, categories: int) -> None:
    """docs/explanation/private-constants.md."""
    for count, fits in ((categories, True), (categories + 1, False)):
        text = f"SELECT {answers} FROM firms WHERE sector = PRIVATE(x){further}"
        plan = plan_query(text, of_sectors(count, 60))
        assert (result_size_bytes(plan) <= BLOB_SIZE_MAX_BYTES) == fits
