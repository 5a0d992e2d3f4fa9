"""Rule 5, values: what an aggregate sums, as exact pieces of arithmetic times 0/1 conditions.

A value is zero wherever it is NULL, so that a sum needs no more; where it is not NULL is kept
beside it, for averages and for the NULL of SQL's empty sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from chainnode.he.planner.bind import present
from chainnode.he.planner.normal_form import condition
from chainnode.he.planner.polynomial import (
    ONE,
    VALUE,
    ZERO,
    Monomial,
    Polynomial,
    complement,
    multiply,
)
from chainnode.he.planner.refusals import unsupported
from chainnode.he.planner.tree import Arithmetic, Case, Number, Quantity, Value
from chainnode.he.schema import Column, TableSchema
from chainnode.types.limits import SQL_VALUE_PARTS_MAX

Arithmetics = dict[Monomial, Fraction]
"""A polynomial in SQL value columns with decimal coefficients."""

Condition = tuple[tuple[Monomial, int], ...]
"""A 0/1 polynomial in a canonical order, to be a key."""


@dataclass(frozen=True, slots=True)
class Summed:
    """An aggregate's argument.

    Args:
        pieces: arithmetic by the 0/1 condition it is multiplied with; their sum is the value.
        known: 1 where the value is not NULL.
        branches: conditions of CASE that select a value: each needs a group of its own.
    """

    pieces: Mapping[Condition, Arithmetics]
    known: Polynomial
    branches: tuple[Polynomial, ...] = ()


def key(polynomial: Polynomial) -> Condition:
    """A polynomial as a dictionary key."""
    return tuple(sorted(polynomial.items()))


def summed(node: Number, schema: TableSchema) -> Summed:
    """Expand an argument.

    Raises:
        ClientFault: `PLAN_TOO_DEEP` or `SQL_UNSUPPORTED`.
    """
    if isinstance(node, Quantity):
        return Summed({key(ONE): {(): node.value}} if node.value else {}, ONE)
    if isinstance(node, Value):
        column = _column(node, schema)
        scale = Fraction(1, 10**column.value_decimals)
        return Summed({key(ONE): {((column.name, VALUE),): scale}}, present(column))
    if isinstance(node, Case):
        return _case(node, schema)
    left, right = summed(node.left, schema), summed(node.right, schema)
    return _arithmetic(node, left, right)


def _column(node: Value, schema: TableSchema) -> Column:
    column = schema.column(node.column.column)
    if column is None:
        raise unsupported(node.column.column, "no such column", "name a column of the table")
    return column


def _arithmetic(node: Arithmetic, left: Summed, right: Summed) -> Summed:
    known = multiply(left.known, right.known)
    branches = left.branches + right.branches
    pieces: dict[Condition, Arithmetics] = {}
    if node.operator == "*":
        for first, first_value in left.pieces.items():
            for second, second_value in right.pieces.items():
                both = multiply(dict(first), dict(second))
                _collect(pieces, both, _times(first_value, second_value), 1)
        return _checked(Summed(pieces, known, branches))
    sign = 1 if node.operator == "+" else -1
    for side, other, factor in ((left, right, 1), (right, left, sign)):
        for piece, value in side.pieces.items():
            _collect(pieces, multiply(dict(piece), other.known), value, factor)
    return _checked(Summed(pieces, known, branches))


def _case(node: Case, schema: TableSchema) -> Summed:
    pieces: dict[Condition, Arithmetics] = {}
    branches: list[Polynomial] = []
    known: dict[Monomial, int] = {}
    reached: Polynomial = ONE
    for predicate, number in node.branches:
        hit = condition(predicate)
        _branch(summed(number, schema), multiply(reached, hit), pieces, known, branches)
        reached = multiply(reached, complement(hit))
    if node.otherwise is not None:
        _branch(summed(node.otherwise, schema), reached, pieces, known, branches)
    return _checked(Summed(pieces, known, tuple(branches)))


def _branch(
    value: Summed,
    taken: Polynomial,
    pieces: dict[Condition, Arithmetics],
    known: dict[Monomial, int],
    branches: list[Polynomial],
) -> None:
    for piece, arithmetic in value.pieces.items():
        _collect(pieces, multiply(dict(piece), taken), arithmetic, 1)
    for monomial, coefficient in multiply(taken, value.known).items():
        total = known.pop(monomial, 0) + coefficient
        if total:
            known[monomial] = total
    if value.pieces:
        branches.append(taken)
    branches.extend(multiply(taken, inner) for inner in value.branches)


def _collect(
    pieces: dict[Condition, Arithmetics], where: Polynomial, value: Arithmetics, factor: int
) -> None:
    if where == ZERO:
        return
    into = pieces.setdefault(key(where), {})
    for monomial, coefficient in value.items():
        total = into.pop(monomial, Fraction(0)) + factor * coefficient
        if total:
            into[monomial] = total
    if not into:
        del pieces[key(where)]


def _times(left: Arithmetics, right: Arithmetics) -> Arithmetics:
    total: Arithmetics = {}
    for first, first_value in left.items():
        for second, second_value in right.items():
            monomial = tuple(sorted(first + second))
            value = total.pop(monomial, Fraction(0)) + first_value * second_value
            if value:
                total[monomial] = value
    return total


def _checked(value: Summed) -> Summed:
    if (
        len(value.pieces) > SQL_VALUE_PARTS_MAX
        or sum(map(len, value.pieces.values())) > 16 * SQL_VALUE_PARTS_MAX
    ):
        raise unsupported(
            "the argument",
            f"expands to more than {SQL_VALUE_PARTS_MAX} parts",
            "sum the parts separately",
        )
    return value


# --- derived columns ------------------------------------------------------------------------------


def with_derived(
    pieces: Mapping[Condition, Arithmetics], derived: Derived
) -> dict[Condition, Arithmetics]:
    """Read a column that the owner stores in place of the arithmetic it was made with."""
    replaced: dict[Condition, Arithmetics] = {}
    for where, value in pieces.items():
        replaced[where] = next(
            (found for name, known in derived if (found := _stored(value, name, known))), value
        )
    return replaced


Derived = tuple[tuple[Column, Arithmetics], ...]


def _stored(value: Arithmetics, column: Column, known: Arithmetics) -> Arithmetics | None:
    if set(value) != set(known) or ((column.name, VALUE),) in value:
        return None
    ratios = {value[monomial] / known[monomial] for monomial in known}
    if len(ratios) != 1:
        return None
    return {((column.name, VALUE),): ratios.pop() / 10**column.value_decimals}
