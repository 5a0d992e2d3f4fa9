"""Whose turn it is to propose: a validator that missed its slot is skipped for a while.

Committed blocks alone decide: the round in a block's `last_commit` says how often the turn passed
on at the height before. Only the certificate inside the block counts, for nodes may hold different
ones of the same block. The idea is that of reputation-based leader election (Cohen et al., "Be
Aware of Your Leaders", FC 2022), made simpler: silence doubles the pause, a proposal ends it.

Memory is cleared every `ERA_HEIGHTS`, so that a restarted or synced node has no more than one era
of headers to read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chainnode.types.validators import ValidatorSet

ERA_HEIGHTS: Final = 4_096
FIRST_LEVEL: Final = 2
LEVEL_MAX: Final = 7


@dataclass(frozen=True, slots=True)
class Absence:
    """A validator that missed its slots.

    Args:
        validator: its address.
        level: it is skipped for 2^level rotations.
        until_height: the first height at which its turn comes again.
    """

    validator: bytes
    level: int
    until_height: int


@dataclass(frozen=True, slots=True)
class Turns:
    """Who is skipped at one height, and what the next height's answer needs of this one.

    Args:
        absences: of validators that have not proposed since, skipped now or not any more.
        skipped_below: who was skipped at the height below.
        proposer_below: whose block was decided there; empty when nothing is known of it.
    """

    absences: tuple[Absence, ...] = ()
    skipped_below: tuple[bytes, ...] = ()
    proposer_below: bytes = b""

    def skipped(self, height: int) -> tuple[bytes, ...]:
        """Validators whose turn does not come at the height these turns are of; less than f + 1."""
        return tuple(item.validator for item in self.absences if height < item.until_height)

    def proposer(self, validators: ValidatorSet, height: int, round_number: int) -> bytes:
        """The proposer's address at a round of the height these turns are of."""
        return validators.proposer(height, round_number, self.skipped(height))

    def after(
        self, validators: ValidatorSet, height: int, proposer: bytes, last_round: int
    ) -> Turns:
        """The turns of the height above a committed block.

        Args:
            validators: who decided this height and the one below.
            height: the block's, which these turns are of.
            proposer: the one its header names.
            last_round: the round of the certificate inside the block.
        """
        if (height + 1) % ERA_HEIGHTS == 0:
            return NO_ABSENCES
        absences = {item.validator: item for item in self.absences}
        absences.pop(self.proposer_below, None)
        for validator in self._missed(validators, height - 1, last_round):
            before = absences.get(validator)
            if before is not None and height < before.until_height:
                continue
            level = FIRST_LEVEL if before is None else min(before.level + 1, LEVEL_MAX)
            until_height = height + 1 + len(validators) * 2**level
            others = [item.validator for item in absences.values() if height < item.until_height]
            if not _may_be_correct(validators, [*others, validator]):
                absences[validator] = Absence(validator, level, until_height)
        ordered = tuple(absences[validator] for validator in sorted(absences))
        return Turns(ordered, self.skipped(height), proposer)

    def _missed(self, validators: ValidatorSet, below: int, last_round: int) -> list[bytes]:
        """Whose turns passed at the height below; nobody when more than f would be to blame."""
        if not self.proposer_below:
            return []
        passed = validators.proposers(below, last_round, self.skipped_below)
        missed = [validator for validator in passed if validator != self.proposer_below]
        return [] if _may_be_correct(validators, missed) else missed


NO_ABSENCES: Final = Turns()


def _may_be_correct(validators: ValidatorSet, addresses: list[bytes]) -> bool:
    return validators.has_correct(sum(validators.power(address) for address in addresses))
