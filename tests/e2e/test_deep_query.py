"""By commands on real processes: rotate to profile M, ingest, and ask for products of four."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "keyholder"))

from local_chain import ORGANISATIONS
from test_deep_queries import CELLS, IDS, LINES, OWNERS, Q6, plaintext
from test_encrypted_query import Network, command

from chainnode.cli.context import identity_of
from chainnode.sdk.bank import open_bank
from chainnode.sdk.council import read_epoch, vote_rotation
from chainnode.sdk.schema_file import dump_schema
from examples.bank_scoring.network import free_base_port


def he(folder: Path, member: str, *arguments: str | Path) -> str:
    """The output of a `chainnode he` command, with what it says on standard error if it fails."""
    program = Path(sys.executable).parent / "chainnode"
    ran = subprocess.run(
        [program, "he", *arguments, "--network", folder, "--as", member],
        capture_output=True,
        text=True,
        timeout=90,
    )
    return ran.stdout if ran.returncode == 0 else f"exit {ran.returncode}: {ran.stderr}"


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_council_of_processes_answers_a_product_of_four(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    command("up", folder, "--seed", "7", "--base-port", str(free_base_port()))
    try:
        network = Network(folder)
        asyncio.run(founded(network))
        create(folder)
        refused = he(folder, "bank-a/client", "ingest", tables(folder), "--table", "lines")
        assert "PROFILE_WITHOUT_KEY" in refused
        asyncio.run(voted_by_two(network))
        voted = he(folder, "registry/admin", "rotate", "--profile", "M", "-o", "json")
        assert json.loads(voted) == {
            "epoch": 2,
            "status": "ceremony",
            "organisations": " ".join(ORGANISATIONS),
            "threshold": 3,
            "profiles": "S S36 M",
        }
        asyncio.run(rotated(network))
        path = tables(folder)
        said = he(folder, "bank-a/client", "ingest", path, "--table", "lines")
        assert said == f"{len(IDS)} rows of {path} are published in lines\n"
        asked(folder)
    finally:
        command("down", folder)


async def founded(network: Network) -> None:
    await network.deploy()
    async with network.client("bank-a") as bank:
        await network.active(bank)


async def voted_by_two(network: Network) -> None:
    for name in ORGANISATIONS[:2]:
        admin = identity_of(network.folder, f"{name}/admin")
        async with open_bank(network.endpoints, admin, network.genesis) as bank:
            state = await vote_rotation(bank.chain, ["M"])
            assert (state.epoch, state.status) == (1, "active")


async def rotated(network: Network) -> None:
    async with network.client("bank-a") as bank:
        async for _ in bank.chain.follow(1):
            state = await read_epoch(bank.chain)
            if state.status == "active":
                break
        assert state.epoch == 2
    for name in OWNERS:
        async with network.client(name) as owner:
            await owner.grant("lines", "bank-a", 3)
            if name != "bank-a":
                await owner.publish_columns("lines", CELLS)


def tables(folder: Path) -> Path:
    path = folder / "lines.csv"
    rows = zip(IDS, *CELLS.values(), strict=True)
    lines = [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join([",".join(["id", *CELLS]), *lines]) + "\n")
    return path


def create(folder: Path) -> None:
    schema = folder / "lines.toml"
    schema.write_text(dump_schema(LINES))
    arguments = ("create-table", schema, "--ids", tables(folder), "--profile", "M")
    said = he(folder, "registry/client", *arguments)
    assert LINES.stored_in("M").hash().hex() in said


def asked(folder: Path) -> None:
    shown = he(folder, "bank-a/client", "explain", Q6, "--table", "lines")
    assert "profile   M, 7 limbs, degree 4" in shown
    passphrase = folder / "passphrase"
    passphrase.write_text("a bank's passphrase")
    where = ("--table", "lines", "--passphrase-file", passphrase, "-o", "json")
    answer = he(folder, "bank-a/client", "query", Q6, *where)
    rows = [tuple(int(value) for value in row.values()) for row in json.loads(answer)]
    assert rows == plaintext(Q6)
    state = json.loads(he(folder, "bank-a/client", "council", "-o", "json"))
    assert (state["epoch"], state["status"], state["profiles"]) == (2, "active", "S S36 M")
