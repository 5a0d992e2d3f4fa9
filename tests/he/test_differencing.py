"""Pairs of questions that would tell about too few rows, and pairs that would not."""

import pytest

from chainnode.he.differencing import OpenedGroup, opened_groups, too_close
from chainnode.he.planner.policy import Policy
from chainnode.he.schema import Bins, Column, Digits, OneHot, TableSchema
from chainnode.he.sql import Catalog, plan_query

SCHEMA = TableSchema(
    "firms",
    1_000,
    "id",
    "registry",
    (
        Column("sector", "registry", OneHot(("farming", "trade", "craft"), missing=True)),
        Column("overdue", "bank-a", Bins(0, (2, 4, 8), 120)),
        Column("staff", "bank-a", Digits(0, 4_000, 8)),
        Column("turnover", "statistics", None, 5_000),
    ),
)
CATALOG = Catalog(schema=SCHEMA, models={}, policy=Policy(minimum_group_size=10), parties=4)


def groups(
    where: str, *counts: int | None, query: str = "q1", group: str = ""
) -> list[OpenedGroup]:
    sql = "SELECT COUNT(*) FROM firms" + (f" WHERE {where}" if where else "") + group
    return opened_groups(query, plan_query(sql, CATALOG, chunk_count=4), counts)


def verdict(fresh: list[OpenedGroup], known: list[OpenedGroup]) -> str:
    return too_close(SCHEMA, fresh, known, 10)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("", "overdue < 8"),
        ("overdue < 4", "overdue < 8"),
        ("sector = 'trade'", "sector IN ('trade', 'farming')"),
        ("sector = 'trade' AND overdue < 4", "sector = 'trade'"),
        ("sector = 'trade' OR overdue < 4", "overdue < 4"),
        ("sector <> 'trade'", "sector = 'farming'"),
        ("NOT (sector = 'trade' AND overdue >= 8)", "overdue < 8"),
        ("staff < 100", "staff < 117"),
        ("", "staff >= 7"),
    ],
)
def test_nested_groups_need_the_minimum_between_them(first: str, second: str) -> None:
    for one, other in ((first, second), (second, first)):
        known = groups(one, 500, query="q0")
        assert "fewer than 10 rows apart from a group of query q0" in verdict(
            groups(other, 493), known
        )
        assert "fewer than 10" in verdict(groups(other, 509), known)
        assert verdict(groups(other, 490), known) == ""
        assert verdict(groups(other, 500), known) == ""
        assert "contains or lies in" in verdict(groups(other, 300), groups(one, None))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sector = 'trade'", "sector = 'farming'"),
        ("sector = 'trade'", "overdue < 4"),
        ("overdue < 4", "overdue >= 2"),
        ("staff < 100", "overdue < 4"),
        ("staff < 100", "staff >= 90"),
    ],
)
def test_groups_that_do_not_contain_each_other_pass(first: str, second: str) -> None:
    assert verdict(groups(first, 501), groups(second, 500)) == ""


def test_the_same_question_after_a_few_rows_changed_is_refused() -> None:
    assert verdict(groups("overdue < 4", 500), groups("overdue < 4", 500)) == ""
    assert "fewer than 10" in verdict(groups("overdue < 4", 499), groups("overdue < 4", 500))


def test_every_group_of_a_query_is_compared() -> None:
    by_sector = groups("", 300, 400, 291, 9, group=" GROUP BY sector")
    assert len(by_sector) == 4
    assert "fewer than 10" in verdict(by_sector, groups("sector = 'trade'", 405, query="q0"))
    assert verdict(by_sector, groups("overdue < 4", 405)) == ""


def test_groups_too_large_to_compare_are_refused_conservatively() -> None:
    wide = tuple(
        Column(name, "bank-a", Bins(0, tuple(range(1, 120)), 120)) for name in ("a", "b", "c", "d")
    )
    schema = TableSchema("wide", 1_000, "id", "registry", wide)
    catalog = Catalog(schema=schema, models={}, policy=Policy(minimum_group_size=10), parties=4)

    def asked(where: str) -> list[OpenedGroup]:
        plan = plan_query(f"SELECT COUNT(*) FROM wide WHERE {where}", catalog, chunk_count=4)
        return opened_groups("q", plan, [500])

    left, right = asked("a < 1 AND b < 1"), asked("b < 1 AND c < 1")
    assert "cannot be compared with query q" in too_close(schema, left, right, 10)
    left, right = asked("a < 1 AND b < 1"), asked("c < 1 AND d < 1")
    assert too_close(schema, left, right, 10) == ""
