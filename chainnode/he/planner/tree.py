"""The values the rules hand to each other: a query as written and a query bound to a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Comparison = Literal["=", "<>", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal as written."""

    text: str
    is_string: bool


@dataclass(frozen=True, slots=True)
class Compare:
    """column op constant; `text` is the SQL for messages."""

    column: str
    operator: Comparison
    constant: Constant
    text: str


@dataclass(frozen=True, slots=True)
class Between:
    """column BETWEEN low AND high, both included."""

    column: str
    low: Constant
    high: Constant
    text: str


@dataclass(frozen=True, slots=True)
class Within:
    """column IN (constants)."""

    column: str
    constants: tuple[Constant, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound comparison: the row's bin of the feature is one of `bins`, of `bin_count`."""

    feature: str
    bins: tuple[int, ...]
    bin_count: int
    text: str


@dataclass(frozen=True, slots=True)
class Connective:
    """AND or OR of at least two parts, or NOT of one."""

    operator: Literal["and", "or", "not"]
    parts: tuple[Predicate, ...]


Predicate = Compare | Between | Within | Bound | Connective


@dataclass(frozen=True, slots=True)
class Item:
    """One selected expression.

    Args:
        kind: what it is.
        name: alias or SQL text.
        column: for `column`; the model's name for `score`.
        terms: for `sum` and `avg`, (weight, SQL column) of the argument.
    """

    kind: Literal["column", "count", "sum", "avg", "score"]
    name: str
    column: str = ""
    terms: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT of the supported shape."""

    sql: str
    table: str
    items: tuple[Item, ...]
    where: Predicate | None
    group_by: str


@dataclass(frozen=True, slots=True)
class BoundQuery:
    """A query whose names and constants exist.

    Args:
        query: as parsed, with the schema's spelling of every column.
        where: over bins only; None selects every row.
        ids: for a score query, the enterprises asked about, or None for all.
    """

    query: Query
    where: Predicate | None
    ids: tuple[str, ...] | None = None

    def is_score(self) -> bool:
        """Whether the query asks for `CREDIT_SCORE`."""
        return any(item.kind == "score" for item in self.query.items)
