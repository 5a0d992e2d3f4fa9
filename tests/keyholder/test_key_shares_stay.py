"""Key-share bytes, in every form a share has, are in no file and no message of anyone else."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from consortium import Consortium
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from local_chain import ORGANISATIONS

from chainnode.he.threshold import Sharing

NONCE_SIZE_BYTES = 12
RUN_COEFFICIENTS = 40
"""Forty ternary coefficients in a row: 63 bits, so no chance finds in a few megabytes."""


def key_share(folder: Path, index: int, profile: str, key: bytes) -> bytes:
    """The ternary coefficients, each plus one, that a sealed file holds."""
    sealed = (folder / f"epoch-1-piece-{index}-{profile}.key").read_bytes()
    domain = b"chainnode/he-secret-key/v1/" + profile.encode()
    nonce, box = sealed[:NONCE_SIZE_BYTES], sealed[NONCE_SIZE_BYTES:]
    return ChaCha20Poly1305(key).decrypt(nonce, box, domain)


def forms(share: bytes) -> Iterator[bytes]:
    """Beginning, middle and end of a share as bytes, signed bytes and 64-bit words."""
    last = len(share) - RUN_COEFFICIENTS
    for start in (0, last // 2, last):
        run = share[start : start + RUN_COEFFICIENTS]
        signed = [coefficient - 1 for coefficient in run]
        yield run
        yield struct.pack(f"{len(signed)}b", *signed)
        yield struct.pack(f"<{len(signed)}i", *signed)
        yield struct.pack(f"<{len(signed)}q", *signed)
        yield run.hex().encode()


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


async def test_no_key_share_is_in_any_folder_or_anything_a_node_stores(
    consortium: Consortium,
) -> None:
    await consortium.bank.query("firms", "SELECT COUNT(*) FROM firms")
    secrets: list[bytes] = []
    for holder in consortium.keyholders.values():
        store = holder._store
        secrets += [store._key, store.sealing_key.private_bytes_raw()]
        held = Sharing.of(ORGANISATIONS, 3).held_by(holder.organisation)
        pieces = store.pieces(1, held) or {}
        assert len(pieces) == 3
        secrets += [piece.flood_key for piece in pieces.values()]
        for index in held:
            for profile in ("S", "S36"):
                share = key_share(store._folder, index, profile, store._key)
                assert len(share) == 8_192 and set(share) == {0, 1, 2}
                secrets += forms(share)
                assert any(form in share for form in forms(share)), "finds a bare share"

    # Every process's folder: workers' tiles, keyholders' state, and the sealed stores themselves.
    on_disk = files(consortium.folder)
    kinds = {path.relative_to(consortium.folder).parts[1] for path in on_disk}
    assert {"worker", "keys"} <= kinds
    for path, data in on_disk.items():
        assert not any(secret in data for secret in secrets), path

    # What every node of the chain keeps: contract storage, blobs, receipts.
    ledger = consortium.ledger
    stored = [*ledger.blobs.values(), *ledger.deployed.storage.values()]
    stored += [receipt.encode() for receipt in ledger.receipts]
    assert len(stored) > 100
    assert not any(secret in data for secret in secrets for data in stored)
