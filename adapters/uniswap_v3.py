"""Uniswap v3: depth from every initialised tick, LP positions as claims on the two tokens, uncollected fees.

Pools are listed (`pools`), or all that the factory has between any two of `tokens`; without either, all it ever made.
Positions are the NFTs of the position manager; liquidity that others hold in a pool directly is a Gap.
Source: Uniswap/v3-core 1.0.1 (UniswapV3Pool, Tick, TickBitmap), v3-periphery 1.4.4 (NonfungiblePositionManager).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from aggregator.core.fixed import plain
from aggregator.core.ids import erc20, erc721
from aggregator.core.rows import Asset, Claim, Depth, Exposure, Gap, Market, PositionRow, Row, Term
from aggregator.sdk.adapter import Adapter, Answer, Call, Revert, Target, View, Where
from aggregator.sdk.amm import fee_growth_inside, fees_owed, position_amounts
from aggregator.sdk.rows import ZERO, ask, assets, fill, gap, need

FEES = (100, 200, 300, 400, 500, 3_000, 10_000)  # pips; UniswapV3Factory and what its owner has enabled since
MAX_TICK = 887272
CHUNK = 10_000  # positions looked up together: the manager serves all pools of a chain, a million tokens on the largest
CREATED = "PoolCreated(address indexed token0,address indexed token1,uint24 indexed fee,int24 tickSpacing,address pool)"
EVENTS = (
    "IncreaseLiquidity(uint256 indexed tokenId,uint128 liquidity,uint256 amount0,uint256 amount1)",
    "DecreaseLiquidity(uint256 indexed tokenId,uint128 liquidity,uint256 amount0,uint256 amount1)",
    "Transfer(address indexed from,address indexed to,uint256 indexed tokenId)",
)
POOL = {
    "token0": "token0()(address)",
    "token1": "token1()(address)",
    "fee_pips": "fee()(uint24)",
    "tick_spacing": "tickSpacing()(int24)",
    "slot0": "slot0()(uint160,int24,uint16,uint16,uint16,uint8,bool)",
    "liquidity": "liquidity()(uint128)",
    "growth0": "feeGrowthGlobal0X128()(uint256)",
    "growth1": "feeGrowthGlobal1X128()(uint256)",
}
TICK = "ticks(int24)(uint128,int128,uint256,uint256,int56,uint160,uint32,bool)"  # gross, net, growth outside 0, 1
# nonce, operator, token0, token1, fee, lower, upper, liquidity, growth inside last 0, 1, owed 0, 1
POSITION = (
    "positions(uint256)(uint96,address,address,address,uint24,int24,int24,uint128,uint256,uint256,uint128,uint128)"
)
BURNED = "Invalid token ID"  # what the position manager says of a token that is no more
FIX = "check the pools, chain and addresses in config/deployments/uniswap_v3.toml"


class Pool(NamedTuple):
    """State of one pool; `got` are the answers behind it, by the names of POOL."""

    address: str
    market: str
    tokens: tuple[str, str]
    fee_pips: int
    tick_spacing: int
    sqrt_x96: int
    tick: int
    liquidity: int
    got: dict[str, Answer]


class UniswapV3(Adapter):
    name = "uniswap_v3"

    async def discover(self, view: View, where: Where, since: int) -> AsyncIterator[Target]:
        known_pools = {m.market.rsplit("/", 1)[1] for m in where.markets}
        pools, tokens, made = where.listed("pools"), where.listed("tokens"), set[str]()
        addresses = known_pools.union(pools)
        if tokens:
            sig, factory = "getPool(address,address,uint24)(address)", where.address("factory")
            pairs = [(a, b, fee) for a, b in combinations(tokens, 2) for fee in FEES]
            answers = await view.calls([Call(factory, sig, pair) for pair in pairs])
            addresses |= {need(answer, "getPool of the factory", FIX).value for answer in answers} - {ZERO}
        elif not pools:
            made = await _made(view, where, since)
            addresses |= made
        if "nonfungible_position_manager" in where.addresses and addresses:
            old = addresses - known_pools - made if since > where.start_block else set()
            if old and "factory" in where.addresses:
                old -= await _made(view, where, since)
            # a pool that was configured later has positions older than what was read last
            async for target in _found(view, where, sorted(addresses), where.start_block if old else since):
                yield target
        for address in sorted(addresses):
            yield Target(f"{where.id}/{address}")

    async def terms(self, view: View, where: Where) -> AsyncIterator[Row]:
        pools = await _pools(view, where, [m.market.rsplit("/", 1)[1] for m in where.markets])
        if not pools:  # a factory without pools, or no factory at all
            need((await view.calls([Call(where.address("factory"), "owner()(address)")]))[0], "the factory", FIX)
        for row in (await assets(view, [t for p in pools for t in p.tokens])).rows:
            yield row
        reserves = [{t: Call(t, "balanceOf(address)(uint256)", (p.address,)) for t in p.tokens} for p in pools]
        for pool, held in zip(pools, await ask(view, reserves), strict=True):
            for row in _pool_rows(where, pool, held):
                yield row
            async for depth in _depth(view, pool):
                yield depth
            async for row in _positions(view, where, pool):
                yield row

    async def read(self, view: View, where: Where, targets: Sequence[Target]) -> AsyncIterator[PositionRow | Gap]:
        wanted = [t for t in targets if t.ref]
        manager = where.address("nonfungible_position_manager") if wanted else ""
        sigs = {"position": POSITION, "owner": "ownerOf(uint256)(address)"}
        asked = await ask(view, [{k: Call(manager, sig, (int(t.ref),)) for k, sig in sigs.items()} for t in wanted])
        for t, got in zip(wanted, asked, strict=True):
            position, owner = got["position"], got["owner"]
            asset = erc721(where.chain, manager, int(t.ref))
            if isinstance(position, Revert) or isinstance(owner, Revert):
                failed = [(a, sigs[k]) for k, a in got.items() if isinstance(a, Revert)]
                if not any(BURNED in a.reason for a, _ in failed):
                    yield gap(failed[0][0], asset, failed[0][1], accounts=1)
            elif liquidity := position.values[7]:
                yield Exposure(t.market, owner.value, t.ref, asset, "supply", liquidity, position.src(7))


ADAPTER = UniswapV3()


async def _made(view: View, where: Where, since: int) -> set[str]:
    """Pools that the factory made from `since` on."""
    return {log.args["pool"] async for log in view.logs([where.address("factory")], [CREATED], since)}


async def _found(view: View, where: Where, addresses: Sequence[str], since: int) -> AsyncIterator[Target]:
    """Positions that the manager's events name: known ones, and new ones in these pools."""
    manager = where.address("nonfungible_position_manager")
    touched = {log.args["tokenId"]: "" async for log in view.logs([manager], EVENTS, since)}
    known = {int(t.ref): t for t in where.targets if t.ref}
    for i in touched:
        if i in known:
            yield known[i]
    new = [i for i in touched if i not in known]
    markets = {(*p.tokens, p.fee_pips): p.market for p in await _pools(view, where, addresses)}
    for first in range(0, len(new), CHUNK):
        ids = new[first : first + CHUNK]
        answers = await view.calls([Call(manager, POSITION, (i,)) for i in ids])
        for i, answer in zip(ids, answers, strict=True):
            if isinstance(answer, Answer) and (market := markets.get(answer.values[2:5])):
                yield Target(market, ref=str(i))


async def _pools(view: View, where: Where, addresses: Sequence[str]) -> list[Pool]:
    asked = await ask(view, [{key: Call(address, sig) for key, sig in POOL.items()} for address in addresses])
    pools = []
    for address, answers in zip(addresses, asked, strict=True):
        got = {key: need(answer, f"{key} of pool {address}", FIX) for key, answer in answers.items()}
        value = {key: answer.value for key, answer in got.items()}
        tokens = (value["token0"], value["token1"])
        sqrt_x96, tick = got["slot0"].values[:2]
        pools.append(
            Pool(
                address, f"{where.id}/{address}", tokens, value["fee_pips"], value["tick_spacing"],
                sqrt_x96, tick, value["liquidity"], got,
            )
        )  # fmt: skip
    return pools


def _pool_rows(where: Where, pool: Pool, held: dict[str, Answer | Revert]) -> Iterator[Row]:
    market = pool.market
    yield Market(market, "amm", "", f"{plain(pool.fee_pips, 4)} %", pool.got["token0"].src())
    for key in ("fee_pips", "tick_spacing", "liquidity"):
        yield fill(pool.got[key], Term(market, "", "", key, 0, 0), market, key)
    for word, key in enumerate(("sqrt_price_x96", "tick")):
        yield fill(pool.got["slot0"], Term(market, "", "", key, 0, 0), market, key, word)
    for index, token in enumerate(pool.tokens):
        asset = erc20(where.chain, token)
        yield fill(held[token], Term(market, asset, "", "reserve", 0, 0), market, "reserve")
        yield Term(market, asset, "", "token_index", index, 0, pool.got[f"token{index}"].src())


async def _depth(view: View, pool: Pool) -> AsyncIterator[Depth | Gap]:
    """Every initialised tick, through all words of the bitmap: no lens, no end to the search."""
    last = MAX_TICK // pool.tick_spacing >> 8
    first = -(MAX_TICK // pool.tick_spacing) >> 8
    words = range(first, last + 1)
    bitmap = await view.calls([Call(pool.address, "tickBitmap(int16)(uint256)", (word,)) for word in words])
    ticks = []
    for word, bits in zip(words, bitmap, strict=True):
        if isinstance(bits, Revert):
            yield gap(bits, pool.market, f"tickBitmap({word})")
        else:
            ticks += [(word * 256 + b) * pool.tick_spacing for b in range(256) if bits.value >> b & 1]
    for tick, answer in zip(ticks, await view.calls([Call(pool.address, TICK, (t,)) for t in ticks]), strict=True):
        if isinstance(answer, Revert):
            yield gap(answer, pool.market, f"ticks({tick})")
        else:
            yield Depth(pool.market, "tick", "", tick, answer.values[1], answer.src(1))


async def _positions(view: View, where: Where, pool: Pool) -> AsyncIterator[Row]:
    """Claims and uncollected fees of all known positions in the pool, and what liquidity belongs to none of them."""
    ids = [int(t.ref) for t in where.targets if t.market == pool.market and t.ref]
    manager = where.address("nonfungible_position_manager") if ids else ""
    answers = await view.calls([Call(manager, POSITION, (i,)) for i in ids])
    live = [(i, a) for i, a in zip(ids, answers, strict=True) if isinstance(a, Answer)]
    bounds = sorted({tick for _, a in live for tick in a.values[5:7]})
    (outside,) = await ask(view, [{str(tick): Call(pool.address, TICK, (tick,)) for tick in bounds}])
    in_range = 0
    for i, answer in live:
        lower, upper, liquidity = answer.values[5:8]
        in_range += liquidity if lower <= pool.tick < upper else 0
        nft = erc721(where.chain, manager, i)
        if liquidity:  # its unit is liquidity, which has no decimals
            yield Asset(nft, "UNI-V3-POS", 0, f"position {i} in {pool.market}", answer.src(7))
        amounts = position_amounts(pool.sqrt_x96, lower, upper, liquidity)
        edges = [need(outside[str(tick)], f"ticks({tick}) of {pool.address}", FIX).values for tick in (lower, upper)]
        for n, token in enumerate(pool.tokens):
            if liquidity:
                asset, src = erc20(where.chain, token), answer.src(7)
                yield Claim(nft, asset, "lp", amounts[n], liquidity, pool.market, lower, upper, src)
            growth = pool.got[f"growth{n}"].value
            inside = fee_growth_inside(pool.tick, lower, upper, growth, edges[0][2 + n], edges[1][2 + n])
            fees = fees_owed(liquidity, inside, answer.values[8 + n], answer.values[10 + n])
            yield Term(pool.market, nft, "", f"fees{n}", fees, 0, answer.src(10 + n))
    if in_range < pool.liquidity:
        detail = (
            f"{pool.liquidity - in_range} of {pool.liquidity} liquidity in range is held outside the position manager"
        )
        yield Gap(pool.market, "unlisted_accounts", detail, src=pool.got["liquidity"].src())
