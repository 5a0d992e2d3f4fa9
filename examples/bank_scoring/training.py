"""Train integer scorecards on the SBA cases and lay the cases out for the four organisations.

The training half stays in the clear at the consortium's modelling desk; the other half is what the
organisations encrypt. Columns known only after the outcome (charge-off, status, disbursement,
balance, dates) are never features. Points are fitted as `chainnode he fit` does; bins are
quantiles.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chainnode.he.encode import Cell, scale
from chainnode.he.profiles import AGGREGATES
from chainnode.he.schema import Bins, Column, OneHot, TableSchema
from chainnode.he.scorecard import Scorecard
from chainnode.sdk.fitting import BIN_SHARE_MIN, fit_scorecard
from chainnode.types.errors import ClientFault

CSV_PATH = Path(__file__).with_name("sba_case.csv")
TABLE = "loans"
ID = "id"
ID_SOURCE = "LoanNr_ChkDgt"
REGISTRY = "registry"
QUANTILE_BINS = 8

Case = Mapping[str, str]


@dataclass(frozen=True)
class Feature:
    """How one CSV column becomes an SQL column.

    Args:
        name: CSV and SQL name.
        owner: organisation that holds it.
        categories: allowed texts; empty for a number that is binned.
        minimum: of a number, scaled by 10^decimals.
        maximum: of a number, scaled by 10^decimals.
        decimals: digits after the point.
        value_maximum: set if the column can also be summed.
        clean: text as read to text as encoded.
    """

    name: str
    owner: str
    categories: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 0
    decimals: int = 0
    value_maximum: int | None = None
    clean: Callable[[str], str] = str.strip


def _one_of(*known: str) -> Callable[[str], str]:
    return lambda text: text.strip() if text.strip() in known else ""


def _franchise(text: str) -> str:
    # 0 and 1 both mean no franchise; any other number is a brand's code.
    return "N" if text.strip() in ("0", "1") else "Y" if text.strip() else ""


FEATURES = (
    Feature("Term", "bank-a", maximum=600),
    Feature("GrAppv", "bank-a", maximum=5_000_000, value_maximum=5_000_000),
    Feature("NewExist", "bank-a", ("1", "2"), clean=_one_of("1", "2")),
    Feature("RevLineCr", "bank-a", ("N", "Y", "0", "T"), clean=_one_of("N", "Y", "0", "T")),
    Feature("LowDoc", "bank-a", ("N", "Y"), clean=_one_of("N", "Y")),
    Feature("Portion", "guarantor", maximum=100, decimals=2),
    Feature("SBA_Appv", "guarantor", maximum=5_000_000, value_maximum=5_000_000),
    Feature("RealEstate", "guarantor", ("0", "1")),
    Feature("Recession", "guarantor", ("0", "1")),
    Feature("NoEmp", "statistics", maximum=9_999, value_maximum=9_999),
    Feature("CreateJob", "statistics", maximum=9_999, value_maximum=9_999),
    Feature("RetainedJob", "statistics", maximum=9_999, value_maximum=9_999),
    Feature("UrbanRural", "statistics", ("0", "1", "2")),
    Feature("New", "statistics", ("0", "1")),
    Feature("FranchiseCode", "statistics", ("N", "Y"), clean=_franchise),
)
REQUIRED = (ID_SOURCE, "Selected", "Default", *(feature.name for feature in FEATURES))


def load_cases(path: Path = CSV_PATH) -> list[dict[str, str]]:
    """Read the cases.

    Args:
        path: a CSV file, UTF-8 with or without a byte-order mark, any line ends.

    Raises:
        ClientFault: `CSV_UNREADABLE`, `CSV_COLUMNS_MISSING` or `CSV_ROW_INVALID`, naming the file
            and the column or line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
            if missing:
                raise ClientFault(
                    "CSV_COLUMNS_MISSING",
                    f"missing columns: {', '.join(missing)}",
                    subject=str(path),
                    fix="export the file with these column names in its first line",
                )
            cases = [_checked(row, path, reader.line_num) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ClientFault(
            "CSV_UNREADABLE", str(error), subject=str(path), fix="give a UTF-8 CSV file"
        ) from error
    if not cases:
        raise ClientFault(
            "CSV_ROW_INVALID", "the file has no rows", subject=str(path), fix="export it again"
        )
    ids = [case[ID_SOURCE] for case in cases]
    if len(set(ids)) != len(ids):
        raise ClientFault(
            "CSV_ROW_INVALID",
            f"{ID_SOURCE} repeats",
            subject=str(path),
            fix="keep one row for every id",
        )
    return cases


def _checked(row: dict[str, str], path: Path, line: int) -> dict[str, str]:
    bad = [name for name in REQUIRED if not isinstance(row[name], str)]
    bad += [name for name in ("Selected", "Default") if row[name] not in ("0", "1")]
    if bad or not row[ID_SOURCE]:
        raise ClientFault(
            "CSV_ROW_INVALID",
            f"line {line}: no usable value for {', '.join(bad) or ID_SOURCE}",
            subject=str(path),
            fix="complete the line; Selected and Default are 0 or 1",
        )
    return row


def split(cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """(training half, half to score), by the paper's `Selected`."""
    training = [case for case in cases if case["Selected"] == "1"]
    return training, [case for case in cases if case["Selected"] == "0"]


def resample(cases: Sequence[Case], n: int = 100_000, seed: int = 1) -> list[Case]:
    """Draw n cases with replacement under new ids `R0000001`..., the same for the same seed."""
    rows = np.random.default_rng(seed).integers(0, len(cases), n)
    return [
        {**cases[int(row)], ID_SOURCE: f"R{number:07d}"} for number, row in enumerate(rows, start=1)
    ]


def registry_ids(cases: Sequence[Case]) -> list[str]:
    """Enterprise ids in registry order: the order of the cases."""
    return [case[ID_SOURCE] for case in cases]


def cells(cases: Sequence[Case]) -> dict[str, list[Cell]]:
    """SQL column name to cleaned cells, in registry order: what each organisation encodes."""
    return {
        feature.name: [feature.clean(case[feature.name]) for case in cases] for feature in FEATURES
    }


def build_schema(training: Sequence[Case], rows: int) -> TableSchema:
    """The encrypted table's schema: quantile edges from the training half.

    Args:
        training: cases whose quantiles place the bin edges.
        rows: enterprises in the registry of the table to encrypt.
    """
    columns = []
    values = cells(training)
    for feature in FEATURES:
        encoding: OneHot | Bins
        if feature.categories:
            has_missing = any(not cell for cell in values[feature.name])
            encoding = OneHot(feature.categories, missing=has_missing)
        else:
            encoding = _quantile_bins(feature, values[feature.name])
        wraps = (feature.value_maximum or 0) * rows >= AGGREGATES.plain_modulus
        columns.append(
            Column(
                feature.name,
                feature.owner,
                encoding,
                feature.value_maximum,
                value_limb_bits=16 if wraps else 0,
            )
        )
    schema = TableSchema(TABLE, rows, ID, REGISTRY, tuple(columns))
    schema.validate()
    return schema


def _quantile_bins(feature: Feature, values: Sequence[Cell]) -> Bins:
    bare = Bins(feature.minimum, (), feature.maximum, feature.decimals)
    column = Column(feature.name, feature.owner, bare)
    scaled = np.array([scale(column, bare, str(cell)) for cell in values if cell], dtype=np.int64)
    shares = np.arange(1, QUANTILE_BINS) / QUANTILE_BINS
    edges: list[int] = []
    for edge in np.unique(np.quantile(scaled, shares, method="higher")):
        low = edges[-1] if edges else feature.minimum
        inside = np.count_nonzero((scaled >= low) & (scaled < edge))
        above = np.count_nonzero(scaled >= edge)
        if min(inside, above) >= BIN_SHARE_MIN * len(scaled):
            edges.append(int(edge))
    return Bins(feature.minimum, tuple(edges), feature.maximum, feature.decimals)


def train(
    training: Sequence[Case], schema: TableSchema, name: str = "sba", with_term: bool = True
) -> Scorecard:
    """Fit a scorecard.

    Args:
        training: cases with their outcome.
        schema: of the table to score; its bins are the scorecard's.
        name: for `CREDIT_SCORE('name')`.
        with_term: whether the loan's term may be a feature (it partly reflects the outcome, since
            defaulted loans end early).
    """
    features = [feature.name for feature in FEATURES if with_term or feature.name != "Term"]
    return fit_scorecard(schema, cells(training), outcomes(training), name, features)


def outcomes(cases: Sequence[Case]) -> NDArray[np.bool_]:
    """True where the loan defaulted."""
    return np.array([case["Default"] == "1" for case in cases])


def area_under_curve(scores: NDArray[np.int64], bad: NDArray[np.bool_]) -> float:
    """Probability that a good case scores above a bad one, ties half (Mann and Whitney 1947)."""
    values, inverse = np.unique(scores, return_inverse=True)
    goods = np.bincount(inverse[~bad], minlength=len(values))
    bads = np.bincount(inverse[bad], minlength=len(values))
    below = np.cumsum(bads) - bads
    wins = 2 * int((goods * below).sum()) + int((goods * bads).sum())
    return wins / (2 * int(goods.sum()) * int(bads.sum()))


def kolmogorov_smirnov(scores: NDArray[np.int64], bad: NDArray[np.bool_]) -> float:
    """Largest distance between the score distributions of good and bad cases."""
    values, inverse = np.unique(scores, return_inverse=True)
    goods = np.cumsum(np.bincount(inverse[~bad], minlength=len(values)))
    bads = np.cumsum(np.bincount(inverse[bad], minlength=len(values)))
    return float(np.max(np.abs(bads / bads[-1] - goods / goods[-1])))
