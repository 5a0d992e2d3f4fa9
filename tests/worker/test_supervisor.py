"""A service that crashes, hangs or cannot run: started again, in time given up, always named."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chainnode.sdk.supervisor import RestartLimits, ServiceState, Supervisor, read_state, supervise
from chainnode.types.errors import ConfigError, InternalError

QUICK = RestartLimits(
    restarts_per_hour_max=3,
    first_delay_ms=10,
    delay_max_ms=40,
    start_max_ms=30_000,
    hang_max_ms=3_000,
)
LIVES = """
import asyncio, pathlib, sys
from chainnode.sdk import service_process
service_process.HEARTBEAT_INTERVAL_S = 0.1
async def live():
    with open({marks!r}, "a") as marks:
        marks.write("begun\\n")
    {work}
asyncio.run(service_process.until_signalled(live()))
"""


def service(folder: Path, work: str) -> list[str]:
    """A service with the real heartbeat that leaves a mark at every start."""
    return [sys.executable, "-c", LIVES.format(marks=str(folder / "marks"), work=work)]


def starts(folder: Path) -> int:
    path = folder / "marks"
    return len(path.read_text().splitlines()) if path.exists() else 0


class Running:
    """A supervisor in a process of its own, as in production: it listens to signals."""

    def __init__(self, folder: Path, work: str, limits: RestartLimits = QUICK) -> None:
        self.folder = folder
        code = (
            "import sys, json, pathlib\n"
            "from chainnode.sdk.supervisor import RestartLimits, Supervisor\n"
            "from chainnode.types.errors import ChainnodeError\n"
            "name, folder, limits, *command = sys.argv[1:]\n"
            "limits = RestartLimits(*json.loads(limits))\n"
            "try:\n"
            "    sys.exit(Supervisor(name, command, pathlib.Path(folder), limits).run())\n"
            "except ChainnodeError as error:\n"
            "    sys.exit(str(error))\n"
        )
        shaped = json.dumps(
            [
                limits.restarts_per_hour_max,
                limits.first_delay_ms,
                limits.delay_max_ms,
                limits.start_max_ms,
                limits.hang_max_ms,
            ]
        )
        made = service(folder, work)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "bank-a/worker", str(folder), shaped, *made],
            stderr=subprocess.PIPE,
        )

    def state(self) -> ServiceState:
        found = read_state(self.folder)
        return found or ServiceState("none yet")

    def until(self, condition: Callable[[ServiceState], bool]) -> ServiceState:
        deadline = time.monotonic() + 20
        while not condition(self.state()):
            assert time.monotonic() < deadline, self.state()
            time.sleep(0.02)
        return self.state()

    def alive(self) -> ServiceState:
        return self.until(lambda state: state.phase == "running" and starts(self.folder) > 0)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def sleeping(tmp_path: Path) -> Iterator[Running]:
    folder = tmp_path / "service"
    folder.mkdir()
    running = Running(folder, "await asyncio.sleep(600)")
    yield running
    running.close()


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_crashed_service_is_started_again_and_the_state_says_how_it_ended(
    sleeping: Running,
) -> None:
    first = sleeping.alive()
    os.kill(first.pid, signal.SIGKILL)
    second = sleeping.until(lambda state: state.phase == "running" and state.pid != first.pid)
    assert (second.last_end, second.restarts, second.restarts_max) == ("SIGKILL", 1, 3)
    sleeping.process.terminate()
    assert sleeping.process.wait(10) == 0
    assert sleeping.state().phase == "stopped"
    assert not is_there(second.pid)


def test_a_service_that_hangs_is_killed_and_started_again(sleeping: Running) -> None:
    first = sleeping.alive()
    sleeping.until(lambda _: starts(sleeping.folder) == 1)
    time.sleep(0.3)
    os.kill(first.pid, signal.SIGSTOP)
    second = sleeping.until(lambda state: state.phase == "running" and state.pid != first.pid)
    assert second.last_end == "hung for 3 s"
    assert not is_there(first.pid)
    # One that lives is left alone for many times as long.
    time.sleep(4)
    assert sleeping.state().pid == second.pid
    sleeping.process.terminate()
    assert sleeping.process.wait(10) == 0


def test_a_service_does_not_outlive_its_supervisor(sleeping: Running) -> None:
    pid = sleeping.alive().pid
    sleeping.process.kill()
    sleeping.process.wait(10)
    deadline = time.monotonic() + 5
    while is_there(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_restarts_end_with_a_typed_error_that_names_the_service(tmp_path: Path) -> None:
    begun = time.monotonic()
    crashing = Running(tmp_path, "raise SystemExit(9)")
    _, said = crashing.process.communicate(timeout=30)
    assert time.monotonic() - begun >= 0.01 + 0.02 + 0.04
    assert crashing.process.returncode == 1
    text = said.decode()
    assert "RESTARTS_EXHAUSTED: bank-a/worker was started again 3 times within an hour" in text
    assert "exit 9" in text and "Next: read its log" in text
    assert starts(tmp_path) == 4
    state = crashing.state()
    assert (state.phase, state.pid, state.restarts) == ("given up", 0, 3)
    assert state.error.startswith("RESTARTS_EXHAUSTED")


def in_thread_signals_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)


def test_restarts_of_an_hour_ago_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_thread_signals_are_not_ours(monkeypatch)
    monkeypatch.setattr("chainnode.sdk.supervisor._HOUR_S", 0.0)
    # It crashes more often than an hour allows, each time an hour after the one before.
    work = f"raise SystemExit(0 if len(open({str(tmp_path / 'marks')!r}).readlines()) > 5 else 9)"
    supervisor = Supervisor("bank-a/worker", service(tmp_path, work), tmp_path, QUICK)
    assert supervisor.run() == 0
    assert starts(tmp_path) == 6


def test_a_wrong_configuration_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_thread_signals_are_not_ours(monkeypatch)
    config = tmp_path / "worker.toml"
    config.write_text('name = "bank-a/worker"\ndata_dir = "data"\n')
    assert supervise("chainnode.worker.main", config, limits=QUICK) == 3
    state = read_state(tmp_path / "data")
    assert state is not None
    assert (state.phase, state.restarts, state.name) == ("given up", 0, "bank-a/worker")
    config.write_text("name = ")
    with pytest.raises(ConfigError, match="CONFIG_UNREADABLE"):
        supervise("chainnode.worker.main", config)


def test_a_lost_folder_does_not_end_the_supervisor(sleeping: Running) -> None:
    first = sleeping.alive()
    for path in sleeping.folder.glob("*supervisor*"):
        path.unlink()
    (sleeping.folder / "marks").rename(sleeping.folder.with_suffix(".marks"))
    sleeping.folder.rmdir()
    os.kill(first.pid, signal.SIGKILL)
    second = sleeping.until(lambda state: state.phase == "running" and state.pid != first.pid)
    assert second.restarts == 1
    sleeping.process.terminate()
    sleeping.process.wait(10)


def test_exhausted_restarts_are_an_internal_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_thread_signals_are_not_ours(monkeypatch)
    once = RestartLimits(0, 1, 1, 30_000, 3_000)
    with pytest.raises(InternalError) as failed:
        Supervisor("bank-a/keyholder", ["false"], tmp_path, once).run()
    assert (failed.value.code, failed.value.subject) == ("RESTARTS_EXHAUSTED", str(tmp_path))
