"""What was read of what there is, by deployment, as JSON."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Any

from aggregator.core.result import Coverage
from aggregator.snapshot import Snapshot, coverage


@lru_cache(maxsize=4)
def coverage_of(snap: Snapshot) -> tuple[Coverage, ...]:
    return tuple(coverage.coverage(snap))


def coverage_json(snap: Snapshot) -> list[dict[str, Any]]:
    """Per deployment; value_usd is what its positions own, of what could be priced (float lane, two places)."""
    return [asdict(row) for row in coverage_of(snap)]
