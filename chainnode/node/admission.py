"""The way into the pool: from clients with a verdict each, from peers in bulk, and on to peers."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from chainnode import _native
from chainnode._proto import node_pb2
from chainnode.node.metrics import Metrics
from chainnode.types.errors import ClientFault
from chainnode.types.limits import (
    GOSSIP_BATCH_TRANSACTIONS_MAX,
    GOSSIP_QUEUE_BATCHES_MAX,
    GOSSIP_QUEUE_SIZE_MAX_BYTES,
    SUBMIT_BATCH_TRANSACTIONS_MAX,
)

Answer = TypeVar("Answer")

GOSSIP_DELAY_SECONDS = 0.004
# Of clients and of peers each. Bodies that a proposal waits for wait behind one such turn.
TURN_TRANSACTIONS = 1_024
_VERDICTS: dict[int, str] = {number: name for name, number in node_pb2.Admission.items()}


@dataclass(frozen=True, slots=True)
class _Batch:
    data: bytes
    count: int


@dataclass(frozen=True, slots=True)
class _Submission(_Batch):
    answer: asyncio.Future[bytes]


Waiting = TypeVar("Waiting", bound=_Batch)


class Admission:
    """Checks signatures off the event loop and passes on what was accepted.

    What waits together is checked together: larger batches cost less a signature, and the pool
    shares them among its threads.

    Args:
        pool: the native pool; it knows the members.
        height: the last committed height, asked for at every turn.
        metrics: verdicts.
    """

    def __init__(self, pool: _native.TxPool, height: Callable[[], int], metrics: Metrics) -> None:
        self._pool = pool
        self._height = height
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="verify")
        self._clients: deque[_Submission] = deque()
        self._peers: deque[_Batch] = deque()
        self._peers_size_bytes = 0
        self._waiting = asyncio.Event()
        self._fresh: list[bytes] = []
        self._gossip: Callable[[bytes], None] = lambda batch: None
        self._arrived: Callable[[], None] = lambda: None

    def connect(self, gossip: Callable[[bytes], None], arrived: Callable[[], None]) -> None:
        """Where accepted batches go, and whom to tell that there is something new."""
        self._gossip = gossip
        self._arrived = arrived

    async def submit(self, batch: bytes) -> bytes:
        """A client's batch; an encoded SubmitResponse, one verdict per transaction, in order.

        Raises:
            ClientFault: MALFORMED, BATCH_TOO_LARGE.
        """
        try:
            count = _native.count_transactions(batch)
        except ValueError:
            raise ClientFault(
                "MALFORMED", "The batch is no TransactionBatch.", fix="send canonical protobuf"
            ) from None
        if count > SUBMIT_BATCH_TRANSACTIONS_MAX:
            raise ClientFault(
                "BATCH_TOO_LARGE",
                f"A batch has at most {SUBMIT_BATCH_TRANSACTIONS_MAX} transactions.",
                subject=str(count),
                fix="send several smaller batches",
            )
        if count == 0:
            return b""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._clients.append(_Submission(batch, count, answer))
        self._waiting.set()
        return await answer

    def from_peer(self, batch: bytes) -> None:
        """A peer's batch, later; dropped when too many wait (bodies can be asked for)."""
        try:
            count = _native.count_transactions(batch)
        except ValueError:
            self._metrics.peer_faults.labels("BATCH_MALFORMED").inc()
            return
        if count > GOSSIP_BATCH_TRANSACTIONS_MAX:
            self._metrics.peer_faults.labels("BATCH_TOO_LARGE").inc()
            return
        size_bytes = self._peers_size_bytes + len(batch)
        if (
            len(self._peers) < GOSSIP_QUEUE_BATCHES_MAX
            and size_bytes <= GOSSIP_QUEUE_SIZE_MAX_BYTES
        ):
            self._peers_size_bytes = size_bytes
            self._peers.append(_Batch(batch, count))
            self._waiting.set()

    async def bodies(self, batch: bytes, wanted: list[bytes]) -> None:
        """Those bodies of a batch that a proposal needs, at once."""
        await self._in_thread(self._pool.add_bodies, batch, wanted)
        self._arrived()

    async def run(self) -> None:
        """Take in what clients and peers send until cancelled."""
        try:
            while True:
                await self._waiting.wait()
                self._waiting.clear()
                while self._clients or self._peers:
                    await self._take_in(_turn(self._clients), _turn(self._peers))
        finally:
            for submission in self._clients:
                submission.answer.cancel()

    def close(self) -> None:
        """Finish the batch in hand."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _take_in(self, clients: Sequence[_Submission], peers: Sequence[_Batch]) -> None:
        self._peers_size_bytes -= sum(len(item.data) for item in peers)
        submitted = sum(item.count for item in clients)
        # Encoded repeated fields concatenate.
        batch = b"".join([item.data for item in (*clients, *peers)])
        try:
            admissions = await self._in_thread(self._pool.add, batch, self._height(), submitted)
        except BaseException:
            for item in clients:
                item.answer.cancel()
            raise
        start = 0
        for item in clients:
            if not item.answer.done():
                item.answer.set_result(admissions.response(start, item.count))
            start += item.count
        for code, count in Counter(admissions.codes[:submitted]).items():
            self._metrics.admissions.labels(_VERDICTS.get(code, str(code))).inc(count)
        fresh = admissions.fresh
        if fresh:
            self._pass_on(fresh)
        self._arrived()

    async def _in_thread(self, function: Callable[..., Answer], *args: object) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    def _pass_on(self, fresh: bytes) -> None:
        if not self._fresh:
            asyncio.get_running_loop().call_later(GOSSIP_DELAY_SECONDS, self._flush)
        self._fresh.append(fresh)

    def _flush(self) -> None:
        batch = b"".join(self._fresh)
        self._fresh.clear()
        self._gossip(batch)


def _turn(waiting: deque[Waiting]) -> list[Waiting]:
    """The first of what waits, as many as are checked in one turn; at least one."""
    taken: list[Waiting] = []
    count = 0
    while waiting and (not taken or count + waiting[0].count <= TURN_TRANSACTIONS):
        taken.append(waiting.popleft())
        count += taken[-1].count
    return taken
