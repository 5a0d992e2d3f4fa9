"""`chainnode he keyholder`: one keyholder process, with its own TLS identity and key store."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import sys
from dataclasses import replace
from pathlib import Path

from chainnode.keyholder.keyholder import Keyholder
from chainnode.keyholder.store import KeyStore
from chainnode.sdk.service_config import ServiceConfig, load_service_config
from chainnode.sdk.service_process import main, until_signalled
from chainnode.types.errors import ConfigError
from chainnode.worker.recompute import RecomputeClient


def read_passphrase(path: Path) -> bytes:
    """The passphrase in a file that only its owner reads; a missing one is made at random.

    Raises:
        ConfigError: `KEY_FILE_EXPOSED`, `PASSPHRASE_MISSING`.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    if path.stat().st_mode & 0o077:
        raise ConfigError(
            "KEY_FILE_EXPOSED",
            "others on this machine can read the passphrase",
            subject=str(path),
            fix=f"chmod 600 {path}",
        )
    passphrase = path.read_bytes().strip()
    if not passphrase:
        raise ConfigError(
            "PASSPHRASE_MISSING", "the file is empty", subject=str(path), fix="write one into it"
        )
    return passphrase


async def serve(config: ServiceConfig) -> None:
    """Hold the key until cancelled.

    Raises:
        ConfigError: `CONFIG_KEY_MISSING`, `PASSPHRASE_WRONG`, ...
    """
    if not config.worker:
        raise ConfigError(
            "CONFIG_KEY_MISSING", "worker is missing", subject=config.name, fix="set worker"
        )
    identity = config.open_identity()
    passphrase = read_passphrase(config.passphrase_file or config.data_dir / "passphrase")
    store = KeyStore(config.data_dir / "keys", passphrase)
    client, chain = config.open_chain(identity)
    recompute = RecomputeClient(config.worker, identity)
    keyholder = Keyholder(
        chain,
        identity.organisation,
        config.data_dir,
        store,
        client.genesis.validator_set(),
        recompute,
        tick_ms=config.tick_ms,
    )
    try:
        await keyholder.run()
    finally:
        await recompute.close()
        await client.close()


def run(config_path: Path | str, data_dir: Path | None = None) -> None:
    """Run the keyholder until SIGTERM or SIGINT; its data go to `data_dir` instead, if given."""
    # A core dump would hold the key share.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    config = load_service_config(Path(config_path))
    if data_dir is not None:
        config = replace(config, data_dir=data_dir.resolve())
    asyncio.run(until_signalled(serve(config)))


if __name__ == "__main__":
    main(run, sys.argv[1:])
