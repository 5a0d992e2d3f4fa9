"""The council checks columns: an owner of false indicators is named, its columns stay shut."""

import hashlib
from collections.abc import Mapping

import numpy as np
import pytest
from consortium import OVERDUE, SECTOR, TURNOVER, Consortium

from chainnode import _native
from chainnode.he.checks import CheckStatement
from chainnode.he.encode import owner_blocks
from chainnode.he.profiles import PROFILES
from chainnode.sdk import audits
from chainnode.sdk.bank import BankClient
from chainnode.sdk.columns import read_columns
from chainnode.sdk.manifests import manifest_root, pack_manifest
from chainnode.sdk.scoring import (
    REFUSED,
    make_plan,
    plan_shape,
    read_query,
    read_table,
)
from chainnode.types.errors import ClientFault, PeerFault

OWNER = "bank-a"
CELLS = {"sector": SECTOR, "overdue": OVERDUE, "turnover": TURNOVER}


async def passed_by(client: BankClient) -> audits.AuditStanding:
    """An audit that missed what is wrong: eight blocks of many are a sample."""
    facts = await read_table(client.chain, "firms")
    root = (await audits.published_roots(client.chain, facts, "S36", 1))[OWNER]
    found = audits.AuditStanding(OWNER, "S36", root)
    await audits.record(client.chain, "firms", found, 1, True, "8 blocks")
    return await audits.standing(client.chain, "firms", OWNER, "S36", root)


async def republish(owner: BankClient, values: Mapping[str, Mapping[int, int]]) -> None:
    """bank-a's columns once more, with other values in some rows."""
    facts = await read_table(owner.chain, "firms")
    manifest = await read_columns(owner.chain, facts, "S36", OWNER, 1)
    hashes = await owner.chain.view("keys_of", epoch=1)
    key = await owner.chain.get_blob(bytes(hashes["public_key_s36"]))
    for name, blocks in owner_blocks(facts.schema, OWNER, CELLS, "S36"):
        slots = np.frombuffer(blocks[0], "<u8").copy()
        for row, value in values.get(name, {}).items():
            slots[row] = value
        seed = hashlib.sha256(name.encode() + slots.tobytes()).digest()
        sealed = _native.he_encrypt("S36", key, slots.tobytes(), seed, PROFILES["S36"].limbs)
        manifest.columns[name] = [await owner.chain.put_blob(sealed)]
    columns = {
        "epoch": 1,
        "block_count": 1,
        "root": manifest_root(manifest.columns),
        "manifest": await owner.chain.put_blob(pack_manifest(manifest)),
        "proof": b"",
    }
    await owner.chain.call("publish_columns", table="firms", profile="S36", columns=columns)


def said(consortium: Consortium, name: str) -> list[dict[str, object]]:
    return [fields for event, fields in consortium.ledger.deployed.events if event == name]


async def test_honest_audited_columns_pass_once_and_nothing_is_released(
    consortium: Consortium,
) -> None:
    auditor = consortium.client("registry")
    with pytest.raises(audits.UnauditedColumns, match="nobody audited them"):
        await audits.check_columns(auditor.chain, "firms", OWNER, "S36")
    await passed_by(auditor)
    plan, found = await audits.check_columns(auditor.chain, "firms", OWNER, "S36", 40)
    assert (found.check, found.is_audited) == ("passed", True)
    assert plan.aggregate is not None and len(plan.aggregate.outputs) == 3
    (verdict,) = [
        item for item in said(consortium, "ColumnsAudited") if item["auditor"] == "council"
    ]
    assert (verdict["owner"], verdict["outcome"]) == (OWNER, "passed")
    # The council saw zeros; nobody else was given a share, and no budget was spent.
    assert not [item for item in said(consortium, "QueryStep") if item["step"] == "share"]
    assert await auditor.chain.view("budget", table="firms", bank="bank-a") == (5, 0)
    with pytest.raises(ClientFault, match="AlreadyDone"):
        await audits.check_columns(auditor.chain, "firms", OWNER, "S36")


# Row 4 is in bin 2 of overdue, row 0 in bin 0, row 2 in bin 1.
@pytest.mark.parametrize(
    "values",
    [
        {"overdue.2": {4: 2}},
        {"overdue.0": {4: 1}},
        {"overdue.1": {2: 0}},
        {"overdue.0": {4: 1, 0: 0}},
    ],
    ids=["a two", "two bins", "no bin", "errors that cancel"],
)
async def test_an_owner_of_false_indicators_is_named_and_its_columns_open_no_more(
    consortium: Consortium, values: dict[str, dict[int, int]]
) -> None:
    owner, auditor = consortium.client(OWNER), consortium.client("registry")
    await republish(owner, values)
    assert (await passed_by(auditor)).is_audited
    with pytest.raises(PeerFault) as failed:
        await audits.check_columns(auditor.chain, "firms", OWNER, "S36", 40)
    assert (failed.value.code, failed.value.subject) == ("COLUMNS_FAILED", f"{OWNER}/S36")
    faults = [(item["organisation"], item["fault"]) for item in said(consortium, "MemberFault")]
    assert faults == [(OWNER, "columns failed their check")]
    await owner.require_audits("firms")
    with pytest.raises(audits.UnauditedColumns, match="council's check of their sums failed"):
        await consortium.bank.query("firms", "SELECT COUNT(*) FROM firms WHERE overdue >= 2")
    # Honest columns have another root, and begin anew.
    await owner.publish_columns("firms", CELLS)
    await passed_by(auditor)
    _, found = await audits.check_columns(auditor.chain, "firms", OWNER, "S36", 40)
    assert found.check == "passed"


async def submit(auditor: BankClient, statement: CheckStatement, owner: str) -> bytes:
    facts = await read_table(auditor.chain, "firms", 1)
    plan, query = make_plan(facts, statement.text()), hashlib.sha256(owner.encode()).digest()
    ask = {
        "table": "firms",
        "epoch": 1,
        **plan_shape(plan),
        "purpose": "",
        "plan_hash": plan.hash(),
        "reply_key": bytes(32),
        "target_key": bytes(32),
    }
    await auditor.chain.call(
        "submit_check", query=query, ask=ask, owner=owner, statement=statement.text()
    )
    return query


@pytest.mark.parametrize("what", ["unaudited", "another owner", "another root"])
async def test_keyholders_refuse_checks_a_client_should_not_have_asked(
    consortium: Consortium, what: str
) -> None:
    auditor = consortium.client("guarantor")
    facts = await read_table(auditor.chain, "firms")
    roots = await audits.published_roots(auditor.chain, facts, "S36", 1)
    root = bytes(32) if what == "another root" else roots[OWNER]
    if what != "unaudited":
        await passed_by(auditor)
    statement = CheckStatement("firms", OWNER, "S36", root)
    query = await submit(auditor, statement, "registry" if what == "another owner" else OWNER)
    ending = await audits._ending(auditor.chain, query, 40)
    assert (await read_query(auditor.chain, query)).status == REFUSED
    assert ("no audit stood" if what == "unaudited" else "statement is not about") in ending
    assert "counts" not in {item["step"] for item in said(consortium, "QueryStep")}
