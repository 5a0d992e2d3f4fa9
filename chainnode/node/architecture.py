"""Which architecture a height runs under: the selector over the committed headers below it."""

from __future__ import annotations

import json

from chainnode._proto import node_pb2, types_pb2
from chainnode.ledger.ledger import Ledger
from chainnode.node.tip import Tip
from chainnode.selector import BlockEvidence, Decision, decide, explain
from chainnode.selector.policy import WINDOW_BLOCKS
from chainnode.types.block import Architecture, BlockHeader
from chainnode.types.errors import ClientFault
from chainnode.types.genesis import ChainConfig


class ArchitectureSelector:
    """Feeds the selector from the chain.

    Args:
        config: whose bounds the decision respects.
        tip: the newest headers.
        ledger: older ones, to explain the past.
    """

    def __init__(self, config: ChainConfig, tip: Tip, ledger: Ledger) -> None:
        self._config = config
        self._tip = tip
        self._ledger = ledger

    def decide(self, height: int) -> Architecture:
        """The architecture of the height above the tip, as every node computes it."""
        return decide(self._config, self._window(height)).architecture

    def explain(self, height: int) -> node_pb2.ArchitectureResponse:
        """The decision on a height, its inputs and what would change it.

        Raises:
            ClientFault: HEIGHT_TOO_HIGH above the next height.
        """
        next_height = self._tip.height + 1
        if height > next_height:
            raise ClientFault(
                "HEIGHT_TOO_HIGH",
                f"The next height is {next_height}.",
                subject=str(height),
                fix=f"ask for at most {next_height}",
            )
        decision: Decision = decide(self._config, self._window(height or next_height))
        return node_pb2.ArchitectureResponse(
            decision=decision.architecture.to_proto(),
            explanation_json=json.dumps(explain(decision), sort_keys=True),
        )

    def _window(self, height: int) -> list[BlockEvidence]:
        below = [header for header in self._tip.recent if header.height < height]
        lowest = max(1, height - WINDOW_BLOCKS)
        if not below or below[0].height > lowest:
            below = [self._header(at) for at in range(lowest, height)]
        return [BlockEvidence.of(header) for header in below[-WINDOW_BLOCKS:]]

    def _header(self, height: int) -> BlockHeader:
        logged = self._ledger.block(height)
        assert logged is not None
        return BlockHeader.from_proto(types_pb2.Block.FromString(logged.block).header)
