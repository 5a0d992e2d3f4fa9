"""A trace on virtual workers: what every simulated figure and `chainnode trace replay` compute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chainnode import _native
from chainnode.types.errors import ClientFault
from chainnode.types.limits import MEBI, TRACE_SIZE_MAX_BYTES

BANDS: Final = ("best", "nominal", "worst")
SPECIFICATION: Final = "docs/spec/execution-trace.md"


@dataclass(frozen=True, slots=True)
class Replay:
    """What a block would take.

    Args:
        workers: virtual ones.
        band: of the costs, see docs/explanation/ninety-six-workers.md.
        speedup: over plain serial, signature checks included.
        executions_per_tx: above 1 is work done again.
    """

    workers: int
    band: str
    speedup: float
    makespan_us: float
    executions_per_tx: float
    blocked_per_tx: float


def replay(
    trace: _native.Trace, workers: int, band: str = "nominal", engine: str = "auto"
) -> Replay:
    """Run a trace with the scheduler's own code in virtual time. Deterministic."""
    found = _native.simulate(trace, workers, band_name=band, engine=engine)
    transactions = max(1, len(trace))
    return Replay(
        workers=workers,
        band=band,
        speedup=found.speedup,
        makespan_us=found.makespan_ns / 1_000,
        executions_per_tx=found.executions / transactions,
        blocked_per_tx=found.blocked / transactions,
    )


def read_trace(path: Path) -> _native.Trace:
    """A trace from a file.

    Raises:
        ClientFault: TRACE_NOT_FOUND; TRACE_TOO_LARGE; TRACE_MALFORMED with the file, the line and
            the rule it breaks.
    """
    try:
        size_bytes = path.stat().st_size
        if size_bytes > TRACE_SIZE_MAX_BYTES:
            raise ClientFault(
                "TRACE_TOO_LARGE",
                f"A trace has at most {TRACE_SIZE_MAX_BYTES // MEBI} MiB.",
                subject=str(path),
                fix="record one block a file",
            )
        return _native.Trace.decode(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ClientFault(
            "TRACE_NOT_FOUND",
            f"The trace cannot be read: {error.strerror}.",
            subject=str(path),
            fix="record one: chainnode trace record",
        ) from None
    except UnicodeDecodeError:
        raise _malformed(path, "it is not UTF-8 text") from None
    except ValueError as error:
        raise _malformed(path, str(error)) from None


def _malformed(path: Path, reason: str) -> ClientFault:
    return ClientFault(
        "TRACE_MALFORMED",
        f"The trace breaks a rule of its format: {reason}.",
        subject=str(path),
        fix=f"the rules are in {SPECIFICATION}; record the block again if it was not made by hand",
    )
