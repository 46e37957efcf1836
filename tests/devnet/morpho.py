"""Morpho Blue (@morpho-org/morpho-blue 1.0.0 sources, compiled here with solc 0.8.19, via IR).

The package has no adaptive rate model, so the rate model is its own mock: the borrow rate per year is the utilisation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from tests.devnet.anvil import Chain, Receipt
from tests.devnet.contract import Block, Contract
from tests.devnet.erc4626 import VaultShare
from tests.devnet.tokens import ZERO_ADDRESS, Asset
from tests.devnet.toolchain import Toolchain

WAD = 10**18


@dataclass(frozen=True, eq=False)
class Market:
    """One isolated market. `id` is 0x hex; `params` is the struct that every function takes."""

    id: str
    loan: Asset
    collateral: Asset
    oracle: Contract
    lltv_e18: int
    params: tuple[str, str, str, str, int]


class State(NamedTuple):
    """Morpho.market: stored totals, without interest since `last_update`."""

    supply_assets: int
    supply_shares: int
    borrow_assets: int
    borrow_shares: int
    last_update: int
    fee_e18: int


class Position(NamedTuple):
    """Morpho.position."""

    supply_shares: int
    borrow_shares: int
    collateral: int


@dataclass(frozen=True)
class Liquidation:
    """The Liquidate event, in smallest units."""

    repaid: int
    repaid_shares: int
    seized: int
    bad_debt: int
    bad_debt_shares: int
    receipt: Receipt


@dataclass(frozen=True, eq=False)
class Morpho:
    """The singleton with its markets by name."""

    tools: Toolchain
    chain: Chain
    contract: Contract
    irm: Contract
    markets: dict[str, Market] = field(default_factory=dict)

    @property
    def addresses(self) -> dict[str, str]:
        """Keys of our deployment configuration."""
        return {"morpho": self.contract.address}

    def create_market(
        self, name: str, loan: Asset, collateral: Asset, lltv: float, oracle: Contract | None = None, fee: float = 0
    ) -> Market:
        """Open a market; the default oracle follows the two assets' feeds, and a vault's rate."""
        oracle = oracle or self._feed_oracle(loan, collateral)
        lltv_e18 = round(lltv * 10_000) * WAD // 10_000
        if not self.contract.call("isLltvEnabled", lltv_e18):
            self.contract.send("enableLltv", lltv_e18)
        params = (loan.address, collateral.address, oracle.address, self.irm.address, lltv_e18)
        self.contract.send("createMarket", params)
        identifier = "0x" + keccak(encode(["address"] * 4 + ["uint256"], list(params))).hex()
        if fee:
            self.contract.send("setFeeRecipient", self.chain.accounts[9])
            self.contract.send("setFee", params, round(fee * 10_000) * WAD // 10_000)
        self.markets[name] = Market(identifier, loan, collateral, oracle, lltv_e18, params)
        return self.markets[name]

    def settable_oracle(self, price_e36: int) -> Contract:
        """An oracle whose raw price is set by hand: `oracle.send("setPrice", raw)`."""
        oracle = self.chain.deploy(self.tools.build("morpho")["OracleMock"])
        oracle.send("setPrice", price_e36)
        return oracle

    def _feed_oracle(self, loan: Asset, collateral: Asset) -> Contract:
        base, vault, sample = collateral, ZERO_ADDRESS, 1
        if isinstance(collateral, VaultShare):
            base, vault, sample = collateral.underlying, collateral.address, 10**collateral.decimals
        artifact = self.tools.build("ours")["FeedOracle"]
        return self.chain.deploy(
            artifact, vault, sample, base.feed.address, base.address, loan.feed.address, loan.address
        )

    # -- users --------------------------------------------------------------------------------------------
    def supply(self, user: str, market: Market, assets: int) -> Receipt:
        market.loan.provide(user, self.contract, assets)
        return self.contract.send("supply", market.params, assets, 0, user, b"", sender=user)

    def withdraw(self, user: str, market: Market, assets: int) -> Receipt:
        return self.contract.send("withdraw", market.params, assets, 0, user, user, sender=user)

    def supply_collateral(self, user: str, market: Market, assets: int) -> Receipt:
        market.collateral.provide(user, self.contract, assets)
        return self.contract.send("supplyCollateral", market.params, assets, user, b"", sender=user)

    def borrow(self, user: str, market: Market, assets: int) -> Receipt:
        return self.contract.send("borrow", market.params, assets, 0, user, user, sender=user)

    def repay(self, user: str, market: Market, shares: int) -> Receipt:
        """Repay by shares, with enough of the loan asset minted first."""
        market.loan.provide(user, self.contract, self.owed(market, user) + 10)
        return self.contract.send("repay", market.params, 0, shares, user, b"", sender=user)

    def accrue(self, market: Market) -> Receipt:
        return self.contract.send("accrueInterest", market.params)

    # -- views --------------------------------------------------------------------------------------------
    def state(self, market: Market, block: Block = "latest") -> State:
        return State(*self.contract.call("market", bytes.fromhex(market.id[2:]), block=block))

    def position(self, market: Market, user: str, block: Block = "latest") -> Position:
        return Position(*self.contract.call("position", bytes.fromhex(market.id[2:]), user, block=block))

    def owed(self, market: Market, user: str, block: Block = "latest") -> int:
        """Debt at the stored totals, rounded up as Morpho does (virtual shares 1e6, virtual asset 1)."""
        state, shares = self.state(market, block), self.position(market, user, block).borrow_shares
        return -(-shares * (state.borrow_assets + 1) // (state.borrow_shares + 10**6))

    # -- liquidation --------------------------------------------------------------------------------------
    def liquidate(self, liquidator: str, market: Market, user: str, seize: int = 0, shares: int = 0) -> Liquidation:
        """Seize so much collateral, or repay so many debt shares. Raises Reverted if the position is healthy."""
        market.loan.provide(liquidator, self.contract, self.owed(market, user) * 2 + 10)
        receipt = self.contract.send("liquidate", market.params, user, seize, shares, b"", sender=liquidator)
        (event,) = self.contract.events(receipt, "Liquidate")
        return Liquidation(
            event["repaidAssets"], event["repaidShares"], event["seizedAssets"],
            event["badDebtAssets"], event["badDebtShares"], receipt,
        )  # fmt: skip


def deploy(tools: Toolchain, chain: Chain) -> Morpho:
    """The singleton without markets."""
    built = tools.build("morpho")
    singleton = chain.deploy(built["Morpho"].with_events_of(built["EventsLib"]), chain.owner)
    irm = chain.deploy(built["IrmMock"])
    singleton.send("enableIrm", irm)
    return Morpho(tools, chain, singleton, irm)
