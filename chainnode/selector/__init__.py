"""Which shape the next block takes, decided from committed headers alone."""

from chainnode.selector.policy import BlockEvidence, Bounds, Decision, check, decide, explain

__all__ = ["BlockEvidence", "Bounds", "Decision", "check", "decide", "explain"]
