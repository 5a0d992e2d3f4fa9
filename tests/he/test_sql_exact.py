"""Encrypted answers equal plaintext ones, from key generation to release by four key holders."""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

import duckdb
import msgspec
import numpy as np
import pytest
from he_council import Council

from chainnode._native import HeColumns, HeSecretKey
from chainnode.he import encode, engine, results
from chainnode.he.encode import Cell
from chainnode.he.engine import LocalEngine
from chainnode.he.plan import Plan
from chainnode.he.planner.chunks import split
from chainnode.he.results import Average
from chainnode.he.schema import TableSchema
from chainnode.he.scorecard import Scorecard
from chainnode.he.sql import Catalog, plan_query
from chainnode.types.errors import PeerFault

QUERY_ID = b"query-1"


@dataclasses.dataclass
class Encrypted:
    council: Council
    columns: HeColumns


@pytest.fixture(scope="session")
def sums(
    schema: TableSchema, firms: dict[str, list[Cell]], tmp_path_factory: pytest.TempPathFactory
) -> Encrypted:
    council = Council("S36")
    return Encrypted(council, council.encrypt_table(tmp_path_factory.mktemp("S36"), schema, firms))


@pytest.fixture(scope="session")
def scores(
    schema: TableSchema, firms: dict[str, list[Cell]], tmp_path_factory: pytest.TempPathFactory
) -> Encrypted:
    council = Council("S")
    return Encrypted(council, council.encrypt_table(tmp_path_factory.mktemp("S"), schema, firms))


def compute(plan: Plan, data: Encrypted, mask: Sequence[bytes] = (), threads: int = 1) -> bytes:
    local = LocalEngine(threads)
    chunks = [
        local.run_chunk(plan, index, data.columns, mask, QUERY_ID)
        for index in range(len(plan.chunks))
    ]
    return local.reduce(plan, chunks, data.council.relin_key)


QUERIES = [
    ("SELECT COUNT(*), SUM(turnover) FROM firms", ""),
    ("SELECT COUNT(*), SUM(turnover), AVG(turnover) FROM firms WHERE overdue < 3", ""),
    ("SELECT SUM(debt), SUM(turnover - 3 * staff) FROM firms WHERE NOT (ratio < 0.5)", ""),
    ("SELECT SUM(staff - turnover) FROM firms WHERE sector IN ('trade', 'farming')", ""),
    ("SELECT COUNT(*) FROM firms WHERE sector = 'trade' OR overdue BETWEEN 1 AND 5", ""),
    (
        "SELECT COUNT(*) FROM firms WHERE (sector = 'trade' AND region = '2') "
        "OR (sector <> 'trade' AND NOT ratio >= 0)",
        "",
    ),
    ("SELECT sector, COUNT(*), AVG(turnover), SUM(staff) FROM firms GROUP BY sector", "sector"),
    ("SELECT region, COUNT(*) FROM firms WHERE overdue >= 6 GROUP BY region", "region"),
    ("SELECT COUNT(*) FROM firms WHERE age BETWEEN 37 AND 801", ""),
    ("SELECT SUM(price * (1 - discount)), SUM(discount * age), COUNT(age) FROM firms", ""),
    ("SELECT SUM(CASE WHEN region = '1' THEN staff ELSE 2 END), SUM(staff + 1) FROM firms", ""),
    ("SELECT SUM(paid) FILTER (WHERE sector LIKE 't%') FROM firms WHERE region = '2'", ""),
    ("SELECT COUNT(*) FROM firms WHERE lenders > courts OR lenders = courts", ""),
    ("SELECT SUM(staff) FROM firms WHERE sector IS NULL AND region = '1'", ""),
    ("SELECT COUNT(*) FROM firms WHERE founded >= DATE '2010-01-01' AND NOT ratio < 0", ""),
    ("SELECT COUNT(*), SUM(staff) FROM firms WHERE sector = 'trade' AND region = '1'", ""),
]


@pytest.mark.parametrize(("sql", "group"), QUERIES)
def test_encrypted_sql_equals_the_database(
    sql: str,
    group: str,
    catalog: Catalog,
    sums: Encrypted,
    database: duckdb.DuckDBPyConnection,
) -> None:
    plan = plan_query(sql, catalog)
    ciphertexts = engine.validate_result(plan, compute(plan, sums))
    rows = results.assemble(plan, sums.council.open_scalars(plan, ciphertexts))
    answered = {
        "NULL" if None in label else ", ".join(label): tuple(
            item.exact() if isinstance(item, Average) else item for item in row.values
        )
        for label, row in zip(plan.aggregate.groups, rows, strict=True)
    }
    exact = sql.replace("AVG(turnover)", "{'total': SUM(turnover), 'count': COUNT(*)}")
    key = f"COALESCE({group}, 'NULL')" if group else "''"
    expected = {}
    for *values, label in database.execute(exact.replace(" FROM ", f", {key} FROM ", 1)).fetchall():
        expected[label] = tuple(
            Fraction(int(item["total"]), item["count"]) if isinstance(item, dict) else item
            for item in values
        )
    assert answered == expected


def test_split_and_threads_never_change_a_byte(catalog: Catalog, sums: Encrypted) -> None:
    sql = "SELECT region, COUNT(*), SUM(debt) FROM firms GROUP BY region"
    alone = plan_query(sql, catalog, chunk_count=2)
    # Two blocks are read sooner than two sets of sums are sent.
    assert alone.chunks == ((0, 2),)
    parted = msgspec.structs.replace(alone, chunks=split(2, 2))
    assert compute(alone, sums) == compute(parted, sums, threads=2)


def test_a_wrong_share_never_becomes_a_number(catalog: Catalog, sums: Encrypted) -> None:
    plan = plan_query("SELECT COUNT(*) FROM firms", catalog)
    ciphertext = engine.validate_result(plan, compute(plan, sums))[0]
    right = sums.council.open_scalars(plan, [ciphertext])
    assert results.assemble(plan, right)[0].values == (9_000,)
    with pytest.raises(PeerFault) as caught:
        results.assemble(plan, [(right[0] + 12_345_678_901) % 68_719_230_977])
    assert caught.value.code == "WRONG_SHARE"
    with pytest.raises(PeerFault):
        results.lift(plan, 0, 9_001)


def test_negative_sums_are_lifted_to_their_range(catalog: Catalog) -> None:
    plan = plan_query("SELECT SUM(staff - turnover) FROM firms", catalog)
    modulus = 68_719_230_977
    low, high = -9_000 * 5_000_000, 9_000 * 9_999
    assert results.lift(plan, 1, low % modulus) == low
    assert results.lift(plan, 1, high) == high
    for outside in (low - 1, high + 1):
        with pytest.raises(PeerFault):
            results.lift(plan, 1, outside % modulus)


def test_small_groups_are_refused_by_name(catalog: Catalog) -> None:
    plan = plan_query("SELECT region, COUNT(*), SUM(staff) FROM firms GROUP BY region", catalog)
    assert plan.sums().gates() == (0, 2)
    assert results.group_outputs(plan, 1) == (2, 3)
    rows = results.assemble(plan, [4, 99, 5, 77])
    assert rows[0].values == ("1", None, None) and rows[0].refused == "group too small"
    assert rows[1].values == ("2", 5, 77) and rows[1].refused == ""
    assert results.assemble(plan, [None, None, 5, 77]) == rows


@pytest.mark.parametrize("asked", ["", " WHERE id IN ('E000003', 'E008999', 'E008128')"])
def test_encrypted_scores_equal_the_scorecard(
    asked: str,
    catalog: Catalog,
    schema: TableSchema,
    model: Scorecard,
    firms: dict[str, list[Cell]],
    ids: Sequence[str],
    scores: Encrypted,
) -> None:
    plan = plan_query(f"SELECT CREDIT_SCORE('m1') FROM firms{asked}", catalog)
    consent = np.arange(schema.rows) % 7 != 5
    keep = encode.selected_rows(plan, ids) & consent
    mask = encode.mask_blocks(keep, schema.rows)
    bank = HeSecretKey.generate("S")
    slots = open_blocks(plan, scores, mask, bank)
    opened = results.open_scores(plan, slots, mask, ids, QUERY_ID)
    plaintext = model.score(schema, firms)
    assert opened == {ids[row]: int(plaintext[row]) for row in np.flatnonzero(keep)}
    assert len(opened) == (int(consent.sum()) if not asked else int(keep.sum()))
    outside = encode.unpack(slots, schema.rows)[~keep]
    assert not outside.any()


def open_blocks(
    plan: Plan, data: Encrypted, mask: Sequence[bytes], bank: HeSecretKey
) -> list[bytes]:
    target = bank.public_key()
    result = engine.validate_result(plan, compute(plan, data, mask))
    switched = [data.council.switch(plan, ciphertext, target) for ciphertext in result]
    return [bank.decrypt(ciphertext, plan.limbs) for ciphertext in switched]


def test_wrong_sentinels_masked_slots_and_ranges_are_wrong_shares(
    catalog: Catalog, schema: TableSchema, ids: Sequence[str]
) -> None:
    plan = plan_query("SELECT CREDIT_SCORE('m1') FROM firms", catalog)
    keep = np.ones(schema.rows, dtype=np.bool_)
    keep[17] = False
    mask = encode.mask_blocks(keep, schema.rows)
    good = [engine.public_addend(plan.scores, block, QUERY_ID, i) for i, block in enumerate(mask)]
    assert results.open_scores(plan, good, mask, ids, QUERY_ID)["E000000"] == 500
    for position, value in ((8_191, 1), (17, 3), (18, 40_000)):
        changed = np.frombuffer(good[0], dtype="<u8").copy()
        changed[position] = value
        with pytest.raises(PeerFault) as caught:
            results.open_scores(plan, [changed.tobytes(), good[1]], mask, ids, QUERY_ID)
        assert caught.value.code == "WRONG_SHARE"


def test_containers_refuse_damaged_framing(catalog: Catalog) -> None:
    data = engine.pack_container([b"abc", b""])
    assert engine.unpack_container(data) == [b"abc", b""]
    for bad in (b"", data[:-1], data + b"x", b"\xff" * 4, data[:6]):
        with pytest.raises(PeerFault) as caught:
            engine.unpack_container(bad)
        assert caught.value.code == "RESULT_MALFORMED"
    plan = plan_query("SELECT COUNT(*) FROM firms", catalog)
    for bad in (data, engine.pack_container([b"abc"]), engine.pack_container([b"\xff" * 524_288])):
        with pytest.raises(PeerFault) as caught:
            engine.validate_result(plan, bad)
        assert caught.value.code == "RESULT_MALFORMED"


def test_a_share_of_a_stranger_fails_before_any_score(
    catalog: Catalog, schema: TableSchema, ids: Sequence[str], scores: Encrypted
) -> None:
    plan = plan_query("SELECT CREDIT_SCORE('m1') FROM firms", catalog)
    mask = encode.mask_blocks(np.ones(schema.rows, dtype=np.bool_), schema.rows)
    council = scores.council
    honest = council.keys
    council.keys = [HeSecretKey.generate("S"), *honest[1:]]
    try:
        slots = open_blocks(plan, scores, mask, HeSecretKey.generate("S"))
    finally:
        council.keys = honest
    with pytest.raises(PeerFault) as caught:
        results.open_scores(plan, slots, mask, ids, QUERY_ID)
    assert caught.value.code == "WRONG_SHARE"


def test_a_plan_of_the_other_kind_is_not_computed(catalog: Catalog) -> None:
    plan = plan_query("SELECT COUNT(*) FROM firms", catalog)
    empty = msgspec.structs.replace(plan, aggregate=None)
    with pytest.raises(Exception, match="PLAN_KIND"):
        results.group_outputs(empty, 0)
