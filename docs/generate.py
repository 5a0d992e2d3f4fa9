"""Write `docs/reference`'s pages of commands and of limits from the code; `make docs` runs it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).resolve().parent.parent
# Of this tree, from whatever folder it is started.
sys.path.insert(0, str(ROOT))

from chainnode.cli.main import app  # noqa: E402
from chainnode.types import limits  # noqa: E402

REFERENCE = ROOT / "docs" / "reference"
UNITS = {"KIBI", "MEBI"}
EXIT_CODES = """## Exit codes

0 done, 1 rejected by the chain, 2 usage, 3 configuration, 4 unreachable, 5 outcome unknown,
70 internal.
"""


def describe(command: Any, path: str) -> list[str]:
    """Markdown of one command and those below it."""
    context = command.make_context(path, [], resilient_parsing=True)
    below = getattr(command, "commands", None)
    if below is not None:
        lines = [] if path == "chainnode" else [f"## {path}", "", command.help or "", ""]
        for name in sorted(below):
            lines += describe(below[name], f"{path} {name}")
        return lines
    lines = [f"### {path}", "", (command.help or "").strip(), ""]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and parameter.name != "help":
            lines.append(f"- `{record[0]}`: {record[1]}")
    return [*lines, ""]


def limits_page() -> str:
    """Every limit with its value, in the sections of the table in the code."""
    lines = [
        "# Limits",
        "",
        "Units are in the names; sizes are decoded sizes unless said. Whoever passes one gets a",
        "typed error that names it. The one place in the code is `chainnode/types/limits.py`.",
    ]
    for line in Path(limits.__file__).read_text("utf-8").splitlines():
        name, declared, _ = line.partition(": Final = ")
        if line.startswith("# "):
            lines += ["", f"## {line[2:]}", "", "| limit | value | |", "|---|---|---|"]
        elif declared and name not in UNITS:
            lines.append(f"| `{name}` | {getattr(limits, name):,} | |")
        elif (note := re.fullmatch(r'"""(.*)"""', line)) and lines[-1].endswith(" | |"):
            lines[-1] = f"{lines[-1][:-1]}{note[1]} |"
    return "\n".join([*lines, ""])


def commands_page() -> str:
    """Every command with its options."""
    body = describe(typer.main.get_command(app), "chainnode")
    return "\n".join(["# Commands", "", *body, EXIT_CODES])


PAGES = {"cli.md": commands_page, "limits.md": limits_page}


def main() -> None:
    """Generate the pages."""
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
