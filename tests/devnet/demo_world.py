"""The demo's world: a few dozen people and three chains after a quiet week, in sizes that a reader can believe.

What it tells under `eth_down_30`: leveraged ether on two Aave versions is sold into pools of finite depth, the price
gives way, further loans fall under water, their bad debt writes down Aave's USDC suppliers, one of them is a vault, and
its share is collateral on Morpho: worth less now, while its rate, and so the oracle of the loops against it, stands.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tests.devnet import crowds_derivatives, lyra, morpho, perp, uniswap
from tests.devnet.aave import Aave, EMode
from tests.devnet.anvil import start_chains
from tests.devnet.erc4626 import VaultShare
from tests.devnet.morpho import Market, Morpho
from tests.devnet.tokens import Asset, deploy_feed
from tests.devnet.toolchain import Toolchain
from tests.devnet.uniswap import Uniswap
from tests.devnet.worlds import ARBITRUM, DAY, ETHEREUM, OPTIMISM, World, arbitrum_aave, ethereum_aave, wallets

ETH, BTC, STETH = 1_980.0, 41_250.0, 2_321.0  # at the cut
PEOPLE, STALE = 36, "CRV"


class Loan(NamedTuple):
    """health at the cut, before the last week's interest; emode 0 is none."""

    collateral: str
    usd: float
    debt: str
    health: float
    emode: int = 0


ETHEREUM_LOANS = (
    Loan("WETH", 3.22e6, "USDC", 1.09), Loan("WETH", 1.92e6, "USDC", 1.17), Loan("WETH", 3.97e6, "USDC", 1.24),
    Loan("WETH", 2.73e6, "USDC", 1.29), Loan("WETH", 4.65e6, "USDC", 1.34), Loan("WETH", 1.61e6, "USDC", 1.38),
    Loan("WETH", 3.16e6, "USDC", 1.42), Loan("WETH", 4.22e6, "USDC", 1.46), Loan("WETH", 2.42e6, "USDC", 1.51),
    Loan("WETH", 2.91e6, "USDC", 1.57), Loan("WETH", 1.36e6, "DAI", 1.62), Loan("WETH", 5.15e6, "USDC", 1.75),
    Loan("WETH", 8.7e5, "WBTC", 1.9), Loan("WETH", 5.95e6, "USDC", 2.3), Loan("WBTC", 3.41e6, "USDC", 1.31),
    Loan("WBTC", 1.74e6, "USDC", 1.64), Loan("wstETH", 2.48e6, "WETH", 1.04, 1), Loan("wstETH", 1.5e6, "WETH", 1.09, 1),
    Loan("wstETH", 1.98e6, "USDC", 1.33), Loan("DAI", 7.4e5, "WETH", 1.7), Loan("svETH", 9.9e5, "USDC", 1.27),
    Loan("CRV", 1.5e5, "USDC", 1.45), Loan("USDC", 5.6e5, "DAI", 1.045, 2),
)  # fmt: skip
ARBITRUM_LOANS = (
    Loan("WETH", 1.30e6, "USDC", 1.12), Loan("WETH", 8.1e5, "USDC", 1.2), Loan("WETH", 1.80e6, "USDC", 1.28),
    Loan("WETH", 1.05e6, "USDC", 1.36), Loan("WETH", 2.11e6, "USDC", 1.45), Loan("WETH", 1.49e6, "USDC", 1.62),
    Loan("WBTC", 9.3e5, "WETH", 1.4), Loan("ARB", 2.5e5, "USDC", 1.5), Loan("WETH", 3.7e5, "WBTC", 1.06, 1),
    Loan("WETH", 2.54e6, "USDC", 2.1),
)  # fmt: skip
# collateral in USD and health, by market
MORPHO_LOANS = {
    "WBTC/USDC": ((1.8e6, 1.22), (7.0e5, 1.6)),
    "wstETH/WETH": ((2.6e6, 1.03), (1.1e6, 1.06)),
    "svETH/USDC": ((9.0e5, 1.15), (1.5e6, 1.3), (4.0e5, 1.7)),
    "waUSDC/DAI": ((3.4e6, 1.012), (1.9e6, 1.018), (1.2e6, 1.05)),
}


def demo_world(tools: Toolchain) -> World:
    """Always the same, to the last block hash; every feed but one is fresh at the head."""
    world = World(start_chains(tools, ETHEREUM, OPTIMISM, ARBITRUM), wallets(2_026, PEOPLE))
    try:
        for chain in world.chains.values():
            chain.fund(*world.wallets)
        with ThreadPoolExecutor(3) as pool:  # each chain has its own process, connection and generator
            jobs = [pool.submit(build, tools, world) for build in (_ethereum, _optimism, _arbitrum)]
            for job in jobs:
                job.result()
        _meet(world)
    except BaseException:
        world.stop()
        raise
    return world


def _ethereum(tools: Toolchain, world: World) -> None:
    chain, rng = world.chains[ETHEREUM], random.Random("demo ethereum")
    lender, saver, maker, arbitrageur = chain.accounts[1:5]
    usd = {"WETH": ETH, "WBTC": BTC, "wstETH": STETH, STALE: 0.48}
    market, emodes = ethereum_aave(tools, world, usd, saver, 1_450, 61.25)
    weth, usdc, wbtc, steth, dai, crv, share, wrapped = world.assets[ETHEREUM].values()
    assert isinstance(share, VaultShare)
    assert isinstance(wrapped, VaultShare)
    _lend(market, {lender: {"USDC": 2.1e7, "WETH": 8e6, "WBTC": 3e6, "DAI": 4e6}, saver: {"USDC": 5.5e6, "DAI": 1e6}})
    wrapped.deposit(saver, usdc.raw(4_200_000))
    _borrow(market, world.wallets, ETHEREUM_LOANS, emodes, rng)

    blue = world.morpho = morpho.deploy(tools, chain)
    blue.create_market("WBTC/USDC", usdc, wbtc, 0.86)
    blue.create_market("wstETH/WETH", weth, steth, 0.945, fee=0.1)
    blue.create_market("svETH/USDC", usdc, share, 0.77)
    blue.create_market("waUSDC/DAI", dai, wrapped, 0.915)
    for name, loans in MORPHO_LOANS.items():
        _borrow_isolated(blue, blue.markets[name], world.wallets[::3], loans, lender, rng)

    pools = world.uniswap = uniswap.deploy(tools, chain)
    for a, b, fee, low, high, usd in (
        (weth, usdc, 500, 0.2, 5, 8.5e7),
        (weth, usdc, 3_000, 0.2, 5, 2e7),
        (wbtc, usdc, 500, 0.2, 5, 2.5e7),
        (wbtc, weth, 3_000, 0.2, 5, 5e6),
        (steth, weth, 500, 0.85, 1.18, 9e6),
        (dai, usdc, 500, 0.95, 1.05, 6e6),
        (crv, usdc, 3_000, 0.2, 5, 4e5),
    ):
        pools.add_liquidity(maker, pools.create_pool(a, b, fee), low, high, usd)
    _provide(pools, world.wallets, rng)
    chain.warp(7 * DAY)
    share.earn(weth.raw(3.5))
    _prices({weth: ETH, wbtc: BTC, steth: STETH, dai: 0.9996})
    _arbitrage(pools, arbitrageur)


def _optimism(tools: Toolchain, world: World) -> None:
    chain, rng = world.chains[OPTIMISM], random.Random("demo optimism")
    options = world.lyra = lyra.deploy(tools, chain, ETH)
    futures = world.perp = perp.deploy(tools, chain)
    world.assets[OPTIMISM] = {"USDC": futures.collateral}
    for token, symbol, usd in ((options.quote, "sUSD", 1.0), (options.base, "sETH", ETH)):
        feed = deploy_feed(tools, chain, f"{symbol} / USD", usd)
        world.assets[OPTIMISM][symbol] = Asset(symbol, 18, token, feed)
    futures.fund_insurance(15_000)
    futures.list_base("ETH", round(ETH))
    futures.list_base("BTC", round(BTC))
    for days, iv in ((35, 0.78), (63, 0.74)):
        options.create_board(days, iv, (1_500, 1_750, 1_900, 2_000, 2_150, 2_400), (1.2, 1.08, 1.02, 1, 1.01, 1.06))
    writers = crowds_derivatives.LyraPeople(options, rng)
    writers.arrive(world.wallets[:12])
    traders = crowds_derivatives.PerpPeople(futures, rng)
    traders.arrive(world.wallets[4:16], chain.accounts[1], depth_usd=3e6)
    futures.deposit(chain.accounts[6], 5e6)
    traders.arbitrage(chain.accounts[6])
    futures.advance(7 * DAY)
    options.refresh()


def _arbitrum(tools: Toolchain, world: World) -> None:
    chain, rng = world.chains[ARBITRUM], random.Random("demo arbitrum")
    lender, maker, arbitrageur = chain.accounts[1:4]
    market, emodes = arbitrum_aave(tools, world, {"WETH": ETH, "WBTC": BTC, "ARB": 0.82})
    weth, usdc, wbtc, arb = world.assets[ARBITRUM].values()
    _lend(market, {lender: {"USDC": 7e6, "WETH": 3e6, "WBTC": 1e6}})
    _borrow(market, world.wallets[10:], ARBITRUM_LOANS, emodes, rng)
    pools = world.uniswaps[ARBITRUM] = uniswap.deploy(tools, chain)
    for a, b, fee, low, high, usd in (
        (weth, usdc, 500, 0.2, 5, 1.9e7),
        (wbtc, usdc, 500, 0.4, 2.5, 2e6),
        (arb, usdc, 3_000, 0.2, 5, 5e5),
    ):
        pools.add_liquidity(maker, pools.create_pool(a, b, fee), low, high, usd)
    chain.warp(7 * DAY)
    _prices({weth: ETH, wbtc: BTC, arb: 0.8})
    _arbitrage(pools, arbitrageur)


def _meet(world: World) -> None:
    """Bring all chains to one time and refresh every feed but the stale one."""
    now = max(chain.block()["timestamp"] for chain in world.chains.values())
    for number, chain in sorted(world.chains.items()):
        chain.warp(now + 600 - chain.block()["timestamp"])
        for symbol, asset in sorted(world.assets[number].items()):
            if symbol != STALE and not isinstance(asset, VaultShare):  # a share's feed follows its underlying's
                asset.feed.send("set", asset.price_usd_e8)
    if world.perp and world.lyra:
        world.perp.advance(0)
        world.lyra.refresh()


def _prices(usd: dict[Asset, float]) -> None:
    for asset, price in usd.items():
        asset.set_price(price)


def _lend(market: Aave, book: dict[str, dict[str, float]]) -> None:
    for user, supplies in book.items():
        for symbol, usd in supplies.items():
            market.supply(user, symbol, market.asset(symbol).worth(usd))


def _borrow(
    market: Aave, users: Sequence[str], loans: Sequence[Loan], emodes: Sequence[EMode], rng: random.Random
) -> None:
    for user, loan in zip(users, loans, strict=False):
        usd = loan.usd * rng.uniform(0.97, 1.03)
        threshold = market.reserves[loan.collateral].threshold_bps
        if loan.emode:
            market.set_emode(user, loan.emode)
            threshold = next(e.threshold_bps for e in emodes if e.id == loan.emode)
        market.supply(user, loan.collateral, market.asset(loan.collateral).worth(usd))
        market.borrow(user, loan.debt, market.asset(loan.debt).worth(usd * threshold / 1e4 / loan.health))


def _borrow_isolated(
    blue: Morpho, market: Market, users: Sequence[str], loans: Sequence[tuple[float, float]], lender: str,
    rng: random.Random,
) -> None:  # fmt: skip
    """Twice as much lent as borrowed (the rate per year is the utilisation), then the loans."""
    asked = sum(usd / health for usd, health in loans)
    blue.supply(lender, market, market.loan.worth(2 * asked))
    for user, (usd, health) in zip(users, loans, strict=False):
        raw = _pledge(blue, market, user, usd * rng.uniform(0.97, 1.03))
        limit = raw * market.oracle.call("price") // 10**36 * market.lltv_e18 // 10**18
        blue.borrow(user, market, int(limit / health))


def _pledge(blue: Morpho, market: Market, user: str, usd: float) -> int:
    """Collateral posted, in smallest units; vault shares are bought by depositing, for their price never rests."""
    asset = market.collateral
    if not isinstance(asset, VaultShare):
        blue.supply_collateral(user, market, asset.worth(usd))
        return asset.worth(usd)
    asset.deposit(user, asset.underlying.worth(usd))
    raw: int = asset.token.call("balanceOf", user)
    asset.approve(user, blue.contract)
    blue.contract.send("supplyCollateral", market.params, raw, user, b"", sender=user)
    return raw


def _provide(pools: Uniswap, users: Sequence[str], rng: random.Random) -> None:
    for i, pool in enumerate(pools.pools.values()):
        for user in users[i::9]:
            low = rng.uniform(0.75, 0.95)
            pools.add_liquidity(user, pool, low, low + rng.uniform(0.1, 0.5), rng.uniform(2e4, 2e5))


def _arbitrage(pools: Uniswap, trader: str) -> None:
    for pool in pools.pools.values():
        if pool.contract.call("slot0")[0] != uniswap.feed_root(pool.token0, pool.token1):
            pools.follow_feeds(trader, pool)
