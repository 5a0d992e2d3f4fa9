"""Where owners require audits, nothing of columns is opened before another member's pass."""

from pathlib import Path

import pytest
from consortium import OVERDUE, SECTOR, TURNOVER, Consortium

from chainnode.he.opening import BlockOpening
from chainnode.he.profiles import ProfileName
from chainnode.sdk import audits
from chainnode.sdk.bank import BankClient, InputFault
from chainnode.sdk.columns import read_columns
from chainnode.sdk.manifests import Manifest, manifest_root, pack_manifest
from chainnode.sdk.owner_secret import OwnerSecret
from chainnode.sdk.scoring import read_table
from chainnode.types.errors import ClientFault, PeerFault

OWNER = "bank-a"
CELLS = {"sector": SECTOR, "overdue": OVERDUE, "turnover": TURNOVER}
LATE = "SELECT COUNT(*) FROM firms WHERE overdue >= 2"
ALL = 8


@pytest.fixture
async def owner(consortium: Consortium, tmp_path: Path) -> BankClient:
    """bank-a with a kept secret, its columns published under it, and audits required."""
    client = consortium.client(OWNER, OwnerSecret(tmp_path / "secret", b"a passphrase"))
    await client.publish_columns("firms", CELLS)
    await client.require_audits("firms")
    return client


async def opened(owner: BankClient) -> dict[ProfileName, list[BlockOpening]]:
    places = await owner.audit_choice("firms", OWNER, ALL)
    return {
        profile: await owner.open_blocks("firms", profile, chosen, CELLS)
        for profile, chosen in places.items()
    }


async def standing(client: BankClient) -> audits.AuditStanding:
    facts = await read_table(client.chain, "firms")
    roots = await audits.published_roots(client.chain, facts, "S36", 1)
    return await audits.standing(client.chain, "firms", OWNER, "S36", roots[OWNER])


async def late_count(consortium: Consortium) -> int:
    rows = await consortium.bank.query("firms", LATE)
    return int(str(rows[0].values[0]))


EXPECTED = sum(int(str(cell)) >= 2 for cell in OVERDUE)


async def test_the_bank_is_told_before_it_pays_and_a_recorded_pass_opens_the_columns(
    consortium: Consortium, owner: BankClient
) -> None:
    with pytest.raises(audits.UnauditedColumns) as refused:
        await consortium.bank.query("firms", LATE)
    fault = refused.value
    assert (fault.code, fault.subject) == ("COLUMNS_UNAUDITED", f"{OWNER}/S36")
    assert "nobody audited them" in fault.message and "verify-openings" in fault.fix
    assert await consortium.bank.chain.view("budget", table="firms", bank="bank-a") == (5, 0)
    auditor = consortium.client("registry")
    await auditor.audit_blocks("firms", OWNER, await opened(owner), ALL, record=True)
    assert await late_count(consortium) == EXPECTED
    # Another owner's columns are no better for it.
    with pytest.raises(audits.UnauditedColumns, match="statistics's in S36"):
        await consortium.bank.query("firms", "SELECT SUM(turnover) FROM firms WHERE overdue >= 2")


async def test_keyholders_refuse_a_bank_that_asks_nevertheless(
    consortium: Consortium, owner: BankClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> None:
        return

    # A client that does not look; the keyholders do.
    monkeypatch.setattr("chainnode.sdk.bank.require_audited", nothing)
    with pytest.raises(PeerFault, match="COLUMNS_UNAUDITED"):
        await consortium.bank.query("firms", LATE)
    steps = await consortium.bank.audit_trail(consortium.bank.last_query)
    refusals = [step for step in steps if step.step == "refused by a member"]
    assert len(refusals) >= 2
    assert all("no audit stood when the query was submitted" in step.detail for step in refusals)
    assert "share" not in {step.step for step in steps}


async def test_a_failed_audit_names_the_owner_on_chain_and_weighs_as_much_as_a_pass(
    consortium: Consortium, owner: BankClient
) -> None:
    first = await opened(owner)
    lies = first | {"S36": first["S36"][1:]}
    with pytest.raises(PeerFault, match="OPENING_MISSING"):
        await consortium.client("registry").audit_blocks("firms", OWNER, lies, ALL, record=True)
    found = await standing(owner)
    assert (found.passed, found.failed, found.is_audited) == ((), ("registry",), False)
    await consortium.client("guarantor").audit_blocks("firms", OWNER, first, ALL, record=True)
    assert not (await standing(owner)).is_audited
    with pytest.raises(ClientFault, match="registry failed them, guarantor passed them"):
        await consortium.bank.query("firms", "SELECT COUNT(*) FROM firms WHERE overdue < 2")
    await consortium.client("statistics").audit_blocks("firms", OWNER, first, ALL, record=True)
    assert (await standing(owner)).is_audited
    failed = [
        fields
        for name, fields in consortium.ledger.deployed.events
        if name == "ColumnsAudited" and fields["outcome"] == "failed"
    ]
    assert [(fields["owner"], fields["auditor"]) for fields in failed] == [(OWNER, "registry")]
    assert "OPENING_MISSING" in failed[0]["detail"]


async def test_an_owner_cannot_pass_itself_and_a_new_publication_needs_a_new_audit(
    consortium: Consortium, owner: BankClient
) -> None:
    with pytest.raises(ClientFault, match="NOT_ALLOWED"):
        await owner.audit_blocks("firms", OWNER, await opened(owner), ALL, record=True)
    await consortium.client("registry").audit_blocks(
        "firms", OWNER, await opened(owner), ALL, record=True
    )
    assert (await standing(owner)).is_audited
    await owner.publish_columns("firms", CELLS)
    assert not (await standing(owner)).is_audited


async def test_proofs_that_nobody_can_check_are_refused_by_name(
    consortium: Consortium, owner: BankClient
) -> None:
    await owner.require_audits("firms", required=False)
    first = await opened(owner)
    item = first["S36"][0]
    first["S36"][0] = BlockOpening(item.column, item.block, item.seed, item.slots, b"proof")
    with pytest.raises(PeerFault, match="PROOF_UNKNOWN") as refused:
        await consortium.client("registry").audit_blocks("firms", OWNER, first, ALL)
    assert refused.value.subject == f"{OWNER}/{item.column}/{item.block}"
    facts = await read_table(owner.chain, "firms")
    manifest = await read_columns(owner.chain, facts, "S36", OWNER, 1)
    proven = pack_manifest(Manifest(manifest.columns, manifest.salt, b"proof"))
    columns = {
        "epoch": 1,
        "block_count": facts.schema.block_count("S36"),
        "root": manifest_root(manifest.columns),
        "manifest": await owner.chain.put_blob(proven),
        "proof": b"",
    }
    await owner.chain.call("publish_columns", table="firms", profile="S36", columns=columns)
    with pytest.raises(InputFault) as fault:
        await consortium.bank.query("firms", LATE)
    assert (fault.value.code, fault.value.owner) == ("PROOF_UNKNOWN", OWNER)
