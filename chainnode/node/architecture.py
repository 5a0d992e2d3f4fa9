"""Which architecture a height runs under: the selector's decision over inputs from the chain."""

from __future__ import annotations

import hashlib
import json

from chainnode._proto import node_pb2, types_pb2
from chainnode.types.block import Architecture

_CAP = 2_000
_INTERVAL_MS = 50


class FixedArchitecture:
    """One block shape for every height.

    Args:
        config: whose limits the shape lies within.
    """

    def __init__(self, config: types_pb2.ChainConfig) -> None:
        cap = max(config.block_tx_cap_min, min(_CAP, config.block_tx_cap_max))
        interval_ms = min(
            max(config.block_interval_min_ms, _INTERVAL_MS), config.block_interval_max_ms
        )
        inputs = json.dumps(
            {"block_interval_ms": interval_ms, "block_tx_cap": cap},
            sort_keys=True,
            separators=(",", ":"),
        )
        self._inputs = inputs
        self._decision = Architecture(
            "ox-serial",
            0,
            hashlib.sha256(inputs.encode()).digest(),
            cap,
            interval_ms,
        )

    def decide(self, height: int) -> Architecture:
        """The architecture of a height whose predecessors are committed."""
        return self._decision

    def explain(self, height: int) -> node_pb2.ArchitectureResponse:
        """The decision with its inputs."""
        return node_pb2.ArchitectureResponse(
            decision=self._decision.to_proto(), explanation_json=self._inputs
        )
