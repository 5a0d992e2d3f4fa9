"""What a cap on the chain of a hot key in each block would bring, against first come first served.

The alternative is in the manner of Anthemius (arXiv 2502.10074): a proposer leaves transactions for
later whose chain would exceed a share of the block, while other work fills it. Nodes do not do so:
docs/adr/0018-no-cap-on-hot-keys-in-blocks.md says why, with these figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from chainnode import _native
from chainnode.bench import workloads
from chainnode.bench.frame import Figures
from chainnode.bench.replay import replay
from chainnode.bench.workloads import BLOCK_TRANSACTIONS, Workload

WORKERS: Final = 96
BLOCKS: Final = 4
CHAIN_SHARE: Final = 64
"""A key's chain may have one of so many parts of a block's work."""
PASSED_OVER_MAX: Final = 8
"""Blocks that may go by before a transaction is taken whatever its chain."""


@dataclass(slots=True)
class Pending:
    """A transaction in the pool.

    Args:
        line: its line of a trace.
        passed_over: blocks that were built without it though it came before what they hold.
    """

    line: str
    cost_ns: int
    reads: list[int]
    writes: list[int]
    sender: int
    passed_over: int = 0


Builder = Callable[[list[Pending]], list[Pending]]


def pending(trace: _native.Trace) -> Iterator[Pending]:
    """A trace's transactions as a pool holds them; who changes an account first sends."""
    for number, line in enumerate(trace.encode().splitlines()[1:]):
        fields = dict(field.split("=") for field in line.split(" "))
        reads = [int(item.partition("@")[0]) for item in fields.get("r", "").split(",") if item]
        writes = [int(item) for item in fields.get("w", "").split(",") if item]
        yield Pending(line, int(fields["c"]), reads, writes, writes[0] if writes else -number)


def oldest(pool: list[Pending]) -> list[Pending]:
    """The next block as nodes build it: first come, first served."""
    return pool[:BLOCK_TRANSACTIONS]


def capped(pool: list[Pending]) -> list[Pending]:
    """The next block with no hinted chain above its share, while others fill the block.

    Order per sender is kept, and nobody is passed over more often than the limit says.
    """
    limit_ns = sum(one.cost_ns for one in oldest(pool)) // CHAIN_SHARE
    ends: dict[int, int] = {}
    chosen, held, held_senders = list[int](), list[int](), set[int]()
    for number, one in enumerate(pool):
        if len(chosen) == BLOCK_TRANSACTIONS:
            break
        end = one.cost_ns + max((ends.get(key, 0) for key in one.reads), default=0)
        too_long = end > limit_ns and one.passed_over < PASSED_OVER_MAX
        if too_long or one.sender in held_senders:
            held.append(number)
            held_senders.add(one.sender)
            continue
        chosen.append(number)
        for key in one.writes:
            ends[key] = end
    room = BLOCK_TRANSACTIONS - len(chosen)
    for number in held[room:]:
        pool[number].passed_over += 1
    return [pool[number] for number in sorted(chosen + held[:room])]


@dataclass(frozen=True, slots=True)
class Drained:
    """How a pool went.

    Args:
        total_us: time to execute all of it.
        mean_us: when a transaction's block had been executed, on average.
        blocks: the work of each.
    """

    total_us: float
    mean_us: float
    blocks: int


def drain(pool: list[Pending], build: Builder) -> Drained:
    """Build and execute blocks until the pool is empty, one after another."""
    pool, now_us, waited_us, count, blocks = list(pool), 0.0, 0.0, len(pool), 0
    header = _native.Trace().encode()
    while pool:
        block = build(pool)
        text = "".join(f"{one.line}\n" for one in block)
        now_us += replay(_native.Trace.decode(header + text), WORKERS).makespan_us
        waited_us += now_us * len(block)
        taken = {id(one) for one in block}
        pool = [one for one in pool if id(one) not in taken]
        blocks += 1
    return Drained(now_us, waited_us / count, blocks)


def pools() -> dict[str, list[Pending]]:
    """Several blocks' worth each: skewed throughout, with deltas, and one payer's run in front."""
    many = BLOCKS * BLOCK_TRANSACTIONS
    zipf = replace(workloads.ZIPF_99, transactions=many)
    uniform = replace(workloads.UNIFORM_20, transactions=many - BLOCK_TRANSACTIONS)
    payer = Workload(20, accounts=2, payments_only=True)
    return {
        "zipf99": list(pending(zipf.trace())),
        "zipf99_delta": list(pending(replace(zipf, deltas=True).trace())),
        "burst": [*pending(payer.trace()), *pending(uniform.trace())],
    }


def measure() -> tuple[Figures, list[str]]:
    """`building_<pool>_time_ratio`, `_wait_ratio`: first come first served over capped."""
    figures: Figures = {}
    for name, pool in pools().items():
        plain, cut = drain(pool, oldest), drain(pool, capped)
        figures[f"building_{name}_time_ratio"] = round(plain.total_us / cut.total_us, 3)
        figures[f"building_{name}_wait_ratio"] = round(plain.mean_us / cut.mean_us, 3)
        figures[f"building_{name}_block_us"] = round(plain.total_us / plain.blocks, 1)
    return figures, [
        f"building_*: pools of {BLOCKS} blocks, {WORKERS} virtual workers, executed block by block "
        f"until empty, first come first served over a cap of 1/{CHAIN_SHARE} of a block's work on "
        f"each chain (passed over at most {PASSED_OVER_MAX} times): time of all, mean time until "
        "a transaction's block is executed; block_us: mean of a block first come first served. "
        "zipf99: skewed throughout, exact keys; zipf99_delta: additions as deltas; burst: 10,000 "
        "payments between two accounts before 30,000 uniform ones"
    ]
