"""What a run would cost, without one: discovery and terms are read, positions only for one slice and scaled up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from aggregator.ingest.discover import Progress, discover, knowing
from aggregator.ingest.sources import Source
from aggregator.sdk.adapter import Adapter, Target, Where
from aggregator.store import Store


class Estimate(NamedTuple):
    """calls, requests and bytes of a whole run of one deployment; seconds of it at the pace seen."""

    deployment: str
    targets: int
    calls: int
    requests: int
    bytes: int
    seconds: float


async def estimate(
    store: Store,
    sources: Sequence[Source],
    deployments: Sequence[Where],
    adapters: Mapping[str, Adapter],
    *,
    slice_size: int = 500,
    progress: Callable[[Progress], None] = lambda _: None,
) -> list[Estimate]:
    """One deployment after another, so that each is measured alone. Nothing is written. Errors are those of a run."""
    out: list[Estimate] = []
    for source in sources:
        at = await source.pin()
        for where in (w for w in deployments if w.source == source.id):
            view, adapter = source.view(at), adapters[where.adapter]
            begun, before = time.perf_counter(), _counts(source)
            known = [Target(*t) for t in store.known_targets(where.id)]
            touched = await discover(store, adapter, view, where, known, progress, keep=False)
            where = knowing(where, {*known, *touched})
            async for _ in adapter.terms(view, where):
                pass
            fixed_s, fixed = time.perf_counter() - begun, _counts(source)
            targets = sorted(t for t in touched if t.holder or t.ref)
            begun = time.perf_counter()
            async for _ in adapter.read(view, where, targets[:slice_size]):
                pass
            scale = len(targets) / max(1, min(len(targets), slice_size))
            after, slice_s = _counts(source), time.perf_counter() - begun
            calls, requests, moved = (
                round(f - b + (a - f) * scale) for b, f, a in zip(before, fixed, after, strict=True)
            )
            seconds = round(fixed_s + slice_s * scale, 2)
            out.append(Estimate(where.id, len(targets), calls, requests, moved, seconds))
            progress(Progress(where.id, "estimate", len(out), len(deployments)))
    return out


def _counts(source: Source) -> tuple[int, int, int]:
    stats = source.stats
    return stats.calls, stats.requests, stats.bytes_in + stats.bytes_out
