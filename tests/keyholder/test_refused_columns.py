"""An owner's malformed columns end a query by name; one organisation's word does not."""

import pytest
from consortium import OVERDUE, ROWS, SECTOR, TURNOVER, Consortium

from chainnode import _native
from chainnode.he.profiles import PROFILES
from chainnode.sdk.bank import BankClient, InputFault
from chainnode.sdk.columns import read_columns
from chainnode.sdk.manifests import manifest_root, pack_manifest
from chainnode.sdk.scoring import (
    REFUSED,
    read_query,
    read_table,
)

SUM = "SELECT SUM(turnover) FROM firms WHERE sector = 'trade'"
COUNT = "SELECT COUNT(*) FROM firms"
OWNER = "statistics"
CELLS = {"sector": SECTOR, "overdue": OVERDUE, "turnover": TURNOVER}


async def republish(owner: BankClient, blocks: list[bytes]) -> bytes:
    """Publish the turnover again as these blocks; the root on chain."""
    facts = await read_table(owner.chain, "firms")
    manifest = await read_columns(owner.chain, facts, "S36", OWNER, 1)
    manifest.columns["turnover"] = [await owner.chain.put_blob(block) for block in blocks]
    columns = {
        "epoch": 1,
        "block_count": len(blocks),
        "root": manifest_root(manifest.columns),
        "manifest": await owner.chain.put_blob(pack_manifest(manifest)),
        "proof": b"",
    }
    await owner.chain.call("publish_columns", table="firms", profile="S36", columns=columns)
    return bytes(columns["root"])


def outside_the_ring() -> bytes:
    """Residues above every prime: the size of a ciphertext, and none."""
    size_bytes = 2 * PROFILES["S36"].limbs * PROFILES["S36"].slots * 8
    return b"\xff" * size_bytes


async def steps_of(consortium: Consortium) -> list[tuple[str, str, str]]:
    steps = await consortium.bank.audit_trail(consortium.bank.last_query)
    return [(step.step, step.organisation, step.detail) for step in steps]


@pytest.mark.parametrize("blocks", [[outside_the_ring()], [b"short"], [b"one", b"two"]])
async def test_malformed_columns_are_refused_naming_owner_column_and_block(
    consortium: Consortium, blocks: list[bytes]
) -> None:
    root = await republish(consortium.client(OWNER), blocks)
    with pytest.raises(InputFault) as refused:
        await consortium.bank.query("firms", SUM)
    fault = refused.value
    whole = len(blocks) > 1
    assert fault.code == ("COLUMN_MISSING" if whole else "COLUMN_MALFORMED")
    assert (fault.owner, fault.profile, fault.column) == (OWNER, "S36", "turnover")
    assert (fault.root, fault.subject) == (root, f"{OWNER}/turnover/{fault.block}")
    assert OWNER in fault.message
    facts = await read_query(consortium.bank.chain, consortium.bank.last_query)
    assert facts.status == REFUSED
    steps = await steps_of(consortium)
    assert ("fault", OWNER, f"{fault.code}, shown by the members that refused") in steps
    refusers = {name for step, name, _ in steps if step == "input refused by a member"}
    assert len(refusers) == 2
    # Columns that the plan does not read are nobody's business, and new ones mend it.
    rows = await consortium.bank.query("firms", COUNT)
    assert [row.values for row in rows] == [(ROWS,)]
    await consortium.client(OWNER).publish_columns("firms", CELLS)
    rows = await consortium.bank.query("firms", SUM)
    expected = sum(int(str(TURNOVER[row])) for row in range(ROWS) if SECTOR[row] == "trade")
    assert [row.values for row in rows] == [(expected,)]


async def test_a_worker_that_lies_about_columns_is_named_and_the_answer_is_exact(
    consortium: Consortium,
) -> None:
    # Chunk 0 is bank-a's and guarantor's; what bank-a does not compute, registry does.
    liar = consortium.workers["bank-a"]
    facts = await read_table(liar.chain, "firms")
    manifest = await read_columns(liar.chain, facts, "S36", OWNER, 1)
    root = manifest_root(manifest.columns)
    honest = liar._tiles.open

    async def lie(*_: object) -> object:
        raise InputFault("COLUMN_MALFORMED", OWNER, "S36", root, "turnover", 0)

    liar._tiles.open = lie  # type: ignore[method-assign, assignment]
    consortium.keyholders["bank-a"]._recompute = consortium.workers["registry"].recompute
    rows = await consortium.bank.query("firms", SUM)
    expected = sum(int(str(TURNOVER[row])) for row in range(ROWS) if SECTOR[row] == "trade")
    assert [row.values for row in rows] == [(expected,)]
    steps = await steps_of(consortium)
    told = ("input refused by a member", "bank-a", f"COLUMN_MALFORMED {OWNER}/turnover")
    assert told in steps
    faults = {(name, detail) for step, name, detail in steps if step == "fault"}
    assert faults >= {("bank-a", "refused input without cause, shown by contract")}
    assert OWNER not in {name for name, _ in faults}
    liar._tiles.open = honest  # type: ignore[method-assign]


async def test_workers_without_a_chunk_look_for_themselves_when_one_refuses(
    consortium: Consortium,
) -> None:
    """An owner that computes the chunk with a friend cannot hide: two others confirm the fault."""
    await republish(consortium.client(OWNER), [outside_the_ring()])
    for name in ("bank-a",):
        index = list(consortium.workers).index(name)
        consortium.tasks[len(consortium.keyholders) + index].cancel()
    with pytest.raises(InputFault, match="COLUMN_MALFORMED"):
        await consortium.bank.query("firms", SUM)
    refusers = {
        name for step, name, _ in await steps_of(consortium) if step == "input refused by a member"
    }
    assert "guarantor" in refusers and refusers & {"registry", "statistics"}


def test_the_malformed_block_has_the_size_of_a_ciphertext() -> None:
    with pytest.raises(ValueError, match="not below its prime"):
        _native.he_validate_ciphertext("S36", outside_the_ring(), 2, PROFILES["S36"].limbs)
