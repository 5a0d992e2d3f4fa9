"""Vote summaries: how nodes of one height make up for lost messages."""

from __future__ import annotations

from chainnode.consensus.votes import HeightVotes
from chainnode.types.vote import Proposal, VoteSummary, VoteType


def summary_of(
    height: int,
    round_number: int,
    proposal: Proposal | None,
    votes: HeightVotes,
    wanted_hash: bytes | None,
) -> VoteSummary:
    """Describe the votes held of a round.

    Args:
        height: the height.
        round_number: the round described.
        proposal: what is held of that round's proposal.
        votes: the tallies.
        wanted_hash: the block hash with (or in need of) a quorum, if any: a proposal of another
            block then counts as none, and while the quorum is missing so does another prevote.
    """
    prevotes = votes.tally(round_number, VoteType.PREVOTE)
    has_proposal = proposal is not None
    held = prevotes.validators()
    if wanted_hash:
        has_proposal = proposal is not None and proposal.block.hash() == wanted_hash
        if not prevotes.has_quorum_for(wanted_hash):
            held = tuple(vote.validator for vote in prevotes.votes_for(wanted_hash))
    precommits = votes.tally(round_number, VoteType.PRECOMMIT).validators()
    return VoteSummary(height, round_number, has_proposal, held, precommits)


class SummaryReplies:
    """At most one answer per peer and round in `interval_ms`: answers outweigh questions."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._last_ms: dict[tuple[bytes, int], int] = {}

    def may(self, peer: bytes, round_number: int, now_ms: int) -> bool:
        """Whether to answer now; counts as answered if so."""
        key = (peer, round_number)
        last_ms = self._last_ms.get(key)
        if last_ms is not None and last_ms <= now_ms < last_ms + self._interval_ms:
            return False
        self._last_ms[key] = now_ms
        return True

    def clear(self) -> None:
        """Forget everybody; at each new height."""
        self._last_ms.clear()
