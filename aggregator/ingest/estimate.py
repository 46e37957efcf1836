"""What a run would cost, without one: discovery and terms are read, positions only for one slice and scaled up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from aggregator.ingest.discover import Progress, discover, knowing
from aggregator.ingest.read import Failed, guarded, too_early
from aggregator.ingest.sources import Pinned, Source, freeze
from aggregator.sdk.adapter import Adapter, Target, View, Where
from aggregator.store import Store


class Estimate(NamedTuple):
    """calls, requests and bytes of a whole run of one deployment; seconds of it at the pace seen.

    problem: why a run would leave it out, '' where it would not; its figures are then zero.
    """

    deployment: str
    targets: int
    calls: int
    requests: int
    bytes: int
    seconds: float
    problem: str = ""


async def estimate(
    store: Store,
    sources: Sequence[Source],
    deployments: Sequence[Where],
    adapters: Mapping[str, Adapter],
    *,
    slice_size: int = 500,
    progress: Callable[[Progress], None] = lambda _: None,
) -> list[Estimate]:
    """One deployment after another, so that each is measured alone. Nothing is written.

    Errors are those of a run: what would cost a run one deployment is its `problem`, what would end it is raised.
    """
    out: list[Estimate] = []
    pinned = await freeze(store, sources, progress)
    pinned.require(deployments)
    by_id = {source.id: source for source in sources}
    for done, where in enumerate(deployments):
        progress(Progress(where.id, "estimate", done, len(deployments)))
        measured = await _estimate(store, by_id, pinned, adapters[where.adapter], where, slice_size, progress)
        out.append(Estimate(where.id, 0, 0, 0, 0, 0.0, measured.why) if isinstance(measured, Failed) else measured)
    return out


async def _estimate(
    store: Store,
    sources: Mapping[str, Source],
    pinned: Pinned,
    adapter: Adapter,
    where: Where,
    slice_size: int,
    progress: Callable[[Progress], None],
) -> Estimate | Failed:
    if (objection := pinned.objection(where)) is not None:
        return Failed(objection)
    source = sources[where.source]
    view = source.view(pinned.at[where.source])
    if (detail := too_early(where, view)) is not None:
        return Failed(detail)
    return await guarded(where, _one(store, source, adapter, view, where, slice_size, progress))


async def _one(
    store: Store,
    source: Source,
    adapter: Adapter,
    view: View,
    where: Where,
    slice_size: int,
    progress: Callable[[Progress], None],
) -> Estimate:
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
    calls, requests, moved = (round(f - b + (a - f) * scale) for b, f, a in zip(before, fixed, after, strict=True))
    return Estimate(where.id, len(targets), calls, requests, moved, round(fixed_s + slice_s * scale, 2))


def _counts(source: Source) -> tuple[int, int, int]:
    stats = source.stats
    return stats.calls, stats.requests, stats.bytes_in + stats.bytes_out
