"""Durable appends off the event loop: one thread, in the order they were asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec

from chainnode.node.metrics import Metrics

Parameters = ParamSpec("Parameters")


class Disk:
    """Runs synced writes of the block log and the consensus log."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="disk")

    async def write(
        self,
        append: Callable[Parameters, None],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> None:
        """Run one append to its end, even if the caller is cancelled meanwhile.

        Raises:
            InternalError: STORAGE_FAILED; the node stops.
        """

        def timed() -> None:
            with self._metrics.log_sync_seconds.time():
                append(*args, **kwargs)

        await asyncio.get_running_loop().run_in_executor(self._thread, timed)

    def close(self) -> None:
        """Finish what was asked for."""
        self._thread.shutdown(wait=True)
