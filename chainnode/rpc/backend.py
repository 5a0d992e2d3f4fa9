"""What the services need of a node; the node's composition implements it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from chainnode._proto import node_pb2, types_pb2


class Backend(Protocol):
    """A running node as its clients may see it. Methods raise ClientFault for bad requests."""

    async def submit(self, batch: bytes) -> bytes:
        """Admit an encoded TransactionBatch; an encoded SubmitResponse."""

    async def wait_executed(self, tx_id: bytes, timeout_ms: int) -> None:
        """Return once the transaction has a receipt, or after the timeout."""

    def transaction(self, tx_id: bytes) -> node_pb2.TxResponse:
        """The transaction, its place and its receipt, if executed."""

    async def evaluate(
        self, sender: bytes, request: node_pb2.EvaluateRequest
    ) -> node_pb2.EvaluateResponse:
        """Run a view against the executed state."""

    def block(self, height: int) -> node_pb2.BlockResponse:
        """A committed block (0: the last executed one)."""

    async def block_graph(self, height: int, summary_only: bool) -> bytes:
        """An encoded BlockGraph of one of the last executed blocks (0: the last)."""

    def receipt_proof(self, tx_id: bytes) -> types_pb2.ReceiptProof:
        """A proof from the receipt to a signed header."""

    def contract(self, name: str) -> node_pb2.ContractResponse:
        """A contract's record and ABI."""

    def member(self, address: bytes) -> types_pb2.Member:
        """A member by address."""

    def block_events(
        self, request: node_pb2.SubscribeRequest
    ) -> AsyncIterator[node_pb2.BlockEvents]:
        """Events of every executed block from a height on, without end."""

    def status(self) -> node_pb2.StatusResponse:
        """Where the node stands."""

    def genesis(self) -> types_pb2.Genesis:
        """The chain's genesis."""

    def explain_architecture(self, height: int) -> node_pb2.ArchitectureResponse:
        """The architecture decision of a height (0: the next)."""
