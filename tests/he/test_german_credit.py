"""German credit: a scorecard fitted on one half scores the other half encrypted, bit for bit."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from he_council import Council

from chainnode._native import HeSecretKey
from chainnode.he import encode, engine, results
from chainnode.he.engine import LocalEngine
from chainnode.he.schema import Bins, Column, OneHot, TableSchema
from chainnode.he.scorecard import Scorecard
from chainnode.he.sql import Catalog, plan_query
from chainnode.sdk.fitting import fit_bins, fit_scorecard
from chainnode.sdk.source_table import SourceTable, read_source

PATH = Path(__file__).with_name("data") / "german_credit.csv"
QUERY_ID = hashlib.sha256(b"german credit").digest()
NUMBERS = {
    "duration_in_month": (1, 120),
    "credit_amount": (0, 20_000),
    "age_in_years": (18, 100),
    "installment_rate_in_percentage_of_disposable_income": (1, 4),
    "present_residence_since": (1, 4),
    "number_of_existing_credits_at_this_bank": (1, 10),
    "number_of_people_being_liable_to_provide_maintenance_for": (1, 10),
}


def schema_of(table: SourceTable, rows: int, bad: np.ndarray) -> TableSchema:
    """Bins fitted on the history, every category that occurs."""
    columns = []
    for name, cells in table.columns.items():
        if name == "creditability":
            continue
        encoding: Bins | OneHot
        if name in NUMBERS:
            encoding = fit_bins(name, cells[:500], bad[:500], *NUMBERS[name])
        else:
            encoding = OneHot(tuple(sorted({str(cell).strip() for cell in cells})))
        columns.append(Column(name, "bank", encoding, profiles=("S",)))
    schema = TableSchema("credits", rows, "id", "bank", tuple(columns))
    schema.validate()
    return schema


@pytest.fixture(scope="module")
def table() -> SourceTable:
    return read_source(PATH)


def test_encrypted_scores_of_german_credit_are_bit_equal(
    table: SourceTable, tmp_path: Path
) -> None:
    bad = np.array([cell == "bad" for cell in table.column("creditability")])
    schema = schema_of(table, 500, bad)
    card: Scorecard = fit_scorecard(
        schema, {name: cells[:500] for name, cells in table.columns.items()}, bad[:500], "g"
    )
    assert len(card.features) >= 8
    held_out = {column.name: table.column(column.name)[500:] for column in schema.columns}
    plain = card.score(schema, held_out)
    ids = [f"C{row}" for row in range(500)]
    plan = plan_query("SELECT CREDIT_SCORE('g') FROM credits", Catalog(schema, {"g": card}))
    council, bank = Council("S"), HeSecretKey.generate("S")
    columns = council.encrypt_table(tmp_path, schema, held_out, set(plan.columns()))
    mask = encode.mask_blocks(np.ones(500, dtype=np.bool_), 500)
    local = LocalEngine()
    result = local.reduce(plan, [local.run_chunk(plan, 0, columns, mask, QUERY_ID)], b"")
    switched = [
        council.switch(plan, one, bank.public_key()) for one in engine.validate_result(plan, result)
    ]
    slots = [bank.decrypt(one, plan.limbs) for one in switched]
    scores = results.open_scores(plan, slots, mask, ids, QUERY_ID)
    assert [scores[name] for name in ids] == plain.tolist()
    # The scorecard is worth something on the half it has not seen.
    assert area(plain, bad[500:]) > 0.70


def area(scores: np.ndarray, bad: np.ndarray) -> float:
    """Probability that a good case scores above a bad one, ties half (Mann and Whitney 1947)."""
    good, poor = scores[~bad][:, None], scores[bad][None, :]
    return float((good > poor).mean() + (good == poor).mean() / 2)
