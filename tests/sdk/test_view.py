"""Views of a real chain: the contracts' own answers at the cut, recorded and replayed without the chain."""

import asyncio
import gzip
import random
import socket

import pytest

from aggregator.chain.pool import RpcPool
from aggregator.chain.recording import Recording
from aggregator.core.block import BlockRef
from aggregator.core.errors import BlockMismatchError, ConfigError, RecordingError
from aggregator.sdk import Call, Revert
from aggregator.sdk.adapter import Each
from aggregator.sdk.testing import FakeView
from aggregator.sdk.view import ChainView, ReplayView
from tests.chain.node import Node
from tests.devnet.anvil import MULTICALL3, Chain

BALANCE = "balanceOf(address)(uint256)"
TRANSFER = "Transfer(address indexed from,address indexed to,uint256 value)"
PEOPLE = [f"0x{i + 1:040x}" for i in range(60)]


@pytest.fixture
def tokens(chain: Chain, devnet_tools):
    """Tokens good and bad, by what is wrong with them; the good one has 60 holders."""
    ours = devnet_tools.build("ours")
    out = {
        f"{decimals}": chain.deploy(ours["Token"], f"Token {decimals}", f"T{decimals}", decimals)
        for decimals in (0, 6, 18, 77)
    }
    out["old"] = chain.deploy(ours["Bytes32Token"], b"Maker".ljust(32, b"\0"), b"MKR".ljust(32, b"\0"))
    out["reverts"] = chain.deploy(ours["RevertingToken"])
    out["burns"] = chain.deploy(ours["GasBurner"])
    out["odd"] = chain.deploy(ours["OddAnswer"], 31)
    out["evil"] = chain.deploy(ours["Token"], "\u202e<b>\x00", "US\u200bD\x1b[31mC", 6)
    for i, who in enumerate(PEOPLE):
        out["18"].send("mint", who, 10**18 * i + i)
    return chain, out, {name: one.address.lower() for name, one in out.items()}


def mixed(where: dict[str, str]) -> list[Call]:
    calls = [Call(where["18"], BALANCE, (who,)) for who in PEOPLE]
    calls += [Call(where[name], "totalSupply()(uint256)") for name in sorted(where)]
    calls += [Call(where[name], "symbol()(string)") for name in sorted(where)]
    return [*calls, Call("0x" + "77" * 20, BALANCE, (PEOPLE[0],))]


async def test_answers_are_the_contracts_own(tokens):
    chain, contracts, where = tokens
    async with RpcPool(1, [chain.url]) as pool:
        at = await pool.pin("latest")
        view = ChainView(pool, at, MULTICALL3)
        calls = mixed(where)
        answers = await view.calls(calls)
        for i, who in enumerate(PEOPLE):
            assert answers[i].value == contracts["18"].call("balanceOf", who, block=at.hash) == 10**18 * i + i
            assert answers[i].src(0)[2:22].hex() == where["18"][2:]
        said = dict(zip(calls[60:], answers[60:], strict=True))
        assert said[Call(where["6"], "symbol()(string)")].value == "T6"
        assert isinstance(said[Call(where["reverts"], "totalSupply()(uint256)")], Revert)
        assert "31 bytes" in said[Call(where["odd"], "totalSupply()(uint256)")].reason
        assert "malformed" in said[Call(where["old"], "symbol()(string)")].reason
        assert answers[-1] == Revert("", no_code=True)
        assert view.stats.calls == len(calls)
        assert view.stats.plain()["calls_s"] > 0


async def test_one_question_about_many_is_as_many_questions(tokens):
    chain, _, where = tokens
    people = PEOPLE[:8]
    asked = [Each(to, BALANCE, people) for to in [*sorted(where.values()), "0x" + "77" * 20]]
    async with RpcPool(1, [chain.url]) as pool:
        view = ChainView(pool, await pool.pin("latest"), MULTICALL3)
        columns = await view.each(asked)
        for (to, sig, args), column in zip(asked, columns, strict=True):
            one_by_one = await view.calls([Call(to, sig, (arg,)) for arg in args])
            assert column.values == [None if isinstance(a, Revert) else a.value for a in one_by_one]
            assert column.reverts == {i: a for i, a in enumerate(one_by_one) if isinstance(a, Revert)}
            for i, answer in enumerate(one_by_one):
                assert isinstance(answer, Revert) or column.src(i) == answer.src()
    assert {len(column.reverts) for column in columns} == {0, len(people)}


async def test_columns_across_multicalls_keep_their_places():
    bad, fine = "0x" + "11" * 20, "0x" + "22" * 20
    pair = "pair(uint256)(uint256,bool)"
    view = FakeView().function(bad, "f(uint256)(uint256)", lambda i: None if i % 7 == 0 else (i * i,))
    view.raw(bad, "f(uint256)(uint256)", (8,), bytes(31)).function(fine, pair, lambda i: (i + 2**200, i % 2 == 0))
    squares, pairs, none = await view.each(
        [Each(bad, "f(uint256)(uint256)", range(1_234)), Each(fine, pair, range(777)), Each(fine, pair, [])]
    )
    assert squares.values == [None if i % 7 == 0 or i == 8 else i * i for i in range(1_234)]
    assert sorted(squares.reverts) == [i for i in range(1_234) if i % 7 == 0 or i == 8]
    assert squares.reverts[8].reason == "malformed answer: 31 bytes, expected 32"
    assert pairs.values == [(i + 2**200, i % 2 == 0) for i in range(777)]
    assert (none.values, none.reverts) == ([], {})
    with pytest.raises(ConfigError, match="arguments do not fit"):
        await view.each([Each(bad, "f(address)(uint256)", [fine, 3])])
    with pytest.raises(ConfigError, match="arguments do not fit"):
        await view.each([Each(bad, "f(string)(uint256)", ["x"])])


async def test_assets_good_and_bad(tokens):
    chain, _, where = tokens
    async with RpcPool(1, [chain.url]) as pool:
        view = ChainView(pool, await pool.pin("latest"), MULTICALL3)
        found = {name: await view.asset(address) for name, address in where.items()}
        assert {name: asset.decimals for name, (asset, _) in found.items()} == {
            "0": 0, "6": 6, "18": 18, "77": -1, "old": 18, "reverts": -1, "burns": -1, "odd": -1, "evil": 6,
        }  # fmt: skip
        assert {name for name, (_, gap) in found.items() if gap} == {"77", "reverts", "burns", "odd"}
        assert all(gap.reason == "bad_decimals" for _, gap in found.values() if gap)
        assert found["old"][0][1:4] == ("MKR", 18, "Maker")
        assert found["evil"][0].symbol == "US\\u200bD\\x1b[31mC"
        assert (await view.asset("0x" + "77" * 20))[1].reason == "no_code"
        before = view.stats.calls
        assert await view.asset(where["6"]) == found["6"]
        assert view.stats.calls == before


async def test_a_replay_gives_the_same_answers_however_they_are_asked(tokens, tmp_path, monkeypatch):
    chain, _, where = tokens
    recorder = Recording()
    calls = mixed(where)
    key = "sk_live_5555555555"
    async with RpcPool(1, [f"{chain.url}/?apikey={key}"], rounds=1) as pool:
        at = await pool.pin("latest")
        view = ChainView(pool, at, MULTICALL3, recorder)
        live = await view.calls(calls)
        assets = [await view.asset(where[name]) for name in where]
        logs = [log async for log in view.logs([where["18"]], [TRANSFER], 0)]
        with pytest.raises(BlockMismatchError):
            await ChainView(pool, at._replace(hash="0x" + "00" * 32), MULTICALL3).calls(calls)
    monkeypatch.setattr(socket.socket, "connect", None)  # nobody is asked from here on
    assert len(logs) == len(PEOPLE)
    recorder.save(tmp_path / "r.gz")
    text = gzip.decompress((tmp_path / "r.gz").read_bytes()).decode()
    assert not any(secret in text for secret in (key, "127.0.0.1", "http", "6080604052"))
    replay = ReplayView(Recording.load(tmp_path / "r.gz"), at)
    rng = random.Random(7)
    for size in (1, 3, 50, len(calls)):
        order = rng.sample(range(len(calls)), len(calls))
        got = dict[int, object]()
        for i in range(0, len(order), size):
            part = order[i : i + size]
            got.update(zip(part, await replay.calls([calls[k] for k in part]), strict=True))
        assert [got[i] for i in range(len(calls))] == live
    assert [await replay.asset(where[name]) for name in where] == assets
    assert [log async for log in replay.logs([where["18"]], [TRANSFER], 0)] == logs
    late = logs[30].block
    assert [log async for log in replay.logs([where["18"]], [TRANSFER], late)] == [x for x in logs if x.block >= late]
    with pytest.raises(RecordingError, match="lacks an answer"):
        await replay.calls([Call(where["18"], BALANCE, ("0x" + "55" * 20,))])
    with pytest.raises(RecordingError, match="lacks an answer"):
        ReplayView(Recording.load(tmp_path / "r.gz"), at._replace(hash="0x" + "00" * 32))


async def test_two_recordings_of_one_block_are_the_same_file(tokens, tmp_path):
    chain, _, where = tokens
    calls = mixed(where)
    async with RpcPool(1, [chain.url]) as pool:
        at = await pool.pin("latest")
        for name, order in (("a", calls), ("b", calls[::-1])):
            recorder = Recording()
            view = ChainView(pool, at, MULTICALL3 if name == "a" else "", recorder)
            await asyncio.gather(*(view.calls(order[i : i + 9]) for i in range(0, len(order), 9)))
            recorder.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


async def test_small_reads_that_wait_together_travel_together(tokens):
    chain, _, where = tokens
    async with RpcPool(1, [chain.url]) as pool:
        view = ChainView(pool, await pool.pin("latest"), MULTICALL3)
        await view.asset(where["6"])
        before = view.stats.batches
        parts = await asyncio.gather(*(view.calls([Call(where["18"], BALANCE, (who,))]) for who in PEOPLE))
        assert [answer.value for (answer,) in parts] == [10**18 * i + i for i in range(len(PEOPLE))]
        assert view.stats.batches == before + 1


async def test_a_failed_shared_read_fails_all_who_shared_it_and_no_one_later():
    async with Node() as node, RpcPool(1, [node.url], rounds=1) as pool:
        at = await pool.pin("finalized")
        view = ChainView(pool, at, "")
        lost = ChainView(pool, BlockRef(at.source, at.number, "0x" + "12" * 32, at.time_s, at.finality), "")
        call = Call(PEOPLE[0], BALANCE, (PEOPLE[0],))
        failed = await asyncio.gather(*(lost.calls([call]) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in failed] == [BlockMismatchError] * 3
        assert (await view.calls([call]))[0].value == 42


async def test_a_cancelled_reader_does_not_take_the_others_along():
    async with Node() as node, RpcPool(1, [node.url]) as pool:
        view = ChainView(pool, await pool.pin("finalized"), "")
        call = Call(PEOPLE[0], BALANCE, (PEOPLE[0],))
        first, second = (asyncio.create_task(view.calls([call])) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second)[0].value == 42
        assert first.cancelled()


async def test_a_block_of_another_chain_is_refused():
    async with Node() as node, RpcPool(1, [node.url]) as pool:
        at = await pool.pin("finalized")
        with pytest.raises(ConfigError, match="another chain"):
            ChainView(pool, at._replace(source="eip155:10"), MULTICALL3)
        with pytest.raises(ConfigError, match="no HTTP venue"):
            await ChainView(pool, at, MULTICALL3).get("/x")
