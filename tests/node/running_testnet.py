"""A real testnet of processes for tests: start, kill -9, restart, clients."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

from chainnode.contract.package import build
from chainnode.identity import Identity, load_identity
from chainnode.node.testnet import TestnetLayout, prepare, spawn, stop, wait_ready
from chainnode.sdk.client import AsyncClient
from chainnode.types.receipt import Receipt

ROOT = Path(__file__).resolve().parents[2]


def free_base_port(nodes: int = 4) -> int:
    """A port from which on the whole testnet's ports are free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        start = probe.getsockname()[1] % 20_000 + 10_000
    for base in range(start, 60_000, 10 * nodes):
        if all(_free(base + 10 * node + offset) for node in range(nodes) for offset in range(2)):
            return base
    raise AssertionError("no free ports")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class RunningTestnet:
    """Four node processes in a folder."""

    def __init__(self, directory: Path, nodes: int = 4, seed: int = 1) -> None:
        self.layout: TestnetLayout = prepare(directory, seed, nodes, free_base_port(nodes))
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, nodes: Iterable[int] | None = None) -> None:
        """Start nodes by index and wait until they are ready."""
        chosen = list(range(len(self.layout.nodes)) if nodes is None else nodes)
        for index in chosen:
            self.processes[index] = spawn(self.layout.nodes[index])
        for index in chosen:
            wait_ready(self.layout.nodes[index], self.processes[index])

    def kill(self, index: int) -> None:
        """kill -9."""
        self.processes[index].kill()
        self.processes.pop(index).wait()

    def stop(self) -> None:
        """End every node; each must end well."""
        statuses = {index: stop(process) for index, process in self.processes.items()}
        self.processes.clear()
        assert set(statuses.values()) <= {0}, statuses

    def identity(self, name: str) -> Identity:
        return load_identity(self.layout.identities[name])

    def client(self, name: str = "bank-a/client", only: int | None = None) -> AsyncClient:
        """A client of all nodes, or of one."""
        nodes = self.layout.nodes if only is None else [self.layout.nodes[only]]
        return AsyncClient(
            [node.endpoint for node in nodes], self.identity(name), self.layout.genesis
        )

    async def deploy_asset(self, amount: int) -> Receipt:
        """Install the asset and issue an amount to bank-a/client."""
        package = build(ROOT / "contracts/asset").package_for({"name": "coin", "decimals": 2})
        endorsers = [self.identity("guarantor/admin"), self.identity("statistics/admin")]
        async with self.client("bank-a/admin") as admin:
            await admin.deploy(package, endorsers)
            holder = self.identity("bank-a/client").address
            return await admin.contract("asset").submit("issue", to=holder, amount=amount)
