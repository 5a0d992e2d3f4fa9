"""The demo's live list of stages: what is happening, for how long, and what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Advance(Protocol):
    """Reports progress of a stage: steps done so far, steps in all."""

    def __call__(self, done: int, total: int) -> None: ...


class Stages:
    """Prints each stage as it ends and remembers its seconds; talk goes to standard error."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._console = Console(stderr=True, highlight=False)
        self._start = time.monotonic()

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[Advance]:
        """Time one stage; a bar appears for long work on a terminal."""
        begin = time.monotonic()
        progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        task = progress.add_task(title, total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        with progress:
            try:
                yield advance
            except BaseException:
                self._console.print(f"[red]failed[/red]  {title}")
                raise
        spent = time.monotonic() - begin
        self.seconds[name] = round(spent, 2)
        self._console.print(f"[green]done[/green] {spent:7.2f} s  {title}")

    def note(self, text: str) -> None:
        """A line under the stage that is running."""
        self._console.print(f"               {text}", soft_wrap=True, markup=False)

    @property
    def elapsed(self) -> float:
        """Seconds since the demo began."""
        return round(time.monotonic() - self._start, 1)
