"""Seeded defects: each one breaks the engine or the driver in one way the simulator must catch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from chainnode.consensus.interface import CommitBlock, HeightState, Persist
from chainnode.consensus.signer import Place
from chainnode.consensus.tbft import Step, TbftEngine
from chainnode.consensus.wal import RecordType, WalRecord, decode_records, encode_records
from chainnode.testing.faults import FaultPlan
from chainnode.testing.node import SimNode
from chainnode.testing.simulator import Setup
from chainnode.types.block import Block
from chainnode.types.validators import ValidatorSet
from chainnode.types.vote import NIL, CommitCertificate, Proposal, Vote, VoteSummary, VoteType


class QuorumOfTwoF(ValidatorSet):
    def is_quorum(self, power: int) -> bool:
        return 3 * power > self.total_power


class ForgetLockOnRestart(TbftEngine):
    def replay(self, records: Iterable[WalRecord]) -> None:
        kept = (RecordType.VOTE, RecordType.PROPOSAL)
        super().replay(record for record in records if record.type in kept)


class ForgetVotesOnRestart(TbftEngine):
    def replay(self, records: Iterable[WalRecord]) -> None:
        signed = (RecordType.VOTE, RecordType.PROPOSAL)
        super().replay(record for record in records if record.type not in signed)


class IgnoreLock(TbftEngine):
    def _try_prevote(self) -> bool:
        self._locked = (-1, NIL)
        return super()._try_prevote()


class TrustValidRound(TbftEngine):
    def _try_prevote(self) -> bool:
        proposal = self._proposals.get(self._round)
        if self._step is not Step.PROPOSE or proposal is None:
            return False
        block_hash = proposal.block.hash()
        if self._verdicts[block_hash] is None:
            return False
        self._vote(VoteType.PREVOTE, block_hash if self._verdicts[block_hash] else NIL)
        return True


class AcceptAnyProposer(TbftEngine):
    def _is_proposer(self, address: bytes, round_number: int) -> bool:
        return True


class AnswerNoSummary(TbftEngine):
    def _on_summary(self, peer: bytes, summary: VoteSummary) -> None:
        return


class MixRounds(TbftEngine):
    """Mixes rounds: counts a vote of any round as one of the current round."""

    def _add_vote(self, vote: Vote) -> None:
        super()._add_vote(replace(vote, round=self._round))


class PrecommitUnseen(TbftEngine):
    """Precommits on its own prevote, without waiting for two thirds."""

    def _try_polka(self) -> bool:
        proposal: Proposal | None = self._proposals.get(self._round)
        if self._step is not Step.PREVOTE or proposal is None:
            return False
        block_hash = proposal.block.hash()
        if not self._verdicts[block_hash]:
            return False
        self._locked = self._valid = (self._round, block_hash)
        self._vote(VoteType.PRECOMMIT, block_hash)
        return True


class ForgetSignerWithDisk(SimNode):
    """Keeps what it signed in the data folder only."""

    def remembered(self) -> Place | None:
        return self.disk.signed if self.disk.wal else None


class SkipByOwnCertificate(SimNode):
    """Counts missed turns from the certificate it holds, not from the one in the block."""

    def advance(self, block: Block, certificate: CommitCertificate) -> HeightState:
        state = super().advance(block, certificate)
        turns = self.state.turns.after(
            self.state.validators, block.height, block.header.proposer, certificate.round
        )
        return replace(state, turns=turns)


class SendBeforeSync(SimNode):
    def persist(self, effect: Persist) -> None:
        data, self.wal_hash = encode_records(effect.records, self.wal_hash)
        self.disk.append_wal(data)
        self.after(self.sim.sync_ms(), self.disk.sync_wal)


class KeepTornTail(SimNode):
    def replay(self) -> None:
        log = decode_records(self.disk.wal)
        self.wal_hash = log.last_hash
        self.engine.replay(log.records)


class TellBeforeSync(SimNode):
    def commit(self, effect: CommitBlock) -> None:
        if effect.block.height == len(self.disk.blocks) + 1:
            self.sim.invariants._told[self.index] = effect.block.height
        super().commit(effect)


class ForgetBodies(SimNode):
    def store_bodies(self, block: Block) -> None:
        return


def engine(engine_class: type[TbftEngine]) -> Setup:
    node_class = type(f"{engine_class.__name__}Node", (SimNode,), {"engine_class": engine_class})
    return Setup(node_class=node_class)


DISK_LOSS = FaultPlan(crash_share=0.005, restart_ms_max=200, delay_ms_max=300, disk_losses_max=1)

DEFECTS: dict[str, Setup] = {
    "quorum of 2f": Setup(validator_set_class=QuorumOfTwoF),
    "forget lock on restart": engine(ForgetLockOnRestart),
    "forget votes on restart": engine(ForgetVotesOnRestart),
    "ignore lock": engine(IgnoreLock),
    "trust the valid round of a proposal": engine(TrustValidRound),
    "accept wrong proposer": engine(AcceptAnyProposer),
    "answer no summary": engine(AnswerNoSummary),
    "count votes of other rounds": engine(MixRounds),
    "precommit without two thirds": engine(PrecommitUnseen),
    "signer state in the data folder": Setup(node_class=ForgetSignerWithDisk, plan=DISK_LOSS),
    "skip proposers by one's own certificate": Setup(node_class=SkipByOwnCertificate),
    "vote before sync": Setup(node_class=SendBeforeSync),
    "keep a torn log tail": Setup(node_class=KeepTornTail),
    "tell before sync": Setup(node_class=TellBeforeSync),
    "forget bodies": Setup(node_class=ForgetBodies),
}
