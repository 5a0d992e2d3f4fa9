"""One outgoing stream to one peer: consensus first, then transactions, nothing without bound."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from chainnode._proto import peer_pb2
from chainnode.network.tls import TlsMaterial, client_channel
from chainnode.types.limits import PEER_QUEUE_MESSAGES_MAX, PEER_QUEUE_SIZE_MAX_BYTES

_MESSAGES = "/chainnode.v1.Peer/Messages"
_BLOCKS = "/chainnode.v1.Peer/Blocks"
_BACKOFF_FIRST_SECONDS = 0.1
_BACKOFF_MAX_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class PeerEndpoint:
    """Where a validator listens.

    Args:
        name: for people and logs, organisation/name.
        validator: its address on the chain.
        endpoint: host:port.
        server_name: the name its TLS certificate carries.
    """

    name: str
    validator: bytes
    endpoint: str
    server_name: str


class PeerLink:
    """Sends to one peer and reconnects for ever, from 0.1 s up to 1 s apart.

    A full queue drops the oldest message of the same class: consensus repeats its votes by gossip,
    transactions can be asked for by wid.

    Args:
        peer: who and where.
        material: this node's TLS identity.
        greeting: the messages that start every new stream.
    """

    def __init__(
        self,
        peer: PeerEndpoint,
        material: TlsMaterial,
        greeting: Callable[[], list[bytes]],
    ) -> None:
        self.peer = peer
        self.connected = False
        self.dropped = 0
        self._greeting = greeting
        self._channel = client_channel(peer.endpoint, material, peer.server_name)
        self._urgent: deque[bytes] = deque()
        self._urgent_size_bytes = 0
        self._bulk: deque[bytes] = deque()
        self._bulk_size_bytes = 0
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("peer").bind(peer=peer.name)

    def start(self) -> None:
        """Begin connecting, in the background."""
        self._task = asyncio.create_task(self._run(), name=f"link-{self.peer.name}")

    def send(self, data: bytes) -> None:
        """Queue a consensus or status message, or bodies; the oldest go when there are too many."""
        self._urgent.append(data)
        self._urgent_size_bytes += len(data)
        while (
            len(self._urgent) > PEER_QUEUE_MESSAGES_MAX
            or self._urgent_size_bytes > PEER_QUEUE_SIZE_MAX_BYTES
        ):
            self._urgent_size_bytes -= len(self._urgent.popleft())
            self.dropped += 1
        self._ready.set()

    def send_bulk(self, data: bytes) -> None:
        """Queue a transaction batch, behind every consensus message."""
        self._bulk.append(data)
        self._bulk_size_bytes += len(data)
        while self._bulk_size_bytes > PEER_QUEUE_SIZE_MAX_BYTES:
            self._bulk_size_bytes -= len(self._bulk.popleft())
            self.dropped += 1
        self._ready.set()

    async def blocks(
        self, request: peer_pb2.BlockRangeRequest, timeout_seconds: float
    ) -> AsyncIterator[bytes]:
        """Stream committed blocks from the peer, each an encoded CommittedBlock."""
        method: Any = self._channel.unary_stream(
            _BLOCKS, request_serializer=peer_pb2.BlockRangeRequest.SerializeToString
        )
        async for data in method(request, timeout=timeout_seconds):
            yield data

    async def close(self) -> None:
        """Stop and close the channel."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close()

    async def _run(self) -> None:
        backoff = _BACKOFF_FIRST_SECONDS
        while True:
            try:
                await asyncio.wait_for(self._channel.channel_ready(), 5)
                backoff = _BACKOFF_FIRST_SECONDS
                await self._stream()
            except (grpc.aio.AioRpcError, TimeoutError, asyncio.InvalidStateError) as error:
                self._log.info("peer_unreachable", reason=_reason(error))
            finally:
                self.connected = False
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, _BACKOFF_MAX_SECONDS)

    async def _stream(self) -> None:
        call: Any = self._channel.stream_unary(_MESSAGES)()
        self._urgent.clear()
        self._urgent_size_bytes = 0
        try:
            for greeting in self._greeting():
                await call.write(greeting)
            self.connected = True
            self._log.info("peer_connected")
            ending = asyncio.ensure_future(_ended(call))
            try:
                while not ending.done():
                    await self._write_queued(call, ending)
            finally:
                ending.cancel()
            raise TimeoutError
        finally:
            call.cancel()

    async def _write_queued(
        self, call: grpc.aio.StreamUnaryCall[bytes, bytes], ending: asyncio.Future[None]
    ) -> None:
        while self._urgent or self._bulk:
            if self._urgent:
                data = self._urgent.popleft()
                self._urgent_size_bytes -= len(data)
            else:
                data = self._bulk.popleft()
                self._bulk_size_bytes -= len(data)
            await call.write(data)
        self._ready.clear()
        waiting = asyncio.ensure_future(self._ready.wait())
        await asyncio.wait((waiting, ending), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()


async def _ended(call: grpc.aio.StreamUnaryCall[bytes, bytes]) -> None:
    await call.wait_for_connection()
    await call.code()


def _reason(error: BaseException) -> str:
    return error.code().name if isinstance(error, grpc.aio.AioRpcError) else type(error).__name__
