"""Benchmarks: each file of `benchmarks/` gives rows of two things measured in one run; here they are found and run."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from aggregator.core.errors import ConfigError, near_miss

FIELDS = ("name", "what", "ours", "reference", "ratio", "bar", "holds")


def run_benchmarks(names: Sequence[str], *, quick: bool, tick: Callable[[str, int, int], None]) -> list[dict[str, Any]]:
    """Rows {name, what, ours, reference, ratio, bar, holds} of the named files (stems), all otherwise."""
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    files = {f.stem: f for f in sorted(folder.glob("*.py")) if not f.stem.startswith("_")}
    if not files:
        raise ConfigError(
            "benchmarks are not part of the installed package",
            expected="a checkout",
            found=str(folder.name),
            fix="git clone",
        )
    for name in names:
        if name not in files:
            fix = near_miss(name, files, "name one of these, or none for all")
            raise ConfigError(f"no benchmark called {name!r}", expected=", ".join(files), found=name, fix=fix)
    rows: list[dict[str, Any]] = []
    chosen = list(names) or list(files)
    for done, name in enumerate(chosen):
        tick("benchmarks", done, len(chosen))
        for row in _load(files[name]).benchmarks(quick=quick):
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
    spec = importlib.util.spec_from_file_location(f"benchmarks.{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError("cannot load a benchmark", expected="a Python file", found=file.name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
