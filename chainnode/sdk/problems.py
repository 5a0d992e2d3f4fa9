"""Errors as the SDK raises them: the node's Problem, typed; silence of all nodes, typed too."""

from __future__ import annotations

import re
from typing import cast

import grpc
from google.protobuf.message import DecodeError

from chainnode._proto import node_pb2
from chainnode.types.errors import (
    ChainnodeError,
    ClientFault,
    ConfigError,
    InternalError,
    PeerFault,
    Retry,
)
from chainnode.types.receipt import Receipt

PROBLEM_KEY = "chainnode-problem-bin"
_BY_WHO: dict[str, type[ChainnodeError]] = {
    "client": ClientFault,
    "peer": PeerFault,
    "config": ConfigError,
}


def error_of(failure: grpc.aio.AioRpcError) -> ChainnodeError | None:
    """The typed error a node answered with; None when the node did not answer."""
    for key, value in failure.trailing_metadata() or ():
        if key == PROBLEM_KEY and isinstance(value, bytes):
            try:
                problem = node_pb2.Problem.FromString(value)
            except DecodeError:
                break
            return _BY_WHO.get(problem.who, InternalError)(
                problem.code,
                problem.message,
                subject=problem.subject,
                fix=problem.fix,
                retry=cast(Retry, problem.retry or "no"),
                retry_after_ms=problem.retry_after_ms,
            )
    if failure.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return None
    return PeerFault(
        "NODE_ANSWER_STRANGE",
        f"A node answered {failure.code().name} without saying why.",
        fix="check that the endpoint is a chainnode of the same version",
    )


def unreachable(endpoints: list[str]) -> PeerFault:
    """No node answered."""
    return PeerFault(
        "NODES_UNREACHABLE",
        "No node answered.",
        subject=", ".join(endpoints),
        fix="check that the nodes run, and that this identity's TLS certificate is a member's",
        retry="same-id",
    )


def blob_damaged(name: str, digest: bytes) -> PeerFault:
    """A node gave bytes that are not the blob's."""
    return PeerFault(
        "BLOB_HASH_WRONG",
        f"{name} gave other bytes than the blob's.",
        subject=digest.hex(),
        fix="repair that node's disk; another node's copy is used where there is one",
    )


def outcome_unknown(tx_id: bytes, seconds: float) -> PeerFault:
    """A transaction was sent, and no receipt came in time."""
    return PeerFault(
        "TX_OUTCOME_UNKNOWN",
        f"No receipt within {seconds:.0f} s; the transaction may still commit.",
        subject=tx_id.hex(),
        fix="ask for the tx id later, or submit the same transaction again: it never runs twice",
        retry="same-id",
    )


def admission_refused(tx_id: bytes, admission: int) -> ClientFault:
    """A node refused to take a transaction."""
    name = node_pb2.Admission.Name(node_pb2.Admission.ValueType(admission))
    verdict = name.removeprefix("ADMISSION_")
    full = verdict == "POOL_FULL"
    return ClientFault(
        f"TX_{verdict}",
        _ADMISSIONS.get(verdict, "The node refused the transaction."),
        subject=tx_id.hex(),
        fix="send it again later" if full else "build and sign a new transaction",
        retry="after" if full else "no",
        retry_after_ms=500 if full else 0,
    )


_ADMISSIONS = {
    "MALFORMED": "The transaction's bytes break a format rule.",
    "BAD_SIGNATURE": "A signature under the transaction is wrong.",
    "WRONG_CHAIN": "The transaction is for another chain.",
    "EXPIRED": "The transaction's expiry height has passed.",
    "EXPIRY_TOO_FAR": "The expiry height is beyond the chain's window.",
    "TOO_LARGE": "The transaction is larger than the chain allows.",
    "POOL_FULL": "The node has no room for more pending transactions.",
    "UNKNOWN_MEMBER": "The sender is no member of the chain.",
}


class TransactionFailed(ClientFault):
    """A transaction has a receipt, and it is not OK. The code is the receipt's status.

    Args:
        receipt: the receipt.
        error: name of the contract's declared error when it reverted, else empty.
        fields: that error's fields.
    """

    def __init__(
        self, receipt: Receipt, error: str = "", fields: dict[str, object] | None = None
    ) -> None:
        shown = ", ".join(f"{name} {_plain(value)}" for name, value in (fields or {}).items())
        told = f"{error} ({shown})" if error else receipt.message or receipt.status.name
        super().__init__(
            receipt.status.name,
            f"The chain refused the transaction: {told}",
            subject=receipt.tx_id.hex(),
            fix=(error == "CallFailed" and _call_fix(receipt.message))
            or _FIXES.get(receipt.status.name, f"chainnode tx get {receipt.tx_id.hex()}"),
        )
        self.receipt = receipt
        self.error = error
        self.fields = dict(fields or {})


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _call_fix(text: str) -> str:
    """What to do about the innermost of the calls that a text tells of; empty without any."""
    found = _CALL.findall(text)
    if not found:
        return ""
    contract, method, status = found[-1]
    advice = _CALL_FIXES.get(status, _CALL_FIXES["REVERTED"])
    return advice.format(contract=contract, method=method)


_CALL = re.compile(r"([\w-]+)\.(\w+): ([A-Z_]+)\b")
_CALL_FIXES = {
    "REVERTED": "do first what {contract}.{method} asks for; its errors are in: "
    "chainnode contract abi {contract}",
    "OUT_OF_GAS": "raise the transaction's gas limit",
    "UNKNOWN_CONTRACT": "pass the name a contract has on chain, not {contract}",
    "CONTRACT_FROZEN": "ask the consortium's admins about {contract}",
    "UNKNOWN_METHOD": "correct the caller's interface: chainnode contract abi {contract}",
    "REENTRANT": "let the caller return before {contract} is called",
    "CALL_DEPTH": "have fewer contracts call one another",
}
_FIXES = {
    "POLICY_NOT_MET": "have admins of more organisations endorse the same payload: "
    "--endorse ORGANISATION/admin, once for each",
    "CERTIFICATE_EXPIRED": "have the organisation's authority issue the member a new certificate",
    "MEMBER_FROZEN": "ask the consortium's admins to unfreeze the member",
    "OUT_OF_GAS": "raise the transaction's gas limit, or do less in one call",
    "BAD_ENDORSEMENT": "have every endorser sign exactly this payload with its member key",
}
