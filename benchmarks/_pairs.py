"""Measure two programs side by side: the same work in one run, best CPU time of several turns taken alternately."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def pair_seconds(ours: Callable[[], Any], reference: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """(ours, reference) seconds of CPU, the best turn of each; both are serial, so other processes do not count."""
    best = [float("inf"), float("inf")]
    ours()
    for turn in range(repeats):
        for side, work in enumerate((ours, reference)):
            if side and turn >= 3:  # the slow side needs no more than three turns
                continue
            started = time.process_time()
            work()
            best[side] = min(best[side], time.process_time() - started)
    return best[0], best[1]


def row(name: str, what: str, ours: float, reference: float, bar: float, *, at_most: bool = False) -> dict[str, Any]:
    """ratio is reference / ours, how many times better ours is, and holds from `bar` on; with `at_most` the inverse."""
    ratio = ours / reference if at_most else reference / ours
    return {
        "name": name,
        "what": what,
        "ours": ours,
        "reference": reference,
        "ratio": ratio,
        "bar": bar,
        "holds": bool(ratio <= bar if at_most else ratio >= bar),
    }


def require_close(name: str, error: float, bar: float) -> None:
    """A fast wrong answer is no benchmark."""
    if not error <= bar:
        raise AssertionError(f"{name}: answers differ by {error:.3g}, allowed {bar:.3g}")
