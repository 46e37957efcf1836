"""A deployment that fails says so in one line, and shows the program's insides only where the program is to blame."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from aggregator.core.block import BlockRef
from aggregator.core.errors import MalformedAnswerError, SourceError
from aggregator.core.rows import Exposure, Market, Row
from aggregator.ingest.collect import collect
from aggregator.ingest.estimate import estimate
from aggregator.sdk.adapter import Target, View, Where
from aggregator.snapshot import build
from aggregator.store import Store
from tests.ingest.test_forks import Chain


class Refuses:
    name = "refuses"

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def discover(self, view: View, where: Where, since: int) -> AsyncIterator[Target]:
        raise self.error
        yield Target("never")  # makes it a generator


@pytest.mark.parametrize(
    ("error", "said", "defect"),
    [
        (
            MalformedAnswerError("an answer ends early", expected="32 bytes", found="7", fix="ask another endpoint"),
            "MalformedAnswerError: an answer ends early expected: 32 bytes found: 7 fix: ask another endpoint",
            False,
        ),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero", True),
    ],
)
async def test_a_failure_is_one_line_in_its_gap(
    new_store: Callable[[], Store], caplog: pytest.LogCaptureFixture, error: Exception, said: str, defect: bool
) -> None:
    store, chain = new_store(), Chain(1)
    where = Where("refuses", chain.id, "a", {}, 0, {})
    result = await collect(store, [chain], [where], {"refuses": Refuses(error)})
    assert result.failed == {where.id: said}
    snap = build(store.read(result.cut), result.cut, store.assets(result.cut))
    assert [(g.subject, g.reason, g.detail) for g in snap.gaps] == [(where.id, "adapter_failed", said)]
    (record,) = (r for r in caplog.records if r.levelname == "ERROR")
    assert said in record.getMessage()
    assert bool(record.exc_info) == defect


class Reads(Refuses):
    """Fails at one of its steps, or at none."""

    def __init__(self, name: str, at: str) -> None:
        super().__init__(MalformedAnswerError("an answer ends early"))
        self.name, self._at = name, at

    async def discover(self, view: View, where: Where, since: int) -> AsyncIterator[Target]:
        self._fail("discover")
        yield Target(where.id, "0xaa")

    async def terms(self, view: View, where: Where) -> AsyncIterator[Row]:
        self._fail("terms")
        yield Market(where.id, "lending", "", "")

    async def read(self, view: View, where: Where, targets: Sequence[Target]) -> AsyncIterator[Row]:
        self._fail("read")
        for target in targets:
            yield Exposure(target.market, target.holder, "", "asset", "supply", 1)

    def _fail(self, step: str) -> None:
        if step == self._at:
            raise self.error


class Dead(Chain):
    async def pin(self, at_least: int = 0) -> BlockRef:
        raise SourceError("no endpoint answered", found="connection refused")


async def test_an_estimate_goes_on_where_a_run_goes_on(new_store: Callable[[], Store]) -> None:
    """A chain that is down, adapters that fail at each of their steps, a start above the head: the rest is counted."""
    store, chains = new_store(), [Dead(1), Chain(10)]
    adapters = {step: Reads(step, step) for step in ("discover", "terms", "read", "nothing")}
    deployments = [Where(name, chain.id, "a", {}, 0, {}) for chain in chains for name in adapters]
    deployments.append(Where("nothing", "eip155:10", "late", {}, 10**9, {}))
    rows = await estimate(store, chains, deployments, adapters)
    assert store.cuts() == []
    result = await collect(store, chains, deployments, adapters)
    assert {row.deployment: row.problem for row in rows if row.problem} == {
        name: why for name, why in result.failed.items() if "/" in name
    }
    assert [(row.deployment, row.targets) for row in rows if not row.problem] == [("eip155:10/nothing/a", 1)]
    assert [row.deployment for row in rows] == [where.id for where in deployments]


async def test_an_estimate_ends_where_a_run_ends(new_store: Callable[[], Store]) -> None:
    store, where = new_store(), Where("nothing", "eip155:1", "a", {}, 0, {})
    for ask in (estimate, collect):
        with pytest.raises(SourceError, match="no source could be read"):
            await ask(store, [Dead(1)], [where], {"nothing": Reads("nothing", "nothing")})  # type: ignore[operator]
