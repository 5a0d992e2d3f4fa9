"""The list of an owner's published columns: a blob whose hash and root are on chain."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chainnode.he.opening import unknown_proof
from chainnode.types.codec import merkle_root
from chainnode.types.errors import PeerFault


@dataclass(frozen=True, slots=True)
class Manifest:
    """An owner's published columns of one profile.

    Args:
        columns: stored name to block hashes.
        salt: of the publication, 16 bytes; with the owner's secret it gives every block's seed.
        proof: place of a proof of honest encryption; empty until there are any.
    """

    columns: dict[str, list[bytes]]
    salt: bytes
    proof: bytes = b""


def pack_manifest(manifest: Manifest) -> bytes:
    """The blob that lists an owner's columns: canonical JSON."""
    listed = {name: [block.hex() for block in blocks] for name, blocks in manifest.columns.items()}
    whole = {"columns": listed, "proof": manifest.proof.hex(), "salt": manifest.salt.hex()}
    return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()


def read_manifest(data: bytes) -> Manifest:
    """A manifest from its blob.

    Raises:
        PeerFault: `MANIFEST_MALFORMED`, or `PROOF_UNKNOWN` for a proof this version cannot check.
    """
    try:
        whole = json.loads(data)
        columns = {
            str(name): [bytes.fromhex(block) for block in blocks]
            for name, blocks in whole["columns"].items()
        }
        proof = bytes.fromhex(whole["proof"])
        manifest = Manifest(columns, bytes.fromhex(whole["salt"]), proof)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise bad_manifest("it is no list of columns") from error
    if pack_manifest(manifest) != data:
        raise bad_manifest("it is not canonical")
    if manifest.proof:
        raise unknown_proof("the column manifest")
    return manifest


def manifest_root(columns: Mapping[str, Sequence[bytes]]) -> bytes:
    """Merkle root over the columns in name order: name, then the hashes of its blocks."""
    return merkle_root(
        [name.encode() + b"\x00" + b"".join(columns[name]) for name in sorted(columns)]
    )


def bad_manifest(reason: str) -> PeerFault:
    """The refusal of a list of columns."""
    return PeerFault(
        "MANIFEST_MALFORMED",
        f"the column manifest is wrong: {reason}",
        fix="the owner must publish its columns again",
    )
