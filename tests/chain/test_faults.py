"""What endpoints do to connections, bodies and concurrent readers, over real sockets; and what the user is told."""

import asyncio
import gzip
import resource
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from aggregator.chain.multicall import Multicall
from aggregator.chain.pool import RpcPool
from aggregator.chain.rpc_error import RpcError
from aggregator.chain.stats import Stats
from aggregator.core.errors import BlockMismatchError, RateLimitedError, SourceError
from tests.chain.node import KEY, Node, Refusal, status

CALL = ("eth_call", [{"to": "0x" + "11" * 20, "data": "0x"}, "latest"])
ANSWER = "0x" + "00" * 31 + "2a"


def pool(*urls: str, **options) -> RpcPool:
    return RpcPool(1, urls, **{"timeout_s": 0.5, "deadline_s": 3.0, "rounds": 2} | options)


async def hang(node, items):
    await asyncio.sleep(30)


@asynccontextmanager
async def raw(head: bytes, body: bytes, then: str = "close"):
    """URL of a server that answers every request with these bytes, then closes, resets or hangs."""
    ends = asyncio.Event()

    async def handle(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head + b"\r\n\r\n" + body)
            await writer.drain()
            if then == "hang":
                await ends.wait()
            if then == "reset":
                writer.transport.abort()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2/{KEY}"
    finally:
        ends.set()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)


OK = b"HTTP/1.1 200 OK\r\n"
BROKEN = {
    "hangs in the body": (OK + b"Content-Length: 500", b'{"json', "hang"),
    "resets in the body": (OK + b"Content-Length: 500", b'{"json', "reset"),
    "stops in the body": (OK + b"Content-Length: 500", b'{"json', "close"),
    "broken chunk": (OK + b"Transfer-Encoding: chunked", b"zz\r\n", "close"),
    "not gzip": (OK + b"Content-Encoding: gzip\r\nContent-Length: 5", b"abcde", "close"),
    "unknown encoding": (OK + b"Content-Encoding: br\r\nContent-Length: 5", b"abcde", "close"),
    "not HTTP": (b"GET /v2/" + KEY.encode() + b" hello", b"", "close"),
    "endless header": (OK + b"X: " + b"a" * 2**20, b"", "close"),
    "redirect with the key": (
        b"HTTP/1.1 307 X\r\nContent-Length: 0\r\nLocation: http://h/" + KEY.encode(),
        b"",
        "close",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_broken_connection_is_passed_over_or_named_without_the_key(fault):
    async with raw(*BROKEN[fault]) as url, Node() as well:
        async with pool(url, well.url) as p:
            assert await p.request(*CALL) == ANSWER
        async with pool(url) as p:
            with pytest.raises(SourceError, match=r"no endpoint of eip155:1 answered") as caught:
                await p.request(*CALL)
            assert KEY not in str(caught.value) + repr(caught.value)


async def test_a_redirect_is_not_followed():
    async with Node() as victim:
        head = b"HTTP/1.1 307 X\r\nContent-Length: 0\r\nLocation: " + victim.url.encode()
        async with raw(head, b"") as url, pool(url) as p:
            with pytest.raises(SourceError, match="redirects are not followed"):
                await p.request(*CALL)
        assert victim.requests == 0


async def test_a_gzip_bomb_is_cut_off_and_memory_stays():
    bomb = gzip.compress(bytes(300 * 2**20))
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d" % len(bomb)
    async with raw(head, bomb) as url, pool(url, timeout_s=10, deadline_s=20, rounds=1) as p:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        p.endpoints[0].chain_known = True
        (answer,) = await p.batch([CALL])
        assert isinstance(answer, RpcError)
        assert answer.is_too_big
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 * 1024  # KiB


async def test_many_readers_wait_for_a_hanging_endpoint_once_and_not_one_after_another():
    async with Node() as slow, Node() as well:
        slow.fault = hang
        async with pool(slow.url, well.url, timeout_s=0.3) as p:
            assert await asyncio.gather(*(p.request(*CALL) for _ in range(10))) == [ANSWER] * 10
            assert slow.requests == 1
            assert p.endpoints[0].shun_until_s - asyncio.get_running_loop().time() < 3  # one failure, not ten


async def test_an_endpoint_that_hangs_does_not_hold_up_the_pin():
    async with Node() as slow, Node() as well:
        slow.fault = hang
        async with pool(slow.url, well.url, timeout_s=20, deadline_s=60, patience_s=0.2) as p:
            clock = asyncio.get_running_loop().time
            begun = clock()
            await p.check_chain_id()
            at = await p.pin("finalized")
            assert clock() - begun < 3
            assert (at.number, p.agreement.agreed, len(p.agreement.silent)) == (90, 1, 1)


@pytest.mark.parametrize("text", ["86400", "inf", "1e9", "Wed, 21 Oct 2099 07:28:00 GMT"])
async def test_a_pause_longer_than_the_deadline_is_kept_and_not_shortened(text):
    async with Node() as node, pool(node.url, deadline_s=2.0) as p:
        await p.check_chain_id()
        node.fault = status(429, headers={"Retry-After": text})
        with pytest.raises(RateLimitedError):
            await p.request(*CALL)
        assert node.requests == 2


async def test_a_pause_that_is_none_is_ours_to_choose():
    async def answer(text):
        async with Node() as node, pool(node.url) as p:
            await p.check_chain_id()
            node.fault = status(429, headers={"Retry-After": text}, times=1)
            return text, await p.request(*CALL)

    texts = ["", "-1", "nan", "soon", "Wed, 21 Oct 1999 07:28:00 GMT", "21 Oct 2099 07:28:00"]
    assert await asyncio.gather(*map(answer, texts)) == [(text, ANSWER) for text in texts]


async def test_a_refused_key_is_one_whatever_body_comes_with_it():
    said = '{"jsonrpc":"2.0","id":0,"error":{"code":-32600,"message":"Must be authenticated!"}}'
    async with Node() as node, Node() as well:
        node.fault = status(401, said)
        async with pool(node.url) as p:
            with pytest.raises(SourceError, match="HTTP 401: the key is missing, wrong or not allowed"):
                await p.request(*CALL)
        async with pool(node.url, well.url) as p:
            assert await p.request(*CALL) == ANSWER
            assert p.endpoints[0].shun_until_s > asyncio.get_running_loop().time() + 60


async def test_the_error_speaks_of_this_request_and_not_of_an_earlier_one():
    async with Node() as node, pool(node.url, rounds=1) as p:
        await p.check_chain_id()
        with pytest.raises(BlockMismatchError, match="nothing pleases"):
            await p.batch([CALL], accept=lambda answers: "nothing pleases")
        assert await p.request(*CALL) == ANSWER
        node.fault = status(503)
        with pytest.raises(SourceError) as caught:
            await p.request(*CALL)
        assert not isinstance(caught.value, BlockMismatchError)
        assert "nothing pleases" not in str(caught.value)


async def test_a_malformed_header_of_one_endpoint_is_passed_over():
    async with Node() as odd, Node() as well, pool(odd.url, well.url) as p:
        at = await p.pin_number(5, "latest")
        odd.eth_getBlockByNumber = lambda block, full: {"number": block, "hash": at.hash, "parentHash": "0x12"}
        assert (await p.pinned_header(at)).parent_hash == well.hash(4)


async def test_what_is_too_big_for_one_endpoint_alone_is_asked_of_the_next():
    async with Node() as small, Node() as large:
        small.call = lambda to, data: (_ for _ in ()).throw(Refusal(-32000, "response size exceeded"))
        async with pool(small.url, large.url) as p:
            (answer,) = await p.batch([CALL])
            assert isinstance(answer, RpcError)  # the caller can split it
            assert await p.batch([CALL], whole=True) == [ANSWER]
        async with pool(small.url) as p:
            (answer,) = await p.batch([CALL], whole=True)
            assert isinstance(answer, RpcError)


async def test_all_endpoints_dead_is_one_error_that_names_each_and_says_what_to_do():
    async with Node() as a, Node() as b:
        a.fault, b.fault = status(503, "<html>"), lambda node, items: web.Response(text="{")
        async with pool(a.url, b.url) as p:
            with pytest.raises(SourceError) as caught:
                await p.request(*CALL)
    said = str(caught.value)
    assert "HTTP 503" in said
    assert "is not JSON" in said
    assert "spillover doctor" in said


# geth, erigon, nethermind, reth, besu, op-geth, providers
LACKS_STATE = [
    "header not found", "header for hash not found", "hash is not currently canonical", "missing trie node 0a (path )",
    "block not found: hash 0xab", "block #0xab not found", "header of 0xab could not be found", "unknown block",
    "0xab block is not canonical", "No state available for block 0xab", "state at block #1 is pruned",
    "World state unavailable", "required historical state unavailable (reexec=128)", "state unavailable",
    "old data not available due to pruning", "Unknown block number", "block is out of range", "resource not found",
    "state histories haven't been fully indexed yet", "cannot query unfinalized data",
    "historical backend: not available",
    "upstream does not have the requested block yet", "no historical RPC is available for this historical request",
]  # fmt: skip
NOBODY, BALANCE = "0x" + "99" * 20, b"\x70\xa0\x82\x31"
VERDICTS = ["execution reverted: header not found", "out of gas", "invalid opcode: INVALID", "EVM error OutOfGas"]


def test_what_a_node_lacks_is_told_from_what_a_contract_says():
    assert [m for m in LACKS_STATE if not RpcError(-32000, m).is_no_state] == []
    assert [m for m in VERDICTS if RpcError(-32000, m).is_no_state or not RpcError(-32000, m).is_execution] == []


@pytest.mark.parametrize("message", [*LACKS_STATE, "the words of a client nobody knows"])
async def test_a_node_without_the_block_never_makes_gaps_of_contracts(message):
    """No Multicall3 and no EIP-2935: nothing but the node's words and a control tell its trouble from a revert."""
    async with Node() as node, Node() as well:
        async with RpcPool(1, [well.url]) as p:
            at = await p.pin("finalized")

        def refuse(*_):
            raise Refusal(-32000, message)

        async def read(*urls: str):
            async with pool(*urls, rounds=1) as p:
                calls = Multicall(p, at, "", stats=Stats())
                calls._deployed = False
                return (await calls.read([(NOBODY, BALANCE), (NOBODY, BALANCE + b"x")])).blob(0)

        node.call = node.eth_getCode = refuse
        with pytest.raises(SourceError):
            await read(node.url)
        assert await read(node.url, well.url) == bytes.fromhex(ANSWER[2:])


@pytest.mark.parametrize("result", [None, 7, "", "0x1", "0xzz", {"data": "0x"}])
async def test_a_malformed_answer_of_one_endpoint_is_asked_of_the_next(result):
    async with Node() as odd, Node() as well:
        odd.call = lambda to, data: result
        for urls in ([odd.url], [odd.url, well.url]):
            async with pool(*urls) as p:
                calls = Multicall(p, await p.pin("finalized"), "", stats=Stats())
                if len(urls) == 2:
                    assert (await calls.read([(NOBODY, BALANCE)])).blob(0) == bytes.fromhex(ANSWER[2:])
                else:
                    with pytest.raises(SourceError, match="malformed"):
                        await calls.read([(NOBODY, BALANCE)])


async def test_readers_of_a_chain_that_went_silent_wait_one_deadline_together():
    async with Node() as node, pool(node.url, timeout_s=0.2, deadline_s=0.6) as p:
        calls = Multicall(p, await p.pin("finalized"), "0x" + "ca" * 20, stats=Stats())
        node.fault = hang
        clock = asyncio.get_running_loop().time
        begun = clock()
        found = await asyncio.gather(*(calls.read([(NOBODY, BALANCE)]) for _ in range(8)), return_exceptions=True)
        assert clock() - begun < 2 * 0.6
        assert [type(error) for error in found] == [SourceError] * 8
        node.fault = None
        p.endpoints[0].shun_until_s = 0.0
        assert (await calls.read([(NOBODY, BALANCE)])).blob(0) == bytes.fromhex(ANSWER[2:])  # it is asked again


def busy_in_json(node, items):
    if node.requests < 2:  # it names no pause: one of a second is kept
        return web.json_response({"id": None, "error": {"code": -32005, "message": "project ID request rate exceeded"}})


BUSY = {
    "429": lambda: status(429, headers={"Retry-After": "0.2"}, times=3),
    "429 in JSON": lambda: busy_in_json,
    "503": lambda: status(503, "<html>", times=3),
}


@pytest.mark.parametrize("how", BUSY)
async def test_a_run_does_not_end_because_its_first_question_met_a_busy_endpoint(how):
    async with Node() as node, pool(node.url, deadline_s=8.0, rounds=5) as p:
        node.fault = BUSY[how]()
        await p.check_chain_id()
        node.requests, node.fault = 0, BUSY[how]()
        assert (await p.pin("finalized")).number == 90


async def test_a_node_that_hangs_costs_the_pin_one_timeout():
    async with Node() as node, pool(node.url, timeout_s=0.4, deadline_s=60.0, rounds=5) as p:
        node.fault = hang
        with pytest.raises(SourceError, match="no endpoint of eip155:1 answered eth_chainId"):
            await p.check_chain_id()
        assert node.requests == 1


async def test_an_answer_too_large_for_a_node_that_is_asked_by_number_is_asked_in_parts():
    def too_big(node, items):
        if len(items) > 6:
            return web.json_response({"id": None, "error": {"code": -32008, "message": "Response is too big"}})

    async with Node() as node, pool(node.url) as p:
        node.knows_1898, node.fault = False, too_big
        node.call = lambda to, data: data.ljust(66, "0")
        calls = Multicall(p, await p.pin("finalized"), "", stats=Stats())
        answers = await calls.read([(NOBODY, BALANCE + bytes([i])) for i in range(20)])
        assert [answers.blob(i)[4] for i in range(20)] == list(range(20))


REFUSALS = {
    "geth": (200, '{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"batch too large"}}'),
    "with a rate's words": (200, '{"id":null,"error":{"code":-32005,"message":"Too many requests in batch"}}'),
    "413": (413, "Payload Too Large"),
    "400": (400, "batch size limit is 3"),
    "400 without a word": (400, "Bad Request"),
    "invalid": (400, '{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request"}}'),
    "unparsed": (200, '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}'),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_batch_that_is_too_long_is_sent_in_parts(refusal):
    async with Node() as node, pool(node.url) as p:
        code, text = REFUSALS[refusal]
        node.fault = lambda node, items: web.Response(status=code, text=text) if len(items) > 3 else None
        node.call = lambda to, data: data
        items = [("eth_call", [{"to": NOBODY, "data": f"0x{i:02x}"}, "latest"]) for i in range(20)]
        assert await p.batch(items) == [f"0x{i:02x}" for i in range(20)]


async def test_a_node_that_knows_no_batches_is_found_out_once():
    async with Node() as node, pool(node.url) as p:
        text = REFUSALS["invalid"][1]
        node.fault = lambda node, items: web.Response(status=400, text=text) if len(items) > 1 else None
        await p.batch([CALL] * 8)
        node.requests = 0
        assert await p.batch([CALL] * 8) == [ANSWER] * 8
        assert node.requests == 8


async def test_an_answer_that_lacks_a_member_is_told_in_words_though_it_is_judged_as_a_whole():
    async with Node() as node, pool(node.url) as p:
        node.fault = lambda node, items: web.json_response([node.answer(items[0])]) if len(items) > 1 else None
        with pytest.raises(SourceError, match="the answer to one request of the batch is missing"):
            await p.batch([CALL, CALL], accept=lambda answers: "")


async def test_one_answer_without_end_costs_its_neighbours_nothing(monkeypatch):
    monkeypatch.setattr("aggregator.chain.endpoint.MAX_ANSWER_BYTES", 10_000)
    async with Node() as node, pool(node.url) as p:
        node.call = lambda to, data: "0x" + "00" * 20_000 if data == "0x07" else data
        items = [("eth_call", [{"to": NOBODY, "data": f"0x{i:02x}"}, "latest"]) for i in range(20)]
        answers = await p.batch(items)
        assert [a for a in answers if isinstance(a, str)] == [f"0x{i:02x}" for i in range(20) if i != 7]
        assert isinstance(answers[7], RpcError)
        assert answers[7].is_too_big
