"""Ingest of an Aave world on anvil, against a bare client that makes the same multicalls and throws the answers away.

Ours is the whole run after discovery: terms, every account, the store, one transaction. The bare client is given the
calls of each request as (to, calldata), encodes aggregate3 and JSON by itself (below: plain Python, nothing of ours,
far faster than eth-abi), posts as many at a time and drops the answers; it knows all calls from the
beginning and checks nothing. A second, stricter row without a bar posts bodies encoded before the clock started.
All take turns in one process; each turn is compared with its neighbour, and the median of these ratios is given.
Needs the contracts of the test kit (`tests/devnet`), which installs itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from eth_abi.abi import decode

from adapters.aave_v3 import AaveV3
from aggregator.app.bench import NotHere
from aggregator.app.config import ChainConfig
from aggregator.app.sources import LiveChain
from aggregator.chain import endpoint
from aggregator.ingest.collect import collect
from aggregator.sdk.adapter import Target, View, Where
from aggregator.store import Store

ACCOUNTS, BAR = 5_000, 1.5
IN_FLIGHT = 16
AGGREGATE3 = "82ad56cb"


class Discovered(AaveV3):
    """Aave v3 whose discovery is over: it names what an earlier one found."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = targets

    async def discover(self, view: View, where: Where, since: int) -> AsyncIterator[Target]:
        for target in self._targets:
            yield target


class Request(NamedTuple):
    """One HTTP request of a run. calls: (to, calldata) of its multicall; any other request is posted as it was."""

    body: bytes
    multicall: str = ""
    block: Any = None
    calls: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> Request:
        asked = json.loads(body)
        if isinstance(asked, dict) and asked["method"] == "eth_call":
            call, block = asked["params"]
            if call["data"][2:10] == AGGREGATE3:
                (calls,) = decode(["(address,bool,bytes)[]"], bytes.fromhex(call["data"][10:]))
                return cls(body, call["to"], block, tuple((to, data) for to, _, data in calls))
        return cls(body)

    def encode(self) -> bytes:
        if not self.calls:
            return self.body
        call = {"to": self.multicall, "data": "0x" + aggregate3(self.calls).hex()}
        asked = {"jsonrpc": "2.0", "id": 0, "method": "eth_call", "params": [call, self.block]}
        return json.dumps(asked, separators=(",", ":")).encode()


def aggregate3(calls: Sequence[tuple[str, bytes]]) -> bytes:
    """Calldata of aggregate3((address,bool,bytes)[]), as anybody would write it down from the ABI's specification."""
    heads, tails, at = [], [], 32 * len(calls)
    for to, data in calls:
        tail = (
            bytes.fromhex(to[2:]).rjust(32, b"\0")
            + (1).to_bytes(32, "big")
            + (96).to_bytes(32, "big")
            + len(data).to_bytes(32, "big")
            + data
            + bytes(-len(data) % 32)
        )
        heads.append(at.to_bytes(32, "big"))
        tails.append(tail)
        at += len(tail)
    count = len(calls).to_bytes(32, "big")
    return bytes.fromhex(AGGREGATE3) + (32).to_bytes(32, "big") + count + b"".join(heads) + b"".join(tails)


class Times(NamedTuple):
    """Seconds of each turn, and the size of the work."""

    ours: list[float]
    bare: list[float]
    posted: list[float]
    requests: int
    calls: int


def benchmarks(quick: bool = True) -> list[dict[str, Any]]:
    from tests.devnet.toolchain import ToolchainUnavailable, toolchain
    from tests.devnet.worlds import aave_crowd

    try:
        tools = toolchain()
    except ToolchainUnavailable as error:
        raise NotHere(f"the local chains of the test kit: {error}") from error
    world = aave_crowd(tools, ACCOUNTS)
    try:
        (row,) = world.deployments
        chain = ChainConfig(row.chain, (world.chains[row.chain].url,), finality="latest", max_per_s=1e9)
        where = Where(row.adapter, chain.source, row.name, {k: v.lower() for k, v in row.addresses.items()}, 0, {})
        with tempfile.TemporaryDirectory() as folder:
            times = asyncio.run(_turns(chain, where, Path(folder), 9 if quick else 25))
    finally:
        world.stop()
    work = f"{ACCOUNTS:,} Aave accounts, {times.calls:,} calls in {times.requests} requests: our run after discovery"
    ours = statistics.median(times.ours)

    def line(name: str, what: str, reference: list[float], bar: float | None) -> dict[str, Any]:
        ratio = statistics.median(a / b for a, b in zip(times.ours, reference, strict=True))
        return {
            "name": name, "what": f"{work} / {what}, s", "ours": ours, "reference": statistics.median(reference),
            "ratio": ratio, "bar": f"<= {bar}" if bar else "none", "holds": not bar or ratio <= bar,
        }  # fmt: skip

    return [
        line("ingest.aave", "a bare client that makes the same multicalls and drops the answers", times.bare, BAR),
        line("ingest.aave.posted", "posting bodies encoded beforehand", times.posted, None),
    ]


async def _turns(chain: ChainConfig, where: Where, folder: Path, turns: int) -> Times:
    source = LiveChain(chain, None)
    view = source.view(await source.pin())
    targets = sorted({t async for t in AaveV3().discover(view, where, 0)})
    await source.close()
    times = Times([], [], [], 0, 0)
    for turn in range(turns + 1):  # the first warms all up
        bodies = list[bytes]()
        ours = await _run(chain, where, targets, folder / f"{turn}.db", bodies)
        requests = [Request.parse(body) for body in bodies]
        bare = await _drop(chain.rpc[0], [request.encode for request in requests])
        posted = await _drop(chain.rpc[0], [lambda body=body: body for body in bodies])
        if turn:
            times.ours.append(ours)
            times.bare.append(bare)
            times.posted.append(posted)
    return times._replace(requests=len(requests), calls=sum(len(request.calls) for request in requests))


async def _run(chain: ChainConfig, where: Where, targets: Sequence[Target], file: Path, bodies: list[bytes]) -> float:
    send = endpoint.send

    async def noted(session: Any, method: str, url: str, body: bytes | None, *rest: Any) -> Any:
        bodies.append(body or b"")
        return await send(session, method, url, body, *rest)

    endpoint.send = noted
    source = LiveChain(chain, None)
    try:
        with Store.open(f"sqlite:///{file}") as store:
            store.migrate()
            begun = time.perf_counter()
            await collect(store, [source], [where], {where.adapter: Discovered(targets)})
            return time.perf_counter() - begun
    finally:
        endpoint.send = send
        await source.close()


async def _drop(url: str, encoders: Sequence[Callable[[], bytes]]) -> float:
    slots = asyncio.Semaphore(IN_FLIGHT)
    async with aiohttp.ClientSession(headers={"content-type": "application/json"}) as session:

        async def one(encode: Callable[[], bytes]) -> None:
            async with slots, session.post(url, data=encode()) as answer:
                await answer.read()

        begun = time.perf_counter()
        await asyncio.gather(*(one(encode) for encode in encoders))
        return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    print(json.dumps(benchmarks(quick=not parser.parse_args().full), indent=1))


if __name__ == "__main__":
    main()
