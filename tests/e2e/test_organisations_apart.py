"""Each organisation in a folder of its own, as the how-to page says; no other folder is needed."""

import asyncio
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chainnode.identity import load_identity
from chainnode.node import testnet
from chainnode.sdk.client import AsyncClient
from examples.bank_scoring.network import free_base_port

COMMAND = [sys.executable, "-c", "from chainnode.cli.main import main; main()"]


def start(home: Path, organisation: str, data: Path) -> subprocess.Popen[bytes]:
    config = home / organisation / "node.toml"
    return subprocess.Popen(
        [*COMMAND, "node", "start", "--config", str(config), "--data-dir", str(data)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=home,
    )


async def height_of(endpoint: str, home: Path, organisation: str) -> int:
    identity = load_identity(home / "identities" / organisation / "client")
    async with AsyncClient([endpoint], identity, home / "genesis.bin") as client:
        return (await client.status()).height


@pytest.mark.e2e
@pytest.mark.slow
def test_four_homes_make_one_chain(tmp_path: Path) -> None:
    prepared = testnet.prepare(tmp_path / "prepared", base_port=free_base_port())
    running: list[subprocess.Popen[bytes]] = []
    try:
        for place in prepared.nodes:
            organisation = place.name.partition("/")[0]
            home = tmp_path / f"home-of-{organisation}"
            home.mkdir()
            shutil.copy(prepared.genesis, home)
            shutil.copytree(prepared.directory / organisation, home / organisation)
            identities = Path("identities") / organisation
            shutil.copytree(prepared.directory / identities, home / identities)
            running.append(start(home, organisation, tmp_path / f"data-of-{organisation}"))
        shutil.rmtree(prepared.directory)
        for place, process in zip(prepared.nodes, running, strict=True):
            testnet.wait_ready(place, process)
        place = prepared.nodes[0]
        home = tmp_path / "home-of-bank-a"
        while asyncio.run(height_of(place.endpoint, home, "bank-a")) < 3:
            pass
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        statuses = [process.wait(20) for process in running]
    assert statuses == [0, 0, 0, 0]
    assert (tmp_path / "data-of-bank-a" / "state").exists()
    assert not (tmp_path / "home-of-bank-a" / "bank-a" / "node").exists()
