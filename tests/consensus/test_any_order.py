"""Any events in any order: an engine among three liars keeps its word and never falls over."""

from random import Random

import pytest

from chainnode.consensus.interface import (
    BlockCommitted,
    BlockSynced,
    BlockValidated,
    Broadcast,
    BuildProposal,
    CommitBlock,
    Effect,
    Event,
    MessageReceived,
    Persist,
    ProposalBuilt,
    Send,
    SetTimer,
    Start,
    TimeoutFired,
    Timer,
    TimerKind,
    ValidateBlock,
    WorkAvailable,
)
from chainnode.consensus.tbft import TbftEngine
from chainnode.consensus.wal import WalRecord
from chainnode.types.block import Block
from chainnode.types.errors import InternalError, PeerFault
from chainnode.types.vote import NIL, Proposal, Vote, VoteSummary, VoteType
from tests.consensus.handmade import CONFIG, Chain, verify_batch

ME = 3


class Storm:
    """Feeds random events, follows what the engine says, restarts it now and then."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.chain = Chain()
        self.state = self.chain.genesis
        self.records: list[WalRecord] = []
        self.said: dict[tuple[int, int, int], bytes] = {}
        self.pending: list[Event] = []
        self.now_ms = 0
        self.restart()

    def restart(self) -> None:
        signer = self.chain.signers[ME]
        self.engine = TbftEngine(CONFIG, self.state, signer, verify_batch)
        self.engine.replay(self.records)
        self.pending = []
        self.make_blocks()
        self.handle(Start(self.now_ms))

    def make_blocks(self) -> None:
        self.favourite = NIL
        self.blocks = [
            self.chain.block(self.state, who, f"{who}{label}") for who in range(4) for label in "xy"
        ]

    def handle(self, event: Event) -> None:
        self.now_ms += self.random.randrange(300)
        try:
            effects = self.engine.handle(event)
        except PeerFault:
            return
        assert not any(isinstance(effect, Persist) for effect in effects[1:])
        for effect in effects:
            self.follow(effect)

    def follow(self, effect: Effect) -> None:
        match effect:
            case Persist():
                self.records.extend(effect.records)
            case Broadcast(Vote() as vote) | Send(_, Vote() as vote):
                if vote.validator == self.chain.addresses[ME]:
                    self.say((vote.height, vote.round, int(vote.type)), vote.block_hash)
            case Broadcast(Proposal() as proposal) | Send(_, Proposal() as proposal):
                if proposal.proposer == self.chain.addresses[ME]:
                    self.say((proposal.height, proposal.round, 0), proposal.block.hash())
            case ValidateBlock():
                self.favourite = block_hash = effect.block.hash()
                self.pending.append(BlockValidated(self.now_ms, block_hash, True))
            case BuildProposal():
                if effect.height != self.state.height:
                    return
                block = self.block_of(ME)
                self.pending.append(ProposalBuilt(self.now_ms, effect.height, effect.round, block))
            case SetTimer():
                self.pending.append(TimeoutFired(self.now_ms, effect.timer))
            case CommitBlock():
                self.state = self.state.advance(effect.block, effect.certificate)
                self.make_blocks()
                kind = self.random.choice((BlockCommitted, BlockSynced))
                self.pending.append(kind(self.now_ms, self.state))
            case _:
                pass

    def say(self, place: tuple[int, int, int], value: bytes) -> None:
        assert self.said.setdefault(place, value) == value, f"two values at {place}"

    def block_of(self, who: int) -> Block:
        address = self.chain.addresses[who]
        mine = [block for block in self.blocks if block.header.proposer == address]
        return self.random.choice(mine)

    def anything(self) -> Event:
        random = self.random
        who = random.randrange(3)
        height = max(1, self.state.height + random.choice((-1, *[0] * 12, 1, 5)))
        round_number = max(0, self.engine.round + random.choice((-1, *[0] * 20, 1, 2, 9)))
        hashes = [NIL, bytes(32), *(block.hash() for block in self.blocks[:2])]
        choice = random.randrange(10)
        message: Vote | Proposal | VoteSummary
        if choice < 5:
            kind = random.choice((VoteType.PREVOTE, VoteType.PRECOMMIT))
            block_hash = self.favourite if random.random() < 0.8 else random.choice(hashes)
            message = self.chain.vote(who, kind, round_number, block_hash, height=height)
        elif choice < 7:
            turn = (self.state.height - 1 + round_number) % 4
            if turn == ME:
                return WorkAvailable(self.now_ms)  # nobody else has this key
            valid_round = random.randint(-1, round_number - 1) if round_number else -1
            message = self.chain.proposal(turn, round_number, self.block_of(turn), valid_round)
        elif choice < 8:
            message = VoteSummary(height, round_number, random.random() < 0.5, (), ())
        elif choice < 9:
            return WorkAvailable(self.now_ms)
        else:
            kind_of_timer = random.choice(list(TimerKind))
            return TimeoutFired(self.now_ms, Timer(kind_of_timer, height, round_number))
        return MessageReceived(self.now_ms, self.chain.addresses[who], message)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            if self.random.random() < 0.02:
                self.restart()
            elif self.pending and self.random.random() < 0.4:
                self.handle(self.pending.pop(self.random.randrange(len(self.pending))))
            else:
                self.handle(self.anything())
            if self.engine.height < self.state.height and not self.pending:
                self.handle(BlockSynced(self.now_ms, self.state))


@pytest.mark.parametrize("first_seed", range(0, 200, 50))
def test_no_order_of_events_breaks_an_engine(first_seed: int) -> None:
    heights = 0
    for seed in range(first_seed, first_seed + 50):
        storm = Storm(seed)
        storm.run(200)
        heights += storm.state.height - 1
    assert heights > 10, "the storm decides something now and then"


def test_a_driver_that_builds_a_wrong_block_is_stopped_before_signing() -> None:
    chain = Chain()
    engine = TbftEngine(CONFIG, chain.genesis, chain.signers[0], verify_batch)
    engine.handle(Start(0))
    engine.handle(WorkAvailable(1))
    good = chain.block(chain.genesis, 0, "A")
    state = chain.genesis.advance(good, chain.certificate(good, (0, 1, 2)))
    with pytest.raises(InternalError, match="BUILT_INVALID"):
        engine.handle(ProposalBuilt(2, 1, 0, chain.block(state, 0, "B")))
