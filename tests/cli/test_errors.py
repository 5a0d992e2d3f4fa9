"""What the command line says and how it exits when it cannot do what was asked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chainnode.cli.output import (
    EXIT_CONFIGURATION,
    EXIT_REJECTED,
    EXIT_UNKNOWN_OUTCOME,
    EXIT_UNREACHABLE,
    exit_code,
)
from chainnode.types.errors import ClientFault, ConfigError, InternalError, PeerFault

COMMAND = [sys.executable, "-c", "from chainnode.cli.main import main; main()"]


def chainnode(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ClientFault("TX_EXPIRED", "late"), EXIT_REJECTED),
        (ConfigError("NETWORK_UNKNOWN", "none"), EXIT_CONFIGURATION),
        (PeerFault("NODES_UNREACHABLE", "silent"), EXIT_UNREACHABLE),
        (PeerFault("TX_OUTCOME_UNKNOWN", "no receipt"), EXIT_UNKNOWN_OUTCOME),
        (InternalError("BROKEN", "stop"), 70),
    ],
)
def test_every_class_of_error_has_its_exit_status(error: Exception, status: int) -> None:
    assert exit_code(error) == status  # type: ignore[arg-type]


def test_a_missing_network_is_a_configuration_error_that_says_what_to_do(tmp_path: Path) -> None:
    ran = chainnode("block", "get", "--network", str(tmp_path))
    assert ran.returncode == EXIT_CONFIGURATION
    assert ran.stdout == ""
    assert "NETWORK_UNKNOWN" in ran.stderr
    assert "chainnode testnet up" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_malformed_tx_id_is_refused_before_any_connection() -> None:
    ran = chainnode("tx", "get", "abc")
    assert ran.returncode == EXIT_REJECTED
    assert "TX_ID_MALFORMED" in ran.stderr


def test_an_unknown_option_is_a_usage_error() -> None:
    assert chainnode("block", "get", "--no-such-option").returncode == 2


def test_an_unknown_benchmark_names_those_there_are() -> None:
    ran = chainnode("bench", "nothing")
    assert ran.returncode == EXIT_REJECTED
    assert "verify" in ran.stderr


def test_the_simulator_reports_as_json() -> None:
    ran = chainnode("sim", "run", "--seeds", "2", "--first-seed", "5", "--json")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["seeds"] == 2
    assert report["violations"] == 0
    assert report["failing"] == []
