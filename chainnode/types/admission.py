"""Verdicts on submitted transactions, and what each means to the client."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from chainnode.types.errors import ClientFault, Retry


class AdmissionCode(IntEnum):
    """As `Admission` in node.proto."""

    ACCEPTED = 1
    KNOWN = 2
    MALFORMED = 3
    BAD_SIGNATURE = 4
    WRONG_CHAIN = 5
    EXPIRED = 6
    EXPIRY_TOO_FAR = 7
    TOO_LARGE = 8
    POOL_FULL = 9
    UNKNOWN_MEMBER = 10


POOL_FULL_RETRY_AFTER_MS: Final = 500


@dataclass(frozen=True, slots=True)
class _Text:
    code: str
    message: str
    fix: str
    retry: Retry = "no"
    retry_after_ms: int = 0


_FAULTS: Final[dict[AdmissionCode, _Text]] = {
    AdmissionCode.MALFORMED: _Text(
        "MALFORMED", "the bytes are no canonical transaction", "build it with the SDK"
    ),
    AdmissionCode.BAD_SIGNATURE: _Text(
        "BAD_SIGNATURE",
        "the sender's or an endorser's signature is not valid",
        "sign the transaction id with the key that `sender` names",
    ),
    AdmissionCode.WRONG_CHAIN: _Text(
        "WRONG_CHAIN", "the transaction is for another chain", "use this node's chain id"
    ),
    AdmissionCode.EXPIRED: _Text(
        "TX_EXPIRED", "no coming block may contain it", "sign it again with a later expiry height"
    ),
    AdmissionCode.EXPIRY_TOO_FAR: _Text(
        "EXPIRY_TOO_FAR",
        "it expires beyond the window in which repeats are remembered",
        "sign it again with an earlier expiry height",
    ),
    AdmissionCode.TOO_LARGE: _Text(
        "TX_TOO_LARGE", "the transaction is above the size limit", "split it, or send a blob"
    ),
    AdmissionCode.POOL_FULL: _Text(
        "POOL_FULL",
        "the pool has no room",
        "send the same transaction again, or to another node",
        "after",
        POOL_FULL_RETRY_AFTER_MS,
    ),
    AdmissionCode.UNKNOWN_MEMBER: _Text(
        "UNKNOWN_MEMBER",
        "the sender is no member of this chain",
        "have an admin enrol the key: chainnode member add",
    ),
}


def admission_fault(code: int, tx_id: bytes) -> ClientFault | None:
    """The error a refused transaction means; None for one that is pending or committed.

    Args:
        code: an `Admission` value.
        tx_id: of the transaction, or empty bytes.
    """
    try:
        text = _FAULTS.get(AdmissionCode(code))
    except ValueError:
        text = _Text("REFUSED", f"the node answered with verdict {code}", "update the client")
    if text is None:
        return None
    return ClientFault(
        text.code,
        text.message,
        subject=tx_id.hex(),
        fix=text.fix,
        retry=text.retry,
        retry_after_ms=text.retry_after_ms,
    )
