"""Edges of a schema's bins from a bank's history, by scikit-learn or by OptBinning."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from chainnode.he.schema import Bins, TableSchema
from chainnode.sdk.fitting import Splits, fit_bins
from chainnode.sdk.source_table import SourceTable
from chainnode.types.errors import ClientFault, ConfigError

BIN_TIMEOUT_S: Final = 300

_PROGRAM: Final = """
import json, sys
import numpy
from optbinning import OptimalBinning
asked = json.load(sys.stdin)
binning = OptimalBinning(
    dtype="numerical", max_n_bins=asked["bins_max"], min_bin_size=asked["share_min"])
binning.fit(numpy.array(asked["values"], dtype=float), numpy.array(asked["bad"], dtype=int))
json.dump([float(split) for split in binning.splits], sys.stdout)
"""


def fit_schema(
    schema: TableSchema, history: SourceTable, bad: NDArray[np.bool_], splits: Splits | None = None
) -> TableSchema:
    """The schema with fitted edges in every binned column that the history has.

    Args:
        schema: its bins' minima, maxima and decimals are kept, and its other columns.
        history: rows with a known outcome.
        bad: their outcomes.
        splits: finds the edges; None takes scikit-learn's decision tree.

    Raises:
        ClientFault: `VALUE_OUT_OF_DOMAIN`, `MODEL_UNFIT`, or `SCHEMA_INVALID` when no column fits.
        ConfigError: `EXTRA_MISSING`.
    """
    columns, fitted = [], 0
    for column in schema.columns:
        encoding = column.encoding
        if isinstance(encoding, Bins) and column.name in history.columns:
            found = fit_bins(
                column.name,
                history.column(column.name),
                bad,
                encoding.minimum,
                encoding.maximum,
                encoding.decimals,
                dates=encoding.dates,
                splits=splits,
            )
            kept = msgspec.structs.replace(found, missing=found.missing or encoding.missing)
            column = msgspec.structs.replace(column, encoding=kept)
            fitted += 1
        columns.append(column)
    if not fitted:
        raise ClientFault(
            "SCHEMA_INVALID",
            "no column of the schema has bins and stands in the history",
            subject=schema.table,
            fix='give a column { type = "bins", minimum = .., maximum = .., edges = [] }',
        )
    return msgspec.structs.replace(schema, columns=tuple(columns))


def optimal_splits(python: Path) -> Splits:
    """Splits by OptBinning, which runs under a Python of its own.

    Its solver needs another protobuf than the node, so that they cannot share an environment.

    Args:
        python: an interpreter with `optbinning` installed.
    """

    def splits(
        values: NDArray[np.int64], bad: NDArray[np.bool_], bins_max: int, share_min: float
    ) -> set[int]:
        asked = {
            "values": values.tolist(),
            "bad": bad.astype(int).tolist(),
            "bins_max": bins_max,
            "share_min": share_min,
        }
        cuts: list[Any] = json.loads(_run(python, json.dumps(asked)))
        # OptBinning keeps values below a cut on its left: the edge is the first whole one above.
        return {math.ceil(cut) for cut in cuts}

    return splits


def _run(python: Path, asked: str) -> str:
    try:
        ran = subprocess.run(
            [str(python), "-c", _PROGRAM],
            input=asked,
            capture_output=True,
            text=True,
            timeout=BIN_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _missing(python, str(error)) from error
    if ran.returncode != 0:
        raise _missing(python, (ran.stderr.strip().splitlines() or ["no message"])[-1])
    return ran.stdout.strip().splitlines()[-1]


def _missing(python: Path, reason: str) -> ConfigError:
    return ConfigError(
        "EXTRA_MISSING",
        f"OptBinning does not run there: {reason[:200]}",
        subject=str(python),
        fix="python -m venv optbinning && optbinning/bin/pip install optbinning, then "
        "--python optbinning/bin/python; or --engine sklearn",
    )
