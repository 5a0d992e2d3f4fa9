"""The one interface of all consensus engines: events in, ordered effects out.

An engine is a pure state machine. The driver delivers one event at a time, with its own clock's
reading in `now_ms`, and carries out the returned effects **in order**. The order is part of the
promise: at most one `Persist` comes first, and nothing after it may happen before its records are
synced; then `Send` and `Broadcast`; then everything else. An effect that fails stops the node.

Driver's duties, per effect:
- `Persist`: append to the consensus log, sync, write the signer's file, sync, then go on.
- `Send`, `Broadcast`: hand to peer links; loss is allowed. A broadcast does not come back here.
- `SetTimer`: after `delay_ms` deliver `TimeoutFired(timer)`. The engine ignores stale timers, so
  none is ever cancelled.
- `BuildProposal`: answer with `ProposalBuilt` for the same height and round (or not at all, when
  the height has moved on). The given fields go into the header unchanged.
- `ValidateBlock`: fetch missing bodies (from `source` first), check the header fields the engine
  does not know (architecture, results), sync the bodies, answer with `BlockValidated`. The engine
  has already checked shape, roots, time, certificate, evidence and proposer. When only bodies are
  missing, keep trying and answer late rather than with `valid=False`.
- `CommitBlock`: store the certificate durably, execute, answer with `BlockCommitted`. Idempotent by
  height. Only sent for a block the driver validated.
- `RecordEvidence`: keep for operators; the engine itself proposes it in later blocks.
- `PeerBehind`: the peer works on a height below ours: send it our `PeerStatus`.
- `SyncNeeded`: the peer works on a height above ours: start block sync, then `BlockSynced`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeAlias

from chainnode.consensus.signer import Signed
from chainnode.consensus.turns import NO_ABSENCES, Turns
from chainnode.consensus.wal import WalRecord
from chainnode.types.block import Block
from chainnode.types.validators import ValidatorSet
from chainnode.types.vote import CommitCertificate, Evidence, Proposal, Vote, VoteSummary

ConsensusMessage: TypeAlias = Proposal | Vote | VoteSummary


class TimerKind(IntEnum):
    """What a timer is for."""

    PROPOSE = 1
    PREVOTE = 2
    PRECOMMIT = 3
    GOSSIP = 4


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer's identity; one that was set for a past height or round is ignored when it fires."""

    kind: TimerKind
    height: int
    round: int


@dataclass(frozen=True, slots=True)
class ConsensusConfig:
    """What an engine must know of the chain; times in milliseconds."""

    chain_id: str
    engine: str = "tbft"
    timeout_propose_ms: int = 1_000
    timeout_vote_ms: int = 500
    timeout_delta_ms: int = 250
    gossip_interval_ms: int = 500


@dataclass(frozen=True, slots=True)
class HeightState:
    """Everything decided below the height to be decided next.

    Args:
        height: the height to decide.
        previous_hash: hash of block height - 1; for height 1 the genesis hash.
        previous_time_ms: its timestamp; for height 1 the genesis time.
        last_commit: the certificate of height - 1; for height 1 the empty one.
        validators: who decides this height.
        last_validators: who decided height - 1 (for height 1: the same as `validators`).
        next_validators: who will decide height + 1.
        engine_epoch: the epoch of votes at this height.
        turns: who is skipped as a proposer.
    """

    height: int
    previous_hash: bytes
    previous_time_ms: int
    last_commit: CommitCertificate
    validators: ValidatorSet
    last_validators: ValidatorSet
    next_validators: ValidatorSet
    engine_epoch: int = 0
    turns: Turns = NO_ABSENCES

    def proposer(self, round_number: int) -> bytes:
        """Whose turn a round of this height is."""
        return self.turns.proposer(self.validators, self.height, round_number)

    def advance(
        self,
        block: Block,
        certificate: CommitCertificate,
        validators_after_next: ValidatorSet | None = None,
    ) -> HeightState:
        """The state after a block of this height is committed with a certificate.

        Args:
            block: the decided block.
            certificate: its certificate; any valid one does.
            validators_after_next: who decides height + 2, when the set changes.
        """
        # The certificate inside the block: every node has that one, and its own beside it.
        turns = self.turns.after(
            self.validators, self.height, block.header.proposer, block.last_commit.round
        )
        if self.next_validators != self.validators:
            turns = NO_ABSENCES
        return HeightState(
            height=self.height + 1,
            previous_hash=block.hash(),
            previous_time_ms=block.header.timestamp_ms,
            last_commit=certificate,
            validators=self.next_validators,
            last_validators=self.validators,
            next_validators=validators_after_next or self.next_validators,
            engine_epoch=self.engine_epoch,
            turns=turns,
        )


class Signer(Protocol):
    """A key that signs; the engine never sees more of it."""

    @property
    def public_key(self) -> bytes:
        """The 32-byte public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of a message."""
        ...


# --- events -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Begin at the height given to the constructor, after any `replay`. Delivered once, first."""

    now_ms: int


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A decoded, shape-checked message from an authenticated peer (its validator address)."""

    now_ms: int
    peer: bytes
    message: ConsensusMessage


@dataclass(frozen=True, slots=True)
class TimeoutFired:
    """A timer set by `SetTimer` ran out."""

    now_ms: int
    timer: Timer


@dataclass(frozen=True, slots=True)
class WorkAvailable:
    """This height should have a block: transactions wait, or results still need a header.

    Deliver it again after each new height while work remains. Repeats are harmless.
    """

    now_ms: int


@dataclass(frozen=True, slots=True)
class ProposalBuilt:
    """The block asked for by `BuildProposal`."""

    now_ms: int
    height: int
    round: int
    block: Block


@dataclass(frozen=True, slots=True)
class BlockValidated:
    """The verdict asked for by `ValidateBlock`; `valid` promises that all bodies are synced."""

    now_ms: int
    block_hash: bytes
    valid: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BlockCommitted:
    """The block of `CommitBlock` is durable; `state` is the next height's."""

    now_ms: int
    state: HeightState


@dataclass(frozen=True, slots=True)
class BlockSynced:
    """Block sync has moved the ledger past the engine's height; `state` is the next height's."""

    now_ms: int
    state: HeightState


Event: TypeAlias = (
    Start
    | MessageReceived
    | TimeoutFired
    | WorkAvailable
    | ProposalBuilt
    | BlockValidated
    | BlockCommitted
    | BlockSynced
)

# --- effects ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Persist:
    """Append records to the consensus log, then put `signed` into the signer's own file.

    No later effect before both are durable. In this order: the signer never remembers a vote whose
    lock the log has not.
    """

    records: tuple[WalRecord, ...]
    signed: Signed | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """One message to one peer (validator address)."""

    peer: bytes
    message: ConsensusMessage


@dataclass(frozen=True, slots=True)
class Broadcast:
    """One message to all other validators."""

    message: ConsensusMessage


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Deliver `TimeoutFired(timer)` after `delay_ms`."""

    timer: Timer
    delay_ms: int


@dataclass(frozen=True, slots=True)
class BuildProposal:
    """Build a block with these header fields; bodies, architecture and results are the driver's."""

    height: int
    round: int
    previous_hash: bytes
    timestamp_ms: int
    proposer: bytes
    engine: str
    engine_epoch: int
    validators_hash: bytes
    next_validators_hash: bytes
    last_commit: CommitCertificate
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class ValidateBlock:
    """Make a block's bodies durable and judge its header; `source` (peer address) has them."""

    block: Block
    source: bytes


@dataclass(frozen=True, slots=True)
class CommitBlock:
    """The block is decided: the certificate proves it to anyone who knows the validator set."""

    block: Block
    certificate: CommitCertificate


@dataclass(frozen=True, slots=True)
class RecordEvidence:
    """A validator signed two conflicting votes."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class PeerBehind:
    """The peer is at `height`, below ours."""

    peer: bytes
    height: int


@dataclass(frozen=True, slots=True)
class SyncNeeded:
    """The peer is at `height`, above ours. A claim: block sync checks certificates."""

    peer: bytes
    height: int


Effect: TypeAlias = (
    Persist
    | Send
    | Broadcast
    | SetTimer
    | BuildProposal
    | ValidateBlock
    | CommitBlock
    | RecordEvidence
    | PeerBehind
    | SyncNeeded
)


class Engine(Protocol):
    """What every engine is: `replay` at most once, then `Start`, then any events."""

    @property
    def height(self) -> int:
        """The height being decided."""
        ...

    @property
    def round(self) -> int:
        """The round of that height."""
        ...

    def replay(self, records: Iterable[WalRecord]) -> None:
        """Restore what was signed and locked from the consensus log, oldest record first.

        Records of other heights only raise the signer's guard.

        Raises:
            InternalError: `WAL_REPLAY`, when the records contradict each other.
        """
        ...

    def handle(self, event: Event) -> Sequence[Effect]:
        """Advance by one event.

        Raises:
            PeerFault: the message of this event breaks the protocol; the engine is unchanged and
                the driver scores the peer.
            InternalError: an invariant is broken; the driver stops the node.
        """
        ...
