"""A bank asks about a category that nobody else learns, on a council with keys of profile M."""

import json
from collections.abc import Sequence

import pytest
from consortium import OVERDUE, ROWS, SECTOR, TURNOVER, Consortium

from chainnode.he import private_constants
from chainnode.sdk.scoring import read_query
from chainnode.types.errors import ClientFault, PeerFault

TRADE = "SELECT COUNT(*), SUM(turnover) FROM firms WHERE sector = PRIVATE(mine)"


def expected(sector: str) -> tuple[int, int]:
    chosen = [int(str(TURNOVER[row])) for row in range(ROWS) if SECTOR[row] == sector]
    return len(chosen), sum(chosen)


async def budget(made: Consortium) -> tuple[int, int]:
    return tuple(await made.bank.chain.view("budget", table="firms", bank="bank-a"))


@pytest.mark.timeout(180)
async def test_a_private_constant_is_answered_and_shown_to_nobody(deep: Consortium) -> None:
    made = deep
    for sector in ("trade", "farming"):
        rows = await made.bank.query("firms", TRADE, {"mine": sector})
        assert [row.values for row in rows] == [expected(sector)]
    facts = await read_query(made.bank.chain, made.bank.last_query)
    asked = facts.sql.split("PRIVATE")[1]
    record = json.loads(made.ledger.blobs[bytes.fromhex(asked[2:66])])
    assert len(record["selectors"]) == 2
    shown = b"".join(receipt.encode() for receipt in made.ledger.receipts)
    stored = repr(list(made.ledger.deployed.storage.values())).encode()
    assert b"'farming'" not in shown + stored and b"mine" not in shown + stored
    # The answer is collected again without the constant, which only the bank knew.
    again = await made.bank.resume(made.bank.last_query)
    assert isinstance(again, list) and again[0].values == expected("farming")
    assert await budget(made) == (5, 2)


@pytest.mark.timeout(180)
async def test_groups_of_every_category_count_for_the_minimum_and_for_differencing(
    deep: Consortium,
) -> None:
    made = deep
    # Of 60 firms 12 are 4 or more late, 24 less than 2, 24 between: of trade alone, 6.
    few = "SELECT COUNT(*) FROM firms WHERE sector = 'trade' AND overdue >= PRIVATE(days)"
    with pytest.raises(ClientFault, match="GROUP_TOO_SMALL"):
        await made.bank.query("firms", few, {"days": "2"})
    late = "SELECT COUNT(*) FROM firms WHERE overdue < PRIVATE(days)"
    rows = await made.bank.query("firms", late, {"days": "4"})
    assert [row.values for row in rows] == [(sum(int(str(days)) < 4 for days in OVERDUE),)]
    # 30 of trade beside those opened: 24 of trade that are less than 4 late are 6 rows apart.
    near = "SELECT COUNT(*) FROM firms WHERE sector = 'trade' AND overdue < 4"
    await made.bank.query("firms", "SELECT COUNT(*) FROM firms WHERE sector = 'trade'")
    with pytest.raises(ClientFault, match="GROUPS_TOO_CLOSE"):
        await made.bank.query("firms", near)


@pytest.mark.timeout(180)
async def test_a_bank_whose_selectors_choose_one_row_is_refused(
    deep: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = private_constants._constant_slots

    def one_row(plan: object, value: int) -> object:
        slots = honest(plan, value)  # type: ignore[arg-type]
        slots[1:] = 0
        return slots

    encrypt = private_constants.encrypt_selectors

    def lying(*arguments: object) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(private_constants, "_constant_slots", one_row)
            return encrypt(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("chainnode.sdk.private_constants.encrypt_selectors", lying)
    with pytest.raises(PeerFault, match=r"QUERY_REFUSED.*SELECTORS_MALFORMED"):
        await deep.bank.query("firms", TRADE, {"mine": "trade"})
    steps = await deep.bank.audit_trail(deep.bank.last_query)
    # No share of the answer left a member, and no member is blamed for a share.
    assert not {"share", "released", "approved"} & {step.step for step in steps}
    assert not any("share" in step.detail for step in steps if step.step == "fault")


@pytest.mark.timeout(120)
async def test_constants_that_are_missing_unused_or_unknown_cost_no_budget(
    deep: Consortium,
) -> None:
    def values(*names: str) -> dict[str, str]:
        return dict.fromkeys(names, "trade")

    refused: Sequence[tuple[str, dict[str, str], str]] = (
        (TRADE, {}, r"PRIVATE_VALUE_MISSING.*--private mine=VALUE"),
        (TRADE, values("mine", "other"), "PRIVATE_VALUE_UNUSED"),
        (TRADE, {"mine": "mining"}, "not a category"),
        ("SELECT COUNT(*) FROM firms", values("mine"), "PRIVATE_VALUE_UNUSED"),
    )
    for sql, private, reason in refused:
        with pytest.raises(ClientFault, match=reason):
            await deep.bank.query("firms", sql, private)
    assert await budget(deep) == (5, 0)


async def test_a_table_outside_profile_m_has_no_private_constants(consortium: Consortium) -> None:
    with pytest.raises(ClientFault, match="not stored in profile M"):
        await consortium.bank.query("firms", TRADE, {"mine": "trade"})
