"""What reading cost: counted by views and pools, printed by `collect --dry-run` and the benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

COUNTS = ("calls", "batches", "alone", "logs", "requests", "retries", "bytes_out", "bytes_in")


@dataclass(slots=True)
class Stats:
    """calls: contract reads asked for. batches: multicalls or JSON-RPC batches that carried them.

    requests: HTTP requests, retries included. alone: failed sub-calls asked again alone. seconds: by verb, wall time
    summed over concurrent uses.
    """

    calls: int = 0
    batches: int = 0
    alone: int = 0
    logs: int = 0
    requests: int = 0
    retries: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def spent(self, verb: str, seconds: float) -> None:
        self.seconds[verb] = self.seconds.get(verb, 0.0) + seconds

    def since(self, mark: Stats) -> Stats:
        """What was spent after `mark`, an earlier copy."""
        return self._combine(mark, lambda now, then: now - then)

    def times(self, factor: float) -> Stats:
        """An estimate: this much work `factor` times over, counts rounded up."""
        return self._combine(self, lambda now, _: now * factor)

    def copy(self) -> Stats:
        return self.times(1.0)

    def _combine(self, other: Stats, rule: Callable[[float, float], float]) -> Stats:
        counts = {name: ceil(rule(getattr(self, name), getattr(other, name))) for name in COUNTS}
        spent = {verb: rule(s, other.seconds.get(verb, 0.0)) for verb, s in self.seconds.items()}
        return Stats(**counts, seconds=spent)

    def plain(self) -> dict[str, int | float]:
        counts = {name: getattr(self, name) for name in COUNTS}
        return {**counts, **{f"{verb}_s": round(s, 6) for verb, s in sorted(self.seconds.items())}}
