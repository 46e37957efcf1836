"""Multicall3 on a real chain with hostile neighbours: every answer is what a plain eth_call alone gives."""

import asyncio

import pytest

from aggregator.chain.abi import function
from aggregator.chain.answers import Failure
from aggregator.chain.multicall import Multicall
from aggregator.chain.pool import RpcPool
from aggregator.chain.stats import Stats
from aggregator.core.errors import BlockMismatchError, SourceError
from tests.chain.node import Node, Refusal
from tests.devnet.anvil import MULTICALL3, Chain
from tests.devnet.contract import Reverted

NOBODY = "0x" + "99" * 20
BALANCE = function("balanceOf(address)(uint256)")


@pytest.fixture
def hostile(chain: Chain, devnet_tools):
    """A good token with balances, and contracts that revert, burn all gas, answer nothing, 7 bytes, or 1 MiB."""
    ours = devnet_tools.build("ours")
    token = chain.deploy(ours["Token"], "Good", "GOOD", 6)
    for i in range(20):
        token.send("mint", f"0x{i + 1:040x}", 10**6 * (i + 1))
    return chain, {
        "good": token.address.lower(),
        "reverts": chain.deploy(ours["RevertingToken"]).address.lower(),
        "burns": chain.deploy(ours["GasBurner"]).address.lower(),
        "burns too": chain.deploy(ours["GasBurner"]).address.lower(),
        "empty": chain.deploy(ours["OddAnswer"], 0).address.lower(),
        "short": chain.deploy(ours["OddAnswer"], 7).address.lower(),
        "bomb": chain.deploy(ours["OddAnswer"], 2**20).address.lower(),
        "nobody": NOBODY,
    }


def balances(to: str, count: int = 20) -> list[tuple[str, bytes]]:
    return [(to, BALANCE.encode((f"0x{i + 1:040x}",))) for i in range(count)]


def plain(chain: Chain, to: str, data: bytes, block: str):
    try:
        return chain.eth_call(to, "0x" + data.hex(), block)
    except Reverted:
        return None
    except RuntimeError as error:
        if "EVM error" in str(error):  # out of gas, in the node's words
            return None
        raise


async def read(chain: Chain, pairs, address: str = MULTICALL3, **options):
    stats = Stats()
    async with RpcPool(chain.chain_id, [chain.url], timeout_s=60) as pool:
        at = await pool.pin("latest")
        calls = Multicall(pool, at, address, stats=stats, **options)
        answers = await calls.read(pairs)
        return [answers.blob(i) for i in range(len(pairs))], stats, at


@pytest.mark.parametrize(
    "villains", [["reverts"], ["burns"], ["burns", "burns too"], ["empty", "nobody", "short"], ["bomb"]]
)
async def test_a_villain_harms_no_neighbour(hostile, villains):
    chain, where = hostile
    pairs = balances(where["good"], 10) + [(where[v], BALANCE.encode((NOBODY,))) for v in villains]
    pairs += balances(where["good"], 20)[10:]
    blobs, stats, at = await read(chain, pairs)
    for (to, data), blob in zip(pairs, blobs, strict=True):
        alone = plain(chain, to, data, at.hash)
        assert (None if isinstance(blob, Failure) else blob) == (alone or None)
    good = [blob for (to, _), blob in zip(pairs, blobs, strict=True) if to == where["good"]]
    assert [int.from_bytes(blob, "big") for blob in good] == [10**6 * (i + 1) for i in range(20)]
    assert stats.calls == len(pairs)


async def test_failures_say_what_happened(hostile):
    chain, where = hostile
    pairs = [(where[v], BALANCE.encode((NOBODY,))) for v in ("reverts", "empty", "nobody", "burns", "reverts")]
    blobs, _, _ = await read(chain, pairs)
    reverts, empty, nobody, burns, again = blobs
    assert reverts == again == Failure("this token always reverts")
    assert empty == Failure("empty answer")
    assert nobody == Failure("", no_code=True)
    assert isinstance(burns, Failure)
    assert "OOG" in burns.reason or "gas" in burns.reason.lower()


@pytest.mark.parametrize(
    "options", [{"max_calls": 1}, {"max_calls": 3, "batch": 2}, {"max_bytes": 300}, {"address": ""}]
)
async def test_answers_do_not_depend_on_how_calls_are_grouped(hostile, options):
    chain, where = hostile
    pairs = balances(where["good"]) + [(where[v], BALANCE.encode((NOBODY,))) for v in ("reverts", "empty", "nobody")]
    whole, _, _ = await read(chain, pairs)
    parts, _, _ = await read(chain, pairs, **options)
    assert parts == whole


async def test_a_chain_without_multicall_is_read_by_batches(devnet_tools):
    with Chain(devnet_tools, multicall=False) as bare:
        token = bare.deploy(devnet_tools.build("ours")["Token"], "Good", "GOOD", 18)
        token.send("mint", f"0x{1:040x}", 7)
        blobs, stats, _ = await read(bare, balances(token.address.lower(), 250))
        assert [int.from_bytes(blob, "big") for blob in blobs] == [7] + [0] * 249
        assert stats.batches == 3


async def test_the_pinned_state_is_read_and_not_the_latest(hostile):
    chain, where = hostile
    async with RpcPool(1, [chain.url]) as pool:
        at = await pool.pin("latest")
        chain.at(where["good"], [_MINT]).send("mint", f"0x{1:040x}", 5)
        answers = await Multicall(pool, at, MULTICALL3, stats=Stats()).read(balances(where["good"], 2))
        assert int.from_bytes(answers.blob(0), "big") == 10**6


async def test_a_block_that_was_reorganised_away_is_an_error_and_not_an_answer(hostile):
    chain, where = hostile
    async with RpcPool(1, [chain.url], rounds=1) as pool:
        at = await pool.pin("latest")
        calls = Multicall(pool, at, MULTICALL3, stats=Stats())
        await calls.read(balances(where["good"], 2))
        chain.reorg(3)
        with pytest.raises(BlockMismatchError):
            await calls.read(balances(where["good"], 2))


async def test_a_multicall_that_fails_as_a_whole_is_halved_until_the_culprit_stands_alone():
    sizes = []

    def call(to: str, data: str) -> str:
        if to != MULTICALL3.lower():
            if data.endswith("05"):
                raise Refusal(-32000, "execution aborted (timeout = 5s)")
            return "0x" + data[10:].rjust(64, "0")
        count = int(data[74:138], 16)
        sizes.append(count)
        raise Refusal(-32000, "out of gas")

    async with Node() as node, RpcPool(1, [node.url], rounds=1) as pool:
        node.call = call
        at = await pool.pin("finalized")
        calls = Multicall(pool, at, MULTICALL3, stats=Stats())
        pairs = [(NOBODY, b"\x00\x00\x00\x00" + bytes([i])) for i in range(16)]
        answers = await calls.read(pairs)
        assert [answers.blob(i) for i in range(16) if i != 5] == [i.to_bytes(32, "big") for i in range(16) if i != 5]
        assert isinstance(answers.blob(5), Failure)
        assert sizes[0] == 16
        assert min(sizes) == 2


async def test_an_answer_of_another_shape_is_asked_again_and_then_an_error():
    async with Node() as node, RpcPool(1, [node.url], rounds=1) as pool:
        node.call = lambda to, data: "0x" + "00" * 64
        at = await pool.pin("finalized")
        with pytest.raises(SourceError, match="malformed"):
            await Multicall(pool, at, MULTICALL3, stats=Stats()).read([(NOBODY, b"abcd")] * 2)


async def test_older_state_under_the_right_hash_is_noticed_and_another_endpoint_asked():
    async with Node() as stale, Node() as honest:
        for node in (stale, honest):
            node.history = True
        stale.stale, stale.call = 3, lambda to, data: "0x" + "00" * 31 + "01"
        pairs = [(NOBODY, b"abcd")] * 5
        async with RpcPool(1, [stale.url, honest.url], rounds=2) as pool:
            calls = Multicall(pool, await pool.pin("finalized"), "", stats=Stats())
            answers = await calls.read(pairs)
            assert calls.checks_state
            assert [answers.blob(i)[-1] for i in range(5)] == [42] * 5
        async with RpcPool(1, [stale.url], rounds=1) as pool:
            with pytest.raises(BlockMismatchError, match="state of another block"):
                await Multicall(pool, await pool.pin("finalized"), "", stats=Stats()).read(pairs)


async def test_anvil_keeps_the_history_that_the_canary_needs(hostile):
    chain, where = hostile
    chain.mine(5)
    async with RpcPool(1, [chain.url], rounds=1) as pool:
        for depth in ("latest", "3"):
            at = await pool.pin(depth)
            calls = Multicall(pool, at, MULTICALL3, stats=Stats())
            await calls.read(balances(where["good"]))
            assert calls.checks_state
            calls._parent = bytes(32)  # a node on other state would answer so
            with pytest.raises(BlockMismatchError, match="state of another block"):
                await calls.read(balances(where["good"]))


async def test_a_node_in_trouble_is_an_error_and_an_unknown_failure_of_one_call_is_not():
    async with Node() as node, RpcPool(1, [node.url], rounds=2) as pool:
        at = await pool.pin("finalized")
        calls = Multicall(pool, at, "", stats=Stats())

        def call(to: str, data: str) -> str:
            if data == "0x02":
                raise Refusal(-32000, "bad thing in the words of a client nobody knows")
            return "0x" + "00" * 32

        node.call = call
        answers = await calls.read([(NOBODY, b"\x01"), (NOBODY, b"\x02")])
        assert answers.blob(0) == bytes(32)
        assert answers.blob(1) == Failure("bad thing in the words of a client nobody knows")
        node.call = lambda to, data: (_ for _ in ()).throw(Refusal(-32000, "missing trie node 00ab"))
        with pytest.raises(BlockMismatchError):
            await calls.read([(NOBODY, b"\x01"), (NOBODY, b"\x02")])
        node.call = lambda to, data: (_ for _ in ()).throw(Refusal(-32601, "the method eth_call does not exist"))
        with pytest.raises(SourceError):
            await calls.read([(NOBODY, b"\x01"), (NOBODY, b"\x02")])


async def test_many_readers_at_once_get_their_own_answers(hostile):
    chain, where = hostile
    async with RpcPool(1, [chain.url]) as pool:
        calls = Multicall(pool, await pool.pin("latest"), MULTICALL3, stats=Stats(), max_calls=7)
        pairs = balances(where["good"])
        parts = await asyncio.gather(*(calls.read(pairs[i:] + pairs[:i]) for i in range(20)))
        for i, answers in enumerate(parts):
            assert int.from_bytes(answers.blob(0), "big") == 10**6 * (i + 1)


_MINT = {
    "type": "function",
    "name": "mint",
    "stateMutability": "nonpayable",
    "inputs": [{"name": "to", "type": "address"}, {"name": "raw", "type": "uint256"}],
    "outputs": [],
}
