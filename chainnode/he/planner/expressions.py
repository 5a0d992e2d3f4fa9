"""Rule 1c, expressions: aggregates, their arguments, and arithmetic on released numbers."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from sqlglot import exp

from chainnode.he.planner import conditions
from chainnode.he.planner.refusals import SUPPORTED, too_deep, unsupported
from chainnode.he.planner.scope import Scope, only, shown
from chainnode.he.planner.tree import (
    Aggregate,
    AggregateKind,
    Arithmetic,
    Case,
    Computed,
    Expression,
    Group,
    Having,
    Label,
    Number,
    Predicate,
    Quantity,
    Test,
    TestConnective,
    Value,
)
from chainnode.he.schema import plain_number
from chainnode.types.limits import SQL_DEPTH_MAX

Operator = Literal["+", "-", "*", "/"]
_OPERATORS: dict[type[exp.Expr], Operator] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
}
_KINDS: dict[type[exp.Expr], AggregateKind] = {
    exp.Count: "count",
    exp.Sum: "sum",
    exp.Avg: "avg",
}


def released(node: exp.Expr, scope: Scope, groups: tuple[Group, ...], depth: int) -> Expression:
    """What the bank computes from opened numbers.

    Raises:
        ClientFault: `SQL_TOO_DEEP` or `SQL_UNSUPPORTED`.
    """
    if depth > SQL_DEPTH_MAX:
        raise too_deep()
    if isinstance(node, exp.Paren):
        return released(node.this, scope, groups, depth + 1)
    if isinstance(node, exp.Filter) or type(node) in _KINDS:
        return _aggregate(node, scope)
    quantity = _quantity(node)
    if quantity is not None:
        return quantity
    if isinstance(node, exp.Neg):
        inner = released(node.this, scope, groups, depth + 1)
        if isinstance(inner, Label):
            raise unsupported(shown(node), "group labels are not numbers", "select the column")
        return Computed("-", Quantity(Fraction(0)), inner)
    operator = _OPERATORS.get(type(node))
    if operator is not None:
        left = released(node.this, scope, groups, depth + 1)
        right = released(node.args["expression"], scope, groups, depth + 1)
        if isinstance(left, Label) or isinstance(right, Label):
            raise unsupported(shown(node), "group labels are not numbers", "select the column")
        return Computed(operator, left, right)
    return _label(node, scope, groups)


def _label(node: exp.Expr, scope: Scope, groups: tuple[Group, ...]) -> Expression:
    banded = isinstance(node, exp.Anonymous) and node.name.upper() == "BAND"
    if isinstance(node, exp.Anonymous) and banded and len(node.expressions) == 1:
        node = node.expressions[0]
    if not isinstance(node, exp.Column) or isinstance(node.this, exp.Star):
        raise unsupported(shown(node), "not a supported expression", SUPPORTED)
    column = scope.column(node, "SELECT")
    for position, group in enumerate(groups):
        if group.column.column.casefold() == column.column.casefold() and group.banded == banded:
            return Label(position)
    raise unsupported(
        column.column,
        "a selected column must be the GROUP BY column",
        "rows are never released: aggregate the column with COUNT, SUM or AVG, or group by it",
    )


def _aggregate(node: exp.Expr, scope: Scope) -> Aggregate:
    text = shown(node)
    where: Predicate | None = None
    inner = node
    if isinstance(node, exp.Filter):
        only(node, "this", "expression")
        inner = node.this
        where = conditions.predicate(node.args["expression"].this, scope, 1)
    kind = _KINDS.get(type(inner))
    if kind is None:
        raise unsupported(shown(inner), "not a supported aggregate", SUPPORTED)
    only(inner, "this", "big_int")
    argument = inner.this
    if isinstance(argument, exp.Star):
        only(argument)
        if kind != "count":
            raise unsupported(text, "only COUNT takes *", "name a column")
        return Aggregate(kind, None, where, text)
    return Aggregate(kind, number(argument, scope, 1), where, text)


def number(node: object, scope: Scope, depth: int) -> Number:
    """An aggregate's argument: columns, numbers, + - * and CASE.

    Raises:
        ClientFault: `SQL_TOO_DEEP` or `SQL_UNSUPPORTED`.
    """
    if depth > SQL_DEPTH_MAX:
        raise too_deep()
    if not isinstance(node, exp.Expr):
        raise unsupported("nothing", "expects a column", SUPPORTED)
    if isinstance(node, exp.Paren):
        return number(node.this, scope, depth + 1)
    quantity = _quantity(node)
    if quantity is not None:
        return quantity
    if isinstance(node, exp.Neg):
        return Arithmetic("-", Quantity(Fraction(0)), number(node.this, scope, depth + 1))
    operator = _OPERATORS.get(type(node))
    if operator == "/":
        raise unsupported(
            shown(node), "nothing is divided before release", "divide the aggregates instead"
        )
    if operator is not None:
        left = number(node.this, scope, depth + 1)
        return Arithmetic(operator, left, number(node.args["expression"], scope, depth + 1))
    if isinstance(node, exp.Case | exp.If):
        return _case(node, scope, depth)
    if isinstance(node, exp.Column):
        return Value(scope.column(node, "SUM"))
    raise unsupported(shown(node), "aggregates take columns, numbers, + - * and CASE", SUPPORTED)


def _case(node: exp.Expr, scope: Scope, depth: int) -> Case:
    if isinstance(node, exp.If):
        only(node, "this", "true", "false")
        branches, otherwise = [node], node.args.get("false")
    else:
        only(node, "ifs", "default")
        branches, otherwise = node.args["ifs"], node.args.get("default")
    read = []
    for branch in branches:
        condition = conditions.predicate(branch.this, scope, depth + 1)
        read.append((condition, number(branch.args["true"], scope, depth + 1)))
    if isinstance(otherwise, exp.Null):
        otherwise = None
    last = None if otherwise is None else number(otherwise, scope, depth + 1)
    return Case(tuple(read), last)


def _quantity(node: exp.Expr) -> Quantity | None:
    if not isinstance(node, exp.Literal) or node.is_string:
        return None
    value = plain_number(node.name)
    if value is None:
        raise unsupported(shown(node), "not a number of at most 15 digits", "shorten it")
    return Quantity(Fraction(value))


def whole_number(node: object) -> int:
    """A literal whole number.

    Raises:
        ClientFault: `SQL_UNSUPPORTED`.
    """
    sign = 1
    if isinstance(node, exp.Neg):
        node, sign = node.this, -1
    if not isinstance(node, exp.Literal) or not node.is_int or len(node.name) > 15:
        what = shown(node) if isinstance(node, exp.Expr) else "nothing"
        raise unsupported(what, "expects a whole number", "write a number")
    return sign * int(node.name)


def having(node: exp.Expr, scope: Scope, groups: tuple[Group, ...], depth: int) -> Having:
    """A condition over released groups.

    Raises:
        ClientFault: `SQL_TOO_DEEP` or `SQL_UNSUPPORTED`.
    """
    if depth > SQL_DEPTH_MAX:
        raise too_deep()
    if isinstance(node, exp.Paren):
        return having(node.this, scope, groups, depth + 1)
    if isinstance(node, exp.And | exp.Or):
        parts = tuple(having(part, scope, groups, depth + 1) for part in _flat(node))
        return TestConnective("and" if isinstance(node, exp.And) else "or", parts)
    if isinstance(node, exp.Not):
        return TestConnective("not", (having(node.this, scope, groups, depth + 1),))
    if isinstance(node, exp.Between):
        only(node, "this", "low", "high")
        value = _test_side(node.this, scope, groups, depth)
        low = _test_side(node.args["low"], scope, groups, depth)
        high = _test_side(node.args["high"], scope, groups, depth)
        return TestConnective("and", (Test(">=", value, low), Test("<=", value, high)))
    operator = conditions.COMPARISONS.get(type(node))
    if operator is None:
        raise unsupported(
            shown(node), "HAVING compares aggregates", "write HAVING COUNT(*) > 5 AND .."
        )
    left = _test_side(node.this, scope, groups, depth)
    return Test(operator, left, _test_side(node.args["expression"], scope, groups, depth))


def _flat(node: exp.And | exp.Or) -> list[exp.Expr]:
    return list(node.flatten(unnest=False))


def _test_side(node: exp.Expr, scope: Scope, groups: tuple[Group, ...], depth: int) -> Expression:
    side = released(node, scope, groups, depth + 1)
    if isinstance(side, Label):
        raise unsupported(shown(node), "HAVING compares aggregates", "move it to WHERE")
    return side
