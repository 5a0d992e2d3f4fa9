"""The worker's part in a query: compute its chunks, commit, reveal, reduce."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chainnode._native import HeColumns, HeCorruptColumn
from chainnode.he.engine import Engine, LocalEngine
from chainnode.he.plan import Plan
from chainnode.he.private_points import EncryptedPoints, PrivateScorecard
from chainnode.sdk.consents import score_mask
from chainnode.sdk.input_faults import InputFault
from chainnode.sdk.private_constants import fetch_selectors
from chainnode.sdk.private_models import fetch_points
from chainnode.sdk.scoring import (
    COMPUTING,
    QueryFacts,
    ScoringChain,
    Step,
    TableFacts,
    chunk_workers,
    confirm_plan,
    gather_blobs,
    read_ids,
    read_query,
    read_table,
    results_needed,
    workers_max,
)
from chainnode.sdk.scoring_service import ScoringService
from chainnode.types.errors import ClientFault, InternalError, PeerFault
from chainnode.types.limits import WORKER_RESULTS_KEPT_MAX
from chainnode.worker.tiles import TileStore, damaged

RESULTS_DIFFER: Final = "reserve: results differ"
"""The contract's step when two workers' results of a chunk are not equal."""


@dataclass(frozen=True, slots=True)
class Job:
    """A query this worker has confirmed and can compute."""

    facts: QueryFacts
    table: TableFacts
    plan: Plan


class Worker(ScoringService):
    """One organisation's HE worker.

    Args:
        chain: this process's view of the chain.
        organisation: whose worker it is.
        folder: tiles and the commitment secret; closed to others.
        engine: computes chunks; the bytes are the same for every engine.
        patience_ticks: ticks a chunk may stay open before its reserve asks to take part.
    """

    def __init__(
        self,
        chain: ScoringChain,
        organisation: str,
        folder: Path,
        engine: Engine | None = None,
        patience_ticks: int = 5,
        tick_ms: int = 2_000,
    ) -> None:
        super().__init__(chain, organisation, folder, tick_ms)
        self._engine = engine or LocalEngine()
        self._tiles = TileStore(folder / "tiles")
        self._results: dict[tuple[bytes, int], bytes] = {}
        self._committed: dict[tuple[bytes, int], None] = {}
        self._revealed: dict[tuple[bytes, int], None] = {}
        self._inspected: dict[bytes, None] = {}
        self._refused: dict[tuple[bytes, str], None] = {}
        self._last_points: tuple[bytes, EncryptedPoints | None] = (b"", None)
        self._computing = asyncio.Lock()
        self._seen: dict[bytes, int] = {}
        self._doubted: dict[bytes, None] = {}
        self._patience = patience_ticks
        self._salt_key = _secret(folder / "salt.key")

    def note(self, height: int, steps: Sequence[Step]) -> None:
        """See `ScoringService.note`; results that differ cast doubt on this worker's own tiles."""
        super().note(height, steps)
        for step in steps:
            if step.name == "ChunkStep" and step.fields["step"] == RESULTS_DIFFER:
                query = bytes(step.fields["query"])
                if (query, int(step.fields["index"])) in self._committed:
                    self._doubted[query] = None
                    self.reopen(query)

    async def idle(self) -> None:
        """See `ScoringService.idle`: look for rot in one column."""
        await self._tiles.scrub()

    async def advance_query(self, query: bytes) -> bool:
        """See `ScoringService.advance_query`."""
        facts = await read_query(self.chain, query)
        if query in self._doubted:
            await self._verify(await self._job(facts))
        if facts.status != COMPUTING:
            return True
        job = await self._job(facts)
        if self.organisation not in job.table.members:
            return True
        await self.end_if_late(facts, job.table.members.index(self.organisation))
        self._seen[query] = self._seen.get(query, 0) + 1
        try:
            await self._advance_chunks(job)
        except InputFault as fault:
            await self._refuse(query, fault)
            raise
        return False

    async def _advance_chunks(self, job: Job) -> None:
        query, count = job.facts.query, job.facts.chunk_count
        if query not in self._inspected and await self.chain.view("input_refusals", query=query):
            # Another organisation names a fault: look for oneself, assigned or not.
            await self._inspect(job)
            self._inspected[query] = None
        finals = await asyncio.gather(*(self._advance_chunk(job, index) for index in range(count)))
        if all(finals):
            await self._advance_chunk(job, count)

    async def _inspect(self, job: Job) -> None:
        """Read everything that a query is computed from.

        Raises:
            InputFault: what of it cannot be computed on.
        """
        await self._tiles.open(self.chain, job.table, job.plan, job.facts)
        await self._mask(job)
        await self._points(job)
        await fetch_selectors(self.chain, job.plan, job.facts)

    async def _refuse(self, query: bytes, fault: InputFault) -> None:
        """State once what is wrong with what this query reads."""
        stated = (query, str(fault))
        if stated not in self._refused:
            await self.attempt("refuse_input", query=query, fault=fault.evidence())
            self._refused[stated] = None

    async def recompute(self, query: bytes, index: int, plan: bytes) -> bytes:
        """The result hash of a chunk (or of the whole query, index `chunk_count`), computed here.

        Nothing that another worker computed enters: a keyholder asks this before it gives a share.

        Raises:
            PeerFault: `PLAN_MISMATCH`.
            InputFault: what is wrong with what the query reads; the contract was told.
            ClientFault: `PLAN_MISMATCH` when the caller holds another plan.
        """
        job = await self._job(await read_query(self.chain, query))
        if job.plan.encode() != plan:
            raise ClientFault(
                "PLAN_MISMATCH", "the plan differs from the one made here", subject=query.hex()
            )
        own = await self._whole(job, index)
        _, final = await self.chain.view("chunk_info", query=query, index=index)
        if final and own != final:
            # Either two others lie, or this worker's own tiles are not what was published.
            self._doubted[query] = None
            with suppress(PeerFault):
                await self._verify(job)
            own = await self._whole(job, index)
        return own

    async def _whole(self, job: Job, index: int) -> bytes:
        """The hash of a chunk, or of the whole result, of nothing but this worker's own making."""
        if index < job.facts.chunk_count:
            return hashlib.sha256(await self._chunk(job, index)).digest()
        try:
            own = [await self._chunk(job, item) for item in range(job.facts.chunk_count)]
            return hashlib.sha256(await self._reduce(job, own)).digest()
        except InputFault as fault:
            await self._refuse(job.facts.query, fault)
            raise

    async def _verify(self, job: Job) -> None:
        """Verify the tiles a doubted query read; if damaged, forget them and all made of them.

        Raises:
            PeerFault: `TILES_DAMAGED`; the next look fetches them again and computes anew.
        """
        self._doubted.pop(job.facts.query, None)
        async with self._computing:
            columns = await self._tiles.open(self.chain, job.table, job.plan, job.facts)
            try:
                await self._tiles.verify(columns, job.plan.columns())
            except PeerFault:
                self._results.clear()
                raise

    async def _job(self, facts: QueryFacts) -> Job:
        table = await read_table(self.chain, facts.table, facts.epoch)
        return Job(facts, table, confirm_plan(table, facts))

    async def _advance_chunk(self, job: Job, index: int) -> bool:
        query, members = job.facts.query, job.table.members
        chunk, final = await self.chain.view("chunk_info", query=query, index=index)
        if final:
            return True
        offset = chunk_workers(members, query, index).index(self.organisation)
        needed, reserve_end = results_needed(len(members)), workers_max(len(members))
        if offset >= (reserve_end if chunk["reserve"] else needed):
            # Reserves ask one after the other: the first may be dead too.
            turn = offset - needed + 1
            if offset < reserve_end and self._seen[query] > turn * self._patience:
                await self.attempt("reassign", query=query, index=index)
            return False
        key = (query, index)
        result = await self._result(job, index)
        digest = hashlib.sha256(result).digest()
        salt = hmac.new(self._salt_key, query + index.to_bytes(8, "big"), hashlib.sha256).digest()
        if key not in self._committed:
            await self.chain.put_blob(result)
            commitment = hashlib.sha256(digest + salt + self.organisation.encode()).digest()
            await self.attempt("chunk_commit", query=query, index=index, commitment=commitment)
            self._committed[key] = None
            chunk, _ = await self.chain.view("chunk_info", query=query, index=index)
        if chunk["commits"] >= needed and key not in self._revealed:
            await self.attempt("chunk_reveal", query=query, index=index, result=digest, salt=salt)
            self._revealed[key] = None
            _, final = await self.chain.view("chunk_info", query=query, index=index)
        return bool(final)

    async def _result(self, job: Job, index: int) -> bytes:
        if index < job.facts.chunk_count:
            return await self._chunk(job, index)
        found = self._results.get((job.facts.query, index))
        if found is not None:
            return found
        digests = []
        for item in range(job.facts.chunk_count):
            _, final = await self.chain.view("chunk_info", query=job.facts.query, index=item)
            digests.append(final)
        parts = await gather_blobs(self.chain, digests)
        return self._remember(job.facts.query, index, await self._reduce(job, parts))

    async def _chunk(self, job: Job, index: int) -> bytes:
        query = job.facts.query
        async with self._computing:
            found = self._results.get((query, index))
            if found is not None:
                return found
            columns = await self._tiles.open(self.chain, job.table, job.plan, job.facts)
            mask, points = await self._mask(job), await self._points(job)
            result = await asyncio.to_thread(
                self._compute, job.plan, index, columns, mask, query, points
            )
            return self._remember(query, index, result)

    def _compute(
        self,
        plan: Plan,
        index: int,
        columns: HeColumns,
        mask: list[bytes],
        query: bytes,
        points: EncryptedPoints | None,
    ) -> bytes:
        try:
            return self._engine.run_chunk(plan, index, columns, mask, query, points)
        except HeCorruptColumn as error:
            self._tiles.discard(columns)
            raise damaged(plan.hash().hex(), error) from error
        except ValueError as error:
            raise ClientFault(
                "CHUNK_FAILED", f"the engine refused: {error}", subject=plan.hash().hex()
            ) from error

    async def _reduce(self, job: Job, parts: list[bytes]) -> bytes:
        relin_key = b""
        if job.plan.aggregate is not None:
            relin_key = await self._relin_key(job)
        selectors = await fetch_selectors(self.chain, job.plan, job.facts)
        return await asyncio.to_thread(self._engine.reduce, job.plan, parts, relin_key, selectors)

    async def _relin_key(self, job: Job) -> bytes:
        keys = await self.chain.view("keys_of", epoch=job.facts.epoch)
        return await self.chain.get_blob(keys[f"relin_key_{job.plan.profile.lower()}"])

    async def _points(self, job: Job) -> EncryptedPoints | None:
        """The ciphertexts of a model with private points; the last model's are kept."""
        if not job.plan.has_private_points() or job.plan.scores is None:
            return None
        record = job.table.catalog.models[job.plan.scores.model]
        if not isinstance(record, PrivateScorecard):
            raise InternalError("MODEL_KIND", "no private points", subject=record.name)
        known, points = self._last_points
        if known != record.hash() or points is None:
            offset, *others = await fetch_points(self.chain, job.facts.table, record)
            points = EncryptedPoints(offset, tuple(others), await self._relin_key(job))
            self._last_points = (record.hash(), points)
        return points

    async def _mask(self, job: Job) -> list[bytes]:
        if job.plan.scores is None:
            return []
        ids = await read_ids(self.chain, job.table)
        return await score_mask(self.chain, job.facts, job.plan, ids)

    def _remember(self, query: bytes, index: int, result: bytes) -> bytes:
        self._results[(query, index)] = result
        while len(self._results) > WORKER_RESULTS_KEPT_MAX:
            self._results.pop(next(iter(self._results)))
        return result


def _secret(path: Path) -> bytes:
    """A secret that hides commitments; the same after a restart, so a reveal still fits."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        key = secrets.token_bytes(32)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key)
        return key
