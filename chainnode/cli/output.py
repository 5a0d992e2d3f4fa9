"""How commands speak: results on stdout, talk on stderr, exit codes by the class of the error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from chainnode.types.errors import ChainnodeError

if TYPE_CHECKING:
    from chainnode.sdk.query_progress import QueryProgress, Watch

EXIT_DONE: Final = 0
EXIT_REJECTED: Final = 1
EXIT_USAGE: Final = 2
EXIT_CONFIGURATION: Final = 3
EXIT_UNREACHABLE: Final = 4
EXIT_UNKNOWN_OUTCOME: Final = 5
EXIT_INTERNAL: Final = 70

UNREACHABLE_CODES: Final = frozenset({"NODES_UNREACHABLE"})
UNKNOWN_OUTCOME_CODES: Final = frozenset({"TX_OUTCOME_UNKNOWN"})

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


class Format(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    JSON = "json"


def exit_code(error: ChainnodeError) -> int:
    """The process exit status that a typed error maps to."""
    if error.code in UNREACHABLE_CODES:
        return EXIT_UNREACHABLE
    if error.code in UNKNOWN_OUTCOME_CODES:
        return EXIT_UNKNOWN_OUTCOME
    return {
        "client": EXIT_REJECTED,
        "peer": EXIT_UNREACHABLE,
        "config": EXIT_CONFIGURATION,
        "internal": EXIT_INTERNAL,
    }[error.who]


def reporting(command: Callable[Arguments, Value]) -> Callable[Arguments, Value]:
    """Turn a typed error into its message on stderr and its exit status; no stack trace."""

    @wraps(command)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Value:
        try:
            return command(*args, **kwargs)
        except ChainnodeError as error:
            say(str(error))
            sys.exit(exit_code(error))
        except KeyboardInterrupt:
            sys.exit(130)

    return wrapped


def say(text: str) -> None:
    """Talk: progress, hints, errors."""
    print(text, file=sys.stderr)


def show(value: Mapping[str, Any], output: Format) -> None:
    """One result as JSON or as a two-column table."""
    if output is Format.JSON:
        print(json.dumps(value, default=_plain, sort_keys=False))
        return
    width = max((len(key) for key in value), default=0)
    for key, item in value.items():
        shown = json.dumps(item, default=_plain) if isinstance(item, Mapping | list) else item
        print(f"{key:<{width}}  {_plain(shown) if isinstance(shown, bytes) else shown}")


def show_rows(rows: Sequence[Mapping[str, Any]], output: Format) -> None:
    """Several results as a JSON array or as a table with the first row's columns."""
    if output is Format.JSON:
        print(json.dumps(list(rows), default=_plain))
        return
    if not rows:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(_plain(item)) for item in row.values()))
    Console().print(table)


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while something long runs; the callback takes (done, in all)."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def query_line() -> Iterator[Watch]:
    """The state of a query on stderr while a command waits for it: on a terminal a line that
    changes, else its id alone, which is what collects the answer if the command ends early."""
    from rich.console import Console

    console = Console(stderr=True)
    said: set[bytes] = set()
    with console.status("planning") as line:

        def watch(progress: QueryProgress) -> None:
            if progress.query not in said:
                said.add(progress.query)
                console.print(f"query {progress.query.hex()}", highlight=False, soft_wrap=True)
            line.update(progress.text())

        yield watch
