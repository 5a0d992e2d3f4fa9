"""The contract machine: the shipped asset's transfer, metering, threads, and the compiler."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from chainnode import _native
from chainnode.bench import frame
from chainnode.bench.frame import Figures
from chainnode.contract.compiler import compile_path
from chainnode.contract.modules import ENTRY, load_contract
from chainnode.contract.testing import Deployed, NativeBackend, deploy, member
from chainnode.types.errors import ConfigError

CONTRACTS = Path(__file__).resolve().parents[2] / "contracts"
ROUNDS = 9
CALLS_QUICK = 10_000
CALLS_FULL = 50_000
CPYTHON_CALLS = 300
ISSUED = 10**12


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer ready to run: the compiled contract, its state, and the call."""

    wasm: bytes
    args: bytes
    sender: bytes
    entries: list[tuple[bytes, bytes]]
    deployed: Deployed

    def time_us(
        self, calls: int, *, reuse: bool = True, metered: bool = True, threads: int = 1
    ) -> float:
        """Microseconds per call on each thread."""
        spent_ns = _native.time_contract_calls(
            self.wasm,
            "c:transfer",
            self.args,
            self.sender,
            "asset",
            self.entries,
            calls=calls,
            reuse=reuse,
            metered=metered,
            threads=threads,
        )
        return spent_ns / calls / 1_000


def run(quick: bool) -> tuple[Figures, list[str]]:
    """Measure the machine; every ratio inside one interleaved run, medians of nine.

    Args:
        quick: fewer calls per round.

    Raises:
        ConfigError: `CONTRACT_MISSING`, when the shipped contracts are not beside the package.
        ValueError: a timed call did not return.
    """
    calls = CALLS_QUICK if quick else CALLS_FULL
    transfer = prepare()
    times: dict[str, list[float]] = {"reused": [], "fresh": [], "unmetered": [], "two": []}
    for _ in range(ROUNDS):
        times["reused"].append(transfer.time_us(calls))
        times["unmetered"].append(transfer.time_us(calls, metered=False))
        times["fresh"].append(transfer.time_us(calls // 5, reuse=False))
        times["two"].append(transfer.time_us(calls, threads=2))
    metering = [one / other for one, other in zip(times["reused"], times["unmetered"], strict=True)]
    scaling = [2 * one / two for one, two in zip(times["reused"], times["two"], strict=True)]
    figures: Figures = {
        "transfer_reused_us": round(median(times["reused"]), 3),
        "transfer_fresh_us": round(median(times["fresh"]), 3),
        "metering_overhead_ratio": round(median(metering), 3),
        "threads2_scaling": round(median(scaling), 2),
        "compile_ms_max": round(compile_ms_max(), 1),
        "cpython_inprocess_us": round(cpython_us(transfer.deployed), 1),
        "worker_socket_us": None,
    }
    notes = [
        "transfer: 1 read, 1 write, 1 addition, 1 event; view and rollback included, transaction, "
        "signature and receipt excluded",
        "worker_socket_us is null: no contract runs in a worker process here",
    ]
    doubt = frame.threads_doubt(2, frame.spin_scaling())
    if doubt:
        figures["threads2_scaling"] = None
        notes.append(f"threads2_scaling is null: {doubt}")
    return figures, notes


def shipped(name: str) -> Path:
    """The folder of a shipped contract."""
    path = CONTRACTS / name
    if not (path / ENTRY).is_file():
        raise ConfigError(
            "CONTRACT_MISSING",
            f"The shipped contract {name} is not installed.",
            subject=str(path),
            fix="run from a checkout, or install the wheel with its contracts",
        )
    return path


def prepare() -> Transfer:
    """Deploy the asset under CPython, issue to both ends, and take its state for the machine."""
    path = shipped("asset")
    issuer, holder, other = member("issuer", role="admin"), member("holder"), member("other")
    contract = load_contract(path).Asset
    deployed = deploy(contract, sender=issuer, backend=NativeBackend, name="Asset", decimals=2)
    for owner in (holder, other):
        deployed.call("issue", to=owner.address, amount=ISSUED)
    prefix = b"\x04\x05asset"
    return Transfer(
        wasm=compile_path(path).wasm,
        args=bytes(other.address) + (1).to_bytes(8, "big"),
        sender=bytes(holder.address),
        entries=[(prefix + key, value) for key, value in deployed.storage.items()],
        deployed=deployed,
    )


def compile_ms_max() -> float:
    """The slowest shipped contract's compilation, median of five."""
    slowest = 0.0
    for path in sorted(CONTRACTS.glob(f"*/{ENTRY}")):
        spent = []
        for _ in range(5):
            start = time.perf_counter()
            compile_path(path)
            spent.append(time.perf_counter() - start)
        slowest = max(slowest, 1_000 * median(spent))
    return slowest


def cpython_us(deployed: Deployed) -> float:
    """The same transfer under CPython, its ABI and range checks included."""
    holder, other = member("holder"), member("other")
    start = time.perf_counter()
    for _ in range(CPYTHON_CALLS):
        deployed.call("transfer", sender=holder, to=other.address, amount=1)
    return 1_000_000 * (time.perf_counter() - start) / CPYTHON_CALLS
