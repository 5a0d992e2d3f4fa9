"""SQL that must not plan, and SQL cut and grafted by machine that must not be answered wrongly."""

import random
import re
from pathlib import Path

import duckdb
import pytest
import sqlglot
from against_duckdb import SlotEngine, catalog_of
from random_queries import Queries
from random_tables import random_table
from sqlglot import exp

from chainnode.he.answer import number
from chainnode.he.results import assemble
from chainnode.he.sql import Catalog, plan_query
from chainnode.types.errors import ClientFault

LINES = Path(__file__).with_name("sql.txt").read_text(encoding="utf-8").splitlines()
TOKEN = re.compile(r"'(?:[^']|'')*'|\d+\.\d+|\w+|[<>=!]+|[^\s\w]")
WORDS = TOKEN.findall(
    "NOT AND OR IN LIKE BETWEEN IS NULL CASE WHEN THEN ELSE END DISTINCT ALL ASC DESC LIMIT OFFSET "
    "HAVING GROUP ORDER BY FILTER WHERE OVER ( ) , ; - -- * % || :: . 0 1e9 0x10 '' 1.5 TRUE"
)
CASES = [tuple(line.split("|", 1)) for line in LINES if line and not line.startswith("#")]


@pytest.mark.parametrize(("code", "sql"), CASES)
def test_what_must_not_plan_is_refused_with_its_reason(
    code: str, sql: str, catalog: Catalog
) -> None:
    with pytest.raises(ClientFault) as caught:
        plan_query(sql, catalog)
    assert caught.value.code == code, caught.value.message
    assert caught.value.message and caught.value.fix


def grafted(source: random.Random, texts: list[str]) -> str:
    """A query with a few nodes replaced by nodes of other queries, or dropped."""
    tree = sqlglot.parse_one(source.choice(texts), read="duckdb")
    for _ in range(source.randint(1, 3)):
        donor = sqlglot.parse_one(source.choice(texts), read="duckdb")
        places = [node for node in tree.walk() if node.parent is not None]
        gifts = list(donor.walk())
        place = source.choice(places)
        kin = [gift for gift in gifts if isinstance(gift, type(place))]
        gift = source.choice(kin if kin and source.random() < 0.7 else gifts)
        if source.random() < 0.1:
            place.pop()
        else:
            place.replace(gift.copy())
    return tree.sql(dialect="duckdb")


def changed(source: random.Random, texts: list[str]) -> str:
    """A query's text with a few tokens exchanged for their like, lost, repeated, or put in."""
    tokens = TOKEN.findall(source.choice(texts))
    for _ in range(source.choice([1, 1, 2, 3])):
        place, change = source.randrange(len(tokens)), source.random()
        others = TOKEN.findall(source.choice(texts))
        if change < 0.6:
            kin = [other for other in others if _kind(other) == _kind(tokens[place])]
            tokens[place] = source.choice(kin or WORDS)
        elif change < 0.7 and len(tokens) > 1:
            del tokens[place]
        elif change < 0.9:
            tokens.insert(place, source.choice([*WORDS, *others, tokens[place]]))
        else:
            tokens[place] = tokens[place][: source.randint(0, 2)] + chr(source.randrange(1, 0x3000))
    return " ".join(tokens)


def _kind(token: str) -> tuple[bool, bool, bool]:
    return (token[0].isdigit(), token[0].isalpha(), token.isupper())


class Judge:
    """A random table, in which a text is refused with its reason or answered as by DuckDB."""

    def __init__(self, source: random.Random, deep: bool) -> None:
        table = random_table(source, 60, deep=deep)
        self._engine, self._database = SlotEngine(table), table.load()
        self._catalog = catalog_of(table)
        queries = Queries(source, table)
        self.texts = [queries.query().sql for _ in range(30)]

    def answered(self, sql: str) -> bool:
        """Whether both answered, equally; anything but a typed refusal or that fails."""
        try:
            plan = plan_query(sql, self._catalog)
        except ClientFault as error:
            assert error.code.startswith(("SQL_", "PLAN_", "POLICY_")), sql
            return False
        rows = assemble(plan, self._engine.open(plan))
        if "BAND" in sql.upper():
            return False
        ours = [tuple(map(_plain, row.values)) for row in rows]
        try:
            theirs = self._database.execute(sql).fetchall()
        except (
            duckdb.OutOfRangeException,
            duckdb.BinderException,
            duckdb.ParserException,
        ) as error:
            # DuckDB reserves more words than sqlglot, which reads `FROM t ASC` as an alias.
            known = ("Ambiguous", "ut of range", "syntax error at or near")
            assert any(part in str(error) for part in known), (sql, str(error))
            return False
        shown = [tuple(map(_plain, row)) for row in theirs]
        assert len(ours) == len(shown), sql
        if "LIMIT" not in sql:
            pairs = zip(sorted(ours, key=str), sorted(shown, key=str), strict=True)
            assert all(_same(left, right) for left, right in pairs), (sql, ours, shown)
        return True


@pytest.mark.parametrize("seed", range(12))
def test_grafted_queries_are_refused_or_answered_as_duckdb_answers(seed: int) -> None:
    source = random.Random(f"graft/{seed}")
    judge = Judge(source, deep=seed % 2 == 0)
    planned = 0
    for _ in range(60):
        try:
            sql = grafted(source, judge.texts)
        except (KeyError, IndexError, ValueError, AttributeError):
            # sqlglot has no text for a tree cut in a place it needs.
            continue
        planned += judge.answered(sql)
    assert planned >= 1


def test_changed_texts_are_refused_or_answered_as_duckdb_answers() -> None:
    answered = 0
    for seed in range(4):
        source = random.Random(f"tokens/{seed}")
        judge = Judge(source, deep=False)
        answered += sum(judge.answered(changed(source, judge.texts)) for _ in range(120))
    assert answered >= 10


def _plain(value: object) -> object:
    if value is None:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return round(value, 6) if value == value and abs(value) != float("inf") else None
    found = number(value) if not hasattr(value, "isoformat") else None
    return str(value) if found is None else round(float(found), 6)


def _same(left: tuple[object, ...], right: tuple[object, ...]) -> bool:
    return all(
        a == b
        or (
            isinstance(a, float)
            and isinstance(b, float)
            and a == pytest.approx(b, rel=1e-9, abs=2e-6)
        )
        or (isinstance(a, str) and isinstance(b, float) and float(a) == b)
        for a, b in zip(left, right, strict=True)
    )


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 250
    assert exp.Select is type(sqlglot.parse_one("SELECT 1"))
