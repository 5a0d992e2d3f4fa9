"""A worker cannot starve its node: what `limit_process` bounds, seen from inside a process."""

import json
import subprocess
import sys
from typing import Any

import pytest

LIMIT_MIB = 1_024
PROBE = """
import json, mmap, os, resource, sys, tempfile
from chainnode.worker.main import limit_process
before = os.nice(0)
limit_process(%d)
found = {
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    "data": resource.getrlimit(resource.RLIMIT_DATA),
    "niceness": os.nice(0) - before,
}
with tempfile.TemporaryFile() as file:
    # Twice the limit, as tiles of a large table are.
    file.truncate(2 * %d << 20)
    with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as tiles:
        found["mapped"] = tiles[-1]
try:
    bytearray(%d << 20)
    found["memory"] = "given"
except MemoryError:
    found["memory"] = "refused"
found["small"] = len(bytearray(64 << 20)) >> 20
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-c", PROBE % (LIMIT_MIB, LIMIT_MIB, LIMIT_MIB)],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return dict(json.loads(ran.stdout))


def test_memory_is_bounded_and_mapped_tiles_do_not_count(found: dict[str, Any]) -> None:
    assert found["data"] == [LIMIT_MIB << 20] * 2
    assert (found["memory"], found["small"], found["mapped"]) == ("refused", 64, 0)


def test_no_core_dump_few_files_and_way_given_to_the_node(found: dict[str, Any]) -> None:
    assert found["core"] == [0, 0]
    assert found["files"] <= 4_096
    assert found["niceness"] == 5
