"""Messages of the next height, kept within bounds until this one is decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainnode.types.limits import (
    FUTURE_HEIGHTS_KEPT_MAX,
    FUTURE_PROPOSALS_PER_PEER_MAX,
    FUTURE_VOTES_PER_PEER_MAX,
)
from chainnode.types.vote import Proposal, Vote

if TYPE_CHECKING:
    from chainnode.consensus.interface import ConsensusMessage


class FutureBuffer:
    """Per authenticated peer: few votes, one proposal, of at most the next height.

    Signatures are checked when the height starts, so that junk costs a peer's own room only.
    """

    def __init__(self) -> None:
        self._kept: dict[bytes, list[Vote | Proposal]] = {}

    def keep(self, peer: bytes, message: ConsensusMessage, current_height: int) -> None:
        """Keep a message, or drop it when it is too far ahead or the peer has used its room."""
        if not isinstance(message, Vote | Proposal):
            return
        if not current_height < message.height <= current_height + FUTURE_HEIGHTS_KEPT_MAX:
            return
        kept = self._kept.setdefault(peer, [])
        limit = (
            FUTURE_PROPOSALS_PER_PEER_MAX
            if isinstance(message, Proposal)
            else FUTURE_VOTES_PER_PEER_MAX
        )
        if sum(type(other) is type(message) for other in kept) < limit:
            kept.append(message)

    def take(self, height: int) -> list[tuple[bytes, Vote | Proposal]]:
        """Give out what is of this height and forget everything up to it."""
        taken = [
            (peer, message)
            for peer, messages in self._kept.items()
            for message in messages
            if message.height == height
        ]
        later = {
            peer: [message for message in messages if message.height > height]
            for peer, messages in self._kept.items()
        }
        self._kept = {peer: messages for peer, messages in later.items() if messages}
        return taken
