"""The process of a service beside the node: its signals, its heartbeat, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from chainnode.types.errors import ChainnodeError

HEARTBEAT_VARIABLE: Final = "CHAINNODE_HEARTBEAT_FD"
HEARTBEAT_INTERVAL_S: Final = 1.0
EXIT_CONFIGURATION: Final = 3
EXIT_INTERNAL: Final = 70


async def until_signalled(work: Coroutine[Any, Any, None]) -> None:
    """Await a coroutine; SIGTERM and SIGINT cancel it and are a normal end.

    A supervisor that asked for it is told every second that the event loop turns.
    """
    task = asyncio.create_task(work)
    beating = asyncio.create_task(_beat())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        with suppress(asyncio.CancelledError):
            await task
    finally:
        beating.cancel()


async def _beat() -> None:
    given = os.environ.get(HEARTBEAT_VARIABLE, "")
    if not given:
        return
    place = int(given)
    os.set_blocking(place, False)
    while True:
        # Full: the supervisor is stopped. Broken: it is gone, and the kernel ends this process.
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(place, b".")
        await asyncio.sleep(HEARTBEAT_INTERVAL_S)


def main(run: Callable[[Path, Path | None], int | None], arguments: Sequence[str]) -> NoReturn:
    """Run a service as a process: its configuration file, then, if given, its data folder.

    `run` returns the exit status, None for 0.
    A typed error is one line on standard error and an exit status; 3 means that starting again
    with the same file is of no use.
    """
    try:
        status = run(Path(arguments[0]), Path(arguments[1]) if len(arguments) > 1 else None)
    except ChainnodeError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_CONFIGURATION if error.who == "config" else EXIT_INTERNAL)
    sys.exit(status or 0)
