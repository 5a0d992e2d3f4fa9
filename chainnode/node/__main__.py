"""`python -m chainnode.node CONFIG`: what the testnet starts, without the command line."""

import contextlib
import sys
from pathlib import Path

from chainnode.node.main import run
from chainnode.types.errors import ChainnodeError

if __name__ == "__main__":
    try:
        run(Path(sys.argv[1]))
    except ChainnodeError as error:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{error}\n")
        sys.exit(3 if error.who == "config" else 70)
