"""A bank scores with points nobody else can read, on a council with keys of profile M."""

import asyncio
import json

import msgspec
import pytest
from consortium import (
    DEEP_SCHEMA,
    IDS,
    MODEL,
    OWNERS,
    Consortium,
    plain_score,
)

from chainnode.he.private_points import PrivateScorecard, decode_model
from chainnode.he.scorecard import Scorecard
from chainnode.he.sql import explain
from chainnode.sdk.scoring import read_table
from chainnode.types.errors import ClientFault, PeerFault

SECRET = b"s" * 32
CARD = msgspec.structs.replace(MODEL, name="hidden", schema_hash=DEEP_SCHEMA.hash().hex())


async def everything_on_chain(made: Consortium) -> str:
    """Models and the plan's text as anyone reads them."""
    models = await made.bank.chain.view("models_of", table="firms")
    plan = await made.bank.plan("firms", "SELECT CREDIT_SCORE('hidden') FROM firms")
    return b"".join(models).decode() + plan.encode().decode()


@pytest.mark.timeout(120)
async def test_a_bank_scores_with_points_that_stay_with_it(deep: Consortium) -> None:
    made = deep
    record = await made.bank.encrypt_model("firms", CARD, SECRET)
    for owner in OWNERS:
        await made.client(owner).approve_model("firms", decode_model(record.encode()))
    found = await made.bank.score("firms", "hidden")
    assert found == {IDS[row]: plain_score(row) for row in range(40)}
    asked = await made.bank.score("firms", "hidden", ["E003", "E050"])
    assert asked == {"E003": plain_score(3)}
    # The bank counts bands of what it alone decrypted.
    bands = "SELECT SCORE_BAND('hidden', 500), COUNT(*) FROM firms GROUP BY 1"
    below = sum(plain_score(row) < 500 for row in range(40))
    counts = [row.values[1] for row in await made.bank.query("firms", bands)]
    assert sorted(map(int, map(str, counts))) == sorted([below, 40 - below])
    public = json.loads(record.encode())
    assert set(public) == set(PrivateScorecard.__struct_fields__)
    shown = await everything_on_chain(made)
    assert all(f"{number}" not in shown for number in ("-90", "[12,-7]", ":500,"))
    plan = await made.bank.plan("firms", "SELECT CREDIT_SCORE('hidden') FROM firms")
    assert "profile   M, 5 limbs, degree 2" in explain(plan)
    auditor = made.client("guarantor")
    await auditor.check_private_points("firms", record, CARD, SECRET)
    with pytest.raises(PeerFault, match="PRIVATE_POINTS_DIFFER"):
        other = msgspec.structs.replace(CARD, offset=501)
        await auditor.check_private_points("firms", record, other, SECRET)
    # Points of this epoch are none under another one's key.
    facts = await read_table(made.bank.chain, "firms", 0)
    assert "hidden" not in facts.catalog.models


async def test_private_points_need_keys_of_profile_m(consortium: Consortium) -> None:
    with pytest.raises(ClientFault, match=r"PROFILE_WITHOUT_KEY.*he rotate --profile M"):
        await consortium.bank.encrypt_model("firms", MODEL, SECRET)


@pytest.mark.timeout(120)
async def test_a_model_that_one_owner_has_not_approved_is_unknown(deep: Consortium) -> None:
    made = deep
    record = await made.bank.encrypt_model("firms", CARD, SECRET)
    for owner in OWNERS[:2]:
        await made.client(owner).approve_model("firms", record)
    with pytest.raises(ClientFault, match="no such model"):
        await asyncio.wait_for(made.bank.score("firms", "hidden"), 20)
    assert isinstance(CARD, Scorecard)
