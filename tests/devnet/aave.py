"""What the two Aave v3 generations have in common: reserves, users' actions, liquidation, account views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.devnet.anvil import Chain, Receipt
from tests.devnet.contract import Block, Contract
from tests.devnet.tokens import UINT256_MAX, Asset

RAY = 10**27
VARIABLE_RATE = 2


@dataclass(frozen=True)
class Curve:
    """Interest: kink, rate at zero use, and the two slopes, in basis points a year."""

    optimal_bps: int
    base_bps: int
    slope1_bps: int
    slope2_bps: int


@dataclass(frozen=True)
class Reserve:
    """Listing terms. `ltv_bps` 0 with a zero threshold lists an asset that is no collateral."""

    asset: Asset
    ltv_bps: int
    threshold_bps: int
    bonus_bps: int
    reserve_factor_bps: int
    curve: Curve
    protocol_fee_bps: int = 1_000
    borrowable: bool = True


@dataclass(frozen=True)
class EMode:
    """A category. v3.0: every member is collateral and borrowable; v3.6: the two lists differ.

    `feed` is the v3.0 custom price source of the category (None: every asset's own feed).
    """

    id: int
    label: str
    ltv_bps: int
    threshold_bps: int
    bonus_bps: int
    collateral: Sequence[str]
    borrowable: Sequence[str] = ()
    feed: Contract | None = None


class Account(NamedTuple):
    """Pool.getUserAccountData: US dollars with 8 decimals, basis points, health factor with 18 decimals."""

    collateral_usd_e8: int
    debt_usd_e8: int
    available_usd_e8: int
    threshold_bps: int
    ltv_bps: int
    health_e18: int


@dataclass(frozen=True)
class Liquidation:
    """What the contract did, in smallest units. `seized` leaves out the protocol's fee; `deficits` is by debt asset."""

    covered: int
    seized: int
    protocol_fee: int
    debt_left: int
    deficits: Mapping[str, int]
    receipt: Receipt


@dataclass(frozen=True, eq=False)
class Aave:
    """A deployed market. `version` is "3.0" or "3.6"; reserves go by symbol."""

    version: str
    chain: Chain
    provider: Contract
    pool: Contract
    configurator: Contract
    oracle: Contract
    acl_manager: Contract
    data_provider: Contract
    treasury: str
    reserves: Mapping[str, Reserve]
    liquidation_data_provider: Contract | None = None
    tokens: dict[tuple[str, str], Contract] = field(default_factory=dict, repr=False)

    @property
    def addresses(self) -> dict[str, str]:
        """Keys of our deployment configuration."""
        return {"pool_addresses_provider": self.provider.address}

    def asset(self, symbol: str) -> Asset:
        return self.reserves[symbol].asset

    def a_token(self, symbol: str) -> Contract:
        return self._receipt_token(symbol, 0)

    def debt_token(self, symbol: str) -> Contract:
        """The variable debt token."""
        return self._receipt_token(symbol, 2)

    def _receipt_token(self, symbol: str, which: int) -> Contract:
        key = (symbol, "a" if which == 0 else "v")
        if key not in self.tokens:
            addresses = self.data_provider.call("getReserveTokensAddresses", self.asset(symbol).address)
            abi = [*self.asset(symbol).token.abi, *_SCALED_ABI]
            self.tokens[key] = self.chain.at(addresses[which], abi)
        return self.tokens[key]

    # -- users --------------------------------------------------------------------------------------------
    def supply(self, user: str, symbol: str, raw: int, mint: bool = True) -> Receipt:
        """Supply, minting the tokens first unless the user is said to have them."""
        asset = self.asset(symbol)
        if mint:
            asset.mint(user, raw)
        asset.approve(user, self.pool)
        return self.pool.send("supply", asset.address, raw, user, 0, sender=user)

    def borrow(self, user: str, symbol: str, raw: int) -> Receipt:
        return self.pool.send("borrow", self.asset(symbol).address, raw, VARIABLE_RATE, 0, user, sender=user)

    def repay(self, user: str, symbol: str, raw: int = UINT256_MAX) -> Receipt:
        """Repay with tokens the user has; by default all of it."""
        asset = self.asset(symbol)
        asset.approve(user, self.pool)
        return self.pool.send("repay", asset.address, raw, VARIABLE_RATE, user, sender=user)

    def withdraw(self, user: str, symbol: str, raw: int = UINT256_MAX) -> Receipt:
        return self.pool.send("withdraw", self.asset(symbol).address, raw, user, sender=user)

    def set_emode(self, user: str, category: int) -> Receipt:
        return self.pool.send("setUserEMode", category, sender=user)

    def use_as_collateral(self, user: str, symbol: str, use: bool) -> Receipt:
        return self.pool.send("setUserUseReserveAsCollateral", self.asset(symbol).address, use, sender=user)

    # -- views --------------------------------------------------------------------------------------------
    def account(self, user: str, block: Block = "latest") -> Account:
        return Account(*self.pool.call("getUserAccountData", user, block=block))

    def supplied(self, user: str, symbol: str, block: Block = "latest") -> int:
        raw: int = self.a_token(symbol).call("balanceOf", user, block=block)
        return raw

    def owed(self, user: str, symbol: str, block: Block = "latest") -> int:
        raw: int = self.debt_token(symbol).call("balanceOf", user, block=block)
        return raw

    def price_at_zero(self, symbol: str) -> None:
        """AaveOracle passes a feed's 0 on to its fallback: here a contract of three opcodes that returns 0."""
        fallback = "0x" + "fa" * 20
        self.chain.rpc("anvil_setCode", fallback, "0x60206000f3")
        self.oracle.send("setFallbackOracle", fallback)
        self.asset(symbol).feed.send("set", 0)

    def deficit(self, symbol: str, block: Block = "latest") -> int:
        """Bad debt that the reserve carries; v3.0 has no such thing and answers 0."""
        if self.version == "3.0":
            return 0
        raw: int = self.pool.call("getReserveDeficit", self.asset(symbol).address, block=block)
        return raw

    # -- liquidation --------------------------------------------------------------------------------------
    def liquidate(
        self,
        liquidator: str,
        user: str,
        collateral: str,
        debt: str,
        cover: int = UINT256_MAX,
        receive_a_token: bool = False,
    ) -> Liquidation:
        """Call liquidationCall with enough debt asset in hand. Raises Reverted if the pool refuses."""
        debt_asset, collateral_asset = self.asset(debt), self.asset(collateral)
        debt_asset.provide(liquidator, self.pool, self.owed(user, debt) * 2 + 10)
        fee_before = self.supplied(self.treasury, collateral)
        receipt = self.pool.send(
            "liquidationCall", collateral_asset.address, debt_asset.address, user, cover, receive_a_token,
            sender=liquidator,
        )  # fmt: skip
        (call,) = self.pool.events(receipt, "LiquidationCall")
        deficits = [] if self.version == "3.0" else self.pool.events(receipt, "DeficitCreated")
        return Liquidation(
            covered=call["debtToCover"],
            seized=call["liquidatedCollateralAmount"],
            protocol_fee=self.supplied(self.treasury, collateral) - fee_before,
            debt_left=self.owed(user, debt),
            deficits={d["debtAsset"]: d["amountCreated"] for d in deficits},
            receipt=receipt,
        )


def _view(name: str, inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, object]:
    return {
        "type": "function",
        "name": name,
        "stateMutability": "view",
        "inputs": [{"name": "", "type": t} for t in inputs],
        "outputs": [{"name": "", "type": t} for t in outputs],
    }


_SCALED_ABI = [
    _view("scaledBalanceOf", ["address"], ["uint256"]),
    _view("scaledTotalSupply", [], ["uint256"]),
    _view("UNDERLYING_ASSET_ADDRESS", [], ["address"]),
]
