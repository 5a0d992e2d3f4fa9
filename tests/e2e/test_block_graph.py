"""A block's graph and trace on a real testnet, by the command line alone."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from chainnode.cli.context import with_client
from chainnode.cli.main import app
from chainnode.sdk.client import AsyncClient
from chainnode.types.transaction import PayloadKind
from examples.bank_scoring.network import free_base_port

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]
COMMAND = [sys.executable, "-c", "from chainnode.cli.main import main; main()"]
ASSET = str(Path(__file__).resolve().parents[2] / "contracts" / "asset")
HOLDER = "bank-a/client"
TRANSFERS = 20


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("graph") / "net"
    place = ("--data-dir", str(folder))
    up = [*COMMAND, "testnet", "up", "--no-services", "--base-port", str(free_base_port()), *place]
    started = subprocess.run(up, capture_output=True, text=True, timeout=120)
    assert started.returncode == 0, started.stderr
    yield folder
    subprocess.run([*COMMAND, "testnet", "down", *place], check=True, capture_output=True)


def run(network: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--network", str(network)])


def done(network: Path, *arguments: str) -> str:
    ran = run(network, *arguments)
    assert ran.exit_code == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def height(network: Path) -> int:
    """The height with the most of twenty transfers of one sender."""
    admin = ("--as", "bank-a/admin")
    setup = ("--arg", "name=points", "--arg", "decimals=2")
    endorsed = ("--endorse", "guarantor/admin", "--endorse", "statistics/admin")
    done(network, "contract", "deploy", ASSET, *setup, *admin, *endorsed)
    issue = ("--arg", f"to=@{HOLDER}", "--arg", "amount=1000")
    done(network, "contract", "call", "asset", "issue", *issue, *admin)

    async def pay(client: AsyncClient) -> int:
        made = []
        for number in range(TRANSFERS):
            args = number.to_bytes(32, "big") + (1).to_bytes(8, "big")
            payload = await client.payload(PayloadKind.INVOKE, "asset", "transfer", args)
            made.append(client.sign(payload))
        async for _ in client.submit_many([[one.encode() for one in made]]):
            pass
        found = [await client.get_tx(one.tx_id(), 30_000) for one in made]
        heights = [one.height for one in found if one.found]
        assert len(heights) == TRANSFERS
        return max(set(heights), key=heights.count)

    return with_client(network, HOLDER, pay)


def test_the_graph_of_a_block_of_one_senders_payments_is_a_chain(
    network: Path, height: int
) -> None:
    whole = json.loads(done(network, "block", "graph", str(height), "--json"))
    vertices = whole["vertices"]
    assert len(vertices) > 1 and not whole["truncated"]
    assert whole["longest_chain"] == list(range(len(vertices)))
    assert whole["parallelism"] == 1.0
    assert whole["work_gas"] == whole["critical_path_gas"] > 0
    hottest = whole["hot_keys"][0]
    assert (hottest["contract"], hottest["writers"]) == ("asset", len(vertices))
    assert all(vertex["neighbors"] for vertex in vertices[1:])
    assert all("read" in vertex["causes"][-1] for vertex in vertices[1:])
    listed = json.loads(done(network, "block", "get", str(height), "-o", "json"))
    assert [one["tx_id"] for one in listed["transactions"]] == [one["tx_id"] for one in vertices]


def test_people_get_a_table_and_graphviz_a_file(network: Path, height: int) -> None:
    table = done(network, "block", "graph", str(height))
    assert "parallelism" in table and "0 -> 1" in table and "asset" in table
    drawn = done(network, "block", "graph", str(height), "--dot")
    assert drawn.startswith(f'digraph "block {height}"') and "0 -> 1 [style=bold" in drawn
    assert drawn.rstrip().endswith("}")


def test_a_height_that_is_not_there_is_refused_with_what_is(network: Path) -> None:
    refused = run(network, "block", "graph", "1000000")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("GRAPH_NOT_KEPT: ")
    assert "trace record" in refused.stderr.partition("Next: ")[2]


def test_a_block_of_a_running_node_is_recorded_and_replayed(
    network: Path, height: int, tmp_path: Path
) -> None:
    file = tmp_path / "block.trace"
    done(network, "trace", "record", str(height), "--to", str(file), "--runs", "3")
    text = file.read_text().splitlines()
    assert text[0] == "chainnode-trace 2" and text[1].startswith(f"# block {height}, ")
    ran = CliRunner().invoke(app, ["trace", "replay", str(file), "--json"])
    found: dict[str, Any] = json.loads(ran.stdout)
    graph = json.loads(done(network, "block", "graph", str(height), "--json"))
    assert found["transactions"] == len(graph["vertices"]) == len(text) - 2
    assert found["gas_used"] == graph["work_gas"]
    assert found["parallelism"] == 1.0, "by time as by gas, one sender's payments are a chain"
    assert len(found["bands"]) == 3
    again = run(network, "trace", "record", "1000000")
    assert (again.exit_code, again.stderr.startswith("BLOCK_NOT_FOUND")) == (1, True)
