"""What all views share: encoding and decoding of calls in groups, logs, token metadata. Bytes are theirs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any, Self

import numpy as np

from aggregator.chain.abi import Function, function
from aggregator.chain.aggregate3 import Pair, Run, Runs
from aggregator.chain.answers import Answers, Failure
from aggregator.chain.events import RawLog, decode_logs
from aggregator.chain.logs import LogFilter
from aggregator.chain.stats import Stats
from aggregator.core.block import BlockRef
from aggregator.core.errors import ConfigError
from aggregator.core.ids import parse_address
from aggregator.core.rows import Asset, Gap
from aggregator.sdk._token import TOKEN_CALLS, token
from aggregator.sdk.adapter import Answer, Call, Column, Each, Log, Revert

_PIECE = 1000  # calls: one multicall
Part = tuple[int, int, int]  # of a question: its place, first argument, end


class BaseView:
    """Implements `aggregator.sdk.adapter.View` over `_read`, `_raw_logs` and `_http`."""

    def __init__(self, at: BlockRef, stats: Stats | None = None) -> None:
        self._at, self._last, self.stats = at, at.number, stats or Stats()
        self._assets: dict[str, tuple[Asset, Gap | None]] = {}

    @property
    def at(self) -> BlockRef:
        return self._at

    @property
    def last(self) -> int:
        return self._last

    def until(self, block: int) -> Self:
        """The same view, its calls at the same block, whose logs end at `block`."""
        part = copy(self)
        part._last = min(block, self._at.number)
        return part

    async def _read(self, pairs: Sequence[Pair]) -> Answers:
        raise ConfigError(f"{self._at.source} is no chain", expected="get or post", found="a contract call")

    def _raw_logs(self, wanted: LogFilter, since: int) -> AsyncIterator[list[RawLog]]:
        raise ConfigError(f"{self._at.source} is no chain", expected="get or post", found="logs")

    async def _http(self, method: str, path: str, params: Mapping[str, Any], body: Any) -> Any:
        raise ConfigError(f"{self._at.source} is no HTTP venue", expected="calls or logs", found=f"{method} {path}")

    async def calls(self, calls: Sequence[Call]) -> list[Answer | Revert]:
        if not calls:
            return []
        begun = time.perf_counter()
        if len(calls) <= _PIECE:
            out = await self._piece(calls)
        else:  # the node works on one piece while we encode the next and decode the last
            pieces = (self._piece(calls[i : i + _PIECE]) for i in range(0, len(calls), _PIECE))
            out = [answer for piece in await asyncio.gather(*pieces) for answer in piece]
        self.stats.spent("calls", time.perf_counter() - begun)
        return out

    async def _piece(self, calls: Sequence[Call]) -> list[Answer | Revert]:
        groups = group_calls(calls)
        tos, datas = list(map(address, map(itemgetter(0), calls))), [b""] * len(calls)
        for one, rows in groups.items():
            _put(datas, rows, [one.encode(calls[i][2]) for i in rows])
        return decode_calls(groups, tos, datas, await self._read(list(zip(tos, datas, strict=True))))

    async def each(self, questions: Sequence[Each]) -> list[Column]:
        begun = time.perf_counter()
        asked = [function(sig) for _, sig, _ in questions]
        columns = [
            Column([None] * len(args), {}, address(to), one.encode_column(args))
            for one, (to, _, args) in zip(asked, questions, strict=True)
        ]

        async def piece(parts: Sequence[Part]) -> None:
            answers = await self._read(
                Runs([Run(columns[k].to, 36, columns[k].data[36 * i : 36 * j]) for k, i, j in parts])
            )
            first = 0
            for k, i, j in parts:
                _fill(columns[k], i, asked[k], answers, range(first, first + j - i))
                first += j - i

        await asyncio.gather(*map(piece, _pieces([len(args) for _, _, args in questions])))
        self.stats.spent("calls", time.perf_counter() - begun)
        return columns

    async def logs(
        self, addresses: Sequence[str], events: Sequence[str], since: int, topics: Sequence[Sequence[str] | None] = ()
    ) -> AsyncIterator[Log]:
        wanted = LogFilter([address(one) for one in addresses], events, topics)
        begun = time.perf_counter()
        async for part in self._raw_logs(wanted, since):
            decoded = decode_logs(events, part, any_contract=not addresses)
            self.stats.spent("logs", time.perf_counter() - begun)
            for log in decoded:
                yield Log(*log)
            begun = time.perf_counter()

    async def asset(self, address: str) -> tuple[Asset, Gap | None]:
        at = parse_address(address)
        if at not in self._assets:
            chain = self._at.chain
            if chain is None:
                raise ConfigError(f"{self._at.source} is no chain", expected="an EVM chain", found=address)
            answers = await self._read([(at, data) for data in TOKEN_CALLS])
            self._assets[at] = token(chain, at, *(answers.blob(i) for i in range(len(TOKEN_CALLS))))
        return self._assets[at]

    async def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        return await self._timed_http("GET", path, params or {}, None)

    async def post(self, path: str, body: Any) -> Any:
        return await self._timed_http("POST", path, {}, body)

    async def _timed_http(self, method: str, path: str, params: Mapping[str, Any], body: Any) -> Any:
        begun = time.perf_counter()
        answer = await self._http(method, path, params, body)
        self.stats.spent("http", time.perf_counter() - begun)
        return answer


@lru_cache(maxsize=65536)
def address(text: str) -> str:
    return parse_address(text)


def group_calls(calls: Sequence[Call]) -> dict[Function, Sequence[int]]:
    """Places of the calls of each signature."""
    places: dict[str, list[int]] = {}
    sigs = [sig for _, sig, _ in calls]
    if sigs.count(sigs[0]) == len(sigs):
        return {function(sigs[0]): range(len(sigs))}
    for i, sig in enumerate(sigs):
        if sig in places:
            places[sig].append(i)
        else:
            places[sig] = [i]
    return {function(sig): rows for sig, rows in places.items()}


def decode_calls(
    groups: Mapping[Function, Sequence[int]], tos: Sequence[str], datas: Sequence[bytes], answers: Answers
) -> list[Answer | Revert]:
    """Answers aligned with the calls; each signature's answers are decoded together."""
    values: list[Any] = [None] * len(tos)
    failures = answers.failures
    for one, places in groups.items():
        rows = [i for i in places if i not in failures] if failures else places
        _put(values, rows, one.decode(answers, np.array(rows, dtype=np.int64)))
    out: list[Answer | Revert] = list(map(_answer, zip(values, tos, datas, strict=True)))
    if Failure in set(map(type, values)):
        for i, found in enumerate(values):
            if type(found) is Failure:
                out[i] = Revert(found.reason)
    for i, failure in failures.items():
        out[i] = Revert(*failure)
    return out


def _pieces(lengths: Sequence[int]) -> Iterator[list[Part]]:
    """What to ask together: parts of questions, at most _PIECE calls in all."""
    parts, room = list[Part](), _PIECE
    for k, length in enumerate(lengths):
        i = 0
        while i < length:
            j = min(length, i + room)
            parts.append((k, i, j))
            room -= j - i
            i = j
            if not room:
                yield parts
                parts, room = [], _PIECE
    if parts:
        yield parts


def _fill(column: Column, begin: int, one: Function, answers: Answers, places: range) -> None:
    """The answers in `places` as the column's values from `begin` on."""
    failures = {i: failure for i, failure in answers.failures.items() if i in places}
    rows = [i for i in places if i not in failures] if failures else places
    values = one.column(answers, np.array(rows, dtype=np.int64))
    if failures or Failure in set(map(type, values)):
        failures |= {i: value for i, value in zip(rows, values, strict=True) if type(value) is Failure}
        found = dict(zip(rows, values, strict=True))
        values = [None if i in failures else found[i] for i in places]
        column.reverts.update({begin + i - places.start: Revert(*failure) for i, failure in failures.items()})
    column.values[begin : begin + len(places)] = values


def _put(into: list[Any], places: Sequence[int], values: Sequence[Any]) -> None:
    if isinstance(places, range):
        into[places.start : places.stop] = values
        return
    for i, value in zip(places, values, strict=True):
        into[i] = value


_answer: Callable[[Any], Answer] = partial(tuple.__new__, Answer)  # what Answer._make does, without a Python frame
