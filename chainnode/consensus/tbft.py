"""TBFT: the Tendermint algorithm (Buchman, Kwon, Milosevic, arXiv:1807.04938) as a state machine.

"Line n" in comments is a line of the paper's Algorithm 1. Differences: a prevote waits for the
driver's `BlockValidated`; a height starts only when there is work or another validator has started
it; rounds are skipped on f + 1 validators seen in this round or a later one; messages lost on the
way are made up for by vote summaries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final

from chainnode._proto import types_pb2
from chainnode.consensus.buffer import FutureBuffer
from chainnode.consensus.gossip import SummaryReplies, summary_of
from chainnode.consensus.interface import (
    BlockCommitted,
    BlockSynced,
    BlockValidated,
    Broadcast,
    BuildProposal,
    CommitBlock,
    ConsensusConfig,
    ConsensusMessage,
    Effect,
    Event,
    HeightState,
    MessageReceived,
    PeerBehind,
    ProposalBuilt,
    RecordEvidence,
    Send,
    SetTimer,
    Signer,
    Start,
    SyncNeeded,
    TimeoutFired,
    Timer,
    TimerKind,
    ValidateBlock,
    WorkAvailable,
)
from chainnode.consensus.outbox import Outbox
from chainnode.consensus.rules import block_time_ms, check_block, check_evidence
from chainnode.consensus.signer import SignerGuard
from chainnode.consensus.votes import HeightVotes
from chainnode.consensus.wal import RecordType, WalRecord
from chainnode.types.block import Block
from chainnode.types.codec import decode, encode
from chainnode.types.errors import InternalError, PeerFault
from chainnode.types.limits import EVIDENCE_PER_BLOCK_MAX, FUTURE_ROUNDS_KEPT_MAX
from chainnode.types.validators import VerifyBatch
from chainnode.types.vote import (
    NIL,
    CommitCertificate,
    CommitSignature,
    Evidence,
    Proposal,
    Vote,
    VoteSummary,
    VoteType,
)

TIMEOUT_ROUNDS_MAX: Final = 16
PAST_ROUNDS_KEPT: Final = 16
EVIDENCE_KEPT_MAX: Final = 4 * EVIDENCE_PER_BLOCK_MAX


class Step(IntEnum):
    """Where in a round a node is; `COMMIT` waits for the driver."""

    PROPOSE = 1
    PREVOTE = 2
    PRECOMMIT = 3
    COMMIT = 4


class TbftEngine:
    """One validator (or observer) of one chain.

    Args:
        config: chain id and timeouts.
        state: the height to decide first.
        signer: this node's key; None or a key outside the validator set makes an observer.
        verify_batch: checks signatures; must be pure.
    """

    def __init__(
        self,
        config: ConsensusConfig,
        state: HeightState,
        signer: Signer | None,
        verify_batch: VerifyBatch,
    ) -> None:
        self._config = config
        self._verify_batch = verify_batch
        self._guard = None if signer is None else SignerGuard(signer, config.chain_id)
        self._future = FutureBuffer()
        self._evidence: dict[tuple[bytes, int, int, int, int], Evidence] = {}
        self._replies = SummaryReplies(config.gossip_interval_ms // 4)
        self._out = Outbox()
        self._now_ms = 0
        self._reset(state)

    def _reset(self, state: HeightState) -> None:
        self._state = state
        self._votes = HeightVotes(state.validators)
        self._round = 0
        self._step = Step.PROPOSE
        self._active = False
        self._gossiping = False
        self._work = False
        self._asked_round = -1
        self._proposals: dict[int, Proposal] = {}
        self._blocks: dict[bytes, Block] = {}
        self._verdicts: dict[bytes, bool | None] = {}
        self._reasons: dict[bytes, str] = {}
        self._locked: tuple[int, bytes] = (-1, NIL)
        self._valid: tuple[int, bytes] = (-1, NIL)
        self._timers_set: set[tuple[TimerKind, int]] = set()
        self._ahead: tuple[int, bytes] = (0, b"")
        self._replies.clear()

    # --- reading --------------------------------------------------------------------------------

    @property
    def height(self) -> int:
        """The height being decided."""
        return self._state.height

    @property
    def round(self) -> int:
        """The round of that height."""
        return self._round

    @property
    def step(self) -> Step:
        """The step of that round."""
        return self._step

    @property
    def active(self) -> bool:
        """Whether the height has started; an idle chain waits here."""
        return self._active

    @property
    def locked(self) -> tuple[int, bytes]:
        """(round, block hash) this node is locked on; (-1, empty) when on none."""
        return self._locked

    @property
    def address(self) -> bytes:
        """This validator's address; empty for an observer."""
        if self._guard is None or self._guard.address not in self._state.validators:
            return b""
        return self._guard.address

    # --- entry points ---------------------------------------------------------------------------

    def replay(self, records: Iterable[WalRecord]) -> None:
        """Restore signer, lock, own votes and what they rest on; see `Engine.replay`."""
        for record in records:
            if record.type in (RecordType.VOTE, RecordType.SEEN_VOTE):
                vote = Vote.from_proto(decode(types_pb2.Vote, record.payload))
                self._replay_vote(vote, own=record.type is RecordType.VOTE)
            elif record.type is RecordType.PROPOSAL:
                message = decode(types_pb2.Proposal, record.payload)
                self._replay_own_proposal(Proposal.from_proto(message))
            elif record.height == self.height:
                message = decode(types_pb2.Proposal, record.payload)
                self._replay_lock(record.type, message)

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
            if not isinstance(message, Proposal):
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
        if proposal.engine_epoch != self._state.engine_epoch:
            raise PeerFault("WRONG_EPOCH", "proposal of another epoch", subject=peer.hex())
        if not self._is_proposer(proposal.proposer, proposal.round):
            raise PeerFault("WRONG_PROPOSER", "not this validator's turn", subject=peer.hex())
        validator = self._state.validators.get(proposal.proposer)
        signed = validator is not None and self._verify_batch(
            [validator.public_key],
            [proposal.sign_bytes(self._config.chain_id)],
            [proposal.signature],
        )
        if not signed or signed != [True]:
            raise PeerFault("BAD_SIGNATURE", "proposal is not signed", subject=peer.hex())

    def _accept_proposal(self, proposal: Proposal, source: bytes) -> None:
        block_hash = proposal.block.hash()
        self._proposals[proposal.round] = proposal
        if block_hash in self._blocks:
            return
        self._blocks[block_hash] = proposal.block
        reason = check_block(self._config, self._state, proposal.block, self._verify_batch)
        if not reason and proposal.valid_round < 0:
            own = proposal.block.header.proposer == proposal.proposer
            reason = "" if own else "a new block names another proposer"
        if reason:
            self._verdicts[block_hash] = False
            self._reasons[block_hash] = reason
        else:
            self._request_validation(block_hash, source)

    def _request_validation(self, block_hash: bytes, source: bytes) -> None:
        self._verdicts[block_hash] = None
        self._out.other(ValidateBlock(self._blocks[block_hash], source))

    def _on_validated(self, event: BlockValidated) -> None:
        if event.block_hash in self._verdicts:
            self._verdicts[event.block_hash] = event.valid
            self._reasons[event.block_hash] = event.reason

    def _on_built(self, event: ProposalBuilt) -> None:
        current = (self.height, self._round, Step.PROPOSE)
        if (
            event.height,
            event.round,
            self._step,
        ) == current and self._round not in self._proposals:
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

    def _propose_if_due(self) -> None:
        due = (
            self._step is Step.PROPOSE
            and self._asked_round < self._round
            and self._round not in self._proposals
            and self._is_proposer(self.address, self._round)
        )
        if not due or not (self._work or self._round > 0):
            return
        self._asked_round = self._round
        valid_round, valid_hash = self._valid
        if valid_round >= 0:
            self._propose(self._blocks[valid_hash], valid_round)
            for vote in self._votes.tally(valid_round, VoteType.PREVOTE).votes_for(valid_hash):
                self._out.message(Broadcast(vote))
        else:
            self._out.other(self._build_request())

    def _build_request(self) -> BuildProposal:
        state = self._state
        return BuildProposal(
            height=self.height,
            round=self._round,
            previous_hash=state.previous_hash,
            timestamp_ms=block_time_ms(state),
            proposer=self.address,
            engine=self._config.engine,
            engine_epoch=state.engine_epoch,
            validators_hash=state.validators.hash(),
            next_validators_hash=state.next_validators.hash(),
            last_commit=state.last_commit,
            evidence=tuple(self._evidence.values())[:EVIDENCE_PER_BLOCK_MAX],
        )

    def _propose(self, block: Block, valid_round: int) -> None:
        if self._guard is None:
            return
        proposal = self._guard.sign_proposal(
            Proposal(
                self.height,
                self._round,
                valid_round,
                block,
                self.address,
                self._state.engine_epoch,
            )
        )
        if proposal is None:
            return
        self._persist(RecordType.PROPOSAL, encode(proposal.to_proto()))
        self._out.message(Broadcast(proposal))
        self._accept_proposal(proposal, self.address)

    def _progress(self) -> None:
        """Apply every rule whose condition holds, until none does."""
        while self._active and self._step is not Step.COMMIT:
            changed = (
                self._try_commit()
                or self._try_skip_round()
                or self._try_prevote()
                or self._try_polka()
                or self._try_nil_polka()
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

    def _try_timers(self) -> None:
        """Lines 34 and 47."""
        prevotes = self._votes.tally(self._round, VoteType.PREVOTE)
        if self._step is Step.PREVOTE and prevotes.has_quorum_of_any():
            self._set_timer(TimerKind.PREVOTE)
        if self._votes.tally(self._round, VoteType.PRECOMMIT).has_quorum_of_any():
            self._set_timer(TimerKind.PRECOMMIT)

    # --- small steps ----------------------------------------------------------------------------

    def _is_proposer(self, address: bytes, round_number: int) -> bool:
        return address == self._state.validators.proposer(self.height, round_number)

    def _set_timer(self, kind: TimerKind) -> None:
        if (kind, self._round) in self._timers_set:
            return
        self._timers_set.add((kind, self._round))
        config = self._config
        base = config.timeout_propose_ms if kind is TimerKind.PROPOSE else config.timeout_vote_ms
        delay_ms = base + config.timeout_delta_ms * min(self._round, TIMEOUT_ROUNDS_MAX)
        self._out.other(SetTimer(Timer(kind, self.height, self._round), delay_ms))

    def _vote(self, kind: VoteType, block_hash: bytes) -> None:
        self._step = Step.PREVOTE if kind is VoteType.PREVOTE else Step.PRECOMMIT
        if self._guard is None or not self.address:
            return
        floor_ms = self._state.previous_time_ms
        if block_hash:
            floor_ms = self._blocks[block_hash].header.timestamp_ms
        vote = self._guard.sign_vote(
            Vote(
                kind,
                self.height,
                self._round,
                block_hash,
                max(self._now_ms, floor_ms + 1),
                self.address,
                self._state.engine_epoch,
            )
        )
        if vote is None:
            return
        self._persist(RecordType.VOTE, encode(vote.to_proto()))
        self._out.message(Broadcast(vote))
        self._add_vote(vote)

    def _add_vote(self, vote: Vote) -> None:
        evidence = self._votes.add(vote, self._round)
        if evidence is None or evidence.key() in self._evidence:
            return
        if len(self._evidence) < EVIDENCE_KEPT_MAX:
            self._evidence[evidence.key()] = evidence
        self._out.other(RecordEvidence(evidence))

    def _persist(self, record_type: RecordType, payload: bytes) -> None:
        self._out.record(WalRecord(self.height, record_type, payload))

    def _persist_seen(self, votes: Iterable[Vote]) -> None:
        for vote in votes:
            if vote.validator != self.address:
                self._persist(RecordType.SEEN_VOTE, encode(vote.to_proto()))

    # --- replay ---------------------------------------------------------------------------------

    def _replay_vote(self, vote: Vote, *, own: bool) -> None:
        if own and self._guard is not None:
            self._guard.observe(vote)
        if vote.height != self.height:
            return
        if own and vote.round >= self._round:
            self._round = vote.round
            self._step = Step.PREVOTE if vote.type is VoteType.PREVOTE else Step.PRECOMMIT
        self._votes.add(vote, max(self._round, vote.round))

    def _replay_own_proposal(self, proposal: Proposal) -> None:
        if self._guard is not None:
            self._guard.observe(proposal)
        if proposal.height != self.height:
            return
        if proposal.round >= self._round:
            self._round = proposal.round
            self._step = Step.PROPOSE
        self._proposals[proposal.round] = proposal
        self._replay_block(proposal.block)

    def _replay_lock(self, record_type: RecordType, message: types_pb2.Proposal) -> None:
        block = Block.from_proto(message.block)
        place = (message.round, block.hash())
        self._valid = max(self._valid, place)
        if record_type is RecordType.LOCK:
            self._locked = max(self._locked, place)
        self._replay_block(block)

    def _replay_block(self, block: Block) -> None:
        self._blocks[block.hash()] = block
        self._verdicts.setdefault(block.hash(), None)
