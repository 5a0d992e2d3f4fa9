"""Audits of published columns: honest openings pass, everything else is refused by name."""

import stat
from pathlib import Path

import numpy as np
import pytest
from consortium import IDS, OVERDUE, ROWS, Consortium

from chainnode.he.opening import BlockOpening
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.sdk.bank import BankClient
from chainnode.sdk.columns import read_columns
from chainnode.sdk.manifests import Manifest, manifest_root, pack_manifest
from chainnode.sdk.openings import OpeningsFile
from chainnode.sdk.owner_secret import OwnerSecret
from chainnode.sdk.scoring import (
    read_table,
)
from chainnode.sdk.source_table import read_source
from chainnode.types.errors import ClientFault, ConfigError, PeerFault

OWNER = "bank-a"
COLUMN = "overdue.1"
ALL = 1_000
CELLS = {"overdue": OVERDUE}
Opened = dict[ProfileName, list[BlockOpening]]


async def open_all(owner: BankClient) -> Opened:
    places = await owner.audit_choice("firms", OWNER, ALL)
    return {
        profile: await owner.open_blocks("firms", profile, chosen, CELLS)
        for profile, chosen in places.items()
    }


async def manifest_of(owner: BankClient, profile: ProfileName) -> tuple[int, Manifest]:
    facts = await read_table(owner.chain, "firms")
    epoch = await owner.chain.view("latest_active_epoch")
    return epoch, await read_columns(owner.chain, facts, profile, OWNER, epoch)


async def replace_block(owner: BankClient, profile: ProfileName, ciphertext: bytes) -> None:
    """Publish again with one block of the owner's making in place of the first."""
    epoch, manifest = await manifest_of(owner, profile)
    manifest.columns[COLUMN][0] = await owner.chain.put_blob(ciphertext)
    columns = {
        "epoch": epoch,
        "block_count": len(manifest.columns[COLUMN]),
        "root": manifest_root(manifest.columns),
        "manifest": await owner.chain.put_blob(pack_manifest(manifest)),
        "proof": b"",
    }
    await owner.chain.call("publish_columns", table="firms", profile=profile, columns=columns)


@pytest.fixture
async def owner(consortium: Consortium, tmp_path: Path) -> BankClient:
    client = consortium.client(OWNER, OwnerSecret(tmp_path / "secret", b"a passphrase"))
    await client.publish_columns("firms", CELLS)
    return client


async def refused(auditor: BankClient, opened: Opened) -> PeerFault:
    with pytest.raises(PeerFault) as caught:
        await auditor.audit_blocks("firms", OWNER, opened, ALL)
    return caught.value


async def test_honest_openings_pass_after_a_restart_and_by_a_file(
    consortium: Consortium, owner: BankClient, tmp_path: Path
) -> None:
    kept = OwnerSecret(tmp_path / "secret", b"a passphrase")
    opened = await open_all(consortium.client(OWNER, kept))
    auditor = consortium.client("registry")
    read = OpeningsFile.decode(OpeningsFile(opened).encode()).profiles
    passed = await auditor.audit_blocks("firms", OWNER, read, ALL)
    assert passed == {
        profile: [(f"overdue.{index}", 0) for index in range(3)] for profile in ("S", "S36")
    }
    some = await auditor.audit_blocks("firms", OWNER, opened, 1)
    assert [len(places) for places in some.values()] == [1, 1]
    assert some == await owner.audit_choice("firms", OWNER, 1)


async def test_chance_is_later_than_the_publication(owner: BankClient) -> None:
    seen = set()
    for _ in range(12):
        await owner.publish_columns("firms", CELLS)
        seen.add(str(await owner.audit_choice("firms", OWNER, 1)))
    # Nine equally likely choices: twelve equal draws happen once in 10^10 runs.
    assert len(seen) > 1


@pytest.mark.parametrize("profile", ["S", "S36"])
async def test_a_malformed_block_is_refused_by_name(
    consortium: Consortium, owner: BankClient, profile: ProfileName
) -> None:
    opened = await open_all(owner)
    length, limbs = PROFILES[profile].slots, PROFILES[profile].limbs
    pair = np.concatenate([np.zeros(limbs * length), np.ones(limbs * length)])
    await replace_block(owner, profile, pair.astype("<u8").tobytes())
    fault = await refused(consortium.client("registry"), opened)
    assert fault.code == "CIPHERTEXT_MALFORMED"
    assert f"{OWNER}, {profile}, block 0 of column {COLUMN}" in fault.message
    with pytest.raises(ClientFault, match=f"block 0 of column {COLUMN} cannot be opened"):
        await open_all(owner)


async def test_a_block_of_other_values_is_refused_by_name(
    consortium: Consortium, owner: BankClient
) -> None:
    opened = await open_all(owner)
    changed = [(int(str(cell)) + 2) % 5 for cell in OVERDUE]
    await owner.publish_columns("firms", {"overdue": changed})
    with pytest.raises(ClientFault, match="OPENING_IMPOSSIBLE"):
        await open_all(owner)
    fault = await refused(consortium.client("registry"), opened)
    assert (fault.code, fault.subject) == ("CIPHERTEXT_MALFORMED", f"{OWNER}/overdue.0/0")


async def test_swapped_seeds_and_missing_openings_are_refused_by_name(
    consortium: Consortium, owner: BankClient
) -> None:
    auditor, opened = consortium.client("registry"), await open_all(owner)
    first, second, third = opened["S36"]
    swapped = [
        BlockOpening(first.column, first.block, second.seed, first.slots),
        BlockOpening(second.column, second.block, first.seed, second.slots),
        third,
    ]
    fault = await refused(auditor, opened | {"S36": swapped})
    assert fault.code == "CIPHERTEXT_MALFORMED"
    assert f"S36, block 0 of column {first.column}" in fault.message
    fault = await refused(auditor, opened | {"S": opened["S"][1:]})
    assert (fault.code, fault.subject) == ("OPENING_MISSING", f"{OWNER}/overdue.0/0")
    fault = await refused(auditor, {"S": opened["S"]})
    assert "does not open block 0 of column overdue.0 (S36)" in fault.message


async def test_values_outside_rows_or_range_are_refused(
    consortium: Consortium, owner: BankClient
) -> None:
    opened = await open_all(owner)
    key = await owner.chain.get_blob(
        bytes((await owner.chain.view("keys_of", epoch=1))["public_key_s"])
    )
    from chainnode import _native

    place = [item.column for item in opened["S"]].index(COLUMN)
    for slot, value, reason in ((ROWS, 1, "beyond the table's rows"), (0, 2, "it holds 2")):
        slots = np.zeros(PROFILES["S"].slots, "<u8")
        slots[slot] = value
        seed = bytes(32)
        bad = BlockOpening(COLUMN, 0, seed, slots.tobytes())
        sealed = _native.he_encrypt("S", key, bad.slots, seed, PROFILES["S"].limbs)
        await replace_block(owner, "S", sealed)
        opened["S"][place] = bad
        fault = await refused(consortium.client("registry"), opened)
        assert fault.code == "CIPHERTEXT_MALFORMED"
        assert reason in fault.message


async def test_publishing_again_never_reuses_a_seed(owner: BankClient) -> None:
    seeds, blobs = [], []
    for _ in range(3):
        for profile, blocks in (await open_all(owner)).items():
            seeds += [opening.seed for opening in blocks]
            _, manifest = await manifest_of(owner, profile)
            blobs += [blob for hashes in manifest.columns.values() for blob in hashes]
        await owner.publish_columns("firms", CELLS)
    assert len(seeds) == len(set(seeds)) == len(set(blobs)) == 18


async def test_a_resumed_upload_can_be_opened_and_changed_rows_get_other_seeds(
    consortium: Consortium, owner: BankClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, path = tmp_path / "journal", tmp_path / "overdue.csv"

    def table(cells: list[int]) -> None:
        lines = [f"{name},{cell}" for name, cell in zip(IDS, cells, strict=True)]
        path.write_text("\n".join(["id,overdue", *lines]) + "\n")

    plain = [int(str(cell)) for cell in OVERDUE]
    table(plain)
    put, room = owner.chain.put_blob, [2]

    async def cut(data: bytes) -> bytes:
        room[0] -= 1
        if room[0] < 0:
            raise ConnectionError("the line is cut")
        return await put(data)

    monkeypatch.setattr(owner.chain, "put_blob", cut)
    with pytest.raises(ConnectionError):
        await owner.ingest("firms", read_source(path), journal=journal)
    room[0] = ALL
    again = consortium.client(OWNER, OwnerSecret(tmp_path / "secret", b"a passphrase"))
    await again.ingest("firms", read_source(path), journal=journal)
    opened = await open_all(again)
    await consortium.client("registry").audit_blocks("firms", OWNER, opened, ALL)
    _, before = await manifest_of(again, "S")
    # The same journal and salt, other rows: what changed has another seed, the rest is kept.
    table([4 if cell == 3 else cell for cell in plain])
    await again.ingest("firms", read_source(path), journal=journal)
    chosen = await again.open_chosen("firms", read_source(path), ALL)
    await consortium.client("registry").audit_blocks("firms", OWNER, chosen, ALL)
    _, after = await manifest_of(again, "S")
    assert after.salt == before.salt
    first, second = (
        {item.column: item.seed for item in blocks["S"]} for blocks in (opened, chosen)
    )
    assert [first[f"overdue.{index}"] == second[f"overdue.{index}"] for index in range(3)] == [
        True,
        False,
        False,
    ]


async def test_another_secret_does_not_take_over_a_journal(
    consortium: Consortium, tmp_path: Path
) -> None:
    path, journal = tmp_path / "overdue.csv", tmp_path / "journal"
    lines = [f"{name},{cell}" for name, cell in zip(IDS, OVERDUE, strict=True)]
    path.write_text("\n".join(["id,overdue", *lines]) + "\n")
    await consortium.client(OWNER).ingest("firms", read_source(path), journal=journal)
    owner = consortium.client(OWNER, OwnerSecret(tmp_path / "late"))
    await owner.ingest("firms", read_source(path), journal=journal)
    opened = await open_all(owner)
    assert await consortium.client("registry").audit_blocks("firms", OWNER, opened, ALL)


def test_the_secret_is_private_sealed_and_kept(tmp_path: Path) -> None:
    column = ("t", "c", b"salt")
    sealed = OwnerSecret(tmp_path / "sealed", b"right").seed(1, "S", column, 0, b"x")
    assert OwnerSecret(tmp_path / "sealed", b"right").seed(1, "S", column, 0, b"x") == sealed
    for passphrase in (b"wrong", None):
        with pytest.raises(ConfigError):
            OwnerSecret(tmp_path / "sealed", passphrase)
    plain = OwnerSecret(tmp_path / "plain")
    assert plain.seed(1, "S", column, 0, b"x") != plain.seed(1, "S", column, 0, b"y")
    with pytest.raises(ConfigError, match="PASSPHRASE_WRONG"):
        OwnerSecret(tmp_path / "plain", b"one")
    for file in tmp_path.glob("*/owner.*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "b'" not in repr(plain)
