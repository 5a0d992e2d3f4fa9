"""The network under load: four real node processes, the asset contract, signed transfers."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from random import Random

from chainnode._proto import types_pb2
from chainnode.contract.package import build
from chainnode.identity import Identity, load_identity
from chainnode.node.testnet import (
    TestnetLayout,
    prepare,
    require_running,
    spawn,
    stop,
    wait_ready,
)
from chainnode.sdk.client import AsyncClient
from chainnode.types.codec import encode
from chainnode.types.errors import ConfigError
from chainnode.types.transaction import Payload, PayloadKind

NODES = 4
ACCOUNTS = 10_000
BATCH_TRANSACTIONS = 50
GAS_LIMIT = 1_000_000
ISSUED = 10**12
_CONTRACT = Path(__file__).resolve().parents[2] / "contracts" / "asset"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class SignedBatch:
    """Transfers ready to be sent: one encoded TransactionBatch and the ids in it."""

    data: bytes
    tx_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """What one node process has used so far."""

    cpu_us: float
    loop_cpu_us: float
    rss_max_mib: float


class LoadNetwork:
    """Four nodes in a folder, each a process of its own.

    Args:
        directory: empty.
    """

    def __init__(self, directory: Path) -> None:
        self.layout: TestnetLayout = prepare(directory, 1, NODES, _free_base_port())
        self._processes: list[subprocess.Popen[bytes]] = []
        self._made = 0
        self._random = Random(16)

    def start(self) -> None:
        """Start the nodes and wait until they are connected."""
        self._processes = [spawn(place) for place in self.layout.nodes]
        for place, process in zip(self.layout.nodes, self._processes, strict=True):
            wait_ready(place, process)

    def close(self) -> None:
        """Stop the nodes."""
        for process in self._processes:
            stop(process)

    def identity(self, name: str) -> Identity:
        """One of the testnet's identities."""
        return load_identity(self.layout.identities[name])

    def client(self, node: int = 0, name: str = "bank-a/client") -> AsyncClient:
        """A client of one node."""
        endpoint = self.layout.nodes[node].endpoint
        return AsyncClient([endpoint], self.identity(name), self.layout.genesis)

    async def deploy(self) -> None:
        """Install the asset contract and give every sender more than it can spend."""
        package = build(_CONTRACT).package_for({"name": "load", "decimals": 2})
        endorsers = [self.identity("guarantor/admin"), self.identity("statistics/admin")]
        async with self.client(name="bank-a/admin") as admin:
            await admin.deploy(package, endorsers)
            for sender in self.senders():
                asset = admin.contract("asset")
                await asset.submit("issue", to=sender.address, amount=ISSUED)

    def senders(self) -> list[Identity]:
        """Who sends: one client per organisation."""
        names = sorted(name for name in self.layout.identities if name.endswith("/client"))
        return [self.identity(name) for name in names]

    def sign(self, count: int, height: int, *, hot: bool = False) -> list[SignedBatch]:
        """Sign transfers before the clock starts.

        Args:
            count: transactions.
            height: of the chain now; they expire near the end of its window.
            hot: all to one account instead of 10,000 uniformly.
        """
        senders = self.senders()
        keys = [(sender, sender.public_key) for sender in senders]
        batches = []
        for start in range(0, count, BATCH_TRANSACTIONS):
            signed = [
                self._transfer(*keys[index % len(keys)], height, hot=hot)
                for index in range(start, min(count, start + BATCH_TRANSACTIONS))
            ]
            batch = types_pb2.TransactionBatch(transactions=[data for data, _ in signed])
            batches.append(SignedBatch(encode(batch), tuple(tx_id for _, tx_id in signed)))
        return batches

    def usage(self) -> list[Usage]:
        """What each node has used.

        Raises:
            ConfigError: `TESTNET_NODE_FAILED` with the end of the log of a node that is gone.
        """
        used = []
        for place, process in zip(self.layout.nodes, self._processes, strict=True):
            require_running(place, process)
            used.append(_usage(process.pid))
        return used

    def _transfer(
        self, sender: Identity, public_key: bytes, height: int, *, hot: bool
    ) -> tuple[bytes, bytes]:
        account = 0 if hot else self._random.randrange(ACCOUNTS)
        to = b"account".ljust(28, b"\0") + account.to_bytes(4, "big")
        self._made += 1
        payload = Payload(
            chain_id=self.layout.chain_id,
            kind=PayloadKind.INVOKE,
            contract="asset",
            method="transfer",
            args=to + (1).to_bytes(8, "big"),
            sender=public_key,
            expiry_height=height + 950,
            gas_limit=GAS_LIMIT,
            salt=self._made.to_bytes(16, "big"),
        )
        return payload.sign(sender).encode(), payload.tx_id()


def _usage(pid: int) -> Usage:
    process = Path(f"/proc/{pid}")
    rss = next(
        int(line.split()[1])
        for line in (process / "status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return Usage(_cpu_us(process), _cpu_us(process / "task" / str(pid)), rss / 1_024)


def _cpu_us(process: Path) -> float:
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS * 1e6


def _free_base_port() -> int:
    for base in range(28_000, 60_000, 50):
        ports = [base + 10 * node + offset for node in range(NODES) for offset in (0, 1)]
        if all(_free(port) for port in ports):
            return base
    raise ConfigError("PORT_TAKEN", "There are no free ports on this machine.")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
