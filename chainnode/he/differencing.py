"""Two answers whose difference is about too few rows: the one asked second is refused.

Each opened group is a set of cells: combinations of the bins of the columns its predicate reads.
Where one group contains another, the difference of any two of their sums is a sum over the rows
between them, and the council, who saw both counts, knows how many those are. Groups that cannot be
compared are treated as if they differed by one row. Pairs are looked at over all banks, then
systems of several groups as far as `differencing_systems` goes; what it does not find is bounded by
the budgets alone (the limits of query set restriction: Dobkin, Jones and Lipton, TODS 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt

from chainnode.he import differencing_systems as systems
from chainnode.he.plan import Plan, Term
from chainnode.he.schema import PRESENCE_COLUMN, Column, Digits, TableSchema
from chainnode.types.limits import (
    DIFFERENCING_CELLS_MAX,
    DIFFERENCING_GROUPS_MAX,
    DIFFERENCING_SYSTEM_CELLS_MAX,
)

Vector = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class OpenedGroup:
    """A group whose count the council saw.

    Args:
        query: hex id of the query that opened it.
        terms: of its count.
        count: rows in it; None for a query answered while this member was away.
    """

    query: str
    terms: tuple[Term, ...]
    count: int | None


def opened_groups(query: str, plan: Plan, counts: Sequence[int | None]) -> list[OpenedGroup]:
    """The groups of a plan, with their counts in the order of its gates."""
    if plan.aggregate is None:
        return []
    gates = [output for output in plan.aggregate.outputs if output.kind == "count"]
    return [
        OpenedGroup(query, gate.terms, count) for gate, count in zip(gates, counts, strict=True)
    ]


def too_close(
    schema: TableSchema, fresh: Sequence[OpenedGroup], known: Sequence[OpenedGroup], minimum: int
) -> str:
    """Why a query must not be answered beside what was; empty when it may.

    Args:
        schema: of the table.
        fresh: the groups of the query.
        known: groups opened before, by any bank.
        minimum: smallest number of rows a difference may be about.
    """
    for place, group in enumerate(fresh):
        for other in (*known, *fresh[:place]):
            if group.terms == other.terms and group.count == other.count:
                continue
            nested = _nested(_Stored(schema), group.terms, other.terms)
            if nested is None:
                return f"differencing: cannot be compared with query {other.query}"
            if nested:
                if group.count is None or other.count is None:
                    return f"differencing: contains or lies in a group of query {other.query}"
                if 0 < abs(group.count - other.count) < minimum:
                    return (
                        f"differencing: fewer than {minimum} rows apart from a group of query "
                        f"{other.query}"
                    )
    return _together(schema, fresh, known, minimum)


def _together(
    schema: TableSchema, fresh: Sequence[OpenedGroup], known: Sequence[OpenedGroup], minimum: int
) -> str:
    """Why several answers are too few rows together; groups on too many columns are left out."""
    stored = _Stored(schema)
    chosen: list[OpenedGroup] = []
    axes: set[str] = set()
    counted = len(fresh) + DIFFERENCING_GROUPS_MAX
    # The fresh ones first, then the latest: what does not fit any more is what was long ago.
    for group in (*fresh, *reversed(known)):
        own = stored.axes(group.terms)
        if own is None or len(chosen) == counted or _repeated(group, chosen):
            continue
        if prod(stored.options(column) for column in axes | own) <= DIFFERENCING_SYSTEM_CELLS_MAX:
            chosen.append(group)
            axes |= own
    fresh_count = sum(any(group is item for item in fresh) for group in chosen)
    if fresh_count == 0 or len(chosen) == fresh_count:
        return ""
    ordered = [*chosen[fresh_count:], *chosen[:fresh_count]]
    cells = [_cells(stored, group.terms, sorted(axes)) for group in ordered]
    masks = [mask for mask in cells if mask is not None]
    system = systems.atoms_of(masks, [group.count for group in ordered])
    system = replace(system, known=len(chosen) - fresh_count)
    found = systems.small_combination(system, minimum)
    if found is not None:
        queries = ", ".join(dict.fromkeys(ordered[place].query for place in found))
        return f"differencing: groups of queries {queries} leave fewer than {minimum} rows"
    if systems.isolates_few(system, minimum):
        return f"differencing: all answers together isolate fewer than {minimum} rows"
    return ""


def _repeated(group: OpenedGroup, chosen: Sequence[OpenedGroup]) -> bool:
    return any(group.terms == other.terms and group.count == other.count for other in chosen)


def _nested(stored: _Stored, one: tuple[Term, ...], other: tuple[Term, ...]) -> bool | None:
    """Whether one group contains the other, whatever the rows; None when that is not known."""
    own = [stored.axes(terms) for terms in (one, other)]
    if own[0] is None or own[1] is None:
        return None
    if not own[0] & own[1]:
        # Conditions on different columns: only a group of all rows contains the other.
        spaces = [
            _cells(stored, terms, sorted(axes or ()))
            for terms, axes in zip((one, other), own, strict=True)
        ]
        if any(space is None for space in spaces):
            return None
        return any(space is not None and bool(space.all()) for space in spaces)
    axes = sorted(own[0] | own[1])
    left, right = _cells(stored, one, axes), _cells(stored, other, axes)
    if left is None or right is None:
        return None
    return not bool((left & ~right).any()) or not bool((right & ~left).any())


def _cells(stored: _Stored, terms: tuple[Term, ...], axes: Sequence[str]) -> Mask | None:
    """Which cells a group holds, one axis for each SQL column; None when they are too many."""
    shape = [stored.options(column) for column in axes]
    if prod(shape) > DIFFERENCING_CELLS_MAX:
        return None
    names = {name for term in terms for form in term.factors for name in form.columns}
    return _evaluate(terms, {name: stored.on(name, axes, shape) for name in names}, shape)


def _evaluate(terms: Sequence[Term], indicators: dict[str, Vector], shape: Sequence[int]) -> Mask:
    total: Vector = np.zeros(shape, dtype=np.int64)
    for term in terms:
        product = np.ones(shape, dtype=np.int64)
        for form in term.factors:
            value = np.full(shape, form.constant, dtype=np.int64)
            for name, weight in zip(form.columns, form.weights, strict=True):
                value = value + weight * indicators[name]
            product = product * value
        total = total + product
    held: Mask = total != 0
    return held


class _Stored:
    """What every stored indicator says of a row: per SQL column, the options it is 1 for."""

    def __init__(self, schema: TableSchema) -> None:
        self._columns = {column.name: column for column in schema.columns}
        self.parts: dict[str, tuple[tuple[str, int | tuple[int, int]], ...]] = {}
        for column in schema.columns:
            self._indicators(column)
        for joint in schema.joints:
            shape = schema.joint_shape(joint)
            for index, name in enumerate(schema.joint_indicators(joint)):
                bins = np.unravel_index(index, shape)
                self.parts[name] = tuple(
                    (self._name(schema, column), int(place))
                    for column, place in zip(joint.columns, bins, strict=True)
                )

    def _name(self, schema: TableSchema, column: str) -> str:
        found = schema.column(column)
        return found.name if found is not None else column

    def _indicators(self, column: Column) -> None:
        if column.encoding is None:
            return
        if isinstance(column.encoding, Digits):
            for digit in range(column.encoding.digit_count()):
                for value in range(column.encoding.digit_values(digit)):
                    name = f"{column.digit(digit)}.{value}"
                    self.parts[name] = ((column.name, (digit, value)),)
            if column.encoding.missing:
                last = self.options(column.name) - 1
                self.parts[column.missing_indicator()] = ((column.name, last),)
        else:
            for index, name in enumerate(column.indicators()):
                self.parts[name] = ((column.name, index),)

    def axes(self, terms: Sequence[Term]) -> set[str] | None:
        """The SQL columns a group's predicate reads; None for something that is no indicator."""
        found: set[str] = set()
        for term in terms:
            for form in term.factors:
                for name in form.columns:
                    if name != PRESENCE_COLUMN and name not in self.parts:
                        return None
                    found.update(column for column, _ in self.parts.get(name, ()))
        return found

    def options(self, name: str) -> int:
        """How many different values of a column indicators tell apart, a missing one included."""
        encoding = self._columns[name].encoding
        if isinstance(encoding, Digits):
            return encoding.maximum - encoding.minimum + 1 + int(encoding.missing)
        return len(self._columns[name].indicators())

    def on(self, name: str, axes: Sequence[str], shape: Sequence[int]) -> Vector:
        """An indicator over all cells; every row of the registry is present."""
        found: Vector = np.ones(shape, dtype=np.int64)
        for column, option in self.parts.get(name, ()):
            along = [1] * len(axes)
            axis = axes.index(column)
            along[axis] = shape[axis]
            found = found * self._vector(column, option).reshape(along)
        return found

    def _vector(self, column: str, option: int | tuple[int, int]) -> Vector:
        values = np.arange(self.options(column), dtype=np.int64)
        if isinstance(option, int):
            return np.asarray(values == option, dtype=np.int64)
        encoding = self._columns[column].encoding
        assert isinstance(encoding, Digits)
        digit, wanted = option
        shown = (values >> (digit * encoding.digit_bits)) & ((1 << encoding.digit_bits) - 1)
        present = values <= encoding.maximum - encoding.minimum
        return np.asarray((shown == wanted) & present, dtype=np.int64)
