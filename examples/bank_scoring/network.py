"""The demo's network: real processes on this machine, and each organisation's client on it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from chainnode.cli.testnet import MODULES, places, start_all
from chainnode.identity import load_identity
from chainnode.node import testnet
from chainnode.sdk.bank import BankClient, BankKeys, OwnerSecret
from chainnode.sdk.client import AsyncClient
from chainnode.sdk.scoring_chain import SdkScoringChain
from chainnode.types.errors import ConfigError

ORGANISATIONS_MIN = len(testnet.ORGANISATIONS)
BANK = "bank-a"
# A million rows on two busy cores took more than the client's usual patience.
QUERY_SECONDS = 600.0
ALL_KINDS = ("node", "worker", "keyholder")


class Network:
    """Organisations, each with a node, an HE worker and a keyholder.

    Args:
        directory: of the testnet; made if missing.
        base_port: first of the ports it listens on.
        organisations: how many; the first four own the data, all hold the key.
    """

    def __init__(
        self, directory: Path, base_port: int, organisations: int = ORGANISATIONS_MIN
    ) -> None:
        self.directory = directory
        self.layout = testnet.prepare(directory, nodes=organisations, base_port=base_port)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def organisations(self) -> tuple[str, ...]:
        """Their names, in the order of the council."""
        return tuple(place.name.partition("/")[0] for place in self.layout.nodes)

    def start(self) -> None:
        """Start every process and return once the nodes are connected."""
        self._processes = start_all(self.layout, ALL_KINDS)

    def kill(self, name: str) -> None:
        """End a process as a crash would."""
        process = self._processes[name]
        process.kill()
        process.wait()

    def restart(self, name: str) -> None:
        """Start a process again; a node is waited for."""
        place = self.place(name)
        self._processes[name] = testnet.spawn(place, MODULES[place.kind])
        if place.kind == "node":
            testnet.wait_ready(place, self._processes[name])

    def place(self, name: str) -> testnet.ProcessPlace:
        """Where a process lives."""
        return next(place for place in places(self.layout) if place.name == name)

    def stop(self) -> None:
        """Stop everything."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            testnet.stop(process)

    def command(self, *arguments: str) -> str:
        """Run the command line as a user would; returns what it printed.

        Raises:
            ConfigError: DEMO_COMMAND_FAILED with what the command said.
        """
        ran = subprocess.run(
            [sys.executable, "-c", "from chainnode.cli.main import main; main()", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
        )
        if ran.returncode != 0:
            raise ConfigError(
                "DEMO_COMMAND_FAILED",
                f"chainnode {' '.join(arguments)} ended with {ran.returncode}: {ran.stderr[-600:]}",
                subject=str(self.directory),
            )
        return ran.stdout


@dataclass(frozen=True, slots=True)
class Party:
    """One organisation as its people see it."""

    organisation: str
    client: AsyncClient
    bank: BankClient


@asynccontextmanager
async def parties(network: Network) -> AsyncIterator[dict[str, Party]]:
    """Every organisation's client; the bank's holds the keys that answers come back under."""
    async with AsyncExitStack() as stack:
        opened = {}
        endpoints = [place.endpoint for place in network.layout.nodes]
        for number, organisation in enumerate(network.organisations):
            # Its own node first, so that one organisation's traffic is on its own machine.
            own_first = endpoints[number:] + endpoints[:number]
            client = await stack.enter_async_context(
                AsyncClient(
                    own_first,
                    load_identity(network.layout.identities[f"{organisation}/client"]),
                    network.layout.genesis,
                )
            )
            keys = None
            if organisation == BANK:
                keys = BankKeys(network.directory / organisation / "client", b"demo passphrase")
            secret = OwnerSecret(network.directory / organisation / "client", b"demo passphrase")
            chain = SdkScoringChain(client)
            bank = BankClient(
                chain, organisation, keys, timeout_s=QUERY_SECONDS, owner_secret=secret
            )
            opened[organisation] = Party(organisation, client, bank)
        yield opened


def free_base_port(organisations: int = ORGANISATIONS_MIN) -> int:
    """A base port whose whole range is free now."""
    import socket

    for base in range(26_600, 32_000, 100):
        sockets = []
        try:
            for port in range(base, base + testnet.PORTS_PER_NODE * organisations):
                opened = socket.socket()
                sockets.append(opened)
                opened.bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for opened in sockets:
                opened.close()
        return base
    raise ConfigError("PORTS_TAKEN", "No free range of ports.", fix="stop another testnet")


def now() -> float:
    """Seconds on a clock that never goes back."""
    return time.monotonic()
