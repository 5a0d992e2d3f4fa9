"""Counting votes of one height: tallies per round and step, equivocation, bounded look-ahead."""

from __future__ import annotations

from typing import Final

from chainnode.types.limits import FUTURE_ROUNDS_KEPT_MAX
from chainnode.types.validators import ValidatorSet
from chainnode.types.vote import Evidence, Vote, VoteType

CONFLICTING_VOTES_KEPT_MAX: Final = 3
"""Different votes kept of one validator in one step; more prove nothing new."""


class VoteTally:
    """Votes of one round and step.

    A validator that signed two values counts for both: a quorum elsewhere may rest on the other
    one, and quorums still intersect in a correct validator.
    """

    __slots__ = ("_by_validator", "_power_by_hash", "_validators", "power")

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._by_validator: dict[bytes, list[Vote]] = {}
        self._power_by_hash: dict[bytes, int] = {}
        self.power = 0

    def wants(self, vote: Vote) -> bool:
        """Whether the vote would add anything."""
        held = self._by_validator.get(vote.validator, [])
        return len(held) < CONFLICTING_VOTES_KEPT_MAX and all(
            vote.block_hash != other.block_hash for other in held
        )

    def add(self, vote: Vote) -> Evidence | None:
        """Count a verified vote; returns evidence when its validator said something else before."""
        if not self.wants(vote):
            return None
        held = self._by_validator.setdefault(vote.validator, [])
        power = self._validators.power(vote.validator)
        if not held:
            self.power += power
        held.append(vote)
        before = self._power_by_hash.get(vote.block_hash, 0)
        self._power_by_hash[vote.block_hash] = before + power
        return Evidence.of(held[0], vote) if len(held) > 1 else None

    def quorum_hash(self) -> bytes | None:
        """The value (empty: nil) that more than two thirds voted for, or None."""
        for block_hash, power in self._power_by_hash.items():
            if self._validators.is_quorum(power):
                return block_hash
        return None

    def has_quorum_for(self, block_hash: bytes) -> bool:
        """Whether more than two thirds voted for this value."""
        return self._validators.is_quorum(self._power_by_hash.get(block_hash, 0))

    def has_quorum_of_any(self) -> bool:
        """Whether more than two thirds voted at all."""
        return self._validators.is_quorum(self.power)

    def votes_for(self, block_hash: bytes) -> list[Vote]:
        """Votes for one value, sorted by validator."""
        votes = [vote for vote in self.all() if vote.block_hash == block_hash]
        return sorted(votes, key=lambda vote: vote.validator)

    def all(self) -> list[Vote]:
        """Every vote held, in order of arrival per validator."""
        return [vote for votes in self._by_validator.values() for vote in votes]

    def validators(self) -> tuple[bytes, ...]:
        """Who voted, sorted."""
        return tuple(sorted(self._by_validator))


class HeightVotes:
    """Tallies of all rounds of one height."""

    __slots__ = ("_highest_round", "_tallies", "_validators")

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._tallies: dict[tuple[int, VoteType], VoteTally] = {}
        self._highest_round: dict[bytes, int] = {}

    def tally(self, round_number: int, kind: VoteType) -> VoteTally:
        """The tally of a round and step; an empty one that is not kept if nobody voted."""
        tally = self._tallies.get((round_number, kind))
        return VoteTally(self._validators) if tally is None else tally

    def add(self, vote: Vote, current_round: int) -> Evidence | None:
        """Count a verified vote.

        Of rounds above the current one only the newest `FUTURE_ROUNDS_KEPT_MAX` per validator are
        kept, so that one key cannot fill the memory.
        """
        self.saw_round(vote.validator, vote.round)
        if vote.round > current_round and not self._has_room(vote, current_round):
            return None
        key = (vote.round, vote.type)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = VoteTally(self._validators)
        return tally.add(vote)

    def saw_round(self, validator: bytes, round_number: int) -> None:
        """Remember the highest round a validator was seen in."""
        if round_number > self._highest_round.get(validator, -1):
            self._highest_round[validator] = round_number

    def reachable_round(self) -> int:
        """The highest round that at least one correct validator has reached (f + 1 rule)."""
        power = 0
        ordered = sorted(self._highest_round.items(), key=lambda item: (-item[1], item[0]))
        for validator, round_number in ordered:
            power += self._validators.power(validator)
            if self._validators.has_correct(power):
                return round_number
        return -1

    def decided(self) -> tuple[int, bytes] | None:
        """The lowest round and block hash with a quorum of precommits, or None."""
        for (round_number, kind), tally in sorted(self._tallies.items()):
            if kind is VoteType.PRECOMMIT:
                block_hash = tally.quorum_hash()
                if block_hash:
                    return round_number, block_hash
        return None

    def from_round(self, round_number: int) -> list[Vote]:
        """All votes of a round and of those above it."""
        return [
            vote
            for (vote_round, _), tally in sorted(self._tallies.items())
            if vote_round >= round_number
            for vote in tally.all()
        ]

    def forget_below(self, round_number: int, keep_round: int) -> None:
        """Drop tallies of rounds below, except `keep_round`."""
        for key in [key for key in self._tallies if key[0] < round_number and key[0] != keep_round]:
            del self._tallies[key]

    def _has_room(self, vote: Vote, current_round: int) -> bool:
        rounds = sorted(
            {
                vote_round
                for (vote_round, _), tally in self._tallies.items()
                if vote_round > current_round and vote.validator in tally.validators()
            }
        )
        if vote.round in rounds or len(rounds) < FUTURE_ROUNDS_KEPT_MAX:
            return True
        if vote.round < rounds[0]:
            return False
        for kind in VoteType:
            self._remove(rounds[0], kind, vote.validator)
        return True

    def _remove(self, round_number: int, kind: VoteType, validator: bytes) -> None:
        tally = self._tallies.pop((round_number, kind), None)
        if tally is None:
            return
        kept = VoteTally(self._validators)
        for vote in tally.all():
            if vote.validator != validator:
                kept.add(vote)
        if kept.power:
            self._tallies[(round_number, kind)] = kept
