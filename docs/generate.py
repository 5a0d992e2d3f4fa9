"""Write `docs/reference/cli.md` from the commands themselves; `make docs` runs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).resolve().parent.parent
# Of this tree, from whatever folder it is started.
sys.path.insert(0, str(ROOT))

from chainnode.cli.main import app  # noqa: E402

TARGET = ROOT / "docs" / "reference" / "cli.md"
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


def page() -> str:
    """The whole page."""
    body = describe(typer.main.get_command(app), "chainnode")
    return "\n".join(["# Commands", "", *body, EXIT_CODES])


def main() -> None:
    """Generate the page."""
    TARGET.write_text(page())


if __name__ == "__main__":
    main()
