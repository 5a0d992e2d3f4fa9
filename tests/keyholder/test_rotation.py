"""Epoch rotation on real keys: the old table answers until it is encrypted again."""

import pytest
from consortium import IDS, MODEL, OVERDUE, OWNERS, ROWS, SECTOR, TURNOVER, Consortium, plain_score
from local_chain import ORGANISATIONS, LocalChain

from chainnode.sdk.scoring import ContractRefused
from chainnode.types.errors import ClientFault

COUNT = "SELECT COUNT(*) FROM firms"
CELLS = {"sector": SECTOR, "overdue": OVERDUE, "turnover": TURNOVER}


async def rotate(
    consortium: Consortium,
    organisations: tuple[str, ...],
    threshold: int,
    profiles: tuple[str, ...] = ("S", "S36"),
) -> int:
    """Vote as three admins, then wait for the ceremony; the new epoch."""
    for name in ORGANISATIONS[:3]:
        admin = LocalChain(consortium.ledger, "admin", name, "admin")
        await admin.call(
            "rotate",
            organisations=list(organisations),
            threshold=threshold,
            profiles=list(profiles),
        )
    chain = consortium.bank.chain
    epoch = int((await chain.view("epoch_info", epoch=0))[0])
    async for _ in chain.follow(1):
        consortium.check_tasks()
        if await chain.view("latest_active_epoch") == epoch:
            break
    return epoch


async def epoch_of_last(consortium: Consortium) -> int:
    _, ask = await consortium.bank.chain.view("query_info", query=consortium.bank.last_query)
    return int(ask["epoch"])


async def test_a_rotation_keeps_old_tables_readable_until_all_owners_published(
    consortium: Consortium,
) -> None:
    assert await consortium.bank.reencryption_plan("firms") == []
    # One member leaves; two of the remaining three open together.
    remaining = tuple(name for name in ORGANISATIONS if name != "guarantor")
    assert await rotate(consortium, remaining, 2) == 2
    rows = await consortium.bank.query("firms", COUNT)
    assert [row.values for row in rows] == [(ROWS,)]
    assert await epoch_of_last(consortium) == 1
    plan = await consortium.bank.reencryption_plan("firms")
    assert {item.owner for item in plan} == set(OWNERS)
    assert all(item.epoch == 2 and item.blocks > 0 for item in plan)

    for owner in OWNERS:
        assert await epoch_of_last(consortium) == 1
        await consortium.client(owner).publish_columns("firms", CELLS)
        await consortium.client(owner).set_consent("firms", "bank-a", IDS[:10])
    assert await consortium.bank.reencryption_plan("firms") == []
    rows = await consortium.bank.query("firms", "SELECT SUM(turnover) FROM firms")
    assert rows[0].values == (sum(1_000 * row + 7 for row in range(ROWS)),)
    assert await epoch_of_last(consortium) == 2
    scores = await consortium.bank.score("firms", MODEL.name)
    assert scores == {IDS[row]: plain_score(row) for row in range(10)}
    posted = await consortium.bank.chain.view(
        "posts_of", epoch=2, subject=consortium.bank.last_query, step="share"
    )
    assert len(posted) == 3


async def test_inputs_of_a_stale_epoch_are_refused_by_name(consortium: Consortium) -> None:
    owner = consortium.client("registry")
    wanted = {"table": "firms", "owner": "registry", "profile": "S36"}
    old = await owner.chain.view("columns_of", **wanted, epoch=1)
    await rotate(consortium, ORGANISATIONS, 3)
    with pytest.raises(ContractRefused, match=r"STALE_EPOCH: .*epoch 1, active 2"):
        await owner.chain.call("publish_columns", table="firms", profile="S36", columns=old)
    assert await owner.chain.view("columns_of", **wanted, epoch=1) == old
    await rotate_again(consortium)
    # Two rotations without encrypting again: the table's epoch is retired.
    with pytest.raises(ClientFault, match="COLUMNS_NOT_PUBLISHED"):
        await consortium.bank.query("firms", COUNT)


async def rotate_again(consortium: Consortium) -> None:
    assert await rotate(consortium, ORGANISATIONS, 3) == 3
