"""What a worker computes, computed again for an audit, and nothing said to the chain."""

from __future__ import annotations

from chainnode.sdk.input_faults import InputFault
from chainnode.worker.worker import Worker


class Recomputer(Worker):
    """Computes a query's results from the published ciphertexts, for whoever audits them."""

    async def _refuse(self, query: bytes, fault: InputFault) -> None:
        """An auditor's findings go into its report."""
