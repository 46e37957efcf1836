"""Benchmarks: each file of `benchmarks/` gives rows of two things measured in one run; here they are found and run.

One that needs what is not installed (the test kit's local chains, a library to compare with) is a row that says so.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from aggregator.app.config import data_dir
from aggregator.core.errors import ConfigError, near_miss

OURS = ("aggregator", "adapters", "benchmarks")
FIELDS = ("name", "what", "ours", "reference", "ratio", "bar", "holds")


class NotHere(Exception):  # noqa: N818 - no error: what a benchmark needs cannot be had on this machine
    """Says what, as it goes on after 'needs'."""


def run_benchmarks(names: Sequence[str], *, quick: bool, tick: Callable[[str, int, int], None]) -> list[dict[str, Any]]:
    """Rows {name, what, ours, reference, ratio, bar, holds} of the named files (stems), all otherwise.

    A file that cannot run here is one row {name, skipped: why}.
    """
    folder = data_dir("benchmarks")
    files = {f.stem: f for f in sorted(folder.glob("*.py")) if not f.stem.startswith("_")}
    for name in names:
        if name not in files:
            fix = near_miss(name, files, "name one of these, or none for all")
            raise ConfigError(f"no benchmark called {name!r}", expected=", ".join(files), found=name, fix=fix)
    rows: list[dict[str, Any]] = []
    chosen = list(names) or list(files)
    for done, name in enumerate(chosen):
        tick("benchmarks", done, len(chosen))
        try:
            measured = _load(files[name]).benchmarks(quick=quick)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in OURS:
                raise
            what = "the local chains of the test kit" if package == "tests" else f"the library {package}"
            rows.append({"name": name, "skipped": f"needs {what}: pip install -e '.[test]' in a clone brings it"})
            continue
        except NotHere as error:
            rows.append({"name": name, "skipped": f"needs {error}"})
            continue
        for row in measured:
            plain = {k: (_number(row[k]) if k in ("ours", "reference", "ratio") else row[k]) for k in FIELDS}
            rows.append(plain | {"holds": bool(row["holds"])})
    tick("benchmarks", len(chosen), len(chosen))
    return rows


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ConfigError("a benchmark gave no finite figure", expected="a number", found=str(value))
    return number


def _load(file: Path) -> ModuleType:
    """As a module of the package `benchmarks`, which lies on no path where it came with the wheel."""
    if (package := sys.modules.get("benchmarks")) is None or str(file.parent) not in package.__path__:
        package = ModuleType("benchmarks")
        package.__path__ = [str(file.parent)]
        sys.modules["benchmarks"] = package
    return importlib.import_module(f"benchmarks.{file.stem}")
