"""The way into the pool: from clients with a verdict each, from peers in bulk, and on to peers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from google.protobuf.message import DecodeError

from chainnode import _native
from chainnode._proto import node_pb2, types_pb2
from chainnode.node.directory import MemberDirectory
from chainnode.node.metrics import Metrics
from chainnode.types.errors import ClientFault
from chainnode.types.limits import (
    GOSSIP_QUEUE_SIZE_MAX_BYTES,
    SUBMIT_BATCH_TRANSACTIONS_MAX,
)

Answer = TypeVar("Answer")

GOSSIP_DELAY_SECONDS = 0.004
GOSSIP_QUEUE_BATCHES_MAX = 1_024
_VERDICTS: dict[int, str] = {number: name for name, number in node_pb2.Admission.items()}


class Admission:
    """Checks signatures off the event loop and passes on what was accepted.

    Args:
        pool: the native pool.
        directory: an unknown sender is refused before it costs a place in a block.
        height: the last committed height, asked for at every batch.
        metrics: verdicts.
    """

    def __init__(
        self,
        pool: _native.TxPool,
        directory: MemberDirectory,
        height: Callable[[], int],
        metrics: Metrics,
    ) -> None:
        self._pool = pool
        self._directory = directory
        self._height = height
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="verify")
        self._from_peers: asyncio.Queue[bytes] = asyncio.Queue(GOSSIP_QUEUE_BATCHES_MAX)
        self._from_peers_size_bytes = 0
        self._fresh: list[bytes] = []
        self._gossip: Callable[[bytes], None] = lambda batch: None
        self._arrived: Callable[[], None] = lambda: None

    def connect(self, gossip: Callable[[bytes], None], arrived: Callable[[], None]) -> None:
        """Where accepted batches go, and whom to tell that there is something new."""
        self._gossip = gossip
        self._arrived = arrived

    async def submit(self, batch: bytes) -> node_pb2.SubmitResponse:
        """A client's batch; one verdict per transaction, in order.

        Raises:
            ClientFault: MALFORMED, BATCH_TOO_LARGE.
        """
        strangers = self._strangers(batch)
        codes, tx_ids, fresh = await self._add(strangers.kept)
        if strangers.refused:
            codes, tx_ids = strangers.merge(codes, tx_ids)
        for code, count in Counter(codes).items():
            self._metrics.admissions.labels(_VERDICTS.get(code, str(code))).inc(count)
        if fresh:
            self._pass_on(fresh)
            self._arrived()
        response = node_pb2.SubmitResponse(tx_ids=tx_ids)
        response.admissions.extend(list(codes))  # type: ignore[arg-type]
        return response

    def from_peer(self, batch: bytes) -> None:
        """A peer's batch, later; dropped when too many wait (bodies can be asked for)."""
        size_bytes = self._from_peers_size_bytes + len(batch)
        if not self._from_peers.full() and size_bytes <= GOSSIP_QUEUE_SIZE_MAX_BYTES:
            self._from_peers_size_bytes = size_bytes
            self._from_peers.put_nowait(batch)

    async def bodies(self, batch: bytes, wanted: list[bytes]) -> None:
        """Those bodies of a batch that a proposal needs, at once."""
        await self._in_thread(self._pool.add_bodies, batch, wanted)
        self._arrived()

    async def run(self) -> None:
        """Take in peers' batches until cancelled; what waits together is checked together."""
        while True:
            parts = [await self._from_peers.get()]
            while not self._from_peers.empty() and len(parts) < 64:
                parts.append(self._from_peers.get_nowait())
            self._from_peers_size_bytes -= sum(map(len, parts))
            # Encoded repeated fields concatenate.
            if not await self._take_in(b"".join(parts)) and len(parts) > 1:
                for part in parts:
                    await self._take_in(part)
            self._arrived()

    def close(self) -> None:
        """Finish the batch in hand."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _take_in(self, batch: bytes) -> bool:
        try:
            await self._in_thread(self._pool.add, batch, self._height())
        except ValueError:
            self._metrics.peer_faults.labels("BATCH_MALFORMED").inc()
            return False
        return True

    async def _add(self, batch: bytes) -> tuple[bytes, list[bytes], bytes]:
        if not batch:
            return b"", [], b""
        try:
            admissions = await self._in_thread(self._pool.add, batch, self._height())
        except ValueError:
            raise _malformed() from None
        return admissions.codes, admissions.tx_ids, admissions.fresh

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

    def _strangers(self, batch: bytes) -> _Strangers:
        try:
            transactions = types_pb2.TransactionBatch.FromString(batch).transactions
            senders = [_sender(transaction) for transaction in transactions]
        except DecodeError:
            raise _malformed() from None
        if len(transactions) > SUBMIT_BATCH_TRANSACTIONS_MAX:
            raise ClientFault(
                "BATCH_TOO_LARGE",
                f"A batch has at most {SUBMIT_BATCH_TRANSACTIONS_MAX} transactions.",
                subject=str(len(transactions)),
                fix="send several smaller batches",
            )
        if self._directory.knows(set(senders)):
            return _Strangers(batch, [])
        refused = [not self._directory.knows([sender]) for sender in senders]
        kept = types_pb2.TransactionBatch(
            transactions=[
                transaction
                for transaction, unknown in zip(transactions, refused, strict=True)
                if not unknown
            ]
        )
        return _Strangers(kept.SerializeToString(deterministic=True), refused)


class _Strangers:
    """A batch without the transactions of unknown senders, and where those were."""

    def __init__(self, kept: bytes, refused: list[bool]) -> None:
        self.kept = kept
        self.refused = refused

    def merge(self, codes: bytes, tx_ids: list[bytes]) -> tuple[bytes, list[bytes]]:
        """Verdicts of the whole batch, in its order."""
        known = iter(zip(codes, tx_ids, strict=True))
        verdicts = [
            (node_pb2.ADMISSION_UNKNOWN_MEMBER, b"") if refused else next(known)
            for refused in self.refused
        ]
        return bytes([code for code, _ in verdicts]), [tx_id for _, tx_id in verdicts]


def _sender(transaction: bytes) -> bytes:
    return types_pb2.Transaction.FromString(transaction).payload.sender


def _malformed() -> ClientFault:
    return ClientFault(
        "MALFORMED", "The batch is no TransactionBatch.", fix="send canonical protobuf"
    )
