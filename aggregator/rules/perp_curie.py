"""Perpetual Protocol v2 "Curie": account value, margin requirement, liquidation by taking over at the mark price.

Source: @perp/curie-contract 2.8.4 Vault.getAccountValue, AccountBalance.getMarginRequirementForLiquidation and
getLiquidatablePositionSize, ClearingHouse._liquidate, Vault.settleBadDebt. All of a position is taken where it is worth
at most 100 or the account value is below half the requirement, else at most half of all positions' value. Signed
divisions cut towards zero, the account value is floored to the settlement token's decimals.

Account: per perpetual a leg (side long or short, decimals 18, price its reference price at 18 places: the mark, or the
closed price) with terms size and open_notional (signed, makers' ranges included), optional open (0 where trading is
halted: nobody can be liquidated there); margin legs: the settlement token has no price of the market's, the others
count at theirs times `collateral_ratio_pips`. Terms: mm_ratio_pips,
liquidation_penalty_pips, settlement_decimals, insurance_fund_capacity (settlement raw). Own: owed_realized_pnl,
pending_fee, and one `pending_funding` per perpetual (any key that begins so), 18 places; optional settlement_balance
(signed raw, where the vault's balance is negative), has_order. The fund's own fee counts towards its capacity, which is
known to one raw unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aggregator.core.account import Account, Judgement, Leg, Liquidation
from aggregator.core.fixed import WAD
from aggregator.core.solmath import mul_div_down, sdiv
from aggregator.rules.base import F8, MAX, CannotJudgeError, Number, WouldRevertError, find, need, price_of

PIPS = 1_000_000
WHOLE_BELOW = 100 * WAD


class Margin(NamedTuple):
    """18 places: account value as getAccountValue, requirement, and the sum of absolute position values."""

    value: int
    requirement: int
    positions: int


class PerpTaken(NamedTuple):
    """(n,) float64: notional taken over, penalty on it, the insurance fund's part, and what is left below zero."""

    closed_usd: F8
    penalty_usd: F8
    to_insurance_usd: F8
    shortfall_usd: F8


@dataclass(frozen=True, slots=True)
class PerpCurie:
    name: str = "perp_curie@1"

    def margin(self, account: Account) -> Margin:
        legs = account.side("long", "short")
        values = {leg.asset: _value(leg, _size(leg)) for leg in legs}
        positions = sum(abs(value) for value in values.values())
        raw = self._cash(account) + sum(values.values()) + sum(need(x.terms, "open_notional", x.asset) for x in legs)
        requirement = positions * need(account.terms, "mm_ratio_pips", account.market) // PIPS
        return Margin(self._formatted(account, raw) * self._unit(account), requirement, positions)

    def judge(self, account: Account) -> Judgement:
        """Account value against the liquidation requirement, 18 places; health = value / requirement, floored."""
        margin = self.margin(account)
        return Judgement(
            collateral=margin.value,
            debt=margin.requirement,
            exp=18,
            unit=self._settlement(account),
            health_factor=margin.value * WAD // margin.requirement if margin.requirement else None,
            threshold_wad=WAD,
            liquidatable=margin.value < margin.requirement,
            margined=True,
        )

    def liquidatable_size(self, account: Account, base: str) -> int:
        """AccountBalance.getLiquidatablePositionSize: signed, 18 places; 0 where the account is healthy."""
        margin, size = self.margin(account), _size(find(account, base, "long", "short"))
        if margin.value >= margin.requirement:
            return 0
        worth = abs(_value(find(account, base, "long", "short"), size))
        if worth <= WHOLE_BELOW or margin.value < sdiv(margin.requirement, 2):
            return size
        ratio = mul_div_down(margin.positions, PIPS, worth * 2)
        if ratio >= 2**24:  # the contract casts before it caps
            raise WouldRevertError("SafeCast: value doesn't fit in 24 bits", expected="< 16777216", found=str(ratio))
        return sdiv(size * min(ratio, PIPS), PIPS)

    def liquidate(self, account: Account, collateral: str, debt: str, to_cover: int = MAX) -> Liquidation:
        """liquidate(trader, base = debt, size): repaid is the size taken over, seized the penalty, both 18 places.

        protocol_fee: the insurance fund's half (none if the account value is negative). left_debt: size left.
        left_collateral and bad_debt are raw settlement tokens: account value left, and what the fund pays of it where
        no position and no other collateral is left.
        """
        leg = find(account, debt, "long", "short")
        if not leg.terms.get("open", 1):
            raise WouldRevertError("CH_MNO", expected="an open market", found=debt)
        if account.own.get("has_order", 0):
            raise WouldRevertError("CH_CLWTISO", expected="a trader without open orders", found=account.holder)
        margin = self.margin(account)
        if margin.value >= margin.requirement:
            raise WouldRevertError(
                "CH_EAV", expected=f"account value below {margin.requirement}", found=str(margin.value)
            )
        most, size = self.liquidatable_size(account, debt), _size(leg)
        taken = most if to_cover >= abs(most) else (to_cover if size > 0 else -to_cover)
        notional = _value(leg, taken)
        penalty = abs(notional) * need(account.terms, "liquidation_penalty_pips", account.market) // PIPS
        to_fund = 0 if margin.value < 0 else penalty - penalty // 2
        others = [x for x in account.side("long", "short") if x.asset != debt]
        raw = self._cash(account) + sum(_value(x, _size(x)) for x in others) + _value(leg, size - taken) + notional
        raw += sum(need(x.terms, "open_notional", x.asset) for x in (*others, leg)) - penalty
        after = self._formatted(account, raw)
        capacity = account.terms.get("insurance_fund_capacity")
        if capacity is not None and after < 0 and (fund := capacity + to_fund // self._unit(account)) < -after:
            raise WouldRevertError("CH_IIC", expected=f"insurance fund capacity {-after}", found=str(fund))
        settled = after < 0 and size == taken and not others and not self._others_collateral(account)
        return Liquidation(
            collateral=collateral,
            debt=debt,
            repaid=abs(taken),
            seized=penalty,
            protocol_fee=to_fund,
            left_collateral=max(after, 0),
            left_debt=abs(size - taken),
            bad_debt={collateral: -after} if settled else {},
        )

    def best_liquidation(self, account: Account) -> Liquidation | None:
        """The call with the largest fee to the liquidator; None where healthy or refused (open orders, empty fund)."""
        calls: list[Liquidation] = []
        settlement = self._settlement(account)
        for leg in account.side("long", "short"):
            try:
                calls.append(self.liquidate(account, settlement, leg.asset))
            except WouldRevertError:
                continue
        return max(calls, key=lambda call: call.to_liquidator, default=None)

    def _cash(self, account: Account) -> int:
        """Everything of the account value but the positions, 18 places."""
        own, unit = account.own, self._unit(account)
        settlement = [x for x in account.side("margin") if _settles(x)]
        for leg in settlement:  # another token whose ratio and price are both unknown looks like the settlement token
            if len(settlement) > 1 or leg.decimals != need(account.terms, "settlement_decimals", account.market):
                need(leg.terms, "collateral_ratio_pips", leg.asset)
        balance = own.get("settlement_balance", sum(leg.amount for leg in settlement))
        funding = sum(raw for key, raw in own.items() if key.startswith("pending_funding") or ":pending_funding" in key)
        cash = balance * unit + own.get("owed_realized_pnl", 0) + own.get("pending_fee", 0) - funding
        return cash + self.other_collateral(account)

    def other_collateral(self, account: Account) -> int:
        """What collateral besides the settlement token counts for, at its price times its ratio, 18 places."""
        return sum(_collateral(leg) for leg in self._others_collateral(account))

    def _settlement(self, account: Account) -> str:
        """The token that the vault counts in; '' where the account has none of it, only other collateral."""
        return next((x.asset for x in account.side("margin") if _settles(x)), "")

    def _others_collateral(self, account: Account) -> list[Leg]:
        return [x for x in account.side("margin") if not _settles(x) and x.amount]

    def _unit(self, account: Account) -> int:
        places = need(account.terms, "settlement_decimals", account.market)
        if not 0 <= places <= 18:  # the vault scales by 10^(18 - places) in unsigned arithmetic
            raise CannotJudgeError(
                f"settlement_decimals of {account.market} cannot be scaled", expected="0 to 18", found=str(places)
            )
        return int(10 ** (18 - places))

    def _formatted(self, account: Account, raw: int) -> int:
        return raw // self._unit(account)


def batch(
    account_value_usd: Number, position_usd: Number, all_positions_usd: Number, mm_frac: Number, penalty_frac: Number
) -> PerpTaken:
    """Largest liquidation of one perpetual per element, float64; position_usd and all_positions_usd absolute values.

    closed_usd is 0 where healthy. shortfall_usd: how far the account value is below zero afterwards.
    """
    value, position, positions, mm, penalty = (
        np.asarray(x, np.float64)
        for x in np.broadcast_arrays(
            *map(np.atleast_1d, (account_value_usd, position_usd, all_positions_usd, mm_frac, penalty_frac))
        )
    )
    required = positions * mm
    whole = (position <= 100.0) | (value < required / 2)
    closed = np.where(value < required, np.where(whole, position, np.minimum(position, positions / 2)), 0.0)
    fee = closed * penalty
    return PerpTaken(
        closed, fee, np.where(value < 0, 0.0, fee / 2), np.where(closed > 0, np.maximum(fee - value, 0), 0)
    )


def _settles(leg: Leg) -> bool:
    """The token that the vault counts in: the one margin that the market neither prices nor takes at a ratio."""
    return "collateral_ratio_pips" not in leg.terms and leg.price is None


def _size(leg: Leg) -> int:
    return need(leg.terms, "size", leg.asset)


def _value(leg: Leg, size: int) -> int:
    return sdiv(size * price_of(leg, 18), WAD) if size else 0


def _collateral(leg: Leg) -> int:
    """Vault._getCollateralValue times its ratio, 18 places."""
    price = price_of(leg)
    assert leg.price is not None
    if leg.decimals > 18:
        value = leg.amount * price // 10**leg.price.exp // int(10 ** (leg.decimals - 18))
    else:
        value = leg.amount * int(10 ** (18 - leg.decimals)) * price // 10**leg.price.exp
    return int(value) * need(leg.terms, "collateral_ratio_pips", leg.asset) // PIPS
