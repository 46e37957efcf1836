"""The views: a chain through a provider pool, a venue over HTTP, and a recording of either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from aggregator.chain.aggregate3 import Pair
from aggregator.chain.answers import Answers, Failure
from aggregator.chain.events import RawLog
from aggregator.chain.logs import LogFilter, read_logs
from aggregator.chain.multicall import Multicall
from aggregator.chain.pool import RpcPool
from aggregator.chain.recording import Recording
from aggregator.chain.venue import Venue, body_key, parse_json, question
from aggregator.core.block import BlockRef
from aggregator.core.errors import ConfigError
from aggregator.sdk._base import BaseView

_REMEMBERED = 50_000  # answers to small requests
_SMALL = 100  # requests of fewer calls share multicalls with others that wait at the same moment


class ChainView(BaseView):
    """One chain at one block. multicall: address of Multicall3, '' if the chain has none.

    All deployments of a chain may share one view: small concurrent reads then travel together.
    """

    def __init__(self, pool: RpcPool, at: BlockRef, multicall: str, recorder: Recording | None = None) -> None:
        if at.source != pool.source:
            raise ConfigError("block of another chain", expected=pool.source, found=at.source)
        super().__init__(at)
        self._pool, self._recorder = pool, recorder
        self._multicall = Multicall(pool, at, multicall, stats=self.stats)
        self._waiting: list[tuple[Sequence[Pair], asyncio.Future[Answers]]] = []
        self._known: dict[Pair, bytes | Failure] = {}
        self._flushes: set[asyncio.Task[None]] = set()
        if recorder is not None:
            recorder.add_block(at)

    async def _read(self, pairs: Sequence[Pair]) -> Answers:
        answers = await (self._multicall.read(pairs) if len(pairs) >= _SMALL else self._remembered(pairs))
        if self._recorder is not None:
            self._recorder.add_calls(self._at, pairs, [answers.blob(i) for i in range(len(pairs))])
        return answers

    async def _remembered(self, pairs: Sequence[Pair]) -> Answers:
        """Each slice of a deployment begins with the same small questions, and at one block they have one answer."""
        known = {pair: blob for pair in pairs if (blob := self._known.get(pair)) is not None}
        if new := [pair for pair in dict.fromkeys(pairs) if pair not in known]:
            answers = await self._shared(new)
            found = {pair: answers.blob(i) for i, pair in enumerate(new)}
            if len(self._known) > _REMEMBERED:
                self._known.clear()
            self._known.update(found)
            known |= found
        return Answers.of([known[pair] for pair in pairs])

    async def _shared(self, pairs: Sequence[Pair]) -> Answers:
        waiter: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
        self._waiting.append((pairs, waiter))
        if len(self._waiting) == 1:
            task = asyncio.create_task(self._flush())
            self._flushes.add(task)
            task.add_done_callback(self._flushes.discard)
        return await waiter

    async def _flush(self) -> None:
        await asyncio.sleep(0)  # all that is ready to ask in this turn of the loop has asked
        waiting = self._waiting.copy()
        self._waiting.clear()  # not a new list: views of windows share it
        try:
            answers = await self._multicall.read([pair for pairs, _ in waiting for pair in pairs])
        except BaseException as error:
            for _, waiter in waiting:
                if not waiter.done():
                    waiter.cancel() if isinstance(error, asyncio.CancelledError) else waiter.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        first = 0
        for pairs, waiter in waiting:
            if not waiter.done():
                waiter.set_result(answers.part(first, first + len(pairs)))
            first += len(pairs)

    async def _raw_logs(self, wanted: LogFilter, since: int) -> AsyncIterator[list[RawLog]]:
        kept: list[RawLog] = []
        async for part in read_logs(self._pool, self._at, wanted, since, self._last, stats=self.stats):
            if self._recorder is not None:
                kept += part
            yield part
        if self._recorder is not None:
            self._recorder.add_logs(self._at, wanted, since, kept, self._last)


class VenueView(BaseView):
    """One HTTP venue at one of its own moments: what was asked once is not asked again, so the view stands still."""

    def __init__(self, venue: Venue, at: BlockRef, recorder: Recording | None = None) -> None:
        super().__init__(at, venue.stats)
        self._venue, self._kept = venue, recorder or Recording()
        self._kept.add_block(at)
        self._asked: dict[tuple[str, str], asyncio.Future[str]] = {}

    @property
    def digest(self) -> str:
        """sha256 over all questions and answers so far, in order of the questions."""
        return self._kept.http_digest(self._at)

    async def _http(self, method: str, path: str, params: Mapping[str, Any], body: Any) -> Any:
        key = (question(method, path, params), body_key(body))
        if key not in self._asked:
            self._asked[key] = asyncio.ensure_future(self._venue.fetch(method, path, params, body))
        text = await asyncio.shield(self._asked[key])
        self._kept.add_http(self._at, *key, text)
        return parse_json(text, f"{self._at.source} {key[0]}")


class ReplayView(BaseView):
    """A recording answers; nothing else does. RecordingError where it lacks an answer."""

    def __init__(self, recording: Recording, at: BlockRef) -> None:
        super().__init__(at)
        if at not in recording.blocks(at.source):
            raise recording.lacks(at.source, f"block {at.number} {at.hash}")
        self._recording, self._calls = recording, recording.calls(at)

    async def _read(self, pairs: Sequence[Pair]) -> Answers:
        self.stats.calls += len(pairs)
        blobs: list[bytes | Failure] = []
        for pair in pairs:
            found = self._calls.get(pair)
            if found is None:
                raise self._recording.lacks(self._at.source, f"call 0x{pair[1].hex()} to {pair[0]}")
            blobs.append(found)
        return Answers.of(blobs)

    async def _raw_logs(self, wanted: LogFilter, since: int) -> AsyncIterator[list[RawLog]]:
        logs = self._recording.logs(self._at, wanted, since, self._last)
        self.stats.logs += len(logs)
        yield logs

    async def _http(self, method: str, path: str, params: Mapping[str, Any], body: Any) -> Any:
        asked = question(method, path, params)
        return parse_json(self._recording.http(self._at, asked, body_key(body)), f"{self._at.source} {asked}")
