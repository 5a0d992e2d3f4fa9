"""Who is calling: the TLS certificate's key, looked up among the members on the chain."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import grpc

from chainnode._proto import types_pb2
from chainnode.identity import check_role
from chainnode.identity.roles import service_of
from chainnode.network.tls import caller_key_hash
from chainnode.rpc.problems import fail, refuse
from chainnode.types.errors import ChainnodeError, ClientFault
from chainnode.types.limits import (
    GRPC_CONCURRENT_RPCS_MAX,
    GRPC_RPCS_FOR_PEERS,
    RPCS_PER_MEMBER_MAX,
)
from chainnode.types.member import Role

Context = grpc.aio.ServicerContext[Any, Any]
Unary = Callable[[Any, types_pb2.Member], Awaitable[Any]]
Streaming = Callable[[Any, types_pb2.Member], AsyncIterator[Any]]


class Members(Protocol):
    """The members on the chain, at the executed height."""

    def member_by_tls(self, tls_key_hash: bytes) -> types_pb2.Member | None:
        """The member whose record names this TLS key."""


class Guard:
    """Wraps handlers: authorises the caller, turns errors into Problems, leaks nothing.

    Args:
        members: looked up at every call, so that a freeze works at once.
    """

    def __init__(self, members: Members) -> None:
        self._members = members
        self._calls: Counter[bytes] = Counter()

    def unary(self, path: str, method: Unary) -> Callable[[Any, Context], Awaitable[Any]]:
        """A handler with one answer; `path` is the full gRPC method."""

        async def handle(request: Any, context: Context) -> Any:
            try:
                with self._turn(self.caller(path, context)) as member:
                    return await method(request, member)
            except ChainnodeError as error:
                await refuse(context, error)
            except Exception as error:  # noqa: BLE001  the last line of defence of the process
                await fail(context, path, error)

        return handle

    def streaming(
        self, path: str, method: Streaming
    ) -> Callable[[Any, Context], AsyncIterator[Any]]:
        """A handler with a stream of answers; `path` is the full gRPC method."""

        async def handle(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                with self._turn(self.caller(path, context)) as member:
                    async for answer in method(request, member):
                        yield answer
            except ChainnodeError as error:
                await refuse(context, error)
            except Exception as error:  # noqa: BLE001  the last line of defence of the process
                await fail(context, path, error)

        return handle

    @contextmanager
    def _turn(self, member: types_pb2.Member) -> Iterator[types_pb2.Member]:
        """Count a call while it runs; the server's last places are for validators."""
        key = member.public_key
        clients_max = GRPC_CONCURRENT_RPCS_MAX - GRPC_RPCS_FOR_PEERS
        if self._calls[key] >= RPCS_PER_MEMBER_MAX or self._calls.total() >= clients_max:
            raise ClientFault(
                "TOO_MANY_CALLS",
                f"A member may have {RPCS_PER_MEMBER_MAX} calls open at one node, and all together "
                f"{clients_max}.",
                subject=f"{member.organisation}/{member.name}",
                fix="end subscriptions that are not read, or spread the calls over the nodes",
                retry="after",
                retry_after_ms=1_000,
            )
        self._calls[key] += 1
        try:
            yield member
        finally:
            self._calls[key] -= 1
            if not self._calls[key]:
                del self._calls[key]

    def caller(self, path: str, context: Context) -> types_pb2.Member:
        """The calling member.

        Raises:
            ClientFault: NOT_A_MEMBER, MEMBER_FROZEN, MEMBER_REVOKED or ROLE_NOT_ALLOWED.
        """
        member = self._members.member_by_tls(caller_key_hash(context))
        if member is None:
            raise ClientFault(
                "NOT_A_MEMBER",
                "No member on the chain has this TLS certificate.",
                fix="have an admin add the member, with this certificate's key hash",
            )
        if member.status != types_pb2.MEMBER_STATUS_ACTIVE:
            revoked = member.status == types_pb2.MEMBER_STATUS_REVOKED
            raise ClientFault(
                "MEMBER_REVOKED" if revoked else "MEMBER_FROZEN",
                f"The member is {'revoked' if revoked else 'frozen'}.",
                subject=f"{member.organisation}/{member.name}",
                fix="ask the organisation's admin" if not revoked else "enrol a new member",
            )
        subject = f"{member.organisation}/{member.name}"
        check_role(service_of(path), Role(member.role), subject)
        return member
