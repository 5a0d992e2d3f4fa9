"""The pool's limits, from the chain's configuration and the one table of limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from chainnode import _native
from chainnode.types import limits
from chainnode.types.block import Architecture


class PoolConfig(Protocol):
    """What the pool reads of a chain's configuration (dataclass or wire form)."""

    @property
    def chain_id(self) -> str:
        """The chain's id."""
        ...

    @property
    def expiry_window(self) -> int:
        """Blocks."""
        ...

    @property
    def transaction_size_max_bytes(self) -> int:
        """Bytes of one canonical transaction."""
        ...

    @property
    def block_size_max_bytes(self) -> int:
        """Bytes of all canonical transactions of a block."""
        ...


@dataclass(frozen=True, slots=True)
class ProposalLimits:
    """How much of the pool one block may take."""

    transactions_max: int
    size_max_bytes: int


def create_pool(
    config: PoolConfig,
    *,
    transactions_max: int = limits.POOL_TRANSACTIONS_MAX,
    size_max_bytes: int = limits.POOL_SIZE_MAX_BYTES,
) -> _native.TxPool:
    """An empty pool for a chain.

    A transaction that no block could hold is refused at the door, not kept until it expires.

    Args:
        config: the chain's configuration.
        transactions_max: pending transactions this node keeps.
        size_max_bytes: bytes of pending transactions this node keeps.
    """
    return _native.TxPool(
        config.chain_id,
        expiry_window=config.expiry_window,
        transactions_max=transactions_max,
        size_max_bytes=size_max_bytes,
        transaction_size_max_bytes=min(
            config.transaction_size_max_bytes, config.block_size_max_bytes
        ),
    )


def proposal_limits(config: PoolConfig, architecture: Architecture) -> ProposalLimits:
    """What a proposer may take for a block of this architecture."""
    return ProposalLimits(
        min(architecture.block_tx_cap, limits.BLOCK_TRANSACTIONS_MAX),
        min(config.block_size_max_bytes, limits.BLOCK_SIZE_MAX_BYTES),
    )
