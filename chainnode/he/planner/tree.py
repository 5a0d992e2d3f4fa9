"""The values the rules hand to each other: a query as written and a query bound to a table."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from chainnode.he.planner.polynomial import Polynomial

Comparison = Literal["=", "<>", "<", "<=", ">", ">="]
AggregateKind = Literal["count", "sum", "avg"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal as written."""

    text: str
    kind: Literal["number", "text", "date"]


@dataclass(frozen=True, slots=True)
class Name:
    """A column as written; `source` is the joined table it was qualified with, or empty."""

    column: str
    source: str = ""


# --- conditions -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compare:
    """column op constant; `text` is the SQL for messages."""

    column: Name
    operator: Comparison
    constant: Constant
    text: str


@dataclass(frozen=True, slots=True)
class Between:
    """column BETWEEN low AND high, both included."""

    column: Name
    low: Constant
    high: Constant
    text: str


@dataclass(frozen=True, slots=True)
class Within:
    """column IN (constants)."""

    column: Name
    constants: tuple[Constant, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Like:
    """column LIKE pattern, on categories."""

    column: Name
    pattern: str
    text: str


@dataclass(frozen=True, slots=True)
class IsNull:
    """column IS NULL."""

    column: Name
    text: str


@dataclass(frozen=True, slots=True)
class ColumnCompare:
    """column op column."""

    left: Name
    operator: Comparison
    right: Name
    text: str


@dataclass(frozen=True, slots=True)
class Private:
    """column op PRIVATE(..): the constant is encrypted.

    Args:
        column: of categories or bins.
        operator: public.
        record: hash of the encrypted selectors, hex; empty while the query is only explained.
        text: the SQL for messages.
    """

    column: Name
    operator: Comparison
    record: str
    text: str


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound condition: where it is true and where it is false; a missing value is in neither."""

    features: tuple[str, ...]
    true: Polynomial
    false: Polynomial


@dataclass(frozen=True, slots=True)
class Connective:
    """AND or OR of at least two parts, or NOT of one."""

    operator: Literal["and", "or", "not"]
    parts: tuple[Predicate, ...]


Predicate = (
    Compare | Between | Within | Like | IsNull | ColumnCompare | Private | Bound | Connective
)


# --- what is summed -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in an aggregate's argument."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Value:
    """A column in an aggregate's argument."""

    column: Name


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """left op right; division by a column does not exist before release."""

    operator: Literal["+", "-", "*"]
    left: Number
    right: Number


@dataclass(frozen=True, slots=True)
class Case:
    """CASE WHEN .. THEN .. ELSE .. END; without ELSE the other rows are NULL."""

    branches: tuple[tuple[Predicate, Number], ...]
    otherwise: Number | None


Number = Quantity | Value | Arithmetic | Case


# --- what is released -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Aggregate:
    """COUNT, SUM or AVG of the rows where `where` is true; no argument counts rows."""

    kind: AggregateKind
    argument: Number | None
    where: Predicate | None
    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """A GROUP BY column; `banded` names its bins instead of its values."""

    column: Name
    banded: bool
    text: str


@dataclass(frozen=True, slots=True)
class Label:
    """The value of a GROUP BY column in the answer, by its position."""

    position: int
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Computed:
    """Arithmetic on released numbers."""

    operator: Literal["+", "-", "*", "/"]
    left: Expression
    right: Expression


Expression = Label | Aggregate | Quantity | Computed


@dataclass(frozen=True, slots=True)
class Test:
    """A HAVING comparison of released numbers."""

    operator: Comparison
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class TestConnective:
    """AND, OR or NOT of HAVING comparisons."""

    operator: Literal["and", "or", "not"]
    parts: tuple[Having, ...]


Having = Test | TestConnective


@dataclass(frozen=True, slots=True)
class Item:
    """One selected expression under its alias or SQL text."""

    name: str
    expression: Expression


@dataclass(frozen=True, slots=True)
class ScoreItem:
    """CREDIT_SCORE('model'), or SCORE_BAND('model', cuts...) with rows counted per band."""

    model: str
    cuts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """ORDER BY the answer column at a position."""

    position: int
    descending: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT of the supported shape.

    Args:
        sql: as written.
        tables: the table, or the owners' parts of it that are joined on the id.
        items: selected expressions; empty for a score query.
        score: what a score query asks.
        further_models: that it asks in the same pass.
        where: over rows.
        groups: GROUP BY columns.
        having: over released groups.
        order: of released rows.
        limit: of released rows; -1 is none.
        private: a condition taken out of `where`; its column is the last of `groups`.
    """

    sql: str
    tables: tuple[str, ...]
    items: tuple[Item, ...]
    where: Predicate | None
    groups: tuple[Group, ...] = ()
    score: ScoreItem | None = None
    further_models: tuple[str, ...] = ()
    having: Having | None = None
    order: tuple[Order, ...] = ()
    limit: int = -1
    private: Private | None = None
