"""The test kit itself: a fake view answers as a real one would, and slicing helpers notice an adapter that cheats."""

import pytest

from aggregator.core.errors import ConfigError, MalformedAnswerError, RecordingError
from aggregator.core.rows import Exposure
from aggregator.sdk import Adapter, Call, Revert, Target, Where
from aggregator.sdk.testing import VENUE, FakeView, assert_slices_agree, collect_rows, discover

TOKEN, ALICE, BOB = "0x" + "aa" * 20, "0x" + "01" * 20, "0x" + "02" * 20
TRANSFER = "Transfer(address indexed from,address indexed to,uint256 value)"
BALANCE = "balanceOf(address)(uint256)"
WHERE = Where("toy", "eip155:1", "main", {"token": TOKEN.upper().replace("0X", "0x")}, 0, {})


class Toy(Adapter):
    name = "toy"

    async def discover(self, view, where, since):
        async for log in view.logs([where.address("token")], [TRANSFER], since):
            yield Target(where.id, log.args["to"])

    async def read(self, view, where, targets):
        calls = [Call(where.address("token"), BALANCE, (t.holder,)) for t in targets]
        for target, answer in zip(targets, await view.calls(calls), strict=True):
            assert not isinstance(answer, Revert)
            yield Exposure(target.market, target.holder, "", "a", "supply", answer.value, answer.src())


class Cheat(Toy):
    async def read(self, view, where, targets):
        for i, target in enumerate(targets):
            yield Exposure(target.market, target.holder, "", "a", "supply", i)


def toy_view() -> FakeView:
    view = FakeView().function(TOKEN, BALANCE, lambda who: (int(who, 16) % 1000,))
    for n in range(1, 12):
        view.log(TOKEN, TRANSFER, {"from": TOKEN, "to": f"0x{n:040x}", "value": n}, block=10 + n % 3, log_index=n)
    return view


async def test_answers_go_through_the_real_codec():
    view = FakeView().answer(TOKEN, BALANCE, (ALICE,), (7,)).reverts(TOKEN, BALANCE, (BOB,), "frozen")
    view.raw(TOKEN, "paused()(bool)", (), (2).to_bytes(32, "big"))
    got = await view.calls(
        [
            Call(TOKEN, BALANCE, (ALICE,)),
            Call(TOKEN, BALANCE, (BOB,)),
            Call(BOB, BALANCE, (BOB,)),
            Call(TOKEN, "paused()(bool)"),
            Call(TOKEN, "unwritten()(bool)"),
        ]
    )
    assert got[0].value == 7
    assert got[1:3] == [Revert("frozen"), Revert("", no_code=True)]
    assert isinstance(got[3], Revert)
    assert "malformed" in got[3].reason
    assert got[4] == Revert("")


async def test_logs_are_filtered_like_a_node_filters_them():
    view = toy_view()
    topics = [None, ["0x" + f"{5:040x}"]]
    assert [log.args["value"] async for log in view.logs([TOKEN], [TRANSFER], 0, topics)] == [5]
    assert [log.block async for log in view.logs([], [TRANSFER], 12)] == [12] * 4
    assert [log async for log in view.logs([ALICE], [TRANSFER], 0)] == []
    with pytest.raises(MalformedAnswerError):
        _ = [log async for log in view.logs([TOKEN], [TRANSFER.replace("uint256", "uint256 indexed")], 0)]


async def test_pages_of_a_venue():
    view = FakeView(VENUE).page("/ticker", '{"p": 0.1}', {"i": 1})
    assert str((await view.get("ticker", {"i": 1}))["p"]) == "0.1"
    with pytest.raises(RecordingError, match="no such page"):
        await view.get("ticker", {"i": 2})


async def test_targets_and_rows_as_a_run_makes_them():
    where = await discover(Toy(), toy_view(), WHERE)
    assert len(where.targets) == 11
    assert where.markets == ()
    rows = await assert_slices_agree(Toy(), toy_view(), WHERE)
    assert len(rows) == 11
    assert rows == await collect_rows(Toy(), toy_view(), WHERE, size=2)


async def test_an_adapter_whose_rows_depend_on_the_slice_is_caught():
    with pytest.raises(AssertionError, match="slices of"):
        await assert_slices_agree(Cheat(), toy_view(), WHERE)


async def test_a_call_to_something_that_is_no_address_is_refused():
    with pytest.raises(ConfigError, match="address"):
        await FakeView().calls([Call("0x12", BALANCE, (ALICE,))])
