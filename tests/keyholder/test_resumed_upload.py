"""Uploading a bank's table to a running consortium, interrupted and gone on with."""

from pathlib import Path

import pytest
from consortium import IDS, OVERDUE, ROWS, Consortium

from chainnode.sdk.source_table import read_source
from chainnode.types.errors import ClientFault


async def test_an_interrupted_upload_goes_on_where_it_stopped(
    consortium: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = [(int(str(cell)) + 1) % 5 for cell in OVERDUE]
    path = tmp_path / "overdue.csv"
    lines = [f"{name},{cell}" for name, cell in zip(IDS, changed, strict=True)]
    path.write_text("\n".join(["id,overdue", *reversed(lines)]) + "\n")
    client, journal = consortium.client("bank-a"), tmp_path / "journal"
    uploaded: list[bytes] = []
    put, room = client.chain.put_blob, 4

    async def counted(data: bytes) -> bytes:
        if len(uploaded) == room:
            raise ConnectionError("the line is cut")
        uploaded.append(data)
        return await put(data)

    monkeypatch.setattr(client.chain, "put_blob", counted)
    with pytest.raises(ConnectionError):
        await client.ingest("firms", read_source(path), journal=journal)
    room = 1_000
    seen: list[tuple[int, int]] = []
    count = await client.ingest(
        "firms", read_source(path), lambda done, total: seen.append((done, total)), journal
    )
    # Three bins in two profiles are six blocks; the cut came after the first profile's manifest,
    # which is small and sent again.
    assert (count, seen[-1]) == (ROWS, (6, 6))
    assert (len(uploaded), len(set(uploaded))) == (6 + 3, 6 + 2)
    rows = await consortium.bank.query("firms", "SELECT COUNT(*) FROM firms WHERE overdue >= 4")
    assert rows[0].values == (sum(cell >= 4 for cell in changed),)


async def test_a_profile_without_a_key_is_refused_before_anything_is_sent(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = consortium.client("bank-a")
    monkeypatch.setattr("chainnode.he.schema.TableSchema.stored_columns", lambda *_: ("x",))
    with pytest.raises(ClientFault) as caught:
        await client.publish_columns("firms", {"overdue": OVERDUE})
    assert caught.value.code == "PROFILE_WITHOUT_KEY"
