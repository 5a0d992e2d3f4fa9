"""The core keeps to the table of limits: what a contract may do is said twice, and once alike."""

import re
from pathlib import Path

import pytest

from chainnode.types import limits
from contracts.credit_scoring import records

SOURCES = Path(__file__).resolve().parents[2] / "crates/chain-vm/src"
SAME = [
    ("rules.rs", "CODE_SIZE_MAX_BYTES", limits.CONTRACT_CODE_SIZE_MAX_BYTES),
    ("nested.rs", "MEMORY_MAX_BYTES", limits.CONTRACT_MEMORY_MAX_BYTES),
    ("nested.rs", "CONTRACT_DEPTH_MAX", limits.CONTRACT_CALL_DEPTH_MAX),
    ("nested.rs", "CONTRACT_CALLS_MAX", limits.CONTRACT_CALLS_PER_TRANSACTION_MAX),
    ("host.rs", "EVENT_SIZE_MAX_BYTES", limits.CONTRACT_EVENT_SIZE_MAX_BYTES),
    ("host.rs", "EVENTS_MAX", limits.CONTRACT_EVENTS_PER_TRANSACTION_MAX),
    ("host.rs", "VALUE_SIZE_MAX_BYTES", limits.CONTRACT_VALUE_SIZE_MAX_BYTES),
    ("host.rs", "KEY_SIZE_MAX_BYTES", limits.CONTRACT_KEY_SIZE_MAX_BYTES),
    ("storage.rs", "SCAN_ROWS_MAX", limits.CONTRACT_SCAN_ROWS_MAX),
]


@pytest.mark.parametrize(("file", "name", "expected"), SAME)
def test_a_limit_is_one_number(file: str, name: str, expected: int) -> None:
    source = (SOURCES / file).read_text()
    found = re.findall(
        rf"^(?:pub |pub\(crate\) )?const {name}: \w+ = ([\d_* ]+);", source, re.MULTILINE
    )
    assert len(found) == 1
    product = 1
    for factor in found[0].replace("_", "").split("*"):
        product *= int(factor)
    assert product == expected


def test_the_scoring_contract_keeps_to_the_table() -> None:
    assert records.MEMBERS_MAX == limits.COUNCIL_MEMBERS_MAX
