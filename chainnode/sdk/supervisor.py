"""Starts a service beside the node, starts it again when it ends, and stops trying in time.

The service is a child process. It writes a byte a second into a pipe; one that is silent too long
hangs and is killed. Whoever looks (`chainnode testnet status`) reads the state file. The supervisor
reads no message of anyone and holds no key, so that what brings a service down leaves it standing.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal

from chainnode.sdk.service_process import EXIT_CONFIGURATION, HEARTBEAT_VARIABLE, main
from chainnode.types.errors import ConfigError, InternalError
from chainnode.types.limits import (
    SERVICE_HANG_MAX_MS,
    SERVICE_RESTARTS_PER_HOUR_MAX,
    SERVICE_START_MAX_MS,
)

STATE_FILE: Final = "supervisor.json"
_HOUR_S: Final = 3_600.0
_POLL_S: Final = 0.25
_STOP_S: Final = 8.0
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)

Phase = Literal["running", "waiting", "given up", "stopped"]


@dataclass(frozen=True, slots=True)
class RestartLimits:
    """When a service counts as hanging, and how often it is started again.

    Args:
        restarts_per_hour_max: more within an hour end the supervisor.
        first_delay_ms: before the first restart of an hour; every further one waits twice as long.
        delay_max_ms: the longest wait.
        start_max_ms: from the start to the first sign of life.
        hang_max_ms: between signs of life.
    """

    restarts_per_hour_max: int = SERVICE_RESTARTS_PER_HOUR_MAX
    first_delay_ms: int = 500
    delay_max_ms: int = 30_000
    start_max_ms: int = SERVICE_START_MAX_MS
    hang_max_ms: int = SERVICE_HANG_MAX_MS


@dataclass(slots=True)
class ServiceState:
    """What the state file says.

    Args:
        name: of the service.
        phase: what the supervisor does now.
        pid: of the service; 0 when it does not run.
        restarts: within the last hour.
        restarts_max: how many there may be.
        last_end: how it ended last, empty at first.
        error: why the supervisor gave up, with the next step.
    """

    name: str
    phase: Phase = "waiting"
    pid: int = 0
    restarts: int = 0
    restarts_max: int = SERVICE_RESTARTS_PER_HOUR_MAX
    last_end: str = ""
    error: str = ""


def read_state(data_dir: Path) -> ServiceState | None:
    """The state of the service with this data folder; None if nobody supervises one there."""
    try:
        return ServiceState(**json.loads((data_dir / STATE_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


@dataclass(slots=True)
class Supervisor:
    """Keeps one service running.

    Args:
        name: of the service.
        command: starts it.
        data_dir: of the service; receives the state file.
        limits: see `RestartLimits`.
    """

    name: str
    command: list[str]
    data_dir: Path
    limits: RestartLimits = field(default_factory=RestartLimits)
    _restarts: list[float] = field(default_factory=list)
    _stopping: bool = False

    def run(self) -> int:
        """Supervise until SIGTERM or SIGINT, or until the service ends by itself with status 0.

        Returns:
            The exit status: 0, or the service's own where its configuration is wrong.

        Raises:
            InternalError: `RESTARTS_EXHAUSTED`.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        end = ""
        while not self._stopping:
            status, end = self._one_life(end)
            if self._asked_to_stop() or status == 0:
                break
            if status == EXIT_CONFIGURATION:
                # Another start reads the same file.
                self._write("given up", 0, end, "its configuration is wrong: read its log")
                return status
            self._wait_before_restart(end)
        self._write("stopped", 0, end)
        return 0

    def _asked_to_stop(self) -> bool:
        return self._stopping

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _one_life(self, last_end: str) -> tuple[int, str]:
        """Start the service and wait for its end: exit status, and the end in words."""
        beats, other = os.pipe()
        environment = dict(os.environ, **{HEARTBEAT_VARIABLE: str(other)})
        child = subprocess.Popen(
            self.command, pass_fds=(other,), env=environment, preexec_fn=_end_with_parent
        )
        os.close(other)
        try:
            self._write("running", child.pid, last_end)
            hung = self._watch(child, beats)
        finally:
            os.close(beats)
        status = child.wait()
        if hung:
            return status, f"hung for {hung / 1000:g} s"
        return status, f"exit {status}" if status >= 0 else signal.Signals(-status).name

    def _watch(self, child: subprocess.Popen[bytes], beats: int) -> int:
        """Wait for the service's end; how long it was silent, in ms, if it had to be killed."""
        seen, allowed_ms = time.monotonic(), self.limits.start_max_ms
        while child.poll() is None:
            if self._stopping:
                _end(child)
                return 0
            ready, _, _ = select.select([beats], [], [], _POLL_S)
            if ready:
                if not os.read(beats, 4_096):
                    # Its end of the pipe is closed: it is ending.
                    time.sleep(_POLL_S / 10)
                    allowed_ms = self.limits.hang_max_ms
                else:
                    seen, allowed_ms = time.monotonic(), self.limits.hang_max_ms
                    continue
            if (time.monotonic() - seen) * 1000 > allowed_ms:
                child.kill()
                return allowed_ms
        return 0

    def _wait_before_restart(self, end: str) -> None:
        now = time.monotonic()
        self._restarts = [at for at in self._restarts if now - at < _HOUR_S]
        most = self.limits.restarts_per_hour_max
        if len(self._restarts) >= most:
            error = InternalError(
                "RESTARTS_EXHAUSTED",
                f"{self.name} was started again {most} times within an hour and ended again: {end}",
                subject=str(self.data_dir),
                fix="read its log and remove the cause, then start it: chainnode testnet start "
                f"{self.name}, or its own command",
            )
            self._write("given up", 0, end, str(error))
            raise error
        self._restarts.append(now)
        self._write("waiting", 0, end)
        delay_ms = min(
            self.limits.first_delay_ms << (len(self._restarts) - 1), self.limits.delay_max_ms
        )
        until = now + delay_ms / 1000
        while not self._stopping and time.monotonic() < until:
            time.sleep(min(_POLL_S, max(0.0, until - time.monotonic())))

    def _write(self, phase: Phase, pid: int, last_end: str, error: str = "") -> None:
        most = self.limits.restarts_per_hour_max
        state = ServiceState(self.name, phase, pid, len(self._restarts), most, last_end, error)
        # The service's folder may be gone: losing it must not end its supervisor.
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = self.data_dir / f".{STATE_FILE}.new"
        partial.write_text(json.dumps(asdict(state)) + "\n", encoding="utf-8")
        partial.replace(self.data_dir / STATE_FILE)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()


def _end_with_parent() -> None:
    # A service that outlives its supervisor would hold the port of the next one.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def supervise(
    module: str, config: Path, data_dir: Path | None = None, limits: RestartLimits | None = None
) -> int:
    """Keep the service of a configuration file running; see `Supervisor.run`.

    Args:
        module: started with the file and the data folder as its arguments.
        config: TOML file of the service.
        data_dir: instead of the file's.
        limits: other than the usual ones.

    Raises:
        ConfigError: `CONFIG_UNREADABLE`; the service itself checks the rest of the file.
        InternalError: `RESTARTS_EXHAUSTED`.
    """
    try:
        stated: dict[str, Any] = tomllib.loads(config.read_text(encoding="utf-8"))
        folder = data_dir or config.parent / str(stated["data_dir"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            "CONFIG_UNREADABLE",
            f"cannot read where its data go: {error}",
            subject=str(config),
            fix="set data_dir in this file",
        ) from error
    command = [sys.executable, "-m", module, str(config), str(folder.resolve())]
    name = str(stated.get("name", config.stem))
    supervisor = Supervisor(name, command, folder.resolve(), limits or RestartLimits())
    return supervisor.run()


if __name__ == "__main__":
    main(lambda config, _: supervise(sys.argv[1], config), sys.argv[2:])
