"""How failures leave a service: a gRPC status and one Problem, never an exception's text."""

from __future__ import annotations

import secrets
from typing import Any, NoReturn

import grpc
import structlog

from chainnode._proto import node_pb2
from chainnode.types.errors import ChainnodeError

PROBLEM_KEY = "chainnode-problem-bin"
_STATUS_BY_CODE = {
    "NOT_A_MEMBER": grpc.StatusCode.PERMISSION_DENIED,
    "MEMBER_FROZEN": grpc.StatusCode.PERMISSION_DENIED,
    "MEMBER_REVOKED": grpc.StatusCode.PERMISSION_DENIED,
    "ROLE_NOT_ALLOWED": grpc.StatusCode.PERMISSION_DENIED,
    "TX_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "BLOCK_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "CONTRACT_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "MEMBER_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "BLOB_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "PROOF_NOT_READY": grpc.StatusCode.UNAVAILABLE,
    "SUBSCRIBER_TOO_SLOW": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "TOO_MANY_CALLS": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "BATCH_TOO_LARGE": grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def problem_of(error: ChainnodeError) -> node_pb2.Problem:
    """The wire form of an error."""
    return node_pb2.Problem(
        code=error.code,
        who=error.who,
        message=error.message,
        subject=error.subject,
        retry=error.retry,
        retry_after_ms=error.retry_after_ms,
        fix=error.fix,
    )


async def refuse(context: grpc.aio.ServicerContext[Any, Any], error: ChainnodeError) -> NoReturn:
    """End the call with the error's status and Problem."""
    status = _STATUS_BY_CODE.get(error.code)
    if status is None:
        status = (
            grpc.StatusCode.INVALID_ARGUMENT
            if error.who == "client"
            else grpc.StatusCode.UNAVAILABLE
        )
    problem = problem_of(error).SerializeToString()
    await context.abort(status, error.code, trailing_metadata=((PROBLEM_KEY, problem),))
    raise AssertionError("abort raises")


async def fail(
    context: grpc.aio.ServicerContext[Any, Any], method: str, error: Exception
) -> NoReturn:
    """End the call with INTERNAL and an id; what happened is in this node's log only."""
    incident = secrets.token_hex(8)
    structlog.get_logger("rpc").error(
        "rpc_failed", method=method, incident=incident, exc_info=error
    )
    problem = node_pb2.Problem(
        code="INTERNAL",
        who="internal",
        message="The node failed to answer; its log has the reason under this id.",
        subject=incident,
        retry="after",
        retry_after_ms=1_000,
        fix="give the id to the node's operator",
    )
    await context.abort(
        grpc.StatusCode.INTERNAL,
        "INTERNAL",
        trailing_metadata=((PROBLEM_KEY, problem.SerializeToString()),),
    )
    raise AssertionError("abort raises")
