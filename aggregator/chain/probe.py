"""What each endpoint of a pool can do, for `spillover doctor`: facts and redacted reasons, no exception."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from aggregator.chain.endpoint import Endpoint, Failed, Item
from aggregator.chain.header import Header, parse_header, quantity
from aggregator.chain.pool import RpcPool
from aggregator.chain.rpc_error import RpcError
from aggregator.core.errors import MalformedAnswerError

_TAGS = ("latest", "safe", "finalized")


class EndpointReport(NamedTuple):
    """name is redacted. chain None = no answer. heads: latest, safe, finalized where given. problems: in words.

    hash: of the block `at` which all endpoints are asked for. batches, by_hash (EIP-1898), multicall, history
    (EIP-2935): what it supports. latency_s: of one small request.
    """

    name: str
    chain: int | None
    heads: dict[str, Header]
    hash: str
    latency_s: float
    batches: bool
    by_hash: bool
    multicall: bool
    history: bool
    problems: tuple[str, ...]


async def probe(
    pool: RpcPool, multicall: str, history: str = "0x0000f90827f1c53a10cb7a02335b175320002935"
) -> list[EndpointReport]:
    """One report per endpoint, in the order of the configuration. Asks each endpoint itself: no failover, no retry."""
    return list(await asyncio.gather(*(_probe(pool, endpoint, multicall, history) for endpoint in pool.endpoints)))


async def _probe(pool: RpcPool, endpoint: Endpoint, multicall: str, history: str) -> EndpointReport:
    problems: list[str] = []
    clock = asyncio.get_running_loop().time

    async def ask(*items: Item) -> list[object]:
        answer = await endpoint.post(pool.session(), items, pool.timeout_s, pool.stats)
        if isinstance(answer, Failed):
            problems.append(pool.redact(answer.text))
            return [None] * len(items)
        return [None if isinstance(a, Failed) else a for a in answer]

    begun = clock()
    (chain_id,) = await ask(("eth_chainId", []))
    latency_s = clock() - begun
    try:
        chain = None if chain_id is None or isinstance(chain_id, RpcError) else quantity(chain_id, "chain id")
    except MalformedAnswerError as error:
        chain = None
        problems.append(error.message)
    if chain is None:
        return EndpointReport(endpoint.name, None, {}, "", latency_s, False, False, False, False, tuple(problems))
    if chain != pool.chain:
        problems.append(f"serves chain {chain}, configured as {pool.chain}")
    heads: dict[str, Header] = {}
    blocks = await ask(*(("eth_getBlockByNumber", [tag, False]) for tag in _TAGS))
    for tag, block in zip(_TAGS, blocks, strict=True):
        try:
            heads[tag] = parse_header(block)
        except MalformedAnswerError:
            said = pool.redact(block.rpc_message) if isinstance(block, RpcError) else "no block"
            problems.append(f"{tag}: {said}")
    at = heads.get("finalized") or heads.get("safe") or heads.get("latest")
    by_hash = has_multicall = has_history = False
    if at is not None:
        pinned = {"blockHash": at.hash, "requireCanonical": True}
        codes = await ask(*(("eth_getCode", [address, pinned]) for address in (multicall or history, history)))
        by_hash = isinstance(codes[0], str)
        if not by_hash:
            codes = await ask(
                *(("eth_getCode", [address, hex(at.number)]) for address in (multicall or history, history))
            )
        has_multicall, has_history = (isinstance(code, str) and len(code) > 2 for code in codes)
    if not has_multicall and multicall:
        problems.append(f"no Multicall3 at {multicall}: read by JSON-RPC batches")
    return EndpointReport(
        endpoint.name, chain, heads, at.hash if at else "", latency_s, endpoint.max_batch > 1, by_hash,
        has_multicall and bool(multicall), has_history, tuple(problems),
    )  # fmt: skip
