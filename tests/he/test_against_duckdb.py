"""A few hundred new random queries for every commit; the full run is kept in docs/evidence."""

import subprocess
from pathlib import Path

import pytest
from against_duckdb import run, run_encrypted


@pytest.fixture(scope="module")
def seed() -> str:
    """Derived from the commit, printed by the assertion that fails."""
    root = Path(__file__).resolve().parents[2]
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "no commit"


def test_random_queries_equal_duckdb_on_plaintext_slots(seed: str) -> None:
    counted = run(seed, 200, per_table=50)
    assert counted["equal"] >= 200, seed


def test_random_queries_equal_duckdb_when_encrypted(seed: str) -> None:
    counted = run_encrypted(seed, 6, per_table=6)
    assert counted["equal"] == 6, seed
