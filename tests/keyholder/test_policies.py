"""What one owner forbids is refused by its name: to the bank, and by the council if it asks on."""

import pytest
from consortium import IDS, MODEL, OWNERS, ROWS, Consortium, plain_score

from chainnode.he.planner.policy import OwnerRules
from chainnode.sdk.bank import BankClient
from chainnode.types.errors import ClientFault, PeerFault

COUNT = "SELECT COUNT(*) FROM firms"
OVERDUE = f"{COUNT} WHERE overdue < 4"


async def test_a_denied_column_names_the_owner_and_costs_nothing(consortium: Consortium) -> None:
    owner = consortium.client("statistics")
    with pytest.raises(ClientFault, match="COLUMN_UNKNOWN"):
        await owner.set_policy("firms", OwnerRules("statistics", denied_columns=("profit",)))
    await owner.set_policy("firms", OwnerRules("statistics", ("overdue",), scores_allowed=False))
    for ask in (
        lambda: consortium.bank.query("firms", OVERDUE),
        lambda: consortium.bank.score("firms", MODEL.name),
    ):
        with pytest.raises(ClientFault, match="by the policy of statistics") as refused:
            await ask()
        assert refused.value.code == "POLICY_DENIED"
        assert "ask statistics for another policy" in refused.value.fix
    assert await consortium.bank.chain.view("budget", table="firms", bank="bank-a") == (5, 0)
    rows = await consortium.bank.query("firms", COUNT)
    assert [row.values for row in rows] == [(ROWS,)]


async def test_the_council_refuses_a_client_that_leaves_the_policy_out(
    consortium: Consortium,
) -> None:
    """A bank's own software plans without policies; nobody computes, keyholders say why at once."""
    await consortium.client("registry").set_policy("firms", OwnerRules("registry", ("overdue",)))
    lenient: BankClient = consortium.bank
    honest = lenient.chain.view

    async def unheeded(method: str, **kwargs: object) -> object:
        answer = await honest(method, **kwargs)
        if method == "policies_of":
            return [item | {"denied_columns": []} for item in answer]
        return answer

    lenient.chain.view = unheeded  # type: ignore[method-assign]
    with pytest.raises(PeerFault, match="POLICY_DENIED: by the policy of registry"):
        await lenient.query("firms", OVERDUE)


async def test_a_policy_of_later_changes_nothing_about_queries_already_asked(
    consortium: Consortium,
) -> None:
    await consortium.bank.query("firms", OVERDUE)
    first = consortium.bank.last_query
    await consortium.client("registry").set_policy("firms", OwnerRules("registry", ("overdue",)))
    # Its groups are still compared with those of later queries, and its answer opened again.
    rows = await consortium.bank.query("firms", COUNT)
    assert [row.values for row in rows] == [(ROWS,)]
    rows = await consortium.bank.resume(first)
    assert len(rows) == 1


async def test_scores_need_consent_to_the_purpose_asked_for(consortium: Consortium) -> None:
    for owner in OWNERS:
        client = consortium.client(owner)
        await client.set_consent("firms", "bank-a", IDS[:3], purpose="monitoring")
        await client.set_consent("firms", "bank-a", IDS[:30], until_height=1)
    assert await consortium.bank.score("firms", MODEL.name) == {}
    consortium.bank._purpose = "monitoring"
    scores = await consortium.bank.score("firms", MODEL.name)
    assert scores == {IDS[row]: plain_score(row) for row in range(3)}
