"""The last cut in memory, swapped whole when a newer one lands: a request never sees half a run."""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from aggregator.app import App
from aggregator.core.errors import DatabaseError, StoreError
from aggregator.snapshot import Snapshot
from aggregator.store import StoredCut

log = logging.getLogger("spillover.api")


class Held(NamedTuple):
    run: StoredCut
    snapshot: Snapshot


class Current:
    """look_s: how often at most the store is asked for a newer cut. trouble: why the last look failed, '' if not."""

    def __init__(self, app: App, look_s: float = 1.0) -> None:
        self._app, self._look_s = app, look_s
        self._held: Held | None = None
        self._looked = -1e9
        self.trouble = ""
        self._lock = asyncio.Lock()

    async def get(self) -> Held:
        """StoreError if the store holds no cut yet; while the database is away, the cut that is held answers."""
        loop = asyncio.get_running_loop()
        if self._held is not None and loop.time() - self._looked < self._look_s:
            return self._held
        async with self._lock:
            if self._held is None or loop.time() - self._looked >= self._look_s:
                try:
                    self._held = await asyncio.to_thread(self._load)
                except DatabaseError as error:
                    self.trouble = error.message
                    if self._held is None:
                        raise
                    log.warning("answering from cut %s: %s", self._held.run.cut.digest[:12], error)
                except StoreError:  # a reorg may have undone the cut between two looks
                    self._held = await asyncio.to_thread(self._load)
                self._looked = loop.time()
        return self._held

    def _load(self) -> Held:
        run = self._app.latest()
        self.trouble = ""
        if self._held is not None and run == self._held.run:
            return self._held
        return Held(run, self._app.snapshot(run.cut.digest))
