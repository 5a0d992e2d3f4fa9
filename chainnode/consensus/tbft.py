"""TBFT: the Tendermint algorithm (Buchman, Kwon, Milosevic, arXiv:1807.04938) as a state machine.

"Line n" in comments is a line of the paper's Algorithm 1. Differences: a prevote waits for the
driver's `BlockValidated`; a height starts only when there is work or another validator has started
it; rounds are skipped on f + 1 validators seen in this round or a later one; a round left empty by
two thirds ends at once; messages lost on the way are made up for by vote summaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chainnode._proto import types_pb2
from chainnode.consensus.gossip import summary_of
from chainnode.consensus.interface import (
    BlockCommitted,
    BlockSynced,
    BlockValidated,
    Broadcast,
    CommitBlock,
    ConsensusMessage,
    Effect,
    Event,
    HeightState,
    MessageReceived,
    PeerBehind,
    ProposalBuilt,
    Send,
    SetTimer,
    Start,
    SyncNeeded,
    TimeoutFired,
    Timer,
    TimerKind,
    WorkAvailable,
)
from chainnode.consensus.rules import check_block, check_evidence
from chainnode.consensus.tbft_state import Step, TbftState
from chainnode.consensus.wal import RecordType
from chainnode.types.codec import encode
from chainnode.types.errors import ClientFault, InternalError, PeerFault
from chainnode.types.limits import FUTURE_ROUNDS_KEPT_MAX
from chainnode.types.vote import (
    NIL,
    CommitCertificate,
    CommitSignature,
    Proposal,
    Vote,
    VoteSummary,
    VoteType,
)

PAST_ROUNDS_KEPT: Final = 16

__all__ = ["Step", "TbftEngine"]


class TbftEngine(TbftState):
    """The Tendermint rules over `TbftState`; the constructor's arguments are described there."""

    def handle(self, event: Event) -> Sequence[Effect]:
        """Advance by one event; see `Engine.handle`."""
        self._now_ms = event.now_ms
        match event:
            case MessageReceived():
                self._on_message(event.peer, event.message)
            case TimeoutFired():
                self._on_timeout(event.timer)
            case WorkAvailable():
                self._work = True
                self._activate()
            case ProposalBuilt():
                self._on_built(event)
            case BlockValidated():
                self._on_validated(event)
            case BlockCommitted() | BlockSynced():
                self._on_next_height(event.state)
            case Start():
                self._on_start()
        self._progress()
        return self._out.take()

    # --- events ---------------------------------------------------------------------------------

    def _on_start(self) -> None:
        own = [vote for vote in self._votes.from_round(0) if vote.validator == self.address]
        own_proposal = self._proposals.get(self._round)
        for block_hash in self._blocks:
            self._request_validation(block_hash, self.address)
        if not own and own_proposal is None:
            return
        self._active = True
        self._start_gossip()
        for vote in own:
            self._out.message(Broadcast(vote))
        if own_proposal is not None:
            self._out.message(Broadcast(own_proposal))
        if self._step is Step.PROPOSE:
            self._set_timer(TimerKind.PROPOSE)

    def _on_next_height(self, state: HeightState) -> None:
        if state.height <= self.height:
            return
        self._reset(state)
        self._evidence = {
            key: item
            for key, item in self._evidence.items()
            if check_evidence(self._config, state, item, self._verify_batch)
        }
        for peer, message in self._future.take(state.height):
            try:
                self._on_message(peer, message)
            except PeerFault:
                # The sender had its say before anyone could judge it; its junk just goes.
                continue

    def _on_message(self, peer: bytes, message: ConsensusMessage) -> None:
        if message.height > self.height:
            self._future.keep(peer, message, self.height)
            self._saw_height(peer, message.height)
        elif message.height < self.height:
            # Late votes of the last height are normal; a summary is a question.
            if isinstance(message, VoteSummary) or message.height < self.height - 1:
                self._out.other(PeerBehind(peer, message.height))
        elif isinstance(message, Vote):
            self._on_vote(peer, message)
        elif isinstance(message, Proposal):
            self._on_proposal(peer, message)
        else:
            self._on_summary(peer, message)

    def _saw_height(self, peer: bytes, height: int) -> None:
        # One height ahead is normal while our own commit is on its way: ask only if it lasts.
        if height > self.height + 1:
            self._out.other(SyncNeeded(peer, height))
        if height > self._ahead[0]:
            self._ahead = (height, peer)
        self._start_gossip()

    def _on_vote(self, peer: bytes, vote: Vote) -> None:
        if vote.engine_epoch != self._state.engine_epoch:
            raise PeerFault("WRONG_EPOCH", "vote of another engine epoch", subject=peer.hex())
        if not self._votes.tally(vote.round, vote.type).wants(vote):
            return
        if not self._state.validators.verify_vote(self._config.chain_id, vote, self._verify_batch):
            raise PeerFault(
                "BAD_SIGNATURE", "vote is not signed by its validator", subject=peer.hex()
            )
        self._add_vote(vote)
        self._activate()

    def _on_proposal(self, peer: bytes, proposal: Proposal) -> None:
        if not self._wants_proposal(proposal):
            return
        self._check_proposal(peer, proposal)
        self._votes.saw_round(proposal.proposer, proposal.round)
        self._activate()
        self._accept_proposal(proposal, peer)

    def _wants_proposal(self, proposal: Proposal) -> bool:
        if proposal.round > self._round + FUTURE_ROUNDS_KEPT_MAX:
            return False
        if proposal.round < self._round - PAST_ROUNDS_KEPT:
            return False
        if proposal.round not in self._proposals:
            return True
        # A second proposal of one round is equivocation, yet the network may have chosen it.
        block_hash = proposal.block.hash()
        return block_hash not in self._blocks and block_hash == self._quorum_hash(proposal.round)

    def _quorum_hash(self, round_number: int) -> bytes | None:
        precommitted = self._votes.tally(round_number, VoteType.PRECOMMIT).quorum_hash()
        return precommitted or self._votes.tally(round_number, VoteType.PREVOTE).quorum_hash()

    def _check_proposal(self, peer: bytes, proposal: Proposal) -> None:
        """Refuse what no correct node sends.

        Everything judged here is about the proposal. A verdict about the block must follow from its
        hash alone, or a liar could discredit a good block by wrapping it badly.
        """
        fault = self._proposal_fault(proposal)
        if fault:
            raise PeerFault(fault[0], fault[1], subject=peer.hex())

    def _proposal_fault(self, proposal: Proposal) -> tuple[str, str] | None:
        if proposal.engine_epoch != self._state.engine_epoch:
            return "WRONG_EPOCH", "proposal of another engine epoch"
        if not self._is_proposer(proposal.proposer, proposal.round):
            return "WRONG_PROPOSER", "not this validator's turn"
        fresh = proposal.valid_round < 0
        if fresh and proposal.block.header.proposer != proposal.proposer:
            return "WRONG_PROPOSER", "a new block names another proposer"
        validator = self._state.validators.get(proposal.proposer)
        verdicts = validator is not None and self._verify_batch(
            [validator.public_key],
            [proposal.sign_bytes(self._config.chain_id)],
            [proposal.signature],
        )
        if verdicts != [True]:
            return "BAD_SIGNATURE", "proposal is not signed by its proposer"
        try:
            proposal.validate()
            proposal.block.validate()
        except ClientFault as error:
            return "BAD_BLOCK", error.message
        return None

    def _on_validated(self, event: BlockValidated) -> None:
        if event.block_hash in self._verdicts:
            self._verdicts[event.block_hash] = event.valid
            self._reasons[event.block_hash] = event.reason

    def _on_built(self, event: ProposalBuilt) -> None:
        place = (event.height, event.round, self._step)
        if place != (self.height, self._round, Step.PROPOSE) or self._round in self._proposals:
            return
        # A signed proposal cannot be taken back, so our own block is judged before it is signed.
        reason = check_block(self._config, self._state, event.block, self._verify_batch)
        if reason:
            raise InternalError(
                "BUILT_INVALID",
                f"this node built a block that breaks the rules: {reason}",
                subject=f"height {self.height}",
                fix="report it; the header must carry the fields of BuildProposal unchanged",
            )
        self._propose(event.block, -1)

    def _on_summary(self, peer: bytes, summary: VoteSummary) -> None:
        self._activate()
        if summary.round > self._round or not self._replies.may(peer, summary.round, self._now_ms):
            return
        proposal = self._proposals.get(summary.round)
        if proposal is not None and not summary.has_proposal:
            self._out.message(Send(peer, proposal))
        lists = ((VoteType.PREVOTE, summary.prevotes), (VoteType.PRECOMMIT, summary.precommits))
        for kind, held in lists:
            known = frozenset(held)
            for vote in self._votes.tally(summary.round, kind).all():
                if vote.validator not in known:
                    self._out.message(Send(peer, vote))
        if summary.round < self._round:
            for vote in self._votes.from_round(self._round):
                self._out.message(Send(peer, vote))

    def _on_timeout(self, timer: Timer) -> None:
        if timer.height != self.height or self._step is Step.COMMIT:
            return
        if timer.kind is TimerKind.GOSSIP:
            self._on_gossip_timer()
        elif timer.round != self._round:
            return
        elif timer.kind is TimerKind.PROPOSE and self._step is Step.PROPOSE:
            self._vote(VoteType.PREVOTE, NIL)  # line 57
        elif timer.kind is TimerKind.PREVOTE and self._step is Step.PREVOTE:
            self._vote(VoteType.PRECOMMIT, NIL)  # line 61
        elif timer.kind is TimerKind.PRECOMMIT:
            self._start_round(self._round + 1)  # line 65

    def _on_gossip_timer(self) -> None:
        self._out.other(
            SetTimer(Timer(TimerKind.GOSSIP, self.height, 0), self._config.gossip_interval_ms)
        )
        if self._ahead[0] > self.height:
            self._out.other(SyncNeeded(self._ahead[1], self._ahead[0]))
        if not self._active:
            return
        for round_number, wanted in self._summary_rounds():
            summary = summary_of(
                self.height, round_number, self._proposals.get(round_number), self._votes, wanted
            )
            self._out.message(Broadcast(summary))

    def _summary_rounds(self) -> list[tuple[int, bytes | None]]:
        """Rounds to ask about: ours, and the one whose 2f+1 prevotes a proposal refers to."""
        rounds: list[tuple[int, bytes | None]] = [(self._round, self._quorum_hash(self._round))]
        proposal = self._proposals.get(self._round)
        if proposal is not None and proposal.valid_round >= 0:
            block_hash = proposal.block.hash()
            tally = self._votes.tally(proposal.valid_round, VoteType.PREVOTE)
            if not tally.has_quorum_for(block_hash):
                rounds.append((proposal.valid_round, block_hash))
        return rounds

    # --- the algorithm --------------------------------------------------------------------------

    def _activate(self) -> None:
        if self._step is Step.COMMIT:
            return
        self._start_gossip()
        if not self._active:
            self._active = True
            self._start_round(0)
        elif self._work:
            self._propose_if_due()

    def _start_gossip(self) -> None:
        if not self._gossiping:
            self._gossiping = True
            timer = Timer(TimerKind.GOSSIP, self.height, 0)
            self._out.other(SetTimer(timer, self._config.gossip_interval_ms))

    def _start_round(self, round_number: int) -> None:
        """Line 11."""
        if round_number > 0:
            # Without what brought us here, peers that lose it to a power cut could not follow.
            self._persist_seen(self._votes.from_round(round_number))
            tally = self._votes.tally(round_number - 1, VoteType.PRECOMMIT)
            self._persist_seen(tally.all())
        self._round = round_number
        self._step = Step.PROPOSE
        keep_from = round_number - PAST_ROUNDS_KEPT
        self._votes.forget_below(keep_from, self._valid[0])
        for past in [past for past in self._proposals if past < keep_from]:
            del self._proposals[past]
        self._set_timer(TimerKind.PROPOSE)
        self._propose_if_due()

    def _progress(self) -> None:
        """Apply every rule whose condition holds, until none does."""
        while self._active and self._step is not Step.COMMIT:
            changed = (
                self._try_commit()
                or self._try_skip_round()
                or self._try_prevote()
                or self._try_polka()
                or self._try_nil_polka()
                or self._try_give_up_round()
            )
            if not changed:
                self._try_timers()
                return

    def _try_commit(self) -> bool:
        """Line 49."""
        decided = self._votes.decided()
        if decided is None:
            return False
        round_number, block_hash = decided
        verdict = self._verdicts.get(block_hash)
        if verdict is False:
            raise InternalError(
                "DECIDED_INVALID",
                "a quorum decided a block this node holds invalid: "
                + self._reasons.get(block_hash, ""),
                subject=f"height {self.height}, block {block_hash.hex()}",
                fix="compare versions and state roots with the other nodes, then join again",
            )
        if verdict is None:
            return False
        votes = self._votes.tally(round_number, VoteType.PRECOMMIT).votes_for(block_hash)
        certificate = CommitCertificate(
            self.height,
            round_number,
            block_hash,
            self._state.engine_epoch,
            tuple(CommitSignature(v.validator, v.timestamp_ms, v.signature) for v in votes),
        )
        block = self._blocks[block_hash]
        for item in block.evidence:
            self._evidence.pop(item.key(), None)
        self._step = Step.COMMIT
        self._out.other(CommitBlock(block, certificate))
        return True

    def _try_skip_round(self) -> bool:
        """Line 55."""
        reachable = self._votes.reachable_round()
        if reachable <= self._round:
            return False
        self._start_round(reachable)
        return True

    def _try_prevote(self) -> bool:
        """Lines 22 and 28."""
        proposal = self._proposals.get(self._round)
        if self._step is not Step.PROPOSE or proposal is None:
            return False
        block_hash = proposal.block.hash()
        verdict = self._verdicts[block_hash]
        if verdict is None:
            return False
        valid_round = proposal.valid_round
        if valid_round >= 0 and not self._has_polka(valid_round, block_hash):
            return False
        locked_round, locked_hash = self._locked
        free = locked_round <= valid_round if valid_round >= 0 else locked_round < 0
        accepted = verdict and (free or locked_hash == block_hash)
        self._vote(VoteType.PREVOTE, block_hash if accepted else NIL)
        return True

    def _has_polka(self, round_number: int, block_hash: bytes) -> bool:
        return self._votes.tally(round_number, VoteType.PREVOTE).has_quorum_for(block_hash)

    def _try_polka(self) -> bool:
        """Line 36."""
        if self._step is Step.PROPOSE or self._valid[0] >= self._round:
            return False
        tally = self._votes.tally(self._round, VoteType.PREVOTE)
        block_hash = tally.quorum_hash()
        if not block_hash or not self._verdicts.get(block_hash):
            return False
        place = (self._round, block_hash)
        self._valid = place
        record = RecordType.VALID
        if self._step is Step.PREVOTE:
            self._locked = place
            record = RecordType.LOCK
        # The lock before the precommit: a torn append loses the end first.
        self._persist_seen(tally.votes_for(block_hash))
        lock = types_pb2.Proposal(
            height=self.height, round=self._round, block=self._blocks[block_hash].to_proto()
        )
        self._persist(record, encode(lock))
        if self._step is Step.PREVOTE:
            self._vote(VoteType.PRECOMMIT, block_hash)
        return True

    def _try_nil_polka(self) -> bool:
        """Line 44."""
        if self._step is not Step.PREVOTE or not self._has_polka(self._round, NIL):
            return False
        self._vote(VoteType.PRECOMMIT, NIL)
        return True

    def _try_give_up_round(self) -> bool:
        """Line 65 without its timer, when waiting can bring nothing.

        Two thirds precommitted nil, so nothing is decided in this round; two thirds prevoted nil,
        so no block has a quorum of prevotes that a later proposer would have to know of.
        """
        if self._step is not Step.PRECOMMIT or not self._has_polka(self._round, NIL):
            return False
        if not self._votes.tally(self._round, VoteType.PRECOMMIT).has_quorum_for(NIL):
            return False
        self._start_round(self._round + 1)
        return True

    def _try_timers(self) -> None:
        """Lines 34 and 47."""
        prevotes = self._votes.tally(self._round, VoteType.PREVOTE)
        if self._step is Step.PREVOTE and prevotes.has_quorum_of_any():
            self._set_timer(TimerKind.PREVOTE)
        if self._votes.tally(self._round, VoteType.PRECOMMIT).has_quorum_of_any():
            self._set_timer(TimerKind.PRECOMMIT)
