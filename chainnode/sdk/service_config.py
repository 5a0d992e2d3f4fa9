"""The TOML file of a process beside a node: HE worker or keyholder.

    name = "bank-a/worker"
    genesis = "/etc/chainnode/genesis.bin"             # relative paths: to this file
    identity = "/etc/chainnode/worker-identity"
    data_dir = "/var/lib/chainnode/worker"
    node = "127.0.0.1:26600"            # or nodes = ["...", "..."]: tried in this order
    listen = "127.0.0.1:26602"          # worker
    worker = "127.0.0.1:26602"          # keyholder
    passphrase_file = "/etc/chainnode/keyholder.passphrase"   # keyholder

    engine = "local"                    # worker: "local", or "ray" or "cuda" with a table below

    [ray]                               # all optional: `chainnode.he.ray_engine.RaySettings`
    address = "10.0.0.5:6379"
    shards = 8
    replication = 2

    [cuda]                              # all optional: `chainnode.he.cuda.settings.CudaSettings`
    device = 0
    device_memory_max_mib = 65536

Optional: server_name, keyholder_name (worker), threads (worker), memory_max_mib (worker), tick_ms.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from chainnode.he.cuda.settings import CudaSettings
from chainnode.he.ray_engine import RaySettings
from chainnode.identity import Identity, load_identity
from chainnode.sdk.client import AsyncClient
from chainnode.sdk.scoring_chain import SdkScoringChain
from chainnode.types.errors import ConfigError

_REQUIRED: Final = ("genesis", "identity", "data_dir")
_TEXT: Final = (
    "name",
    *_REQUIRED,
    "node",
    "listen",
    "worker",
    "passphrase_file",
    "server_name",
    "keyholder_name",
    "engine",
)
_NUMBERS: Final = ("threads", "memory_max_mib", "tick_ms")
_ENGINES: Final = ("local", "ray", "cuda")
Settings = TypeVar("Settings", RaySettings, CudaSettings)


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """What a service was told. Paths are absolute; sizes and times carry their unit."""

    name: str
    genesis: Path
    identity: Path
    data_dir: Path
    nodes: tuple[str, ...]
    listen: str = ""
    worker: str = ""
    passphrase_file: Path | None = None
    server_name: str = ""
    keyholder_name: str = "keyholder"
    threads: int = 1
    memory_max_mib: int = 8_192
    tick_ms: int = 2_000
    ray: RaySettings | None = None
    cuda: CudaSettings | None = None

    def open_identity(self) -> Identity:
        """The process's keys and certificates."""
        return load_identity(self.identity)

    def open_chain(self, identity: Identity) -> tuple[AsyncClient, SdkScoringChain]:
        """The client to close later, and the contract through it."""
        client = AsyncClient(self.nodes, identity, self.genesis, server_name=self.server_name)
        return client, SdkScoringChain(client)


def load_service_config(path: Path) -> ServiceConfig:
    """Read and check a service's TOML.

    Raises:
        ConfigError: `CONFIG_UNREADABLE`, `CONFIG_KEY_UNKNOWN`, `CONFIG_KEY_MISSING`,
            `CONFIG_VALUE_INVALID`, each naming the key.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            "CONFIG_UNREADABLE", f"cannot read it: {error}", subject=str(path), fix="correct it"
        ) from error
    for key in raw:
        if key not in (*_TEXT, *_NUMBERS, "nodes", "endpoints", "chain_id", "ray", "cuda"):
            raise _bad("CONFIG_KEY_UNKNOWN", path, key, "is no key of this file")
    for key in _REQUIRED:
        if key not in raw:
            raise _bad("CONFIG_KEY_MISSING", path, key, "is missing")
    for key in _TEXT:
        if not isinstance(raw.get(key, ""), str):
            raise _bad("CONFIG_VALUE_INVALID", path, key, "is no text")
    for key in _NUMBERS:
        value = raw.get(key, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _bad("CONFIG_VALUE_INVALID", path, key, "is no positive whole number")
    return _config(path, raw)


def _config(path: Path, raw: dict[str, Any]) -> ServiceConfig:
    nodes = raw.get("nodes", raw.get("endpoints", [raw["node"]] if "node" in raw else []))
    if not nodes or not all(isinstance(item, str) for item in nodes):
        raise _bad("CONFIG_KEY_MISSING", path, "node", "names no host:port")
    secret = raw.get("passphrase_file")
    chosen = {key: raw[key] for key in (*_NUMBERS, "server_name", "keyholder_name") if key in raw}
    return ServiceConfig(
        name=raw.get("name", path.stem),
        genesis=(path.parent / raw["genesis"]).resolve(),
        identity=(path.parent / raw["identity"]).resolve(),
        data_dir=(path.parent / raw["data_dir"]).resolve(),
        nodes=tuple(nodes),
        listen=raw.get("listen", ""),
        worker=raw.get("worker", ""),
        passphrase_file=None if secret is None else (path.parent / secret).resolve(),
        ray=_engine(path, raw, "ray", RaySettings()),
        cuda=_engine(path, raw, "cuda", CudaSettings()),
        **chosen,
    )


def _engine(path: Path, raw: dict[str, Any], name: str, settings: Settings) -> Settings | None:
    """An engine's table over its defaults; None unless the file asks for that engine."""
    engine, table = raw.get("engine", "local"), raw.get(name, {})
    if engine not in _ENGINES:
        raise _bad("CONFIG_VALUE_INVALID", path, "engine", f"is none of {', '.join(_ENGINES)}")
    if not isinstance(table, dict):
        raise _bad("CONFIG_VALUE_INVALID", path, name, "is no table")
    known = {item.name: getattr(settings, item.name) for item in fields(settings)}
    for key, value in table.items():
        if key not in known:
            raise _bad("CONFIG_KEY_UNKNOWN", path, f"{name}.{key}", "is no key of this file")
        # From 0 where the default is 0, as a device's number.
        least = min(known[key], 1) if isinstance(known[key], int) else 0
        if type(value) is not type(known[key]) or (isinstance(value, int) and value < least):
            kind = "text" if isinstance(known[key], str) else "positive whole number"
            raise _bad("CONFIG_VALUE_INVALID", path, f"{name}.{key}", f"is no {kind}")
    return replace(settings, **table) if engine == name else None


def _bad(code: str, path: Path, key: str, reason: str) -> ConfigError:
    return ConfigError(code, f"{key} {reason}", subject=f"{path}: {key}", fix=f"set {key}")
