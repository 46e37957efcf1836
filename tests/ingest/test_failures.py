"""A deployment that fails says so in one line, and shows the program's insides only where the program is to blame."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from aggregator.core.errors import MalformedAnswerError
from aggregator.ingest.collect import collect
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
