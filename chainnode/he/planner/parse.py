"""Rule 1, parse: SQL text to a query of the supported shape; other nodes are refused by name."""

from __future__ import annotations

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from chainnode.he.planner.tree import (
    Between,
    Compare,
    Comparison,
    Connective,
    Constant,
    Item,
    Predicate,
    Query,
    Within,
)
from chainnode.types.errors import ClientFault
from chainnode.types.limits import SQL_DEPTH_MAX, SQL_LENGTH_MAX_CHARACTERS

SUPPORTED = (
    "SELECT COUNT(*) | SUM(column) | AVG(column) | group column, or CREDIT_SCORE('model'), "
    "FROM one table [WHERE comparisons with constants] [GROUP BY one category column]"
)
WEIGHT_MAX = 1_000_000
_COMPARISONS: dict[type[exp.Expr], Comparison] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_MIRRORED: dict[Comparison, Comparison] = {
    "=": "=",
    "<>": "<>",
    "<": ">",
    "<=": ">=",
    ">": "<",
    ">=": "<=",
}
_REWRITES = {
    "having": "drop HAVING and filter the released rows",
    "order": "drop ORDER BY and sort the released rows",
    "limit": "drop LIMIT; every group is one row",
    "joins": "drop JOIN: all organisations' columns are already one table aligned on the id",
    "distinct": "drop DISTINCT, or GROUP BY the column",
    "with_": "write one SELECT without WITH",
}


def unsupported(node: str, reason: str, rewrite: str) -> ClientFault:
    """The refusal of a construct, naming it and the nearest query that would do."""
    return ClientFault("SQL_UNSUPPORTED", f"{node}: {reason}", subject=node, fix=rewrite)


def parse(sql: str) -> Query:
    """Parse one SELECT.

    Raises:
        ClientFault: `SQL_TOO_LONG`, `SQL_TOO_DEEP`, `SQL_SYNTAX` or `SQL_UNSUPPORTED`.
    """
    if len(sql) > SQL_LENGTH_MAX_CHARACTERS:
        raise ClientFault(
            "SQL_TOO_LONG",
            f"{len(sql)} characters; at most {SQL_LENGTH_MAX_CHARACTERS}",
            fix="ask several shorter queries",
        )
    select = _one_select(sql)
    _only(select, "kind", "expressions", "from_", "where", "group")
    source = select.args.get("from_")
    if not isinstance(source, exp.From) or not isinstance(source.this, exp.Table):
        raise unsupported("FROM", "a query reads one table by name", SUPPORTED)
    _only(source, "this")
    _only(source.this, "this")
    table = source.this.name
    items = tuple(_item(expression, table) for expression in select.expressions)
    where = select.args.get("where")
    predicate = None if where is None else _predicate(where.this, table, 1)
    return Query(sql, table, items, predicate, _group_by(select.args.get("group"), table))


def _one_select(sql: str) -> exp.Select:
    try:
        statements = sqlglot.parse(sql, read="duckdb")
    except (SqlglotError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise _too_deep() from None
        reason = str(error).split(" but got <Token")[0].splitlines()[0]
        raise ClientFault("SQL_SYNTAX", reason, fix=SUPPORTED) from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        kinds = ", ".join(type(item).__name__ for item in statements) or "nothing"
        raise unsupported(kinds, "a query is exactly one SELECT", SUPPORTED)
    return statements[0]


def _only(node: exp.Expr, *allowed: str) -> None:
    for key, value in node.args.items():
        if key not in allowed and value not in (None, False, [], ""):
            name = key.rstrip("_").upper()
            raise unsupported(
                name, f"not supported in {_text(node)}", _REWRITES.get(key, SUPPORTED)
            )


def _text(node: exp.Expr) -> str:
    text = node.sql(dialect="duckdb")
    return text if len(text) <= 80 else text[:77] + "..."


def _too_deep() -> ClientFault:
    return ClientFault(
        "SQL_TOO_DEEP",
        f"the condition nests deeper than {SQL_DEPTH_MAX}",
        fix="flatten the condition with IN, BETWEEN, AND and OR",
    )


def _column(node: exp.Expr | None, table: str, where: str) -> str:
    if not isinstance(node, exp.Column) or isinstance(node.this, exp.Star):
        shown = "nothing" if node is None else _text(node)
        raise unsupported(where, f"expects a column, not {shown}", SUPPORTED)
    _only(node, "this", "table")
    if node.table and node.table.casefold() != table.casefold():
        raise unsupported(_text(node), f"the query reads only {table}", SUPPORTED)
    return node.name


def _item(node: exp.Expr, table: str) -> Item:
    name = node.alias if isinstance(node, exp.Alias) else _text(node)
    inner = node.this if isinstance(node, exp.Alias) else node
    if isinstance(inner, exp.Count):
        _only(inner, "this", "big_int")
        if not isinstance(inner.this, exp.Star):
            raise unsupported(_text(inner), "only rows are counted", "write COUNT(*)")
        _only(inner.this)
        return Item("count", name)
    if isinstance(inner, exp.Sum | exp.Avg):
        _only(inner, "this")
        terms = tuple(_linear(inner.this, table, 1, 1))
        return Item("sum" if isinstance(inner, exp.Sum) else "avg", name, terms=terms)
    if isinstance(inner, exp.Anonymous) and inner.name.upper() == "CREDIT_SCORE":
        return _score_item(inner, name)
    if isinstance(inner, exp.Column) and not isinstance(inner.this, exp.Star):
        return Item("column", name, column=_column(inner, table, "SELECT"))
    raise unsupported(_text(inner), "not a supported expression", SUPPORTED)


def _score_item(node: exp.Anonymous, name: str) -> Item:
    arguments = node.expressions
    if len(arguments) != 1 or not isinstance(arguments[0], exp.Literal):
        raise unsupported(_text(node), "takes one model name", "CREDIT_SCORE('model')")
    return Item("score", name, column=arguments[0].name)


def _linear(node: exp.Expr, table: str, weight: int, depth: int) -> list[tuple[int, str]]:
    if depth > SQL_DEPTH_MAX:
        raise _too_deep()
    if isinstance(node, exp.Paren):
        return _linear(node.this, table, weight, depth + 1)
    if isinstance(node, exp.Add | exp.Sub):
        sign = 1 if isinstance(node, exp.Add) else -1
        left = _linear(node.this, table, weight, depth + 1)
        return left + _linear(node.expression, table, sign * weight, depth + 1)
    if isinstance(node, exp.Mul):
        for factor, other in ((node.this, node.expression), (node.expression, node.this)):
            if isinstance(factor, exp.Literal) and factor.is_int:
                scaled = weight * int(factor.name)
                if abs(scaled) > WEIGHT_MAX:
                    raise unsupported(_text(node), f"factors are at most {WEIGHT_MAX}", SUPPORTED)
                return _linear(other, table, scaled, depth + 1)
        raise unsupported(
            _text(node), "a column is multiplied only by a whole number", "sum each column alone"
        )
    if isinstance(node, exp.Column):
        return [(weight, _column(node, table, "SUM"))]
    raise unsupported(_text(node), "SUM and AVG take columns, + - and whole factors", SUPPORTED)


def _predicate(node: exp.Expr, table: str, depth: int) -> Predicate:
    if depth > SQL_DEPTH_MAX:
        raise _too_deep()
    if isinstance(node, exp.Paren):
        return _predicate(node.this, table, depth + 1)
    if isinstance(node, exp.And | exp.Or):
        operands = list(node.flatten(unnest=False))
        parts = tuple(_predicate(part, table, depth + 1) for part in operands)
        return Connective("and" if isinstance(node, exp.And) else "or", parts)
    if isinstance(node, exp.Not):
        return Connective("not", (_predicate(node.this, table, depth + 1),))
    for kind, operator in _COMPARISONS.items():
        if isinstance(node, kind):
            return _comparison(node, operator, table)
    if isinstance(node, exp.Between):
        _only(node, "this", "low", "high")
        column = _column(node.this, table, "BETWEEN")
        low, high = _constant(node.args["low"]), _constant(node.args["high"])
        return Between(column, low, high, _text(node))
    if isinstance(node, exp.In):
        _only(node, "this", "expressions")
        constants = tuple(_constant(item) for item in node.expressions)
        if not constants:
            raise unsupported(_text(node), "IN takes constants", "list the constants")
        return Within(_column(node.this, table, "IN"), constants, _text(node))
    raise unsupported(
        _text(node), "not a supported condition", "compare columns with constants: = < BETWEEN IN"
    )


def _comparison(node: exp.Expr, operator: Comparison, table: str) -> Compare:
    left, right = node.this, node.args["expression"]
    if isinstance(right, exp.Column) and isinstance(left, exp.Column):
        raise unsupported(
            _text(node), "columns are compared with constants only", "compare each with a constant"
        )
    if isinstance(right, exp.Column):
        left, right, operator = right, left, _MIRRORED[operator]
    return Compare(_column(left, table, "WHERE"), operator, _constant(right), _text(node))


def _constant(node: exp.Expr) -> Constant:
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and node.this.is_number:
        return Constant("-" + node.this.name, False)
    if isinstance(node, exp.Literal):
        return Constant(node.name, bool(node.is_string))
    raise unsupported(_text(node), "expects a constant", "write a number or a quoted text")


def _group_by(group: exp.Expr | None, table: str) -> str:
    if group is None:
        return ""
    _only(group, "expressions")
    if len(group.expressions) != 1:
        raise unsupported(_text(group), "one column groups", "GROUP BY one category column")
    return _column(group.expressions[0], table, "GROUP BY")
