"""The consensus driver: one event at a time into the engine, its effects out in order.

Persist, then send, then the rest: a vote leaves only after the record of it is on the disk.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Protocol

import structlog

from chainnode.consensus.interface import (
    BlockCommitted,
    BlockSynced,
    BlockValidated,
    Broadcast,
    BuildProposal,
    CommitBlock,
    ConsensusMessage,
    Effect,
    Engine,
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
    ValidateBlock,
    WorkAvailable,
)
from chainnode.consensus.signer import Signed
from chainnode.consensus.wal import CHAIN_START, decode_records, encode_records, prune_records
from chainnode.ledger.signer_file import SignerFile
from chainnode.ledger.wal_file import WalFile
from chainnode.node.application import Application
from chainnode.node.chain import Chain
from chainnode.node.disk import Disk
from chainnode.node.metrics import Metrics
from chainnode.node.peers import Peers
from chainnode.types.errors import PeerFault
from chainnode.types.limits import MEBI, PEER_EVENT_WIDS, PEER_EVENTS_MAX
from chainnode.types.vote import Proposal

WAL_PRUNE_SIZE_BYTES = 8 * MEBI
EVENTS_RETRY_SECONDS = 0.01


class SyncRequests(Protocol):
    """Block sync as the driver sees it."""

    def behind(self, peer: bytes, height: int) -> None:
        """A peer claims a height above ours."""


class Driver:
    """Feeds one engine and carries out its effects.

    Args:
        engine: at the height above the chain's tip, not started.
        wal: its log.
        signer: remembers what its key signed.
        application: builds and judges blocks.
        chain: commits them.
        peers: carry messages.
        disk: the thread of synced appends.
        metrics: round, faults, evidence.
    """

    def __init__(
        self,
        engine: Engine,
        wal: WalFile,
        signer: SignerFile,
        application: Application,
        chain: Chain,
        peers: Peers,
        disk: Disk,
        metrics: Metrics,
    ) -> None:
        self._engine = engine
        self._wal = wal
        self._signer = signer
        self._last_hash = CHAIN_START
        self._application = application
        self._chain = chain
        self._peers = peers
        self._disk = disk
        self._metrics = metrics
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._waiting: Counter[bytes] = Counter()
        self._tasks: dict[asyncio.Task[None], int] = {}
        self._sync: SyncRequests | None = None
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log = structlog.get_logger("consensus")

    def connect(self, sync: SyncRequests) -> None:
        """Whom to tell that peers are ahead."""
        self._sync = sync

    # --- incoming ---------------------------------------------------------------------------------

    async def received(self, peer: bytes, message: ConsensusMessage) -> None:
        """A consensus message of a peer; its own full share slows that peer's stream down."""
        while self._waiting[peer] >= PEER_EVENTS_MAX:
            await asyncio.sleep(EVENTS_RETRY_SECONDS)
        self._waiting[peer] += _weight(message)
        self._events.put_nowait(MessageReceived(now_ms(), peer, message))

    def peer_height(self, peer: bytes, height: int) -> None:
        """A peer's claim about its committed height."""
        if self._sync is not None and height > self._chain.tip.height:
            self._sync.behind(peer, height)
        elif height < self._chain.tip.height:
            self._peers.tell_height(peer)

    def position(self) -> tuple[int, int]:
        """(height, round) being decided."""
        return self._engine.height, self._engine.round

    def work_available(self) -> None:
        """This height should have a block."""
        self._events.put_nowait(WorkAvailable(now_ms()))

    def synced(self) -> None:
        """Block sync has moved the tip."""
        self._events.put_nowait(BlockSynced(now_ms(), self._chain.tip.state()))

    # --- the loop ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Drive until cancelled.

        Raises:
            InternalError: an invariant is broken or storage failed; the node stops.
        """
        decoded = decode_records(self._wal.contents())
        self._wal.cut(decoded.valid_size_bytes)
        self._last_hash = decoded.last_hash
        self._engine.replay(decoded.records)
        try:
            await self._deliver(Start(now_ms()))
            while True:
                await self._deliver(await self._next_event())
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _next_event(self) -> Event:
        if not self._failed.done() and not self._events.empty():
            return self._events.get_nowait()
        getting = asyncio.ensure_future(self._events.get())
        try:
            await asyncio.wait((getting, self._failed), return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
            return getting.result()
        finally:
            getting.cancel()

    async def _deliver(self, event: Event) -> None:
        if isinstance(event, BlockCommitted | BlockSynced):
            await self._enter_height(event.state.height)
        elif isinstance(event, MessageReceived):
            self._waiting[event.peer] -= _weight(event.message)
        try:
            effects = self._engine.handle(event)
        except PeerFault as fault:
            self._metrics.peer_faults.labels(fault.code).inc()
            self._log.warning("peer_fault", code=fault.code, subject=fault.subject)
            return
        for effect in effects:
            await self._carry_out(effect)
        self._metrics.round.set(self._engine.round)

    async def _enter_height(self, height: int) -> None:
        if height <= self._engine.height:
            # A stale event of block sync: it must not end what this height has begun.
            return
        for task, at in list(self._tasks.items()):
            if at < height:
                task.cancel()
        if self._wal.size_bytes > WAL_PRUNE_SIZE_BYTES:
            # Below this height every certificate is synced: the ledger guards those now.
            frames, self._last_hash = prune_records(self._wal.contents(), height)
            await self._disk.write(self._wal.replace, frames)

    async def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Persist():
                frames, self._last_hash = encode_records(effect.records, self._last_hash)
                await self._disk.write(self._make_durable, frames, effect.signed)
            case Send():
                self._peers.send(effect.peer, effect.message)
            case Broadcast():
                self._peers.broadcast(effect.message)
            case SetTimer():
                loop = asyncio.get_running_loop()
                loop.call_later(effect.delay_ms / 1_000, self._fire, effect.timer)
            case BuildProposal():
                self._spawn(effect.height, self._build(effect))
            case ValidateBlock():
                self._spawn(effect.block.height, self._validate(effect))
            case CommitBlock():
                await self._chain.commit(effect.block, effect.block.hash(), effect.certificate)
                self._events.put_nowait(BlockCommitted(now_ms(), self._chain.tip.state()))
            case RecordEvidence():
                self._metrics.evidence.inc()
                self._log.error("conflicting_votes", key=str(effect.evidence.key()))
            case PeerBehind():
                self._peers.tell_height(effect.peer)
            case SyncNeeded():
                if self._sync is not None:
                    self._sync.behind(effect.peer, effect.height - 1)

    def _make_durable(self, frames: bytes, signed: Signed | None) -> None:
        self._wal.append(frames)
        if signed is not None:
            self._signer.advance(signed.place, signed.digest)

    def _fire(self, timer: Timer) -> None:
        self._events.put_nowait(TimeoutFired(now_ms(), timer))

    async def _build(self, request: BuildProposal) -> None:
        block = await self._application.build(request)
        self._events.put_nowait(ProposalBuilt(now_ms(), request.height, request.round, block))

    async def _validate(self, request: ValidateBlock) -> None:
        verdict = await self._application.validate(request)
        if not verdict.valid:
            self._log.error("block_refused", height=request.block.height, reason=verdict.reason)
        self._events.put_nowait(
            BlockValidated(now_ms(), request.block.hash(), verdict.valid, verdict.reason)
        )

    def _spawn(self, height: int, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = height
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)


def _weight(message: ConsensusMessage) -> int:
    if isinstance(message, Proposal):
        return 1 + len(message.block.wids) // PEER_EVENT_WIDS
    return 1


def now_ms() -> int:
    """This machine's clock, the only one that consensus sees."""
    return time.time_ns() // 1_000_000
