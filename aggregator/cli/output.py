"""What a terminal shows: results on stdout, the rest on stderr; a bar with time left, a heartbeat line off-terminal."""

from __future__ import annotations

import json
import sys
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aggregator.core.errors import SpilloverError

_AHEAD_S = 60
OFF_TERMINAL_WIDTH = 160  # no figure is folded in a file or a pipe
out = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else OFF_TERMINAL_WIDTH)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def print_json(data: Any) -> None:
    """One JSON document on stdout, nothing else beside it."""
    sys.stdout.write(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def print_problem(error: SpilloverError, as_json: bool) -> None:
    if as_json:
        print_json(error.problem())
    else:
        err.print(Text.assemble((error.code, "bold red"), " ", _lines(error.message)))
        for label, text in (("expected", error.expected), ("found", error.found), ("to mend", error.fix)):
            if text:
                err.print(Text.assemble((f"  {label:>8}  ", "dim"), _lines(text)))


def table(title: str, columns: list[str], rows: list[list[str]], right: frozenset[int] = frozenset()) -> None:
    view = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for i, name in enumerate(columns):
        view.add_column(name, justify="right" if i in right else "left", overflow="fold", no_wrap=i in right)
    for row in rows:
        view.add_row(*(Text(printable(cell)) for cell in row))
    out.print(view)


def printable(text: str) -> str:
    """Symbols and names come from anybody: no escape sequence, line break or right-to-left mark of theirs acts here."""
    return "".join(c if unicodedata.category(c)[0] != "C" else "\ufffd" for c in text)


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())


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


def whole(value: float) -> str:
    """Dollars for a person who compares sizes: 12,346."""
    return f"{value:,.0f}"


def amount(exact: str | None) -> str:
    """An exact decimal string with separators and at most six places, '-' for None; --json has all of them."""
    if exact is None:
        return "-"
    head, _, tail = exact.partition(".")
    places = tail[:6].rstrip("0")
    if tail.strip("0") and not places and head in ("0", "-0"):
        return f"{head}.{tail[: len(tail) - len(tail.lstrip('0')) + 3]}"
    return f"{int(head):,}" + (f".{places}" if places else "")


def age(seconds: float) -> str:
    """ "2 days old", or that the clocks disagree: blocks run ahead of a good clock by seconds at most."""
    if seconds < -_AHEAD_S:
        return f"dated {_span(-seconds)} AFTER this machine's clock"
    return f"{_span(max(seconds, 0))} old"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def short(text: str) -> str:
    """An address or a long name by its ends."""
    return f"{text[:8]}…{text[-4:]}" if len(text) > 24 else text
