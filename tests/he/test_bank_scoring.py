"""Scorecards trained on the real cases: quality, no leaking features, errors on strange files."""

from pathlib import Path

import numpy as np
import pytest
from he_council import Council
from sklearn.metrics import roc_auc_score, roc_curve

from chainnode._native import HeSecretKey
from chainnode.he import encode, engine, results
from chainnode.he.schema import TableSchema
from chainnode.he.scorecard import Scorecard
from chainnode.he.sql import Catalog, plan_query
from chainnode.types.errors import ClientFault
from examples.bank_scoring import training

LEAKING = [
    "MIS_Status",
    "Default",
    "ChgOffDate",
    "ChgOffPrinGr",
    "BalanceGross",
    "xx",
    "daysterm",
    "DisbursementDate",
    "DisbursementGross",
    "ApprovalDate",
    "ApprovalFY",
    "Name",
    "LoanNr_ChkDgt",
]


@pytest.fixture(scope="module")
def halves() -> tuple[list[training.Case], list[training.Case]]:
    return training.split(training.load_cases())


@pytest.fixture(scope="module")
def loans(halves: tuple[list[training.Case], list[training.Case]]) -> TableSchema:
    return training.build_schema(halves[0], len(halves[1]))


@pytest.mark.parametrize(
    ("with_term", "auc_min", "ks_min"), [(True, 0.90, 0.72), (False, 0.74, 0.42)]
)
def test_scorecards_rank_the_held_out_half(
    halves: tuple[list[training.Case], list[training.Case]],
    loans: TableSchema,
    with_term: bool,
    auc_min: float,
    ks_min: float,
) -> None:
    model = training.train(halves[0], loans, "m", with_term)
    scores = model.score(loans, training.cells(halves[1]))
    bad = training.outcomes(halves[1])
    auc = training.area_under_curve(scores, bad)
    ks = training.kolmogorov_smirnov(scores, bad)
    assert auc == pytest.approx(roc_auc_score(~bad, scores))
    false_rate, true_rate, _ = roc_curve(~bad, scores)
    assert ks == pytest.approx(np.max(true_rate - false_rate))
    assert auc > auc_min and ks > ks_min
    assert ("Term" in [item.feature for item in model.features]) is with_term
    low, high = model.bounds()
    assert low <= scores.min() <= scores.max() <= high < 65_537


def test_no_feature_knows_the_outcome(loans: TableSchema) -> None:
    assert len(halves_rows := training.load_cases()) == 2_101
    assert set(LEAKING) <= set(halves_rows[0])
    assert not set(LEAKING) & {column.name for column in loans.columns}
    owners = {column.owner for column in loans.columns}
    assert owners == {"bank-a", "guarantor", "statistics"}


def test_training_is_repeatable_and_models_are_canonical(
    halves: tuple[list[training.Case], list[training.Case]], loans: TableSchema
) -> None:
    model = training.train(halves[0], loans)
    assert training.train(halves[0], loans).hash() == model.hash()
    assert Scorecard.decode(model.encode()) == model


def test_a_model_of_another_schema_is_refused(
    halves: tuple[list[training.Case], list[training.Case]], loans: TableSchema
) -> None:
    model = training.train(halves[0], loans)
    with pytest.raises(ClientFault) as caught:
        model.validate(training.build_schema(halves[0], 7))
    assert caught.value.code == "MODEL_INVALID"


def test_resample_is_seeded_and_has_new_ids(
    halves: tuple[list[training.Case], list[training.Case]],
) -> None:
    drawn = training.resample(halves[1], 3_000, seed=5)
    assert drawn == training.resample(halves[1], 3_000, seed=5)
    assert drawn != training.resample(halves[1], 3_000, seed=6)
    assert len(set(training.registry_ids(drawn))) == 3_000


def test_money_is_split_into_limbs_when_a_large_table_would_wrap(
    halves: tuple[list[training.Case], list[training.Case]],
) -> None:
    column = training.build_schema(halves[0], 100_000).column("GrAppv")
    assert column is not None and column.value_limb_bits == 16


HEADER = ",".join(training.REQUIRED)
ROW = ",".join(["1", "1", "0"] + ["1"] * (len(training.REQUIRED) - 3))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "CSV_COLUMNS_MISSING"),
        (b"a,b\r\n1,2\r\n", "CSV_COLUMNS_MISSING"),
        (HEADER.encode() + b"\n", "CSV_ROW_INVALID"),
        (f"{HEADER}\n{ROW}\n1,1\n".encode(), "CSV_ROW_INVALID"),
        (f"{HEADER}\n{ROW}\n{ROW}\n".encode(), "CSV_ROW_INVALID"),
        (f"{HEADER}\n{ROW.replace('1,1,0', '1,1,maybe')}\n".encode(), "CSV_ROW_INVALID"),
        (b"\xff\xfe\x00", "CSV_UNREADABLE"),
    ],
)
def test_a_strangers_file_gets_a_typed_error(tmp_path: Path, data: bytes, code: str) -> None:
    path = tmp_path / "cases.csv"
    path.write_bytes(data)
    with pytest.raises(ClientFault) as caught:
        training.load_cases(path)
    assert caught.value.code == code
    assert str(path) in caught.value.subject


def test_a_missing_file_gets_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ClientFault) as caught:
        training.load_cases(tmp_path / "none.csv")
    assert caught.value.code == "CSV_UNREADABLE"


def test_the_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    path.write_text(HEADER.replace("GrAppv", "Amount", 1) + "\n")
    with pytest.raises(ClientFault, match="GrAppv"):
        training.load_cases(path)


def test_encrypted_scores_and_measures_equal_the_plaintext_ones(
    halves: tuple[list[training.Case], list[training.Case]], loans: TableSchema, tmp_path: Path
) -> None:
    cases = halves[1]
    cells, ids, bad = training.cells(cases), training.registry_ids(cases), training.outcomes(cases)
    council = Council("S")
    columns = council.encrypt_table(tmp_path, loans, cells)
    mask = encode.mask_blocks(np.ones(loans.rows, dtype=np.bool_), loans.rows)
    bank = HeSecretKey.generate("S")
    target = bank.public_key()
    for with_term in (True, False):
        model = training.train(halves[0], loans, "sba", with_term)
        plan = plan_query("SELECT CREDIT_SCORE('sba') FROM loans", Catalog(loans, {"sba": model}))
        local = engine.LocalEngine()
        chunk = local.run_chunk(plan, 0, columns, mask, b"q")
        result = engine.validate_result(plan, local.reduce(plan, [chunk], b""))
        slots = [bank.decrypt(council.switch(plan, item, target), plan.limbs) for item in result]
        opened = results.open_scores(plan, slots, mask, ids, b"q")
        plaintext = model.score(loans, cells)
        encrypted = np.array([opened[identifier] for identifier in ids])
        assert np.array_equal(encrypted, plaintext)
        auc = training.area_under_curve(encrypted, bad)
        assert auc == training.area_under_curve(plaintext, bad)
        ks = training.kolmogorov_smirnov(encrypted, bad)
        assert ks == training.kolmogorov_smirnov(plaintext, bad)
