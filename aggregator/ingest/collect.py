"""One aggregation run: pin the cut, undo what a reorg dropped, read every deployment at the cut, write it whole.

    pin -> fork check -> discover -> terms -> read (in slices) -> one transaction

A source that fails costs its own rows, an adapter that fails costs its own rows; both leave a Gap, keep their last
good positions and do not advance their cursor. Nothing is visible before the transaction commits.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import ConfigError, SourceError, SpilloverError, StoreError, WrongChainError
from aggregator.core.rows import CUT_KINDS, POSITION_KINDS, Asset, Gap, PositionRow, Row
from aggregator.ingest.discover import Progress, discover, knowing
from aggregator.sdk.adapter import Adapter, Target, View, Where
from aggregator.store import Store

log = logging.getLogger("spillover.ingest")

_SLICES_IN_FLIGHT = 8  # of one deployment: the node works on some while others are encoded and decoded


class Stats(Protocol):
    @property
    def calls(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def bytes_in(self) -> int: ...
    @property
    def bytes_out(self) -> int: ...


class Source(Protocol):
    """A chain or venue that can be frozen at one point; live or replayed."""

    @property
    def id(self) -> str: ...

    @property
    def stats(self) -> Stats:
        """What reading it has cost so far."""
        ...

    async def pin(self, at_least: int = 0) -> BlockRef:
        """at_least: the last block that was read of it; below that no run can begin."""
        ...

    async def find_fork(self, known: Sequence[BlockRef]) -> BlockRef | None:
        """The newest of `known` (newest first) that is still canonical, None if none is."""
        ...

    def view(self, at: BlockRef) -> View: ...

    def seal(self, at: BlockRef) -> BlockRef:
        """The pinned point once all is read: venues learn their digest only then."""
        ...


@dataclass(slots=True)
class Reading:
    """What one deployment answered. fresh: targets not stored yet. touched: targets whose stored rows are replaced.

    whole: the cursor may advance.
    """

    where: Where
    fresh: tuple[Target, ...] = ()
    touched: tuple[Target, ...] = ()
    assets: list[Asset] = field(default_factory=list)
    cut_rows: list[Row] = field(default_factory=list)
    positions: list[PositionRow] = field(default_factory=list)
    whole: bool = True


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
    pinned, failed = await _pin(store, sources, progress)
    rewound = await _undo_reorgs(store, [s for s in sources if s.id in pinned], pinned, failed)
    behind = await _check_discoveries(store, [s for s in sources if s.id in pinned], pinned, failed)
    if not pinned or (deployments and not any(w.source in pinned for w in deployments)):
        raise SourceError(
            "no source could be read",
            expected="at least one endpoint that answers",
            found=_lines(failed),
            fix="`spillover doctor` checks each endpoint and says how to mend it",
        )
    by_id = {s.id: s for s in sources}
    with _rare_collections():
        views = {source: by_id[source].view(at) for source, at in pinned.items()}
        readings = [
            _unread(where, "source_failed", failed.get(where.source, "not configured"), store.known_targets(where.id))
            for where in deployments
            if where.source not in pinned
        ]
        readings += [
            _unread(w, "source_failed", behind[w.id], store.known_targets(w.id))
            for w in deployments
            if w.source in pinned and w.id in behind
        ]
        limit = asyncio.Semaphore(concurrency)
        async with _unwrapped(), asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    _read_deployment(store, adapters[w.adapter], views[w.source], w, slice_size, limit, progress)
                )
                for w in deployments
                if w.source in pinned and w.id not in behind
            ]
        readings += [t.result() for t in tasks]
        readings.sort(key=lambda r: r.where.id)
        cut = Cut.of([by_id[source].seal(at) for source, at in pinned.items()])
        progress(Progress("", "write", 0, 1))
        run = _write(store, cut, readings, facts or {})
        progress(Progress("", "write", 1, 1))
    failed |= {r.where.id: _last_detail(r) for r in readings if not r.whole}
    return RunResult(run, cut, rewound, failed, sum(len(r.touched) for r in readings))


@contextmanager
def _rare_collections() -> Iterator[None]:
    """A run makes millions of tuples, keeps them, and makes hardly a cycle: a search after every 700 costs a sixth."""
    before = gc.get_threshold()
    gc.set_threshold(before[0] and max(before[0], 100_000), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@asynccontextmanager
async def _unwrapped() -> AsyncIterator[None]:
    """The one error of a task group as itself: a person reads it."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


async def _pin(
    store: Store, sources: Sequence[Source], progress: Callable[[Progress], None]
) -> tuple[dict[str, BlockRef], dict[str, str]]:
    last = [next((b.number for b in store.blocks(s.id)), 0) for s in sources]
    answers = await asyncio.gather(*(s.pin(n) for s, n in zip(sources, last, strict=True)), return_exceptions=True)
    pinned: dict[str, BlockRef] = {}
    failed: dict[str, str] = {}
    for done, (source, answer) in enumerate(zip(sources, answers, strict=True), 1):
        if isinstance(answer, BlockRef):
            pinned[source.id] = answer
        elif isinstance(answer, WrongChainError):
            raise answer  # a configuration that points at another chain would store lies
        elif isinstance(answer, SpilloverError | OSError | asyncio.TimeoutError):
            failed[source.id] = _why(source, answer)
        elif isinstance(answer, BaseException):
            raise answer
        progress(Progress(source.id, "pin", done, len(sources)))
    return pinned, failed


def _why(source: Source, error: Exception) -> str:
    log.warning("%s cannot be read: %s", source.id, error)
    return f"{error.message} ({error.found})" if isinstance(error, SpilloverError) else str(error)


async def _undo_reorgs(
    store: Store, sources: Sequence[Source], pinned: dict[str, BlockRef], failed: dict[str, str]
) -> dict[str, int]:
    rewound: dict[str, int] = {}
    for source in sources:
        known = store.blocks(source.id)
        if not known or not source.id.startswith("eip155:"):
            continue
        if known[0].number > pinned[source.id].number:
            failed[source.id] = (
                f"the endpoint is at block {pinned[source.id].number}, behind the last cut at {known[0].number}"
            )
            del pinned[source.id]
            continue
        try:
            fork = await source.find_fork(known)
        except SourceError as error:
            failed[source.id] = _why(source, error)
            del pinned[source.id]
            continue
        if fork != known[0]:
            number = fork.number if fork else -1
            log.warning("%s: blocks above %d were reorganised away; undoing them", source.id, number)
            store.rewind(source.id, number)
            rewound[source.id] = number
    return rewound


async def _check_discoveries(
    store: Store,
    sources: Sequence[Source],
    pinned: dict[str, BlockRef],
    failed: dict[str, str],
) -> dict[str, str]:
    """Drop checkpoints seen from a block that is no longer canonical: before the first cut nothing else tells.

    Deployments that must wait, and why: their checkpoint was seen from a block that the endpoint does not have yet.
    """
    behind: dict[str, str] = {}
    for source in sources:
        for name, (_, at) in store.discoveries(source.id).items():
            if at.number > (head := pinned[source.id].number):
                behind[name] = f"the endpoint is at block {head}, behind the discovery seen from {at.number}"
                continue
            try:
                gone = await source.find_fork([at]) is None
            except SourceError as error:
                failed[source.id] = _why(source, error)
                del pinned[source.id]
                break
            if gone:
                log.warning("%s: block %d was reorganised away; its discovery begins again", name, at.number)
                store.drop_discovery(name)
    return behind


async def _read_deployment(
    store: Store,
    adapter: Adapter,
    view: View,
    where: Where,
    slice_size: int,
    limit: asyncio.Semaphore,
    progress: Callable[[Progress], None],
) -> Reading:
    known = [Target(*t) for t in store.known_targets(where.id)]
    reading = Reading(where)
    if where.start_block > view.at.number:  # to read nobody and say so would look like a deployment without users
        detail = f"start_block {where.start_block} is above block {view.at.number}, at which the run reads"
        return _unread(where, "adapter_failed", detail, known=known)
    try:
        async with limit:
            touched = await discover(store, adapter, view, where, known, progress)
            stored = set(known)
            reading.fresh = tuple(t for t in touched if t not in stored)
            reading.touched = tuple(sorted(t for t in touched if t.holder or t.ref))
            where = knowing(where, [*known, *reading.fresh])
            slices = [reading.touched[i : i + slice_size] for i in range(0, len(reading.touched), slice_size)]
            parts = [Reading(where) for _ in slices]
            left, done = iter(list(zip(parts, slices, strict=True))), 0

            async def terms() -> None:
                await _sort_rows(adapter.terms(view, where), reading)
                progress(Progress(where.id, "terms", len(reading.cut_rows), 0))

            async def read() -> None:
                nonlocal done
                for part, targets in left:  # shared: each worker takes the next slice
                    await _sort_rows(adapter.read(view, where, targets), part)
                    done += len(targets)
                    progress(Progress(where.id, "read", done, len(reading.touched)))

            async with _unwrapped(), asyncio.TaskGroup() as group:
                group.create_task(terms())
                for _ in slices[:_SLICES_IN_FLIGHT]:
                    group.create_task(read())
            for part in parts:
                reading.assets += part.assets
                reading.cut_rows += part.cut_rows
                reading.positions += part.positions
    except (asyncio.CancelledError, ConfigError):
        raise
    except Exception as error:  # the boundary: an adapter's failure costs its own rows, never the run
        log.exception("%s failed; its last good rows are kept", where.id)
        return _unread(where, "adapter_failed", f"{type(error).__name__}: {error}", known=known)
    return reading


async def _sort_rows(rows: AsyncIterator[Row] | AsyncIterator[PositionRow | Gap], into: Reading) -> None:
    keep: dict[type, Callable[[Any], None]] = dict.fromkeys(POSITION_KINDS, into.positions.append)
    keep |= {Asset: into.assets.append, **dict.fromkeys(CUT_KINDS, into.cut_rows.append)}
    async for row in rows:
        if type(row) not in keep:
            raise StoreError(f"an adapter yielded something that is no row: {type(row).__name__}")
        keep[type(row)](row)


def _unread(where: Where, reason: str, detail: str, known: Sequence[tuple[str, str, str]] = ()) -> Reading:
    accounts = sum(1 for _, holder, ref in known if holder or ref) or -1
    return Reading(where, cut_rows=[Gap(where.id, reason, detail, accounts)], whole=False)


def _last_detail(reading: Reading) -> str:
    return next((r.detail for r in reversed(reading.cut_rows) if isinstance(r, Gap)), "")


def _write(store: Store, cut: Cut, readings: Sequence[Reading], facts: Mapping[str, str | int]) -> int:
    present = [r for r in readings if cut.at(r.where.source) is not None]
    absent = [r for r in readings if cut.at(r.where.source) is None]
    with store.write_run(cut, **facts) as writer:  # type: ignore[arg-type]
        for r in present:
            block = writer.at(r.where.id)
            writer.cut_rows(r.where.id, r.cut_rows)
            writer.assets(r.assets)
            if not r.whole:
                writer.coverage(r.where.id, "failed")
                continue
            writer.targets(r.where.id, r.fresh)
            writer.positions(r.where.id, r.touched, r.positions)
            writer.cursor(r.where.id, block.number)
        for r in absent:  # a source outside the cut has no block to file its Gap under: it stands beside the first one
            writer.cut_rows(present[0].where.id, r.cut_rows)
    return writer.number


def _lines(failed: Mapping[str, str]) -> str:
    return "; ".join(f"{k}: {v}" for k, v in sorted(failed.items()))
