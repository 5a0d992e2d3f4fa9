"""`chainnode.v1.HeWorker`: the worker answers its own organisation's keyholder, and nobody else."""

from __future__ import annotations

from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from chainnode._proto import he_pb2
from chainnode.identity import Identity
from chainnode.network.tls import TlsMaterial, client_channel, server_credentials
from chainnode.types.errors import ChainnodeError, ConfigError, PeerFault
from chainnode.worker.worker import Worker

SERVICE: Final = "chainnode.v1.HeWorker"
METHOD: Final = f"/{SERVICE}/Recompute"
SERVER_NAME: Final = "localhost"
RECOMPUTE_TIMEOUT_S: Final = 300.0


def own_authority(identity: Identity) -> bytes:
    """PEM of the authority that issued this identity: the only one this link accepts."""
    for authority in x509.load_pem_x509_certificates(identity.ca_bundle_pem):
        if authority.subject == identity.tls_certificate.issuer:
            return authority.public_bytes(Encoding.PEM)
    raise ConfigError(
        "IDENTITY_INCONSISTENT",
        "ca.pem lacks the authority that issued the certificate",
        subject=f"{identity.organisation}/{identity.name}",
        fix="issue the identity again",
    )


def material(identity: Identity) -> TlsMaterial:
    """TLS within one organisation."""
    return TlsMaterial(identity.tls_certificate_pem, identity.tls_key_pem, own_authority(identity))


def _caller(context: grpc.aio.ServicerContext[Any, Any]) -> tuple[str, str]:
    found = next(iter(context.auth_context().get("x509_pem_cert", ())), b"")
    subject = x509.load_pem_x509_certificate(found).subject
    organisation = subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value
    return str(organisation), str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def recompute_server(
    worker: Worker, identity: Identity, listen: str, keyholder_name: str
) -> grpc.aio.Server:
    """A server, not yet started, that recomputes for the organisation's keyholder.

    Args:
        worker: computes.
        identity: of the worker; callers need a certificate of the same authority.
        listen: host:port.
        keyholder_name: the caller's name in its certificate.
    """

    async def recompute(
        request: he_pb2.ChunkRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> he_pb2.ChunkResponse:
        if _caller(context) != (identity.organisation, keyholder_name):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED")
        try:
            digest = await worker.recompute(request.query_id, request.chunk, request.plan)
        except ChainnodeError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return he_pb2.ChunkResponse(result_hash=digest)

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        recompute,
        request_deserializer=he_pb2.ChunkRequest.FromString,
        response_serializer=he_pb2.ChunkResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"Recompute": handler}),)
    )
    if server.add_secure_port(listen, server_credentials(material(identity))) == 0:
        raise ConfigError(
            "LISTEN_FAILED", "cannot listen there", subject=listen, fix="choose a free port"
        )
    return server


class RecomputeClient:
    """The keyholder's side of the link.

    Args:
        endpoint: host:port of the own worker.
        identity: of the keyholder.
    """

    def __init__(self, endpoint: str, identity: Identity) -> None:
        self._endpoint = endpoint
        self._channel = client_channel(endpoint, material(identity), SERVER_NAME)

    async def __call__(self, query: bytes, index: int, plan: bytes) -> bytes:
        """The result hash the worker computes.

        Raises:
            PeerFault: `WORKER_FAILED`.
        """
        call: Any = self._channel.unary_unary(
            METHOD,
            request_serializer=he_pb2.ChunkRequest.SerializeToString,
            response_deserializer=he_pb2.ChunkResponse.FromString,
        )
        request = he_pb2.ChunkRequest(plan=plan, query_id=query, chunk=index)
        try:
            response = await call(request, timeout=RECOMPUTE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise PeerFault(
                "WORKER_FAILED",
                f"the own worker did not recompute: {error.details()}",
                subject=self._endpoint,
                fix="start the worker: chainnode he worker --config FILE",
                retry="after",
                retry_after_ms=1_000,
            ) from None
        return bytes(response.result_hash)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()
