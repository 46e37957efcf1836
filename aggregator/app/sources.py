"""Configured chains and venues as what a run reads: pinned, viewed, sealed, closed; live or from a recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from aggregator.app.config import ChainConfig, Config, DeploymentConfig, VenueConfig
from aggregator.chain.pool import RpcPool
from aggregator.chain.recording import Recording
from aggregator.chain.reorg import find_fork
from aggregator.chain.stats import Stats
from aggregator.chain.venue import Venue
from aggregator.core.block import BlockRef
from aggregator.ingest.sources import Source
from aggregator.sdk.adapter import Where
from aggregator.sdk.view import ChainView, ReplayView, VenueView


class OpenSource(Source, Protocol):
    async def close(self) -> None: ...


class LiveChain:
    def __init__(self, config: ChainConfig, recorder: Recording | None) -> None:
        self._config, self._recorder = config, recorder
        self.id = config.source
        self.pool = RpcPool(
            config.id,
            config.rpc,
            max_per_s=config.max_per_s,
            timeout_s=config.timeout_s,
            deadline_s=config.deadline_s,
        )
        self._view: ChainView | None = None

    @property
    def stats(self) -> Stats:
        return self._view.stats if self._view else self.pool.stats

    async def pin(self, at_least: int = 0) -> BlockRef:
        await self.pool.check_chain_id()
        return await self.pool.pin(str(self._config.finality), at_least)

    async def find_fork(self, known: Sequence[BlockRef]) -> BlockRef | None:
        return await find_fork(self.pool, known)

    def view(self, at: BlockRef) -> ChainView:
        if self._view is None or self._view.at != at:
            self._view = ChainView(self.pool, at, self._config.multicall, self._recorder)
        return self._view

    def seal(self, at: BlockRef) -> BlockRef:
        return at

    async def close(self) -> None:
        await self.pool.close()


class LiveVenue:
    def __init__(self, config: VenueConfig, recorder: Recording | None) -> None:
        self._config, self._recorder = config, recorder
        self.id = config.source
        self._venue = Venue(config.name, config.url, max_per_s=config.max_per_s, timeout_s=config.timeout_s)
        self._view: VenueView | None = None

    @property
    def stats(self) -> Stats:
        return self._venue.stats

    async def pin(self, at_least: int = 0) -> BlockRef:
        return await self._venue.pin(self._config.time_path, self._config.time_pointer, self._config.time_unit)

    async def find_fork(self, known: Sequence[BlockRef]) -> BlockRef | None:
        return known[0] if known else None  # a venue has no branches

    def view(self, at: BlockRef) -> VenueView:
        if self._view is None or self._view.at != at:
            self._view = VenueView(self._venue, at, self._recorder)
        return self._view

    def seal(self, at: BlockRef) -> BlockRef:
        return at._replace(hash=self.view(at).digest)

    async def close(self) -> None:
        await self._venue.close()


class Replay:
    """A source out of a recording, at its youngest recorded block."""

    def __init__(self, source: str, recording: Recording) -> None:
        self.id, self._recording = source, recording
        self._view: ReplayView | None = None

    @property
    def stats(self) -> Stats:
        return self._view.stats if self._view else Stats()

    async def pin(self, at_least: int = 0) -> BlockRef:
        return self._recording.at(self.id)

    async def find_fork(self, known: Sequence[BlockRef]) -> BlockRef | None:
        mine = set(self._recording.blocks(self.id))
        return next((b for b in known if b._replace(hash="") in mine or b in mine), known[0] if known else None)

    def view(self, at: BlockRef) -> ReplayView:
        if self._view is None or self._view.at != at:
            self._view = ReplayView(self._recording, at)
        return self._view

    def seal(self, at: BlockRef) -> BlockRef:
        return at if at.hash else at._replace(hash=self._recording.http_digest(at))

    async def close(self) -> None:
        return None


def open_sources(config: Config, recording: Recording | None, recorder: Recording | None) -> list[OpenSource]:
    """Every source of the configuration that has an endpoint, or that the recording holds, and is asked for."""
    wanted = {d.source for d in config.deployments}
    if recording is not None:
        return [Replay(s, recording) for s in sorted({b.source for b in recording.blocks()} & wanted)]
    chains = [LiveChain(c, recorder) for c in config.chains if c.rpc and c.source in wanted]
    venues = [LiveVenue(v, recorder) for v in config.venues if v.url and v.source in wanted]
    return [*chains, *venues]


def where_of(row: DeploymentConfig) -> Where:
    """A row of the configuration as its adapter sees it."""
    return Where(row.adapter, row.source, row.name, row.addresses, row.start_block, row.options, file=row.file)
