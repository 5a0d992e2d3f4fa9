"""Rule 9, chunks: the blocks of a table split evenly over workers."""

from __future__ import annotations


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
