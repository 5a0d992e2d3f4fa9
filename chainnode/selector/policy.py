"""Block shape: how many transactions the next block may hold and how soon it may follow.

The decision is a pure function of the last `WINDOW_BLOCKS` committed headers and the chain's
bounds, in integers, so every validator computes it and refuses a header that says otherwise. Nobody
reports anything and nothing is measured on one machine. Only blocks below the decided height count.

Hysteresis and cool-down: a value changes by one factor of two, only on blocks that were made under
the present value, and growth needs other evidence than shrinking. After a change the evidence
starts again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from chainnode.types.block import Architecture, BlockHeader
from chainnode.types.errors import InternalError, PeerFault

ARCHITECTURE_ID: Final = "ox-serial"
POLICY_VERSION: Final = 1
WINDOW_BLOCKS: Final = 8

GROW_CAP_BLOCKS: Final = 2
"""Saturated blocks in a row that double the cap."""
SHRINK_CAP_BLOCKS: Final = WINDOW_BLOCKS
"""Mostly empty blocks in a row that halve the cap."""
INTERVAL_BLOCKS: Final = 4
"""Blocks under one interval before it may change."""
SATURATED_EIGHTHS: Final = 7
"""A block with at least 7/8 of its cap is saturated."""
MOSTLY_EMPTY_EIGHTHS: Final = 1
"""A block with at most 1/8 of its cap is mostly empty."""

# Transactions per non-empty block. A block has a fixed cost (votes, a synced write): around 32
# transactions share it well, while a lone client that waits for each answer gains nothing from
# waiting for company.
LONE: Final = 2
SMALL: Final = 4
ENOUGH: Final = 32
LARGE: Final = 128


class Bounds(Protocol):
    """What the policy reads of a chain's configuration."""

    @property
    def block_tx_cap_min(self) -> int:
        """Transactions."""
        ...

    @property
    def block_tx_cap_max(self) -> int:
        """Transactions."""
        ...

    @property
    def block_interval_min_ms(self) -> int:
        """Milliseconds."""
        ...

    @property
    def block_interval_max_ms(self) -> int:
        """Milliseconds."""
        ...


@dataclass(frozen=True, slots=True)
class BlockEvidence:
    """What one committed header says about load."""

    height: int
    tx_count: int
    block_tx_cap: int
    block_interval_ms: int
    timestamp_ms: int

    @classmethod
    def of(cls, header: BlockHeader) -> BlockEvidence:
        """The evidence in a header."""
        shape = header.architecture
        return cls(
            header.height,
            header.tx_count,
            shape.block_tx_cap,
            shape.block_interval_ms,
            header.timestamp_ms,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """The architecture of the next height, with the reasons.

    Args:
        architecture: what goes into the header.
        height: of the block it is for.
        cap_rule: `first`, `keep`, `grow` or `shrink`.
        interval_rule: `first`, `keep`, `grow` or `shrink`.
        window: the evidence used, oldest first.
    """

    architecture: Architecture
    height: int
    cap_rule: str
    interval_rule: str
    window: tuple[BlockEvidence, ...]


def decide(config: Bounds, window: Sequence[BlockEvidence]) -> Decision:
    """Decide the block shape of the height after the window.

    Args:
        config: the chain's bounds.
        window: committed blocks in order of height, the newest last; at most the last
            `WINDOW_BLOCKS` count. Empty for block 1.

    Raises:
        InternalError: `SELECTOR_WINDOW`, when heights are not consecutive or too few are given.
    """
    used = tuple(window[-WINDOW_BLOCKS:])
    _check_window(used)
    if used:
        cap_rule, cap = _cap(config, used)
        interval_rule, interval_ms = _interval(config, used)
    else:
        cap_rule = interval_rule = "first"
        cap, interval_ms = config.block_tx_cap_min, config.block_interval_min_ms
    architecture = Architecture(
        ARCHITECTURE_ID,
        POLICY_VERSION,
        hashlib.sha256(_canonical_inputs(config, used)).digest(),
        _clamp(cap, max(1, config.block_tx_cap_min), config.block_tx_cap_max),
        _clamp(interval_ms, config.block_interval_min_ms, config.block_interval_max_ms),
    )
    height = used[-1].height + 1 if used else 1
    return Decision(architecture, height, cap_rule, interval_rule, used)


def check(header: BlockHeader, config: Bounds, window: Sequence[BlockEvidence]) -> None:
    """Accept a header whose architecture is the one everybody computes, or raise.

    Args:
        header: of the proposed block.
        config: the chain's bounds.
        window: committed blocks below it, the newest last.

    Raises:
        PeerFault: `ARCHITECTURE_MISMATCH`.
        InternalError: `SELECTOR_WINDOW`, when the window does not end below the header.
    """
    decision = decide(config, window)
    if decision.height != header.height:
        raise _bad_window(f"decides height {decision.height}, the header is {header.height}")
    if header.architecture != decision.architecture:
        wanted, given = decision.architecture, header.architecture
        raise PeerFault(
            "ARCHITECTURE_MISMATCH",
            f"cap {given.block_tx_cap} and {given.block_interval_ms} ms under {given.id!r}, "
            f"the chain says cap {wanted.block_tx_cap} and {wanted.block_interval_ms} ms",
            subject=f"height {header.height}",
            fix="compare software and policy versions with the proposer",
        )


def explain(decision: Decision) -> dict[str, object]:
    """The decision for people: inputs, the rule that fired, and what would change it."""
    shape = decision.architecture
    newest = decision.window[-1] if decision.window else None
    at_cap = [item for item in decision.window if item.block_tx_cap == shape.block_tx_cap]
    return {
        "height": decision.height,
        "architecture": {
            "id": shape.id,
            "policy_version": shape.policy_version,
            "inputs_digest": shape.inputs_digest.hex(),
            "block_tx_cap": shape.block_tx_cap,
            "block_interval_ms": shape.block_interval_ms,
        },
        "rule": {"block_tx_cap": decision.cap_rule, "block_interval_ms": decision.interval_rule},
        "previous": {
            "block_tx_cap": newest.block_tx_cap if newest else None,
            "block_interval_ms": newest.block_interval_ms if newest else None,
        },
        "inputs": [
            {
                "height": item.height,
                "tx_count": item.tx_count,
                "block_tx_cap": item.block_tx_cap,
                "block_interval_ms": item.block_interval_ms,
                "timestamp_ms": item.timestamp_ms,
            }
            for item in decision.window
        ],
        "evidence": {
            "blocks_at_this_cap": len(at_cap),
            "tx_per_full_block": _mean_tx_count(decision.window),
            "block_spacing_ms": _mean_spacing_ms(decision.window),
        },
        "would_change": {
            "block_tx_cap doubles": f"{GROW_CAP_BLOCKS} blocks in a row with at least "
            f"{_saturated_at(shape.block_tx_cap)} transactions",
            "block_tx_cap halves": f"{SHRINK_CAP_BLOCKS} blocks in a row with at most "
            f"{_mostly_empty_at(shape.block_tx_cap)} transactions",
            "block_interval_ms doubles": f"{INTERVAL_BLOCKS} blocks with {SMALL} to "
            f"{ENOUGH - 1} transactions on average, no more than "
            f"{2 * shape.block_interval_ms} ms apart",
            "block_interval_ms halves": f"{INTERVAL_BLOCKS} blocks with fewer than {LONE} or at "
            f"least {LARGE} transactions on average",
        },
    }


def _cap(config: Bounds, window: tuple[BlockEvidence, ...]) -> tuple[str, int]:
    cap = window[-1].block_tx_cap
    same = _run(window, lambda item: item.block_tx_cap == cap)
    newest = same[-GROW_CAP_BLOCKS:]
    saturated = _saturated_at(cap)
    if (
        cap < config.block_tx_cap_max
        and len(newest) == GROW_CAP_BLOCKS
        and all(item.tx_count >= saturated for item in newest)
    ):
        return "grow", 2 * cap
    mostly_empty = _mostly_empty_at(cap)
    if (
        cap > config.block_tx_cap_min
        and len(same) >= SHRINK_CAP_BLOCKS
        and all(item.tx_count <= mostly_empty for item in same)
    ):
        return "shrink", cap // 2
    return "keep", cap


def _interval(config: Bounds, window: tuple[BlockEvidence, ...]) -> tuple[str, int]:
    interval_ms = window[-1].block_interval_ms
    same = _run(window, lambda item: item.block_interval_ms == interval_ms)
    mean = _mean_tx_count(same)
    if len(same) < INTERVAL_BLOCKS or mean is None:
        return "keep", interval_ms
    if (mean < LONE or mean >= LARGE) and interval_ms > config.block_interval_min_ms:
        return "shrink", interval_ms // 2
    spacing_ms = _mean_spacing_ms(same)
    # Wider spacing than that means the nodes are the limit, not the interval.
    paced = spacing_ms is not None and spacing_ms <= 2 * interval_ms
    if SMALL <= mean < ENOUGH and paced and interval_ms < config.block_interval_max_ms:
        # An interval of 0 doubles to 1.
        return "grow", max(1, 2 * interval_ms)
    return "keep", interval_ms


class _Matches(Protocol):
    def __call__(self, item: BlockEvidence, /) -> bool: ...


def _run(window: tuple[BlockEvidence, ...], matches: _Matches) -> tuple[BlockEvidence, ...]:
    """The newest blocks, back to the first that does not match."""
    start = len(window)
    while start > 0 and matches(window[start - 1]):
        start -= 1
    return window[start:]


def _mean_tx_count(window: Sequence[BlockEvidence]) -> int | None:
    """Mean over non-empty blocks, rounded down: empty ones only carry results."""
    counts = [item.tx_count for item in window if item.tx_count > 0]
    return sum(counts) // len(counts) if counts else None


def _mean_spacing_ms(window: Sequence[BlockEvidence]) -> int | None:
    if len(window) < 2:
        return None
    return (window[-1].timestamp_ms - window[0].timestamp_ms) // (len(window) - 1)


def _saturated_at(cap: int) -> int:
    return max(1, (cap * SATURATED_EIGHTHS + 7) // 8)


def _mostly_empty_at(cap: int) -> int:
    return cap * MOSTLY_EMPTY_EIGHTHS // 8


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def _canonical_inputs(config: Bounds, window: tuple[BlockEvidence, ...]) -> bytes:
    inputs = {
        "bounds": [
            config.block_tx_cap_min,
            config.block_tx_cap_max,
            config.block_interval_min_ms,
            config.block_interval_max_ms,
        ],
        "policy_version": POLICY_VERSION,
        "window": [
            [
                item.height,
                item.tx_count,
                item.block_tx_cap,
                item.block_interval_ms,
                item.timestamp_ms,
            ]
            for item in window
        ],
    }
    return json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode()


def _check_window(window: tuple[BlockEvidence, ...]) -> None:
    if not window:
        return
    first = window[0].height
    if [item.height for item in window] != list(range(first, first + len(window))):
        raise _bad_window("heights are not consecutive")
    # A node that remembers fewer blocks than the rest would decide differently.
    if len(window) < WINDOW_BLOCKS and first != 1:
        raise _bad_window(f"{len(window)} blocks from height {first}, wants {WINDOW_BLOCKS}")


def _bad_window(reason: str) -> InternalError:
    return InternalError(
        "SELECTOR_WINDOW", reason, subject="selector", fix="report this with the node's log"
    )
