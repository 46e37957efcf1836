"""One aggregation run: pin the cut, undo what a reorg dropped, read every deployment at the cut, write it whole.

    pin -> fork check -> discover -> terms -> read (in slices) -> one transaction

A source that fails costs its own rows, an adapter that fails costs its own rows; both leave a Gap, keep their last
good positions and do not advance their cursor. Nothing is visible before the transaction commits.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from aggregator.core.block import Cut
from aggregator.core.errors import ConfigError
from aggregator.ingest.discover import Progress
from aggregator.ingest.read import Reading, read, unread, unwrapped
from aggregator.ingest.sources import Source, pin
from aggregator.sdk.adapter import Adapter, Where
from aggregator.store import Store


@dataclass(frozen=True, slots=True)
class RunResult:
    """rewound: source -> block kept, where a reorg was undone. failed: deployments or sources that gave nothing."""

    run: int
    cut: Cut
    rewound: Mapping[str, int]
    failed: Mapping[str, str]
    read_accounts: int


async def collect(
    store: Store,
    sources: Sequence[Source],
    deployments: Sequence[Where],
    adapters: Mapping[str, Adapter],
    *,
    slice_size: int = 500,
    concurrency: int = 4,
    facts: Mapping[str, str | int] | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RunResult:
    """Run once. facts: `version`, `config_digest`, `started_s` of the run, kept with it.

    SourceError if no source, or none with a deployment, could be pinned; every other failure is a Gap in the result.
    """
    for where in deployments:
        if where.adapter not in adapters:
            raise ConfigError(
                f"no adapter called {where.adapter!r}", expected=", ".join(sorted(adapters)), found=where.adapter
            )
    pinned = await pin(store, sources, progress)
    pinned.require(deployments)
    by_id, limit = {s.id: s for s in sources}, asyncio.Semaphore(concurrency)
    with _rare_collections():
        views = {source: by_id[source].view(at) for source, at in pinned.at.items()}

        async def one(where: Where) -> Reading:
            if (objection := pinned.objection(where)) is not None:
                return unread(store, where, "source_failed", objection)
            async with limit:
                return await read(store, adapters[where.adapter], views[where.source], where, slice_size, progress)

        async with unwrapped(), asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(where)) for where in deployments]
        readings = sorted((task.result() for task in tasks), key=lambda r: r.where.id)
        cut = Cut.of([by_id[source].seal(at) for source, at in pinned.at.items()])
        progress(Progress("", "write", 0, 1))
        run = _write(store, cut, readings, facts or {})
        progress(Progress("", "write", 1, 1))
    failed = pinned.failed | {r.where.id: r.failure for r in readings if r.failure is not None}
    return RunResult(run, cut, pinned.rewound, failed, sum(len(r.touched) for r in readings))


@contextmanager
def _rare_collections() -> Iterator[None]:
    """A run makes millions of tuples, keeps them, and makes hardly a cycle: a search after every 700 costs a sixth."""
    before = gc.get_threshold()
    gc.set_threshold(before[0] and max(before[0], 100_000), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _write(store: Store, cut: Cut, readings: Sequence[Reading], facts: Mapping[str, str | int]) -> int:
    present = [r for r in readings if cut.at(r.where.source) is not None]
    absent = [r for r in readings if cut.at(r.where.source) is None]
    with store.write_run(cut, **facts) as writer:  # type: ignore[arg-type]
        for r in present:
            if r.failure is not None and not absent and writer.keep(r.where.id):
                continue  # read before at these very blocks: what is stored is right, whatever fails now
            block = writer.at(r.where.id)
            writer.cut_rows(r.where.id, r.rows.of_cut)
            writer.assets(r.rows.assets)
            if r.failure is not None:
                writer.coverage(r.where.id, "failed")
                continue
            writer.targets(r.where.id, r.fresh)
            writer.positions(r.where.id, r.touched, r.rows.positions)
            writer.cursor(r.where.id, block.number)
        for r in absent:  # a source outside the cut has no block to file its Gap under: it stands beside the first one
            writer.cut_rows(present[0].where.id, r.rows.of_cut)
    return writer.number
