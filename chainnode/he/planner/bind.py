"""Rule 2, bind: names to the table's columns, constants to bins and digits, numbers to values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from chainnode.he.planner import constants
from chainnode.he.planner.polynomial import (
    MISSING,
    ONE,
    ZERO,
    Polynomial,
    add,
    complement,
    multiply,
)
from chainnode.he.planner.refusals import unsupported
from chainnode.he.planner.tree import (
    Aggregate,
    Arithmetic,
    Bound,
    Case,
    ColumnCompare,
    Compare,
    Computed,
    Connective,
    Constant,
    Expression,
    Group,
    Having,
    IsNull,
    Item,
    Label,
    Name,
    Number,
    Predicate,
    Private,
    Query,
    Test,
    TestConnective,
    Value,
    Within,
)
from chainnode.he.private_points import Model, PrivateScorecard
from chainnode.he.schema import Bins, Column, Digits, OneHot, TableSchema


@dataclass(frozen=True, slots=True)
class BoundQuery:
    """A query whose names and constants exist.

    Args:
        query: as parsed, with the schema's spelling of every column and bound conditions.
        ids: for a score query, the enterprises asked about, or None for all.
    """

    query: Query
    ids: tuple[str, ...] | None = None


def bind(query: Query, schema: TableSchema, models: Mapping[str, Model]) -> BoundQuery:
    """Bind a query to its table.

    Raises:
        ClientFault: `SQL_UNSUPPORTED` naming the column or constant and the nearest rewrite.
    """
    binder = Binder(schema, query.tables, query.groups)
    if query.score is not None:
        return _bind_scores(query, schema, models)
    items = tuple(Item(item.name, binder.expression(item.expression)) for item in query.items)
    if not any(aggregates(item.expression) for item in items):
        raise unsupported(
            items[0].name if items else "SELECT",
            "rows are never released, only aggregates",
            "add COUNT(*), SUM or AVG",
        )
    private = query.private
    if private is not None:
        private = replace(private, column=Name(binder.chosen(private).name))
    return BoundQuery(
        replace(
            query,
            items=items,
            where=None if query.where is None else binder.predicate(query.where),
            groups=tuple(binder.group(group) for group in query.groups),
            having=None if query.having is None else binder.having(query.having),
            private=private,
        )
    )


def aggregates(node: Expression) -> tuple[Aggregate, ...]:
    """Every aggregate of an expression, left to right."""
    if isinstance(node, Aggregate):
        return (node,)
    if isinstance(node, Computed):
        return aggregates(node.left) + aggregates(node.right)
    return ()


def tested(node: Having | None) -> tuple[Aggregate, ...]:
    """Every aggregate of a HAVING condition."""
    if isinstance(node, Test):
        return aggregates(node.left) + aggregates(node.right)
    if isinstance(node, TestConnective):
        return tuple(item for part in node.parts for item in tested(part))
    return ()


# --- scores ---------------------------------------------------------------------------------------


def _bind_scores(query: Query, schema: TableSchema, models: Mapping[str, Model]) -> BoundQuery:
    rewrite = f"SELECT CREDIT_SCORE('model') FROM {schema.table} [WHERE {schema.id_column} IN (..)]"
    for item in query.items:
        if item.name.casefold() != schema.id_column.casefold():
            raise unsupported("CREDIT_SCORE", "stands alone or beside the id", rewrite)
    for name in ("" if query.score is None else query.score.model, *query.further_models):
        model = models.get(name)
        if model is None:
            known = ", ".join(sorted(models)) or "none"
            raise unsupported(name, "no such model", f"registered models: {known}")
        if query.further_models and isinstance(model, PrivateScorecard):
            raise unsupported(name, "a model with private points is asked alone", rewrite)
        model.validate(schema)
    return BoundQuery(query, None if query.where is None else _ids(query.where, schema, rewrite))


def _ids(where: Predicate, schema: TableSchema, rewrite: str) -> tuple[str, ...]:
    if isinstance(where, Compare) and where.operator == "=":
        chosen: tuple[Constant, ...] = (where.constant,)
    elif isinstance(where, Within):
        chosen = where.constants
    else:
        raise unsupported("WHERE", "CREDIT_SCORE is asked by id only", rewrite)
    if where.column.column.casefold() != schema.id_column.casefold():
        raise unsupported(where.column.column, "CREDIT_SCORE is asked by id only", rewrite)
    return tuple(sorted({constant.text for constant in chosen}))


# --- aggregates -----------------------------------------------------------------------------------


class Binder:
    """Binds one query's names and constants.

    Args:
        schema: of the table.
        tables: names in FROM and JOIN; the table itself, or parts of it joined on the id.
        groups: GROUP BY columns.
    """

    def __init__(
        self, schema: TableSchema, tables: tuple[str, ...], groups: tuple[Group, ...]
    ) -> None:
        self._schema = schema
        self._groups = groups
        self._owners = _owners(schema, tables)

    def find(self, name: Name) -> Column:
        """The column a name means."""
        column = self._schema.column(name.column)
        visible = self._owners.get(name.source.casefold(), ()) if column is not None else ()
        if column is None or column.owner not in visible:
            known = ", ".join(
                item.name
                for item in self._schema.columns
                if item.owner in self._owners.get(name.source.casefold(), ())
            )
            place = name.source or self._schema.table
            raise unsupported(name.column, f"no such column in {place}", f"columns: {known}")
        return column

    def group(self, group: Group) -> Group:
        """A GROUP BY column: categories, bins of one value each, or BAND of any bins."""
        column = self.find(group.column)
        encoding = column.encoding
        if isinstance(encoding, Bins) and not group.banded and not single_values(encoding):
            raise unsupported(
                group.text, "bins hold several values", f"GROUP BY BAND({column.name})"
            )
        if not isinstance(encoding, OneHot | Bins):
            known = [
                other.name
                for other in self._schema.columns
                if isinstance(other.encoding, OneHot) and set(other.profiles) - {"S"}
            ]
            raise unsupported(
                column.name, "GROUP BY takes a category column", f"group by one of {known}"
            )
        _stored_for_sums(column)
        return replace(group, column=Name(column.name))

    def chosen(self, private: Private) -> Column:
        """The column of a private comparison: categories, or bins."""
        column = self.find(private.column)
        if not isinstance(column.encoding, OneHot | Bins):
            raise unsupported(
                private.text, "PRIVATE chooses categories or bins", "compare another column"
            )
        if isinstance(column.encoding, OneHot) and private.operator not in ("=", "<>"):
            raise unsupported(private.text, "categories have no order", "write = or <>")
        return column

    def expression(self, node: Expression) -> Expression:
        """Names and conditions inside an expression."""
        if isinstance(node, Computed):
            return Computed(node.operator, self.expression(node.left), self.expression(node.right))
        if isinstance(node, Aggregate):
            return replace(
                node,
                argument=None if node.argument is None else self._number(node.argument, node),
                where=None if node.where is None else self.predicate(node.where),
            )
        if isinstance(node, Label):
            encoding = self.find(self._groups[node.position].column).encoding
            return Label(node.position, isinstance(encoding, Bins) and not encoding.dates)
        return node

    def having(self, node: Having) -> Having:
        """Names and conditions inside HAVING."""
        if isinstance(node, TestConnective):
            return TestConnective(node.operator, tuple(self.having(part) for part in node.parts))
        return Test(node.operator, self.expression(node.left), self.expression(node.right))

    def _number(self, node: Number, inside: Aggregate) -> Number:
        if isinstance(node, Value):
            column = self.find(node.column)
            if inside.kind == "count" and inside.argument is node:
                _stored_for_sums(column)
            elif column.value_maximum is None:
                summable = [
                    other.name for other in self._schema.columns if other.value_maximum is not None
                ]
                raise unsupported(
                    column.name, "the column holds no values to sum", f"sum one of {summable}"
                )
            return Value(Name(column.name))
        if isinstance(node, Arithmetic):
            left, right = self._number(node.left, inside), self._number(node.right, inside)
            return Arithmetic(node.operator, left, right)
        if isinstance(node, Case):
            branches = tuple(
                (self.predicate(condition), self._number(value, inside))
                for condition, value in node.branches
            )
            last = None if node.otherwise is None else self._number(node.otherwise, inside)
            return Case(branches, last)
        return node

    def predicate(self, node: Predicate) -> Predicate:
        """A condition over stored indicators."""
        if isinstance(node, Connective):
            return Connective(node.operator, tuple(self.predicate(part) for part in node.parts))
        if isinstance(node, Bound):
            return node
        if isinstance(node, Private):
            raise unsupported(
                node.text,
                "one PRIVATE comparison stands alone or beside AND in WHERE",
                "write WHERE column = PRIVATE(name) AND ...",
            )
        if isinstance(node, ColumnCompare):
            return self._columns(node)
        column = self.find(node.column)
        if column.encoding is None:
            raise unsupported(
                node.text, "the column has no bins, only values to sum", "filter on another column"
            )
        _stored_for_sums(column)
        if isinstance(node, IsNull):
            null: Polynomial = {((column.name, MISSING),): 1}
            missing = null if column.encoding.missing else ZERO
            return Bound((column.name,), missing, complement(missing))
        true, false = constants.sides(node, column)
        return Bound((column.name,), true, false)

    def _columns(self, node: ColumnCompare) -> Predicate:
        left, right = self.find(node.left), self.find(node.right)
        for column in (left, right):
            _stored_for_sums(column)
        first, second = _values(left, node), _values(right, node)
        if isinstance(left.encoding, OneHot) != isinstance(right.encoding, OneHot):
            raise unsupported(node.text, "one is a category, the other a number", "compare alike")
        true: dict[tuple[tuple[str, int], ...], int] = {}
        false: dict[tuple[tuple[str, int], ...], int] = {}
        for index, low, high in first:
            for other, other_low, other_high in second:
                holds = _decided(node, (low, high), (other_low, other_high))
                pair = multiply({((left.name, index),): 1}, {((right.name, other),): 1})
                (true if holds else false).update(pair)
        return Bound((left.name, right.name), true, false)


def _owners(schema: TableSchema, tables: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    joined_on = [name.removeprefix("|") for name in tables if name.startswith("|")]
    for name in joined_on:
        if name.casefold() != schema.id_column.casefold():
            raise unsupported(name, "tables are joined on the id", f"USING ({schema.id_column})")
    parts: dict[str, tuple[str, ...]] = {
        schema.part(owner).casefold(): (owner,) for owner in schema.owners()
    }
    parts[schema.table.casefold()] = schema.owners()
    found: dict[str, tuple[str, ...]] = {}
    for name in tables:
        if name.startswith("|"):
            continue
        owners = parts.get(name.casefold())
        if owners is None:
            known = ", ".join([schema.table, *(schema.part(owner) for owner in schema.owners())])
            raise unsupported(name, "no such table", f"FROM {schema.table}; known: {known}")
        found[name.casefold()] = owners
    if len(joined_on) != len(found) - 1:
        raise unsupported("JOIN", "tables are joined on the id", f"USING ({schema.id_column})")
    every = {owner for owners in found.values() for owner in owners}
    return {**found, "": tuple(sorted(every))}


Range = tuple[str | int, str | int]
"""First and last value of a bin."""


def single_values(encoding: Bins) -> bool:
    """Whether every bin holds one value, so that bins are values."""
    bounds = encoding.bounds()
    return all(high - low == 1 for low, high in pairwise(bounds))


def _values(column: Column, node: ColumnCompare) -> list[tuple[int, str | int, str | int]]:
    encoding = column.encoding
    if isinstance(encoding, OneHot):
        if node.operator not in ("=", "<>"):
            raise unsupported(node.text, "categories have no order", "write = or <>")
        return [(index, text, text) for index, text in enumerate(encoding.categories)]
    if not isinstance(encoding, Bins) or encoding.decimals:
        raise unsupported(
            node.text,
            "two columns are compared by categories or by bins of whole numbers",
            "have the owner encrypt the comparison as a column of its own",
        )
    bounds = encoding.bounds()
    return [(index, bounds[index], bounds[index + 1] - 1) for index in range(encoding.bin_count())]


def _decided(node: ColumnCompare, left: Range, right: Range) -> bool:
    outcomes = {_holds(node.operator, a, b) for a in left for b in right}
    if node.operator in ("=", "<>") and left != right and _overlap(left, right):
        outcomes = {True, False}
    if len(outcomes) > 1:
        raise unsupported(
            node.text,
            f"bins {left[0]}..{left[1]} and {right[0]}..{right[1]} do not decide it",
            "have the owner encrypt the comparison as a column of its own",
        )
    return outcomes.pop()


def _overlap(left: Range, right: Range) -> bool:
    if isinstance(left[0], str) or isinstance(right[0], str):
        return False
    return int(left[0]) <= int(right[1]) and int(right[0]) <= int(left[1])


def _holds(operator: str, left: str | int, right: str | int) -> bool:
    if operator in ("=", "<>"):
        return (left == right) == (operator == "=")
    difference = int(left) - int(right)
    if operator in ("<", "<="):
        return difference < 0 or (operator == "<=" and difference == 0)
    return difference > 0 or (operator == ">=" and difference == 0)


def _stored_for_sums(column: Column) -> None:
    if column.encoding is not None and set(column.profiles) <= {"S"}:
        raise unsupported(
            column.name, "the column is stored for scores only", "filter on another column"
        )


def present(column: Column) -> dict[tuple[tuple[str, int], ...], int]:
    """1 on rows where the column has a value."""
    if not column.may_be_missing():
        return dict(ONE)
    encoding = column.encoding
    if isinstance(encoding, Digits | Bins | OneHot) and set(column.profiles) - {"S"}:
        return dict(add(ONE, {((column.name, MISSING),): 1}, -1))
    raise unsupported(column.name, "its missing values are stored for scores only", "leave it out")
