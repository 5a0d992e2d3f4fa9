"""The loop of a process that serves encrypted queries: follow the contract, finish what is open.

Everything it does is safe to repeat, so a restart needs no memory but a height to start from: the
contract refuses a second commitment, share or vote, and says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

from chainnode.sdk.scoring import RELEASING, ContractRefused, QueryFacts, ScoringChain, Step
from chainnode.types.errors import ChainnodeError, InternalError

DEFAULT_TICK_MS: Final = 2_000
_LATE: Final = ("AlreadyDone", "WrongState")


class ScoringService:
    """Base of the HE worker and the keyholder.

    Args:
        chain: this process's view of the chain.
        organisation: whose process it is.
        folder: data folder; made if missing, closed to others.
        tick_ms: how often unfinished work is looked at when no block brings news.
    """

    def __init__(
        self,
        chain: ScoringChain,
        organisation: str,
        folder: Path,
        tick_ms: int = DEFAULT_TICK_MS,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.chain = chain
        self.organisation = organisation
        self.folder = folder
        self.height = 0
        self.finalised: dict[bytes, bytes] = {}
        self._open: dict[bytes, None] = {}
        self._tick_s = tick_ms / 1000
        self._deadlines: dict[str, int] = {}
        self._news = asyncio.Event()
        self._complaints: dict[object, str] = {}
        self._log = structlog.get_logger(type(self).__name__.lower()).bind(
            organisation=organisation
        )

    async def advance_query(self, query: bytes) -> bool:
        """Do what can be done now for a query; True when nothing is left for this process."""
        raise NotImplementedError

    async def idle(self) -> None:
        """Do a little of what may wait while no query is open; called once a tick."""

    def reopen(self, query: bytes) -> None:
        """Look at a query once more, though nothing was left to do for it."""
        self._open[query] = None

    async def advance_epoch(self) -> None:
        """Do what can be done now for the council's epoch."""

    async def deadlines(self) -> dict[str, int]:
        """The contract's deadlines in milliseconds, by name; they never change."""
        if not self._deadlines:
            council = await self.chain.view("council_info")
            self._deadlines = {
                name: int(value) for name, value in council.items() if name.endswith("_ms")
            }
        return self._deadlines

    async def end_if_late(self, facts: QueryFacts, seat: int) -> None:
        """Say that a query's deadline has passed: on an idle chain nobody else brings a block.

        Args:
            facts: of the query.
            seat: position in the council; members take turns, so that mostly one says it.
        """
        deadlines = await self.deadlines()
        now_ms = int(time.time() * 1000) - int(seat * self._tick_s * 1000)
        if now_ms > facts.time_ms + deadlines["query_deadline_ms"]:
            await self.attempt("expire", query=facts.query)
        elif facts.status == RELEASING and now_ms > facts.phase_ms + deadlines["share_deadline_ms"]:
            await self.attempt("settle", query=facts.query)

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            InternalError: an invariant of ours broke; the process must stop.
        """
        follower = asyncio.create_task(self._follow())
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._tick_s):
                        await self._news.wait()
                self._news.clear()
                if follower.done():
                    follower.result()
                await self.advance()
        finally:
            follower.cancel()

    async def advance(self) -> None:
        """Look once at the epoch and at every open query."""
        await self._guarded("epoch", self.advance_epoch())
        for query in list(self._open):
            if await self._guarded(query, self.advance_query(query)):
                self._open.pop(query, None)
                self._complaints.pop(query, None)
        if not self._open:
            await self._guarded("idle", self.idle())
        if not self._open and self.height:
            self._cursor().write_text(f"{self.height}\n", encoding="ascii")

    def note(self, height: int, steps: Sequence[Step]) -> None:
        """Take in one block's events."""
        self.height = max(self.height, height)
        for step in steps:
            query = step.fields.get("query")
            if step.name == "QueryStep" and step.fields["step"] == "submitted":
                self._open[bytes(step.fields["query"])] = None
            elif step.name == "QueryFinalised" and query is not None:
                self.finalised[bytes(query)] = step.tx_id
            elif step.name == "QueryStep" and step.fields["step"] == "ended":
                self.finalised.pop(bytes(step.fields["query"]), None)
        if steps:
            self._news.set()

    async def attempt(self, method: str, **kwargs: Any) -> bool:
        """Call the contract; False when it was done before or the moment has passed."""
        try:
            await self.chain.call(method, **kwargs)
        except ContractRefused as error:
            if error.error in _LATE:
                return False
            raise
        return True

    async def _follow(self) -> None:
        delay_s = 0.5
        while True:
            try:
                async for height, steps in self.chain.follow(self._start_height()):
                    self.note(height, steps)
                    delay_s = 0.5
            except ChainnodeError as error:
                self.complain("events", error)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, 10.0)

    def _start_height(self) -> int:
        if self.height:
            return self.height + 1
        with suppress(OSError, ValueError):
            return int(self._cursor().read_text(encoding="ascii")) + 1
        return 1

    def _cursor(self) -> Path:
        return self.folder / "height"

    async def _guarded(self, subject: object, work: Any) -> bool:
        try:
            return bool(await work)
        except InternalError:
            raise
        except ChainnodeError as error:
            self.complain(subject, error)
        return False

    def complain(self, subject: object, error: ChainnodeError) -> None:
        """Log why something is not done yet, once per reason."""
        # Work is tried again on every tick; the same reason is worth one line only.
        text = str(error)
        if self._complaints.get(subject) != text:
            self._complaints[subject] = text
            shown = subject.hex() if isinstance(subject, bytes) else str(subject)
            self._log.warning("not_done_yet", subject=shown, code=error.code, reason=text)
