"""Seeds: safety under faults and progress after healing, in every run.

`CHAINNODE_SIM_SEEDS` and `CHAINNODE_SIM_FIRST_SEED` choose how many and which.
"""

import os
import subprocess
import sys

import pytest

from chainnode.testing import Setup, Simulation, replay, run_seeds
from chainnode.testing.faults import FaultPlan
from chainnode.types.errors import ChainnodeError

SEEDS = int(os.environ.get("CHAINNODE_SIM_SEEDS", "60"))
FIRST_SEED = int(os.environ.get("CHAINNODE_SIM_FIRST_SEED", "0"))
ONCE_FAILED = (97, 176, 240, 274, 338, 376, 388)
"""Seeds that found something once: body requests that multiplied without bound."""


@pytest.mark.parametrize(("nodes", "share"), [(4, 0.7), (7, 0.3), (1, 0.05)])
@pytest.mark.timeout(600)
def test_seeds(nodes: int, share: float) -> None:
    report = run_seeds(FIRST_SEED, max(1, int(SEEDS * share)), nodes)
    assert report["failing"] == []
    assert report["faults"] > 0 or nodes == 1


@pytest.mark.parametrize("seed", ONCE_FAILED)
def test_seeds_that_once_failed(seed: int) -> None:
    assert Simulation(seed, Setup()).run().violation == ""


def test_a_seed_replays_exactly() -> None:
    once, again = replay(11), replay(11)
    assert once == again
    assert once["trace"]
    assert once["trace_hash"] != replay(12)["trace_hash"]


def test_hash_order_does_not_matter() -> None:
    code = "from chainnode.testing import replay; print(replay(11)['trace_hash'])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert outputs == {replay(11)["trace_hash"] + "\n"}


def test_a_quiet_network_commits_every_transaction() -> None:
    report = Simulation(3, Setup(plan=FaultPlan())).run()
    assert report.violation == ""
    assert report.height > 10
    assert report.faults == 0


def test_one_twin_of_four_is_harmless() -> None:
    plan = FaultPlan(partitions=((0, 14_000),), byzantine="twins", byzantine_count=1)
    for seed in range(5):
        assert Simulation(seed, Setup(plan=plan)).run().violation == ""


def test_a_lost_data_folder_is_harmless_while_the_signer_keeps_its_own_file() -> None:
    plan = FaultPlan(crash_share=0.005, restart_ms_max=500, delay_ms_max=300, disk_losses_max=1)
    for seed in range(20):
        report = Simulation(seed, Setup(plan=plan)).run()
        assert report.violation == "", seed


def test_two_twins_of_four_fork_and_the_detector_fires() -> None:
    plan = FaultPlan(partitions=((0, 14_000),), byzantine="twins", byzantine_count=2)
    found = [Simulation(seed, Setup(plan=plan)).run().violation for seed in range(5)]
    assert any(violation.startswith("agreement") for violation in found)


def test_two_silent_of_four_stop_and_the_detector_fires() -> None:
    plan = FaultPlan(byzantine="silent", byzantine_count=2)
    assert Simulation(0, Setup(plan=plan)).run().violation.startswith("liveness")


def test_the_report_has_its_keys() -> None:
    report = run_seeds(5, 1)
    assert set(report) == {
        "seeds",
        "events",
        "faults",
        "violations",
        "failing",
        "seeds_per_second",
    }
    with pytest.raises(ChainnodeError, match="UNKNOWN_ENGINE"):
        run_seeds(0, 1, engine="paxos")
