"""What a plan's result needs is known before anybody computes it."""

import msgspec
import pytest

from chainnode.he.schema import ROWS_PER_BLOCK, Column, OneHot, TableSchema
from chainnode.he.scorecard import FeaturePoints, Scorecard
from chainnode.he.sql import Catalog
from chainnode.he.threshold import Sharing
from chainnode.sdk.scoring import TableFacts, make_plan, result_size_bytes
from chainnode.types.errors import ClientFault
from chainnode.types.limits import BLOB_SIZE_MAX_BYTES

SCORES = "SELECT CREDIT_SCORE('m1') FROM firms"
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
