"""Uniswap v3 (@uniswap/v3-core 1.0.1, v3-periphery 1.4.4, the artifacts their publisher compiled)."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor, isqrt, log

from tests.devnet.anvil import Chain, Receipt
from tests.devnet.contract import Block, Contract
from tests.devnet.tokens import ZERO_ADDRESS, Asset
from tests.devnet.toolchain import Toolchain

TICK_SPACING = {500: 10, 3_000: 60, 10_000: 200}
FAR_FUTURE = 2**40


@dataclass(frozen=True, eq=False)
class Pool:
    """`token0`, `token1` in address order, as the pool has them. `fee` is in millionths."""

    contract: Contract
    token0: Asset
    token1: Asset
    fee: int

    def tick(self, block: Block = "latest") -> int:
        current: int = self.contract.call("slot0", block=block)[1]
        return current

    def other(self, asset: Asset) -> Asset:
        return self.token1 if asset.address == self.token0.address else self.token0


@dataclass(frozen=True)
class Liquidity:
    """A minted LP position: its token id, and what went in."""

    token_id: int
    liquidity: int
    amount0: int
    amount1: int
    lower: int
    upper: int


@dataclass(frozen=True, eq=False)
class Uniswap:
    """The core and periphery contracts, with pools by (symbol, symbol, fee)."""

    tools: Toolchain
    chain: Chain
    factory: Contract
    positions: Contract
    router: Contract
    quoter: Contract
    tick_lens: Contract
    pools: dict[tuple[str, str, int], Pool] = field(default_factory=dict)

    @property
    def addresses(self) -> dict[str, str]:
        """Keys of our deployment configuration."""
        return {
            "factory": self.factory.address,
            "nonfungible_position_manager": self.positions.address,
            "quoter_v2": self.quoter.address,
            "tick_lens": self.tick_lens.address,
        }

    def create_pool(self, a: Asset, b: Asset, fee: int) -> Pool:
        """A pool that starts at the ratio of the two feeds."""
        token0, token1 = sorted((a, b), key=lambda asset: int(asset.address, 16))
        root = feed_root(token0, token1)
        self.positions.send("createAndInitializePoolIfNecessary", token0.address, token1.address, fee, root)
        where = self.factory.call("getPool", token0.address, token1.address, fee)
        artifact = self.tools.artifact("uniswap-v3-core", "UniswapV3Pool")
        pool = Pool(self.chain.at(where, artifact), token0, token1, fee)
        self.pools[a.symbol, b.symbol, fee] = pool
        return pool

    def add_liquidity(self, user: str, pool: Pool, lower: float, upper: float, usd: float) -> Liquidity:
        """Put up to `usd` of each side between `lower` and `upper` times the present price of token0 in token1."""
        spacing = TICK_SPACING[pool.fee]
        now = pool.tick()
        low, high = (floor((now + log(x) / log(1.0001)) / spacing) * spacing for x in (lower, upper))
        return self.add_between(user, pool, low, high, usd)

    def add_between(self, user: str, pool: Pool, low: int, high: int, usd: float) -> Liquidity:
        """The same between two ticks."""
        amounts = [asset.worth(usd) for asset in (pool.token0, pool.token1)]
        for asset, raw in zip((pool.token0, pool.token1), amounts, strict=True):
            asset.provide(user, self.positions, raw)
        receipt = self.positions.send(
            "mint",
            (pool.token0.address, pool.token1.address, pool.fee, low, high, *amounts, 0, 0, user, FAR_FUTURE),
            sender=user,
        )
        (event,) = self.positions.events(receipt, "IncreaseLiquidity")
        return Liquidity(event["tokenId"], event["liquidity"], event["amount0"], event["amount1"], low, high)

    def remove_liquidity(self, user: str, token_id: int, liquidity: int) -> Receipt:
        """Burn liquidity; what it frees stays owed to the position until collected."""
        return self.positions.send("decreaseLiquidity", (token_id, liquidity, 0, 0, FAR_FUTURE), sender=user)

    def swap(self, user: str, pool: Pool, sell: Asset, raw: int) -> int:
        """Sell exactly `raw` of fresh tokens; the amount bought."""
        buy = pool.other(sell)
        sell.provide(user, self.router, raw)
        before = buy.token.call("balanceOf", user)
        terms = (sell.address, buy.address, pool.fee, user, FAR_FUTURE, raw, 0, 0)
        self.router.send("exactInputSingle", terms, sender=user)
        bought: int = buy.token.call("balanceOf", user) - before
        return bought

    def follow_feeds(self, user: str, pool: Pool) -> None:
        """Trade until the pool's price is the ratio of the two feeds."""
        target = feed_root(pool.token0, pool.token1)
        down = target < pool.contract.call("slot0")[0]
        sell, buy = (pool.token0, pool.token1) if down else (pool.token1, pool.token0)
        raw = sell.worth(1e10)
        sell.provide(user, self.router, raw)
        terms = (sell.address, buy.address, pool.fee, user, FAR_FUTURE, raw, 0, target)
        self.router.send("exactInputSingle", terms, sender=user)

    def quote(self, pool: Pool, sell: Asset, raw: int, block: Block = "latest") -> tuple[int, int, int]:
        """QuoterV2: amount bought, square-root price after (X96), initialised ticks crossed."""
        terms = (sell.address, pool.other(sell).address, raw, pool.fee, 0)
        bought, root, crossed, _gas = self.quoter.call("quoteExactInputSingle", terms, block=block)
        return bought, root, crossed


def feed_root(token0: Asset, token1: Asset) -> int:
    """Square root (X96) of the price of one smallest unit of token0 in token1 at the feeds."""
    numerator = token0.price_usd_e8 * 10**token1.decimals << 192
    return isqrt(numerator // (token1.price_usd_e8 * 10**token0.decimals))


def deploy(tools: Toolchain, chain: Chain) -> Uniswap:
    """Factory and periphery without pools. Native ether is never used, so WETH9 is the zero address."""
    factory = chain.deploy(tools.artifact("uniswap-v3-core", "UniswapV3Factory"))

    def periphery(name: str, *args: object) -> Contract:
        return chain.deploy(tools.artifact("uniswap-v3-periphery", name), *args)

    positions = periphery("NonfungiblePositionManager", factory, ZERO_ADDRESS, ZERO_ADDRESS)
    router = periphery("SwapRouter", factory, ZERO_ADDRESS)
    quoter = periphery("QuoterV2", factory, ZERO_ADDRESS)
    return Uniswap(tools, chain, factory, positions, router, quoter, periphery("TickLens"))
