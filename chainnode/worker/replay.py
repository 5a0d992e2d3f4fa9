"""What a worker computes, computed again for an audit, and nothing said to the chain."""

from __future__ import annotations

import hashlib

from chainnode.sdk.input_faults import InputFault
from chainnode.sdk.scoring import read_query
from chainnode.worker.worker import Worker


class Recomputer(Worker):
    """Computes a query's results from the published ciphertexts, for whoever audits them."""

    async def _refuse(self, query: bytes, fault: InputFault) -> None:
        """An auditor's findings go into its report."""

    async def inspect(self, query: bytes) -> None:
        """Read all that a query is computed from.

        Raises:
            InputFault: what of it cannot be computed on.
        """
        await self._inspect(await self._job(await read_query(self.chain, query)))

    async def reduced(self, query: bytes) -> bytes:
        """The hash of the whole made of the chunks that are final on chain, right or wrong."""
        job = await self._job(await read_query(self.chain, query))
        return hashlib.sha256(await self._result(job, job.facts.chunk_count)).digest()
