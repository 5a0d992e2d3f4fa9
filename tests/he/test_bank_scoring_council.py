"""The demo's council by its size: who opens together, and which keys its questions need."""

from functools import cache
from pathlib import Path

import pytest

from chainnode.he.planner.policy import Policy
from chainnode.he.profiles import ProfileName
from chainnode.he.sql import Catalog, plan_query
from chainnode.types.errors import ClientFault
from examples.bank_scoring import scoring, training
from examples.bank_scoring.journey import (
    LARGE_QUERIES,
    LARGE_SUMMED,
    QUERIES,
    council_of,
    profiles_beside,
)
from examples.bank_scoring.network import Network, free_base_port


@cache
def tables(beside: tuple[ProfileName, ...]) -> tuple[scoring.Table, scoring.Table]:
    """The table of the demo's first pass and, of as many rows, that of its second."""
    train, cases = training.split(training.load_cases())
    large = scoring.large_table(train, cases, LARGE_SUMMED, beside)
    return scoring.table_of(train, cases, beside), large


def catalog(table: scoring.Table, pieces: int) -> Catalog:
    policy = Policy(minimum_group_size=scoring.MINIMUM_GROUP)
    models = {table.model.name: table.model}
    return Catalog(schema=table.schema, models=models, policy=policy, parties=pieces)


@pytest.mark.parametrize(
    ("count", "threshold", "beside"),
    [(4, 3, ()), (5, 4, ()), (6, 5, ()), (7, 5, ("M",)), (8, 6, ("M",))],
)
def test_every_question_of_the_demo_is_carried_by_the_keys_its_council_makes(
    tmp_path: Path, count: int, threshold: int, beside: tuple[str, ...]
) -> None:
    organisations = Network(tmp_path, free_base_port(count), count).organisations
    sharing = council_of(organisations)
    assert (len(sharing.members), sharing.threshold) == (count, threshold)
    assert set(scoring.OWNERS) <= set(sharing.members)
    assert profiles_beside(sharing) == beside
    made = tables(profiles_beside(sharing))
    for table, queries in zip(made, (QUERIES, LARGE_QUERIES), strict=True):
        name = table.schema.table
        for query in queries:
            plan = plan_query(query.format(table=name), catalog(table, len(sharing.pieces)))
            assert plan.profile == (beside or ("S36",))[0]
        scored = f"SELECT CREDIT_SCORE('{table.model.name}') FROM {name}"
        assert plan_query(scored, catalog(table, len(sharing.pieces))).profile == "S"


def test_without_keys_of_m_seven_could_not_ask_the_demos_questions() -> None:
    table, _ = tables(())
    seven = catalog(table, len(council_of([f"m{place}" for place in range(7)]).pieces))
    with pytest.raises(ClientFault, match="PLAN_TOO_DEEP"):
        plan_query(QUERIES[0].format(table=table.schema.table), seven)
