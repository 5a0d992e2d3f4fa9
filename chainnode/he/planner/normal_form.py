"""Rule 4, normal form: a condition to an integer polynomial over one-hot indicators.

Indicators of one feature are exclusive (b_i b_j = 0, b_i b_i = b_i), so any condition on a single
feature is linear. NOT is pushed to the comparisons first, where it is the complement among a
feature's bins; a missing value is in no bin and therefore satisfies neither, as SQL wants.
"""

from __future__ import annotations

from chainnode.he.plan import LinearForm, Term
from chainnode.he.planner.tree import Bound, Connective, Predicate
from chainnode.he.schema import TableSchema
from chainnode.types.errors import ClientFault, InternalError

MONOMIALS_MAX = 4_096

Variable = tuple[str, int]
"""(feature, bin)."""

Monomial = tuple[Variable, ...]
"""Variables of different features, sorted."""

Polynomial = dict[Monomial, int]
"""Non-zero integer coefficients."""


def polynomial(node: Predicate) -> Polynomial:
    """The polynomial that is 1 on the rows where the condition is true and 0 elsewhere.

    Raises:
        ClientFault: `PLAN_TOO_DEEP` when it has too many terms to be worth planning.
    """
    return _build(node, False)


def _build(node: Predicate, negated: bool) -> Polynomial:
    if isinstance(node, Bound):
        others = [index for index in range(node.bin_count) if index not in node.bins]
        bins = others if negated else node.bins
        return {((node.feature, index),): 1 for index in bins}
    if not isinstance(node, Connective):
        raise InternalError("PREDICATE_UNBOUND", "a condition was not bound before planning")
    if node.operator == "not":
        return _build(node.parts[0], not negated)
    both = (node.operator == "and") != negated
    result = _build(node.parts[0], negated)
    for part in node.parts[1:]:
        other = _build(part, negated)
        product = multiply(result, other)
        result = product if both else add(add(result, other, 1), product, -1)
    return result


def add(left: Polynomial, right: Polynomial, factor: int) -> Polynomial:
    """left + factor x right."""
    total = dict(left)
    for monomial, coefficient in right.items():
        value = total.pop(monomial, 0) + factor * coefficient
        if value != 0:
            total[monomial] = value
    return total


def multiply(left: Polynomial, right: Polynomial) -> Polynomial:
    """left x right under the one-hot rules.

    Raises:
        ClientFault: `PLAN_TOO_DEEP`.
    """
    if len(left) * len(right) > 16 * MONOMIALS_MAX:
        raise _too_many(len(left) * len(right))
    total: Polynomial = {}
    for first, first_coefficient in left.items():
        for second, second_coefficient in right.items():
            merged = _merge(first, second)
            if merged is None:
                continue
            value = total.pop(merged, 0) + first_coefficient * second_coefficient
            if value != 0:
                total[merged] = value
    if len(total) > MONOMIALS_MAX:
        raise _too_many(len(total))
    return total


def _merge(first: Monomial, second: Monomial) -> Monomial | None:
    chosen = dict(first)
    for feature, index in second:
        if chosen.setdefault(feature, index) != index:
            return None
    return tuple(sorted(chosen.items()))


def degree(terms: Polynomial) -> int:
    """The largest number of different features multiplied."""
    return max((len(monomial) for monomial in terms), default=0)


def linear_form(terms: Polynomial, schema: TableSchema) -> LinearForm:
    """A polynomial of degree 1 as stored columns and weights, in a canonical order."""
    pairs = sorted((monomial[0], coefficient) for monomial, coefficient in terms.items())
    names = tuple(_stored_name(variable, schema) for variable, _ in pairs)
    return LinearForm(names, tuple(coefficient for _, coefficient in pairs))


def count_terms(terms: Polynomial, schema: TableSchema) -> tuple[Term, ...]:
    """A polynomial of degree 2 as few products: rows of its coefficient matrix that are equal
    share one product."""
    linear: Polynomial = {}
    rows: dict[Variable, Polynomial] = {}
    for monomial, coefficient in terms.items():
        if len(monomial) == 1:
            linear[monomial] = coefficient
        else:
            rows.setdefault(monomial[0], {})[monomial[1:]] = coefficient
    shared: dict[tuple[tuple[Monomial, int], ...], Polynomial] = {}
    for variable in sorted(rows):
        pattern = tuple(sorted(rows[variable].items()))
        shared.setdefault(pattern, {})[(variable,)] = 1
    result = [Term(linear_form(linear, schema))] if linear else []
    for pattern, left in shared.items():
        right = linear_form(dict(pattern), schema)
        result.append(Term(linear_form(left, schema), right))
    return tuple(result)


def _stored_name(variable: Variable, schema: TableSchema) -> str:
    feature, index = variable
    column = schema.column(feature)
    if column is None:
        raise InternalError("PREDICATE_UNBOUND", f"no column {feature}", subject=feature)
    return column.indicators()[index]


def _too_many(terms: int) -> ClientFault:
    return ClientFault(
        "PLAN_TOO_DEEP",
        f"the condition expands to {terms} products of indicators; at most {MONOMIALS_MAX}",
        fix="use at most two different columns in the condition",
    )
