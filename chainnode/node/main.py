"""The entry point of a node's process."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog

from chainnode.node.config import NodeConfig, load_config
from chainnode.node.logs import configure_logs
from chainnode.types.errors import ChainnodeError

# A thread that comes back from native code waits this long for the interpreter: the event loop must
# not wait 5 ms, Python's own choice, for a thread that packs a block's results.
SWITCH_INTERVAL_SECONDS = 0.0005


def run(config_path: Path, data_dir: Path | None = None) -> None:
    """Run a node in the foreground until SIGTERM or SIGINT.

    Args:
        config_path: its TOML file.
        data_dir: where its data go instead of the file's `data_dir`.

    Raises:
        ConfigError: the configuration, genesis, identity or data folder is wrong.
        InternalError: the node stopped itself: an invariant is broken or storage failed.
    """
    config = load_config(config_path)
    if data_dir is not None:
        config = replace(config, data_dir=data_dir.resolve())
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    configure_logs(config.log_level, config.name)
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    with asyncio.Runner(loop_factory=_loop_factory(config.loop)) as runner:
        runner.run(_serve(config))


async def _serve(config: NodeConfig) -> None:
    # Composed here: after this import gRPC's event machinery belongs to the chosen loop.
    from chainnode.node.composition import Node

    node = Node(config)
    # What exists now lives as long as the process: keep it out of every later collection.
    gc.freeze()
    running = asyncio.create_task(node.run(), name="node")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        return
    except BaseExceptionGroup as group:
        raise _first_error(group) from group


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    for error in group.exceptions:
        found = _first_error(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, ChainnodeError):
            structlog.get_logger("node").error("node_failed", code=found.code, reason=str(found))
            return found
    error = group.exceptions[0]
    structlog.get_logger("node").error("node_failed", code="INTERNAL", exc_info=error)
    return error


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "uvloop":
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
        return factory
    return asyncio.new_event_loop
