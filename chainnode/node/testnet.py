"""A network on this machine: files for every process, and starting and stopping them.

Keys come from a seed that anyone can guess, so a testnet is for trying things out, never for data
that matters.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from chainnode.identity import (
    Identity,
    IssuedKeys,
    Organisation,
    build_genesis,
    create_organisation,
    issue_member,
    save_identity,
)
from chainnode.types.errors import ConfigError
from chainnode.types.genesis import ChainConfig, Genesis, Policy
from chainnode.types.member import Role

ORGANISATIONS = (
    ("bank-a", "Bank A"),
    ("guarantor", "Guarantor"),
    ("statistics", "Statistics office"),
    ("registry", "Company registry"),
)
MEMBERS = (
    ("admin", Role.ADMIN),
    ("client", Role.CLIENT),
    ("node", Role.CONSENSUS),
    ("worker", Role.COMMON),
    ("keyholder", Role.COMMON),
)
PORTS_PER_NODE = 10
SERVER_NAME = "localhost"
SUPERVISOR = "chainnode.sdk.supervisor"
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ProcessPlace:
    """Where one process of the testnet lives.

    Args:
        name: organisation/kind.
        kind: "node", "worker" or "keyholder".
        endpoint: host:port of its gRPC services.
        metrics: host:port; empty for none.
        config: its TOML file.
        data_dir: its data.
        identity: its identity folder.
    """

    name: str
    kind: str
    endpoint: str
    metrics: str
    config: Path
    data_dir: Path
    identity: Path

    @property
    def log(self) -> Path:
        """What the process writes."""
        return self.config.with_suffix(".log")


@dataclass(frozen=True, slots=True)
class TestnetLayout:
    """A prepared testnet."""

    __test__ = False

    directory: Path
    chain_id: str
    genesis: Path
    nodes: tuple[ProcessPlace, ...]
    workers: tuple[ProcessPlace, ...]
    keyholders: tuple[ProcessPlace, ...]
    identities: dict[str, Path]

    def describe(self, pids: dict[str, int]) -> dict[str, Any]:
        """The machine-readable description, as `testnet up --json` prints it."""

        def entry(place: ProcessPlace) -> dict[str, Any]:
            return {
                "name": place.name,
                "grpc": place.endpoint,
                "metrics": place.metrics,
                "pid": pids.get(place.name),
                "data_dir": str(place.data_dir),
            }

        return {
            "chain_id": self.chain_id,
            "nodes": [entry(place) for place in self.nodes],
            "workers": [entry(place) for place in self.workers],
            "keyholders": [entry(place) for place in self.keyholders],
            "identities": {name: str(path) for name, path in sorted(self.identities.items())},
            "genesis": str(self.genesis),
            "explorer": None,
            "data_dir": str(self.directory),
        }


def prepare(
    data_dir: Path,
    seed: int = 1,
    nodes: int = 4,
    base_port: int = 26_600,
    config: ChainConfig | None = None,
) -> TestnetLayout:
    """Write everything a testnet needs into `data_dir`; existing files are kept.

    Args:
        data_dir: created when absent.
        seed: the same seed gives the same keys.
        nodes: how many organisations, one validator each.
        base_port: node i listens on base_port + 10 i, its metrics, worker and keyholder on the
            three ports after.
        config: the chain's configuration; a testnet's unless given.

    Raises:
        ConfigError: TESTNET_TOO_MANY_NODES, or TESTNET_NODES_DIFFER from those of the folder.
    """
    if not 1 <= nodes <= 20:
        raise ConfigError(
            "TESTNET_TOO_MANY_NODES", "A testnet has 1 to 20 nodes.", subject=str(nodes)
        )
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    layout = _layout(data_dir, nodes, base_port, config or testnet_config())
    if not layout.genesis.exists():
        _write_identities(layout, seed, nodes, config or testnet_config())
    genesis = Genesis.decode(layout.genesis.read_bytes())
    if len(genesis.validators) != nodes:
        # Fewer would never make a quorum, more are no members of the chain.
        raise ConfigError(
            "TESTNET_NODES_DIFFER",
            f"The chain in this folder has {len(genesis.validators)} nodes, not {nodes}.",
            subject=str(data_dir),
            fix=f"chainnode testnet up --nodes {len(genesis.validators)}, or another folder",
        )
    addresses = {
        f"{member.organisation}/{member.name}": member.address for member in genesis.members
    }
    for place in layout.nodes:
        _write_node(place, layout, addresses)
    for place in (*layout.workers, *layout.keyholders):
        _write_service(place, layout)
    return layout


def testnet_config() -> ChainConfig:
    """A chain for one small machine; two organisations approve a contract."""
    policies = (Policy("contract-admin", 2), Policy("config", 0))
    return ChainConfig(chain_id="testnet", policies=policies)


testnet_config.__test__ = False  # type: ignore[attr-defined]


def spawn(place: ProcessPlace, module: str = "chainnode.node") -> subprocess.Popen[bytes]:
    """Start a process of the testnet; its output goes to `place.log`.

    What is started of a worker or keyholder is its supervisor, which takes it along when it ends.
    """
    environment = dict(os.environ, GRPC_VERBOSITY="NONE", PYTHONUNBUFFERED="1")
    modules = [module] if place.kind == "node" else [SUPERVISOR, module]
    with place.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *modules, str(place.config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], timeout_seconds: float = 10.0) -> int:
    """Ask a process to end, then make it; returns its exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def is_ready(place: ProcessPlace) -> bool:
    """Whether a node answers and is connected to enough validators for a quorum."""
    try:
        with urllib.request.urlopen(f"http://{place.metrics}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def require_running(place: ProcessPlace, process: subprocess.Popen[bytes]) -> None:
    """Refuse to go on without a process of the testnet.

    Raises:
        ConfigError: TESTNET_NODE_FAILED with the end of its log.
    """
    if process.poll() is not None:
        raise ConfigError(
            "TESTNET_NODE_FAILED",
            f"{place.name} ended with status {process.returncode}: {_tail(place.log)}",
            subject=str(place.log),
            fix="read the log",
        )


def wait_ready(
    place: ProcessPlace, process: subprocess.Popen[bytes], timeout_seconds: float = 20.0
) -> None:
    """Return once a node is ready.

    Raises:
        ConfigError: TESTNET_NODE_FAILED with the end of its log, or TESTNET_NOT_READY.
    """
    deadline = time.monotonic() + timeout_seconds
    while not is_ready(place):
        require_running(place, process)
        if time.monotonic() > deadline:
            raise ConfigError(
                "TESTNET_NOT_READY",
                f"{place.name} is not ready after {timeout_seconds:.0f} s.",
                subject=str(place.log),
                fix="read the log",
            )
        time.sleep(_POLL_SECONDS)


def write_description(layout: TestnetLayout, pids: dict[str, int]) -> None:
    """Keep the description where the command line looks for it."""
    path = layout.directory / "testnet.json"
    path.write_text(json.dumps(layout.describe(pids), indent=2) + "\n")


def _layout(directory: Path, nodes: int, base_port: int, config: ChainConfig) -> TestnetLayout:
    places: dict[str, list[ProcessPlace]] = {"node": [], "worker": [], "keyholder": []}
    identities: dict[str, Path] = {}
    for index, (organisation, _) in enumerate(_organisations(nodes)):
        for name, _ in MEMBERS:
            identities[f"{organisation}/{name}"] = directory / "identities" / organisation / name
        port = base_port + PORTS_PER_NODE * index
        for offset, kind in ((0, "node"), (2, "worker"), (3, "keyholder")):
            folder = directory / organisation
            places[kind].append(
                ProcessPlace(
                    name=f"{organisation}/{kind}",
                    kind=kind,
                    endpoint=f"127.0.0.1:{port + offset}",
                    metrics=f"127.0.0.1:{port + 1}" if kind == "node" else "",
                    config=folder / f"{kind}.toml",
                    data_dir=folder / kind,
                    identity=identities[f"{organisation}/{kind}"],
                )
            )
    return TestnetLayout(
        directory=directory,
        chain_id=config.chain_id,
        genesis=directory / "genesis.bin",
        nodes=tuple(places["node"]),
        workers=tuple(places["worker"]),
        keyholders=tuple(places["keyholder"]),
        identities=identities,
    )


def _organisations(nodes: int) -> list[tuple[str, str]]:
    extra = [(f"org-{index}", f"Organisation {index}") for index in range(5, nodes + 1)]
    return [*ORGANISATIONS, *extra][:nodes]


def _write_identities(layout: TestnetLayout, seed: int, nodes: int, config: ChainConfig) -> None:
    secret = hashlib.sha256(b"chainnode/testnet-seed/v1" + str(seed).encode()).digest()
    now = datetime.now(UTC).replace(microsecond=0)
    start = now - timedelta(hours=1)
    authorities: list[Organisation] = [
        create_organisation(identifier, name, testnet_seed=secret, not_before=start)
        for identifier, name in _organisations(nodes)
    ]
    bundle = b"".join(authority.certificate_pem for authority in authorities)
    identities: list[Identity] = []
    for authority in authorities:
        for name, role in MEMBERS:
            identity = issue_member(
                authority,
                name,
                role,
                keys=IssuedKeys.for_testnet(secret, authority.id, name),
                not_before=start,
                ca_bundle_pem=bundle,
            )
            save_identity(layout.identities[f"{authority.id}/{name}"], identity)
            identities.append(identity)
    genesis = build_genesis(
        config,
        int(now.timestamp()) * 1_000,
        [authority.record() for authority in authorities],
        [identity.record() for identity in identities],
    )
    partial = layout.genesis.with_suffix(".new")
    partial.write_bytes(genesis.encode())
    partial.replace(layout.genesis)


def _write_node(place: ProcessPlace, layout: TestnetLayout, addresses: dict[str, bytes]) -> None:
    lines = [
        f"name = {json.dumps(place.name)}",
        *_path_lines(place, layout),
        f"listen = {json.dumps(place.endpoint)}",
        f"metrics = {json.dumps(place.metrics)}",
    ]
    for peer in layout.nodes:
        if peer.name == place.name:
            continue
        lines += [
            "",
            "[[peers]]",
            f"name = {json.dumps(peer.name)}",
            f"validator = {json.dumps(addresses[peer.name].hex())}",
            f"endpoint = {json.dumps(peer.endpoint)}",
            f"server_name = {json.dumps(SERVER_NAME)}",
        ]
    _write(place, lines)


def _write_service(place: ProcessPlace, layout: TestnetLayout) -> None:
    organisation = place.name.partition("/")[0]
    node = next(item for item in layout.nodes if item.name == f"{organisation}/node")
    others = [item.endpoint for item in layout.nodes if item is not node]
    worker = next(item for item in layout.workers if item.name == f"{organisation}/worker")
    lines = [
        f"name = {json.dumps(place.name)}",
        *_path_lines(place, layout),
        f"nodes = {json.dumps([node.endpoint, *others])}",
    ]
    if place.kind == "worker":
        lines.append(f"listen = {json.dumps(place.endpoint)}")
    else:
        lines.append(f"worker = {json.dumps(worker.endpoint)}")
    _write(place, lines)


def _path_lines(place: ProcessPlace, layout: TestnetLayout) -> list[str]:
    # Relative to the file, so that an organisation's folders can be carried to its own machine.
    paths = {"genesis": layout.genesis, "identity": place.identity, "data_dir": place.data_dir}
    return [
        f"{key} = {json.dumps(os.path.relpath(path, place.config.parent))}"
        for key, path in paths.items()
    ]


def _write(place: ProcessPlace, lines: list[str]) -> None:
    place.config.parent.mkdir(parents=True, exist_ok=True)
    place.config.write_text("\n".join(lines) + "\n")


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return lines[-1] if lines else "no output"
