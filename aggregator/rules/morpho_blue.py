"""Morpho Blue 1.0: `_isHealthy` and `liquidate` of one isolated market, in loan units.

Source: morpho-blue 1.0.0 Morpho.sol, ConstantsLib (cursor 0.3, largest incentive 1.15), SharesMathLib. There is no
close factor: any part of an unhealthy position may be liquidated. When a call leaves no collateral, the rest of the
debt is taken off the totals at once and all suppliers of the market bear it.

The totals are those of the debt leg's index: num = totalBorrowAssets + 1, den = totalBorrowShares + 1e6.
Terms: market `lltv_wad`. Price: oracle.price() on the collateral leg, exp 36 + loan decimals - collateral decimals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from aggregator.core.account import Account, Judgement, Leg, Liquidation
from aggregator.core.errors import shown
from aggregator.core.fixed import WAD
from aggregator.core.solmath import (
    VIRTUAL_ASSETS,
    VIRTUAL_SHARES,
    mul_div_down,
    mul_div_up,
    wad_div_down,
    wad_div_up,
    wad_mul_down,
)
from aggregator.rules.base import MAX, Calls, CannotJudgeError, Taken, WouldRevertError, health, need, spread

CURSOR = 3 * WAD // 10
LARGEST_INCENTIVE = 115 * WAD // 100
PRICE_SCALE = 10**36


def incentive_wad(lltv_wad: int) -> int:
    """Liquidation incentive factor min(1.15, 1 / (1 - 0.3 * (1 - LLTV))), floored as the contract does."""
    return min(LARGEST_INCENTIVE, wad_div_down(WAD, WAD - wad_mul_down(CURSOR, WAD - lltv_wad)))


def bonus_frac(lltv_wad: int) -> float:
    return (incentive_wad(lltv_wad) - WAD) / WAD


@dataclass(frozen=True, slots=True)
class MorphoBlue:
    name: str = "morpho_blue@1"
    keeps_bad_debt: ClassVar[bool] = False
    rate_ignores_losses: ClassVar[bool] = False
    needs_every_price: ClassVar[bool] = False
    gives_for_nothing: ClassVar[bool] = True
    absorbs: ClassVar[bool] = False
    floors_threshold: ClassVar[bool] = False

    def judge(self, account: Account) -> Judgement:
        """Collateral at the oracle's price and debt, both raw in the loan asset; health = LLTV * collateral / debt.

        liquidatable is the contract's own comparison; the contract has no health factor of its own (floored here).
        """
        lltv, quoted, borrowed = self._position(account)
        limit = wad_mul_down(quoted, lltv)
        owed = account.side("debt")
        loan = owed[0] if owed else None
        return Judgement(
            collateral=quoted,
            debt=borrowed,
            exp=loan.decimals if loan else 0,
            unit=loan.asset if loan else "",
            health_factor=wad_div_down(limit, borrowed) if borrowed else None,
            threshold_wad=lltv,
            liquidatable=limit < borrowed,
        )

    def liquidate(self, account: Account, collateral: str, debt: str, to_cover: int = MAX) -> Liquidation:
        """Largest call that repays at most to_cover assets: all shares, or all collateral where that covers less.

        At a price of 0 all collateral goes for nothing, and all debt is bad.
        """
        self._validate(account, collateral, debt)
        leg, owed = account.side("collateral")[0], account.side("debt")[0]
        if _price(leg) == 0:  # a call by shares divides by it
            return self.liquidate_by_seized(account, leg.amount)
        assets, shares = _totals(owed)
        repay = min(owed.shares, mul_div_down(to_cover, shares + VIRTUAL_SHARES, assets + VIRTUAL_ASSETS))
        if self._seized(account, leg, owed, repay) > leg.amount:
            needed = self._shares_for(account, leg, owed, leg.amount)
            if needed <= repay:
                return self.liquidate_by_seized(account, leg.amount)
            repay = self._largest_within(account, leg, owed, repay)
        return self.liquidate_by_shares(account, repay)

    def liquidate_by_shares(self, account: Account, repaid_shares: int) -> Liquidation:
        """liquidate(market, holder, 0, repaid_shares, '')."""
        leg, owed = account.side("collateral")[0], account.side("debt")[0]
        self._validate(account, leg.asset, owed.asset)
        return self._settle(leg, owed, self._seized(account, leg, owed, repaid_shares), repaid_shares)

    def liquidate_by_seized(self, account: Account, seized: int) -> Liquidation:
        """liquidate(market, holder, seized, 0, '')."""
        leg, owed = account.side("collateral")[0], account.side("debt")[0]
        self._validate(account, leg.asset, owed.asset)
        return self._settle(leg, owed, seized, self._shares_for(account, leg, owed, seized))

    def best_liquidation(self, account: Account) -> Liquidation | None:
        """The whole position; None where healthy or without collateral to seize."""
        if not self.judge(account).liquidatable or not account.side("collateral"):
            return None
        try:
            return self.liquidate(account, account.side("collateral")[0].asset, account.side("debt")[0].asset)
        except WouldRevertError:
            return None

    def batch(self, calls: Calls) -> Taken:
        """Float64 form of the whole position's liquidation; usd or loan units alike. A leg left empty is cleared."""
        collateral, debt, _, _, weighted, bonus, _, _, cover = spread(calls)
        repaid = np.where(health(weighted, debt) < 1.0, np.minimum(debt, cover), 0.0)
        seized = repaid * (1.0 + bonus)
        over = seized >= collateral
        repaid, seized = np.where(over, collateral / (1.0 + bonus), repaid), np.where(over, collateral, seized)
        emptied = over & (seized > 0)
        bad = np.where(emptied, debt - repaid, 0.0)
        return Taken(repaid, seized, np.zeros_like(seized), bad, emptied | ((repaid > 0) & (repaid >= debt)))

    def _position(self, account: Account) -> tuple[int, int, int]:
        lltv, quoted = _lltv(account), 0
        borrowed = sum(leg.amount for leg in account.side("debt"))
        for leg in account.side("collateral"):
            quoted += mul_div_down(leg.amount, _price(leg), PRICE_SCALE)
        return lltv, quoted, borrowed

    def _validate(self, account: Account, collateral: str, debt: str) -> None:
        if [leg.asset for leg in account.side("collateral")] != [collateral]:
            raise WouldRevertError("no such collateral", expected="the market's collateral", found=collateral)
        if [leg.asset for leg in account.side("debt")] != [debt]:
            raise WouldRevertError("no such debt", expected="the market's loan asset", found=debt)
        judged = self.judge(account)
        if not judged.liquidatable:
            raise WouldRevertError("position is healthy", expected=f"< {WAD}", found=shown(judged.health_factor))

    def _seized(self, account: Account, leg: Leg, owed: Leg, repaid_shares: int) -> int:
        assets, shares = _totals(owed)
        repaid = mul_div_down(repaid_shares, assets + VIRTUAL_ASSETS, shares + VIRTUAL_SHARES)
        price = _price(leg)
        if price == 0:
            raise WouldRevertError(
                "division by zero", expected="a positive oracle price to liquidate by shares", found="0"
            )
        return mul_div_down(wad_mul_down(repaid, incentive_wad(_lltv(account))), PRICE_SCALE, price)

    def _shares_for(self, account: Account, leg: Leg, owed: Leg, seized: int) -> int:
        assets, shares = _totals(owed)
        worth = wad_div_up(mul_div_up(seized, _price(leg), PRICE_SCALE), incentive_wad(_lltv(account)))
        return mul_div_up(worth, shares + VIRTUAL_SHARES, assets + VIRTUAL_ASSETS)

    def _largest_within(self, account: Account, leg: Leg, owed: Leg, high: int) -> int:
        """Most shares whose seizure does not exceed the collateral: where both ways round against the last unit."""
        low = 0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._seized(account, leg, owed, middle) <= leg.amount else (low, middle)
        return low

    def _settle(self, leg: Leg, owed: Leg, seized: int, repaid_shares: int) -> Liquidation:
        if repaid_shares > owed.shares or seized > leg.amount or seized == repaid_shares == 0:
            raise WouldRevertError(
                "inconsistent input or underflow",
                expected=f"at most {owed.shares} shares and {leg.amount} collateral, not both zero",
                found=f"{repaid_shares} shares, {seized} collateral",
            )
        assets, shares = _totals(owed)
        repaid = mul_div_up(repaid_shares, assets + VIRTUAL_ASSETS, shares + VIRTUAL_SHARES)
        assets, shares = max(assets - repaid, 0), shares - repaid_shares
        left_shares, bad = owed.shares - repaid_shares, 0
        left = mul_div_up(left_shares, assets + VIRTUAL_ASSETS, shares + VIRTUAL_SHARES)
        if seized == leg.amount:
            bad, left = min(assets, left), 0
        return Liquidation(
            collateral=leg.asset,
            debt=owed.asset,
            repaid=repaid,
            seized=seized,
            protocol_fee=0,
            left_collateral=leg.amount - seized,
            left_debt=left,
            bad_debt={owed.asset: bad} if bad else {},
        )


def _lltv(account: Account) -> int:
    return need(account.terms, "lltv_wad", account.market)


def _totals(owed: Leg) -> tuple[int, int]:
    assets, shares = owed.num - VIRTUAL_ASSETS, owed.den - VIRTUAL_SHARES
    if assets < 0 or shares < owed.shares or mul_div_up(owed.shares, owed.num, owed.den) != owed.amount:
        raise CannotJudgeError(
            f"index of {owed.asset} is not that of a Morpho market",
            expected="num = totalBorrowAssets + 1, den = totalBorrowShares + 1e6, amount rounded up",
            found=f"{owed.num} / {owed.den}",
        )
    return assets, shares


def _price(leg: Leg) -> int:
    """oracle.price(), which may be zero: then the collateral counts for nothing, as in the contract."""
    if leg.price is None or leg.price.raw < 0:
        raise CannotJudgeError(
            f"no price for {leg.asset}", expected="oracle.price() of the market", found=shown(leg.price)
        )
    return leg.price.raw
