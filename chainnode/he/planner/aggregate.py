"""Rule 7, aggregates: what the council opens for each group, and what the bank makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from itertools import product as combinations
from math import gcd
from typing import Final

from chainnode.he import plan as plans
from chainnode.he.plan import Answer, Output, Term, Total
from chainnode.he.planner import derived, values
from chainnode.he.planner.bind import BoundQuery, tested
from chainnode.he.planner.bind import aggregates as aggregates_of
from chainnode.he.planner.joints import with_joints
from chainnode.he.planner.normal_form import condition
from chainnode.he.planner.polynomial import (
    MISSING,
    ONE,
    VALUE,
    Monomial,
    Polynomial,
    factor,
    grounded,
    multiply,
    product,
    scaled_to_integers,
    stored_name,
)
from chainnode.he.planner.refusals import unsupported
from chainnode.he.planner.tree import (
    Aggregate,
    Computed,
    Expression,
    Having,
    Label,
    Quantity,
    Test,
)
from chainnode.he.schema import Bins, Column, Digits, OneHot, TableSchema
from chainnode.types.limits import SQL_GROUPS_MAX

Piece = tuple[Polynomial, Polynomial]
"""Integer arithmetic on stored value columns, and the 0/1 condition it is multiplied with."""

_NAME_CHARACTERS: Final = 80


@dataclass(frozen=True, slots=True)
class Opening:
    """One scalar to open in every group.

    Args:
        name: for people.
        kind: `count` is a gate.
        pieces: added together.
        low: smallest value of one row.
        high: largest value of one row.
    """

    name: str
    kind: plans.OutputKind
    pieces: tuple[Piece, ...]
    low: int
    high: int


class Openings:
    """The scalars a query needs in each group, each once; the first counts the group.

    Args:
        schema: of the table.
    """

    def __init__(self, schema: TableSchema) -> None:
        self._schema = schema
        self._derived = derived.known(schema)
        self._positions: dict[object, int] = {}
        self._totals: dict[str, Total] = {}
        self.listed: list[Opening] = []
        self.count(ONE, "COUNT(*)")

    def count(self, where: Polynomial, name: str) -> int:
        """The position of the count of rows where a condition is true."""
        return self._add(Opening(_short(name), "count", ((ONE, where),), 0, 1))

    def _add(self, opening: Opening) -> int:
        key = (opening.kind, tuple((values.key(v), values.key(p)) for v, p in opening.pieces))
        if key not in self._positions:
            self._positions[key] = len(self.listed)
            self.listed.append(opening)
        return self._positions[key]

    def total(self, node: Aggregate) -> Total:
        """The sum, or for COUNT the number of rows, of one aggregate.

        Raises:
            ClientFault: `SQL_UNSUPPORTED` or `PLAN_TOO_DEEP`.
        """
        where = condition(node.where)
        if node.where is not None and not where:
            raise unsupported(node.text, "its FILTER can never be true", "widen the condition")
        rows = self.count(where, f"rows of {node.text}")
        if node.argument is None:
            return Total(((rows, 1),), 0, -1)
        summed = values.summed(node.argument, self._schema)
        for number, branch in enumerate(summed.branches, start=1):
            taken = multiply(where, branch)
            if not taken:
                raise unsupported(node.text, "a CASE branch can never be taken", "leave it out")
            self.count(taken, f"rows of branch {number} of {node.text}")
        known = multiply(where, summed.known)
        rows = self.count(known, f"values of {node.text}")
        if node.kind == "count":
            return Total(((rows, 1),), 0, -1)
        pieces = values.with_derived(summed.pieces, self._derived)
        if not pieces:
            raise unsupported(node.text, "the sum is always 0", "drop it")
        parts, decimals = self._sums(node, pieces, where)
        return Total(parts, decimals, rows)

    def _sums(
        self,
        node: Aggregate,
        pieces: dict[values.Condition, values.Arithmetics],
        where: Polynomial,
    ) -> tuple[tuple[tuple[int, int], ...], int]:
        every: dict[Monomial, Fraction] = {}
        for index, arithmetic in enumerate(pieces.values()):
            every.update({((str(index), 0), *m): value for m, value in arithmetic.items()})
        decimals = scaled_to_integers(every)
        classes: dict[int, list[Piece]] = {}
        for taken, arithmetic in pieces.items():
            whole = {m: int(value * 10**decimals) for m, value in arithmetic.items()}
            for multiplier, terms in self._limbs(whole).items():
                classes.setdefault(multiplier, []).append((terms, multiply(where, dict(taken))))
        parts = []
        for multiplier, listed in sorted(classes.items()):
            summed = []
            for piece in listed:
                counted = self._counted(piece)
                if counted is None:
                    summed.append(piece)
                else:
                    parts.append((counted, multiplier * piece[0][()]))
            if not summed:
                continue
            unit = _common(summed)
            reduced = tuple(({m: c // unit for m, c in v.items()}, p) for v, p in summed)
            opening = self._sum_opening(node, multiplier, reduced)
            parts.append((self._add(opening), multiplier * unit))
        return tuple(parts), decimals

    def _counted(self, piece: Piece) -> int | None:
        """The position of the count that a constant piece is a multiple of, if it is opened."""
        arithmetic, where = piece
        if set(arithmetic) != {()}:
            return None
        return self._positions.get(("count", ((values.key(ONE), values.key(where)),)))

    def _limbs(self, terms: Polynomial) -> dict[int, dict[Monomial, int]]:
        """SQL columns to stored columns, by the power of two they are multiplied with."""
        classes: dict[int, dict[Monomial, int]] = {}
        for monomial, coefficient in terms.items():
            stored = [self._column(variable[0]).value_columns() for variable in monomial]
            for choice in combinations(*stored):
                multiplier = 1
                for _, factor_of_limb, _ in choice:
                    multiplier *= factor_of_limb
                into = classes.setdefault(multiplier, {})
                names = tuple(sorted((name, VALUE) for name, _, _ in choice))
                into[names] = into.get(names, 0) + coefficient
        return classes

    def _column(self, name: str) -> Column:
        column = self._schema.column(name)
        if column is None or column.value_maximum is None:
            raise unsupported(name, "the column holds no values to sum", "sum another column")
        return column

    def _sum_opening(self, node: Aggregate, multiplier: int, pieces: tuple[Piece, ...]) -> Opening:
        largest = {
            name: most
            for column in self._schema.columns
            for name, _, most in column.value_columns()
        }
        low = high = 0
        for terms, _ in pieces:
            bounds = [_times_largest(m, c, largest) for m, c in terms.items()]
            low += min(0, sum(min(0, bound) for bound in bounds) + terms.get((), 0))
            high += max(0, sum(max(0, bound) for bound in bounds) + terms.get((), 0))
        texts = [_text(terms) for terms, _ in pieces]
        name = f"SUM({texts[0]})" if len(pieces) == 1 else f"{node.text} / {multiplier}"
        return Opening(_short(name), "sum", pieces, low, high)


def _times_largest(monomial: Monomial, coefficient: int, largest: dict[str, int]) -> int:
    if not monomial:
        return 0
    for name, _ in monomial:
        coefficient *= largest[name]
    return coefficient


def _common(pieces: Sequence[Piece]) -> int:
    return gcd(*(value for terms, _ in pieces for value in terms.values())) or 1


def _text(terms: Polynomial) -> str:
    parts = []
    for monomial, coefficient in sorted(terms.items()):
        names = " ".join(stored_name(variable) for variable in monomial)
        size = "" if abs(coefficient) == 1 and names else f"{abs(coefficient)} "
        parts.append(f"{'-' if coefficient < 0 else '+'} {size}{names}".rstrip())
    return " ".join(parts).removeprefix("+ ")


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 3] + "..."


# --- groups ---------------------------------------------------------------------------------------


Grouped = tuple[tuple[str | None, ...], Polynomial]


def groups(bound: BoundQuery, schema: TableSchema) -> list[Grouped]:
    """Labels and condition of every group that can hold a row.

    Raises:
        ClientFault: `SQL_UNSUPPORTED`.
    """
    where = condition(bound.query.where)
    if not where:
        raise unsupported("WHERE", "the condition can never be true", "widen the condition")
    found: list[Grouped] = [((), where)]
    private = bound.query.private
    for place, group in enumerate(bound.query.groups, 1):
        choices = _choices(schema, group.column.column)
        if private is not None and place == len(bound.query.groups):
            # A missing value satisfies no comparison.
            choices = [choice for choice in choices if choice[0] is not None]
        if len(found) * len(choices) > SQL_GROUPS_MAX:
            raise unsupported(
                group.text, f"more than {SQL_GROUPS_MAX} groups", "group by fewer columns"
            )
        found = [
            ((*labels, label), multiply(terms, chosen))
            for labels, terms in found
            for label, chosen in choices
        ]
    if private is not None and not all(terms for _, terms in found):
        raise unsupported(
            private.text,
            "every category must be possible beside the other conditions",
            "leave the other condition on this column out",
        )
    found = [(labels, terms) for labels, terms in found if terms]
    if not found:
        raise unsupported("WHERE", "the condition is true in no group", "widen the condition")
    return found


def _choices(schema: TableSchema, name: str) -> list[tuple[str | None, Polynomial]]:
    column = schema.column(name)
    encoding = None if column is None else column.encoding
    if column is None or encoding is None or isinstance(encoding, Digits):
        raise unsupported(name, "GROUP BY takes a category column", "group by another column")
    labels = list(encoding.categories if isinstance(encoding, OneHot) else band_labels(encoding))
    found: list[tuple[str | None, Polynomial]] = [
        (label, {((column.name, index),): 1}) for index, label in enumerate(labels)
    ]
    if encoding.missing:
        found.append((None, {((column.name, MISSING),): 1}))
    return found


def band_labels(encoding: Bins) -> list[str]:
    """The name of every bin: its value if it holds one, else its first and last value."""
    bounds = encoding.bounds()
    labels = []
    for low, high in pairwise(bounds):
        first, last = encoding.text(low), encoding.text(high - 1)
        labels.append(first if first == last else f"{first}..{last}")
    return labels


def label_text(labels: tuple[str | None, ...]) -> str:
    """A group's labels for people."""
    return ", ".join("NULL" if label is None else label for label in labels)


# --- outputs --------------------------------------------------------------------------------------


def output_terms(opening: Opening, group: Polynomial, schema: TableSchema) -> tuple[Term, ...]:
    """The products of stored columns whose sum over all slots is the scalar.

    No terms mean that the scalar is always 0 in this group.
    """
    terms: list[Term] = []
    constant: dict[Monomial, int] = {}
    for arithmetic, taken in opening.pieces:
        where = with_joints(multiply(group, taken), schema)
        if set(arithmetic) == {()}:
            for monomial, value in where.items():
                total = constant.pop(monomial, 0) + arithmetic[()] * value
                if total:
                    constant[monomial] = total
        elif where == ONE:
            terms.extend(factor(arithmetic))
        else:
            terms.extend(product(factor(arithmetic), factor(where)))
    return grounded((*factor(constant), *terms))


def outputs(
    listed: Sequence[Opening], found: Sequence[Grouped], schema: TableSchema
) -> list[Output]:
    """Every scalar of every group, ranges included; noise is still to be bounded.

    Raises:
        ClientFault: `SQL_UNSUPPORTED` where one is always 0 in a group.
    """
    made = []
    for index, (labels, where) in enumerate(found):
        text = label_text(labels)
        for opening in listed:
            terms = output_terms(opening, where, schema)
            name = f"{text}: {opening.name}" if text else opening.name
            if not terms:
                raise unsupported(
                    name, "it is always 0 in this group", "ask for this group in a query of its own"
                )
            low, high = schema.rows * opening.low, schema.rows * opening.high
            made.append(Output(name, index, opening.kind, terms, low, high, 0))
    return made


# --- answers --------------------------------------------------------------------------------------


def answers(bound: BoundQuery, openings: Openings) -> tuple[Answer, ...]:
    """The user's columns."""
    return tuple(
        Answer(item.name, released(item.expression, openings)) for item in bound.query.items
    )


def released(node: Expression, openings: Openings) -> plans.Expression:
    """An expression over opened scalars."""
    if isinstance(node, Label):
        return plans.GroupLabel(node.position, node.numeric)
    if isinstance(node, Quantity):
        decimals = scaled_to_integers({(): node.value})
        return plans.Number(int(node.value * 10**decimals), decimals)
    if isinstance(node, Computed):
        left = released(node.left, openings)
        return plans.Computed(node.operator, left, released(node.right, openings))
    total = openings.total(node)
    return plans.Mean(total) if node.kind == "avg" else total


def having(node: Having, openings: Openings) -> plans.Having:
    """A HAVING condition over opened scalars."""
    if isinstance(node, Test):
        left = released(node.left, openings)
        return plans.Test(node.operator, left, released(node.right, openings))
    return plans.Connective(node.operator, tuple(having(part, openings) for part in node.parts))


def used(bound: BoundQuery) -> tuple[Aggregate, ...]:
    """Every aggregate of the query."""
    selected = [found for item in bound.query.items for found in aggregates_of(item.expression)]
    return (*selected, *tested(bound.query.having))
