"""`make demo`: banks score small businesses on data that no node can read, end to end.

Four organisations, or up to eight, run a node, an HE worker and a keyholder each, here as processes
of one machine; in production each runs its own on its own machines, with its own `--data-dir`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from chainnode.types.errors import ChainnodeError
from chainnode.types.limits import COUNCIL_MEMBERS_MAX
from examples.bank_scoring import training
from examples.bank_scoring.journey import Journey
from examples.bank_scoring.network import ORGANISATIONS_MIN, Network, free_base_port
from examples.bank_scoring.stages import Stages

LARGE_ROWS = 100_000


def arguments() -> argparse.Namespace:
    """What the demo takes."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--data", type=Path, default=training.CSV_PATH, help="a CSV like sba_case")
    parser.add_argument("--data-dir", type=Path, help="keep the network here")
    parser.add_argument(
        "--large-rows",
        type=int,
        default=LARGE_ROWS,
        help="second pass; 0: none",
    )
    parser.add_argument(
        "--organisations",
        type=int,
        default=ORGANISATIONS_MIN,
        choices=range(ORGANISATIONS_MIN, COUNCIL_MEMBERS_MAX + 1),
        help="members of the key council: 4 open with 3, 7 with 5",
    )
    return parser.parse_args()


def main() -> int:
    """Run the demo; returns the process's exit status."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    options = arguments()
    stages = Stages()
    directory = options.data_dir or Path(tempfile.mkdtemp(prefix="chainnode-demo-"))
    network = None
    try:
        cases = training.load_cases(options.data)
        count = options.organisations
        network = Network(directory, free_base_port(count), count)
        journey = Journey(network, stages, cases, options.large_rows)
        report = asyncio.run(journey.run())
    except ChainnodeError as error:
        print(f"\n{error}", file=sys.stderr)
        print(json.dumps({"demo": "failed", "code": error.code, "seconds": stages.elapsed}))
        return 1
    finally:
        if network is not None:
            network.stop()
        if options.data_dir is None:
            shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps(report))
    return 0 if report["demo"] == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
