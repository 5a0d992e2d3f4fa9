"""The interpreter of tests/scripts/*.txt."""

from __future__ import annotations

from collections.abc import Sequence

from chainnode.consensus.interface import (
    BlockCommitted,
    BlockValidated,
    Broadcast,
    BuildProposal,
    CommitBlock,
    Effect,
    Event,
    MessageReceived,
    PeerBehind,
    Persist,
    ProposalBuilt,
    RecordEvidence,
    Send,
    SetTimer,
    Start,
    SyncNeeded,
    TimeoutFired,
    Timer,
    TimerKind,
    ValidateBlock,
    WorkAvailable,
)
from chainnode.consensus.tbft import TbftEngine
from chainnode.consensus.wal import CHAIN_START, decode_records, encode_records
from chainnode.types.block import Block
from chainnode.types.vote import (
    NIL,
    Proposal,
    Vote,
    VoteSummary,
    VoteType,
)
from tests.consensus.handmade import CONFIG, GENESIS_TIME_MS, Chain, verify_batch


class ScriptRunner:
    """Runs one protocol script; the language is described in tests/scripts/README.md."""

    STRICT = ("prevote", "precommit", "proposal", "commit", "evidence", "build")

    def __init__(self) -> None:
        self.chain = Chain()
        self.state = self.chain.genesis
        self.me = 3
        self.now_ms = GENESIS_TIME_MS + 50
        self.blocks: dict[str, Block] = {}
        self.log = b""
        self.log_hash = CHAIN_START
        self.seen: list[str] = []
        self.committed: CommitBlock | None = None
        self.engine = self._new_engine()

    def run(self, text: str) -> None:
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split("#")[0].split()
            if not words:
                continue
            try:
                if words[0] != "expect":
                    self._check_nothing_left()
                getattr(self, f"do_{words[0]}")(*words[1:])
            except AssertionError as error:
                raise AssertionError(f"line {number}: {line.strip()}: {error}") from error
        self._check_nothing_left()

    # --- actions ----------------------------------------------------------------------------------

    def do_node(self, name: str) -> None:
        self.me = _index(name)
        self.engine = self._new_engine()

    def do_start(self) -> None:
        self._handle(Start(self.now_ms))

    def do_work(self) -> None:
        self._handle(WorkAvailable(self.now_ms))

    def do_block(self, label: str, proposer: str) -> None:
        self.blocks[label] = self.chain.block(self.state, _index(proposer), label)

    def do_propose(self, who: str, round_number: str, label: str, valid_round: str = "-1") -> None:
        proposal = self.chain.proposal(
            _index(who), int(round_number), self.blocks[label], int(valid_round)
        )
        self._receive(_index(who), proposal)

    def do_built(self, round_number: str, label: str) -> None:
        block = self.blocks[label]
        self._handle(ProposalBuilt(self.now_ms, self.state.height, int(round_number), block))

    def do_valid(self, label: str) -> None:
        self._handle(BlockValidated(self.now_ms, self.blocks[label].hash(), True))

    def do_invalid(self, label: str) -> None:
        self._handle(BlockValidated(self.now_ms, self.blocks[label].hash(), False, "script"))

    def do_prevote(self, round_number: str, label: str, *names: str) -> None:
        self._votes(VoteType.PREVOTE, round_number, label, names)

    def do_precommit(self, round_number: str, label: str, *names: str) -> None:
        self._votes(VoteType.PRECOMMIT, round_number, label, names)

    def do_timeout(self, kind: str, round_number: str = "0") -> None:
        timer = Timer(TimerKind[kind.upper()], self.state.height, int(round_number))
        self._handle(TimeoutFired(self.now_ms, timer))

    def do_summary(self, who: str, height: str, round_number: str) -> None:
        summary = VoteSummary(int(height), int(round_number), False, (), ())
        self._receive(_index(who), summary)

    def do_committed(self) -> None:
        assert self.committed is not None, "nothing was committed"
        self.state = self.state.advance(self.committed.block, self.committed.certificate)
        self._handle(BlockCommitted(self.now_ms, self.state))

    def do_restart(self) -> None:
        self.engine = self._new_engine()
        self.engine.replay(decode_records(self.log).records)
        self.seen = []
        self._handle(Start(self.now_ms))

    def do_expect(self, *words: str) -> None:
        wanted = " ".join(words)
        assert wanted in self.seen, f"saw {self.seen}"
        self.seen.remove(wanted)

    def do_locked(self, round_number: str, label: str = "nil") -> None:
        block_hash = NIL if label == "nil" else self.blocks[label].hash()
        assert self.engine.locked == (int(round_number), block_hash), str(self.engine.locked)

    def do_at(self, height: str, round_number: str, step: str) -> None:
        place = (self.engine.height, self.engine.round, self.engine.step.name.lower())
        assert place == (int(height), int(round_number), step), str(place)

    # --- inside -----------------------------------------------------------------------------------

    def _new_engine(self) -> TbftEngine:
        signer = self.chain.signers[self.me]
        return TbftEngine(CONFIG, self.state, signer, verify_batch)

    def _votes(self, kind: VoteType, round_number: str, label: str, names: Sequence[str]) -> None:
        block_hash = NIL if label == "nil" else self.blocks[label].hash()
        for name in names:
            vote = self.chain.vote(
                _index(name), kind, int(round_number), block_hash, height=self.state.height
            )
            self._receive(_index(name), vote)

    def _receive(self, peer: int, message: Proposal | Vote | VoteSummary) -> None:
        self._handle(MessageReceived(self.now_ms, self.chain.addresses[peer], message))

    def _handle(self, event: Event) -> None:
        self.now_ms += 1
        effects = self.engine.handle(event)
        assert all(not isinstance(effect, Persist) for effect in effects[1:]), "persist comes first"
        ranks = [2 - isinstance(effect, Send | Broadcast) for effect in effects]
        if effects and isinstance(effects[0], Persist):
            ranks[0] = 0
        assert ranks == sorted(ranks), "messages come before other effects"
        for effect in effects:
            self._note(effect)

    def _check_nothing_left(self) -> None:
        left = [line for line in self.seen if line.split()[0] in self.STRICT]
        assert not left, f"not expected before: {left}"
        self.seen = []

    def _label(self, block_hash: bytes) -> str:
        if not block_hash:
            return "nil"
        labels = [label for label, block in self.blocks.items() if block.hash() == block_hash]
        return labels[0] if labels else block_hash.hex()

    def _note(self, effect: Effect) -> None:
        match effect:
            case Persist():
                data, self.log_hash = encode_records(effect.records, self.log_hash)
                self.log += data
            case Broadcast(Vote() as vote):
                if vote.validator == self.chain.addresses[self.me]:
                    name = vote.type.name.lower()
                    self.seen.append(f"{name} {vote.round} {self._label(vote.block_hash)}")
            case Broadcast(Proposal() as proposal):
                label = self._label(proposal.block.hash())
                self.seen.append(f"proposal {proposal.round} {label} {proposal.valid_round}")
            case Broadcast(VoteSummary() as summary):
                self.seen.append(f"summary {summary.height} {summary.round}")
            case Send(peer, message):
                self.seen.append(f"send {self._name(peer)} {type(message).__name__.lower()}")
            case _:
                self._note_request(effect)

    def _note_request(self, effect: Effect) -> None:
        match effect:
            case SetTimer(timer, delay_ms):
                self.seen.append(f"timer {timer.kind.name.lower()} {timer.round} {delay_ms}")
            case BuildProposal():
                self.seen.append(f"build {effect.round}")
            case ValidateBlock():
                self.seen.append(f"validate {self._label(effect.block.hash())}")
            case CommitBlock():
                self.committed = effect
                label = self._label(effect.block.hash())
                self.seen.append(f"commit {label} {effect.certificate.round}")
            case RecordEvidence():
                self.seen.append(f"evidence {self._name(effect.evidence.first.validator)}")
            case PeerBehind(peer, height):
                self.seen.append(f"behind {self._name(peer)} {height}")
            case SyncNeeded(peer, height):
                self.seen.append(f"sync {self._name(peer)} {height}")

    def _name(self, address: bytes) -> str:
        return f"p{self.chain.addresses.index(address)}"


def _index(name: str) -> int:
    return int(name.removeprefix("p"))
