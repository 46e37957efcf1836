"""Lyra v1 (Avalon, @lyrafinance/protocol 0.1.3-alpha, the artifacts its publisher compiled).

The Synthetix side (rates, exchange, short collateral) is the package's own set of test contracts, not Synthetix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from tests.devnet import lyra_params as params
from tests.devnet.anvil import Chain, Receipt
from tests.devnet.artifacts import Artifact
from tests.devnet.contract import Block, Contract
from tests.devnet.lyra_params import DAY, e18
from tests.devnet.tokens import UINT256_MAX
from tests.devnet.toolchain import Toolchain

QUOTE_KEY, BASE_KEY = (key.ljust(32, b"\0") for key in (b"sUSD", b"sETH"))


class OptionType(IntEnum):
    """As the contract numbers them."""

    LONG_CALL = 0
    LONG_PUT = 1
    SHORT_CALL_BASE = 2
    SHORT_CALL_QUOTE = 3
    SHORT_PUT_QUOTE = 4


class Position(NamedTuple):
    """OptionToken.positions: amount and collateral with 18 decimals; state 1 is active."""

    id: int
    strike_id: int
    option_type: int
    amount_e18: int
    collateral_e18: int
    state: int
    owner: str


class Greeks(NamedTuple):
    """OptionGreekCache's figures for one strike, 18 decimals."""

    call_delta: int
    put_delta: int
    std_vega: int
    call_price: int
    put_price: int


@dataclass(frozen=True, eq=False)
class Lyra:
    """One option market with everything around it."""

    chain: Chain
    market: Contract
    option_token: Contract
    greek_cache: Contract
    pool: Contract
    pool_token: Contract
    pool_hedger: Contract
    pricer: Contract
    short_collateral: Contract
    adapter: Contract
    viewer: Contract
    registry: Contract
    rates: Contract
    quote: Contract
    base: Contract

    @property
    def addresses(self) -> dict[str, str]:
        """Keys of our deployment configuration."""
        return {"lyra_registry": self.registry.address, "option_market_viewer": self.viewer.address}

    # -- market -------------------------------------------------------------------------------------------
    def set_spot(self, usd: float) -> None:
        """Move the spot rate and recompute every board."""
        self.rates.send("setRateAndInvalid", BASE_KEY, e18(usd), False)
        self.refresh()

    def refresh(self) -> None:
        """Recompute the cached Greeks of every live board; a stale cache refuses trades."""
        for board in self.boards():
            self.greek_cache.send("updateBoardCachedGreeks", board)

    def create_board(self, days: float, iv: float, strikes: Sequence[float], skews: Sequence[float]) -> None:
        expiry = self.chain.block()["timestamp"] + round(days * DAY)
        self.market.send(
            "createOptionBoard", expiry, e18(iv), [e18(k) for k in strikes], [e18(s) for s in skews], False
        )

    def boards(self, block: Block = "latest") -> tuple[int, ...]:
        live: tuple[int, ...] = self.market.call("getLiveBoards", block=block)
        return live

    def strikes(self, board: int) -> tuple[int, ...]:
        """Strike ids of a board."""
        ids: tuple[int, ...] = self.market.read("getOptionBoard", board)["strikeIds"]
        return ids

    def greeks(self, strike: int, block: Block = "latest") -> Greeks:
        return Greeks(*self.greek_cache.read("getStrikeCache", strike, block=block)["greeks"].values())

    def add_liquidity(self, user: str, usd: float) -> Receipt:
        self.quote.send("mint", user, e18(usd))
        self.quote.send("approve", self.pool, UINT256_MAX, sender=user)
        return self.pool.send("initiateDeposit", user, e18(usd), sender=user)

    # -- traders ------------------------------------------------------------------------------------------
    def open(self, user: str, strike: int, kind: OptionType, amount: float, collateral: float = 0) -> int:
        """Open a position with fresh quote and base in hand; its id. Raises Reverted outside the delta limits."""
        for token in (self.quote, self.base):
            token.send("mint", user, e18(1_000_000))
            token.send("approve", self.market, UINT256_MAX, sender=user)
        receipt = self.market.send("openPosition", self._trade(strike, 0, kind, amount, collateral), sender=user)
        (trade,) = self.market.events(receipt, "Trade")
        identifier: int = trade["positionId"]
        return identifier

    def close(self, position: int, amount: float, collateral: float = 0) -> Receipt:
        """Close part or all; `collateral` is what stays locked."""
        held = self.position(position)
        trade = self._trade(held.strike_id, position, OptionType(held.option_type), amount, collateral)
        return self.market.send("closePosition", trade, sender=held.owner)

    def position(self, identifier: int, block: Block = "latest") -> Position:
        """An open position. Raises Reverted for one that is closed, liquidated, merged or settled."""
        return Position(*self.option_token.call("getPositionWithOwner", identifier, block=block))

    def min_collateral(self, strike: int, kind: OptionType, amount_e18: int) -> int:
        """What a short position must keep locked at the present spot, in its collateral token with 18 decimals."""
        terms, board = self.market.call("getStrikeAndBoard", strike)
        spot = self.rates.call("rateAndInvalid", BASE_KEY)[0]
        needed: int = self.greek_cache.call("getMinCollateral", int(kind), terms[1], board[1], spot, amount_e18)
        return needed

    def can_be_liquidated(self, identifier: int) -> bool:
        held = self.position(identifier)
        kind = OptionType(held.option_type)
        if kind <= OptionType.LONG_PUT:
            return False
        return held.collateral_e18 < self.min_collateral(held.strike_id, kind, held.amount_e18)

    def liquidate(self, identifier: int, liquidator: str) -> Receipt:
        return self.market.send("liquidatePosition", identifier, liquidator, sender=liquidator)

    def settle_board(self, board: int) -> Receipt:
        """After expiry: fix the settlement price of every strike."""
        return self.market.send("settleExpiredBoard", board)

    def settle(self, *identifiers: int) -> Receipt:
        """Pay out positions of settled boards."""
        return self.short_collateral.send("settleOptions", list(identifiers))

    @staticmethod
    def _trade(strike: int, position: int, kind: OptionType, amount: float, collateral: float) -> dict[str, Any]:
        return {
            "strikeId": strike,
            "positionId": position,
            "iterations": 1,
            "optionType": int(kind),
            "amount": e18(amount),
            "setCollateralTo": e18(collateral),
            "minTotalCost": 0,
            "maxTotalCost": 2**128 - 1,
        }


def deploy(tools: Toolchain, chain: Chain, spot_usd: float, deposit_usd: float = 2_000_000) -> Lyra:
    """An ETH market without boards, with `deposit_usd` in its pool. Call order: the package's deployTestSystem."""

    def artifact(name: str) -> Artifact:
        return tools.artifact("lyra", name)

    def create(name: str, *args: object) -> Contract:
        return chain.deploy(artifact(name), *args, libraries=libraries)

    libraries: dict[str, str] = {}
    for library in ("GWAV", "BlackScholes"):
        libraries[library] = create(library).address
    adapter = create("SynthetixAdapter")
    adapter.send("initialize")
    viewer, registry = create("OptionMarketViewer"), create("LyraRegistry")
    quote, base = create("TestERC20Fail", "Synthetic USD", "sUSD"), create("TestERC20Fail", "Synthetic ETH", "sETH")
    market, pricer, cache = create("OptionMarket"), create("OptionMarketPricer"), create("OptionGreekCache")
    pool, pool_token = create("LiquidityPool"), create("LiquidityToken", "sUSD/sETH Pool", "LyraELPT")
    token = create("OptionToken", "sUSD/sETH Option", "LyraEOT")
    short, hedger, gwav_oracle = create("ShortCollateral"), create("ShortPoolHedger"), create("GWAVOracle")
    rates = _synthetix(create, adapter, market, quote, base, chain.owner)
    rates.send("setRateAndInvalid", BASE_KEY, e18(spot_usd), False)
    viewer.send("init", adapter)

    market.send("init", adapter, pool, pricer, cache, short, token, quote, base)
    pricer.send("init", market, cache)
    cache.send("init", adapter, market, pricer)
    pool.send("init", adapter, market, pool_token, cache, hedger, short, quote, base)
    pool_token.send("init", pool)
    hedger.send("init", adapter, market, cache, pool, quote, base)
    short.send("init", market, pool, token, adapter, quote, base)
    token.send("init", market, cache, short, adapter)
    adapter.send("setGlobalsForContract", market, QUOTE_KEY, BASE_KEY, params.SECURITY_MODULE, bytes(32))
    gwav_oracle.send("init", market, cache, adapter)
    members = {
        "liquidityPool": pool,
        "liquidityToken": pool_token,
        "greekCache": cache,
        "optionMarket": market,
        "optionMarketPricer": pricer,
        "optionToken": token,
        "shortCollateral": short,
        "poolHedger": hedger,
        "quoteAsset": quote,
        "baseAsset": base,
    }
    viewer.send("addMarket", members)
    registry.send("addMarket", {**members, "gwavOracle": gwav_oracle})
    for contract, setter, settings in (
        (market, "setOptionMarketParams", params.OPTION_MARKET),
        (pool, "setLiquidityPoolParameters", params.LIQUIDITY_POOL),
        (hedger, "setPoolHedgerParams", params.POOL_HEDGER),
        (cache, "setGreekCacheParameters", params.GREEK_CACHE),
        (cache, "setMinCollateralParameters", params.MIN_COLLATERAL),
        (cache, "setForceCloseParameters", params.FORCE_CLOSE),
        (pricer, "setPricingParams", params.PRICING),
        (pricer, "setTradeLimitParams", params.TRADE_LIMITS),
        (pricer, "setVarianceFeeParams", params.VARIANCE_FEE),
        (token, "setPartialCollateralParams", params.PARTIAL_COLLATERAL),
    ):
        contract.send(setter, settings)
    hedger.send("setShortBuffer", e18(2))
    lyra = Lyra(
        chain, market, token, cache, pool, pool_token, hedger, pricer, short, adapter, viewer, registry, rates, quote,
        base,
    )  # fmt: skip
    lyra.add_liquidity(chain.owner, deposit_usd)  # at once, because no board is live
    hedger.send("openShortAccount")
    hedger.send("hedgeDelta")
    return lyra


def _synthetix(
    create: Callable[..., Contract], adapter: Contract, market: Contract, quote: Contract, base: Contract, minter: str
) -> Contract:
    """Wire the stand-in for Synthetix and return its exchange rates."""
    exchanger, rates, delegates = (create(n) for n in ("TestExchanger", "TestExchangeRates", "TestDelegateApprovals"))
    proxy, shorts, resolver = (
        create(n) for n in ("TestSynthetixReturnZero", "TestCollateralShort", "TestAddressResolver")
    )
    proxy.send("init", adapter, quote, resolver)
    shorts.send("init", adapter, quote)
    names = (b"ProxySynthetix", b"Exchanger", b"ExchangeRates", b"CollateralShort", b"DelegateApprovals")
    parts = (proxy, exchanger, rates, shorts, delegates)
    resolver.send("setAddresses", [n.ljust(32, b"\0") for n in names], [p.address for p in parts])
    for token in (quote, base):
        for who in (proxy.address, shorts.address, minter):
            token.send("permitMint", who, True)
    adapter.send("setAddressResolver", resolver)
    adapter.send("updateSynthetixAddresses")
    for part in (proxy, shorts):
        part.send("addBaseAsset", BASE_KEY, base, market)
    exchanger.send("setFeeRateForExchange", BASE_KEY, QUOTE_KEY, e18(0.0075))
    exchanger.send("setFeeRateForExchange", QUOTE_KEY, BASE_KEY, e18(0.005))
    return rates
