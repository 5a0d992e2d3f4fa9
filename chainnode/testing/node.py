"""A simulated node: the driver's duties around a real engine, on a simulated disk."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from chainnode.consensus.interface import (
    BlockCommitted,
    BlockSynced,
    BlockValidated,
    Broadcast,
    BuildProposal,
    CommitBlock,
    ConsensusMessage,
    Effect,
    Event,
    HeightState,
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
    ValidateBlock,
    WorkAvailable,
)
from chainnode.consensus.signer import Place
from chainnode.consensus.tbft import TbftEngine
from chainnode.consensus.wal import decode_records, encode_records, prune_records
from chainnode.testing.disk import SimDisk
from chainnode.types.block import HEADER_VERSION, Architecture, Block, BlockHeader, evidence_root
from chainnode.types.codec import HASH_SIZE_BYTES, address_of, merkle_root, tagged_hash
from chainnode.types.errors import PeerFault
from chainnode.types.vote import CommitCertificate

if TYPE_CHECKING:
    from chainnode.testing.simulator import Simulation

BLOCK_TX_CAP: Final = 8
WAL_PRUNE_SIZE_BYTES: Final = 20_000
BLOCKS_PER_ANSWER: Final = 16
BODY_RETRY_MS: Final = 150
STATUS_INTERVAL_MS: Final = 1_000
BLOCK_INTERVAL_MS: Final = 50
_ARCHITECTURE: Final = Architecture("ox-serial", 1, bytes(HASH_SIZE_BYTES), BLOCK_TX_CAP, 50)


@dataclass(frozen=True, slots=True)
class TxGossip:
    """A transaction body on its way to the pools."""

    body: bytes


@dataclass(frozen=True, slots=True)
class BodyRequest:
    """Asks for bodies by wid."""

    wids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Bodies:
    """Answers `BodyRequest`."""

    bodies: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """The sender's last committed height."""

    height: int


@dataclass(frozen=True, slots=True)
class BlockRequest:
    """Asks for committed blocks."""

    from_height: int


@dataclass(frozen=True, slots=True)
class Blocks:
    """Answers `BlockRequest`: blocks, certificates, bodies."""

    blocks: tuple[tuple[Block, CommitCertificate, tuple[bytes, ...]], ...]


DriverMessage: TypeAlias = TxGossip | BodyRequest | Bodies | Status | BlockRequest | Blocks
SimMessage: TypeAlias = ConsensusMessage | DriverMessage


class SimSigner:
    """A stand-in key: a keyed hash, so that seeds run fast. Nobody in the run forges."""

    def __init__(self, index: int) -> None:
        self.public_key = hashlib.sha256(b"simulated key %d" % index).digest()

    def sign(self, message: bytes) -> bytes:
        """The 64-byte stand-in signature."""
        return hashlib.sha512(self.public_key + message).digest()


def wid_of(body: bytes) -> bytes:
    """The stand-in wid of a body."""
    return tagged_hash(b"chainnode/wid/v1", body)


def result_root(state: HeightState) -> bytes:
    """The stand-in state root every node must compute alike."""
    return tagged_hash(b"simulated state", state.previous_hash)


class SimNode:
    """One instance of a node; twins are two instances with one key.

    Args:
        sim: the run.
        index: the instance's number.
        key: the number of its key.
    """

    engine_class: type[TbftEngine] = TbftEngine

    def __init__(self, sim: Simulation, index: int, key: int) -> None:
        self.sim = sim
        self.index = index
        self.signer = SimSigner(key)
        self.address = address_of(self.signer.public_key)
        self.disk = SimDisk()
        self.alive = False
        self.incarnation = 0
        self.skew_ms = 0
        self.start()

    # --- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, or restart from what the disk holds."""
        self.alive = True
        self.incarnation += 1
        self.pool: dict[bytes, bytes] = {}
        self.side_bodies: dict[bytes, bytes] = {}
        self.validating: dict[bytes, tuple[Block, bytes]] = {}
        self.inbox: deque[Event] = deque()
        self.effects: deque[Effect] = deque()
        self.busy = False
        self.sync_height = 0
        self.state = self.sim.genesis
        self.committed_wids: set[bytes] = set()
        for block, certificate in self.disk.blocks:
            self.state = self.advance(block, certificate)
            self.committed_wids.update(block.wids)
        self.engine = self.engine_class(
            self.sim.config, self.state, self.signer, self.sim.verify_batch, self.remembered()
        )
        self.replay()
        self.post(Start(self.now_ms))
        self.after(STATUS_INTERVAL_MS, self._on_status_timer)

    def advance(self, block: Block, certificate: CommitCertificate) -> HeightState:
        """The next height's state after a block and the certificate this node has of it."""
        return self.state.advance(block, certificate)

    def remembered(self) -> Place | None:
        """What the signer's own file says."""
        return self.disk.signed

    def replay(self) -> None:
        """Open the consensus log, cut its torn tail, restore the engine."""
        log = decode_records(self.disk.wal)
        self.disk.cut_wal(log.valid_size_bytes)
        self.wal_hash = log.last_hash
        self.engine.replay(log.records)

    def crash(self) -> None:
        """Lose power: memory and unsynced bytes are gone."""
        self.alive = False
        self.disk.lose_power(self.sim.random)

    @property
    def now_ms(self) -> int:
        """This node's own clock."""
        return max(0, self.sim.now_ms + self.skew_ms)

    def after(self, delay_ms: int, action: object) -> None:
        """Schedule a method of this incarnation; it dies with a crash."""
        incarnation = self.incarnation

        def run() -> None:
            if self.alive and self.incarnation == incarnation:
                assert callable(action)
                action()

        self.sim.schedule(delay_ms, run)

    # --- events and effects -----------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Queue an event for the engine."""
        self.inbox.append(event)
        self.pump()

    def pump(self) -> None:
        """Carry out effects and feed events until something must be waited for."""
        while self.alive and not self.busy and (self.effects or self.inbox):
            if not self.effects:
                self._handle(self.inbox.popleft())
            elif not self.sim.crashes_now(self, isinstance(self.effects[0], Persist)):
                self.perform(self.effects.popleft())

    def _handle(self, event: Event) -> None:
        self.sim.note(self.index, type(event).__name__, self.engine.height, self.engine.round)
        if isinstance(event, BlockCommitted | BlockSynced):
            self.enter_height(event.state.height)
        try:
            self.effects.extend(self.engine.handle(event))
        except PeerFault:
            self.sim.peer_faults += 1

    def enter_height(self, height: int) -> None:
        """Cut the consensus log below a height that the engine really enters."""
        if height > self.engine.height and len(self.disk.wal) > WAL_PRUNE_SIZE_BYTES:
            kept, self.wal_hash = prune_records(self.disk.wal, height)
            self.disk.replace_wal(kept)

    def perform(self, effect: Effect) -> None:
        """Carry out one effect."""
        match effect:
            case Persist():
                self.persist(effect)
            case Broadcast():
                self.broadcast(effect.message)
            case Send():
                self.sim.send(self, effect.peer, effect.message)
            case SetTimer():
                self.set_timer(effect.timer, effect.delay_ms)
            case BuildProposal():
                delay_ms = self.sim.random.randint(1, 20)
                self.after(delay_ms, lambda: self._build(effect))
            case ValidateBlock():
                self.validating[effect.block.hash()] = (effect.block, effect.source)
                self._try_validate(effect.block.hash(), 0)
            case CommitBlock():
                self.commit(effect)
            case RecordEvidence():
                self.sim.invariants.accused(effect.evidence)
            case PeerBehind():
                self.sim.send(self, effect.peer, Status(len(self.disk.blocks)))
            case SyncNeeded():
                self.sim.send(self, effect.peer, BlockRequest(self.state.height))

    def persist(self, effect: Persist) -> None:
        """Append, sync, remember what was signed, and only then go on."""
        data, self.wal_hash = encode_records(effect.records, self.wal_hash)
        self.disk.append_wal(data)

        def synced() -> None:
            self.disk.sync_wal()
            if effect.signed is not None:
                self.disk.sign(effect.signed.place)

        self.wait_for_disk(synced)

    def wait_for_disk(self, sync: object) -> None:
        """Hold everything back until a sync is done."""
        self.busy = True

        def synced() -> None:
            assert callable(sync)
            sync()
            self.busy = False
            self.pump()

        self.after(self.sim.sync_ms(), synced)

    def broadcast(self, message: ConsensusMessage) -> None:
        """One message to every other validator."""
        for address in self.sim.addresses:
            if address != self.address:
                self.sim.send(self, address, message)

    def set_timer(self, timer: Timer, delay_ms: int) -> None:
        """Put a timer on the virtual clock."""
        self.after(delay_ms, lambda: self.post(TimeoutFired(self.now_ms, timer)))

    def commit(self, effect: CommitBlock) -> None:
        """Store a decided block durably, then tell everyone."""
        if effect.block.height != len(self.disk.blocks) + 1:
            return
        self.disk.put_block(effect.block, effect.certificate)

        def stored() -> None:
            self.disk.sync_blocks()
            self.applied(effect.block, effect.certificate)
            self.post(BlockCommitted(self.now_ms, self.state))
            self.after(BLOCK_INTERVAL_MS, self.offer_work)

        self.wait_for_disk(stored)

    def applied(self, block: Block, certificate: CommitCertificate) -> None:
        """A block is durable here."""
        self.sim.invariants.committed(self.index, block, certificate, self.disk)
        self.sim.note(self.index, "commit " + block.hash().hex()[:16], block.height, 0)
        self.state = self.advance(block, certificate)
        self.sim.invariants.same_turns(self.index, self.state)
        self.committed_wids.update(block.wids)
        for wid in block.wids:
            self.pool.pop(wid, None)
        self.validating = {}
        self.side_bodies = {}

    def offer_work(self) -> None:
        """Tell the engine about waiting transactions."""
        if self.pool:
            self.post(WorkAvailable(self.now_ms))

    # --- blocks and bodies ------------------------------------------------------------------------

    def _build(self, request: BuildProposal) -> None:
        if request.height != self.state.height:
            return
        wids = tuple(list(self.pool)[:BLOCK_TX_CAP])
        block = self.assemble(request, wids)
        self.post(ProposalBuilt(self.now_ms, request.height, request.round, block))

    def assemble(self, request: BuildProposal, wids: tuple[bytes, ...]) -> Block:
        """A block with the engine's fields and this application's results."""
        root = result_root(self.state)
        header = BlockHeader(
            version=HEADER_VERSION,
            chain_id=self.sim.config.chain_id,
            height=request.height,
            previous_hash=request.previous_hash,
            timestamp_ms=request.timestamp_ms,
            tx_root=merkle_root(wids),
            tx_count=len(wids),
            engine=request.engine,
            engine_epoch=request.engine_epoch,
            validators_hash=request.validators_hash,
            next_validators_hash=request.next_validators_hash,
            architecture=_ARCHITECTURE,
            proposer=request.proposer,
            last_commit_hash=request.last_commit.hash(),
            evidence_hash=evidence_root(request.evidence),
            exec_height=request.height - 1,
            state_root=root,
            receipts_root=root,
            results_accumulator=root,
        )
        return Block(header, request.last_commit, request.evidence, wids)

    def held_body(self, wid: bytes) -> bytes | None:
        """A body from the pool, the side store or the disk."""
        return self.pool.get(wid) or self.side_bodies.get(wid) or self.disk.bodies.get(wid)

    def _missing(self, block: Block) -> tuple[bytes, ...]:
        return tuple(wid for wid in block.wids if self.held_body(wid) is None)

    def _try_validate(self, block_hash: bytes, attempt: int) -> None:
        entry = self.validating.get(block_hash)
        if entry is None:
            return
        block, source = entry
        if missing := self._missing(block):
            peers = [source, *self.sim.addresses]
            self.sim.send(self, peers[attempt % len(peers)], BodyRequest(missing))
            self.after(BODY_RETRY_MS, lambda: self._try_validate(block_hash, attempt + 1))
            return
        del self.validating[block_hash]
        root = result_root(self.state)
        header = block.header
        known = all(found == root for found in (header.state_root, header.receipts_root))
        repeats = any(wid in self.committed_wids for wid in block.wids)
        if not known or repeats:
            reason = "results differ" if not known else "a transaction repeats"
            self.post(BlockValidated(self.now_ms, block_hash, False, reason))
            return
        self.store_bodies(block)

        def synced() -> None:
            self.disk.sync_bodies()
            self.post(BlockValidated(self.now_ms, block_hash, True))

        self.after(self.sim.sync_ms(), synced)

    def store_bodies(self, block: Block) -> None:
        """Write a block's bodies to disk, not yet synced."""
        bodies = {wid: self.held_body(wid) for wid in block.wids}
        self.disk.put_bodies({wid: body for wid, body in bodies.items() if body is not None})

    # --- the driver's own messages -------------------------------------------------------------

    def receive(self, peer: bytes, message: SimMessage) -> None:
        """A message has arrived."""
        match message:
            case TxGossip():
                self.submit(message.body)
            case BodyRequest():
                held = [self.held_body(wid) for wid in message.wids]
                found = tuple(body for body in held if body is not None)
                self.sim.send(self, peer, Bodies(found))
            case Bodies():
                self.side_bodies.update((wid_of(body), body) for body in message.bodies)
                for block_hash, (block, _) in list(self.validating.items()):
                    if not self._missing(block):
                        self._try_validate(block_hash, 0)
            case Status():
                if message.height >= self.state.height:
                    self.sim.send(self, peer, BlockRequest(self.state.height))
            case BlockRequest():
                self._answer_blocks(peer, message.from_height)
            case Blocks():
                self._sync(message)
            case _:
                self.post(MessageReceived(self.now_ms, peer, message))

    def submit(self, body: bytes) -> None:
        """A transaction reaches this node's pool."""
        wid = wid_of(body)
        if wid not in self.committed_wids and wid not in self.pool:
            self.pool[wid] = body
            self.offer_work()

    def _on_status_timer(self) -> None:
        for address in self.sim.addresses:
            if address != self.address:
                self.sim.send(self, address, Status(len(self.disk.blocks)))
        self.offer_work()
        self.after(STATUS_INTERVAL_MS, self._on_status_timer)

    def _answer_blocks(self, peer: bytes, from_height: int) -> None:
        end = from_height - 1 + BLOCKS_PER_ANSWER
        answer = tuple(
            (block, certificate, tuple(self.disk.bodies[wid] for wid in block.wids))
            for block, certificate in self.disk.blocks[max(0, from_height - 1) : end]
        )
        if answer:
            self.sim.send(self, peer, Blocks(answer))

    def _sync(self, message: Blocks) -> None:
        if self.busy or self.sync_height == self.state.height:
            return
        for block, certificate, bodies in message.blocks:
            if block.height == self.state.height:
                self._store_synced(block, certificate, bodies)
                return

    def _store_synced(
        self, block: Block, certificate: CommitCertificate, bodies: tuple[bytes, ...]
    ) -> None:
        state = self.state
        by_wid = {wid_of(body): body for body in bodies}
        complete = all(wid in by_wid for wid in block.wids)
        place = (certificate.height, certificate.block_hash)
        if not complete or place != (state.height, block.hash()):
            return
        state.validators.verify_certificate(
            self.sim.config.chain_id, certificate, self.sim.verify_batch
        )
        self.sync_height = state.height
        self.disk.put_bodies(by_wid)
        self.disk.put_block(block, certificate)

        def stored() -> None:
            if len(self.disk.blocks) + 1 != block.height:
                return
            self.disk.sync_bodies()
            self.disk.sync_blocks()
            self.applied(block, certificate)
            self.post(BlockSynced(self.now_ms, self.state))
            self.sim.send(self, self.sim.addresses[0], BlockRequest(self.state.height))
            self.offer_work()

        self.wait_for_disk(stored)
