"""Consent of the enterprises: one bit a row, stated by every owner, read by all who compute scores.

An owner's bitmap is a blob that the contract knows by its hash alone. One that cannot be read as
the rule says is a fault of its owner, which ends a query with that owner's name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chainnode.he import encode
from chainnode.he.plan import Plan
from chainnode.sdk.bank_ciphertexts import checked_blobs
from chainnode.sdk.input_faults import CONSENT_MALFORMED, CONSENT_MISSING, InputFault
from chainnode.sdk.query_inputs import NOTHING
from chainnode.sdk.scoring import QueryFacts, ScoringChain
from chainnode.types.errors import PeerFault


def pack_consent(consents: Sequence[bool]) -> bytes:
    """One bit per registry row, most significant first; the last byte is filled with zeros."""
    return np.packbits(np.array(consents, dtype=np.bool_)).tobytes()


async def score_mask(
    chain: ScoringChain, facts: QueryFacts, plan: Plan, ids: Sequence[str]
) -> list[bytes]:
    """The public 0/1 mask of a score query: asked for, and consented to with every owner.

    Consent is that of the submission: later changes count from the next query on. Where an owner
    stated none, no row goes out, and no bitmap is read.

    Args:
        chain: where the bitmaps are.
        facts: of the query.
        plan: of its text.
        ids: of the registry, in row order.

    Raises:
        ClientFault: `ID_UNKNOWN`.
        InputFault: `CONSENT_MALFORMED` or `CONSENT_MISSING`, naming the owner.
    """
    keep = encode.selected_rows(plan, ids)
    owners = facts.inputs.owners
    if any(part.consent == NOTHING for part in owners):
        keep = np.zeros(len(ids), dtype=np.bool_)
    else:
        for bitmap in await _bitmaps(chain, facts, len(ids)):
            bits = np.unpackbits(np.frombuffer(bitmap, dtype=np.uint8), count=len(ids))
            keep = keep & bits.astype(np.bool_)
    return encode.mask_blocks(keep, len(ids), plan.profile)


async def _bitmaps(chain: ScoringChain, facts: QueryFacts, rows: int) -> tuple[bytes, ...]:
    owners = facts.inputs.owners
    size_bytes = (rows + 7) // 8

    def require(place: int, bitmap: bytes) -> None:
        if len(bitmap) != size_bytes:
            raise PeerFault(
                CONSENT_MALFORMED,
                f"its consent has {len(bitmap)} bytes, not {size_bytes} for {rows} rows",
                subject=owners[place].owner,
            )

    def malformed(place: int, reason: str) -> InputFault:
        part = owners[place]
        return InputFault(CONSENT_MALFORMED, part.owner, facts.profile, part.consent, reason=reason)

    def missing(place: int, _: str) -> InputFault:
        part = owners[place]
        return InputFault(CONSENT_MISSING, part.owner, facts.profile, part.consent)

    digests = [part.consent.hex() for part in owners]
    return await checked_blobs(chain, digests, require, malformed, missing)
