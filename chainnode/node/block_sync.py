"""Catching up: committed blocks from peers, each judged by its certificate alone."""

from __future__ import annotations

import asyncio
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
                except (PeerFault, ClientFault, DecodeError, grpc.aio.AioRpcError) as error:
                    self._claims.pop(peer, None)
                    self._log.warning("sync_failed", reason=_reason(error))
                    await asyncio.sleep(RETRY_SECONDS)

    def _take_claim(self, peer: bytes, height: int) -> None:
        if height > self._chain.tip.height and peer in self._peers.links:
            self._claims[peer] = max(height, self._claims.get(peer, 0))
            self._wake.set()

    def _best_peer(self) -> bytes | None:
        height = self._chain.tip.height
        self._claims = {peer: at for peer, at in self._claims.items() if at > height}
        return max(self._claims, key=lambda peer: (self._claims[peer], peer), default=None)

    async def _fetch(self, peer: bytes) -> None:
        start = self._chain.tip.height + 1
        async for data in self._peers.blocks(peer, start, SYNC_BLOCKS_PER_REQUEST_MAX):
            await self._take(peer_pb2.CommittedBlock.FromString(data))
        if self._chain.tip.height < start:
            # The claim was empty, or consensus got there first.
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
            pool.add_bodies(batch)
            return pool.bodies(block.wids)
        except (ValueError, KeyError):
            raise PeerFault("SYNC_BLOCK_WRONG", "A peer's bodies are of another block.") from None


def _reason(error: Exception) -> str:
    return error.code().name if isinstance(error, grpc.aio.AioRpcError) else str(error)
