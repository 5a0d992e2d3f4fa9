"""Audit openings of encrypted blocks: chosen by chain randomness, encrypted again byte for byte.

Threshold decryption of a malformed ciphertext can leak the joint key (the pair (0, 1) opens to the
secret itself, whatever the flooding), so columns must come from honest encryption. Until a proof of
that travels with each block, its owner derives the block's randomness from a seed it keeps; an
auditor asks for the seeds and slots of blocks nobody could foresee and repeats the encryption.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from chainnode import _native
from chainnode.he.profiles import ProfileName
from chainnode.types.errors import ClientFault, PeerFault

SEED_SIZE_BYTES: Final = 32
SEED_DOMAIN: Final = b"chainnode/he-block-seed/v1"
CHOICE_DOMAIN: Final = b"chainnode/he-audit-choice/v1"


class BlockOpening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an owner shows an auditor of one block.

    Args:
        column: stored name.
        block: number in the column.
        seed: the encryption's 32 bytes of randomness.
        slots: plaintext, u64 little endian.
        proof: place of a zero-knowledge proof of well-formed encryption; empty until there is one.
    """

    column: str
    block: int
    seed: bytes
    slots: bytes
    proof: bytes = b""


def block_seed(owner_secret: bytes, epoch: int, profile: ProfileName, place: str) -> bytes:
    """The randomness of one block's encryption, which its owner can derive again.

    Args:
        owner_secret: 32 secret bytes, never shown.
        epoch: of the council's key; seeds never serve two keys.
        profile: ring of the block.
        place: "table/column/version/block", different for every plaintext ever encrypted.

    Raises:
        ClientFault: `SEED_INVALID`.
    """
    if len(owner_secret) != SEED_SIZE_BYTES:
        raise ClientFault(
            "SEED_INVALID",
            f"an owner's secret is {SEED_SIZE_BYTES} bytes, got {len(owner_secret)}",
            fix="draw it once with secrets.token_bytes(32) and keep it",
        )
    message = b"\x00".join((SEED_DOMAIN, str(epoch).encode(), profile.encode(), place.encode()))
    return hmac.new(owner_secret, message, hashlib.sha256).digest()


def chosen_blocks(
    randomness: bytes, block_counts: Mapping[str, int], count: int
) -> list[tuple[str, int]]:
    """Distinct (column, block) pairs that everyone derives alike and nobody could foresee.

    Args:
        randomness: of the chain, later than the columns' publication.
        block_counts: stored name to number of blocks.
        count: how many; all where there are no more.
    """
    places = [(name, block) for name in sorted(block_counts) for block in range(block_counts[name])]

    def rank(place: tuple[str, int]) -> bytes:
        name, block = place
        return hashlib.sha256(
            CHOICE_DOMAIN + randomness + block.to_bytes(8, "big") + name.encode()
        ).digest()

    return sorted(sorted(places, key=rank)[:count])


def check_opening(
    profile: ProfileName,
    public_key: bytes,
    ciphertext: bytes,
    opening: BlockOpening,
    maximum: int,
) -> None:
    """Refuse a block that is not the encryption of its opened slots.

    Args:
        profile: ring of the block.
        public_key: the council's joint key.
        ciphertext: as published.
        opening: by the owner.
        maximum: largest value the schema allows; 1 for an indicator.

    Raises:
        PeerFault: `CIPHERTEXT_MALFORMED` naming column and block; `PROOF_UNKNOWN`.
    """
    if opening.proof:
        raise unknown_proof(f"block {opening.block} of column {opening.column}")
    degree = _native.he_profile(profile).ring_degree
    limbs = max(1, len(ciphertext) // (2 * degree * 8))
    try:
        again = _native.he_encrypt(profile, public_key, opening.slots, opening.seed, limbs)
    except ValueError as error:
        raise _malformed(opening, f"the opening does not encrypt: {error}") from error
    if not hmac.compare_digest(again, ciphertext):
        raise _malformed(opening, "encrypting the opening again gives other bytes")
    largest = int(np.frombuffer(opening.slots, "<u8").max(initial=0))
    if largest > maximum:
        raise _malformed(opening, f"it holds {largest}, more than {maximum}")


def unknown_proof(subject: str) -> PeerFault:
    """The fault of a proof of well-formed encryption: no version makes or checks one yet."""
    return PeerFault(
        "PROOF_UNKNOWN",
        f"{subject} carries a proof that this version cannot check",
        subject=subject,
        fix="publish without a proof, or upgrade to a version that knows it",
    )


def _malformed(opening: BlockOpening, reason: str) -> PeerFault:
    return PeerFault(
        "CIPHERTEXT_MALFORMED",
        f"block {opening.block} of column {opening.column}: {reason}",
        subject=opening.column,
        fix="give no share on this column; have its owner's other blocks opened",
    )
