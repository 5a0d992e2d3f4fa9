"""How far a query is, and waiting for its release: what the chain shows of work it does not do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from chainnode.sdk.input_faults import InputFault
from chainnode.sdk.scoring import (
    COMPUTING,
    EXPIRED,
    INPUT_REFUSED,
    RELEASED,
    RELEASING,
    STATUS_NAMES,
    ContractRefused,
    QueryFacts,
    ScoringChain,
    TableFacts,
    read_digests,
    read_posters,
    read_query,
    read_sharing,
)
from chainnode.types.errors import ClientFault, PeerFault

_LATE_MS: Final = 3_000
"""How long the keyholders and workers have for saying that a deadline has passed."""

POLL_S: Final = 0.2
ASKING: Final = "asking"


@dataclass(frozen=True, slots=True)
class QueryProgress:
    """What has been done for a query, as the chain shows it.

    Args:
        query: 32-byte id.
        status: `asking`, or one of `STATUS_NAMES`.
        chunks_done: chunks with a final result, the reduction counted as one.
        chunks: of the plan, and the reduction.
        counts: members that gave their share of the groups' counts.
        shares: members that gave a share that fits.
        shares_needed: how many open the result.
        members: of the council.
        deadline_ms: time of the chain at which the query ends unanswered.
        ending: why it ended, or empty.
    """

    query: bytes
    status: str
    chunks_done: int
    chunks: int
    counts: int
    shares: int
    shares_needed: int
    members: int
    deadline_ms: int
    ending: str

    @staticmethod
    def asking(query: bytes, facts: TableFacts, chunk_count: int) -> QueryProgress:
        """Before anything is on chain: from here on the id is worth keeping."""
        members, needed = len(facts.members), facts.sharing.threshold
        return QueryProgress(query, ASKING, 0, chunk_count + 1, 0, 0, needed, members, 0, "")

    def text(self) -> str:
        """One line for people."""
        if self.status == ASKING:
            return ASKING
        if self.ending:
            return f"{self.status}: {self.ending}"
        if self.status == STATUS_NAMES[COMPUTING]:
            done = f"{self.chunks_done} of {self.chunks} chunks"
        else:
            done = f"{self.counts} counts, {self.shares} shares of {self.members} members"
            done += f", {self.shares_needed} needed"
        until = datetime.fromtimestamp(self.deadline_ms / 1000).strftime("%H:%M:%S")
        return f"{self.status}: {done}; it ends by {until}"


Watch = Callable[[QueryProgress], None]


async def read_progress(chain: ScoringChain, facts: QueryFacts) -> QueryProgress:
    """How far a query is."""
    council = await chain.view("council_info")
    sharing = await read_sharing(chain, facts.epoch)
    chunks = facts.chunk_count + 1
    done = chunks
    if facts.status == COMPUTING:
        infos = [
            await chain.view("chunk_info", query=facts.query, index=index)
            for index in range(chunks)
        ]
        done = sum(bool(final) for _, final in infos)
    counts = await read_posters(chain, facts.epoch, facts.query, "counts")
    return QueryProgress(
        query=facts.query,
        status=STATUS_NAMES[facts.status],
        chunks_done=done,
        chunks=chunks,
        counts=len(counts),
        shares=len(await read_digests(chain, sharing, facts.query)),
        shares_needed=sharing.threshold,
        members=len(sharing.members),
        deadline_ms=facts.time_ms + council["query_deadline_ms"],
        ending=facts.ending,
    )


async def wait_released(
    chain: ScoringChain, query: bytes, timeout_s: float, watch: Watch | None = None
) -> QueryFacts:
    """The record of a query once its answer can be opened.

    Args:
        chain: where the query was asked.
        query: 32-byte id.
        timeout_s: how long to wait; the query goes on after it.
        watch: is told about the progress, every 0.2 s.

    Raises:
        ClientFault: `GROUP_TOO_SMALL` or `GROUPS_TOO_CLOSE`.
        InputFault: an owner's columns cannot be computed on.
        PeerFault: `QUERY_TIMEOUT`, `QUERY_EXPIRED` or `QUERY_REFUSED`.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while True:
        facts = await read_query(chain, query)
        if watch is not None:
            watch(await read_progress(chain, facts))
        if facts.status == RELEASED:
            return facts
        if facts.status > RELEASED:
            if facts.ending == INPUT_REFUSED:
                raise InputFault.stated(await chain.view("refused_input", query=query))
            raise ended(facts)
        await _end_if_late(chain, facts)
        if loop.time() > end:
            raise PeerFault(
                "QUERY_TIMEOUT",
                f"still {STATUS_NAMES[facts.status]} after {timeout_s:g} s; the query goes on and "
                "its budget is spent, whoever waits",
                subject=query.hex(),
                fix=f"collect its answer later: chainnode he answer {query.hex()}; how far it "
                f"is: chainnode he status {query.hex()}",
            )
        await asyncio.sleep(POLL_S)


async def _end_if_late(chain: ScoringChain, facts: QueryFacts) -> None:
    """Say that a deadline has passed: on an idle chain nobody else may bring a block."""
    council = await chain.view("council_info")
    now_ms = time.time() * 1000
    try:
        if now_ms > facts.time_ms + council["query_deadline_ms"] + _LATE_MS:
            await chain.call("expire", query=facts.query)
        elif (
            facts.status == RELEASING
            and now_ms > facts.phase_ms + council["share_deadline_ms"] + _LATE_MS
        ):
            await chain.call("settle", query=facts.query)
    except ContractRefused as error:
        # A service said it first, or too few shares are there to settle for.
        if error.error != "WrongState":
            raise


def ended(facts: QueryFacts) -> ClientFault | PeerFault:
    """The error of a query that ended without an answer to open."""
    if facts.ending == "group too small":
        return ClientFault(
            "GROUP_TOO_SMALL",
            "a group in the answer is smaller than the table's minimum; the query cost budget",
            subject=facts.query.hex(),
            fix="widen the condition or group by a coarser column",
        )
    if facts.ending.startswith("differencing"):
        return ClientFault(
            "GROUPS_TOO_CLOSE",
            f"with answers given before, this one would tell about too few rows: {facts.ending}",
            subject=facts.query.hex(),
            fix="ask for a group that differs from earlier ones by more rows, or by none",
        )
    if facts.status == EXPIRED:
        return PeerFault(
            "QUERY_EXPIRED",
            "the query was not answered by its deadline",
            subject=facts.query.hex(),
            fix="look at the workers and keyholders, then ask again",
        )
    return PeerFault(
        "QUERY_REFUSED",
        f"the query was {STATUS_NAMES[facts.status]}: {facts.ending}",
        subject=facts.query.hex(),
        fix="read the audit trail of the query, then ask again",
    )
