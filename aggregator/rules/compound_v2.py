"""Compound v2 and its forks: Comptroller.getAccountLiquidity and CToken.liquidateBorrow.

Source: compound-protocol Comptroller.sol (getHypotheticalAccountLiquidityInternal, liquidateBorrowAllowed,
liquidateCalculateSeizeTokens) and CToken.sol (liquidateBorrowFresh, seizeInternal). The collateral factor is both loan
to value and liquidation threshold. Debt that no collateral covers stays on the account and in totalBorrows, so that the
exchange rate = (cash + totalBorrows - totalReserves) / totalSupply does not fall with it.

A collateral leg's shares are cTokens, its index the exchange rate; a book that knows underlying amounts alone has
shares = amount and index 1. Terms: market `close_factor_wad`, `liquidation_incentive_wad`; asset
`collateral_factor_wad` (0 counts for nothing), optional `protocol_seize_share_wad`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from aggregator.core.account import Account, Judgement, Leg, Liquidation
from aggregator.core.fixed import WAD, rescale
from aggregator.core.ids import USD
from aggregator.core.solmath import mul_div_down, wad_div_down, wad_mul_down
from aggregator.rules.base import MAX, Calls, Taken, WouldRevertError, find, health, need, price_of, spread, worthless


@dataclass(frozen=True, slots=True)
class CompoundV2:
    name: str = "compound_v2@1"
    keeps_bad_debt: ClassVar[bool] = True
    rate_ignores_losses: ClassVar[bool] = True
    needs_every_price: ClassVar[bool] = True
    gives_for_nothing: ClassVar[bool] = False
    absorbs: ClassVar[bool] = False
    floors_threshold: ClassVar[bool] = False

    def judge(self, account: Account) -> Judgement:
        """Values at 18 places in the oracle's quote; health = (borrow limit) / debt, floored, liquidatable below one.

        A price of zero is an error to the Comptroller (PRICE_ERROR): it counts for nothing, and nobody can be called.
        The contract answers liquidity and shortfall alone: they are `limit - debt` and `debt - limit`, see `liquidity`.
        """
        collateral, limit, debt = self._sums(account)
        return Judgement(
            collateral=collateral,
            debt=debt,
            exp=18,
            unit=USD,
            health_factor=wad_div_down(limit, debt) if debt else None,
            threshold_wad=wad_div_down(limit, collateral) if collateral else 0,
            liquidatable=debt > limit and not worthless(account),
        )

    def liquidity(self, account: Account) -> tuple[int, int]:
        """(liquidity, shortfall) of Comptroller.getAccountLiquidity, 18 places."""
        _, limit, debt = self._sums(account)
        return max(limit - debt, 0), max(debt - limit, 0)

    def liquidate(self, account: Account, collateral: str, debt: str, to_cover: int = MAX) -> Liquidation:
        """liquidateBorrow of as much as the close factor and the seized collateral allow, at most to_cover."""
        if free := worthless(account):
            raise WouldRevertError("PRICE_ERROR", expected="a price above zero of every asset", found=f"0 of {free}")
        if not self.liquidity(account)[1]:
            raise WouldRevertError("INSUFFICIENT_SHORTFALL", expected="a shortfall", found=account.holder)
        leg, owed = find(account, collateral, "collateral"), find(account, debt, "debt")
        incentive = need(account.terms, "liquidation_incentive_wad", account.market)
        numerator = wad_mul_down(incentive, _mantissa(owed))
        denominator = wad_mul_down(_mantissa(leg), _exchange_rate(leg))
        if denominator == 0:
            raise WouldRevertError("division by zero", expected="collateral worth a unit", found=collateral)
        ratio = wad_div_down(numerator, denominator)
        most = wad_mul_down(need(account.terms, "close_factor_wad", account.market), owed.amount)
        if ratio:  # LIQUIDATE_SEIZE_TOO_MUCH above this
            most = min(most, ((leg.shares + 1) * WAD - 1) // ratio)
        repaid = min(most, to_cover)
        if repaid <= 0:
            raise WouldRevertError("INVALID_CLOSE_AMOUNT_REQUESTED", expected="> 0", found=str(repaid))
        seized = wad_mul_down(ratio, repaid)
        fee = wad_mul_down(seized, leg.terms.get("protocol_seize_share_wad", 0))
        to_liquidator, fee = (mul_div_down(shares, leg.num, leg.den) for shares in (seized - fee, fee))
        return Liquidation(
            collateral=collateral,
            debt=debt,
            repaid=repaid,
            seized=to_liquidator + fee,
            protocol_fee=fee,
            left_collateral=mul_div_down(leg.shares - seized, leg.num, leg.den),
            left_debt=owed.amount - repaid,
            bad_debt={},
        )

    def best_liquidation(self, account: Account) -> Liquidation | None:
        """Over all pairs the largest call, the pair with the largest profit at the oracle's prices."""
        if not self.judge(account).liquidatable:
            return None
        best: tuple[Fraction, Liquidation] | None = None
        for leg in account.side("collateral"):
            for owed in account.side("debt"):
                try:
                    call = self.liquidate(account, leg.asset, owed.asset)
                except WouldRevertError:
                    continue
                profit = Fraction(call.to_liquidator * _mantissa(leg) - call.repaid * _mantissa(owed), WAD)
                if best is None or profit > best[0]:
                    best = (profit, call)
        return best[1] if best else None

    def batch(self, calls: Calls) -> Taken:
        """Float64 form of the largest call; fee_frac is the protocol's share of the seized."""
        collateral, debt, _, all_debt, weighted, bonus, fee, close, cover = spread(calls)
        allowed = np.where(health(weighted, all_debt) < 1.0, np.minimum(close * debt, cover), 0.0)
        over = allowed * (1.0 + bonus) >= collateral  # then all of it, to the last bit
        repaid = np.where(over, collateral / (1.0 + bonus), allowed)
        seized = np.where(over, collateral, repaid * (1.0 + bonus))
        return Taken(repaid, seized, seized * fee, np.zeros_like(repaid), (repaid > 0) & (repaid >= all_debt))

    def _sums(self, account: Account) -> tuple[int, int, int]:
        collateral = limit = 0
        for leg in account.side("collateral"):
            price, rate = _mantissa(leg), _exchange_rate(leg)
            factor = need(leg.terms, "collateral_factor_wad", leg.asset)
            collateral += wad_mul_down(wad_mul_down(rate, price), leg.shares)
            limit += wad_mul_down(wad_mul_down(wad_mul_down(factor, rate), price), leg.shares)
        return collateral, limit, sum(wad_mul_down(_mantissa(leg), leg.amount) for leg in account.side("debt"))


def _mantissa(leg: Leg) -> int:
    """The oracle's scale: price of a whole unit times 10^(36 - decimals)."""
    price_of(leg)
    assert leg.price is not None
    return rescale(leg.price.raw, leg.price.exp, 36 - leg.decimals)


def _exchange_rate(leg: Leg) -> int:
    return mul_div_down(leg.num, WAD, leg.den)
