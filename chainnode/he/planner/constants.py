"""Rule 2a, constants: a comparison with a constant becomes bins or digits where it is true."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from chainnode.he.planner.polynomial import (
    ONE,
    ZERO,
    Polynomial,
    add,
    indicators,
    multiply,
)
from chainnode.he.planner.refusals import unsupported
from chainnode.he.planner.tree import Between, Compare, Constant, Like, Within
from chainnode.he.schema import EXACT, Bins, Column, Digits, OneHot, day_number, plain_number

Sides = tuple[Polynomial, Polynomial]
"""Where a condition is true and where it is false; a missing value is in neither."""

_CATEGORIES_SHOWN = 40


def sides(node: Compare | Between | Within | Like, column: Column) -> Sides:
    """The condition over the column's stored indicators.

    Raises:
        ClientFault: `SQL_UNSUPPORTED` naming the constant and the nearest edges.
    """
    encoding = column.encoding
    if encoding is None:
        raise unsupported(
            node.text, "the column has no bins, only values to sum", "filter on another column"
        )
    if isinstance(encoding, Digits) and not isinstance(node, Like):
        return _digit_sides(node, column, encoding)
    if isinstance(encoding, OneHot):
        bins = _category_bins(node, column, encoding)
    elif isinstance(node, Like) or isinstance(encoding, Digits):
        raise unsupported(node.text, "LIKE is for categories", "compare numbers with < and >=")
    else:
        bins = _interval_bins(node, column, encoding)
    count = encoding.bin_count()
    rest = [index for index in range(count) if index not in bins]
    return indicators(column.name, sorted(bins)), indicators(column.name, rest)


# --- categories -----------------------------------------------------------------------------------


def _category_bins(
    node: Compare | Between | Within | Like, column: Column, encoding: OneHot
) -> set[int]:
    known = ", ".join(encoding.categories[:_CATEGORIES_SHOWN])
    if isinstance(node, Like):
        return {
            index for index, text in enumerate(encoding.categories) if matches(node.pattern, text)
        }
    if isinstance(node, Between) or (
        isinstance(node, Compare) and node.operator not in ("=", "<>")
    ):
        raise unsupported(node.text, "categories have no order", f"{column.name} IN ({known})")
    constants = node.constants if isinstance(node, Within) else (node.constant,)
    chosen = set()
    for constant in constants:
        if constant.text not in encoding.categories:
            raise unsupported(
                node.text, f"{constant.text!r} is not a category", f"{column.name} IN ({known})"
            )
        chosen.add(encoding.categories.index(constant.text))
    if isinstance(node, Compare) and node.operator == "<>":
        return set(range(encoding.bin_count())) - chosen
    return chosen


def matches(pattern: str, text: str) -> bool:
    """SQL LIKE without escapes: % is any text, _ any one character."""
    reached = {0}
    for symbol in pattern:
        if symbol == "%":
            reached = set(range(min(reached, default=len(text) + 1), len(text) + 1))
        else:
            reached = {
                place + 1 for place in reached if place < len(text) and symbol in ("_", text[place])
            }
    return len(text) in reached


# --- bins -----------------------------------------------------------------------------------------


def _interval_bins(node: Compare | Between | Within, column: Column, encoding: Bins) -> set[int]:
    everything = set(range(encoding.bin_count()))
    if isinstance(node, Within):
        parts = [_point(item, node.text, column, encoding) for item in node.constants]
        return set().union(*parts)
    if isinstance(node, Between):
        below_low = _below(at_least(node.low, node.text, encoding), node.text, column, encoding)
        up_to_high = _below(above(node.high, node.text, encoding), node.text, column, encoding)
        return up_to_high - below_low
    if node.operator in ("=", "<>"):
        point = _point(node.constant, node.text, column, encoding)
        return point if node.operator == "=" else everything - point
    limit = at_least if node.operator in ("<", ">=") else above
    below = _below(limit(node.constant, node.text, encoding), node.text, column, encoding)
    return below if node.operator in ("<", "<=") else everything - below


def _number(constant: Constant, text: str, encoding: Bins | Digits) -> Decimal:
    if encoding.dates:
        days = day_number(constant.text) if constant.kind != "number" else None
        if days is None:
            raise unsupported(
                text, f"{constant.text[:20]!r} is not a date", "write DATE 'YYYY-MM-DD'"
            )
        return Decimal(days)
    value = None if constant.kind != "number" else plain_number(constant.text)
    if value is None:
        reason = f"{constant.text[:20]!r} is not a number of at most 15 digits"
        raise unsupported(text, reason, "compare with a number")
    return value.scaleb(encoding.decimals, context=EXACT)


def at_least(constant: Constant, text: str, encoding: Bins | Digits) -> int:
    """The smallest stored integer not below the constant: x < c and x < ceil(c) say the same."""
    return int(_number(constant, text, encoding).to_integral_value(ROUND_CEILING, EXACT))


def above(constant: Constant, text: str, encoding: Bins | Digits) -> int:
    """The smallest stored integer above the constant."""
    return int(_number(constant, text, encoding).to_integral_value(ROUND_FLOOR, EXACT)) + 1


def _below(limit: int, text: str, column: Column, encoding: Bins) -> set[int]:
    bounds = encoding.bounds()
    clamped = max(bounds[0], min(limit, bounds[-1]))
    if clamped not in bounds:
        lower = max(edge for edge in bounds if edge < clamped)
        upper = min(edge for edge in bounds if edge > clamped)
        near = " or ".join(f"{column.name} < {encoding.text(edge)}" for edge in (lower, upper))
        raise unsupported(text, "the constant is not on a bin edge", f"nearest: {near}")
    return set(range(bounds.index(clamped)))


def _point(constant: Constant, text: str, column: Column, encoding: Bins) -> set[int]:
    low, high = at_least(constant, text, encoding), above(constant, text, encoding)
    if low == high:
        return set()
    bounds = encoding.bounds()
    index = max((i for i, edge in enumerate(bounds) if edge <= low), default=-1)
    if not 0 <= index < encoding.bin_count():
        return set()
    if bounds[index] != low or bounds[index + 1] != high:
        inside = f"{encoding.text(bounds[index])} <= {column.name}"
        near = f"{inside} AND {column.name} < {encoding.text(bounds[index + 1])}"
        raise unsupported(text, "the constant is not a bin of its own", f"nearest: {near}")
    return {index}


# --- digits ---------------------------------------------------------------------------------------


def _digit_sides(node: Compare | Between | Within, column: Column, encoding: Digits) -> Sides:
    if isinstance(node, Between):
        low = at_least(node.low, node.text, encoding)
        high = above(node.high, node.text, encoding)
        return _inside(low, high, column, encoding)
    if isinstance(node, Within):
        known = _known(column, encoding)
        true: Polynomial = ZERO
        for point in sorted({_exact(item, node.text, encoding) for item in node.constants}):
            true = add(true, _inside(point, point + 1, column, encoding)[0])
        return true, add(known, true, -1)
    if node.operator in ("=", "<>"):
        point = _exact(node.constant, node.text, encoding)
        true, false = _inside(point, point + 1, column, encoding)
        return (true, false) if node.operator == "=" else (false, true)
    limit = at_least if node.operator in ("<", ">=") else above
    edge = limit(node.constant, node.text, encoding)
    below = digits_below(edge, column, encoding)
    rest = digits_from(edge, column, encoding)
    return (below, rest) if node.operator in ("<", "<=") else (rest, below)


def _exact(constant: Constant, text: str, encoding: Digits) -> int:
    """The stored integer equal to the constant; one outside the column's range if there is none."""
    low, high = at_least(constant, text, encoding), above(constant, text, encoding)
    return low if low < high else encoding.maximum + 1


def _inside(low: int, high: int, column: Column, encoding: Digits) -> Sides:
    """low <= value < high."""
    if low >= high or low > encoding.maximum or high <= encoding.minimum:
        return ZERO, _known(column, encoding)
    true: Polynomial
    if high == low + 1:
        true = ONE
        for place in range(encoding.digit_count()):
            digit = ((low - encoding.minimum) >> (place * encoding.digit_bits)) & _mask(encoding)
            true = multiply(true, indicators(column.digit(place), [digit]))
    elif low <= encoding.minimum:
        true = digits_below(high, column, encoding)
    elif high > encoding.maximum:
        true = digits_from(low, column, encoding)
    else:
        true = add(digits_below(high, column, encoding), digits_below(low, column, encoding), -1)
    return true, add(_known(column, encoding), true, -1)


def _mask(encoding: Digits) -> int:
    return (1 << encoding.digit_bits) - 1


def _known(column: Column, encoding: Digits) -> Polynomial:
    """1 on rows with a value: the sum over the digit with the fewest values."""
    places = range(encoding.digit_count())
    place = min(places, key=encoding.digit_values)
    return indicators(column.digit(place), range(encoding.digit_values(place)))


def digits_below(limit: int, column: Column, encoding: Digits) -> Polynomial:
    """value < limit: some digit is smaller and all above it are equal."""
    offset = limit - encoding.minimum
    if offset <= 0:
        return ZERO
    if limit > encoding.maximum:
        return _known(column, encoding)
    return _ordered(offset, column, encoding, smaller=True)


def digits_from(limit: int, column: Column, encoding: Digits) -> Polynomial:
    """value >= limit, that is value > limit - 1."""
    offset = limit - encoding.minimum
    if offset <= 0:
        return _known(column, encoding)
    if limit > encoding.maximum:
        return ZERO
    return _ordered(offset - 1, column, encoding, smaller=False)


def _ordered(offset: int, column: Column, encoding: Digits, smaller: bool) -> Polynomial:
    total: Polynomial = ZERO
    equal: Polynomial = ONE
    for place in reversed(range(encoding.digit_count())):
        digit = (offset >> (place * encoding.digit_bits)) & _mask(encoding)
        values = encoding.digit_values(place)
        strict = range(digit) if smaller else range(digit + 1, values)
        total = add(total, multiply(equal, indicators(column.digit(place), strict)))
        equal = multiply(equal, indicators(column.digit(place), [digit]))
    return total
