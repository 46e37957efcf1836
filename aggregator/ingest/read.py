"""One deployment at the cut: discover, then terms beside positions in slices.

This is the boundary of adapters: one that fails costs its own rows, leaves a Gap and ends no run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from aggregator.core.errors import ConfigError, DatabaseError, SpilloverError, StoreError
from aggregator.core.rows import CUT_KINDS, POSITION_KINDS, Asset, Gap, PositionRow, Row
from aggregator.ingest.discover import Progress, discover, knowing
from aggregator.sdk.adapter import Adapter, Target, View, Where
from aggregator.store import Store

log = logging.getLogger("spillover.ingest")
T = TypeVar("T")

_SLICES_IN_FLIGHT = 8  # of one deployment: the node works on some while others are encoded and decoded


@dataclass(slots=True)
class Rows:
    """What an adapter yielded, as the store takes it."""

    assets: list[Asset] = field(default_factory=list)
    of_cut: list[Row] = field(default_factory=list)
    positions: list[PositionRow] = field(default_factory=list)

    async def take(self, rows: AsyncIterator[Row] | AsyncIterator[PositionRow | Gap]) -> None:
        keep: dict[type, Callable[[Any], None]] = dict.fromkeys(POSITION_KINDS, self.positions.append)
        keep |= {Asset: self.assets.append, **dict.fromkeys(CUT_KINDS, self.of_cut.append)}
        async for row in rows:
            if type(row) not in keep:
                raise StoreError(f"an adapter yielded something that is no row: {type(row).__name__}")
            keep[type(row)](row)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one deployment answered. fresh: targets not stored yet. touched: targets whose stored rows are replaced:
    those that events name since the last run, and those that a Gap hid in it.

    failure: why there is nothing but a Gap and the cursor must not advance; None if all was read.
    """

    where: Where
    fresh: Sequence[Target]
    touched: Sequence[Target]
    rows: Rows
    failure: str | None = None


def unread(store: Store, where: Where, reason: str, detail: str) -> Reading:
    """A deployment that was not read: its gap with the number of accounts known of it."""
    accounts = sum(1 for _, holder, ref in store.known_targets(where.id) if holder or ref) or -1
    return Reading(where, (), (), Rows(of_cut=[Gap(where.id, reason, detail, accounts)]), detail)


class Failed(NamedTuple):
    """why: in one line, as a Gap says it."""

    why: str


def too_early(where: Where, view: View) -> str | None:
    """Why nobody can be read yet: to read nobody and say so would look like a deployment without users."""
    if where.start_block <= view.at.number:
        return None
    return f"start_block {where.start_block} is above block {view.at.number}, at which the run reads"


async def guarded(where: Where, work: Coroutine[Any, Any, T]) -> T | Failed:
    """What an adapter does, or why it failed. ConfigError and DatabaseError are raised, as a person must mend them."""
    try:
        return await work
    except (asyncio.CancelledError, ConfigError, DatabaseError):  # without a database nobody's rows can be judged
        raise
    except Exception as error:
        detail = " ".join(f"{type(error).__name__}: {error}".split())  # a Gap says it in one line
        defect = not isinstance(error, SpilloverError)
        log.error("%s failed; its last good rows are kept: %s", where.id, detail, exc_info=defect)
        return Failed(detail)


async def read(
    store: Store, adapter: Adapter, view: View, where: Where, slice_size: int, progress: Callable[[Progress], None]
) -> Reading:
    """ConfigError alone is raised, as a person must mend it."""
    if (detail := too_early(where, view)) is not None:
        return unread(store, where, "adapter_failed", detail)
    reading = await guarded(where, _read(store, adapter, view, where, slice_size, progress))
    return unread(store, where, "adapter_failed", reading.why) if isinstance(reading, Failed) else reading


async def _read(
    store: Store, adapter: Adapter, view: View, where: Where, slice_size: int, progress: Callable[[Progress], None]
) -> Reading:
    known = [Target(*t) for t in store.known_targets(where.id)]
    found = await discover(store, adapter, view, where, known, progress)
    if hidden := store.hidden(where.id):  # no event says that an account can be read again, or still cannot
        found |= dict.fromkeys(t for t in known if t.subject in hidden and (t.holder or t.ref))
    stored = set(known)
    fresh = [t for t in found if t not in stored]
    touched = sorted(t for t in found if t.holder or t.ref)
    rows = await _rows(adapter, view, knowing(where, [*known, *fresh]), touched, slice_size, progress)
    return Reading(where, fresh, touched, rows)


async def _rows(
    adapter: Adapter,
    view: View,
    where: Where,
    touched: Sequence[Target],
    slice_size: int,
    progress: Callable[[Progress], None],
) -> Rows:
    """Rows in the order of the targets, whichever slice is answered first."""
    rows, done = Rows(), 0
    slices = [touched[i : i + slice_size] for i in range(0, len(touched), slice_size)]
    parts = [Rows() for _ in slices]
    left = zip(parts, slices, strict=True)

    async def terms() -> None:
        await rows.take(adapter.terms(view, where))
        progress(Progress(where.id, "terms", len(rows.of_cut), 0))

    async def positions() -> None:
        nonlocal done
        for part, targets in left:  # shared: each worker takes the next slice
            await part.take(adapter.read(view, where, targets))
            done += len(targets)
            progress(Progress(where.id, "read", done, len(touched)))

    async with unwrapped(), asyncio.TaskGroup() as group:
        group.create_task(terms())
        for _ in slices[:_SLICES_IN_FLIGHT]:
            group.create_task(positions())
    for part in parts:
        rows.assets += part.assets
        rows.of_cut += part.of_cut
        rows.positions += part.positions
    return rows


@asynccontextmanager
async def unwrapped() -> AsyncIterator[None]:
    """The one error of a task group as itself: a person reads it."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
