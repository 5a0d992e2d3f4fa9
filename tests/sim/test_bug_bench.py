"""The bug bench: every seeded defect must be caught, or the checks are too weak."""

import pytest

from chainnode.testing import Simulation
from tests.sim.defects import DEFECTS

SEEDS_MAX = 200


@pytest.mark.parametrize("name", list(DEFECTS))
def test_defect_is_caught(name: str) -> None:
    for seed in range(SEEDS_MAX):
        if Simulation(seed, DEFECTS[name]).run().violation:
            return
    raise AssertionError(f"{name}: not caught in {SEEDS_MAX} seeds")
