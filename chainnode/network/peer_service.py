"""The receiving side of peer links: who is calling, what kind of message, to whom it goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import grpc
import structlog

from chainnode._proto import peer_pb2
from chainnode.network import wire
from chainnode.network.tls import caller_key_hash
from chainnode.types.errors import ChainnodeError, ClientFault, PeerFault
from chainnode.types.limits import SYNC_BLOCKS_PER_REQUEST_MAX

PROTOCOL_VERSION = 1


class PeerDirectory(Protocol):
    """Who may speak as a validator."""

    def validator_of(self, tls_key_hash: bytes) -> bytes | None:
        """The validator address that a TLS key belongs to."""


class PeerInbox(Protocol):
    """What a node does with what its peers send."""

    async def batch(self, peer: bytes, message: wire.BatchMessage) -> None:
        """Transactions or bodies; may wait, which slows the peer down."""

    async def message(self, peer: bytes, message: peer_pb2.PeerMessage) -> None:
        """Everything else."""

    def committed_block(self, height: int) -> bytes | None:
        """An encoded CommittedBlock."""


class PeerService:
    """`chainnode.v1.Peer` over raw bytes.

    Args:
        directory: maps TLS keys to validators.
        inbox: receives.
        chain_id: a peer of another chain is refused at hello.
        genesis_hash: likewise.
    """

    def __init__(
        self, directory: PeerDirectory, inbox: PeerInbox, chain_id: str, genesis_hash: bytes
    ) -> None:
        self._directory = directory
        self._inbox = inbox
        self._chain_id = chain_id
        self._genesis_hash = genesis_hash
        self._log = structlog.get_logger("peer")

    def handler(self) -> grpc.GenericRpcHandler:
        """The handler to add to the server."""
        handlers: dict[str, Any] = {
            "Messages": grpc.stream_unary_rpc_method_handler(self._messages),
            "Blocks": grpc.unary_stream_rpc_method_handler(
                self._blocks, request_deserializer=peer_pb2.BlockRangeRequest.FromString
            ),
        }
        return grpc.method_handlers_generic_handler("chainnode.v1.Peer", handlers)

    async def _messages(
        self,
        requests: AsyncIterator[bytes],
        context: grpc.aio.ServicerContext[bytes, bytes],
    ) -> bytes:
        key_hash = caller_key_hash(context)
        peer = await self._authenticated(key_hash, context)
        greeted = False
        try:
            async for data in requests:
                # A stream outlives its certificate's rights: it is asked again at every message.
                _require(
                    self._directory.validator_of(key_hash) == peer,
                    "PEER_NOT_A_VALIDATOR",
                    "A peer was frozen, revoked or left the validators while its stream was open.",
                )
                message = wire.decode(data)
                if isinstance(message, wire.BatchMessage):
                    _require(greeted, "PEER_NO_HELLO", "A peer spoke before its hello.")
                    await self._inbox.batch(peer, message)
                    continue
                if message.WhichOneof("body") == "hello":
                    self._check_hello(message.hello, peer)
                    greeted = True
                _require(greeted, "PEER_NO_HELLO", "A peer spoke before its hello.")
                await self._inbox.message(peer, message)
        except (PeerFault, ClientFault) as error:
            self._log.warning("peer_refused", peer=peer.hex()[:12], code=error.code)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, error.code)
        except ChainnodeError as error:
            await self._failed(error, context)
        return b""

    async def _blocks(
        self,
        request: peer_pb2.BlockRangeRequest,
        context: grpc.aio.ServicerContext[peer_pb2.BlockRangeRequest, bytes],
    ) -> AsyncIterator[bytes]:
        await self._authenticated(caller_key_hash(context), context)
        count = min(request.count_max, SYNC_BLOCKS_PER_REQUEST_MAX)
        for height in range(request.from_height, request.from_height + count):
            try:
                data = self._inbox.committed_block(height)
            except ChainnodeError as error:
                await self._failed(error, context)
                return
            if data is None:
                return
            yield data

    async def _failed(
        self, error: ChainnodeError, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """This node's own fault: its operator is told, and the peer is not blamed."""
        self._log.error("peer_service_failed", code=error.code, subject=error.subject)
        await context.abort(grpc.StatusCode.INTERNAL, "INTERNAL")

    async def _authenticated(
        self, key_hash: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> bytes:
        validator = self._directory.validator_of(key_hash)
        if validator is None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "PEER_NOT_A_VALIDATOR")
            raise AssertionError("abort raises")
        return validator

    def _check_hello(self, hello: peer_pb2.PeerHello, peer: bytes) -> None:
        _require(
            hello.chain_id == self._chain_id and hello.genesis_hash == self._genesis_hash,
            "PEER_WRONG_CHAIN",
            "A peer is of another chain.",
        )
        _require(
            hello.protocol_version == PROTOCOL_VERSION,
            "PEER_PROTOCOL_VERSION",
            "A peer speaks another version of the protocol.",
        )
        _require(
            hello.validator == peer,
            "PEER_NAME_WRONG",
            "A peer's hello names another validator than its TLS certificate.",
        )


def _require(holds: bool, code: str, message: str) -> None:
    if not holds:
        raise PeerFault(code, message)
