"""A node that speaks JSON-RPC over loopback and misbehaves as told: the transport faults that anvil never shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

HISTORY = "0x0000f90827f1c53a10cb7a02335b175320002935"
KEY = "sk_live_0123456789abcdef"
Fault = Callable[["Node", list[dict[str, Any]]], Awaitable[web.StreamResponse | None] | web.StreamResponse | None]


def block_hash(number: int, fork: str = "") -> str:
    return "0x" + sha256(f"{fork}{number}".encode()).hexdigest()


class Refusal(Exception):  # noqa: N818 - as JSON-RPC calls it
    """Becomes the error member of one item."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({"data": data} if data else {})


class Node:
    """head: height. call(to, data) -> 0x-hex answers eth_call. logs: raw logs. fault: may answer a whole request."""

    def __init__(self, chain: int = 1, head: int = 100, fork: str = "", forked_at: int = 0) -> None:
        self.chain, self.head, self.fork, self.forked_at = chain, head, fork, forked_at
        self.call: Callable[[str, str], str] = lambda to, data: "0x" + "00" * 31 + "2a"
        self.code = "0x6001"
        self.logs: list[dict[str, Any]] = []
        self.stray: list[dict[str, Any]] = []  # given whatever is asked
        self.refuse_logs: Callable[[int, int], Refusal | None] = lambda low, high: None
        self.knows_1898 = True
        self.history, self.stale = False, 0  # EIP-2935, and by how many blocks the state behind it is too old
        self.fault: Fault | None = None
        self.seen: list[tuple[str, Any]] = []
        self.requests = 0
        self._server: TestServer | None = None

    def hash(self, number: int) -> str:
        return block_hash(number, self.fork if number >= self.forked_at else "")

    async def __aenter__(self) -> Node:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/{tail:.*}", self._handle)
        self._server = TestServer(app)
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self._server.close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://user:{KEY}@127.0.0.1:{self._server.port}/v2/{KEY}?apikey={KEY}"

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        body = json.loads(await request.read())
        items = body if isinstance(body, list) else [body]
        self.seen += [(item["method"], item["params"]) for item in items]
        if self.fault is not None:
            answer = self.fault(self, items)
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer is not None:
                return answer
        members = [self.answer(item) for item in items]
        return web.json_response(members if isinstance(body, list) else members[0])

    def answer(self, item: dict[str, Any]) -> dict[str, Any]:
        try:
            result = getattr(self, item["method"])(*item["params"])
        except Refusal as refusal:
            return {"jsonrpc": "2.0", "id": item["id"], "error": refusal.error}
        except AttributeError:
            return {"jsonrpc": "2.0", "id": item["id"], "error": {"code": -32601, "message": "method not found"}}
        return {"jsonrpc": "2.0", "id": item["id"], "result": result}

    def eth_chainId(self) -> str:
        return hex(self.chain)

    def eth_getBlockByNumber(self, block: str, full: bool) -> Any:
        number = {"latest": self.head, "safe": self.head - 5, "finalized": self.head - 10}.get(block)
        number = int(block, 16) if number is None else number
        if not 0 <= number <= self.head:
            return None
        return {
            "number": hex(number),
            "hash": self.hash(number),
            "parentHash": self.hash(number - 1),
            "timestamp": hex(1_700_000_000 + 12 * number),
        }

    def _check_block(self, block: Any) -> None:
        if isinstance(block, dict):
            if not self.knows_1898:
                raise Refusal(-32602, "invalid argument 1: json: cannot unmarshal object into Go value of type string")
            if block["blockHash"] not in {self.hash(n) for n in range(self.head + 1)}:
                raise Refusal(-32000, "header not found")
        elif block != "latest" and int(block, 16) > self.head:
            raise Refusal(-32000, "header not found")

    def eth_getCode(self, address: str, block: Any) -> str:
        self._check_block(block)
        return ("0x6001" if self.history else "0x") if address == HISTORY else self.code

    def eth_call(self, params: dict[str, str], block: Any) -> str:
        self._check_block(block)
        if params["to"] == HISTORY:
            return self.hash(int(params["data"], 16) - self.stale)
        return self.call(params["to"], params["data"])

    def eth_getLogs(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        low, high = int(query["fromBlock"], 16), int(query["toBlock"], 16)
        if refusal := self.refuse_logs(low, high):
            raise refusal
        return [log for log in self.logs if low <= int(log["blockNumber"], 16) <= high] + self.stray

    def add_log(self, address: str, topics: list[str], data: str, number: int, index: int) -> None:
        self.logs.append(
            {
                "address": address,
                "topics": topics,
                "data": data,
                "blockNumber": hex(number),
                "blockHash": self.hash(number),
                "logIndex": hex(index),
                "transactionHash": "0x" + "ab" * 32,
                "removed": False,
            }
        )


def status(code: int, text: str = "", headers: dict[str, str] | None = None, times: int | None = None) -> Fault:
    """Answers with this HTTP status, `times` times (for ever by default)."""
    left = [times]

    def fault(node: Node, items: list[dict[str, Any]]) -> web.StreamResponse | None:
        if left[0] is not None:
            if left[0] == 0:
                return None
            left[0] -= 1
        return web.Response(status=code, text=text, headers=headers)

    return fault


def closed_port() -> str:
    """URL of a loopback port that refuses."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}/v3/{KEY}"
