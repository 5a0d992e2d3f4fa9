"""Which role may call which service. Roles come from the chain's state, never from the request."""

from __future__ import annotations

from enum import Enum
from typing import Final

from chainnode.types.errors import ClientFault
from chainnode.types.member import Role


class Service(Enum):
    """What a caller wants, as one unit of permission."""

    SUBMIT = "submit transactions"
    READ = "read the chain"
    PEER = "take part in consensus"
    SYNC = "copy blocks"
    BLOBS = "move encrypted columns"
    HE_WORKER = "ask a worker to recompute"


_EVERYONE: Final = frozenset(Role)

ALLOWED: Final[dict[Service, frozenset[Role]]] = {
    Service.SUBMIT: frozenset({Role.ADMIN, Role.CLIENT, Role.COMMON}),
    Service.READ: _EVERYONE,
    Service.PEER: frozenset({Role.CONSENSUS}),
    Service.SYNC: frozenset({Role.CONSENSUS, Role.COMMON}),
    Service.BLOBS: frozenset({Role.ADMIN, Role.CLIENT, Role.CONSENSUS, Role.COMMON}),
    Service.HE_WORKER: frozenset({Role.CONSENSUS, Role.COMMON}),
}

_BY_METHOD: Final[dict[str, Service]] = {
    "/chainnode.v1.Tx/Submit": Service.SUBMIT,
    "/chainnode.v1.Tx/SubmitStream": Service.SUBMIT,
    "/chainnode.v1.Tx/Get": Service.READ,
    "/chainnode.v1.Peer/Messages": Service.PEER,
    "/chainnode.v1.Peer/Blocks": Service.SYNC,
}

_BY_SERVICE: Final[dict[str, Service]] = {
    "/chainnode.v1.Query/": Service.READ,
    "/chainnode.v1.Events/": Service.READ,
    "/chainnode.v1.Chain/": Service.READ,
    "/chainnode.v1.He/": Service.BLOBS,
    "/chainnode.v1.HeWorker/": Service.HE_WORKER,
    "/grpc.health.v1.Health/": Service.READ,
    "/grpc.reflection.v1alpha.ServerReflection/": Service.READ,
}


def service_of(method: str) -> Service | None:
    """The permission a gRPC method needs; None for a method nobody may call.

    Args:
        method: the full path, e.g. `/chainnode.v1.Tx/Submit`.
    """
    exact = _BY_METHOD.get(method)
    return exact or _BY_SERVICE.get(method[: method.rfind("/") + 1])


def check_role(service: Service | None, role: Role, subject: str) -> None:
    """Accept a caller whose role allows the service, or raise.

    Args:
        service: from `service_of`.
        role: of the caller's member record at the current height.
        subject: who is asking, e.g. `bank-a/client`.

    Raises:
        ClientFault: `ROLE_NOT_ALLOWED`, naming the roles that may.
    """
    if service is not None and role in ALLOWED[service]:
        return
    wanted = "this method" if service is None else service.value
    allowed = () if service is None else ALLOWED[service]
    names = ", ".join(item.name.lower() for item in Role if item in allowed) or "nobody"
    raise ClientFault(
        "ROLE_NOT_ALLOWED",
        f"role {role.name.lower()} may not {wanted}",
        subject=subject,
        fix=f"use an identity with one of these roles: {names}",
    )
