"""The signer's guard: never two values for one (epoch, height, round, step)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from chainnode.types.codec import address_of
from chainnode.types.vote import Proposal, Vote

if TYPE_CHECKING:
    from chainnode.consensus.interface import Signer

Place: TypeAlias = tuple[int, int, int, int]
"""(engine epoch, height, round, step); steps: 1 proposal, 2 prevote, 3 precommit."""

PROPOSAL_STEP: Final = 1
NOWHERE: Final[Place] = (-1, 0, 0, 0)
"""Below every place."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What the signer's own file remembers of a signature.

    Args:
        place: where it was given.
        digest: SHA-256 of the bytes that were signed.
    """

    place: Place
    digest: bytes

    @classmethod
    def of(cls, message: Vote | Proposal, chain_id: str) -> Signed:
        """Describe a signed message."""
        return cls(_place(message), hashlib.sha256(message.sign_bytes(chain_id)).digest())


class SignerGuard:
    """Signs only ever forward, and answers a repeated question with the first answer.

    Args:
        signer: the key.
        chain_id: goes into everything that is signed.
        remembered: the last place in the signer's own file. While the consensus log ends below it
            the log is not whole, and with it a lock may be lost: nothing is signed until the
            height after.
    """

    def __init__(self, signer: Signer, chain_id: str, remembered: Place | None = None) -> None:
        self._remembered = remembered or NOWHERE
        self._signer = signer
        self._chain_id = chain_id
        self._last_place: Place = NOWHERE
        self._last_signed: Vote | Proposal | None = None
        self.address = address_of(signer.public_key)

    def sign_vote(self, vote: Vote) -> Vote | None:
        """Sign a vote, or return None when its place is behind or already holds another value."""
        place = _place(vote)
        if not self._may_sign(place):
            last = self._last_signed
            same = (
                place == self._last_place
                and isinstance(last, Vote)
                and last.block_hash == vote.block_hash
            )
            return last if same and isinstance(last, Vote) else None
        signed = replace(vote, signature=self._signer.sign(vote.sign_bytes(self._chain_id)))
        self.observe(signed)
        return signed

    def sign_proposal(self, proposal: Proposal) -> Proposal | None:
        """Sign a proposal, or return None when its place is behind or already used."""
        if not self._may_sign(_place(proposal)):
            return None
        signature = self._signer.sign(proposal.sign_bytes(self._chain_id))
        signed = replace(proposal, signature=signature)
        self.observe(signed)
        return signed

    def observe(self, signed: Vote | Proposal) -> None:
        """Take note of something this key signed, now or before a restart."""
        place = _place(signed)
        if place > self._last_place:
            self._last_place = place
            self._last_signed = signed

    def _may_sign(self, place: Place) -> bool:
        if self._last_place < self._remembered:
            # (epoch, height)
            return place[:2] > self._remembered[:2]
        return place > self._last_place


def _place(signed: Vote | Proposal) -> Place:
    step = PROPOSAL_STEP if isinstance(signed, Proposal) else 1 + int(signed.type)
    return (signed.engine_epoch, signed.height, signed.round, step)
