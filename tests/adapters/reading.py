"""Read a deployment of a local chain as an aggregation run does: real pool, real multicall, real snapshot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aggregator.chain.pool import RpcPool
from aggregator.chain.recording import Recording
from aggregator.core.account import Account
from aggregator.core.block import BlockRef, Cut
from aggregator.core.rows import POSITION_KINDS, AccountTerm, Asset, Depth, Exposure, Price, Row, Total
from aggregator.core.source import CallSource, read_source
from aggregator.core.table import raw_tables
from aggregator.sdk.adapter import Adapter, Target, View, Where
from aggregator.sdk.testing import assert_slices_agree, collect_rows, discover
from aggregator.sdk.view import ChainView, ReplayView
from aggregator.snapshot.accounts import accounts
from aggregator.snapshot.snapshot import Snapshot, build
from tests.devnet.anvil import MULTICALL3, Chain
from tests.devnet.worlds import World


class Reading(NamedTuple):
    """One whole run over one deployment. `where` holds all targets found."""

    where: Where
    at: BlockRef
    rows: list[Row]

    def of(self, kind: type[Any], **equals: object) -> list[Any]:
        """Rows of a kind whose fields equal what is given."""
        return [r for r in self.rows if type(r) is kind and all(getattr(r, k) == v for k, v in equals.items())]

    def one(self, kind: type[Any], **equals: object) -> Any:
        (row,) = self.of(kind, **equals)
        return row

    @property
    def snapshot(self) -> Snapshot:
        assets = [r for r in self.rows if isinstance(r, Asset)]
        return build(raw_tables([(self.where.id, r) for r in self.rows]), Cut.of([self.at]), assets)

    @property
    def accounts(self) -> list[Account]:
        return list(accounts(self.snapshot))


def where_is(world: World, adapter: str, chain: int, name: str = "", **options: Any) -> Where:
    """The world's deployment of an adapter (of that name, if it has several)."""
    (found,) = [d for d in world.deployments if d.adapter == adapter and d.chain == chain and name in ("", d.name)]
    return at_address(adapter, chain, found.addresses, found.name, **options)


def at_address(adapter: str, chain: int, addresses: Mapping[str, str], name: str = "test", **options: Any) -> Where:
    return Where(adapter, f"eip155:{chain}", name, {k: v.lower() for k, v in addresses.items()}, 0, options)


@asynccontextmanager
async def viewing(chain: Chain, recorder: Recording | None = None) -> AsyncIterator[ChainView]:
    """A view of the latest block."""
    async with RpcPool(chain.chain_id, [chain.url]) as pool:
        yield ChainView(pool, await pool.pin("latest"), MULTICALL3, recorder)


async def read(adapter: Adapter, chain: Chain, where: Where) -> Reading:
    """Everything, from the first block to the latest."""
    async with viewing(chain) as view:
        return await read_view(adapter, view, where)


async def read_view(adapter: Adapter, view: View, where: Where) -> Reading:
    known = await discover(adapter, view, where)
    return Reading(known, view.at, await collect_rows(adapter, view, where))


async def assert_replays(adapter: Adapter, chain: Chain, where: Where, file: Path) -> None:
    """Recorded, saved and replayed twice, in slices of any size and order: the same rows and the same digest."""
    recording = Recording()
    async with viewing(chain, recording) as view:
        live = await read_view(adapter, view, where)
    recording.save(file)
    replays = []
    for _ in range(2):
        loaded = Recording.load(file)
        replay = ReplayView(loaded, loaded.at(where.source))
        assert await assert_slices_agree(adapter, replay, where) == live.rows
        replays.append((await read_view(adapter, replay, where)).snapshot.digest)
    assert replays == [live.snapshot.digest] * 2


async def assert_incremental(adapter: Adapter, chain: Chain, before: Reading) -> Reading:
    """Reading only what events touched since `before` gives the positions of a full read. Returns the full reading."""
    async with viewing(chain) as view:
        touched = {t async for t in adapter.discover(view, before.where, before.at.number + 1)}
        known = await discover(adapter, view, before.where, before.at.number + 1)
        accounts = sorted(t for t in touched if t.holder or t.ref)
        kept = [r for r in before.rows if isinstance(r, POSITION_KINDS) and not any(_belongs(r, t) for t in accounts)]
        kept += [r async for r in adapter.read(view, known, accounts) if isinstance(r, POSITION_KINDS)]
        full = await read_view(adapter, view, before.where._replace(markets=(), targets=()))
        cut_rows = [r async for r in adapter.terms(view, known)]
    # a position that is dead by now is known to the one and not to the other; neither has rows of it
    assert known.markets == full.where.markets
    assert set(full.where.targets) <= set(known.targets)
    assert sorted(map(repr, kept)) == sorted(repr(r) for r in full.rows if isinstance(r, POSITION_KINDS))
    assert cut_rows == [r for r in full.rows if not isinstance(r, POSITION_KINDS)]
    return full


def _belongs(row: Any, target: Target) -> bool:
    """As the store matches rows to targets: by the target's fields that are not empty."""
    return row.market == target.market and target.holder in ("", row.holder) and target.ref in ("", row.ref)


def sums(reading: Reading, kind: type[Any], field: str) -> dict[tuple[str, str, str], int]:
    """Total of a field by (market, asset, side), collateral counted with supply."""
    out: dict[tuple[str, str, str], int] = defaultdict(int)
    for row in reading.of(kind):
        out[row.market, row.asset, "debt" if row.side == "debt" else "supply"] += getattr(row, field)
    return dict(out)


def assert_sources(reading: Reading, chain: Chain) -> int:
    """The call that a row names, made again at the block as a plain eth_call, answers the row's own integer.

    Returns how many calls were made again.
    """
    numbers = {Exposure: "shares", AccountTerm: "raw", Total: "raw", Price: "raw", Depth: "raw"}
    asked: dict[bytes, bytes] = {}
    for row in reading.rows:
        source = read_source(row.src)
        if source is None or type(row) not in numbers:
            continue
        assert isinstance(source, CallSource)
        key = row.src[2:]
        if key not in asked:
            asked[key] = chain.eth_call(source.to, "0x" + source.data.hex(), reading.at.hash)
        word = asked[key][32 * source.word : 32 * source.word + 32]
        raw = getattr(row, numbers[type(row)])
        assert int.from_bytes(word, "big", signed=raw < 0) == raw, row
    return len(asked)
