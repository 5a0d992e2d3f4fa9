"""Several nodes as one service: the preferred one answers, the next one when it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import grpc

from chainnode._proto import types_pb2
from chainnode.identity import Identity
from chainnode.sdk.problems import error_of, unreachable
from chainnode.types.errors import ConfigError
from chainnode.types.limits import GRPC_MESSAGE_SIZE_MAX_BYTES

Answer = TypeVar("Answer")
Parse = Callable[[bytes], Answer]
CALL_TIMEOUT_SECONDS = 10.0
_OPTIONS = (
    ("grpc.max_send_message_length", GRPC_MESSAGE_SIZE_MAX_BYTES),
    ("grpc.max_receive_message_length", GRPC_MESSAGE_SIZE_MAX_BYTES),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
)


class Endpoints:
    """Channels to every node, with fail-over in the order given.

    Args:
        endpoints: host:port of each node.
        identity: whose TLS certificate the nodes will see.
        genesis: its organisations' authorities are the accepted ones.
        server_name: the name in the nodes' certificates, when it is not the host.

    Raises:
        ConfigError: ENDPOINTS_MISSING.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        identity: Identity,
        genesis: types_pb2.Genesis,
        server_name: str = "",
    ) -> None:
        if not endpoints:
            raise ConfigError(
                "ENDPOINTS_MISSING", "No node to talk to.", fix="give at least one host:port"
            )
        self.names = list(endpoints)
        self._preferred = 0
        credentials = grpc.ssl_channel_credentials(
            root_certificates=_roots(genesis),
            private_key=identity.tls_key_pem,
            certificate_chain=identity.tls_certificate_pem,
        )
        named = [("grpc.ssl_target_name_override", server_name)] if server_name else []
        options: list[tuple[str, Any]] = [*_OPTIONS, *named]
        self._channels = [
            grpc.aio.secure_channel(endpoint, credentials, options=options)
            for endpoint in endpoints
        ]

    async def call(
        self,
        method: str,
        request: bytes,
        parse: Parse[Answer],
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    ) -> Answer:
        """One request, one answer, from the first node that answers.

        Raises:
            ChainnodeError: what the node answered.
            PeerFault: NODES_UNREACHABLE.
        """
        for index in self.order():
            invoke: Any = self._channels[index].unary_unary(method)
            try:
                data = await invoke(request, timeout=timeout_seconds)
            except grpc.aio.AioRpcError as failure:
                error = error_of(failure)
                if error is not None:
                    raise error from None
                continue
            self._preferred = index
            return parse(data)
        raise unreachable(self.names)

    async def stream(
        self, method: str, request: bytes, parse: Parse[Answer], index: int | None = None
    ) -> AsyncIterator[Answer]:
        """Answers of one node until it ends or fails.

        Args:
            method: full gRPC name.
            request: encoded.
            parse: of one answer.
            index: into `names`, to ask that node; else the preferred one, and when it fails the
                next call takes another.

        Raises:
            ChainnodeError: what the node answered.
            PeerFault: NODES_UNREACHABLE when the connection broke.
        """
        chosen = self._preferred if index is None else index
        invoke: Any = self._channels[chosen].unary_stream(method)
        try:
            async for data in invoke(request):
                yield parse(data)
        except grpc.aio.AioRpcError as failure:
            error = error_of(failure)
            if error is not None:
                raise error from None
            if index is None:
                self.prefer_next()
            raise unreachable([self.names[chosen]]) from None

    async def upload(
        self,
        method: str,
        requests: Callable[[], AsyncIterator[bytes]],
        parse: Parse[Answer],
        timeout_seconds: float = 120.0,
        copies: int = 1,
    ) -> Answer:
        """A stream of requests, one answer, until `copies` nodes took it.

        `requests` is called again for every node.

        Raises:
            ChainnodeError: what a node answered.
            PeerFault: NODES_UNREACHABLE when fewer nodes answer.
        """
        taken = 0
        for index in self.order():
            invoke: Any = self._channels[index].stream_unary(method)
            try:
                data = await invoke(requests(), timeout=timeout_seconds)
            except grpc.aio.AioRpcError as failure:
                error = error_of(failure)
                if error is not None:
                    raise error from None
                continue
            taken += 1
            if taken == min(copies, len(self.names)):
                return parse(data)
        raise unreachable(self.names)

    def duplex(self, method: str) -> Any:
        """A stream both ways with the preferred node."""
        invoke: Any = self._channels[self._preferred].stream_stream(method)
        return invoke()

    def prefer_next(self) -> None:
        """Start with another node from now on."""
        self._preferred = (self._preferred + 1) % len(self._channels)

    async def close(self) -> None:
        """Close all channels."""
        for channel in self._channels:
            await channel.close()

    def order(self) -> list[int]:
        """Indices into `names`, the preferred node first."""
        count = len(self._channels)
        return [(self._preferred + step) % count for step in range(count)]


def _roots(genesis: types_pb2.Genesis) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return b"".join(
        x509.load_der_x509_certificate(item.ca_certificate).public_bytes(Encoding.PEM)
        for item in genesis.organisations
    )
