"""What consensus asks of the node: build a block, judge a block.

Everything judged here follows from the chain alone, so that every correct node gives the same
verdict: architecture, limits and the results of earlier blocks. What a transaction does is never a
reason to refuse a block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chainnode._proto import types_pb2
from chainnode.consensus.interface import BuildProposal, ValidateBlock
from chainnode.node.chain import Chain
from chainnode.types.block import Architecture, Block, BlockHeader, evidence_root
from chainnode.types.codec import merkle_root

BODY_GRACE_SECONDS = 0.02
BODY_RETRY_SECONDS = 0.3


class ArchitectureSource(Protocol):
    """Decides the architecture of the next height from the chain below it."""

    def decide(self, height: int) -> Architecture:
        """The same on every node."""


class BodySource(Protocol):
    """Where missing bodies come from."""

    def request_bodies(self, peer: bytes, height: int, wids: Sequence[bytes]) -> None:
        """Ask one peer."""

    def forget_bodies(self, wids: Sequence[bytes]) -> None:
        """They are not needed any more."""

    def other_peers(self, peer: bytes) -> list[bytes]:
        """Connected peers other than `peer`."""

    async def arrived(self, timeout_seconds: float) -> None:
        """Return when any transactions have arrived, or after the timeout."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a block may be voted for, and if not, why."""

    valid: bool
    reason: str = ""


class Application:
    """Builds and judges blocks.

    Args:
        config: the chain's limits and execution depth.
        chain: tip, pool, ledger and execution results.
        architecture: the selector.
        bodies: the peers.
    """

    def __init__(
        self,
        config: types_pb2.ChainConfig,
        chain: Chain,
        architecture: ArchitectureSource,
        bodies: BodySource,
    ) -> None:
        self._config = config
        self._chain = chain
        self._architecture = architecture
        self._bodies = bodies

    async def build(self, request: BuildProposal) -> Block:
        """A block of the oldest pending transactions, with the results that are due."""
        architecture = self._architecture.decide(request.height)
        exec_height = self._exec_height(request.height)
        results = await self._chain.pipeline.results(exec_height)
        wids = self._chain.pool.propose(
            architecture.block_tx_cap, self._config.block_size_max_bytes
        )
        header = BlockHeader(
            version=1,
            chain_id=self._config.chain_id,
            height=request.height,
            previous_hash=request.previous_hash,
            timestamp_ms=request.timestamp_ms,
            tx_root=merkle_root(wids),
            tx_count=len(wids),
            engine=request.engine,
            engine_epoch=request.engine_epoch,
            validators_hash=request.validators_hash,
            next_validators_hash=request.next_validators_hash,
            architecture=architecture,
            proposer=request.proposer,
            last_commit_hash=request.last_commit.hash(),
            evidence_hash=evidence_root(request.evidence),
            exec_height=exec_height,
            state_root=results.state_root,
            receipts_root=results.receipts_root,
            results_accumulator=results.accumulator,
        )
        return Block(header, request.last_commit, request.evidence, tuple(wids))

    async def validate(self, request: ValidateBlock) -> Verdict:
        """Judge a block whose consensus fields are right; on True its bodies are synced.

        Waits for missing bodies and for execution as long as it takes; the caller cancels it when
        the height is over.
        """
        block = request.block
        header = block.header
        wrong = await self._wrong_field(header)
        if wrong:
            return Verdict(False, f"header field {wrong} is wrong")
        block_hash = block.hash()
        if self._chain.ledger.log.holds_body(block.height, block_hash):
            return Verdict(True)
        try:
            batch = await self._fetch(block, request.source)
        finally:
            self._bodies.forget_bodies(block.wids)
        if batch is None or len(batch) > self._config.block_size_max_bytes:
            return Verdict(False, "the bodies are larger than block_size_max_bytes")
        await self._chain.keep_body(block, block_hash, batch)
        return Verdict(True)

    def _exec_height(self, height: int) -> int:
        return max(0, height - self._config.execution_depth)

    async def _wrong_field(self, header: BlockHeader) -> str:
        architecture = self._architecture.decide(header.height)
        results = await self._chain.pipeline.results(self._exec_height(header.height))
        expected = (
            ("chain_id", header.chain_id, self._config.chain_id),
            ("architecture", header.architecture, architecture),
            ("exec_height", header.exec_height, self._exec_height(header.height)),
            ("state_root", header.state_root, results.state_root),
            ("receipts_root", header.receipts_root, results.receipts_root),
            ("results_accumulator", header.results_accumulator, results.accumulator),
        )
        for name, found, wanted in expected:
            if found != wanted:
                return name
        return "tx_count" if header.tx_count > architecture.block_tx_cap else ""

    async def _fetch(self, block: Block, source: bytes) -> bytes | None:
        """All bodies, or None as soon as those that came are more than a block may hold."""
        pool = self._chain.pool
        missing = pool.missing(block.wids)
        if missing:
            # Gossip of the same transactions is usually right behind the proposal.
            await self._bodies.arrived(BODY_GRACE_SECONDS)
        asked = source
        while missing := pool.missing(block.wids):
            if pool.held_size_bytes(block.wids) > self._config.block_size_max_bytes:
                return None
            self._bodies.request_bodies(asked, block.height, missing)
            await self._bodies.arrived(BODY_RETRY_SECONDS)
            others = self._bodies.other_peers(asked)
            asked = others[0] if others else source
            await asyncio.sleep(0)
        return pool.bodies(block.wids)
