"""Write the Python half of `make protos`: messages, stubs and their types in `chainnode/_proto`.

The generator names modules after the proto path (`chainnode.v1`), which is our own package's name;
the output is therefore flattened into `chainnode._proto` and its imports rewritten.
"""

import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"chainnode\.v1(?=[. ])|chainnode/v1(?=/\w+_pb2)")


def rewritten(line: str) -> str:
    """A generated line with its imports moved; names on the wire stay as they are."""
    on_the_wire = ("AddSerializedFile", "'chainnode.v1", "/chainnode.v1.")
    if any(mark in line for mark in on_the_wire):
        return line
    return MARK.sub("chainnode._proto", line)


def main(target: Path) -> int:
    """Generate into `target`; returns the generator's exit status."""
    sources = sorted((ROOT / "protos" / "chainnode" / "v1").glob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        status = int(
            protoc.main(
                [
                    "protoc",
                    f"-I{ROOT / 'protos'}",
                    f"-I{files('grpc_tools') / '_proto'}",
                    f"--python_out={scratch}",
                    f"--grpc_python_out={scratch}",
                    f"--mypy_out={scratch}",
                    f"--mypy_grpc_out={scratch}",
                    *map(str, sources),
                ]
            )
        )
        if status:
            return status
        target.mkdir(parents=True, exist_ok=True)
        for made in sorted((Path(scratch) / "chainnode" / "v1").iterdir()):
            lines = [rewritten(line) for line in made.read_text().splitlines()]
            (target / made.name).write_text("\n".join(lines) + "\n")
        (target / "__init__.py").write_text('"""Generated from `protos/`; run `make protos`."""\n')
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "chainnode" / "_proto"))
