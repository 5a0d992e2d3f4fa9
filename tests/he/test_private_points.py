"""Scores from encrypted points equal those of the scorecard, and nothing else about it changes."""

import dataclasses
import re
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from he_council import PARTIES, Council

from chainnode._native import HeColumns, HeSecretKey
from chainnode.he import encode, engine, results
from chainnode.he.encode import Cell
from chainnode.he.engine import LocalEngine
from chainnode.he.plan import Plan
from chainnode.he.planner import degree_and_noise
from chainnode.he.private_points import (
    EncryptedPoints,
    PrivateScorecard,
    check_points,
    decode_model,
    encrypt_points,
    require_point,
)
from chainnode.he.profiles import DEEP
from chainnode.he.schema import Bins, Column, OneHot, TableSchema
from chainnode.he.scorecard import FeaturePoints, Scorecard
from chainnode.he.sql import Catalog, explain, plan_query, verify_plan
from chainnode.types.errors import ClientFault, PeerFault

ROWS = 17_000
SECRET = b"\x07" * 32
QUERY_ID = b"private-query"
BOTH = ("S", "M")


@dataclasses.dataclass
class Scored:
    schema: TableSchema
    card: Scorecard
    cells: dict[str, list[Cell]]
    council: Council
    columns: HeColumns
    record: PrivateScorecard
    blobs: list[bytes]
    catalog: Catalog

    def points(self) -> EncryptedPoints:
        for place, blob in enumerate(self.blobs):
            require_point(self.record, place, blob)
        return EncryptedPoints(self.blobs[0], tuple(self.blobs[1:]), self.council.relin_key)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    schema = TableSchema(
        "loans",
        ROWS,
        "id",
        "registry",
        (
            Column("sector", "registry", OneHot(("farming", "trade"), missing=True), profiles=BOTH),
            Column("overdue", "bank-a", Bins(0, (1, 3), 120), profiles=BOTH),
        ),
    )
    schema.validate()
    card = Scorecard(
        "hidden",
        "loans",
        schema.hash().hex(),
        612,
        (
            FeaturePoints("sector", (12, 0), -31),
            FeaturePoints("overdue", (40, -5, -290)),
        ),
    )
    random = np.random.default_rng(11)
    cells: dict[str, list[Cell]] = {
        "sector": [("farming", "trade", "")[int(i)] for i in random.integers(0, 3, ROWS)],
        "overdue": [int(value) for value in random.integers(0, 9, ROWS)],
    }
    council = Council("M")
    columns = council.encrypt_table(tmp_path_factory.mktemp("M"), schema, cells)
    record, blobs = encrypt_points(card, schema, 3, PARTIES, council.public_key, SECRET)
    public = msgspec.structs.replace(card, name="shown")
    catalog = Catalog(schema, {"hidden": decode_model(record.encode()), "shown": public})
    return Scored(schema, card, cells, council, columns, record, blobs, catalog)


def opened(
    scored: Scored, plan: Plan, keep: np.ndarray, ids: Sequence[str], threads: int = 2
) -> tuple[dict[str, int], list[bytes]]:
    mask = encode.mask_blocks(keep, ROWS, plan.profile)
    local, points = LocalEngine(threads), scored.points()
    chunks = [
        local.run_chunk(plan, index, scored.columns, mask, QUERY_ID, points)
        for index in range(len(plan.chunks))
    ]
    result = engine.validate_result(plan, local.reduce(plan, chunks, scored.council.relin_key))
    bank = HeSecretKey.generate(plan.profile)
    target = bank.public_key()
    switched = [scored.council.switch(plan, ciphertext, target) for ciphertext in result]
    assert all(bank.noise_budget_bits(block, plan.limbs) >= 1 for block in switched)
    slots = [bank.decrypt(block, plan.limbs) for block in switched]
    return results.open_scores(plan, slots, mask, ids, QUERY_ID), slots


def test_private_scores_equal_the_scorecard(scored: Scored) -> None:
    plan = plan_query("SELECT CREDIT_SCORE('hidden') FROM loans", scored.catalog)
    ids = [f"E{row:05d}" for row in range(ROWS)]
    keep = np.arange(ROWS) % 5 != 2
    found, slots = opened(scored, plan, keep, ids)
    plaintext = scored.card.score(scored.schema, scored.cells)
    assert found == {ids[row]: int(plaintext[row]) for row in np.flatnonzero(keep)}
    assert not encode.unpack(slots, ROWS, plan.profile)[~keep].any()
    assert len(slots) == 2


def test_a_plan_shows_no_point_and_is_the_one_of_its_text(scored: Scored) -> None:
    plan = plan_query("SELECT CREDIT_SCORE('hidden') FROM loans WHERE id = 'E1'", scored.catalog)
    verify_plan(plan, scored.catalog)
    assert plan.has_private_points()
    assert plan.scores is not None and plan.scores.points.weights == ()
    assert (plan.scores.offset, plan.scores.minimum, plan.scores.maximum) == (0, -1024, 1024)
    # Zero points have ciphertexts too.
    assert len(plan.scored_columns()) == 6 and len(scored.record.points) == 7
    public = plan_query("SELECT CREDIT_SCORE('shown') FROM loans", scored.catalog)
    assert not public.has_private_points() and public.profile == "S"
    shown = explain(plan)
    assert "degree 2" in shown and "7 ciphertexts" in shown
    assert "products, 2 relinearisations" in shown
    factor = re.search(r"([0-9.]+) times the bytes", shown)
    assert factor is not None and 2 < float(factor[1]) < 20
    assert "private" not in explain(public)


def test_the_limbs_are_the_fewest_whose_flooding_hides_the_noise(scored: Scored) -> None:
    plan = plan_query("SELECT CREDIT_SCORE('hidden') FROM loans", scored.catalog)
    assert plan.noise_bits == degree_and_noise.private_score_noise_bits(6, PARTIES)
    room = [degree_and_noise.vector_capacity_bits(PARTIES, DEEP, limbs) for limbs in range(8)]
    assert room[plan.limbs - 1] < plan.noise_bits <= room[plan.limbs] == plan.capacity_bits
    assert plan.limbs == scored.record.limbs


def test_an_auditor_encrypts_again_and_names_what_differs(scored: Scored) -> None:
    key, schema = scored.council.public_key, scored.schema
    check_points(scored.record, scored.card, schema, PARTIES, key, SECRET)
    other = msgspec.structs.replace(scored.card, offset=613)
    for card, secret in ((other, SECRET), (scored.card, b"\x08" * 32)):
        with pytest.raises(PeerFault) as caught:
            check_points(scored.record, card, schema, PARTIES, key, secret)
        assert caught.value.code == "PRIVATE_POINTS_DIFFER"
    # One seed never encrypts two values: other points change every ciphertext.
    again, _ = encrypt_points(other, schema, 3, PARTIES, key, SECRET)
    assert not set(again.points) & set(scored.record.points)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("features", ("sector",), "one ciphertext"),
        ("features", ("sector", "sector"), "each once"),
        ("features", ("sector", "nothing"), "no such column"),
        ("schema_hash", "00" * 32, "another schema"),
        ("bound", 1_000, "power of two"),
        ("bound", 512, "power of two"),
        ("bound", 1 << 40, "power of two"),
        ("limbs", 8, "limbs"),
        ("points", (), "one ciphertext"),
        ("points", ("no hash",) * 7, "named by their hashes"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(
    scored: Scored, field: str, value: object, reason: str
) -> None:
    changed = msgspec.structs.replace(scored.record, **{field: value})
    catalog = msgspec.structs.replace(scored.catalog, models={"hidden": changed})
    with pytest.raises(ClientFault, match=reason) as caught:
        plan_query("SELECT CREDIT_SCORE('hidden') FROM loans", catalog)
    assert caught.value.code == "MODEL_INVALID"


def test_points_of_another_council_or_no_ciphertexts_are_refused(scored: Scored) -> None:
    fewer = msgspec.structs.replace(scored.record, limbs=scored.record.limbs - 1)
    catalog = msgspec.structs.replace(scored.catalog, models={"hidden": fewer})
    with pytest.raises(ClientFault) as stale:
        plan_query("SELECT CREDIT_SCORE('hidden') FROM loans", catalog)
    assert stale.value.code == "MODEL_STALE"
    for bad in (scored.blobs[1][:-8], b"\xff" * len(scored.blobs[1])):
        with pytest.raises(PeerFault, match="ciphertext 1") as caught:
            require_point(scored.record, 1, bad)
        assert caught.value.code == "PRIVATE_POINTS_MALFORMED"


def test_features_not_stored_in_the_deep_profile_are_refused(scored: Scored) -> None:
    columns = tuple(
        msgspec.structs.replace(column, profiles=("S",)) for column in scored.schema.columns
    )
    schema = msgspec.structs.replace(scored.schema, columns=columns)
    card = msgspec.structs.replace(scored.card, schema_hash=schema.hash().hex())
    with pytest.raises(ClientFault, match="not stored in profile M"):
        encrypt_points(card, schema, 3, PARTIES, scored.council.public_key, SECRET)
