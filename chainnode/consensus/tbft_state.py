"""What a TBFT node knows and how it acts on it: votes, proposals, locks, and their replay."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from chainnode._proto import types_pb2
from chainnode.consensus.buffer import FutureBuffer
from chainnode.consensus.gossip import SummaryReplies
from chainnode.consensus.interface import (
    Broadcast,
    BuildProposal,
    ConsensusConfig,
    HeightState,
    RecordEvidence,
    SetTimer,
    Signer,
    Timer,
    TimerKind,
    ValidateBlock,
)
from chainnode.consensus.outbox import Outbox
from chainnode.consensus.rules import block_time_ms, check_block
from chainnode.consensus.signer import Place, Signed, SignerGuard
from chainnode.consensus.votes import HeightVotes
from chainnode.consensus.wal import RecordType, WalRecord
from chainnode.types.block import Block
from chainnode.types.codec import decode, encode
from chainnode.types.limits import EVIDENCE_KEPT_MAX, EVIDENCE_PER_BLOCK_MAX, TIMEOUT_ROUNDS_MAX
from chainnode.types.validators import VerifyBatch
from chainnode.types.vote import (
    NIL,
    Evidence,
    Proposal,
    Vote,
    VoteType,
)


class Step(IntEnum):
    """Where in a round a node is; `COMMIT` waits for the driver."""

    PROPOSE = 1
    PREVOTE = 2
    PRECOMMIT = 3
    COMMIT = 4


class TbftState:
    """Everything one validator knows of the height being decided, and how it signs.

    Args:
        config: chain id and timeouts.
        state: the height to decide first.
        signer: this node's key; None or a key outside the validator set makes an observer.
        verify_batch: checks signatures; must be pure.
        remembered: the last place in the signer's own file; None for a new key.
    """

    def __init__(
        self,
        config: ConsensusConfig,
        state: HeightState,
        signer: Signer | None,
        verify_batch: VerifyBatch,
        remembered: Place | None = None,
    ) -> None:
        self._config = config
        self._verify_batch = verify_batch
        self._guard = None
        if signer is not None:
            self._guard = SignerGuard(signer, config.chain_id, remembered)
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

    # --- proposing -------------------------------------------------------------------------------

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
        self._persist_signed(RecordType.PROPOSAL, proposal)
        self._out.message(Broadcast(proposal))
        self._accept_proposal(proposal, self.address)

    def _accept_proposal(self, proposal: Proposal, source: bytes) -> None:
        block_hash = proposal.block.hash()
        self._proposals[proposal.round] = proposal
        if block_hash in self._blocks:
            return
        self._blocks[block_hash] = proposal.block
        reason = check_block(self._config, self._state, proposal.block, self._verify_batch)
        if reason:
            self._verdicts[block_hash] = False
            self._reasons[block_hash] = reason
        else:
            self._request_validation(block_hash, source)

    def _request_validation(self, block_hash: bytes, source: bytes) -> None:
        self._verdicts[block_hash] = None
        self._out.other(ValidateBlock(self._blocks[block_hash], source))

    # --- small steps ----------------------------------------------------------------------------

    def _is_proposer(self, address: bytes, round_number: int) -> bool:
        return address == self._state.proposer(round_number)

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
        self._persist_signed(RecordType.VOTE, vote)
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

    def _persist_signed(self, record_type: RecordType, message: Vote | Proposal) -> None:
        record = WalRecord(self.height, record_type, encode(message.to_proto()))
        self._out.record(record, Signed.of(message, self._config.chain_id))

    def _persist_seen(self, votes: Iterable[Vote]) -> None:
        for vote in votes:
            if vote.validator != self.address:
                self._persist(RecordType.SEEN_VOTE, encode(vote.to_proto()))

    # --- replay ---------------------------------------------------------------------------------

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
