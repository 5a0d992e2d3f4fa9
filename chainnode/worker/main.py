"""`chainnode he worker`: one HE worker process, limited so that it cannot starve its node."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from dataclasses import replace
from pathlib import Path

import structlog

from chainnode import _native
from chainnode.he.cuda.device import CupyDevice
from chainnode.he.cuda.kernels import CudaKernels
from chainnode.he.engine import Engine, LocalEngine
from chainnode.he.kernels import NativeKernels
from chainnode.he.ray_engine import RayEngine, RayFault
from chainnode.sdk.service_config import ServiceConfig, load_service_config
from chainnode.sdk.service_process import main, until_signalled
from chainnode.types.errors import ConfigError
from chainnode.types.limits import MEBI, WORKER_OPEN_FILES_MAX
from chainnode.worker.recompute import recompute_server
from chainnode.worker.worker import Worker

_NICENESS = 5
_FREED_MEMORY_MAX_BYTES = 128 * MEBI


def limit_process(memory_max_mib: int) -> None:
    """Bound memory and open files, forbid core dumps, and give way to the node beside it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = (
        WORKER_OPEN_FILES_MAX
        if hard == resource.RLIM_INFINITY
        else min(WORKER_OPEN_FILES_MAX, hard)
    )
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    # RLIMIT_DATA counts private memory only: mapped tiles may be far larger than memory.
    size_bytes = memory_max_mib * MEBI
    resource.setrlimit(resource.RLIMIT_DATA, (size_bytes, size_bytes))
    os.nice(_NICENESS)
    _native.keep_freed_memory(min(size_bytes // 8, _FREED_MEMORY_MAX_BYTES))


def open_engine(config: ServiceConfig) -> Engine:
    """The engine the configuration asks for.

    Raises:
        ConfigError: `RAY_MISSING`, `RAY_UNREACHABLE`, `CUDA_MISSING` or `CUDA_UNUSABLE`.
    """
    log = structlog.get_logger("worker").bind(name=config.name)
    if config.cuda is not None:

        def broken(reason: str) -> None:
            log.warning("cuda_fault", reason=reason, fix="restart the worker; see the driver's log")

        kernels = CudaKernels(
            CupyDevice(config.cuda.device),
            NativeKernels(config.threads),
            config.cuda.device_memory_max_mib,
            broken,
        )
        return LocalEngine(config.threads, kernels)
    if config.ray is None:
        return LocalEngine(config.threads)

    def warn(fault: RayFault) -> None:
        log.warning(
            "ray_fault", node=fault.node, code=fault.code, reason=fault.reason, shard=fault.shard
        )

    return RayEngine(config.ray, config.threads, warn)


async def serve(config: ServiceConfig, engine: Engine) -> None:
    """Work until cancelled.

    Args:
        config: of the worker.
        engine: computes its chunks.

    Raises:
        ConfigError: `CONFIG_KEY_MISSING`, `LISTEN_FAILED`, and what the identity's loader raises.
    """
    if not config.listen:
        raise ConfigError(
            "CONFIG_KEY_MISSING", "listen is missing", subject=config.name, fix="set listen"
        )
    identity = config.open_identity()
    client, chain = config.open_chain(identity)
    worker = Worker(
        chain,
        identity.organisation,
        config.data_dir,
        engine,
        tick_ms=config.tick_ms,
    )
    server = recompute_server(worker, identity, config.listen, config.keyholder_name)
    await server.start()
    try:
        await worker.run()
    finally:
        await server.stop(grace=1.0)
        await client.close()


def run(config_path: Path | str, data_dir: Path | None = None) -> None:
    """Run the worker until SIGTERM or SIGINT; its data go to `data_dir` instead, if given."""
    config = load_service_config(Path(config_path))
    if data_dir is not None:
        config = replace(config, data_dir=data_dir.resolve())
    limit_process(config.memory_max_mib)
    # Before the event loop: Ray takes over signals, which the loop must take back.
    engine = open_engine(config)
    asyncio.run(until_signalled(serve(config, engine)))


if __name__ == "__main__":
    main(run, sys.argv[1:])
