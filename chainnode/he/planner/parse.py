"""Rule 1, parse: SQL text to a query of the supported shape; other nodes are refused by name."""

from __future__ import annotations

from collections.abc import Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import TokenType

from chainnode.he.planner import conditions, expressions
from chainnode.he.planner.refusals import SUPPORTED, too_deep, unsupported
from chainnode.he.planner.scope import Scope, only, shown
from chainnode.he.planner.tree import Group, Item, Label, Order, Private, Query, ScoreItem
from chainnode.types.errors import ClientFault
from chainnode.types.limits import SCORE_BANDS_MAX, SCORE_MODELS_MAX, SQL_LENGTH_MAX_CHARACTERS

_CLAUSES = (
    "kind",
    "expressions",
    "from_",
    "joins",
    "where",
    "group",
    "having",
    "order",
    "limit",
)


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
    try:
        return _query(sql, _one_select(sql))
    except RecursionError:
        raise too_deep() from None


def _query(sql: str, select: exp.Select) -> Query:
    only(select, *_CLAUSES)
    scope = _scope(select)
    where = select.args.get("where")
    predicate = None if where is None else conditions.predicate(where.this, scope, 1)
    if any(_score_call(item) is not None for item in select.expressions):
        return _score_query(sql, select, scope, predicate)
    groups = _groups(select, scope)
    predicate, private = conditions.taken_private(predicate)
    items = tuple(
        Item(_name(node), expressions.released(_inner(node), scope, groups, 1))
        for node in select.expressions
    )
    having = select.args.get("having")
    return Query(
        sql=sql,
        tables=scope.tables(),
        items=items,
        where=predicate,
        groups=groups if private is None else _with_private(groups, private),
        having=None
        if having is None
        else expressions.having(_without_aliases(having.this, select), scope, groups, 1),
        order=_order(select),
        limit=_limit(select),
        private=private,
    )


def _one_select(sql: str) -> exp.Select:
    try:
        statements = sqlglot.parse(sql, read="duckdb")
    except (SqlglotError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise too_deep() from None
        reason = str(error).split(" but got <Token")[0].splitlines()[0]
        raise ClientFault("SQL_SYNTAX", reason, fix=SUPPORTED) from None
    _check_stars(sql)
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        kinds = ", ".join(type(item).__name__ for item in statements) or "nothing"
        raise unsupported(kinds, "a query is exactly one SELECT", SUPPORTED)
    return statements[0]


def _check_stars(sql: str) -> None:
    """The parser drops the star of `FROM t*`, PostgreSQL's mark for inherited tables."""
    tokens = sqlglot.tokenize(sql, read="duckdb")
    for place, token in enumerate(tokens):
        if token.token_type not in (TokenType.FROM, TokenType.JOIN):
            continue
        name = place + 1
        while name + 2 < len(tokens) and tokens[name + 1].token_type is TokenType.DOT:
            name += 2
        if name + 1 < len(tokens) and tokens[name + 1].token_type is TokenType.STAR:
            raise unsupported(
                f"{tokens[name].text}*",
                "a table has no tables below it",
                f"write {tokens[name].text}",
            )


def _scope(select: exp.Select) -> Scope:
    source = select.args.get("from_")
    if not isinstance(source, exp.From):
        raise unsupported("FROM", "a query reads a table by name", SUPPORTED)
    only(source, "this")
    scope = Scope()
    scope.add(source.this)
    for join in select.args.get("joins") or ():
        only(join, "this", "kind", "using")
        if join.args.get("kind") not in (None, "", "INNER") or not join.args.get("using"):
            raise unsupported(
                shown(join), "tables are joined on the id only", "write JOIN part USING (id)"
            )
        scope.add(join.this)
        scope.using(tuple(item.name for item in join.args["using"]))
    return scope


def _inner(node: exp.Expr) -> exp.Expr:
    inner = node.this if isinstance(node, exp.Alias) else node
    return inner if isinstance(inner, exp.Expr) else node


def _without_aliases(node: exp.Expr, select: exp.Select) -> exp.Expr:
    aliases = {item.alias: item.this for item in select.expressions if isinstance(item, exp.Alias)}

    def written(part: exp.Expr) -> exp.Expr:
        if isinstance(part, exp.Column) and not part.table and part.name in aliases:
            return exp.paren(aliases[part.name], copy=True)
        return part

    return node.transform(written)


def _name(node: exp.Expr) -> str:
    return node.alias if isinstance(node, exp.Alias) else shown(node)


# --- scores ---------------------------------------------------------------------------------------


def _score_call(node: exp.Expr) -> exp.Anonymous | None:
    inner = _inner(node)
    if isinstance(inner, exp.Anonymous) and inner.name.upper() in ("CREDIT_SCORE", "SCORE_BAND"):
        return inner
    return None


def _score_query(
    sql: str, select: exp.Select, scope: Scope, where: conditions.Predicate | None
) -> Query:
    only(select, "kind", "expressions", "from_", "where", "group")
    calls = [_score_call(node) for node in select.expressions]
    place, call = next((index, node) for index, node in enumerate(calls) if node is not None)
    further = [node for index, node in enumerate(calls) if node is not None and index != place]
    rewrite = (
        "SELECT CREDIT_SCORE('model') FROM table [WHERE id IN (..)], or SELECT "
        "SCORE_BAND('model', 500, 600), COUNT(*) FROM table GROUP BY 1"
    )
    others = [_inner(node) for index, node in enumerate(select.expressions) if calls[index] is None]
    item = _score_item(call)
    models = _further_models(item, further)
    if item.cuts:
        counted = len(others) == 1 and isinstance(others[0], exp.Count)
        if not counted or place != 0 or not isinstance(others[0].this, exp.Star):
            raise unsupported("SCORE_BAND", "stands before COUNT(*)", rewrite)
        group = select.args.get("group")
        written = [] if group is None else group.expressions
        allowed = {"1", shown(call), _name(select.expressions[0])}
        if len(written) != 1 or shown(written[0]) not in allowed:
            raise unsupported("SCORE_BAND", "is what rows are grouped by", rewrite)
    elif (
        select.args.get("group") is not None
        or len(others) > 1
        or any(not isinstance(node, exp.Column) for node in others)
    ):
        raise unsupported("CREDIT_SCORE", "stands alone or beside the id", rewrite)
    else:
        scope.score_columns = tuple(scope.column(node, "SELECT") for node in others)
    beside = tuple(Item(name.column, Label(0)) for name in scope.score_columns)
    return Query(sql, scope.tables(), beside, where, score=item, further_models=models)


def _further_models(first: ScoreItem, calls: Sequence[exp.Anonymous]) -> tuple[str, ...]:
    items = [_score_item(call) for call in calls]
    if items and (first.cuts or any(item.cuts for item in items)):
        raise unsupported("SCORE_BAND", "stands before COUNT(*)", "ask for bands one by one")
    models = [first.model, *(item.model for item in items)]
    if len(set(models)) != len(models) or len(models) > SCORE_MODELS_MAX:
        raise unsupported(
            "CREDIT_SCORE",
            f"a query scores at most {SCORE_MODELS_MAX} models, each once",
            "ask for the others in another query",
        )
    return tuple(models[1:])


def _score_item(call: exp.Anonymous) -> ScoreItem:
    arguments = call.expressions
    banded = call.name.upper() == "SCORE_BAND"
    if not arguments or not isinstance(arguments[0], exp.Literal) or not arguments[0].is_string:
        raise unsupported(
            "CREDIT_SCORE", "takes a model name in quotes", "write CREDIT_SCORE('model')"
        )
    cuts = tuple(expressions.whole_number(node) for node in arguments[1:])
    if bool(cuts) != banded or len(cuts) > SCORE_BANDS_MAX or list(cuts) != sorted(set(cuts)):
        raise unsupported(
            shown(call),
            f"SCORE_BAND takes 1 to {SCORE_BANDS_MAX} rising cut-offs, CREDIT_SCORE none",
            "write SCORE_BAND('model', 500, 600)",
        )
    return ScoreItem(arguments[0].name, cuts)


# --- groups, order --------------------------------------------------------------------------------


def _groups(select: exp.Select, scope: Scope) -> tuple[Group, ...]:
    group = select.args.get("group")
    if group is None:
        return ()
    only(group, "expressions")
    if not group.expressions:
        raise unsupported("GROUP BY", "names no column", "name a category column, or drop it")
    aliases = {node.alias: node.this for node in select.expressions if isinstance(node, exp.Alias)}
    found: list[Group] = []
    for node in group.expressions:
        chosen = node
        if isinstance(node, exp.Literal) and node.is_int:
            chosen = _inner(select.expressions[_position(node, len(select.expressions))])
        elif isinstance(node, exp.Column) and not node.table and node.name in aliases:
            chosen = aliases[node.name]
        banded = isinstance(chosen, exp.Anonymous) and chosen.name.upper() == "BAND"
        if banded and len(chosen.expressions) == 1:
            column = scope.column(chosen.expressions[0], "BAND")
        else:
            column = scope.column(chosen, "GROUP BY")
        if all(column.column.casefold() != item.column.column.casefold() for item in found):
            found.append(Group(column, banded, shown(chosen)))
    return tuple(found)


def _with_private(groups: tuple[Group, ...], private: Private) -> tuple[Group, ...]:
    """The groups that are computed: each one apart for every bin of the private column."""
    name = private.column.column
    if any(name.casefold() == group.column.column.casefold() for group in groups):
        raise unsupported(private.text, "its column is grouped by, too", "leave one of them out")
    return (*groups, Group(private.column, True, private.text))


def _position(node: exp.Expr, count: int) -> int:
    index = expressions.whole_number(node) - 1
    if not 0 <= index < count:
        raise unsupported(shown(node), f"there are {count} selected columns", "name the column")
    return index


def _order(select: exp.Select) -> tuple[Order, ...]:
    order = select.args.get("order")
    if order is None:
        return ()
    only(order, "expressions")
    texts = [shown(_inner(node)) for node in select.expressions]
    names = [_name(node) for node in select.expressions]
    found = []
    for node in order.expressions:
        only(node, "this", "desc", "nulls_first")
        if node.args.get("nulls_first"):
            raise unsupported(shown(node), "NULL comes last", "leave NULLS FIRST out")
        text = shown(node.this)
        if isinstance(node.this, exp.Literal):
            place = _position(node.this, len(texts))
        elif text in names:
            place = names.index(text)
        elif text in texts:
            place = texts.index(text)
        else:
            raise unsupported(text, "rows are sorted by selected columns", "select it too")
        found.append(Order(place, bool(node.args.get("desc"))))
    return tuple(found)


def _limit(select: exp.Select) -> int:
    limit = select.args.get("limit")
    if limit is None:
        return -1
    only(limit, "expression")
    rows = expressions.whole_number(limit.expression)
    if rows < 0:
        raise unsupported(shown(limit), "a limit is not negative", "write LIMIT 10")
    return rows
