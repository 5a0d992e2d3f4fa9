"""Which faults a seed brings: each kind is on or off (swarm testing), each with its own size."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

ByzantineKind = Literal["none", "twins", "equivocate", "silent"]


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """The faults of one run. Shares are probabilities, times are virtual milliseconds."""

    loss_share: float = 0.0
    duplicate_share: float = 0.0
    delay_ms_max: int = 20
    slow_share: float = 0.0
    partitions: tuple[tuple[int, int], ...] = ()
    crash_share: float = 0.0
    restart_ms_max: int = 3_000
    power_cuts_max: int = 0
    power_cut_share: float = 0.0
    sync_ms_max: int = 4
    clock_skew_ms_max: int = 0
    gossip_loss_share: float = 0.0
    byzantine: ByzantineKind = "none"
    byzantine_count: int = 0
    disk_losses_max: int = 0

    @classmethod
    def draw(cls, random: Random, nodes: int, duration_ms: int) -> FaultPlan:
        """Draw a plan; at most f nodes are Byzantine, or lose their data for good."""

        def on() -> bool:
            return random.random() < 0.5

        kind: ByzantineKind = random.choice(("none", "twins", "equivocate", "silent"))
        faulty_max = (nodes - 1) // 3
        count = 0 if kind == "none" or not faulty_max else random.randint(1, faulty_max)
        partitions = []
        if on() or kind == "twins":
            for _ in range(random.randint(1, 3)):
                start_ms = random.randrange(duration_ms)
                partitions.append((start_ms, start_ms + random.randint(500, 6_000)))
        return cls(
            loss_share=random.uniform(0, 0.3) if on() else 0.0,
            duplicate_share=random.uniform(0, 0.3) if on() else 0.0,
            delay_ms_max=random.randint(50, 500) if on() else 20,
            slow_share=random.uniform(0, 0.05) if on() else 0.0,
            partitions=tuple(partitions),
            crash_share=random.uniform(0.0005, 0.005) if on() else 0.0,
            restart_ms_max=random.randint(50, 5_000),
            power_cuts_max=random.randint(1, 3) if on() else 0,
            power_cut_share=random.uniform(0.002, 0.02),
            sync_ms_max=random.choice((100, 1_000)) if random.random() < 0.2 else 4,
            clock_skew_ms_max=random.choice((500, 600_000)) if on() else 0,
            gossip_loss_share=random.uniform(0.1, 1.0) if on() else 0.0,
            byzantine=kind if count else "none",
            byzantine_count=count,
            disk_losses_max=faulty_max if not count and on() else 0,
        )
