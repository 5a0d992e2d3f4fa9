"""Rule 1b, conditions: WHERE, FILTER and CASE WHEN as trees of comparisons."""

from __future__ import annotations

import re

from sqlglot import exp

from chainnode.he.planner.refusals import too_deep, unsupported
from chainnode.he.planner.scope import Scope, only, shown
from chainnode.he.planner.tree import (
    Between,
    ColumnCompare,
    Compare,
    Comparison,
    Connective,
    Constant,
    IsNull,
    Like,
    Predicate,
    Private,
    Within,
)
from chainnode.types.limits import SQL_DEPTH_MAX

__all__ = ["COMPARISONS", "Predicate", "predicate"]

RECORD = re.compile("[0-9a-f]{64}")
COMPARISONS: dict[type[exp.Expr], Comparison] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
MIRRORED: dict[Comparison, Comparison] = {
    "=": "=",
    "<>": "<>",
    "<": ">",
    "<=": ">=",
    ">": "<",
    ">=": "<=",
}


def predicate(node: exp.Expr, scope: Scope, depth: int) -> Predicate:
    """A condition over rows.

    Raises:
        ClientFault: `SQL_TOO_DEEP` or `SQL_UNSUPPORTED`.
    """
    if depth > SQL_DEPTH_MAX:
        raise too_deep()
    if isinstance(node, exp.Paren):
        return predicate(node.this, scope, depth + 1)
    if isinstance(node, exp.And | exp.Or):
        operands = list(node.flatten(unnest=False))
        parts = tuple(predicate(part, scope, depth + 1) for part in operands)
        return Connective("and" if isinstance(node, exp.And) else "or", parts)
    if isinstance(node, exp.Not):
        return Connective("not", (predicate(node.this, scope, depth + 1),))
    operator = COMPARISONS.get(type(node))
    if operator is not None:
        return _comparison(node, operator, scope)
    return _special(node, scope)


def _special(node: exp.Expr, scope: Scope) -> Predicate:
    if isinstance(node, exp.Between):
        only(node, "this", "low", "high")
        column = scope.column(node.this, "BETWEEN")
        low, high = constant(node.args["low"]), constant(node.args["high"])
        return Between(column, low, high, shown(node))
    if isinstance(node, exp.In):
        only(node, "this", "expressions")
        constants = tuple(constant(item) for item in node.expressions)
        if not constants:
            raise unsupported(shown(node), "IN takes constants", "list the constants")
        return Within(scope.column(node.this, "IN"), constants, shown(node))
    if isinstance(node, exp.Like):
        only(node, "this", "expression")
        pattern = node.args["expression"]
        if not isinstance(pattern, exp.Literal) or not pattern.is_string:
            raise unsupported(shown(node), "LIKE takes a quoted pattern", "quote the pattern")
        return Like(scope.column(node.this, "LIKE"), pattern.name, shown(node))
    if isinstance(node, exp.Is) and isinstance(node.args["expression"], exp.Null):
        return IsNull(scope.column(node.this, "IS NULL"), shown(node))
    raise unsupported(
        shown(node),
        "not a supported condition",
        "compare columns with constants: = <> < <= > >= BETWEEN IN LIKE IS NULL",
    )


def _comparison(node: exp.Expr, operator: Comparison, scope: Scope) -> Predicate:
    left, right = node.this, node.args["expression"]
    if isinstance(right, exp.Column) and isinstance(left, exp.Column):
        return ColumnCompare(
            scope.column(left, "WHERE"), operator, scope.column(right, "WHERE"), shown(node)
        )
    if isinstance(right, exp.Column):
        left, right, operator = right, left, MIRRORED[operator]
    if isinstance(right, exp.Anonymous) and right.name.upper() == "PRIVATE":
        column = scope.column(left, "WHERE")
        return Private(column, operator, _record(right), shown(node))
    return Compare(scope.column(left, "WHERE"), operator, constant(right), shown(node))


def _record(node: exp.Anonymous) -> str:
    """The record that a private constant names; a name of the bank's own stands for none yet."""
    inner = node.expressions[0] if len(node.expressions) == 1 else None
    if isinstance(inner, exp.Column) and not inner.table and isinstance(inner.this, exp.Identifier):
        return ""
    if isinstance(inner, exp.Literal) and inner.is_string and RECORD.fullmatch(inner.name):
        return inner.name
    raise unsupported(shown(node), "PRIVATE takes a name", "write column = PRIVATE(name)")


def taken_private(node: Predicate | None) -> tuple[Predicate | None, Private | None]:
    """A condition without its private comparison, which stands alone or beside AND.

    Elsewhere it stays where it is, and binding refuses it.
    """
    if isinstance(node, Private):
        return None, node
    if not isinstance(node, Connective) or node.operator != "and":
        return node, None
    found = next((part for part in node.parts if isinstance(part, Private)), None)
    rest = tuple(part for part in node.parts if part is not found)
    if found is None or not rest:
        return node, found
    return rest[0] if len(rest) == 1 else Connective("and", rest), found


def constant(node: object) -> Constant:
    """A number, a quoted text or a date.

    Raises:
        ClientFault: `SQL_UNSUPPORTED`.
    """
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and node.this.is_number:
        return Constant("-" + node.this.name, "number")
    if isinstance(node, exp.Literal):
        return Constant(node.name, "text" if node.is_string else "number")
    if isinstance(node, exp.Cast) and type(node) is exp.Cast:
        only(node, "this", "to")
        inner = node.this
        if isinstance(inner, exp.Literal) and inner.is_string and node.to.is_type("date"):
            return Constant(inner.name, "date")
    what = shown(node) if isinstance(node, exp.Expr) else "nothing"
    raise unsupported(what, "expects a constant", "write a number, a quoted text or DATE '..'")
