"""Several scorecards in one query: one pass over the columns, every model scores as if alone."""

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from he_council import Council

from chainnode._native import HeSecretKey
from chainnode.he import encode, engine, results
from chainnode.he.encode import Cell
from chainnode.he.engine import LocalEngine
from chainnode.he.plan import Plan
from chainnode.he.private_points import encrypt_points
from chainnode.he.profiles import ProfileName
from chainnode.he.schema import Bins, Column, OneHot, TableSchema
from chainnode.he.scorecard import FeaturePoints, Scorecard
from chainnode.he.sql import Catalog, explain, plan_query, verify_plan
from chainnode.sdk.scoring import plan_shape, result_size_bytes
from chainnode.types.errors import ClientFault, PeerFault
from chainnode.types.limits import SCORE_MODELS_MAX

ROWS = 17_000
QUERY = b"several models"
DEEP_TOO: tuple[ProfileName, ...] = ("S", "M")
BOTH = "SELECT CREDIT_SCORE('sectors'), CREDIT_SCORE('late'), CREDIT_SCORE('all') FROM loans"
SCHEMA = TableSchema(
    "loans",
    ROWS,
    "id",
    "registry",
    (
        Column(
            "sector", "registry", OneHot(("farming", "trade"), missing=True), profiles=("S", "M")
        ),
        Column("overdue", "bank-a", Bins(0, (1, 3), 120), profiles=DEEP_TOO),
    ),
)
IDS = [f"E{row:05d}" for row in range(ROWS)]
SECTOR = FeaturePoints("sector", (12, 0), -31)
LATE = FeaturePoints("overdue", (40, -5, -290))


def card(name: str, offset: int, *features: FeaturePoints) -> Scorecard:
    return Scorecard(name, "loans", SCHEMA.hash().hex(), offset, features)


CARDS = (card("sectors", 500, SECTOR), card("late", -7, LATE), card("all", 612, SECTOR, LATE))
CATALOG = Catalog(SCHEMA, {model.name: model for model in CARDS})


@pytest.fixture(scope="module")
def cells() -> dict[str, list[Cell]]:
    random = np.random.default_rng(11)
    return {
        "sector": [("farming", "trade", "")[int(i)] for i in random.integers(0, 3, ROWS)],
        "overdue": [int(value) for value in random.integers(0, 9, ROWS)],
    }


def opened(council: Council, plan: Plan, result: bytes) -> list[bytes]:
    bank = HeSecretKey.generate(plan.profile)
    switched = [
        council.switch(plan, item, bank.public_key())
        for item in engine.validate_result(plan, result)
    ]
    return [bank.decrypt(block, plan.limbs) for block in switched]


def chunks(plan: Plan, columns: object, mask: Sequence[bytes], threads: int = 1) -> list[bytes]:
    local = LocalEngine(threads)
    return [
        local.run_chunk(plan, index, columns, mask, QUERY)  # type: ignore[arg-type]
        for index in range(len(plan.chunks))
    ]


def test_each_model_gives_its_own_scores_whatever_the_split(
    cells: dict[str, list[Cell]], tmp_path: Path
) -> None:
    council = Council("S")
    columns = council.encrypt_table(tmp_path, SCHEMA, cells)
    plan = plan_query(BOTH, CATALOG, chunk_count=2)
    verify_plan(plan, CATALOG)
    keep = np.arange(ROWS) % 5 != 2
    mask = encode.mask_blocks(keep, ROWS, "S")
    result = LocalEngine().reduce(plan, chunks(plan, columns, mask), b"")
    whole = plan_query(BOTH, CATALOG, chunk_count=1)
    assert LocalEngine().reduce(whole, chunks(whole, columns, mask, threads=2), b"") == result
    slots = opened(council, plan, result)
    found = results.open_models(plan, slots, mask, IDS, QUERY)
    assert list(found) == ["sectors", "late", "all"]
    for model in CARDS:
        plaintext = model.score(SCHEMA, cells)
        assert found[model.name] == {IDS[row]: int(plaintext[row]) for row in np.flatnonzero(keep)}
    # Vectors in another order, or one of another query, are noticed.
    for wrong in ([slots[1], slots[0], *slots[2:]], [*slots[:3], *slots[:3], *slots[6:]]):
        with pytest.raises(PeerFault, match="a sentinel value is wrong"):
            results.open_models(plan, wrong, mask, IDS, QUERY)


def test_a_column_is_read_once_for_all_models() -> None:
    plan, alone = plan_query(BOTH, CATALOG), plan_query(BOTH.split(",")[0] + " FROM loans", CATALOG)
    every = plan_query("SELECT CREDIT_SCORE('all') FROM loans", CATALOG)
    assert plan.cost.bytes_read == every.cost.bytes_read
    assert plan.cost.result_bytes == 3 * every.cost.result_bytes
    assert (result_size_bytes(plan), plan_shape(plan)["output_count"]) == (
        3 * result_size_bytes(every),
        3 * SCHEMA.block_count("S"),
    )
    assert len(re.findall(r"  model     (\w+)", explain(plan))) == 3
    # A plan of one model has the bytes it always had.
    assert b"further_scores" in plan.encode() and b"further_scores" not in alone.encode()
    assert Plan.decode(plan.encode()) == plan


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT CREDIT_SCORE('late'), CREDIT_SCORE('late') FROM loans", "each once"),
        ("SELECT CREDIT_SCORE('late'), CREDIT_SCORE('nobody') FROM loans", "no such model"),
        (
            "SELECT SCORE_BAND('late', 5), CREDIT_SCORE('all'), COUNT(*) FROM loans GROUP BY 1",
            "stands before",
        ),
        ("SELECT CREDIT_SCORE('all'), CREDIT_SCORE('late'), COUNT(*) FROM loans", "beside the id"),
    ],
)
def test_what_cannot_be_scored_together_is_refused(sql: str, reason: str) -> None:
    with pytest.raises(ClientFault, match=reason) as caught:
        plan_query(sql, CATALOG)
    assert caught.value.code == "SQL_UNSUPPORTED"


def test_the_id_may_stand_beside_several_scores() -> None:
    sql = "SELECT id, CREDIT_SCORE('late'), CREDIT_SCORE('all') FROM loans WHERE id = 'E00007'"
    plan = plan_query(sql, CATALOG)
    assert [part.model for part in plan.score_parts()] == ["late", "all"]
    assert {part.ids for part in plan.score_parts()} == {("E00007",)}


def test_more_models_than_the_limit_are_refused() -> None:
    many = [msgspec.structs.replace(CARDS[0], name=f"m{i}") for i in range(SCORE_MODELS_MAX + 1)]
    catalog = Catalog(SCHEMA, {model.name: model for model in many})
    calls = [f"CREDIT_SCORE('{model.name}')" for model in many]
    plan = plan_query(f"SELECT {', '.join(calls[:-1])} FROM loans", catalog)
    assert len(plan.score_parts()) == SCORE_MODELS_MAX
    with pytest.raises(ClientFault, match=f"at most {SCORE_MODELS_MAX} models"):
        plan_query(f"SELECT {', '.join(calls)} FROM loans", catalog)


def test_private_points_are_asked_alone() -> None:
    council = Council("M")
    record, _ = encrypt_points(CARDS[2], SCHEMA, 3, 4, council.public_key, b"s" * 32)
    catalog = Catalog(SCHEMA, {"late": CARDS[1], "all": record})
    with pytest.raises(ClientFault, match="private points is asked alone"):
        plan_query("SELECT CREDIT_SCORE('late'), CREDIT_SCORE('all') FROM loans", catalog)
