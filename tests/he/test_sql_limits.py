"""Whatever text arrives, the planner answers with a plan or a typed refusal, soon."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainnode.he.planner.policy import OwnerRules, Policy
from chainnode.he.sql import Catalog, plan_query
from chainnode.types.errors import ClientFault
from chainnode.types.limits import SQL_DEPTH_MAX, SQL_LENGTH_MAX_CHARACTERS

HEAD = "SELECT COUNT(*) FROM firms WHERE "


def refused(sql: str, catalog: Catalog) -> str:
    with pytest.raises(ClientFault) as caught:
        plan_query(sql, catalog)
    assert caught.value.fix
    return caught.value.code


def test_length_limit_is_exact(catalog: Catalog) -> None:
    sql = HEAD + "overdue < 3"
    fits = sql + " " * (SQL_LENGTH_MAX_CHARACTERS - len(sql))
    assert plan_query(fits, catalog).kind == "aggregate"
    assert refused(fits + " ", catalog) == "SQL_TOO_LONG"


def test_depth_limit_is_exact(catalog: Catalog) -> None:
    deepest = "NOT " * (SQL_DEPTH_MAX - 1) + "overdue < 3"
    assert plan_query(HEAD + deepest, catalog).kind == "aggregate"
    assert refused(HEAD + "NOT " + deepest, catalog) == "SQL_TOO_DEEP"
    nested = "(" * SQL_DEPTH_MAX + "overdue < 3" + ")" * SQL_DEPTH_MAX
    assert refused(HEAD + nested, catalog) == "SQL_TOO_DEEP"


@pytest.mark.parametrize(
    "sql",
    [
        HEAD + "(" * 4_000 + "overdue < 3" + ")" * 4_000,
        HEAD + "NOT " * 2_000 + "overdue < 3",
        HEAD + "overdue < " + "-" * 4_001 + "3",
        HEAD + "overdue < " + "- " * 4_000 + "3",
        HEAD + "overdue < " + "(" * 3_000 + "3" + ")" * 3_000,
        "SELECT SUM(" + "staff + " * 900 + "staff) FROM firms",
        "SELECT SUM(" + "(" * 3_000 + "staff" + ")" * 3_000 + ") FROM firms",
        "SELECT " + "f(" * 2_500 + ")" * 2_500 + " FROM firms",
        "SELECT " + "CASE WHEN 1 THEN " * 400 + "1" + " END" * 400 + " FROM firms",
        "SELECT COUNT(*) FROM " + "(SELECT 1 FROM " * 500 + "x" + ")" * 500,
        HEAD + "overdue < 9" + "9" * 7_000,
        HEAD + "overdue < 1e999999999",
        HEAD + "overdue < 0x" + "f" * 4_000,
        HEAD + "overdue <= 2.9" + "9" * 40,
        HEAD + "overdue < 1e-999999999",
    ],
    ids=range(15),
)
def test_monsters_are_refused_soon(sql: str, catalog: Catalog) -> None:
    started = time.monotonic()
    refused(sql, catalog)
    assert time.monotonic() - started < 5


def test_long_flat_conditions_are_allowed(catalog: Catalog) -> None:
    where = " OR ".join(["overdue < 3"] * 400)
    plan = plan_query(HEAD + where, catalog)
    assert plan.aggregate.outputs[0].terms[0].factors[0].columns == ("overdue.0", "overdue.1")
    selected = ", ".join(["SUM(staff)"] * 300)
    assert len(plan_query(f"SELECT {selected} FROM firms", catalog).aggregate.outputs) == 2


def test_many_columns_are_refused_before_they_explode(catalog: Catalog) -> None:
    every = "(sector <> 'trade' OR region = '1' OR overdue < 6 OR ratio < 1.25 OR staff < 50)"
    sql = HEAD + " AND ".join([every] * 60)
    started = time.monotonic()
    assert refused(sql, catalog) == "PLAN_TOO_DEEP"
    assert time.monotonic() - started < 10


def test_policy_denies_columns_scores_and_many_outputs(catalog: Catalog) -> None:
    owners = (
        OwnerRules("lax"),
        OwnerRules("no-scores", scores_allowed=False),
        OwnerRules("shy", denied_columns=("Overdue",), outputs_max=7),
    )
    strict = Catalog(catalog.schema, catalog.models, Policy(owners=owners))
    eight = "SELECT sector, COUNT(*), SUM(staff) FROM firms GROUP BY sector"
    for sql, subject, owner, rule in (
        (HEAD + "sector = 'trade' AND NOT overdue < 3", "overdue", "shy", "column is denied"),
        ("SELECT CREDIT_SCORE('m1') FROM firms", "CREDIT_SCORE", "no-scores", "not allowed"),
        (eight, "8 opened scalars", "shy", "at most 7"),
    ):
        with pytest.raises(ClientFault, match=rule) as refusal:
            plan_query(sql, strict)
        error = refusal.value
        assert (error.code, error.subject) == ("POLICY_DENIED", subject)
        assert f"by the policy of {owner}:" in error.message and f"ask {owner} " in error.fix
    assert plan_query("SELECT COUNT(*) FROM firms", strict).kind == "aggregate"


VOCABULARY = (
    "SELECT COUNT(*) , SUM( AVG( ) FROM firms WHERE overdue ratio sector < <= = <> 3 0.5 'trade' "
    "AND OR NOT IN ( BETWEEN GROUP BY CREDIT_SCORE( 'm1' id NULL * + - ; -- /* $$ ? AS x"
)
WORDS = st.sampled_from(VOCABULARY.split())


@settings(max_examples=300, deadline=None)
@given(words=st.lists(WORDS, max_size=20))
def test_any_words_give_a_plan_or_a_refusal(words: list[str], catalog: Catalog) -> None:
    try:
        plan_query("SELECT COUNT(*) FROM firms " + " ".join(words), catalog)
    except ClientFault as error:
        assert error.code.startswith(("SQL_", "PLAN_", "POLICY_"))


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_gives_a_plan_or_a_refusal(text: str, catalog: Catalog) -> None:
    for sql in (text, "SELECT COUNT(*) FROM firms WHERE " + text):
        try:
            plan_query(sql, catalog)
        except ClientFault as error:
            assert error.code.startswith(("SQL_", "PLAN_", "POLICY_"))
