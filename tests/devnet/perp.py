"""Perpetual Protocol v2 "Curie" (@perp/curie-contract 2.8.4, perp-oracle-contract 0.6.7, as published).

Its virtual market is a real Uniswap v3 pool of virtual tokens; collateral is USDC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor, isqrt, log
from typing import Any

from tests.devnet.anvil import Chain, Receipt
from tests.devnet.contract import Block, Contract
from tests.devnet.tokens import UINT256_MAX, Asset, deploy_asset, deploy_feed
from tests.devnet.toolchain import Toolchain

E18 = 10**18
FAR_FUTURE = 2**40
PLENTY = 10**7 * E18
FEE = 3_000
TICK_SPACING = 60
FEED_TIMEOUT_S, TWAP_S = 3_600, 900
POOL_HISTORY_S = 2_000  # the mark price is a 30-minute average, so nothing works until the pool is older


@dataclass(frozen=True, eq=False)
class Base:
    """One perpetual: its virtual base token, its pool, and the feed of its index price."""

    symbol: str
    token: Contract
    pool: Contract
    feed: Contract
    dispatcher: Contract


@dataclass(frozen=True, eq=False)
class Perp:
    """The clearing house and its parts; perpetuals go by symbol."""

    tools: Toolchain
    chain: Chain
    collateral: Asset
    clearing_house: Contract
    vault: Contract
    account_balance: Contract
    exchange: Contract
    order_book: Contract
    market_registry: Contract
    insurance_fund: Contract
    config: Contract
    quote_token: Contract
    factory: Contract
    bases: dict[str, Base] = field(default_factory=dict)

    @property
    def addresses(self) -> dict[str, str]:
        """Keys of our deployment configuration."""
        return {"clearing_house": self.clearing_house.address, "market_registry": self.market_registry.address}

    # -- markets ------------------------------------------------------------------------------------------
    def list_base(self, symbol: str, price_usd: int) -> Base:
        """A new perpetual at an index price. Takes `POOL_HISTORY_S` of chain time."""
        tools, chain = self.tools, self.chain
        feed = deploy_feed(tools, chain, f"{symbol} / USD", price_usd)
        reader = chain.deploy(tools.artifact("perp-oracle", "ChainlinkPriceFeedV3"), feed, FEED_TIMEOUT_S, TWAP_S)
        dispatcher = chain.deploy(tools.artifact("perp-oracle", "PriceFeedDispatcher"), reader)
        dispatcher.send("dispatchPrice", TWAP_S)
        token = chain.deploy(tools.artifact("perp", "BaseToken"))
        while int(token.address, 16) > int(self.quote_token.address, 16):  # the base must be the pool's token0
            token = chain.deploy(tools.artifact("perp", "BaseToken"))
        token.send("initialize", f"v{symbol}", f"v{symbol}", dispatcher)
        self.factory.send("createPool", token, self.quote_token, FEE)
        where = self.factory.call("getPool", token, self.quote_token, FEE)
        pool = chain.at(where, tools.artifact("uniswap-v3-core", "UniswapV3Pool"))
        pool.send("initialize", isqrt(price_usd << 192))
        pool.send("increaseObservationCardinalityNext", 200)
        for virtual in (self.quote_token, token):
            if not virtual.call("totalSupply"):
                virtual.send("mintMaximumTo", self.clearing_house)
            for holder in (self.clearing_house, pool):
                virtual.send("addWhitelist", holder)
        self.market_registry.send("addPool", token, FEE)
        self.market_registry.send("setFeeRatio", token, 1_000)
        self.exchange.send("setMaxTickCrossedWithinBlock", token, 1_000)
        base = self.bases[symbol] = Base(symbol, token, pool, feed, dispatcher)
        self.advance(POOL_HISTORY_S)
        return base

    def set_index(self, symbol: str, usd: float) -> None:
        """Set a feed; the index is a 15-minute average, so `advance` for it to arrive."""
        self.bases[symbol].feed.send("set", round(usd * 10**8))

    def advance(self, seconds: int) -> None:
        """Let time pass with every feed kept fresh."""
        self.chain.warp(seconds)
        for base in self.bases.values():
            base.feed.send("set", base.feed.call("latestAnswer"))
            base.dispatcher.send("dispatchPrice", TWAP_S)
        self.chain.warp(60)

    def fund_insurance(self, usd: float) -> None:
        """Without it the clearing house refuses to liquidate an account that ends below zero."""
        self.collateral.mint(self.insurance_fund.address, self.collateral.raw(usd))

    # -- traders ------------------------------------------------------------------------------------------
    def deposit(self, user: str, usd: float) -> Receipt:
        """Deposit fresh USDC."""
        raw = self.collateral.raw(usd)
        self.collateral.provide(user, self.vault, raw)
        return self.vault.send("deposit", self.collateral.address, raw, sender=user)

    def withdraw(self, user: str, raw: int) -> Receipt:
        return self.vault.send("withdraw", self.collateral.address, raw, sender=user)

    def make(self, user: str, symbol: str, base_amount: float, quote_amount: float, low: float, high: float) -> Receipt:
        """Provide liquidity between two prices."""
        bounds = [floor(log(p) / log(1.0001) / TICK_SPACING) * TICK_SPACING for p in (low, high)]
        order = {
            "baseToken": self.bases[symbol].token.address,
            "base": int(base_amount * E18),
            "quote": int(quote_amount * E18),
            "lowerTick": bounds[0],
            "upperTick": bounds[1],
            "minBase": 0,
            "minQuote": 0,
            "useTakerBalance": False,
            "deadline": FAR_FUTURE,
        }
        return self.clearing_house.send("addLiquidity", order, sender=user)

    def trade(self, user: str, symbol: str, quote_usd: float) -> Receipt:
        """Buy base for exactly `quote_usd` of quote, or for a negative amount sell base for it."""
        order = self._order(symbol, sell=quote_usd < 0, exact_input=quote_usd > 0, amount=int(abs(quote_usd) * E18))
        return self.clearing_house.send("openPosition", order, sender=user)

    def _order(self, symbol: str, sell: bool, exact_input: bool, amount: int) -> dict[str, Any]:
        return {
            "baseToken": self.bases[symbol].token.address,
            "isBaseToQuote": sell,
            "isExactInput": exact_input,
            "amount": amount,
            "oppositeAmountBound": 0,
            "deadline": FAR_FUTURE,
            "sqrtPriceLimitX96": 0,
            "referralCode": bytes(32),
        }

    def follow_feed(self, user: str, symbol: str) -> None:
        """Trade until the mark price is the feed's. An arbitrageur's work: else funding eats everybody."""
        base = self.bases[symbol]
        target = isqrt((base.feed.call("latestAnswer") << 192) // 10**8)
        while (now := base.pool.call("slot0")[0]) != target:
            step = max(min(target, now * 104 // 100), now * 96 // 100)  # 8 % a block: the exchange allows 10 %
            order = self._order(symbol, sell=step < now, exact_input=True, amount=PLENTY)
            self.clearing_house.send("openPosition", {**order, "sqrtPriceLimitX96": step}, sender=user)

    def close(self, user: str, symbol: str) -> Receipt:
        terms = (self.bases[symbol].token.address, 0, 0, FAR_FUTURE, bytes(32))
        return self.clearing_house.send("closePosition", terms, sender=user)

    # -- views --------------------------------------------------------------------------------------------
    def size(self, user: str, symbol: str, block: Block = "latest") -> int:
        """Position, makers' included, 18 decimals; negative is short."""
        raw: int = self.account_balance.call(
            "getTotalPositionSize", user, self.bases[symbol].token.address, block=block
        )
        return raw

    def account_value(self, user: str, block: Block = "latest") -> int:
        """US dollars with 18 decimals: collateral, owed and unrealised profit, pending funding and fees."""
        raw: int = self.clearing_house.call("getAccountValue", user, block=block)
        return raw

    def margin_requirement(self, user: str, block: Block = "latest") -> int:
        """What the account value must not fall below, 18 decimals."""
        raw: int = self.account_balance.call("getMarginRequirementForLiquidation", user, block=block)
        return raw

    def can_be_liquidated(self, user: str) -> bool:
        """Account value below the requirement; a maker's orders must be cancelled first, all the same."""
        return self.account_value(user) < self.margin_requirement(user)

    def has_orders(self, user: str) -> bool:
        makes: bool = self.account_balance.call("hasOrder", user)
        return makes

    # -- liquidation --------------------------------------------------------------------------------------
    def liquidate(self, liquidator: str, user: str, symbol: str) -> dict[str, int]:
        """Take over what the clearing house allows; the PositionLiquidated event."""
        receipt = self.clearing_house.send(
            "liquidate(address,address)", user, self.bases[symbol].token.address, sender=liquidator
        )
        (event,) = self.clearing_house.events(receipt, "PositionLiquidated")
        return event


def deploy(tools: Toolchain, chain: Chain) -> Perp:
    """The clearing house without perpetuals."""

    def create(name: str, *initial: object) -> Contract:
        contract = chain.deploy(tools.artifact("perp", name))
        if initial or name == "ClearingHouseConfig":
            contract.send("initialize", *initial)
        return contract

    usdc = deploy_asset(tools, chain, "USDC", 6, 1)
    quote = create("QuoteToken", "vUSD", "vUSD")
    factory = chain.deploy(tools.artifact("uniswap-v3-core", "UniswapV3Factory"))
    config = create("ClearingHouseConfig")
    config.send("setSettlementTokenBalanceCap", UINT256_MAX)
    registry = create("MarketRegistry", factory, quote)
    order_book = create("OrderBook", registry)
    insurance = create("InsuranceFund", usdc.address)
    exchange = create("Exchange", registry, order_book, config)
    order_book.send("setExchange", exchange)
    balance = create("AccountBalance", config, order_book)
    exchange.send("setAccountBalance", balance)
    vault = create("Vault", insurance, config, balance, exchange)
    for owner in (insurance, balance):
        owner.send("setVault", vault)
    manager = create(
        "CollateralManager", config, vault, 5, 750_000, 500_000, 2_000, 30_000, usdc.raw(10_000), usdc.raw(500)
    )
    vault.send("setCollateralManager", manager)
    house = create("ClearingHouse", config, vault, quote, factory, exchange, balance, insurance)
    for part in (registry, order_book, exchange, balance, vault):
        part.send("setClearingHouse", house)
    return Perp(
        tools, chain, usdc, house, vault, balance, exchange, order_book, registry, insurance, config, quote, factory
    )
