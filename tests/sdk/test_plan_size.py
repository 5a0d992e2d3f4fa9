"""What a plan's result needs is known before anybody computes it."""

import msgspec
import pytest

from chainnode.he.planner.policy import Policy
from chainnode.he.schema import ROWS_PER_BLOCK, Column, OneHot, TableSchema
from chainnode.he.scorecard import FeaturePoints, Scorecard
from chainnode.he.sql import Catalog
from chainnode.he.threshold import Sharing
from chainnode.sdk.scoring import (
    POST_SIZE_MAX_BYTES,
    TableFacts,
    make_plan,
    post_size_bytes,
    result_size_bytes,
)
from chainnode.types.errors import ClientFault
from chainnode.types.limits import BLOB_SIZE_MAX_BYTES, SQL_GROUPS_MAX

SCORES = "SELECT CREDIT_SCORE('m1') FROM firms"
BY_REGION = "SELECT region, COUNT(*) FROM firms GROUP BY region"
SECTOR = Column("sector", "registry", OneHot(("farming", "trade")))


def facts(blocks: int) -> TableFacts:
    schema = TableSchema("firms", blocks * ROWS_PER_BLOCK, "id", "registry", (SECTOR,))
    points = (FeaturePoints("sector", (12, -7)),)
    model = Scorecard("m1", "firms", schema.hash().hex(), 500, points)
    sharing = Sharing.of(("bank-a", "guarantor", "registry", "statistics"), 3)
    catalog = Catalog(schema=schema, models={"m1": model}, parties=len(sharing.pieces))
    return TableFacts(("registry",), b"", schema, catalog, sharing)


def test_score_vectors_longer_than_a_blob_are_refused_before_they_are_asked() -> None:
    one = result_size_bytes(make_plan(facts(1), SCORES))
    most = BLOB_SIZE_MAX_BYTES // one
    assert most * ROWS_PER_BLOCK > 1_000_000
    plan = make_plan(facts(most), SCORES)
    assert result_size_bytes(plan) == most * one
    assert result_size_bytes(msgspec.structs.replace(plan, chunks=((0, most),))) == most * one
    with pytest.raises(ClientFault, match="PLAN_TOO_LARGE") as caught:
        make_plan(facts(most + 1), SCORES)
    assert caught.value.subject == SCORES
    assert "two tables" in caught.value.fix


def council_facts(members: int, opening: int, groups: int) -> TableFacts:
    """A table with one column of so many groups, under a council of any size."""
    column = Column("region", "registry", OneHot(tuple(f"r{place}" for place in range(groups))))
    schema = TableSchema("firms", ROWS_PER_BLOCK, "id", "registry", (column,))
    sharing = Sharing.of([f"m{place}" for place in range(members)], opening)
    policy = Policy(outputs_max=SQL_GROUPS_MAX)
    catalog = Catalog(schema=schema, models={}, policy=policy, parties=len(sharing.pieces))
    return TableFacts(("registry",), b"", schema, catalog, sharing)


@pytest.mark.parametrize(("members", "opening", "most"), [(7, 5, 103), (8, 5, 38)])
def test_shares_that_no_contract_keeps_are_refused_before_they_are_asked(
    members: int, opening: int, most: int
) -> None:
    kept = council_facts(members, opening, most)
    assert post_size_bytes(make_plan(kept, BY_REGION), kept.sharing) <= POST_SIZE_MAX_BYTES
    with pytest.raises(ClientFault, match=r"PLAN_TOO_LARGE.*pieces of the key") as caught:
        make_plan(council_facts(members, opening, most + 1), BY_REGION)
    assert "fewer groups" in caught.value.fix


def test_a_council_of_four_is_bound_by_the_blob_and_not_by_its_shares() -> None:
    with pytest.raises(ClientFault, match=r"PLAN_TOO_LARGE.*MiB"):
        make_plan(council_facts(4, 3, 171), BY_REGION)
    make_plan(council_facts(4, 3, 170), BY_REGION)
