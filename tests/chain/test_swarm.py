"""Never silently different: whatever two nodes do to us, a read equals the clean one or is a clean error.

Each seed is a plan: which faults exist and how often. A fault is drawn from (seed, node, request number), so a plan
repeats whatever the timing. Every third request to a node is clean. A word altered under the right hash by the one node
that is asked is not among the faults: nothing that a client of one node can do would show it.
"""

import asyncio
import json
from hashlib import blake2b

import pytest
from aiohttp import web
from eth_abi.abi import decode, encode

from aggregator.chain.answers import Failure
from aggregator.chain.events import event
from aggregator.chain.logs import LogFilter, read_logs
from aggregator.chain.multicall import Multicall
from aggregator.chain.pool import RpcPool
from aggregator.chain.stats import Stats
from aggregator.core.block import BlockRef
from aggregator.core.errors import SourceError
from tests.chain.node import HISTORY, Node, Refusal, block_hash

MULTICALL = "0x" + "ca" * 20
SEEDS = 10
TRANSFER = "Transfer(address indexed from,address indexed to,uint256 value)"
TOKEN = "0x" + "aa" * 20
PAIRS = [(TOKEN, bytes([i % 251, i // 251])) for i in range(120)]
AT = BlockRef("eip155:1", 90, block_hash(90), 1_700_000_000 + 12 * 90, "finalized")


def contract(data: bytes) -> str:
    """Some calls revert, some answer nothing, all others a word."""
    if data[0] % 17 == 3:
        raise Refusal(3, "execution reverted", "0x08c379a0" + encode(["string"], ["no"]).hex())
    return "0x" if data[0] % 19 == 5 else "0x" + blake2b(data, digest_size=32).hexdigest()


def call(to: str, data: str) -> str:
    raw = bytes.fromhex(data[2:])
    if to != MULTICALL:
        return contract(raw)
    (members,) = decode(["(address,bool,bytes)[]"], raw[4:])
    out = []
    for target, _, inner in members:
        try:
            answer = node_history(inner) if target == HISTORY else contract(inner)
            out.append((True, bytes.fromhex(answer[2:])))
        except Refusal:
            out.append((False, b""))
    return "0x" + encode(["(bool,bytes)[]"], [out]).hex()


def node_history(data: bytes) -> str:
    return block_hash(int.from_bytes(data, "big"))


def _mangle(kind: str, node: Node, items: list[dict], u: int) -> web.StreamResponse | None:
    if kind in ("503", "429", "500"):
        return web.Response(status=int(kind), headers={"Retry-After": "0.01"})
    if kind == "stale":
        node.stale = 2
        members = [node.answer(item) for item in items]
        node.stale = 0
        if not any(item["method"] == "eth_call" and item["params"][0]["to"] == HISTORY for item in items):
            return None  # inside a multicall the canary is the multicall's business
        members = [m | {"result": "0x" + "77" * 32} if "result" in m and i else m for i, m in enumerate(members)]
    else:
        members = [node.answer(item) for item in items]
    if kind == "shuffle":
        members.reverse()
    elif kind == "missing":
        members = members[: u % len(members)]
    elif kind == "duplicate":
        members = [members[0]] * len(members)
    elif kind == "foreign id":
        members[-1] = members[-1] | {"id": 999}
    elif kind == "trouble":
        members[u % len(members)] = {
            "id": items[u % len(items)]["id"],
            "error": {"code": -32000, "message": "header not found"},
        }
    elif kind == "limited":
        members = [{"id": item["id"], "error": {"code": -32005, "message": "rate limit"}} for item in items]
    elif kind == "fork":
        members = [
            m | {"result": m["result"] | {"hash": "0x" + "66" * 32}} if isinstance(m.get("result"), dict) else m
            for m in members
        ]
        if not any(item["method"] == "eth_getBlockByNumber" for item in items):
            return None
    elif kind == "no logs":
        members = [m | {"result": []} if isinstance(m.get("result"), list) else m for m in members]
        if not any(item["method"] == "eth_getLogs" for item in items):
            return None
        members[-1] = members[-1] | {"result": None}  # a node behind: it lacks both
    text = json.dumps(members if len(items) > 1 or kind == "list" else members[0] if members else None)
    if kind == "cut":
        text = text[: u % len(text)]
    return web.Response(text=text, content_type="application/json")


KINDS = ["503", "429", "500", "stale", "shuffle", "missing", "duplicate", "foreign id", "trouble", "limited", "fork",
         "no logs", "cut"]  # fmt: skip


def planned(seed: int, name: str):
    def draw(*what: object) -> int:
        return int.from_bytes(blake2b(repr((seed, name, *what)).encode(), digest_size=8).digest(), "big")

    kinds = [kind for kind in KINDS if draw("exists", kind) % 3 == 0] or ["cut"]
    rate = (20, 50, 90)[draw("rate") % 3]
    count = 0

    def fault(node: Node, items: list[dict]) -> web.StreamResponse | None:
        nonlocal count
        count += 1
        if count % 3 == 0 or draw(count) % 100 >= rate or items[0]["method"] == "eth_chainId":
            return None
        return _mangle(kinds[draw(count, "kind") % len(kinds)], node, items, draw(count, "where"))

    return fault


async def read(pool: RpcPool, multicall: str):
    at, stats = AT, Stats()
    calls = Multicall(pool, at, multicall, stats=stats, max_calls=40, batch=25)
    wanted = LogFilter([TOKEN], [TRANSFER], ())
    answers, halves = await asyncio.gather(calls.read(PAIRS), calls.read(PAIRS[:7]))
    logs = [log async for part in read_logs(pool, at, wanted, 0, stats=stats) for log in part]
    return [answers.blob(i) for i in range(len(PAIRS))], [halves.blob(i) for i in range(7)], logs


def prepare(node: Node) -> None:
    node.history, node.call = True, call
    node.refuse_logs = lambda low, high: Refusal(-32005, "more than 10 results") if high - low > 30 else None
    for number in range(1, 100):
        topics = ["0x" + event(TRANSFER).topic.hex(), "0x" + f"{1:064x}", "0x" + f"{2:064x}"]
        node.add_log(TOKEN, topics, "0x" + f"{number:064x}", number, 0)


@pytest.mark.slow
@pytest.mark.parametrize("multicall", ["", MULTICALL])
async def test_a_read_under_faults_equals_the_clean_one_or_is_a_clean_error(multicall):
    async with Node() as a, Node() as b:
        prepare(a)
        prepare(b)
        async with RpcPool(1, [a.url]) as pool:
            clean = await read(pool, multicall)
        assert len(clean[2]) == 90
        assert sum(isinstance(blob, Failure) for blob in clean[0]) > 5
        refused = 0
        for seed in range(SEEDS):
            a.fault, b.fault = planned(seed, "a"), planned(seed, "b")
            async with RpcPool(1, [a.url, b.url], rounds=8, backoff_s=0.002, deadline_s=20) as pool:
                try:
                    found = await read(pool, multicall)
                except SourceError:
                    refused += 1
                    continue
            assert found == clean, f"seed {seed}: silently different"
        assert refused <= SEEDS // 5
