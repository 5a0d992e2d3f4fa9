"""Rule 2, bind: names to the table's columns, constants to bins; a constant between edges is
refused with the nearest edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from chainnode.he.planner.parse import unsupported
from chainnode.he.planner.tree import (
    Between,
    Bound,
    BoundQuery,
    Compare,
    Connective,
    Constant,
    Item,
    Predicate,
    Query,
    Within,
)
from chainnode.he.schema import EXACT, Bins, Column, OneHot, TableSchema, plain_number
from chainnode.he.scorecard import Scorecard


def bind(query: Query, schema: TableSchema, models: Mapping[str, Scorecard]) -> BoundQuery:
    """Bind a query to its table.

    Raises:
        ClientFault: `SQL_UNSUPPORTED` naming the column or constant and the nearest rewrite.
    """
    if query.table.casefold() != schema.table.casefold():
        raise unsupported(query.table, "no such table", f"FROM {schema.table}")
    if any(item.kind == "score" for item in query.items):
        return _bind_scores(query, schema, models)
    items = tuple(_bind_item(item, query, schema) for item in query.items)
    if all(item.kind == "column" for item in items):
        raise unsupported(
            items[0].name, "rows are never released, only aggregates", "add COUNT(*), SUM or AVG"
        )
    group_by = _bind_group(query.group_by, schema) if query.group_by else ""
    where = None if query.where is None else _bind_predicate(query.where, schema)
    return BoundQuery(replace(query, items=items, group_by=group_by), where)


def _bind_scores(query: Query, schema: TableSchema, models: Mapping[str, Scorecard]) -> BoundQuery:
    rewrite = f"SELECT CREDIT_SCORE('model') FROM {schema.table} [WHERE {schema.id_column} IN (..)]"
    scores = [item for item in query.items if item.kind == "score"]
    others = [item for item in query.items if item.kind != "score"]
    if (
        len(scores) > 1
        or query.group_by
        or any(
            item.kind != "column" or item.column.casefold() != schema.id_column.casefold()
            for item in others
        )
    ):
        raise unsupported("CREDIT_SCORE", "stands alone or beside the id", rewrite)
    model = models.get(scores[0].column)
    if model is None:
        known = ", ".join(sorted(models)) or "none"
        raise unsupported(scores[0].column, "no such model", f"registered models: {known}")
    model.validate(schema)
    ids = None if query.where is None else _ids(query.where, schema, rewrite)
    return BoundQuery(query, None, ids)


def _ids(where: Predicate, schema: TableSchema, rewrite: str) -> tuple[str, ...]:
    if isinstance(where, Compare) and where.operator == "=":
        column = where.column
        constants: tuple[Constant, ...] = (where.constant,)
    elif isinstance(where, Within):
        column, constants = where.column, where.constants
    else:
        raise unsupported("WHERE", "CREDIT_SCORE is asked by id only", rewrite)
    if column.casefold() != schema.id_column.casefold():
        raise unsupported(column, "CREDIT_SCORE is asked by id only", rewrite)
    return tuple(sorted({constant.text for constant in constants}))


def _find(name: str, schema: TableSchema) -> Column:
    column = schema.column(name)
    if column is None:
        known = ", ".join(item.name for item in schema.columns)
        raise unsupported(name, f"no such column in {schema.table}", f"columns: {known}")
    return column


def _bind_item(item: Item, query: Query, schema: TableSchema) -> Item:
    if item.kind == "column":
        column = _find(item.column, schema)
        if not query.group_by or column.name.casefold() != query.group_by.casefold():
            raise unsupported(
                item.column, "a selected column must be the GROUP BY column", "aggregate it"
            )
        return replace(item, column=column.name)
    if item.kind not in ("sum", "avg"):
        return item
    weights: dict[str, int] = {}
    for weight, name in item.terms:
        column = _find(name, schema)
        if column.value_maximum is None:
            summable = [other.name for other in schema.columns if other.value_maximum is not None]
            raise unsupported(
                column.name, "the column holds no values to sum", f"sum one of {summable}"
            )
        weights[column.name] = weights.get(column.name, 0) + weight
    terms = tuple((weight, name) for name, weight in sorted(weights.items()) if weight != 0)
    if not terms:
        raise unsupported(item.name, "the sum is always 0", "drop it")
    widths = {_find(name, schema).value_limb_bits for _, name in terms}
    if len(widths) > 1:
        raise unsupported(item.name, "the columns split values differently", "sum each alone")
    return replace(item, terms=terms)


def _bind_group(name: str, schema: TableSchema) -> str:
    column = _find(name, schema)
    categories = [
        other.name
        for other in schema.columns
        if isinstance(other.encoding, OneHot) and "S36" in other.profiles
    ]
    if not isinstance(column.encoding, OneHot):
        raise unsupported(
            column.name, "GROUP BY takes a category column", f"group by one of {categories}"
        )
    _stored_for_sums(column)
    return column.name


def _stored_for_sums(column: Column) -> None:
    if "S36" not in column.profiles:
        raise unsupported(
            column.name, "the column is stored for scores only", "filter on another column"
        )


def _bind_predicate(node: Predicate, schema: TableSchema) -> Predicate:
    if isinstance(node, Connective):
        return Connective(
            node.operator, tuple(_bind_predicate(part, schema) for part in node.parts)
        )
    if isinstance(node, Bound):
        return node
    column = _find(node.column, schema)
    if column.encoding is None:
        raise unsupported(
            node.text, "the column has no bins, only values to sum", "filter on another column"
        )
    _stored_for_sums(column)
    bins = (
        _category_bins(node, column, column.encoding)
        if isinstance(column.encoding, OneHot)
        else _interval_bins(node, column, column.encoding)
    )
    return Bound(column.name, bins, column.encoding.bin_count(), node.text)


def _category_bins(
    node: Compare | Between | Within, column: Column, encoding: OneHot
) -> tuple[int, ...]:
    known = ", ".join(encoding.categories[:40])
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
        chosen = set(range(encoding.bin_count())) - chosen
    return tuple(sorted(chosen))


def _interval_bins(
    node: Compare | Between | Within, column: Column, encoding: Bins
) -> tuple[int, ...]:
    everything = set(range(encoding.bin_count()))
    if isinstance(node, Within):
        parts = [_point(item, node.text, column, encoding) for item in node.constants]
        return tuple(sorted(set().union(*parts)))
    if isinstance(node, Between):
        below_low = _below(_at_least(node.low, node.text, encoding), node.text, column, encoding)
        up_to_high = _below(_above(node.high, node.text, encoding), node.text, column, encoding)
        return tuple(sorted(up_to_high - below_low))
    if node.operator in ("=", "<>"):
        point = _point(node.constant, node.text, column, encoding)
        return tuple(sorted(point if node.operator == "=" else everything - point))
    limit = _at_least if node.operator in ("<", ">=") else _above
    below = _below(limit(node.constant, node.text, encoding), node.text, column, encoding)
    return tuple(sorted(below if node.operator in ("<", "<=") else everything - below))


def _number(constant: Constant, text: str, encoding: Bins) -> Decimal:
    value = None if constant.is_string else plain_number(constant.text)
    if value is None:
        reason = f"{constant.text[:20]!r} is not a number of at most 15 digits"
        raise unsupported(text, reason, "compare with a number")
    return value.scaleb(encoding.decimals, context=EXACT)


def _at_least(constant: Constant, text: str, encoding: Bins) -> int:
    # x < c and x < ceil(c) say the same of a whole number x.
    return int(_number(constant, text, encoding).to_integral_value(ROUND_CEILING, EXACT))


def _above(constant: Constant, text: str, encoding: Bins) -> int:
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
    low, high = _at_least(constant, text, encoding), _above(constant, text, encoding)
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
