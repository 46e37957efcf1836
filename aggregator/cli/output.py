"""What a terminal shows: results on stdout, the rest on stderr; a bar with time left, a heartbeat line off-terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from aggregator.core.errors import SpilloverError

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def print_json(data: Any) -> None:
    """One JSON document on stdout, nothing else beside it."""
    sys.stdout.write(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def print_problem(error: SpilloverError, as_json: bool) -> None:
    if as_json:
        print_json(error.problem())
    else:
        err.print(f"[bold red]{error.code}[/] {error.message}")
        for label, text in (("expected", error.expected), ("found", error.found), ("to mend", error.fix)):
            if text:
                err.print(f"  [dim]{label:>8}[/]  ", end="")
                err.print(text, markup=False)


def table(title: str, columns: list[str], rows: list[list[str]], right: frozenset[int] = frozenset()) -> None:
    view = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for i, name in enumerate(columns):
        view.add_column(name, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        view.add_row(*row)
    out.print(view)


@contextmanager
def progress(quiet: bool) -> Iterator[Any]:
    """Yields a callable(name, done, total). A bar with time left on a terminal, a line every 10 s elsewhere."""
    if quiet:
        yield lambda name, done, total: None
        return
    if not err.is_terminal:
        last = [0.0]

        def beat(name: str, done: int, total: int) -> None:
            now = time.monotonic()
            if now - last[0] >= 10 or (total and done == total):
                last[0] = now
                err.print(f"{name}: {done}" + (f" of {total}" if total else ""), markup=False)

        yield beat
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err
    )
    with bar:
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total or None)
            bar.update(tasks[name], completed=done, total=total or None)

        yield show


def usd(value: float | str | None) -> str:
    """Dollars for a person: 12,345.67; '-' for what is not known."""
    if value is None or value == "":
        return "-"
    return f"{float(value):,.2f}"


def short(address: str) -> str:
    return f"{address[:8]}…{address[-4:]}" if len(address) > 16 else address
