"""Committed transfers per second and latency on four real nodes, all checks and TLS on.

Open loop: transactions are sent when their time has come, whether or not the chain keeps up, and a
latency counts from that time, so waiting to send is not hidden. Executed counts as committed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chainnode import _native
from chainnode._proto import node_pb2
from chainnode.bench.frame import Figures
from chainnode.bench.load_network import (
    BATCH_TRANSACTIONS,
    NODES,
    LoadNetwork,
    SignedBatch,
    Usage,
)
from chainnode.sdk.client import AsyncClient

IN_FLIGHT_MAX = 6_000
DRAIN_SECONDS = 15.0
STEADY_SHARE = 0.7
PEAK_SHARE = 1.15
_TAKEN = (node_pb2.ADMISSION_ACCEPTED, node_pb2.ADMISSION_KNOWN)


@dataclass(slots=True)
class Outcome:
    """What one phase saw. Times are seconds of the client's monotonic clock."""

    started: float = 0.0
    ended: float = 0.0
    offered: int = 0
    accepted: int = 0
    refused: int = 0
    sent_at: dict[bytes, float] = field(default_factory=dict)
    done_at: dict[bytes, float] = field(default_factory=dict)
    failed: int = 0

    def committed_tps(self) -> float:
        """Commits per second from the first offer to the last commit."""
        if not self.done_at:
            return 0.0
        return len(self.done_at) / (max(self.done_at.values()) - self.started)

    def latencies_ms(self) -> list[float]:
        """From the time a transaction was due until the client saw its receipt's block."""
        return [
            1_000 * (at - self.sent_at[tx_id])
            for tx_id, at in self.done_at.items()
            if tx_id in self.sent_at
        ]


class Watcher:
    """Follows the chain's events and notes when each transaction was done."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.outcome = Outcome()

    async def run(self, from_height: int) -> None:
        """Watch until cancelled."""
        async for block in self._client.events(from_height):
            now = time.monotonic()
            outcome = self.outcome
            for transaction in block.transactions:
                if transaction.tx_id in outcome.sent_at:
                    outcome.done_at[transaction.tx_id] = now
                    outcome.failed += transaction.status != 1


class Sender:
    """One stream of batches to one node."""

    def __init__(self, client: AsyncClient) -> None:
        self._call: Any = client.endpoints.duplex("/chainnode.v1.Tx/SubmitStream")
        self._reading: asyncio.Task[None] | None = None
        self.outcome = Outcome()

    def start(self) -> None:
        """Read verdicts in the background."""
        self._reading = asyncio.create_task(self._read())

    async def send(self, batch: SignedBatch) -> None:
        """Write one batch."""
        await self._call.write(batch.data)

    async def close(self) -> None:
        """End the stream."""
        await self._call.done_writing()
        if self._reading is not None:
            await self._reading

    async def _read(self) -> None:
        async for data in self._call:
            verdicts = node_pb2.SubmitResponse.FromString(data).admissions
            taken = sum(verdict in _TAKEN for verdict in verdicts)
            self.outcome.accepted += taken
            self.outcome.refused += len(verdicts) - taken


class Load:
    """Offers traffic to a network and measures what comes out."""

    def __init__(self, network: LoadNetwork) -> None:
        self._network = network
        self._clients = [network.client(node) for node in range(NODES)]
        self._watcher = Watcher(network.client(0, "registry/client"))
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Begin to watch; returns the chain's height."""
        height = (await self._clients[0].status()).executed_height
        self._watching = asyncio.create_task(self._watcher.run(height + 1))
        return height

    async def height(self) -> int:
        """The chain's height."""
        return (await self._clients[0].status()).height

    async def offer(self, batches: Sequence[SignedBatch], rate_tps: float | None) -> Outcome:
        """Send batches at a rate, or as fast as `IN_FLIGHT_MAX` allows; wait for the last.

        Args:
            batches: round robin over the nodes.
            rate_tps: transactions per second; None keeps a bounded number in flight.
        """
        outcome = self._watcher.outcome = Outcome()
        senders = [Sender(client) for client in self._clients]
        for sender in senders:
            sender.outcome = outcome
            sender.start()
        outcome.started = time.monotonic()
        for index, batch in enumerate(batches):
            due = await self._due(outcome, index, rate_tps)
            outcome.offered += len(batch.tx_ids)
            outcome.sent_at.update(dict.fromkeys(batch.tx_ids, due))
            await senders[index % NODES].send(batch)
        outcome.ended = time.monotonic()
        for sender in senders:
            await sender.close()
        await self._drain(outcome)
        return outcome

    async def close(self) -> None:
        """Stop watching."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        for client in self._clients:
            await client.close()

    async def _due(self, outcome: Outcome, index: int, rate_tps: float | None) -> float:
        if rate_tps is None:
            while outcome.offered - outcome.refused - len(outcome.done_at) > IN_FLIGHT_MAX:
                await asyncio.sleep(0.005)
            return time.monotonic()
        due = outcome.started + index * BATCH_TRANSACTIONS / rate_tps
        ahead = due - time.monotonic()
        if ahead > 0:
            await asyncio.sleep(ahead)
        return due

    async def _drain(self, outcome: Outcome) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while len(outcome.done_at) < outcome.accepted and time.monotonic() < deadline:
            await asyncio.sleep(0.02)


def run(quick: bool) -> tuple[Figures, list[str]]:
    """Measure a testnet of four nodes on this machine.

    Args:
        quick: shorter phases.

    Raises:
        ConfigError: `TESTNET_NODE_FAILED` with the end of the log of a node that ended; its folder
            stays.
    """
    directory = Path(tempfile.mkdtemp(prefix="chainnode-load-"))
    network = LoadNetwork(directory)
    try:
        network.start()
        measured = asyncio.run(_measure(network, quick))
    finally:
        network.close()
    # Kept after a failure, which names a log there.
    shutil.rmtree(directory)
    return measured


@dataclass(frozen=True, slots=True)
class Phases:
    """Everything one run measured."""

    peak: Outcome
    steady: Outcome
    hot: Outcome
    flood: Outcome
    loop_us_per_tx: float
    cpu_us_per_tx: float
    rss_mib_max: float


async def _measure(network: LoadNetwork, quick: bool) -> tuple[Figures, list[str]]:
    seconds = 3.0 if quick else 15.0
    await network.deploy()
    load = Load(network)
    try:
        await load.start()
        phases = await _phases(network, load, seconds)
    finally:
        await load.close()
    return _figures(phases), _notes(seconds)


async def _phases(network: LoadNetwork, load: Load, seconds: float) -> Phases:
    async def signed(count: float, *, hot: bool = False) -> list[SignedBatch]:
        return network.sign(int(count), await load.height(), hot=hot)

    await load.offer(await signed(4_000), None)
    capacity_tps = (await load.offer(await signed(16_000), None)).committed_tps()
    rate_tps = PEAK_SHARE * capacity_tps
    count = rate_tps * seconds
    batches = await signed(count)
    before = network.usage()
    peak = await load.offer(batches, rate_tps)
    after = network.usage()
    peak_tps = peak.committed_tps()
    steady = await load.offer(
        await signed(STEADY_SHARE * peak_tps * seconds), STEADY_SHARE * peak_tps
    )
    hot = await load.offer(await signed(count, hot=True), rate_tps)
    flood = await load.offer(await signed(3 * peak_tps * seconds), 3 * peak_tps)
    return Phases(
        peak,
        steady,
        hot,
        flood,
        _per_tx_us(before, after, len(peak.done_at), loop=True),
        _per_tx_us(before, after, len(peak.done_at), loop=False),
        max(usage.rss_max_mib for usage in network.usage()),
    )


def _figures(phases: Phases) -> Figures:
    peak, steady, hot, flood = phases.peak, phases.steady, phases.hot, phases.flood
    everything = (peak, steady, hot, flood)
    cut = quantiles(steady.latencies_ms(), n=100)
    bound_tps = _signature_bound_tps()
    peak_tps = peak.committed_tps()
    return {
        "offered_tps": round(peak.offered / (peak.ended - peak.started), 1),
        "accepted_tps": round(peak.accepted / (peak.ended - peak.started), 1),
        "committed_tps": round(peak_tps, 1),
        "failed": sum(phase.failed for phase in everything),
        "latency_p50_ms": round(cut[49], 1),
        "latency_p99_ms": round(cut[98], 1),
        "latency_at_share": STEADY_SHARE,
        "signature_bound_tps": round(bound_tps),
        "achieved_share": round(peak_tps / bound_tps, 3),
        "python_us_per_tx": round(phases.loop_us_per_tx, 1),
        "cpu_us_per_tx": round(phases.cpu_us_per_tx, 1),
        "hot_account_tps": round(hot.committed_tps(), 1),
        "overload_goodput_share": round(flood.committed_tps() / peak_tps, 3),
        "overload_refused": flood.refused,
        "rss_mib_max": round(phases.rss_mib_max, 1),
        "lost": sum(phase.accepted - len(phase.done_at) for phase in everything),
    }


def _per_tx_us(before: list[Usage], after: list[Usage], count: int, *, loop: bool) -> float:
    used = sum(
        (late.loop_cpu_us - early.loop_cpu_us) if loop else (late.cpu_us - early.cpu_us)
        for early, late in zip(before, after, strict=True)
    )
    return used / NODES / max(1, count)


def _signature_bound_tps() -> float:
    """Every transfer is verified once by each of the nodes, which share this machine's cores."""
    signers = [Ed25519PrivateKey.generate() for _ in range(NODES)]
    messages = [number.to_bytes(32, "big") for number in range(512)]
    keys = [
        signers[number % NODES].public_key().public_bytes_raw() for number in range(len(messages))
    ]
    signatures = [signers[number % NODES].sign(message) for number, message in enumerate(messages)]
    times = []
    for _ in range(7):
        start = time.perf_counter()
        _native.verify_ed25519_batch(keys, messages, signatures)
        times.append((time.perf_counter() - start) / 512)
    return (os.cpu_count() or 1) / (NODES * sorted(times)[3])


def _notes(seconds: float) -> list[str]:
    return [
        f"{NODES} nodes and the client share this machine; phases of {seconds:.0f} s; batches of "
        f"{BATCH_TRANSACTIONS} transfers round robin over the nodes",
        "the peak is offered 15 % more than a first phase with bounded transfers in flight reached",
        "committed = executed and durable, seen by a subscriber; transfers are signed beforehand",
        "python_us_per_tx is the CPU time of a node's event-loop thread, an upper bound; "
        "cpu_us_per_tx is the whole process with its native threads",
        "lost = accepted transactions without a receipt when the phase ended",
    ]
