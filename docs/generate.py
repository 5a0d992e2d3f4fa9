"""Write `docs/reference/cli.md` from the commands themselves; `make docs` runs it."""

from __future__ import annotations

from pathlib import Path

import click
import typer

from chainnode.cli.main import app

TARGET = Path(__file__).resolve().parent / "reference" / "cli.md"
EXIT_CODES = """## Exit codes

0 done, 1 rejected by the chain, 2 usage, 3 configuration, 4 unreachable, 5 outcome unknown,
70 internal.
"""


def describe(command: click.Command, path: str) -> list[str]:
    """Markdown of one command and those below it."""
    context = click.Context(command, info_name=path)
    if isinstance(command, click.Group):
        lines = [] if path == "chainnode" else [f"## {path}", "", command.help or "", ""]
        for name in sorted(command.commands):
            lines += describe(command.commands[name], f"{path} {name}")
        return lines
    lines = [f"### {path}", "", (command.help or "").strip(), ""]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and parameter.name != "help":
            lines.append(f"- `{record[0]}`: {record[1]}")
    return [*lines, ""]


def main() -> None:
    """Generate the page."""
    body = describe(typer.main.get_command(app), "chainnode")
    TARGET.write_text("\n".join(["# Commands", "", *body, EXIT_CODES]))


if __name__ == "__main__":
    main()
