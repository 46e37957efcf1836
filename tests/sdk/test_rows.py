"""What all slices of a deployment begin with: found once per view, by whoever asks, and never in the way of a retry."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from weakref import ref

import pytest

from aggregator.core.errors import DomainError, SourceError
from aggregator.sdk.adapter import Each, Target, View, Where
from aggregator.sdk.rows import once
from aggregator.sdk.testing import FakeView

HERE = Where("aave_v3", "eip155:1", "core", {"pool": "0x" + "11" * 20}, 0, {"listed": ["a"]})


class Prelude:
    """Counts how often it is looked for; waits until it may answer, and fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.asked, self.failures, self.go = list[Where](), failures, asyncio.Event()
        self.find = once(self._find)

    async def _find(self, view: View, where: Where) -> int:
        self.asked.append(where)
        await self.go.wait()
        if len(self.asked) <= self.failures:
            raise SourceError("no answer")
        return len(self.asked)


async def test_all_who_ask_get_one_answer():
    prelude, view = Prelude(), FakeView()
    asking = asyncio.gather(*(prelude.find(view, HERE) for _ in range(9)))
    await asyncio.sleep(0)
    prelude.go.set()
    assert await asking == [1] * 9
    assert await prelude.find(view, HERE._replace(targets=(Target("m", "h"),))) == 1  # found, known of it or not
    assert prelude.asked == [HERE]


async def test_views_windows_and_deployments_have_answers_of_their_own():
    prelude, view = Prelude(), FakeView()
    prelude.go.set()
    others = [HERE._replace(options={"listed": ["b"]}), HERE._replace(addresses={"pool": "0x" + "22" * 20})]
    assert [await prelude.find(view, where) for where in [HERE, *others, HERE]] == [1, 2, 3, 1]
    assert await prelude.find(FakeView(), HERE) == 4
    assert await prelude.find(view.until(5), HERE) == 5


async def test_a_failure_is_not_remembered():
    prelude, view = Prelude(failures=1), FakeView()
    prelude.go.set()
    with pytest.raises(SourceError, match="no answer"):
        await prelude.find(view, HERE)
    assert await prelude.find(view, HERE) == 2


async def test_cancelling_the_first_who_asks_leaves_the_answer_to_the_others_and_no_task_behind():
    prelude, view = Prelude(), FakeView()
    first, second = (asyncio.create_task(prelude.find(view, HERE)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    prelude.go.set()
    assert await second == 2
    prelude.go.clear()
    alone = asyncio.create_task(prelude.find(FakeView(), HERE))
    await asyncio.sleep(0)
    alone.cancel()
    await asyncio.gather(first, alone, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("failures", [0, 1])
async def test_a_view_that_nobody_uses_any_more_is_given_back(failures: int):
    prelude, view = Prelude(failures), FakeView()
    prelude.go.set()
    with suppress(SourceError):
        await prelude.find(view, HERE)
    there = ref(view)
    del view
    gc.collect()
    assert there() is None


def test_a_view_outlives_the_loop_that_began_with_it():
    prelude, view = Prelude(), FakeView()

    async def begin() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(prelude.find(view, HERE), 0.01)

    async def again() -> list[int]:
        prelude.go = asyncio.Event()
        prelude.go.set()
        return await asyncio.gather(prelude.find(view, HERE), prelude.find(view, HERE))

    for work in (begin, again, again):
        loop = asyncio.new_event_loop()
        answers = loop.run_until_complete(work())
        loop.close()
    assert answers == [2, 2]


async def test_answers_that_are_not_zero_and_nothing_that_only_looks_so():
    token, view = "0x" + "77" * 20, FakeView()
    people = [f"0x{i:040x}" for i in range(4)]
    view.function(token, "balanceOf(address)(uint256)", lambda who: None if who == people[1] else (int(who, 16) % 3,))
    view.function(token, "owner(uint256)(address)", lambda _: ("0x" + "00" * 20,))
    view.function(token, "of(uint256)(uint128,uint128)", lambda _: (0, 0))
    balances, owners, pairs = await view.each(
        [
            Each(token, "balanceOf(address)(uint256)", people),
            Each(token, "owner(uint256)(address)", [1]),
            Each(token, "of(uint256)(uint128,uint128)", [1]),
        ]
    )
    assert balances.nonzero() == [(2, 2, balances.src(2))]
    assert list(balances.reverts) == [1]
    for column in (owners, pairs):
        with pytest.raises(DomainError, match="only integers"):
            column.nonzero()
