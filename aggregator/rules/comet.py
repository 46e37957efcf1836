"""Compound v3 (Comet): isLiquidatable and absorb. The protocol takes all collateral and clears the debt.

Source: compound-finance/comet d5a30b0 Comet.sol (isLiquidatable, absorbInternal). There is no close factor and nobody
repays: the account is credited the value of all its collateral times each liquidationFactor; what that does not cover
is paid out of the reserves, what exceeds the debt stays with the account as supply. The collateral is sold afterwards.
No absorption touches baseSupplyIndex: reserves, which are what is left over, may fall below zero instead.

Terms: asset `liquidate_collateral_factor_wad`, `liquidation_factor_wad`. One debt leg, the base asset; one price unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from aggregator.core.account import Account, Judgement, Leg, Liquidation
from aggregator.core.errors import shown
from aggregator.core.ids import USD
from aggregator.core.solmath import mul_div_down, wad_div_down, wad_mul_down
from aggregator.rules.base import MAX, Calls, Taken, WouldRevertError, find, health, need, price_of, spread, worthless


@dataclass(frozen=True, slots=True)
class Comet:
    name: str = "comet@1"
    keeps_bad_debt: ClassVar[bool] = False
    rate_ignores_losses: ClassVar[bool] = True
    needs_every_price: ClassVar[bool] = True
    gives_for_nothing: ClassVar[bool] = False
    absorbs: ClassVar[bool] = True
    floors_threshold: ClassVar[bool] = False

    def judge(self, account: Account) -> Judgement:
        """Values at the price feeds' places; liquidatable as isLiquidatable, health floored (the contract has none).

        A price of zero counts for nothing, and nobody is absorbed: the contract reverts (BadPrice).
        """
        exp = next((leg.price.exp for leg in account.side("debt") if leg.price), 8)
        total = limit = 0
        for leg in account.side("collateral"):
            value = _value(leg, exp)
            total += value
            limit += wad_mul_down(value, need(leg.terms, "liquidate_collateral_factor_wad", leg.asset))
        debt = sum(_value(leg, exp) for leg in account.side("debt"))
        return Judgement(
            collateral=total,
            debt=debt,
            exp=exp,
            unit=USD,
            health_factor=wad_div_down(limit, debt) if debt else None,
            threshold_wad=wad_div_down(limit, total) if total else 0,
            liquidatable=limit < debt and not worthless(account),
        )

    def liquidate(self, account: Account, collateral: str, debt: str, to_cover: int = MAX) -> Liquidation:
        """absorb(holder), seen from one collateral: every other one is taken too, whatever to_cover says.

        repaid: debt cleared by the credit for all collateral; bad_debt: what the reserves pay beyond it.
        """
        if free := worthless(account):
            raise WouldRevertError("BadPrice", expected="a price above zero of every asset", found=f"0 of {free}")
        judged = self.judge(account)
        if not judged.liquidatable:
            raise WouldRevertError(
                "NotLiquidatable", expected="debt above the limit", found=shown(judged.health_factor)
            )
        leg, owed = find(account, collateral, "collateral"), find(account, debt, "debt")
        credit = sum(
            wad_mul_down(_value(x, judged.exp), need(x.terms, "liquidation_factor_wad", x.asset))
            for x in account.side("collateral")
        )
        repaid = min(owed.amount, mul_div_down(credit, 10**owed.decimals, price_of(owed)))
        bad = owed.amount - repaid
        return Liquidation(collateral, debt, repaid, leg.amount, 0, 0, 0, {debt: bad} if bad else {})

    def best_liquidation(self, account: Account) -> Liquidation | None:
        """The absorption, seen from the collateral worth most ('' where there is none left); None where healthy."""
        judged = self.judge(account)
        if not judged.liquidatable:
            return None
        owed, legs = account.side("debt")[0], account.side("collateral")
        if not legs:
            return Liquidation("", owed.asset, 0, 0, 0, 0, 0, {owed.asset: owed.amount})
        return self.liquidate(account, max(legs, key=lambda leg: _value(leg, judged.exp)).asset, owed.asset)

    def batch(self, calls: Calls) -> Taken:
        """Float64 absorption: collateral_usd is all of it, bonus_frac one minus the liquidation factor."""
        collateral, debt, _, _, weighted, penalty, _, _, cover = spread(calls)
        taken = (health(weighted, debt) < 1.0) & (cover > 0)
        repaid = np.where(taken, np.minimum(debt, collateral * (1.0 - penalty)), 0.0)
        seized, bad = np.where(taken, collateral, 0.0), np.where(taken, debt - repaid, 0.0)
        return Taken(repaid, seized, np.zeros_like(seized), bad, taken)


def _value(leg: Leg, exp: int) -> int:
    return mul_div_down(leg.amount, price_of(leg, exp), 10**leg.decimals)
