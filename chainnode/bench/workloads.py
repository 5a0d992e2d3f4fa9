"""Blocks to measure the executor with: who touches what, how often, and what is a delta.

The mixes are those of the studies the figures are compared with: SmallBank (Alomari and others,
ICDE 2008) over accounts drawn uniformly or by a zipf law, and plain transfers. A delta is an
addition whose bounds are checked at commit: a deposit, the balance side of a payment or a cheque.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

from chainnode import _native

BLOCK_TRANSACTIONS = 10_000
SAVINGS = 1 << 40
COUNTER = 1 << 50


@dataclass(frozen=True, slots=True)
class Workload:
    """A block and what makes its figures comparable.

    Args:
        skew: exponent of the zipf law; 0 is uniform.
        updates: share of transactions that write; the others are balance queries.
        deltas: whether additions are deltas or exact reads and writes.
        counter: `exact` or `delta` when every transaction also adds to one global counter.
    """

    cost_us: float
    accounts: int = 1_000_000
    skew: float = 0.0
    updates: float = 0.5
    deltas: bool = False
    counter: str = ""
    payments_only: bool = False
    transactions: int = BLOCK_TRANSACTIONS
    seed: int = 1

    def trace(self) -> _native.Trace:
        """The block, the same for the same arguments."""
        return build(self)[0]

    def describe(self) -> str:
        """Cost, size, conflicts, T1 and the bound, for the notes of a figure."""
        trace, conflicts = build(self)
        bound = trace.work_ns / trace.critical_path_ns
        kind = f"zipf {self.skew} over" if self.skew else "uniform over"
        mix = f"SmallBank, {100 * self.updates:g} % updates"
        mix = "payments" if self.payments_only else mix
        extra = f", one global counter ({self.counter})" if self.counter else ""
        extra += ", additions as deltas" if self.deltas else ", exact keys"
        return (
            f"{self.cost_us:g} us a transaction, block of {self.transactions:,}, {mix}, {kind} "
            f"{self.accounts:,} accounts{extra}; {100 * conflicts:.1f} % of the transactions read "
            f"what an earlier one writes; T1/T-infinity {bound:,.1f}; serial baseline "
            f"{trace.work_ns / 1e6:,.1f} ms"
        )


@dataclass(slots=True)
class Access:
    reads: list[int]
    writes: list[int]
    deltas: list[int]


@cache
def _cumulative(accounts: int, skew: float) -> list[float]:
    return list(accumulate(1 / rank**skew for rank in range(1, accounts + 1)))


def _drawing(load: Workload, draw: random.Random) -> Callable[[], int]:
    if not load.skew:
        return lambda: draw.randrange(load.accounts)
    weights = _cumulative(load.accounts, load.skew)
    # Neighbouring ranks are not neighbouring keys.
    return lambda: bisect(weights, draw.random() * weights[-1]) * 2_654_435_761 % (1 << 32)


def _added(keys: list[int], deltas: bool) -> Access:
    return Access([], [], keys) if deltas else Access(keys, keys, [])


def _smallbank(kind: int, account: int, other: int, deltas: bool) -> Access:
    """One of SmallBank's six transactions."""
    savings = SAVINGS + account
    match kind:
        case 0:  # balance
            return Access([account, savings], [], [])
        case 1:  # deposit
            return _added([account], deltas)
        case 2:  # transact savings
            return _added([savings], deltas)
        case 3:  # amalgamate: empties one customer's accounts, so its reads are exact
            found = _added([other], deltas)
            keys = [account, savings]
            return Access(keys + found.reads, keys + found.writes, found.deltas)
        case 4:  # write check: the savings count for the overdraft test
            found = _added([account], deltas)
            reads = found.reads if deltas else [savings, *found.reads]
            return Access(reads, found.writes, found.deltas)
        case _:  # send payment
            return _added([account, other], deltas)


@cache
def build(load: Workload) -> tuple[_native.Trace, float]:
    """(the trace, the share of transactions that read what an earlier one writes)."""
    draw = random.Random(load.seed)
    account = _drawing(load, draw)
    trace, written, conflicts = _native.Trace(), set[int](), 0
    cost_ns = round(load.cost_us * 1_000)
    for _ in range(load.transactions):
        one, other = account(), account()
        while other == one:
            other = account()
        kind = draw.randrange(1, 6) if draw.random() < load.updates else 0
        kind = 5 if load.payments_only else kind
        found = _smallbank(kind, one, other, load.deltas)
        if load.counter:
            counted = _added([COUNTER], load.counter == "delta")
            found.reads = found.reads + counted.reads
            found.writes = found.writes + counted.writes
            found.deltas = found.deltas + counted.deltas
        conflicts += not written.isdisjoint(found.reads)
        written.update(found.writes)
        trace.add(
            cost_ns,
            reads=[(key, 0) for key in found.reads],
            writes=found.writes,
            deltas=found.deltas,
        )
    return trace, conflicts / load.transactions


UNIFORM_20 = Workload(20)
UNIFORM_100 = Workload(100)
UNIFORM_3 = Workload(3)
ZIPF_80 = Workload(20, accounts=100_000, skew=0.8)
ZIPF_99 = Workload(20, accounts=100_000, skew=0.99)
ZIPF_99_DELTA = Workload(20, accounts=100_000, skew=0.99, deltas=True)
COUNTER_DELTA = Workload(20, payments_only=True, counter="delta")
COUNTER_EXACT = Workload(20, payments_only=True, counter="exact")
