"""Tx, Query, Events and Chain: thin translations between the wire and the backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from chainnode._proto import node_pb2, types_pb2
from chainnode.rpc.authorisation import Guard
from chainnode.rpc.backend import Backend
from chainnode.types.errors import ClientFault
from chainnode.types.limits import (
    SUBMIT_BATCH_SIZE_MAX_BYTES,
    TX_WAIT_MAX_MS,
)

Member = types_pb2.Member


class TxService:
    """`chainnode.v1.Tx`. Batches and verdicts stay bytes between the socket and the pool."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def submit(self, batch: bytes, caller: Member) -> bytes:
        """Admit one batch."""
        if len(batch) > SUBMIT_BATCH_SIZE_MAX_BYTES:
            raise ClientFault(
                "BATCH_TOO_LARGE",
                f"A batch has at most {SUBMIT_BATCH_SIZE_MAX_BYTES} bytes.",
                subject=f"{len(batch)} bytes",
                fix="send several smaller batches",
            )
        return await self._backend.submit(batch)

    async def submit_stream(
        self, batches: AsyncIterator[bytes], caller: Member
    ) -> AsyncIterator[bytes]:
        """Admit batches in order; one answer each."""
        async for batch in batches:
            yield await self.submit(batch, caller)

    async def get(self, request: node_pb2.TxRequest, caller: Member) -> node_pb2.TxResponse:
        """A transaction with its receipt, waiting for it if asked."""
        if len(request.tx_id) != 32:
            raise ClientFault("MALFORMED", "A tx id has 32 bytes.", subject="TxRequest.tx_id")
        if request.wait_ms:
            await self._backend.wait_executed(request.tx_id, min(request.wait_ms, TX_WAIT_MAX_MS))
        return self._backend.transaction(request.tx_id)

    def handler(self, guard: Guard) -> grpc.GenericRpcHandler:
        """The handler to add to the server."""
        return grpc.method_handlers_generic_handler(
            "chainnode.v1.Tx",
            {
                "Submit": grpc.unary_unary_rpc_method_handler(
                    guard.unary("/chainnode.v1.Tx/Submit", self.submit)
                ),
                "SubmitStream": grpc.stream_stream_rpc_method_handler(
                    guard.streaming("/chainnode.v1.Tx/SubmitStream", self.submit_stream)
                ),
                "Get": grpc.unary_unary_rpc_method_handler(
                    guard.unary("/chainnode.v1.Tx/Get", self.get),
                    request_deserializer=node_pb2.TxRequest.FromString,
                    response_serializer=node_pb2.TxResponse.SerializeToString,
                ),
            },
        )


class QueryService:
    """`chainnode.v1.Query`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def evaluate(
        self, request: node_pb2.EvaluateRequest, caller: Member
    ) -> node_pb2.EvaluateResponse:
        """Run a view as the caller."""
        return await self._backend.evaluate(caller.public_key, request)

    async def block(self, request: node_pb2.BlockRequest, caller: Member) -> node_pb2.BlockResponse:
        """A block with its receipts."""
        return self._backend.block(request.height)

    async def block_graph(self, request: node_pb2.BlockGraphRequest, caller: Member) -> bytes:
        """The dependency graph of an executed block, as the core encoded it."""
        return await self._backend.block_graph(request.height, request.summary_only)

    async def proof(self, request: node_pb2.ProofRequest, caller: Member) -> types_pb2.ReceiptProof:
        """A receipt proof."""
        return self._backend.receipt_proof(request.tx_id)

    async def contract(
        self, request: node_pb2.ContractRequest, caller: Member
    ) -> node_pb2.ContractResponse:
        """A contract's record and ABI."""
        return self._backend.contract(request.name)

    async def member(self, request: node_pb2.MemberRequest, caller: Member) -> Member:
        """A member."""
        return self._backend.member(request.address)

    def handler(self, guard: Guard) -> grpc.GenericRpcHandler:
        """The handler to add to the server."""
        methods: dict[str, tuple[Any, Any, Any]] = {
            "Evaluate": (self.evaluate, node_pb2.EvaluateRequest, node_pb2.EvaluateResponse),
            "GetBlock": (self.block, node_pb2.BlockRequest, node_pb2.BlockResponse),
            "GetBlockGraph": (self.block_graph, node_pb2.BlockGraphRequest, None),
            "GetReceiptProof": (self.proof, node_pb2.ProofRequest, types_pb2.ReceiptProof),
            "GetContract": (self.contract, node_pb2.ContractRequest, node_pb2.ContractResponse),
            "GetMember": (self.member, node_pb2.MemberRequest, Member),
        }
        return grpc.method_handlers_generic_handler(
            "chainnode.v1.Query",
            {
                name: grpc.unary_unary_rpc_method_handler(
                    guard.unary(f"/chainnode.v1.Query/{name}", method),
                    request_deserializer=request.FromString,
                    response_serializer=response and response.SerializeToString,
                )
                for name, (method, request, response) in methods.items()
            },
        )


class EventsService:
    """`chainnode.v1.Events`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def subscribe(
        self, request: node_pb2.SubscribeRequest, caller: Member
    ) -> AsyncIterator[node_pb2.BlockEvents]:
        """Every executed block's events, in order."""
        async for events in self._backend.block_events(request):
            yield events

    def handler(self, guard: Guard) -> grpc.GenericRpcHandler:
        """The handler to add to the server."""
        return grpc.method_handlers_generic_handler(
            "chainnode.v1.Events",
            {
                "Subscribe": grpc.unary_stream_rpc_method_handler(
                    guard.streaming("/chainnode.v1.Events/Subscribe", self.subscribe),
                    request_deserializer=node_pb2.SubscribeRequest.FromString,
                    response_serializer=node_pb2.BlockEvents.SerializeToString,
                )
            },
        )


class ChainService:
    """`chainnode.v1.Chain`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def status(
        self, request: node_pb2.StatusRequest, caller: Member
    ) -> node_pb2.StatusResponse:
        """Where the node stands."""
        return self._backend.status()

    async def genesis(
        self, request: node_pb2.StatusRequest, caller: Member
    ) -> node_pb2.GenesisResponse:
        """The chain's genesis."""
        return node_pb2.GenesisResponse(genesis=self._backend.genesis())

    async def explain(
        self, request: node_pb2.ArchitectureRequest, caller: Member
    ) -> node_pb2.ArchitectureResponse:
        """The decision on a height's architecture."""
        return self._backend.explain_architecture(request.height)

    def handler(self, guard: Guard) -> grpc.GenericRpcHandler:
        """The handler to add to the server."""
        methods: dict[str, tuple[Any, Any, Any]] = {
            "Status": (self.status, node_pb2.StatusRequest, node_pb2.StatusResponse),
            "GetGenesis": (self.genesis, node_pb2.StatusRequest, node_pb2.GenesisResponse),
            "ExplainArchitecture": (
                self.explain,
                node_pb2.ArchitectureRequest,
                node_pb2.ArchitectureResponse,
            ),
        }
        return grpc.method_handlers_generic_handler(
            "chainnode.v1.Chain",
            {
                name: grpc.unary_unary_rpc_method_handler(
                    guard.unary(f"/chainnode.v1.Chain/{name}", method),
                    request_deserializer=request.FromString,
                    response_serializer=response.SerializeToString,
                )
                for name, (method, request, response) in methods.items()
            },
        )
