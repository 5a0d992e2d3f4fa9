"""Catching up: committed blocks from peers, each judged by its certificate alone."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import grpc
import structlog
from google.protobuf.message import DecodeError

from chainnode import _native
from chainnode._proto import peer_pb2
from chainnode.node.chain import Chain
from chainnode.node.peers import Peers
from chainnode.types.block import Block
from chainnode.types.codec import encode
from chainnode.types.errors import ClientFault, PeerFault
from chainnode.types.limits import SYNC_BLOCKS_PER_REQUEST_MAX
from chainnode.types.vote import CommitCertificate

EXECUTION_LAG_MAX_BLOCKS = 16
RETRY_SECONDS = 0.5
PATIENCE_SECONDS = 0.3
BLOCK_TIMEOUT_SECONDS = 5.0
SLOW_SECONDS_PER_BLOCK = 0.5
FAILURES_MAX = 8


class BlockSync:
    """Fetches blocks above the tip whenever a peer claims to have them.

    Args:
        chain_id: whose certificates count.
        chain: takes the blocks.
        peers: give them.
        moved: called after the tip has moved.
    """

    def __init__(
        self, chain_id: str, chain: Chain, peers: Peers, moved: Callable[[], None]
    ) -> None:
        self._chain_id = chain_id
        self._chain = chain
        self._peers = peers
        self._moved = moved
        self._claims: dict[bytes, int] = {}
        self._failures: Counter[bytes] = Counter()
        self._wake = asyncio.Event()
        self._log = structlog.get_logger("sync")

    def behind(self, peer: bytes, height: int) -> None:
        """A peer claims to have committed `height`."""
        if height == self._chain.tip.height + 1:
            # Consensus is usually about to commit it here too.
            asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._take_claim, peer, height)
        else:
            self._take_claim(peer, height)

    async def run(self) -> None:
        """Catch up whenever woken, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (peer := self._best_peer()) is not None:
                try:
                    await self._fetch(peer)
                except SYNC_FAILURES as error:
                    self._claims.pop(peer, None)
                    self._judge(peer, good=False)
                    self._log.warning("sync_failed", reason=_reason(error))
                    await asyncio.sleep(RETRY_SECONDS)

    def _take_claim(self, peer: bytes, height: int) -> None:
        if height > self._chain.tip.height and peer in self._peers.links:
            self._claims[peer] = max(height, self._claims.get(peer, 0))
            self._wake.set()

    def _best_peer(self) -> bytes | None:
        height = self._chain.tip.height
        self._claims = {peer: at for peer, at in self._claims.items() if at > height}
        # Not the highest claim: a liar's would be the highest for ever.
        return min(
            self._claims,
            key=lambda peer: (self._failures[peer], -self._claims[peer], peer),
            default=None,
        )

    def _judge(self, peer: bytes, *, good: bool) -> None:
        change = -1 if good else 1
        self._failures[peer] = min(FAILURES_MAX, max(0, self._failures[peer] + change))

    async def _fetch(self, peer: bytes) -> None:
        start = self._chain.tip.height + 1
        waited_seconds = 0.0
        blocks = aiter(self._peers.blocks(peer, start, SYNC_BLOCKS_PER_REQUEST_MAX))
        while True:
            asked_at = time.monotonic()
            data = await asyncio.wait_for(anext(blocks, None), BLOCK_TIMEOUT_SECONDS)
            waited_seconds += time.monotonic() - asked_at
            if data is None:
                break
            await self._take(peer_pb2.CommittedBlock.FromString(data))
        taken = self._chain.tip.height + 1 - start
        # One that drips would keep this node behind: the others come first from now on.
        slow = waited_seconds > 1 + SLOW_SECONDS_PER_BLOCK * taken
        self._judge(peer, good=taken > 0 and not slow)
        if taken == 0:
            self._claims.pop(peer, None)
            return
        self._log.info("synced", height=self._chain.tip.height)
        self._moved()

    async def _take(self, message: peer_pb2.CommittedBlock) -> None:
        tip = self._chain.tip
        block = Block.from_proto(message.block)
        if block.height <= tip.height:
            return
        certificate = CommitCertificate.from_proto(message.certificate)
        block_hash = block.hash()
        expected = (tip.height + 1, tip.block_hash)
        if (block.height, block.header.previous_hash) != expected:
            raise PeerFault("SYNC_BLOCK_WRONG", "A peer's block does not follow ours.")
        if (certificate.height, certificate.block_hash) != (block.height, block_hash):
            raise PeerFault("SYNC_BLOCK_WRONG", "A peer's certificate is of another block.")
        tip.validators.verify_certificate(self._chain_id, certificate, _native.verify_ed25519_batch)
        batch = await asyncio.to_thread(self._bodies, block, encode(message.body))
        await self._chain.keep_body(block, block_hash, batch)
        await self._chain.commit(block, block_hash, certificate)
        await self._chain.pipeline.results(max(0, block.height - EXECUTION_LAG_MAX_BLOCKS))

    def _bodies(self, block: Block, batch: bytes) -> bytes:
        pool = self._chain.pool
        try:
            pool.add_bodies(batch, block.wids)
            return pool.bodies(block.wids)
        except (ValueError, KeyError):
            raise PeerFault("SYNC_BLOCK_WRONG", "A peer's bodies are of another block.") from None


SYNC_FAILURES = (PeerFault, ClientFault, DecodeError, grpc.aio.AioRpcError, TimeoutError)


def _reason(error: Exception) -> str:
    return error.code().name if isinstance(error, grpc.aio.AioRpcError) else str(error)
