"""Ciphertexts that a bank encrypted itself, fetched by the hashes it named and checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from chainnode.sdk.scoring import ScoringChain
from chainnode.types.errors import ClientFault, PeerFault

_PARALLEL = 8

Fault = Callable[[int, str], PeerFault]
"""The fault of a ciphertext at a place, for a reason."""


async def blob_or_none(chain: ScoringChain, digest: str) -> bytes | None:
    """A blob that a bank named; None if every node answers and none has these bytes."""
    try:
        return await chain.get_blob(bytes.fromhex(digest))
    except (ClientFault, PeerFault) as error:
        if error.code not in ("BLOB_NOT_FOUND", "BLOB_HASH_WRONG"):
            raise
        return None


async def checked_blobs(
    chain: ScoringChain,
    digests: Sequence[str],
    require: Callable[[int, bytes], None],
    malformed: Fault,
    missing: Fault,
) -> tuple[bytes, ...]:
    """The ciphertexts a record names, in order, each of the right form.

    What can be had is looked at first, so that a malformed one shows wherever a missing one does.

    Args:
        chain: where they are.
        digests: SHA-256 of each, hex.
        require: raises `PeerFault` for a ciphertext of the wrong form; told its place.
        malformed: makes the fault of such a one.
        missing: makes the fault of one that no node has.

    Raises:
        PeerFault: as the two make it; the first malformed one, or else the first missing one.
    """
    gate = asyncio.Semaphore(_PARALLEL)

    async def one(digest: str) -> bytes | None:
        async with gate:
            return await blob_or_none(chain, digest)

    found = await asyncio.gather(*(one(digest) for digest in digests))
    for place, blob in enumerate(found):
        try:
            if blob is not None:
                require(place, blob)
        except PeerFault as error:
            raise malformed(place, error.message) from error
    whole = tuple(blob for blob in found if blob is not None)
    if len(whole) < len(found):
        raise missing(found.index(None), "no node has it")
    return whole
