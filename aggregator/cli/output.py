"""What a terminal shows: results on stdout, the rest on stderr; a bar with time left, a heartbeat line off-terminal."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aggregator.core.errors import SpilloverError

_AHEAD_S = 60
CLOSED, _DISCARD = "standard output cannot be written", "write it elsewhere, or to /dev/null"
OFF_TERMINAL_WIDTH = 160  # no figure is folded in a file or a pipe
LEAST_WORDS = 6  # columns of a terminal below which a column of words is not folded further
_ON_TERMINAL = sys.stdout is not None and sys.stdout.isatty()
out = Console(soft_wrap=True, highlight=False, width=None if _ON_TERMINAL else OFF_TERMINAL_WIDTH)
err = Console(stderr=True, soft_wrap=True, highlight=False)
# what our own lines are made of, in one column each, where a code page lacks it
_PLAIN = {"\u2026": "~", "\u00b7": "-", "\u2212": "-", "\u00d7": "x"}


def prepare_streams() -> None:
    """Standard output and error take any text: what their encoding lacks is replaced, never an exception.

    SpilloverError where standard output is closed; standard error then goes nowhere.
    """
    codecs.register_error("spillover", _replaced)
    if sys.stderr is None:
        sys.stderr = _nowhere()
    if sys.stdout is None:
        sys.stdout = _nowhere()
        raise SpilloverError(CLOSED, expected="a terminal, a file or a pipe", found="nothing", fix=_DISCARD)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spillover")
    sys.stdout = cast(TextIO, _Output(sys.stdout))


class _Output:
    """Standard output that remembers why it could not be written: no file's OSError is taken for its own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.trouble: OSError | None = None

    def write(self, text: str) -> int:
        with self._remembered():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._remembered():
            self._stream.flush()

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.trouble = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def output_failed() -> bool:
    """Whether it was standard output that raised an OSError."""
    return isinstance(sys.stdout, _Output) and sys.stdout.trouble is not None


def finish_output() -> SpilloverError | None:
    """Writes out what waits for standard output; why it cannot be written, None if it was or its reader went away."""
    stream = sys.stdout
    with suppress(OSError):
        stream.flush()
    trouble = stream.trouble if isinstance(stream, _Output) else None
    if trouble is None:
        return None
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # the interpreter flushes it once more
    with out.capture():
        """What the console has not written is dropped."""
    if isinstance(trouble, BrokenPipeError):
        return None
    return SpilloverError(CLOSED, expected="a place with room", found=str(trouble.strerror), fix=_DISCARD)


def _nowhere() -> TextIO:
    """For a stream that is closed; its number is taken, so that no database is opened under it."""
    os.open(os.devnull, os.O_WRONLY)
    return io.StringIO()


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c, "?") for c in lost), error.end


def print_json(data: Any) -> None:
    """One JSON document on stdout, nothing else beside it; ASCII, which every encoding has."""
    sys.stdout.write(json.dumps(data, indent=1, allow_nan=False) + "\n")


def print_problem(error: SpilloverError, as_json: bool) -> None:
    if as_json and error.message != CLOSED:
        print_json(error.problem())
    else:
        err.print(Text.assemble((error.code, "bold red"), " ", _lines(error.message)))
        for label, text in (("expected", error.expected), ("found", error.found), ("to mend", error.fix)):
            if text:
                err.print(Text.assemble((f"  {label:>8}  ", "dim"), _lines(text)))


def table(title: str, columns: list[str], rows: list[list[str]], right: frozenset[int] = frozenset()) -> None:
    """right: places of figures, never folded or cut: where a row does not fit it is a block of lines, one a column."""
    rows = [[printable(cell) for cell in row] for row in rows]
    wide = [max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)]
    if sum(w if i in right else min(w, LEAST_WORDS) for i, w in enumerate(wide)) + 2 * (len(wide) - 1) > out.width:
        out.print(title, style="bold", markup=False)
        for row in rows:
            for name, cell in zip(columns, row, strict=True):
                room = out.width - cell_len(name) - cell_len(cell)
                out.print(f"{name}{' ' * room}{cell}" if room > 0 else f"{name}\n{cell:>{out.width}}", markup=False)
            out.print()
        return
    view = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for i, name in enumerate(columns):
        view.add_column(name, justify="right" if i in right else "left", overflow="fold", no_wrap=i in right)
    for row in rows:
        view.add_row(*map(Text, row))
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
