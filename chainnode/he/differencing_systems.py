"""Several answers that together are about too few rows: the one asked last is refused.

Groups are rows of 0/1 over atoms, the cells that no group tells apart. What answers reveal
together is the span of these rows. Two of its parts are searched: sums and differences of up to
four groups that are a set of rows, as a tracker asks for it (Denning, Denning and Schwartz, TODS
1979), and any single atom that any number of answers isolate (Gaussian elimination, as audit expert
does: Chin and Ozsoyoglu, TSE 1982). How many rows such a set has follows from the counts that the
council saw. Finding every small set in the span is hard, and is not done: sets of several atoms
that need five or more answers, or multiples of one, pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from chainnode.types.limits import DIFFERENCING_CANDIDATES_MAX

PRIME: Final = 2**31 - 1
"""Elimination is modulo this: a set it isolates is isolated unless the prime divides a minor."""

Rows = npt.NDArray[np.int8]
Counts = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class System:
    """Groups over atoms, known ones first.

    Args:
        rows: one row a group, one column an atom, 0 or 1.
        counts: rows of the table in each group; NaN where that is not known.
        known: how many of them were answered before.
    """

    rows: Rows
    counts: Counts
    known: int


def atoms_of(masks: Sequence[npt.NDArray[np.bool_]], counts: Sequence[int | None]) -> System:
    """A system of groups given over the same cells, all of them known; see `System.known`."""
    cells = np.stack([mask.ravel() for mask in masks]).astype(np.int8)
    distinct: Rows = np.unique(cells, axis=1)
    seen = np.array([np.nan if count is None else count for count in counts], dtype=np.float64)
    return System(distinct[:, distinct.any(axis=0)], seen, len(masks))


def small_combination(system: System, minimum: int) -> tuple[int, ...] | None:
    """Groups whose sum or difference with a fresh one is a set of too few rows.

    Args:
        system: with its fresh groups last.
        minimum: smallest number of rows a set may have.

    Returns:
        Positions of the groups, two or three earlier ones and the fresh one; None if there are
        none. A set whose size is not known counts as too small.
    """
    for fresh in range(system.known, len(system.rows)):
        found = _beside(system, fresh, minimum)
        if found is not None:
            return found
    return None


def _beside(system: System, fresh: int, minimum: int) -> tuple[int, ...] | None:
    """Two or three groups before a fresh one that leave a small set with it."""
    rows = np.concatenate([system.rows[:fresh], -system.rows[:fresh]])
    counts = np.concatenate([system.counts[:fresh], -system.counts[:fresh]])
    names = np.concatenate([np.arange(fresh)] * 2)
    first, second = np.triu_indices(len(rows), 1)
    differ = names[first] != names[second]
    first, second = first[differ], second[differ]
    target = system.rows[fresh]
    totals = system.counts[fresh] + counts[first] + counts[second]
    suspects = np.flatnonzero(_is_small(totals, minimum))
    for part in _parts(suspects):
        sums = target + rows[first[part]] + rows[second[part]]
        for place in part[_is_set(sums)]:
            return int(names[first[place]]), int(names[second[place]]), fresh
    for third in range(len(rows)):
        # The third comes last, so that each three are looked at once.
        pairs = (second < third) & (names[first] != names[third]) & (names[second] != names[third])
        suspects = np.flatnonzero(pairs & _is_small(totals + counts[third], minimum))
        for part in _parts(suspects):
            sums = target + rows[first[part]] + rows[second[part]] + rows[third]
            for place in part[_is_set(sums)]:
                chosen = (names[first[place]], names[second[place]], names[third])
                return (*(int(item) for item in chosen), fresh)
    return None


def _parts(places: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    return [
        places[at : at + DIFFERENCING_CANDIDATES_MAX]
        for at in range(0, len(places), DIFFERENCING_CANDIDATES_MAX)
    ]


def _is_small(totals: Counts, minimum: int) -> npt.NDArray[np.bool_]:
    small: npt.NDArray[np.bool_] = ~((np.abs(totals) >= minimum) | (totals == 0))
    return small


def _is_set(sums: Rows) -> npt.NDArray[np.bool_]:
    """Which combinations hold every atom once or not at all, and some atom."""
    low, high = sums.min(axis=1), sums.max(axis=1)
    found: npt.NDArray[np.bool_] = ((low >= 0) & (high == 1)) | ((low == -1) & (high <= 0))
    return found


def isolates_few(system: System, minimum: int) -> bool:
    """Whether a fresh group helps to isolate an atom of 1 to `minimum` - 1 rows.

    Groups of unknown size are left out.
    """
    sized = ~np.isnan(system.counts)
    rows = system.rows[sized].astype(np.int64)
    counts = system.counts[sized].astype(np.int64)
    known, atoms = int(sized[: system.known].sum()), rows.shape[1]
    # Columns: atoms, the count, and how much of each group the row has taken.
    whole = np.concatenate([rows, counts[:, None], np.eye(len(rows), dtype=np.int64)], axis=1)
    basis: list[tuple[int, Whole]] = []
    for row in whole:
        reduced = row % PRIME
        for pivot, other in basis:
            reduced = (reduced - reduced[pivot] * other) % PRIME
        places = np.flatnonzero(reduced[:atoms])
        if not places.size:
            continue
        pivot = int(places[0])
        reduced = reduced * pow(int(reduced[pivot]), -1, PRIME) % PRIME
        basis = [(at, (other - other[pivot] * reduced) % PRIME) for at, other in basis]
        basis.append((pivot, reduced))
    for _, row in basis:
        alone = np.count_nonzero(row[:atoms]) == 1
        if alone and 0 < row[atoms] < minimum and row[atoms + 1 + known :].any():
            return True
    return False
