"""What a running process holds in its writable memory."""

from collections.abc import Sequence
from pathlib import Path

_STEP_SIZE_BYTES = 16 * 1024 * 1024


def holds_any(pid: int, needles: Sequence[bytes]) -> bool:
    """Whether a process of this user has one of the needles in a writable mapping now."""
    overlap = max(len(needle) for needle in needles) - 1
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            place, rights = line.split()[:2]
            start, end = (int(text, 16) for text in place.split("-"))
            if not rights.startswith("rw"):
                continue
            while start < end:
                try:
                    memory.seek(start)
                    data = memory.read(min(_STEP_SIZE_BYTES + overlap, end - start))
                except OSError:
                    # Reserved, or given back since the list was read.
                    break
                if any(needle in data for needle in needles):
                    return True
                start += _STEP_SIZE_BYTES
    return False
