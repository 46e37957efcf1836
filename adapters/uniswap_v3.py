"""Uniswap v3: depth from every initialised tick, LP positions as claims on the two tokens, uncollected fees.

Pools are listed (`pools`), or all that the factory has between any two of `tokens`; without either, all it ever made.
Positions are the NFTs of the position manager: claims on what burning them pays (kind lp) and on what they have yet to
collect (kind receipt). Liquidity that others hold in a pool directly is a Gap, and so is what is owed to a position
without liquidity.
Source: Uniswap/v3-core 1.0.1 (UniswapV3Pool, Tick, TickBitmap), v3-periphery 1.4.4 (NonfungiblePositionManager).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import accumulate, combinations, pairwise
from typing import NamedTuple

from aggregator.core.fixed import plain
from aggregator.core.ids import erc20, erc721
from aggregator.core.rows import Asset, Claim, Depth, Exposure, Gap, Market, PositionRow, Row, Term
from aggregator.sdk.adapter import Adapter, Answer, Call, Got, Revert, Target, View, Where
from aggregator.sdk.amm import fee_growth_inside, fees_owed, position_amounts
from aggregator.sdk.rows import ask, demand, fill, gap, need, questions
from aggregator.sdk.tokens import BALANCE_OF, OWNER_OF, ZERO, assets

FEES = (100, 200, 300, 400, 500, 3_000, 10_000)  # pips; UniswapV3Factory and what its owner has enabled since
MAX_TICK = 887272
CHUNK = 10_000  # positions looked up together: the manager serves all pools of a chain, a million tokens on the largest
GET_POOL = "getPool(address,address,uint24)(address)"
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
BITMAP = "tickBitmap(int16)(uint256)"
TICK = "ticks(int24)(uint128,int128,uint256,uint256,int56,uint160,uint32,bool)"  # gross, net, growth outside 0, 1
# nonce, operator, token0, token1, fee, lower, upper, liquidity, growth inside last 0, 1, owed 0, 1
POSITION = (
    "positions(uint256)(uint96,address,address,address,uint24,int24,int24,uint128,uint256,uint256,uint128,uint128)"
)
NFT = {"position": POSITION, "owner": OWNER_OF}
BURNED = "Invalid token ID"  # what the position manager says of a token that is no more


class Pool(NamedTuple):
    """State of one pool: its answers by the names of POOL."""

    address: str
    market: str
    got: dict[str, Answer]

    @property
    def tokens(self) -> tuple[str, str]:
        return self.got["token0"].value, self.got["token1"].value


class UniswapV3(Adapter):
    name = "uniswap_v3"
    addresses = ("factory", "nonfungible_position_manager")
    options = ("tokens", "pools")
    required = (("factory", "pools"),)

    async def discover(self, view: View, where: Where, since: int) -> AsyncIterator[Target]:
        known_pools = {m.key for m in where.markets}
        pools, tokens, made = where.listed("pools"), where.listed("tokens"), set[str]()
        addresses = known_pools.union(pools)
        if tokens:
            factory = where.address("factory")
            asked = [Call(factory, GET_POOL, (*pair, fee)) for pair in combinations(tokens, 2) for fee in FEES]
            answers = await view.calls(asked)
            addresses |= {need(answer, "getPool of the factory", where).value for answer in answers} - {ZERO}
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
            yield Target(where.market_id(address))

    async def terms(self, view: View, where: Where) -> AsyncIterator[Row]:
        pools = await _pools(view, where, [m.key for m in where.markets])
        if not pools:  # a factory without pools, or no factory at all
            await demand(view, where, [{"owner": Call(where.address("factory"), "owner()(address)")}])
        for row in (await assets(view, [t for p in pools for t in p.tokens])).rows:
            yield row
        reserves = [{t: Call(t, BALANCE_OF, (p.address,)) for t in p.tokens} for p in pools]
        for pool, held in zip(pools, await ask(view, reserves), strict=True):
            for row in _pool_rows(where, pool, held):
                yield row
            steps = [step async for step in _depth(view, pool)]
            for step in steps:
                yield step
            nets = {step.point: step.raw for step in steps if isinstance(step, Depth)}
            async for row in _positions(view, where, pool, nets if len(nets) == len(steps) else None):
                yield row

    async def read(self, view: View, where: Where, targets: Sequence[Target]) -> AsyncIterator[PositionRow | Gap]:
        wanted = [t for t in targets if t.ref]
        manager = where.address("nonfungible_position_manager") if wanted else ""
        asked = await ask(view, [questions(manager, NFT, int(t.ref)) for t in wanted])
        for t, got in zip(wanted, asked, strict=True):
            position, owner = got["position"], got["owner"]
            asset = erc721(where.chain, manager, int(t.ref))
            if isinstance(position, Revert) or isinstance(owner, Revert):
                failed = [(a, NFT[name]) for name, a in got.items() if isinstance(a, Revert)]
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
    pools = await _pools(view, where, addresses)
    markets = {(*p.tokens, p.got["fee_pips"].value): p.market for p in pools}
    for first in range(0, len(new), CHUNK):
        ids = new[first : first + CHUNK]
        answers = await view.calls([Call(manager, POSITION, (i,)) for i in ids])
        for i, answer in zip(ids, answers, strict=True):
            if isinstance(answer, Answer) and (market := markets.get(answer.values[2:5])):
                yield Target(market, ref=str(i))


async def _pools(view: View, where: Where, addresses: Sequence[str]) -> list[Pool]:
    asked = await demand(view, where, [questions(address, POOL) for address in addresses])
    return [Pool(address, where.market_id(address), got) for address, got in zip(addresses, asked, strict=True)]


def _pool_rows(where: Where, pool: Pool, held: dict[str, Got]) -> Iterator[Row]:
    market = pool.market
    yield Market(market, "amm", "", f"{plain(pool.got['fee_pips'].value, 4)} %", pool.got["token0"].src())
    for key in ("fee_pips", "tick_spacing", "liquidity"):
        yield fill(pool.got[key], Term(market, "", "", key, 0, 0))
    for word, key in enumerate(("sqrt_price_x96", "tick")):
        yield fill(pool.got["slot0"], Term(market, "", "", key, 0, 0), word)
    for index, token in enumerate(pool.tokens):
        asset = erc20(where.chain, token)
        yield fill(held[token], Term(market, asset, "", "reserve", 0, 0), subject=market)
        yield Term(market, asset, "", "token_index", index, 0, pool.got[f"token{index}"].src())


async def _depth(view: View, pool: Pool) -> AsyncIterator[Depth | Gap]:
    """Every initialised tick, through all words of the bitmap: no lens, no end to the search."""
    spacing = pool.got["tick_spacing"].value
    last = MAX_TICK // spacing
    words = range(-last >> 8, (last >> 8) + 1)
    (bitmap,) = await ask(view, [{word: Call(pool.address, BITMAP, (word,)) for word in words}])
    ticks = list[int]()
    for word, bits in bitmap.items():
        if isinstance(bits, Revert):
            yield gap(bits, pool.market, f"tickBitmap({word})")
        else:
            ticks += [(word * 256 + b) * spacing for b in range(256) if bits.value >> b & 1]
    (found,) = await ask(view, [{tick: Call(pool.address, TICK, (tick,)) for tick in ticks}])
    for tick, answer in found.items():
        if isinstance(answer, Revert):
            yield gap(answer, pool.market, f"ticks({tick})")
        else:
            yield Depth(pool.market, "tick", "", tick, answer.values[1], answer.src(1))


async def _positions(view: View, where: Where, pool: Pool, nets: Mapping[int, int] | None) -> AsyncIterator[Row]:
    """Claims and uncollected fees of all known positions in the pool, and what liquidity belongs to none of them.

    nets: tick -> liquidityNet of the pool; None where a Gap stands for some of it.
    """
    ids = [int(t.ref) for t in where.targets if t.market == pool.market and t.ref]
    manager = where.address("nonfungible_position_manager") if ids else ""
    answers = await view.calls([Call(manager, POSITION, (i,)) for i in ids])
    live = [(i, a) for i, a in zip(ids, answers, strict=True) if isinstance(a, Answer)]
    bounds = sorted({tick for _, a in live for tick in a.values[5:7]})
    (outside,) = await demand(view, where, [{edge: Call(pool.address, TICK, (edge,)) for edge in bounds}])
    sqrt_x96, tick, *_ = pool.got["slot0"].values
    others, left = Counter(nets or {}), list[tuple[int, int]]()
    for i, answer in live:
        lower, upper, liquidity = answer.values[5:8]
        others[lower] -= liquidity
        others[upper] += liquidity
        nft = erc721(where.chain, manager, i)
        if liquidity:  # its unit is liquidity, which has no decimals
            yield Asset(nft, "UNI-V3-POS", 0, f"position {i} in {pool.market}", answer.src(7))
        amounts = position_amounts(sqrt_x96, lower, upper, liquidity)
        below, above = outside[lower].values, outside[upper].values
        owed = list[int]()
        for n, token in enumerate(pool.tokens):
            asset, growth = erc20(where.chain, token), pool.got[f"growth{n}"].value
            inside = fee_growth_inside(tick, lower, upper, growth, below[2 + n], above[2 + n])
            owed.append(fees := fees_owed(liquidity, inside, answer.values[8 + n], answer.values[10 + n]))
            if liquidity:
                yield Claim(nft, asset, "lp", amounts[n], liquidity, pool.market, lower, upper, answer.src(7))
            if liquidity and fees:
                yield Claim(nft, asset, "receipt", fees, liquidity, pool.market, src=answer.src(10 + n))
            yield Term(pool.market, nft, "", f"fees{n}", fees, 0, answer.src(10 + n))
        if not liquidity and any(owed):
            left.append((owed[0], owed[1]))
    if left:  # nobody's event tells when these are collected, so their owners are not kept
        detail = f"positions without liquidity are owed {_of(pool, [sum(n) for n in zip(*left, strict=True)])}"
        yield Gap(pool.market, "unlisted_accounts", detail, len(left))
    for row in _unlisted(pool, others) if nets is not None else ():
        yield row


def _unlisted(pool: Pool, nets: Mapping[int, int]) -> Iterator[Gap]:
    """What stands in the pool beyond the positions that the manager knows. nets: tick -> net liquidity of others."""
    ticks, sqrt_x96 = sorted(nets), pool.got["slot0"].values[0]
    held = accumulate(nets[tick] for tick in ticks)
    ranges = [(*edges, more) for edges, more in zip(pairwise(ticks), held, strict=False) if more > 0]
    if ranges:
        active, now = pool.got["liquidity"], pool.got["slot0"].values[1]
        here = sum(more for lower, upper, more in ranges if lower <= now < upper)
        amounts = [sum(n) for n in zip(*(position_amounts(sqrt_x96, *one) for one in ranges), strict=True)]
        detail = f"{here} of {active.value} liquidity in range, in all {_of(pool, amounts)}"
        yield Gap(pool.market, "unlisted_accounts", f"{detail}, is held outside the position manager", src=active.src())


def _of(pool: Pool, amounts: Sequence[int]) -> str:
    return " and ".join(f"{raw} raw of {token}" for raw, token in zip(amounts, pool.tokens, strict=True))
