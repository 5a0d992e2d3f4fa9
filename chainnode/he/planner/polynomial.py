"""Integer polynomials over stored columns: algebra, and their writing as few products.

A variable is an indicator (feature, bin) or a value column. Indicators of one feature exclude each
other (b_i b_j = 0, b_i b_i = b_i); values may be multiplied with themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import gcd
from typing import Final

from chainnode.he.plan import LinearForm, Term
from chainnode.he.schema import PRESENCE_COLUMN
from chainnode.types.errors import ClientFault
from chainnode.types.limits import SQL_PRODUCTS_MAX

VALUE: Final = -1
MISSING: Final = 1 << 20

Variable = tuple[str, int]
"""(feature, bin), (feature, MISSING) or (value column, VALUE)."""

Monomial = tuple[Variable, ...]
"""Sorted variables; at most one bin of a feature; the empty one is the number 1."""

Polynomial = Mapping[Monomial, int]
"""Non-zero integer coefficients."""

ONE: Final[Polynomial] = {(): 1}
ZERO: Final[Polynomial] = {}


def stored_name(variable: Variable) -> str:
    """The ciphertext column of a variable."""
    name, index = variable
    if index == VALUE:
        return name
    return f"{name}.missing" if index == MISSING else f"{name}.{index}"


def indicators(feature: str, bins: Iterable[int]) -> Polynomial:
    """1 where the feature's bin is one of `bins`."""
    return {((feature, index),): 1 for index in bins}


def add(left: Polynomial, right: Polynomial, factor: int = 1) -> Polynomial:
    """left + factor x right."""
    total = dict(left)
    for monomial, coefficient in right.items():
        value = total.pop(monomial, 0) + factor * coefficient
        if value != 0:
            total[monomial] = value
    return total


def complement(condition: Polynomial) -> Polynomial:
    """1 - condition: every row where it is not true, missing values included."""
    return add(ONE, condition, -1)


def multiply(left: Polynomial, right: Polynomial) -> Polynomial:
    """left x right.

    Raises:
        ClientFault: `PLAN_TOO_DEEP` when the product has too many terms to be worth planning.
    """
    if left == ONE:
        return right
    if right == ONE:
        return left
    if len(left) * len(right) > 16 * SQL_PRODUCTS_MAX:
        raise _too_many(len(left) * len(right))
    total: dict[Monomial, int] = {}
    for first, first_coefficient in left.items():
        for second, second_coefficient in right.items():
            merged = _merge(first, second)
            if merged is None:
                continue
            value = total.pop(merged, 0) + first_coefficient * second_coefficient
            if value != 0:
                total[merged] = value
    if len(total) > SQL_PRODUCTS_MAX:
        raise _too_many(len(total))
    return total


def _merge(first: Monomial, second: Monomial) -> Monomial | None:
    chosen = dict(first)
    values = [variable for variable in first if variable[1] == VALUE]
    for feature, index in second:
        if index == VALUE:
            values.append((feature, index))
        elif chosen.setdefault(feature, index) != index:
            return None
    bins = [(feature, index) for feature, index in chosen.items() if index != VALUE]
    return tuple(sorted([*bins, *values]))


def degree(terms: Polynomial) -> int:
    """The largest number of columns multiplied."""
    return max((len(monomial) for monomial in terms), default=0)


def content(terms: Polynomial) -> int:
    """The greatest common divisor of the coefficients; 1 for none."""
    return gcd(*terms.values()) or 1


# --- few products ---------------------------------------------------------------------------------

_Rest = tuple[tuple[Monomial, int], ...]


def factor(terms: Polynomial) -> tuple[Term, ...]:
    """Terms whose sum is the polynomial; equal co-factors share one product.

    A pivot feature is taken out of every monomial; variables whose remainders are proportional
    form one linear form, which multiplies the remainder's own terms. The pivot that leaves the
    fewest remainders is taken first. A constant 1 stands for the absent variable.
    """
    return tuple(Term(tuple(forms)) for forms in _factor(terms))


def _factor(terms: Polynomial) -> list[list[LinearForm]]:
    if not terms:
        return []
    if degree(terms) <= 1:
        return [[_form(terms)]]
    features = sorted({_class(variable) for monomial in terms for variable in monomial})
    best: dict[_Rest, dict[Monomial, int]] | None = None
    for feature in features:
        shared = _pivot(terms, feature)
        if best is None or len(shared) < len(best):
            best = shared
    products: list[list[LinearForm]] = []
    alone: Polynomial = {}
    for rest, left in (best or {}).items():
        remainder = dict(rest)
        if degree(remainder) == 0:
            alone = add(alone, left, remainder[()])
        elif set(left) == {()}:
            alone = add(alone, remainder, left[()])
        else:
            products += [[_form(left), *forms] for forms in _factor(remainder)]
    linear = {monomial: value for monomial, value in alone.items() if len(monomial) <= 1}
    # What is left has lost the pivot feature, so this ends.
    deeper = {monomial: value for monomial, value in alone.items() if len(monomial) > 1}
    return ([[_form(linear)]] if linear else []) + products + _factor(deeper)


def _class(variable: Variable) -> str:
    return "" if variable[1] == VALUE else variable[0]


def _pivot(terms: Polynomial, feature: str) -> dict[_Rest, dict[Monomial, int]]:
    rests: dict[Monomial, dict[Monomial, int]] = {}
    for monomial, coefficient in terms.items():
        place = next((i for i, item in enumerate(monomial) if _class(item) == feature), None)
        if place is None:
            rests.setdefault((), {})[monomial] = coefficient
        else:
            rest = monomial[:place] + monomial[place + 1 :]
            rests.setdefault((monomial[place],), {})[rest] = coefficient
    shared: dict[_Rest, dict[Monomial, int]] = {}
    for variable in sorted(rests):
        rest_terms = sorted(rests[variable].items())
        unit = gcd(*(value for _, value in rest_terms))
        unit = -unit if rest_terms[0][1] < 0 else unit
        normal = tuple((monomial, value // unit) for monomial, value in rest_terms)
        shared.setdefault(normal, {})[variable] = unit
    return shared


def _form(terms: Polynomial) -> LinearForm:
    pairs = sorted((monomial[0], value) for monomial, value in terms.items() if monomial)
    names = tuple(stored_name(variable) for variable, _ in pairs)
    return LinearForm(names, tuple(value for _, value in pairs), terms.get((), 0))


def product(left: tuple[Term, ...], right: tuple[Term, ...]) -> tuple[Term, ...]:
    """Every term of one times every term of the other."""
    return tuple(Term(a.factors + b.factors) for a in left for b in right)


def grounded(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """The same terms, zero in slots that hold no row.

    A product whose every factor has a constant would not vanish there: the first factor's constant
    becomes a multiple of the presence column.
    """
    done = []
    for term in terms:
        first = term.factors[0]
        if all(form.constant != 0 for form in term.factors):
            first = LinearForm(
                (*first.columns, PRESENCE_COLUMN), (*first.weights, first.constant), 0
            )
        done.append(Term((first, *term.factors[1:])))
    return tuple(done)


def scaled_to_integers(terms: Mapping[Monomial, Fraction]) -> int:
    """The smallest d such that 10^d times every coefficient is whole.

    Coefficients are decimal numbers, so there is one.
    """
    decimals = 0
    while any((value * 10**decimals).denominator != 1 for value in terms.values()):
        decimals += 1
    return decimals


def _too_many(terms: int) -> ClientFault:
    return ClientFault(
        "PLAN_TOO_DEEP",
        f"the condition expands to {terms} products of columns; at most {SQL_PRODUCTS_MAX}",
        fix="use at most two different columns in the condition",
    )
