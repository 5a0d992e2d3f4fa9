"""Errors that name the guilty party, the rule broken and the next step.

Every surface (gRPC status details, SDK exception, CLI message) shows these same fields, so that a
code means one thing everywhere. The party decides the class: `ClientFault`, `PeerFault`,
`ConfigError`, `InternalError` (an invariant of ours is broken: the node stops).
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

REJOIN_FIX: Final = (
    "move the data folder away, keep the signer state file where it is, and start the node: it "
    "fetches the chain from its peers and signs nothing that it may have signed before"
)
"""The one way back after local data is lost: docs/how-to/recover-a-validator.md."""

Who = Literal["client", "peer", "config", "internal"]
Retry = Literal["no", "same-id", "after"]


class ChainnodeError(Exception):
    """A failure with a stable code.

    Args:
        code: stable upper-case identifier, e.g. `TX_EXPIRED`.
        message: one sentence, no stack trace, no secret.
        subject: what it is about: a tx id, a height, a field path, a file.
        fix: the next step, as a command or an instruction.
        retry: whether trying again can help; `same-id` means the same signed transaction.
        retry_after_ms: with `retry="after"`, how long to wait.
    """

    who: ClassVar[Who] = "internal"

    def __init__(
        self,
        code: str,
        message: str,
        *,
        subject: str = "",
        fix: str = "",
        retry: Retry = "no",
        retry_after_ms: int = 0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.subject = subject
        self.fix = fix
        self.retry: Retry = retry
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        parts = [f"{self.code}: {self.message}"]
        if self.subject:
            parts.append(f"[{self.subject}]")
        if self.fix:
            parts.append(f"Next: {self.fix}")
        return " ".join(parts)


class ClientFault(ChainnodeError):
    """The caller sent something the rules do not allow."""

    who: ClassVar[Who] = "client"


class PeerFault(ChainnodeError):
    """Another node broke the protocol or could not be reached."""

    who: ClassVar[Who] = "peer"


class ConfigError(ChainnodeError):
    """This installation is set up wrongly; the message names the key and the fix."""

    who: ClassVar[Who] = "config"


class InternalError(ChainnodeError):
    """An invariant of ours does not hold. The node stops rather than guess."""

    who: ClassVar[Who] = "internal"
