"""Every query text in plans/*.txt plans, or is refused, exactly as written there.

A changed plan is changed in those files by hand, with its reason in the commit, because nodes vote
on these bytes.
"""

import json
from pathlib import Path

import pytest

from chainnode.he.plan import Plan
from chainnode.he.sql import Catalog, explain, plan_query, refusal
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
