"""The joint cascade on a snapshot: what breaks, who pays, how far it spreads. Pure: no clock, no randomness."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aggregator.core.result import StressResult
from aggregator.core.scenario import Scenario

if TYPE_CHECKING:
    from aggregator.graph import RiskGraph
    from aggregator.snapshot import Snapshot

__all__ = ["stress"]


def stress(
    snapshot: Snapshot, graph: RiskGraph, scenario: Scenario, *, on_round: Callable[[int], None] | None = None
) -> StressResult:
    """Run scenario on snapshot; the same inputs give the same bytes.

    on_round(number) is called after every round. graph must be of this snapshot (its digest is compared).
    ScenarioError: unknown asset, one asset twice, contradiction. DomainError: the graph is of another snapshot, or a
    number of the book is unusable. What cannot be judged, or sold at a known depth, is in `gaps` and `notes`.
    """
    from aggregator.core.errors import DomainError
    from aggregator.engine.load import from_snapshot
    from aggregator.engine.outcome import stress_result
    from aggregator.engine.run import cascade
    from aggregator.snapshot.coverage import coverage

    if graph.digest != snapshot.digest:
        raise DomainError(
            "graph of another snapshot", expected=snapshot.digest, found=graph.digest, fix="build it anew"
        )
    run = cascade(from_snapshot(snapshot), scenario, on_round=on_round)
    return stress_result(
        run,
        scenario,
        cut_digest=snapshot.cut.digest,
        snapshot_digest=snapshot.digest,
        coverage=coverage(snapshot),
        gaps=snapshot.gaps,
    )
