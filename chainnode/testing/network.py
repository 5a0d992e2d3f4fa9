"""A simulated network: loss, duplicates, delay and reordering, partitions, one-way cuts."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from chainnode.testing.faults import FaultPlan

SLOW_DELAY_MS_MAX = 3_000


class SimNetwork:
    """Decides when, how often and whether a message arrives.

    Args:
        random: the run's generator.
        plan: the run's faults.
        schedule: (delay in ms, action) puts an action on the virtual clock.
    """

    def __init__(
        self,
        random: Random,
        plan: FaultPlan,
        schedule: Callable[[int, Callable[[], None]], None],
    ) -> None:
        self._random = random
        self._plan = plan
        self._schedule = schedule
        self._cut: set[tuple[int, int]] = set()
        self.healed = False
        self.faults = 0

    def send(self, sender: int, receiver: int, deliver: Callable[[], None]) -> None:
        """Carry one message from one node instance to another, or lose it."""
        random, plan = self._random, self._plan
        if self.healed:
            self._schedule(random.randint(1, 20), deliver)
            return
        if (sender, receiver) in self._cut or random.random() < plan.loss_share:
            self.faults += 1
            return
        copies = 1
        if random.random() < plan.duplicate_share:
            copies = 2
            self.faults += 1
        for _ in range(copies):
            delay_ms = random.randint(1, plan.delay_ms_max)
            if random.random() < plan.slow_share:
                delay_ms += random.randint(0, SLOW_DELAY_MS_MAX)
                self.faults += 1
            self._schedule(delay_ms, deliver)

    def partition(self, left: list[int], right: list[int], *, one_way: bool) -> None:
        """Cut every link from left to right, and back unless it is one-way."""
        self.faults += 1
        self._cut = {(a, b) for a in left for b in right}
        if not one_way:
            self._cut |= {(b, a) for a, b in self._cut}

    def reconnect(self) -> None:
        """End the partition."""
        self._cut = set()

    def heal(self) -> None:
        """End all faults of the network for good."""
        self.reconnect()
        self.healed = True
