"""Log ranges: shrinking, growing, and logs that must not be believed."""

import pytest
from aiohttp import web

from aggregator.chain.events import event
from aggregator.chain.logs import LogFilter, read_logs
from aggregator.chain.pool import RpcPool
from aggregator.chain.stats import Stats
from aggregator.core.errors import BlockMismatchError, ConfigError, SourceError
from tests.chain.node import Node, Refusal, status

TRANSFER = "Transfer(address indexed from,address indexed to,uint256 value)"
TOPIC = "0x" + event(TRANSFER).topic.hex()
TOKEN = "0x" + "aa" * 20
DIALECTS = [  # refusals as nodes and providers word them
    (-32005, "query returned more than 10000 results"),
    (-32602, "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range"),
    (-32000, "block range is too wide"),
    (-32000, "exceed maximum block range: 5000"),
    (-32614, "eth_getLogs is limited to a 10,000 range"),
    (-32600, "You can make eth_getLogs requests with up to a 10 block range. Based on your parameters"),
    (-32000, "query timeout exceeded"),
    (-32701, "Please narrow down your request, too many logs"),
    (-32000, "too many blocks, range limit 1000"),
    (-32000, "the words of a client nobody knows"),
]


def word(n: int) -> str:
    return "0x" + n.to_bytes(32, "big").hex()


def fill(node: Node, per_block: int = 1) -> int:
    for number in range(1, node.head + 1):
        for index in range(per_block):
            node.add_log(TOKEN, [TOPIC, word(1), word(2)], word(number), number, index)
    return node.head * per_block


def pool(*nodes: Node) -> RpcPool:
    return RpcPool(1, [node.url for node in nodes], timeout_s=2, deadline_s=4, rounds=2)


async def read(p: RpcPool, since: int = 0, addresses=(TOKEN,), topics=(), stats: Stats | None = None):
    at = await p.pin_number(100, "latest")
    wanted = LogFilter(list(addresses), [TRANSFER], topics)
    return [log async for part in read_logs(p, at, wanted, since, stats=stats or Stats()) for log in part]


@pytest.mark.parametrize(("code", "message"), DIALECTS)
async def test_ranges_shrink_for_every_dialect_of_refusal(code, message):
    async with Node() as node, pool(node) as p:
        fill(node)
        node.refuse_logs = lambda low, high: Refusal(code, message) if high - low + 1 > 7 else None
        logs = await read(p)
        assert [log.block for log in logs] == list(range(1, 101))


@pytest.mark.parametrize(("code", "message"), DIALECTS)
async def test_a_refusal_of_the_whole_batch_shrinks_the_range_too(code, message):
    """The header asked beside the logs is refused with them: that is no word about the block."""
    async with Node() as node, pool(node) as p:
        fill(node)

        def refuse(_, items):
            spans = [int(q["toBlock"], 16) - int(q["fromBlock"], 16) for i in items for q in i["params"][:1]
                     if i["method"] == "eth_getLogs"]  # fmt: skip
            if max(spans, default=0) > 6:
                return web.json_response({"id": None, "error": {"code": code, "message": message}}, status=400)

        node.fault = refuse
        assert [log.block for log in await read(p)] == list(range(1, 101))


async def test_a_crowded_stretch_does_not_keep_ranges_small():
    async with Node() as node, pool(node) as p:
        fill(node)
        node.refuse_logs = lambda low, high: (
            Refusal(-32005, "more than 9 results") if low < 20 and high - low > 2 else None
        )
        stats = Stats()
        assert len(await read(p, stats=stats)) == 100
        assert stats.batches < 40


async def test_one_block_that_is_always_refused_is_an_error_and_not_an_empty_list():
    async with Node() as node, pool(node) as p:
        node.refuse_logs = lambda low, high: Refusal(-32005, "query returned more than 10000 results")
        with pytest.raises(SourceError, match="logs of block 0"):
            await read(p)


async def test_an_error_that_stays_is_named_and_not_read_as_no_logs():
    async with Node() as node, pool(node) as p:
        node.refuse_logs = lambda low, high: Refusal(-32000, "disk on fire")
        with pytest.raises(SourceError, match="disk on fire"):
            await read(p, since=90)


async def test_a_round_thousand_is_suspected_to_be_a_silent_cap():
    async with Node() as node, pool(node) as p:
        total = fill(node, per_block=30)
        honest = node.eth_getLogs
        node.eth_getLogs = lambda query: honest(query)[:1000]
        assert len(await read(p)) == total


async def test_logs_come_ordered_once_and_only_since():
    async with Node() as node, pool(node) as p:
        fill(node)
        node.logs = node.logs[::-1] + node.logs[:5]
        logs = await read(p, since=90)
        assert [log.block for log in logs] == list(range(90, 101))
        assert await read(p, since=101) == []


async def test_a_node_without_batches_still_proves_its_block():
    def no_batches(node, items):
        if len(items) == 1:
            return None
        error = {"code": -32600, "message": "batch requests are not supported"}
        return web.json_response({"jsonrpc": "2.0", "id": None, "error": error})

    async with Node() as node, pool(node) as p:
        fill(node)
        node.fault = no_batches
        assert len(await read(p)) == 100


async def test_topics_and_addresses_are_passed_on():
    async with Node() as node, pool(node) as p:
        await read(p, topics=[["0x" + "BB" * 20], None])
        query = next(params[0] for method, params in node.seen if method == "eth_getLogs")
        assert query == {
            "fromBlock": "0x0",
            "toBlock": "0x64",
            "address": TOKEN,
            "topics": [[TOPIC], ["0x" + "00" * 12 + "bb" * 20]],
        }


LIES = {
    "another contract": {"address": "0x" + "bb" * 20},
    "outside the range": {"blockNumber": hex(500)},
    "another event": {"topics": [word(7), word(1), word(2)]},
    "removed": {"removed": True},
    "no data": {"data": None},
    "odd index": {"logIndex": "0x"},
    "another block 100": {"blockNumber": hex(100), "blockHash": word(1)},
    "of a fork": {"blockHash": word(1), "logIndex": hex(5)},
    "same place twice": {"blockNumber": hex(2), "data": word(66)},
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_log_that_cannot_be_an_answer_condemns_its_endpoint(lie):
    async with Node() as liar, Node() as honest:
        for node in (liar, honest):
            fill(node)
        liar.stray.append({**liar.logs[0], **LIES[lie]})
        async with pool(liar, honest) as p:
            assert len(await read(p)) == 100
        async with pool(liar) as p:
            with pytest.raises(BlockMismatchError):
                await read(p)


async def test_a_lagging_or_forked_node_has_no_say_about_logs():
    async with Node(head=50) as behind, Node() as honest, Node(fork="evil", forked_at=60) as forked:
        fill(honest)
        async with pool(behind, honest) as p:
            assert len(await read(p)) == 100  # the [] of the first was not believed
        async with pool(honest) as p:
            at = await p.pin_number(100, "latest")
        async with pool(forked) as p:
            with pytest.raises(BlockMismatchError):
                async for _ in read_logs(p, at, LogFilter([], [TRANSFER], ()), 0, stats=Stats()):
                    pass


async def test_truncated_json_in_the_middle_of_a_log_read_is_retried():
    async with Node() as node, pool(node) as p:
        fill(node)
        await p.check_chain_id()
        node.fault = status(200, '[{"jsonrpc":"2.0","id":0,"result":[{"addr', times=1)
        assert len(await read(p)) == 100


def test_a_filter_without_events_is_refused():
    with pytest.raises(ConfigError, match="no event"):
        LogFilter([TOKEN], [], ())
