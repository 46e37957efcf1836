"""Whole chains with people on them. The same seed gives the same addresses, amounts, blocks and block hashes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from eth_utils.crypto import keccak

from tests.devnet import aave_v30, aave_v36, crowds, crowds_derivatives, lyra, morpho, perp, uniswap
from tests.devnet.aave import Aave, Curve, EMode, Reserve
from tests.devnet.anvil import Chain, start_chains
from tests.devnet.contract import checksum
from tests.devnet.erc4626 import VaultShare, a_token, deploy_vault
from tests.devnet.lyra import Lyra
from tests.devnet.morpho import Morpho
from tests.devnet.perp import Perp
from tests.devnet.tokens import Asset, deploy_asset
from tests.devnet.toolchain import Toolchain
from tests.devnet.uniswap import Uniswap

DAY = 86_400
ETHEREUM, OPTIMISM, ARBITRUM = 1, 10, 42161
STEEP, GENTLE = Curve(4_500, 0, 700, 30_000), Curve(9_000, 0, 550, 6_000)


@dataclass(frozen=True)
class Deployment:
    """One `[[deployments]]` row of our configuration."""

    adapter: str
    chain: int
    name: str
    addresses: Mapping[str, str]
    start_block: int = 0


@dataclass(eq=False)
class World:
    """Running chains and what stands on them. `wallets` exist on every chain.

    `assets[chain][symbol]` has token and feed; a protocol that a world lacks is None or empty.
    """

    chains: dict[int, Chain]
    wallets: Sequence[str]
    assets: dict[int, dict[str, Asset]] = field(default_factory=dict)
    aave: dict[int, Aave] = field(default_factory=dict)
    morpho: Morpho | None = None
    uniswap: Uniswap | None = None
    uniswaps: dict[int, Uniswap] = field(default_factory=dict)  # on other chains
    vaults: dict[str, VaultShare] = field(default_factory=dict)
    lyra: Lyra | None = None
    perp: Perp | None = None

    @property
    def deployments(self) -> list[Deployment]:
        """Everything that an adapter of ours can read here, price feeds aside (see `feeds`)."""
        rows = [Deployment("aave_v3", c, f"v{m.version}", m.addresses) for c, m in self.aave.items()]
        if self.morpho:
            rows.append(Deployment("morpho_blue", ETHEREUM, "blue", self.morpho.addresses))
        if self.uniswap:
            rows.append(Deployment("uniswap_v3", ETHEREUM, "v3", self.uniswap.addresses))
        rows += [Deployment("uniswap_v3", c, "v3", u.addresses) for c, u in self.uniswaps.items()]
        if self.lyra:
            rows.append(Deployment("lyra_v1", OPTIMISM, "eth", self.lyra.addresses))
        if self.perp:
            rows.append(Deployment("perp_curie", OPTIMISM, "curie", self.perp.addresses))
        rows += [Deployment("erc4626", ETHEREUM, v.symbol, v.addresses) for v in self.vaults.values()]
        return rows

    def feeds(self, chain: int) -> dict[str, str]:
        """Price feed address by token address (both checksummed)."""
        return {a.address: a.feed.address for a in self.assets.get(chain, {}).values()}

    def snapshot(self) -> dict[int, str]:
        return {c: chain.snapshot() for c, chain in self.chains.items()}

    def revert(self, marks: Mapping[int, str]) -> None:
        for c, mark in marks.items():
            self.chains[c].revert(mark)

    def stop(self) -> None:
        for chain in self.chains.values():
            chain.stop()


def wallets(seed: int, count: int) -> list[str]:
    """Addresses that nobody has a key for; anvil lets us send from them all the same."""
    return [checksum("0x" + keccak(text=f"wallet {seed} {i}")[-20:].hex()) for i in range(count)]


def three_chains(tools: Toolchain, seed: int = 1, people: int = 20) -> World:
    """Ethereum: Aave v3.6, Morpho Blue, Uniswap v3, vaults. Optimism: Lyra v1, Perp Curie. Arbitrum: Aave v3.0.
    The same people are on each.

    People are of every kind in turn (`crowds.KINDS`): multi-asset, e-mode, whales, dust, no debt, all repaid,
    collateral switched off, moved receipt tokens, nearly or wholly underwater after the price moves. Interest has
    accrued; some were liquidated and some should be.
    """
    world = World(start_chains(tools, ETHEREUM, OPTIMISM, ARBITRUM), wallets(seed, people))
    try:
        for chain in world.chains.values():
            chain.fund(*world.wallets)
        with ThreadPoolExecutor(3) as pool:  # each chain has its own process, connection and generator
            builders = (_ethereum, _optimism, _arbitrum)
            jobs = [pool.submit(b, tools, world, random.Random(f"{seed} {b.__name__[1:]}")) for b in builders]
            for job in jobs:
                job.result()
    except BaseException:
        world.stop()
        raise
    return world


def aave_crowd(tools: Toolchain, accounts: int, version: str = "3.6") -> World:
    """One chain, one Aave market, `accounts` borrowers with WETH against USDC, populated in bulk."""
    world = World(start_chains(tools, ETHEREUM), wallets(0, accounts))
    try:
        chain = world.chains[ETHEREUM]
        reserves = standard_reserves(tools, chain)
        deploy = aave_v36.deploy if version == "3.6" else aave_v30.deploy
        market = world.aave[ETHEREUM] = deploy(tools, chain, reserves)
        world.assets[ETHEREUM] = {r.asset.symbol: r.asset for r in reserves}
        market.supply(chain.accounts[1], "USDC", market.asset("USDC").raw(1e9))
        crowds.bulk_borrowers(market, world.wallets)
        chain.warp(DAY)
    except BaseException:
        world.stop()
        raise
    return world


def standard_reserves(tools: Toolchain, chain: Chain) -> list[Reserve]:
    """WETH, USDC and WBTC at 2,000, 1 and 40,000 dollars: 18, 6 and 8 decimals."""
    weth = deploy_asset(tools, chain, "WETH", 18, 2_000)
    usdc = deploy_asset(tools, chain, "USDC", 6, 1)
    wbtc = deploy_asset(tools, chain, "WBTC", 8, 40_000)
    return [
        Reserve(weth, 8_000, 8_250, 10_500, 1_500, Curve(8_000, 0, 380, 8_000)),
        Reserve(usdc, 7_700, 8_000, 10_450, 1_000, GENTLE),
        Reserve(wbtc, 7_000, 7_500, 10_625, 2_000, STEEP),
    ]


def ethereum_aave(
    tools: Toolchain, world: World, usd: Mapping[str, float], staker: str, staked: float, earned: float
) -> tuple[Aave, Sequence[EMode]]:
    """Aave v3.6 with seven reserves, one the share of a WETH vault, two e-modes, and a vault over aUSDC.

    usd: prices of wstETH and CRV, and of WETH and WBTC if not the standard ones. The staker's WETH opens the vault.
    """
    chain = world.chains[ETHEREUM]
    reserves = standard_reserves(tools, chain)
    weth, usdc, wbtc = (r.asset for r in reserves)
    steth, dai = deploy_asset(tools, chain, "wstETH", 18, usd["wstETH"]), deploy_asset(tools, chain, "DAI", 18, 1)
    crv = deploy_asset(tools, chain, "CRV", 18, usd["CRV"])
    _reprice((weth, wbtc), usd)
    share = deploy_vault(tools, chain, weth, "svETH")
    share.deposit(staker, weth.raw(staked))
    share.earn(weth.raw(earned))
    reserves += [
        Reserve(steth, 7_800, 8_100, 10_600, 1_500, STEEP),
        Reserve(dai, 6_300, 7_700, 10_500, 2_500, GENTLE),
        Reserve(crv, 5_500, 6_100, 10_830, 3_500, STEEP),
        Reserve(share, 6_500, 7_000, 10_750, 2_000, STEEP, borrowable=False),
    ]
    emodes = [
        EMode(1, "ETH correlated", 9_300, 9_500, 10_100, ("WETH", "wstETH"), ("WETH",)),
        EMode(2, "stablecoins", 9_000, 9_300, 10_200, ("USDC", "DAI")),
    ]
    market = world.aave[ETHEREUM] = aave_v36.deploy(tools, chain, reserves, emodes)
    wrapped = deploy_vault(tools, chain, a_token(market, "USDC"), "waUSDC", offset=6)
    world.vaults = {v.symbol: v for v in (share, wrapped)}
    world.assets[ETHEREUM] = {a.symbol: a for a in (weth, usdc, wbtc, steth, dai, crv, share, wrapped)}
    return market, emodes


def arbitrum_aave(tools: Toolchain, world: World, usd: Mapping[str, float]) -> tuple[Aave, Sequence[EMode]]:
    """Aave v3.0 with four reserves and an e-mode. usd: the price of ARB, and of WETH and WBTC if not the standard."""
    chain = world.chains[ARBITRUM]
    reserves = standard_reserves(tools, chain)
    arb = deploy_asset(tools, chain, "ARB", 18, usd["ARB"])
    _reprice((reserves[0].asset, reserves[2].asset), usd)
    reserves += [Reserve(arb, 5_000, 6_000, 11_000, 2_000, STEEP)]
    world.assets[ARBITRUM] = {r.asset.symbol: r.asset for r in reserves}
    emodes = [EMode(1, "blue chips", 8_800, 9_000, 10_300, ("WETH", "WBTC"))]
    market = world.aave[ARBITRUM] = aave_v30.deploy(tools, chain, reserves, emodes)
    return market, emodes


def _reprice(assets: Sequence[Asset], usd: Mapping[str, float]) -> None:
    for asset in assets:
        if asset.symbol in usd:
            asset.set_price(usd[asset.symbol])


def _ethereum(tools: Toolchain, world: World, rng: random.Random) -> None:
    chain = world.chains[ETHEREUM]
    market, emodes = ethereum_aave(tools, world, {"wstETH": 2_300, "CRV": 0.52}, chain.accounts[1], 5_000, 137.5)
    weth, usdc, wbtc, wsteth, dai, crv, share, wrapped = world.assets[ETHEREUM].values()
    assert isinstance(share, VaultShare)
    assert isinstance(wrapped, VaultShare)
    crowds.lend_deep(market, chain.accounts[1])
    book = crowds.AavePeople(market, rng, "CRV")
    book.arrive(world.wallets, emodes)
    wrapped.deposit(world.wallets[0], usdc.raw(1_234_567.891))

    world.morpho = morpho.deploy(tools, chain)
    world.morpho.create_market("WBTC/USDC", usdc, wbtc, 0.86)
    world.morpho.create_market("wstETH/WETH", weth, wsteth, 0.945, fee=0.1)
    world.morpho.create_market("svETH/USDC", usdc, share, 0.77)
    world.morpho.create_market("waUSDC/DAI", dai, wrapped, 0.915)
    world.morpho.create_market("CRV/USDC", usdc, crv, 0.625)
    world.morpho.create_market("WETH/WBTC idle", wbtc, weth, 0.86)
    blue = crowds.MorphoPeople(world.morpho, rng)
    blue.arrive(world.wallets, chain.accounts[1])

    world.uniswap = uniswap.deploy(tools, chain)
    for a, b, fee in (
        (weth, usdc, 3_000),
        (weth, usdc, 500),
        (wbtc, weth, 3_000),
        (wsteth, weth, 500),
        (dai, usdc, 500),
    ):
        world.uniswap.create_pool(a, b, fee)
    crowds.provide_liquidity(world.uniswap, world.wallets, rng)

    chain.warp(41 * DAY)
    book.live_on(world.wallets)
    share.earn(weth.raw(12.25))
    for asset, usd in ((weth, 1_721.5), (wbtc, 36_480.25), (wsteth, 1_975.0), (dai, 0.9987), (crv, 0.251)):
        asset.set_price(usd)
    for pool in world.uniswap.pools.values():
        world.uniswap.follow_feeds(chain.accounts[6], pool)
    chain.warp(3 * DAY)
    book.liquidate_some(world.wallets, chain.accounts[2])
    blue.liquidate_some(chain.accounts[2])
    chain.warp(7_201)


def _optimism(tools: Toolchain, world: World, rng: random.Random) -> None:
    chain = world.chains[OPTIMISM]
    options = world.lyra = lyra.deploy(tools, chain, 2_000)
    futures = world.perp = perp.deploy(tools, chain)
    world.assets[OPTIMISM] = {"USDC": futures.collateral}
    futures.fund_insurance(100_000)
    futures.list_base("ETH", 2_000)
    futures.list_base("BTC", 40_000)
    for days, iv in ((28, 0.82), (56, 0.78), (168, 0.74)):
        options.create_board(days, iv, (1_500, 1_750, 1_900, 2_000, 2_150, 2_400), (1.2, 1.08, 1.02, 1, 1.01, 1.06))
    writers = crowds_derivatives.LyraPeople(options, rng)
    writers.arrive(world.wallets)
    writers.close_some()
    traders = crowds_derivatives.PerpPeople(futures, rng)
    traders.arrive(world.wallets, chain.accounts[1])
    futures.deposit(chain.accounts[6], 2e7)
    traders.arbitrage(chain.accounts[6])

    futures.advance(41 * DAY)
    writers.settle_some(options.boards()[0])
    options.refresh()
    options.add_liquidity(chain.accounts[4], 25_000)  # waits in the queue, for boards are live
    writers.arrive(world.wallets[-5:])
    writers.overreach(world.wallets[:2])
    for usd in (1_900, 1_810, 1_721.5):
        options.set_spot(usd)
    traders.fall(chain.accounts[6], {"ETH": 1_721.5, "BTC": 36_480.25})
    traders.liquidate_some(world.wallets, chain.accounts[2])
    writers.liquidate_some(chain.accounts[2])
    futures.advance(3 * DAY)
    options.refresh()


def _arbitrum(tools: Toolchain, world: World, rng: random.Random) -> None:
    chain = world.chains[ARBITRUM]
    market, emodes = arbitrum_aave(tools, world, {"ARB": 0.8125})
    crowds.lend_deep(market, chain.accounts[1])
    book = crowds.AavePeople(market, rng, "ARB")
    book.arrive(world.wallets, emodes)
    chain.warp(41 * DAY)
    book.live_on(world.wallets)
    for symbol, usd in (("WETH", 1_720.75), ("WBTC", 36_500), ("ARB", 0.37)):
        market.asset(symbol).set_price(usd)
    chain.warp(3 * DAY)
    book.liquidate_some(world.wallets, chain.accounts[2])
    chain.warp(7_203)
