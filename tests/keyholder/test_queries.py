"""Encrypted queries end to end, in one process, on the real contract, engine and proofs."""

import pytest
from consortium import IDS, MODEL, ROWS, SECTOR, TURNOVER, Consortium, plain_score

from chainnode.types.errors import ClientFault


async def test_sums_and_counts_equal_the_plaintext(consortium: Consortium) -> None:
    sql = "SELECT COUNT(*), SUM(turnover) FROM firms WHERE sector = 'trade'"
    rows = await consortium.bank.query("firms", sql)
    expected = [int(str(TURNOVER[row])) for row in range(ROWS) if SECTOR[row] == "trade"]
    assert [row.values for row in rows] == [(len(expected), sum(expected))]
    steps = await consortium.bank.audit_trail(consortium.bank.last_query)
    assert [steps[0].step, steps[-1].step, steps[-1].detail] == ["submitted", "ended", "answered"]
    assert {"finalised", "counts", "group check", "approved", "share", "released"} <= {
        step.step for step in steps
    }
    assert all(len(step.tx_id) == 32 and step.height > 0 for step in steps)


async def test_scores_reach_the_bank_for_consenting_enterprises_only(
    consortium: Consortium,
) -> None:
    for owner in ("bank-a", "registry", "statistics"):
        await consortium.client(owner).set_consent("firms", "bank-a", IDS[:40])
    scores = await consortium.bank.score("firms", MODEL.name, [IDS[3], IDS[17], IDS[50]])
    assert scores == {IDS[3]: plain_score(3), IDS[17]: plain_score(17)}


async def test_a_small_group_is_refused_and_costs_budget(consortium: Consortium) -> None:
    sql = "SELECT COUNT(*) FROM firms WHERE overdue >= 4 AND sector = 'trade'"
    with pytest.raises(ClientFault) as refused:
        await consortium.bank.query("firms", sql)
    assert refused.value.code == "GROUP_TOO_SMALL"
    assert await consortium.bank.chain.view("budget", table="firms", bank="bank-a") == (5, 1)
