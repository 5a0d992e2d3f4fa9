"""Durable appends off the event loop: one thread, in the order they were asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from chainnode.node.metrics import Metrics

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


class Disk:
    """Runs synced writes of the block log and the consensus log."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="disk")

    async def write(
        self,
        append: Callable[Parameters, Answer],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Answer:
        """Run one append to its end, even if the caller is cancelled meanwhile; what it returns.

        Raises:
            InternalError: STORAGE_FAILED; the node stops.
        """

        def timed() -> Answer:
            with self._metrics.log_sync_seconds.time():
                return append(*args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._thread, timed)

    def close(self) -> None:
        """Finish what was asked for."""
        self._thread.shutdown(wait=True)
