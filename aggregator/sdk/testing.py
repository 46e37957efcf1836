"""Kit for adapter tests: a view made of written answers, and the verbs run as an aggregation run runs them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import numpy as np
from eth_abi.abi import encode

from aggregator.chain.abi import function
from aggregator.chain.aggregate3 import Pair
from aggregator.chain.answers import Answers, Failure
from aggregator.chain.events import RawLog, event
from aggregator.chain.logs import LogFilter
from aggregator.chain.venue import body_key, parse_json, question
from aggregator.core.block import BlockRef
from aggregator.core.errors import RecordingError
from aggregator.core.rows import Row
from aggregator.sdk._base import BaseView
from aggregator.sdk.adapter import Adapter, View, Where

BLOCK = BlockRef("eip155:1", 1000, "0x" + "11" * 32, 1_750_000_000, "finalized")
_FIRST = np.zeros(1, dtype=np.int64)
VENUE = BlockRef("venue:test", 1_750_000_000_000_000, "", 1_750_000_000, "venue")


class FakeView(BaseView):
    """Answers that a test wrote, through the same encoding and decoding as a real view. Unknown addresses hold no code.

    Values are given as the contract would return them; an unwritten call to a known address reverts.
    """

    def __init__(self, at: BlockRef = BLOCK) -> None:
        super().__init__(at)
        self._answers: dict[Pair, bytes | Failure] = {}
        self._functions: dict[tuple[str, bytes], tuple[str, Callable[..., Any]]] = {}
        self._raw: list[RawLog] = []
        self._pages: dict[tuple[str, str], str] = {}
        self._known: set[str] = set()
        self.asked: list[Pair] = []

    def answer(self, to: str, sig: str, args: Sequence[Any] = (), values: Sequence[Any] = ()) -> FakeView:
        """sig(args) at `to` answers `values` (one per output)."""
        return self.raw(to, sig, args, encode(function(sig).outputs, values))

    def raw(self, to: str, sig: str, args: Sequence[Any], data: bytes) -> FakeView:
        """sig(args) at `to` answers these bytes, malformed or not."""
        self._known.add(to.lower())
        self._answers[to.lower(), function(sig).encode(args)] = data
        return self

    def reverts(self, to: str, sig: str, args: Sequence[Any] = (), reason: str = "") -> FakeView:
        self._known.add(to.lower())
        self._answers[to.lower(), function(sig).encode(args)] = Failure(reason)
        return self

    def function(self, to: str, sig: str, values: Callable[..., Sequence[Any] | None]) -> FakeView:
        """Any call of sig at `to` answers values(*args); None reverts. Arguments must be static."""
        self._known.add(to.lower())
        self._functions[to.lower(), function(sig).selector] = (sig, values)
        return self

    def token(self, address: str, symbol: str, decimals: int) -> FakeView:
        self.answer(address, "symbol()(string)", (), (symbol,)).answer(address, "name()(string)", (), (symbol,))
        return self.answer(address, "decimals()(uint8)", (), (decimals,))

    def log(self, address: str, sig: str, args: Mapping[str, Any], block: int, log_index: int = 0) -> FakeView:
        """An event by its signature and arguments by name."""
        one = event(sig)
        topics = [one.topic] + [encode([kind], [args[name]]) for name, kind in one.indexed]
        data = encode([kind for _, kind in one.plain], [args[name] for name, _ in one.plain])
        self._raw.append(RawLog(address.lower(), tuple(topics), data, block, log_index, "0x" + "22" * 32))
        return self

    def page(self, path: str, text: str, params: Mapping[str, Any] | None = None, body: Any = None) -> FakeView:
        """GET (or POST, with a body) of `path` answers this JSON text."""
        self._pages[question("GET" if body is None else "POST", path, params or {}), body_key(body)] = text
        return self

    async def _read(self, pairs: Sequence[Pair]) -> Answers:
        self.stats.calls += len(pairs)
        self.asked += pairs
        return Answers.of([self._one(to, data) for to, data in pairs])

    def _one(self, to: str, data: bytes) -> bytes | Failure:
        if (to, data) in self._answers:
            return self._answers[to, data]
        if (to, data[:4]) in self._functions:
            sig, values = self._functions[to, data[:4]]
            one = function(sig)
            arguments = function(f"args()({','.join(one.inputs)})").decode(Answers.of([data[4:]]), _FIRST)[0]
            found = None if isinstance(arguments, Failure) else values(*arguments)
            return Failure("") if found is None else encode(one.outputs, found)
        return Failure("", no_code=to not in self._known)

    async def _raw_logs(self, wanted: LogFilter, since: int) -> AsyncIterator[list[RawLog]]:
        logs = [log for log in self._raw if not wanted.objection(log, since, self._last)]
        yield sorted(logs, key=lambda log: (log.block, log.log_index))

    async def _http(self, method: str, path: str, params: Mapping[str, Any], body: Any) -> Any:
        key = (question(method, path, params), body_key(body))
        if key not in self._pages:
            raise RecordingError(
                "the test wrote no such page", expected=key[0], found=", ".join(p for p, _ in self._pages)
            )
        return parse_json(self._pages[key], key[0])


async def discover(adapter: Adapter, view: View, where: Where, since: int | None = None) -> Where:
    """`where` with all targets found from `since` (start_block by default), as a run would know them."""
    begin = where.start_block if since is None else since
    found = {target async for target in adapter.discover(view, where, begin)} | {*where.markets, *where.targets}
    markets = sorted(target for target in found if not target.holder and not target.ref)
    return where._replace(markets=tuple(markets), targets=tuple(sorted(found - set(markets))))


async def collect_rows(
    adapter: Adapter, view: View, where: Where, *, size: int = 500, shuffle: int | None = None
) -> list[Row]:
    """Rows of one whole run over a deployment: terms, then positions by slices. shuffle: seed of the targets' order."""
    where = await discover(adapter, view, where)
    rows: list[Row] = [row async for row in adapter.terms(view, where)]
    targets = [*where.markets, *where.targets]
    if shuffle is not None:
        random.Random(shuffle).shuffle(targets)
    for i in range(0, len(targets), size):
        rows += [row async for row in adapter.read(view, where, targets[i : i + size])]
    return rows


async def assert_slices_agree(adapter: Adapter, view: View, where: Where) -> list[Row]:
    """Same view, same targets: same rows, however sliced and ordered. Returns the rows of the plain run."""
    rows = await collect_rows(adapter, view, where)
    assert rows == await collect_rows(adapter, view, where), "two runs over one view gave different rows or order"
    for size, seed in ((1, None), (7, 1), (500, 2), (3, 3)):
        again = await collect_rows(adapter, view, where, size=size, shuffle=seed)
        missing, extra = _difference(rows, again), _difference(again, rows)
        wrong = missing or extra
        assert not wrong, f"slices of {size}: missing {missing[:3]}, extra {extra[:3]}"
    return rows


def _difference(a: Sequence[Row], b: Sequence[Row]) -> list[Row]:
    left = list(map(_key, b))
    counts: dict[tuple[str, str], int] = {}
    for key in left:
        counts[key] = counts.get(key, 0) + 1
    out = []
    for row in a:
        key = _key(row)
        if counts.get(key, 0):
            counts[key] -= 1
        else:
            out.append(row)
    return out


def _key(row: Row) -> tuple[str, str]:
    return type(row).__name__, repr(row)
