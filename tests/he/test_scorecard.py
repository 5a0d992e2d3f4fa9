"""Scorecards: exact points in the clear, bounds that hold, refusals that name the feature."""

from collections.abc import Callable

import msgspec
import pytest

from chainnode.he.encode import Cell
from chainnode.he.schema import TableSchema
from chainnode.he.scorecard import FeaturePoints, Scorecard
from chainnode.types.errors import ClientFault

replace = msgspec.structs.replace


def test_scores_are_offset_plus_points_of_each_bin(schema: TableSchema, model: Scorecard) -> None:
    cells: dict[str, list[Cell]] = {
        "sector": ["farming", "trade", ""],
        "overdue": [0, 6, 2],
        "ratio": ["0.49", "", "-1"],
        "court": ["no", "yes", ""],
    }
    expected = [500 + 12 + 40 - 4 + 6, 500 - 7 - 90 - 9 - 120, 500 + 3 + 5 - 20]
    assert model.score(schema, cells).tolist() == expected


def test_bounds_hold_for_every_row(
    schema: TableSchema, model: Scorecard, firms: dict[str, list[Cell]]
) -> None:
    scores = model.score(schema, firms)
    low, high = model.bounds()
    assert (low, high) == (263, 583)
    assert low <= scores.min() and scores.max() <= high


def test_linear_form_leaves_out_zero_points(schema: TableSchema, model: Scorecard) -> None:
    form = model.linear_form(schema)
    weights = dict(zip(form.columns, form.weights, strict=True))
    assert weights["sector.0"] == 12 and weights["sector.missing"] == 3
    assert "sector.2" not in weights
    assert weights["ratio.missing"] == -9 and "court.missing" not in weights


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        (lambda card: replace(card, schema_hash="00"), "m1"),
        (lambda card: replace(card, table="other"), "m1"),
        (lambda card: replace(card, features=()), "m1"),
        (lambda card: replace(card, features=(*card.features, card.features[0])), "sector"),
        (lambda card: replace(card, features=(FeaturePoints("overdue", (1, 2)),)), "overdue"),
        (lambda card: replace(card, features=(FeaturePoints("turnover", (1,)),)), "turnover"),
        (lambda card: replace(card, features=(FeaturePoints("Sector", (1, 2, 3)),)), "Sector"),
        (lambda card: replace(card, features=(FeaturePoints("region", (0, 65_537)),)), "m1"),
    ],
)
def test_unusable_models_are_refused(
    schema: TableSchema,
    model: Scorecard,
    change: Callable[[Scorecard], Scorecard],
    subject: str,
) -> None:
    with pytest.raises(ClientFault) as caught:
        change(model).validate(schema)
    assert (caught.value.code, caught.value.subject) == ("MODEL_INVALID", subject)


def test_explanation_lists_every_bin_with_its_points(schema: TableSchema, model: Scorecard) -> None:
    text = model.explain(schema)
    assert text.splitlines()[0] == "scorecard m1 on firms: offset 500"
    ratio = next(line for line in text.splitlines() if "[-1.00, 0.00)" in line)
    assert ratio.split()[0] == "ratio" and ratio.split()[-1] == "-20"
    overdue = next(line for line in text.splitlines() if "[6, 121)" in line)
    assert overdue.split()[-1] == "-90"
    missing = next(line for line in text.splitlines() if "ratio" in line and "missing" in line)
    assert missing.split()[-1] == "-9"


def test_models_json_is_canonical(model: Scorecard) -> None:
    assert Scorecard.decode(model.encode()) == model
    assert replace(model, offset=501).hash() != model.hash()
    with pytest.raises(ClientFault):
        Scorecard.decode(model.encode() + b" ")
