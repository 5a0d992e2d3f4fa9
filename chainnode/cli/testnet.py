"""`chainnode testnet ...`: a network of real processes on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from chainnode.cli.context import DEFAULT_NETWORK, description, with_client
from chainnode.cli.output import Format, reporting, say, show_rows
from chainnode.node import testnet as network
from chainnode.sdk.supervisor import read_state
from chainnode.types.errors import ConfigError

app = typer.Typer(help="A network of real processes on this machine, no Docker.")

MODULES = {
    "node": "chainnode.node",
    "worker": "chainnode.worker.main",
    "keyholder": "chainnode.keyholder.main",
}
READY_HEIGHT = 3
READY_SECONDS = 30.0

Folder = Annotated[
    Path,
    typer.Option("--data-dir", envvar="CHAINNODE_NETWORK", help="Folder of the whole testnet."),
]


def places(layout: network.TestnetLayout) -> list[network.ProcessPlace]:
    """Every process of a testnet, nodes first."""
    return [*layout.nodes, *layout.workers, *layout.keyholders]


def start_all(
    layout: network.TestnetLayout, kinds: tuple[str, ...]
) -> dict[str, subprocess.Popen[bytes]]:
    """Start every process of the kinds asked, nodes first, and wait for the nodes."""
    processes = {
        place.name: network.spawn(place, MODULES[place.kind])
        for place in places(layout)
        if place.kind in kinds
    }
    for place in layout.nodes:
        network.wait_ready(place, processes[place.name], READY_SECONDS)
    network.write_description(layout, {name: made.pid for name, made in processes.items()})
    return processes


def wait_height(folder: Path, height: int) -> int:
    """Wait until the chain is past its first blocks; returns its height.

    Raises:
        ConfigError: TESTNET_NOT_READY.
    """
    deadline = time.monotonic() + READY_SECONDS
    reached = 0
    while time.monotonic() < deadline:
        reached = with_client(folder, "bank-a/client", lambda c: c.status()).height
        if reached >= height:
            return int(reached)
        time.sleep(0.1)
    raise ConfigError(
        "TESTNET_NOT_READY",
        f"The chain is at height {reached}, wanted {height}.",
        subject=str(folder),
        fix="chainnode testnet logs",
    )


@app.command()
@reporting
def up(
    data_dir: Folder = Path(DEFAULT_NETWORK),
    nodes: Annotated[int, typer.Option(min=1, max=20)] = 4,
    seed: Annotated[int, typer.Option(help="The same seed gives the same keys.")] = 1,
    base_port: Annotated[int, typer.Option(help="Node i listens on base + 10 i.")] = 26_600,
    services: Annotated[bool, typer.Option(help="Start HE workers and keyholders too.")] = True,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Start a testnet; returns once its chain makes blocks."""
    if (data_dir / "testnet.json").exists() and any(alive(data_dir).values()):
        raise ConfigError(
            "TESTNET_RUNNING",
            "A testnet runs in this folder already.",
            subject=str(data_dir),
            fix="chainnode testnet down",
        )
    layout = network.prepare(data_dir, seed=seed, nodes=nodes, base_port=base_port)
    kinds = ("node", "worker", "keyholder") if services else ("node",)
    start_all(layout, kinds)
    wait_height(data_dir, READY_HEIGHT)
    described = description(data_dir)
    if as_json:
        print(json.dumps(described))
        return
    for node in described["nodes"]:
        print(f"{node['name']:<20} grpc {node['grpc']}  metrics http://{node['metrics']}/metrics")
    say("next: chainnode contract deploy contracts/evidence --endorse guarantor/admin")
    say("      chainnode testnet status | logs | down")


def alive(data_dir: Path) -> dict[str, bool]:
    """Which processes of a described testnet run."""
    return {entry["name"]: _running(entry["pid"]) for entry in _entries(data_dir)}


def _entries(data_dir: Path) -> list[dict[str, Any]]:
    described = description(data_dir)
    return [*described["nodes"], *described["workers"], *described["keyholders"]]


def _running(pid: int | None) -> bool:
    if not pid:
        return False
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"chainnode" in command


@app.command()
@reporting
def status(
    data_dir: Folder = Path(DEFAULT_NETWORK),
    output: Annotated[Format, typer.Option("-o")] = Format.TABLE,
) -> None:
    """Show every process, the height of every node that answers, and what supervisors see."""
    rows = []
    for entry in _entries(data_dir):
        running = _running(entry["pid"])
        rows.append(
            {
                "name": entry["name"],
                "pid": entry["pid"],
                "running": running,
                "grpc": entry["grpc"],
                "height": _height(entry) if running and entry["metrics"] else None,
                **_supervised(entry, running),
            }
        )
    show_rows(rows, output)


def _supervised(entry: dict[str, Any], running: bool) -> dict[str, Any]:
    """A service's own process and its restarts; nodes have no supervisor."""
    found = None if entry["metrics"] else read_state(Path(entry["data_dir"]))
    if found is None:
        return {"service": None, "service_pid": None, "restarts": None, "last_end": None}
    # A supervisor that was killed could not say so.
    dead = not running and found.phase in ("running", "waiting")
    return {
        "service": "stopped" if dead else found.phase,
        "service_pid": found.pid if running and found.pid else None,
        "restarts": f"{found.restarts} of {found.restarts_max} an hour",
        "last_end": found.error or found.last_end,
    }


def _height(entry: dict[str, Any]) -> int | None:
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://{entry['metrics']}/metrics", timeout=2) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("chainnode_consensus_height "):
                    return int(float(line.split()[1]))
    except OSError:
        return None
    return None


@app.command()
@reporting
def logs(
    name: Annotated[str, typer.Argument(help="Process, e.g. bank-a/node.")] = "bank-a/node",
    lines: Annotated[int, typer.Option(min=1)] = 20,
    data_dir: Folder = Path(DEFAULT_NETWORK),
) -> None:
    """Print the end of a process's log."""
    organisation, _, kind = name.partition("/")
    path = data_dir / organisation / f"{kind}.log"
    if not path.exists():
        raise ConfigError(
            "LOG_UNKNOWN",
            f"{name} has no log here.",
            subject=str(path),
            fix=f"use one of: {', '.join(entry['name'] for entry in _entries(data_dir))}",
        )
    sys.stdout.write("\n".join(path.read_text(errors="replace").splitlines()[-lines:]) + "\n")


@app.command()
@reporting
def kill(
    name: Annotated[str, typer.Argument(help="Process, e.g. statistics/node.")],
    data_dir: Folder = Path(DEFAULT_NETWORK),
    service_only: Annotated[
        bool, typer.Option(help="Leave a service's supervisor, which starts it again.")
    ] = False,
) -> None:
    """End one process with SIGKILL, as a crash would; of a service, its supervisor too."""
    for entry in _entries(data_dir):
        if entry["name"] == name and _running(entry["pid"]):
            found = read_state(Path(entry["data_dir"])) if service_only else None
            os.kill(found.pid if found and found.pid else entry["pid"], signal.SIGKILL)
            return
    raise ConfigError(
        "PROCESS_UNKNOWN", f"{name} does not run here.", fix="chainnode testnet status"
    )


@app.command()
@reporting
def start(
    name: Annotated[str, typer.Argument(help="Process, e.g. statistics/node.")],
    data_dir: Folder = Path(DEFAULT_NETWORK),
) -> None:
    """Start one process again after it was killed."""
    described = description(data_dir)
    for entry in _entries(data_dir):
        if entry["name"] == name and not _running(entry["pid"]):
            organisation, _, kind = name.partition("/")
            config = data_dir / organisation / f"{kind}.toml"
            place = network.ProcessPlace(
                name, kind, entry["grpc"], entry["metrics"], config.resolve(), Path(), Path()
            )
            entry["pid"] = network.spawn(place, MODULES[kind]).pid
            for listed in described[f"{kind}s"]:
                if listed["name"] == name:
                    listed["pid"] = entry["pid"]
            (data_dir / "testnet.json").write_text(json.dumps(described, indent=2) + "\n")
            return
    raise ConfigError(
        "PROCESS_UNKNOWN", f"{name} runs or is unknown.", fix="chainnode testnet status"
    )


@app.command()
@reporting
def down(
    data_dir: Folder = Path(DEFAULT_NETWORK),
    purge: Annotated[bool, typer.Option(help="Delete the testnet's folder too.")] = False,
) -> None:
    """Stop every process; the data stay unless --purge."""
    entries = _entries(data_dir)
    for entry in entries:
        if _running(entry["pid"]):
            os.kill(entry["pid"], signal.SIGTERM)
    deadline = time.monotonic() + 10
    while any(_running(entry["pid"]) for entry in entries) and time.monotonic() < deadline:
        time.sleep(0.05)
    for entry in entries:
        if _running(entry["pid"]):
            os.kill(entry["pid"], signal.SIGKILL)
    if purge:
        shutil.rmtree(data_dir)


@app.command()
@reporting
def prepare(
    data_dir: Folder = Path(DEFAULT_NETWORK),
    nodes: Annotated[int, typer.Option(min=1, max=20)] = 4,
    seed: Annotated[int, typer.Option()] = 1,
    base_port: Annotated[int, typer.Option()] = 26_600,
) -> None:
    """Write genesis, identities and configuration files without starting anything."""
    layout = network.prepare(data_dir, seed=seed, nodes=nodes, base_port=base_port)
    for place in places(layout):
        print(place.config)
