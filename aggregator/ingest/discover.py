"""Discovery in windows of blocks, with checkpoints: killed or cancelled, hours of it are not begun again.

A checkpoint is a transaction of its own and no part of any cut: targets found and the block reached. The run that
finishes the discovery reads those targets with its own and clears it; a reorg of the block it was seen from drops it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from aggregator.core.errors import StoreError
from aggregator.sdk.adapter import Adapter, Target, View, Where
from aggregator.store import Store

log = logging.getLogger("spillover.ingest")

WINDOW_BLOCKS = 100_000  # the first window; the next is twice as wide after a quick one, half as wide after a slow one
QUICK_S, SLOW_S = 15.0, 60.0
CHECKPOINT_S = 30.0  # of work that may be lost; a shorter discovery leaves none


class Progress(NamedTuple):
    """phase: pin | discover | terms | read | write; discover counts blocks; total 0 while unknown."""

    deployment: str
    phase: str
    done: int
    total: int


async def discover(
    store: Store,
    adapter: Adapter,
    view: View,
    where: Where,
    known: Sequence[Target],
    progress: Callable[[Progress], None],
    *,
    keep: bool = True,
) -> dict[Target, None]:
    """Targets touched since the last finished discovery, with those of an unfinished one. keep: checkpoints."""
    last, cursor, kept = view.at.number, store.cursor(where.id), store.discovery(where.id)
    since = where.start_block if cursor is None else cursor + 1
    touched: dict[Target, None] = {}  # a set in order: sorting it is cheap
    if kept is not None:
        touched |= dict.fromkeys(Target(*target) for target in kept.targets)
        since = max(since, kept.block + 1)
    first, span, fresh, saved_s = since, WINDOW_BLOCKS, list[Target](), time.monotonic()
    reached = first - 1

    def save() -> None:
        nonlocal saved_s
        try:
            store.save_discovery(where.id, view.at, reached, fresh)
        except StoreError as error:  # it costs the checkpoint, not the work
            log.warning("%s: no checkpoint at block %d: %s", where.id, reached, error)
            return
        fresh.clear()
        saved_s = time.monotonic()

    try:
        while True:
            begun_s = time.monotonic()
            high = min(last, since + span - 1) if where.source.startswith("eip155:") else last
            part = view if high >= last else view.until(high)
            async for target in adapter.discover(part, knowing(where, {*known, *touched}), since):
                if target not in touched:
                    touched[target] = None
                    fresh.append(target)
            reached = max(reached, high)
            progress(Progress(where.id, "discover", reached - first + 1, max(0, last - first + 1)))
            if keep and time.monotonic() - saved_s >= CHECKPOINT_S:
                save()
            if high >= last:
                return touched
            took_s = time.monotonic() - begun_s
            span = 2 * span if took_s < QUICK_S else max(1, span // 2) if took_s > SLOW_S else span
            since = high + 1
    except BaseException:
        if keep and reached >= first:
            save()
        raise


def knowing(where: Where, known: Iterable[Target]) -> Where:
    """`where` with what is known of it so far."""
    everything = sorted(known)
    return where._replace(
        markets=tuple(t for t in everything if not (t.holder or t.ref)),
        targets=tuple(t for t in everything if t.holder or t.ref),
    )
