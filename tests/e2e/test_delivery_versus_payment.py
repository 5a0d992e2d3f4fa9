"""Delivery versus payment on a real testnet, by the command line alone."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from chainnode.cli.main import app
from examples.bank_scoring.network import free_base_port

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]
COMMAND = [sys.executable, "-c", "from chainnode.cli.main import main; main()"]
CONTRACTS = Path(__file__).resolve().parents[2] / "contracts"
ADMINS = ("--as", "bank-a/admin", "--endorse", "guarantor/admin", "--endorse", "statistics/admin")
SELLER, BUYER = "bank-a/client", "guarantor/client"


class Network:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str, as_: str = "") -> Result:
        """A command in this process: starting Python twenty times would take most of the time."""
        who = ("--as", as_) if as_ else ()
        where = ("--network", str(self.folder), "-o", "json")
        return CliRunner().invoke(app, ["contract", *arguments, *who, *where])

    def done(self, *arguments: str, as_: str = "") -> Any:
        ran = self.run(*arguments, as_=as_)
        assert ran.exit_code == 0, ran.stderr
        return json.loads(ran.stdout)

    def balance(self, asset: str, owner: str) -> Any:
        found = self.done("query", asset, "balance_of", "--arg", f"owner={owner}", as_=SELLER)
        return found["result"]


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    folder = tmp_path / "net"
    place = ("--data-dir", str(folder))
    port = ("--base-port", str(free_base_port()))
    up = [*COMMAND, "testnet", "up", "--no-services", *port, *place]
    started = subprocess.run(up, capture_output=True, text=True, timeout=90)
    assert started.returncode == 0, started.stderr
    yield Network(folder)
    subprocess.run([*COMMAND, "testnet", "down", *place], check=True, capture_output=True)


def args(**values: Any) -> list[str]:
    return [part for name, value in values.items() for part in ("--arg", f"{name}={value}")]


def test_two_assets_change_hands_at_once(network: Network) -> None:
    asset = str(CONTRACTS / "asset")
    for name in ("cash", "paper"):
        made = network.done("deploy", asset, "--name", name, *args(name=name, decimals=0), *ADMINS)
        assert made["contract"] == name
    network.done("deploy", str(CONTRACTS / "escrow"), *ADMINS)
    issuer, escrow = "bank-a/admin", "@contract:escrow"
    network.done("call", "paper", "issue", *args(to=f"@{SELLER}", amount=10), as_=issuer)
    network.done("call", "cash", "issue", *args(to=f"@{BUYER}", amount=500), as_=issuer)
    network.done("call", "paper", "approve", *args(spender=escrow, amount=10), as_=SELLER)
    terms = args(gives="paper", amount=10, wants="cash", price=400, until_ms=2**60)
    offered = network.done("call", "escrow", "offer", *terms, as_=SELLER)
    assert [next(iter(event)) for event in offered["events"]] == ["paper.Transferred", "Offered"]
    assert network.balance("paper", escrow) == 10
    accept = ("call", "escrow", "accept", *args(offer=offered["result"]))
    refused = network.run(*accept, as_=BUYER)
    assert refused.exit_code == 1
    assert "cash.transfer_from: REVERTED 101 InsufficientAllowance" in refused.stderr
    assert "chainnode contract abi cash" in refused.stderr.partition("Next: ")[2]
    assert network.balance("paper", escrow) == 10
    network.done("call", "cash", "approve", *args(spender=escrow, amount=400), as_=BUYER)
    settled = network.done(*accept, as_=BUYER)
    names = [next(iter(event)) for event in settled["events"]]
    assert names == ["cash.Transferred", "paper.Transferred", "Settled"]
    assert network.balance("cash", f"@{SELLER}") == 400
    assert network.balance("cash", f"@{BUYER}") == 100
    assert network.balance("paper", f"@{BUYER}") == 10
