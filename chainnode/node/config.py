"""A node's settings: what the user wrote, over the defaults, as one frozen value.

Unknown keys are errors, because a misspelt limit that is silently ignored is found out in the
worst hour.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chainnode.network.peer_link import PeerEndpoint
from chainnode.types.errors import ConfigError
from chainnode.types.limits import EXECUTOR_THREADS_MAX, POOL_SIZE_MAX_BYTES, POOL_TRANSACTIONS_MAX

LOOPS = ("uvloop", "asyncio")


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a node runs with.

    Args:
        name: for people, organisation/name.
        genesis: file with the canonical Genesis.
        identity: folder of the node's identity.
        data_dir: block log, state, consensus log and blobs.
        signer_state: file of what the key signed last; signer.state in `identity` when absent.
            Never delete it together with data_dir: it is what keeps this node from signing twice.
        listen: host:port of the peer and public services.
        metrics: host:port of /metrics, /healthz and /readyz; empty for none.
        loop: "uvloop" or "asyncio".
        log_level: "debug", "info", "warning" or "error".
        executor_threads: threads that execute a block and check signatures, 1 to 1024; one per core
            when absent. Results never depend on it.
        executor_pinned: give each thread that executes a core of its own among those the process
            may use; not where nodes share a machine. Without effect where the system refuses.
        pool_transactions_max: pending transactions kept.
        pool_size_max_bytes: their total size.
        peers: the other validators.
    """

    name: str
    genesis: Path
    identity: Path
    data_dir: Path
    listen: str
    signer_state: Path | None = None
    metrics: str = ""
    loop: str = "uvloop"
    log_level: str = "info"
    executor_threads: int | None = None
    executor_pinned: bool = False
    pool_transactions_max: int = POOL_TRANSACTIONS_MAX
    pool_size_max_bytes: int = POOL_SIZE_MAX_BYTES
    peers: tuple[PeerEndpoint, ...] = field(default=())


_PATHS = ("genesis", "identity", "data_dir", "signer_state")
_REQUIRED = ("name", "genesis", "identity", "data_dir", "listen")


def load_config(path: Path) -> NodeConfig:
    """Read a node's TOML file; relative paths are relative to the file.

    Raises:
        ConfigError: CONFIG_NOT_FOUND, CONFIG_NOT_TOML, CONFIG_KEY_UNKNOWN, CONFIG_KEY_MISSING or
            CONFIG_VALUE_WRONG, naming the key.
    """
    try:
        user = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(
            "CONFIG_NOT_FOUND",
            "There is no configuration file here.",
            subject=str(path),
            fix="chainnode testnet up writes one for every node",
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            "CONFIG_NOT_TOML", f"The configuration is not TOML: {error}.", subject=str(path)
        ) from None
    known = {entry.name for entry in dataclasses.fields(NodeConfig)}
    for key in user:
        if key not in known:
            raise ConfigError(
                "CONFIG_KEY_UNKNOWN",
                f"There is no setting called {key}.",
                subject=key,
                fix=f"remove it; the settings are {', '.join(sorted(known))}",
            )
    for key in _REQUIRED:
        if key not in user:
            raise ConfigError("CONFIG_KEY_MISSING", f"The setting {key} is missing.", subject=key)
    return NodeConfig(**{key: _value(key, value, path.parent) for key, value in user.items()})


def split_endpoint(key: str, endpoint: str) -> tuple[str, int]:
    """host and port of "host:port".

    Raises:
        ConfigError: CONFIG_VALUE_WRONG naming `key`.
    """
    host, separator, port = endpoint.rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise _wrong(key, "a host and a port, as in 127.0.0.1:26600")
    return host, int(port)


def _value(key: str, value: Any, base: Path) -> Any:
    if key == "peers":
        return _peers(value)
    if key == "executor_pinned":
        if not isinstance(value, bool):
            raise _wrong(key, "true or false")
        return value
    if key.endswith(("_max", "_max_bytes", "_threads")):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _wrong(key, "a whole number above 0")
        if key == "executor_threads" and value > EXECUTOR_THREADS_MAX:
            raise _wrong(key, f"at most {EXECUTOR_THREADS_MAX}")
        return value
    if not isinstance(value, str):
        raise _wrong(key, "text")
    if key in _PATHS:
        return (base / value).resolve()
    if key == "listen" or (key == "metrics" and value):
        split_endpoint(key, value)
    if key == "loop" and value not in LOOPS:
        raise _wrong(key, " or ".join(LOOPS))
    if key == "log_level" and value not in ("debug", "info", "warning", "error"):
        raise _wrong(key, "debug, info, warning or error")
    return value


def _peers(value: Any) -> tuple[PeerEndpoint, ...]:
    peers = []
    for index, entry in enumerate(value if isinstance(value, list) else [None]):
        key = f"peers[{index}]"
        if not isinstance(entry, dict) or set(entry) != {
            "name",
            "validator",
            "endpoint",
            "server_name",
        }:
            raise _wrong(key, "a table with name, validator, endpoint and server_name")
        split_endpoint(f"{key}.endpoint", entry["endpoint"])
        try:
            validator = bytes.fromhex(entry["validator"])
        except ValueError:
            validator = b""
        if len(validator) != 32:
            raise _wrong(f"{key}.validator", "an address of 64 hexadecimal digits")
        peers.append(
            PeerEndpoint(entry["name"], validator, entry["endpoint"], entry["server_name"])
        )
    return tuple(peers)


def _wrong(key: str, wanted: str) -> ConfigError:
    return ConfigError("CONFIG_VALUE_WRONG", f"The setting {key} wants {wanted}.", subject=key)
