"""Bins and integer scorecards from a bank's own history, in the clear, with scikit-learn.

Nothing statistical is our own: edges are the splits of scikit-learn's decision trees, weights its
logistic regression; weight of evidence and points follow Siddiqi, "Credit Risk Scorecards" (2006).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from chainnode.he.encode import Cell, bin_indices, scale
from chainnode.he.schema import Bins, Column, OneHot, TableSchema
from chainnode.he.scorecard import FeaturePoints, Scorecard
from chainnode.sdk.source_table import SourceTable
from chainnode.types.errors import ClientFault, ConfigError

BASE_POINTS: Final = 600
POINTS_TO_DOUBLE_ODDS: Final = 50
BIN_SHARE_MIN: Final = 0.05
INFORMATION_VALUE_MIN: Final = 0.02

Splits = Callable[[NDArray[np.int64], NDArray[np.bool_], int, float], set[int]]
"""Edges of scaled values: (values, outcomes, most bins, least share of a bin)."""


def fit_bins(
    name: str,
    cells: Sequence[Cell],
    bad: NDArray[np.bool_],
    minimum: int,
    maximum: int,
    decimals: int = 0,
    bins_max: int = 8,
    dates: bool = False,
    splits: Splits | None = None,
) -> Bins:
    """Edges that separate good from bad best, each bin holding at least 5 % of the rows.

    Args:
        name: of the column, for messages.
        cells: numbers as read; missing ones are left out of the fit.
        bad: the outcome of every row.
        minimum: smallest allowed value, times 10^decimals.
        maximum: largest allowed value, times 10^decimals.
        decimals: digits after the point that the column keeps.
        bins_max: most bins.
        dates: whether values are dates, counted in days.
        splits: finds the edges; None takes scikit-learn's decision tree.

    Raises:
        ClientFault: `VALUE_OUT_OF_DOMAIN`.
        ConfigError: `EXTRA_MISSING` without scikit-learn.
    """
    missing = any(cell in (None, "") for cell in cells)
    bare = Bins(minimum, (), maximum, decimals, missing, dates)
    column = Column(name, "", bare)
    known = [row for row, cell in enumerate(cells) if cell not in (None, "")]
    scaled = np.array([scale(column, bare, str(cells[row])) for row in known], dtype=np.int64)
    if len(scaled) == 0 or len(set(bad[known])) < 2:
        raise _unfit(name, "good and bad rows with a value are needed")
    found = (splits or _tree_splits)(scaled, bad[known], bins_max, BIN_SHARE_MIN)
    edges = tuple(sorted(edge for edge in found if minimum < edge <= maximum))
    return msgspec.structs.replace(bare, edges=edges)


def _tree_splits(
    values: NDArray[np.int64], bad: NDArray[np.bool_], bins_max: int, share_min: float
) -> set[int]:
    _, tree_class = _sklearn()
    tree = tree_class(max_leaf_nodes=max(2, bins_max), min_samples_leaf=share_min, random_state=0)
    tree.fit(values.reshape(-1, 1), bad)
    return {math.floor(cut) + 1 for cut in tree.tree_.threshold[tree.tree_.feature >= 0]}


def fit_scorecard(
    schema: TableSchema,
    cells: Mapping[str, Sequence[Cell]],
    bad: NDArray[np.bool_],
    name: str,
    features: Sequence[str] = (),
) -> Scorecard:
    """An integer scorecard on the schema's bins.

    Features below an information value of 0.02 are left out, and so are those whose evidence
    would cost points.

    Args:
        schema: of the table to score.
        cells: SQL column to cells of the rows with a known outcome.
        bad: their outcomes.
        name: for `CREDIT_SCORE('name')`.
        features: candidate columns; empty takes every one stored for scores.

    Raises:
        ClientFault: `MODEL_UNFIT` when no feature carries information.
        ConfigError: `EXTRA_MISSING` without scikit-learn.
    """
    regression_class, _ = _sklearn()
    kept: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
    for column in schema.columns:
        wanted = column.name in features or not features
        if wanted and "S" in column.profiles and isinstance(column.encoding, OneHot | Bins):
            bins, evidence, value = _evidence(column, column.encoding, cells[column.name], bad)
            if value >= INFORMATION_VALUE_MIN:
                kept[column.name] = (bins, evidence)
    if not kept:
        raise _unfit(name, "no column tells good from bad")
    while True:
        matrix = np.column_stack([evidence[bins] for bins, evidence in kept.values()])
        fitted = regression_class(C=10.0, max_iter=1_000).fit(matrix, bad)
        weights = dict(zip(kept, map(float, fitted.coef_[0]), strict=True))
        worst = max(weights, key=lambda feature: weights[feature])
        if weights[worst] <= 0 or len(kept) == 1:
            break
        # More evidence of a good outcome must never cost points: drop the worst, fit again.
        del kept[worst]
    per_unit = POINTS_TO_DOUBLE_ODDS / math.log(2)
    listed = []
    for feature, (_, evidence) in kept.items():
        points = [round(float(-weights[feature] * one * per_unit)) for one in evidence]
        listed.append(FeaturePoints(feature, tuple(points[:-1]), points[-1]))
    offset = round(BASE_POINTS - per_unit * float(fitted.intercept_[0]))
    model = Scorecard(name, schema.table, schema.hash().hex(), offset, tuple(listed))
    model.validate(schema)
    return model


def outcomes(source: SourceTable, target: str) -> NDArray[np.bool_]:
    """The outcome of every row: 1 is bad, 0 is good.

    Raises:
        ClientFault: `TABLE_ROWS_INVALID` naming file, line and column of another value.
    """
    cells = [str(cell) for cell in source.column(target)]
    for row, cell in enumerate(cells):
        if cell not in ("0", "1"):
            raise ClientFault(
                "TABLE_ROWS_INVALID",
                f"{source.place(row, target)}: the outcome is {cell!r}, not 0 or 1",
                subject=source.name,
                fix="write 1 where it went bad and 0 where it went well",
            )
    return np.array([cell == "1" for cell in cells], dtype=np.bool_)


def _evidence(
    column: Column, encoding: OneHot | Bins, cells: Sequence[Cell], bad: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    bins = bin_indices(column, cells)
    size = encoding.bin_count() + 1
    bins = np.where(bins < 0, size - 1, bins)
    bads = np.bincount(bins[bad], minlength=size) + 0.5
    goods = np.bincount(bins[~bad], minlength=size) + 0.5
    good_share, bad_share = goods / goods.sum(), bads / bads.sum()
    evidence = np.log(good_share / bad_share)
    # A bin nobody is in has no evidence; smoothing alone must not give it points.
    evidence[np.bincount(bins, minlength=size) == 0] = 0.0
    return bins, evidence, float(((good_share - bad_share) * evidence).sum())


def _sklearn() -> tuple[Any, Any]:
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.tree import DecisionTreeClassifier
    except ImportError as error:
        raise ConfigError(
            "EXTRA_MISSING",
            "fitting needs scikit-learn",
            fix="pip install 'chainnode[ingest]'",
        ) from error
    return LogisticRegression, DecisionTreeClassifier


def _unfit(subject: str, reason: str) -> ClientFault:
    return ClientFault("MODEL_UNFIT", reason, subject=subject, fix="give more history")
