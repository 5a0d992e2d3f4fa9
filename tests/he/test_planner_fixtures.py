"""Every query text in plans/*.txt plans, or is refused, exactly as written there.

A changed plan is changed in those files by hand, with its reason in the commit, because nodes vote
on these bytes.
"""

import json
from pathlib import Path

import msgspec
import pytest

from chainnode.he.plan import Plan
from chainnode.he.sql import Catalog, Policy, explain, plan_query, refusal, verify_plan
from chainnode.types.errors import ClientFault

PLANS = Path(__file__).with_name("plans")


def cases() -> list[tuple[str, str]]:
    found = []
    for path in sorted(PLANS.glob("*.txt")):
        for entry in path.read_text(encoding="utf-8").split("\n\n>> "):
            sql, _, expected = entry.strip().removeprefix(">> ").partition("\n")
            found.append((sql, expected))
    return found


def outcome(sql: str, catalog: Catalog) -> str:
    try:
        return explain(plan_query(sql, catalog))
    except ClientFault as error:
        return refusal(error)


@pytest.mark.parametrize(("sql", "expected"), cases())
def test_text_gives_the_recorded_plan_or_refusal(sql: str, expected: str, catalog: Catalog) -> None:
    assert outcome(sql, catalog) == expected


@pytest.mark.parametrize("sql", [sql for sql, text in cases() if text.startswith("plan ")])
def test_plan_json_is_canonical_and_read_back(sql: str, catalog: Catalog) -> None:
    plan = plan_query(sql, catalog)
    again = Plan.decode(plan.encode())
    assert again == plan
    assert again.hash() == plan.hash()
    json.loads(plan.encode(), parse_float=pytest.fail)
    with pytest.raises(ClientFault) as caught:
        Plan.decode(plan.encode().replace(b'{"', b'{ "', 1))
    assert caught.value.code == "MALFORMED"


def test_fixtures_cover_both_outcomes() -> None:
    texts = [text for _, text in cases()]
    assert sum(text.startswith("plan ") for text in texts) >= 12
    assert sum(text.startswith("refused ") for text in texts) >= 40


@pytest.mark.parametrize("chunk_count", [1, 2, 4, 100])
def test_a_plan_of_its_own_text_verifies(catalog: Catalog, chunk_count: int) -> None:
    for sql in (
        "SELECT SUM(debt) FROM firms WHERE region = '1'",
        "SELECT CREDIT_SCORE('m1') FROM firms",
    ):
        verify_plan(plan_query(sql, catalog, chunk_count), catalog)


def test_forged_plans_are_refused(catalog: Catalog) -> None:
    replace = msgspec.structs.replace
    plan = plan_query("SELECT COUNT(*) FROM firms WHERE region = '1'", catalog)
    output = plan.aggregate.outputs[0]
    column = replace(output.terms[0].factors[0], columns=("turnover",))
    secret = replace(output, terms=(replace(output.terms[0], factors=(column,)),))
    larger = Catalog(catalog.schema, catalog.models, Policy(minimum_group_size=50, outputs_max=24))
    for forged, known in (
        (replace(plan, aggregate=replace(plan.aggregate, outputs=(secret,))), catalog),
        (replace(plan, aggregate=replace(plan.aggregate, minimum_group_size=1)), catalog),
        (replace(plan, chunks=((0, 2), (0, 1))), catalog),
        (replace(plan, limbs=2), catalog),
        (plan, larger),
    ):
        with pytest.raises(ClientFault) as caught:
            verify_plan(forged, known)
        assert caught.value.code == "PLAN_FORGED"
