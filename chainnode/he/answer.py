"""Opened scalars to the user's rows: exact arithmetic, HAVING, ORDER BY and LIMIT after release.

Everything here happens at the bank, on numbers it has been given; nothing hides what was opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cmp_to_key

import msgspec

from chainnode.he.plan import (
    AggregatePart,
    Computed,
    Expression,
    GroupLabel,
    Having,
    Mean,
    Number,
    Test,
    Total,
)
from chainnode.he.schema import EXACT


class Average(msgspec.Struct, frozen=True):
    """An average, exact and rounded.

    Args:
        total: opened sum.
        count: opened count.
        value: total / count as the nearest float, for display.
    """

    total: int | Decimal
    count: int
    value: float

    def exact(self) -> Fraction:
        """The average as a fraction."""
        return Fraction(self.total) / self.count


Cell = str | int | Decimal | Fraction | Average | None
"""A value of an answer: sums are int, or Decimal where a column has decimals; quotients are
fractions; NULL is None."""


class Row(msgspec.Struct, frozen=True):
    """One row of a user's answer.

    Args:
        names: answer columns.
        values: in the same order; None where the group is refused or SQL says NULL.
        refused: why the group was not opened, or empty.
    """

    names: tuple[str, ...]
    values: tuple[Cell, ...]
    refused: str = ""


def shown(value: Cell) -> str | int | float | None:
    """A value for a table or JSON; fractions as the nearest float."""
    if isinstance(value, Average):
        return float(value.exact())
    if isinstance(value, Fraction):
        return float(value)
    return str(value) if isinstance(value, Decimal) else value


def evaluate(node: Expression, labels: Sequence[str | None], opened: Sequence[int]) -> Cell:
    """One answer column of one group.

    Args:
        node: from the plan.
        labels: of the group.
        opened: the group's outputs, lifted to integers.
    """
    if isinstance(node, GroupLabel):
        return labels[node.position]
    if isinstance(node, Number):
        return _decimal(node.scaled, node.decimals)
    if isinstance(node, Total):
        return _total(node, opened)
    if isinstance(node, Mean):
        total = _total(node.total, opened)
        if total is None:
            return None
        count = opened[node.total.count]
        return Average(total, count, float(Fraction(total) / count))
    return _computed(node, labels, opened)


def _total(node: Total, opened: Sequence[int]) -> int | Decimal | None:
    if node.count >= 0 and opened[node.count] == 0:
        return None
    scaled = sum(opened[index] * multiplier for index, multiplier in node.parts)
    return _decimal(scaled, node.decimals)


def _decimal(scaled: int, decimals: int) -> int | Decimal:
    if decimals == 0:
        return scaled
    return Decimal(scaled).scaleb(-decimals, context=EXACT)


def number(value: Cell) -> Fraction | None:
    """A numeric value exactly, or None for NULL."""
    if isinstance(value, Average):
        return value.exact()
    return None if value is None or isinstance(value, str) else Fraction(value)


def _computed(node: Computed, labels: Sequence[str | None], opened: Sequence[int]) -> Cell:
    left = evaluate(node.left, labels, opened)
    right = evaluate(node.right, labels, opened)
    first, second = number(left), number(right)
    if first is None or second is None or (node.operator == "/" and second == 0):
        return None
    if node.operator == "/":
        return first / second
    if node.operator == "*":
        exact = first * second
    else:
        exact = first + second if node.operator == "+" else first - second
    if isinstance(left, int) and isinstance(right, int):
        return int(exact)
    return exact


def holds(node: Having, labels: Sequence[str | None], opened: Sequence[int]) -> bool | None:
    """Whether a group satisfies HAVING; None is SQL's unknown."""
    if isinstance(node, Test):
        return _test(node, labels, opened)
    outcomes = [holds(part, labels, opened) for part in node.parts]
    if node.operator == "not":
        return None if outcomes[0] is None else not outcomes[0]
    decisive = node.operator == "or"
    if decisive in outcomes:
        return decisive
    return None if None in outcomes else not decisive


def _test(node: Test, labels: Sequence[str | None], opened: Sequence[int]) -> bool | None:
    left = number(evaluate(node.left, labels, opened))
    right = number(evaluate(node.right, labels, opened))
    if left is None or right is None:
        return None
    return {
        "=": left == right,
        "<>": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[node.operator]


def ordered(part: AggregatePart, rows: Sequence[Row]) -> list[Row]:
    """ORDER BY and LIMIT over released rows; NULL and refused groups come last."""

    def compare(first: Row, second: Row) -> int:
        for position, descending in part.order:
            pair = (first.values[position], second.values[position])
            value = part.answers[position].value
            if isinstance(value, GroupLabel) and value.numeric:
                pair = (_first_value(pair[0]), _first_value(pair[1]))
            order = _compare(*pair, descending)
            if order:
                return order
        return 0

    arranged = list(rows)
    if part.order:
        kept = [row for row in rows if not row.refused]
        arranged = sorted(kept, key=cmp_to_key(compare)) + [row for row in rows if row.refused]
    return arranged if part.limit < 0 else arranged[: part.limit]


def _first_value(label: Cell) -> Cell:
    return Decimal(label.partition("..")[0]) if isinstance(label, str) else label


def _compare(first: Cell, second: Cell, descending: bool) -> int:
    if first is None or second is None:
        return (first is None) - (second is None)
    if isinstance(first, str) and isinstance(second, str):
        order = (first.encode() > second.encode()) - (first.encode() < second.encode())
    else:
        left, right = number(first) or Fraction(0), number(second) or Fraction(0)
        order = (left > right) - (left < right)
    return -order if descending else order


def band_rows(cuts: Sequence[int], scores: Sequence[int]) -> list[Row]:
    """How many scores lie in each band: below the first cut, between cuts, from the last on."""
    counts = [0] * (len(cuts) + 1)
    for score in scores:
        counts[sum(score >= cut for cut in cuts)] += 1
    edges = ["", *map(str, cuts), ""]
    return [
        Row(("band", "count"), (f"{low}..{high}" if high == "" else f"{low}..<{high}", count))
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
        if count
    ]
