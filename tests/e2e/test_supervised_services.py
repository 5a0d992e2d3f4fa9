"""A worker's process is killed and stopped while a bank asks: survived, restarted, named."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "keyholder"))

from consortium import ROWS, pin_workers
from test_encrypted_query import Network, command

from chainnode.sdk.bank import BankClient
from chainnode.sdk.bank_keys import BankKeys
from examples.bank_scoring.network import free_base_port

# By the pinned ids chunk 0 belongs to bank-a and guarantor; registry is its reserve.
VICTIM = "guarantor/worker"


def status(folder: Path) -> dict[str, Any]:
    """What `testnet status` says about the victim."""
    program = Path(sys.executable).parent / "chainnode"
    ran = subprocess.run(
        [program, "testnet", "status", "--data-dir", folder, "-o", "json"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return next(row for row in json.loads(ran.stdout) if row["name"] == VICTIM)


def until(folder: Path, restarts: str) -> dict[str, Any]:
    deadline = time.monotonic() + 90
    while True:
        found = status(folder)
        if found["restarts"] == restarts and found["service"] == "running":
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.5)


async def faults(bank: BankClient) -> set[tuple[str, str]]:
    rows = await bank.query("firms", "SELECT COUNT(*) FROM firms")
    assert [row.values for row in rows] == [(ROWS,)]
    steps = await bank.audit_trail(bank.last_query)
    return {(step.organisation, step.detail) for step in steps if step.step == "fault"}


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_that_crashes_or_hangs_is_restarted_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin_workers(monkeypatch)
    folder = tmp_path / "net"
    command("up", folder, "--seed", "7", "--base-port", str(free_base_port()))
    try:
        asyncio.run(story(Network(folder)))
    finally:
        command("down", folder)
    assert status(folder)["service"] == "stopped"


async def story(network: Network) -> None:
    folder = network.folder
    await network.deploy(chunk_deadline_ms=10_000)
    keys = BankKeys(folder / "bank-keys", b"a bank's passphrase")
    async with network.client("bank-a", keys) as bank:
        await network.active(bank)
        await network.publish()
        first = until(folder, "0 of 10 an hour")
        await asyncio.to_thread(command, "kill", folder, VICTIM, "--service-only")
        second = await asyncio.to_thread(until, folder, "1 of 10 an hour")
        assert second["last_end"] == "SIGKILL"
        assert second["pid"] == first["pid"] and second["service_pid"] != first["service_pid"]
        # Back before the deadline: nobody was kept waiting, nobody is named.
        assert await faults(bank) == set()
        os.kill(second["service_pid"], signal.SIGSTOP)
        named = await faults(bank)
        assert ("guarantor", "worker gave no result in time, shown by contract") in named
        # Its keyholder gives no share while its own worker does not compute the result again.
        assert {organisation for organisation, _ in named} == {"guarantor"}
        third = await asyncio.to_thread(until, folder, "2 of 10 an hour")
        assert third["last_end"] == "hung for 30 s"
        assert await faults(bank) == set()
