"""Rule 9, chunks: the blocks of a table split evenly over workers, where that pays."""

from __future__ import annotations

from typing import Final

READS_PER_RESULT: Final = 16
"""Bytes a kernel reads in the time in which a byte of sums is written, hashed, sent and added."""

RUN_BLOCKS_MIN: Final = 8
"""Blocks of a chunk of scores: its part of a tile is read in one run, of 3 KiB with so many."""


def split(block_count: int, chunk_count: int) -> tuple[tuple[int, int], ...]:
    """Contiguous (first block, block count) chunks, sizes differing by at most one.

    Args:
        block_count: blocks of the table.
        chunk_count: workers; fewer chunks result when there are fewer blocks.
    """
    used = max(1, min(block_count, chunk_count))
    size, extra = divmod(block_count, used)
    chunks = []
    first = 0
    for index in range(used):
        count = size + (1 if index < extra else 0)
        chunks.append((first, count))
        first += count
    return tuple(chunks)


def worthwhile(read_bytes: int, sums_bytes: int, chunk_count: int) -> int:
    """Chunks that answer soonest, at most `chunk_count`.

    Another worker saves the others a part of what they read, but each chunk has sums of its own,
    however few its blocks. So the next chunk is made only if it saves more than it adds. The
    rule is one of whole numbers, so that whoever plans the question makes the same chunks.

    Args:
        read_bytes: what all terms read, all blocks together.
        sums_bytes: the sums of one chunk.
        chunk_count: workers.
    """
    used = 1
    while used < chunk_count:
        # From read / used to read / (used + 1).
        if read_bytes < READS_PER_RESULT * sums_bytes * used * (used + 1):
            break
        used += 1
    return used


def in_long_runs(block_count: int, chunk_count: int) -> int:
    """Chunks of a score vector, at most `chunk_count`.

    Scores weigh nothing beside what is read, so that every worker could have a chunk. But all
    blocks of a tile lie together: the fewer of them a chunk has, the shorter are the runs it reads,
    and runs of a few blocks cost half as much again, on every worker that computes.

    Args:
        block_count: blocks of the table.
        chunk_count: workers.
    """
    return max(1, min(chunk_count, block_count // RUN_BLOCKS_MIN))
