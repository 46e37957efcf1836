"""What doctor is told about each endpoint."""

from aiohttp import web

from aggregator.chain.pool import RpcPool
from aggregator.chain.probe import probe
from tests.chain.node import HISTORY, KEY, Node, Refusal, closed_port, status
from tests.devnet.anvil import MULTICALL3, Chain


async def test_good_and_bad_endpoints_side_by_side():
    async with Node() as good, Node(chain=10) as other, Node() as old, Node() as ill, Node() as poor:
        good.history = True
        old.knows_1898 = False
        ill.fault = status(200, "<html>")
        poor.code = "0x"
        poor.fault = lambda node, items: (
            web.json_response({"id": None, "error": {"code": -32600, "message": "no batch support"}})
            if len(items) > 1
            else None
        )
        honest = poor.eth_getBlockByNumber
        poor.eth_getBlockByNumber = lambda block, full: None if block == "finalized" else honest(block, full)
        async with RpcPool(1, [good.url, other.url, old.url, ill.url, poor.url, closed_port()], timeout_s=2) as pool:
            found = await probe(pool, MULTICALL3)
    a, b, c, d, e, f = found
    assert (a.chain, a.by_hash, a.batches, a.multicall, a.history, a.problems) == (1, True, True, True, True, ())
    assert {tag: head.number for tag, head in a.heads.items()} == {"latest": 100, "safe": 95, "finalized": 90}
    assert a.hash == good.hash(90)
    assert b.chain == 10
    assert "chain 10" in b.problems[0]
    assert (c.by_hash, c.multicall, c.history) == (False, True, False)
    assert (d.chain, f.chain) == (None, None)
    assert "not JSON" in d.problems[0]
    assert not e.batches
    assert not e.multicall
    assert any(problem.startswith("finalized: ") for problem in e.problems)
    assert any("Multicall3" in problem for problem in e.problems)
    assert KEY not in repr(found)


async def test_what_the_node_says_is_redacted():
    async with Node() as node:
        node.eth_getBlockByNumber = lambda block, full: (_ for _ in ()).throw(Refusal(-32000, f"key {KEY} expired"))
        async with RpcPool(1, [node.url]) as pool:
            (found,) = await probe(pool, "")
    assert found.heads == {}
    assert KEY not in repr(found)


async def test_anvil(chain: Chain):
    chain.mine(70)  # anvil's finalized block is 64 behind the head, and Multicall3 must be there
    async with RpcPool(1, [chain.url]) as pool:
        (found,) = await probe(pool, MULTICALL3)
    assert (found.by_hash, found.batches, found.multicall, found.history) == (True, True, True, True)
    assert HISTORY not in repr(found)
