"""Lyra v1 (Avalon): margin of short options, liquidation fees, settlement. Every position stands alone.

Source: @lyrafinance/protocol 0.1.3-alpha (Avalon) OptionGreekCache.getMinCollateral and getShockVol,
OptionToken.canLiquidate and getLiquidationFees, ShortCollateral.settleOptions; derivexyz/v1-core ea9e36a (Newport) is
the same but for settlement, where an insolvent pool scales longs down. A short must hold

    min(max(Black-Scholes(shocked spot, shock volatility) * amount, static minimum), full collateral)

of its collateral: base for covered calls, quote otherwise. The price is the contract's own fixed-point one
(`rules.lyra_maths`), so the requirement is exact to the unit.

Account: an option leg (side long or short, ref the position's id, price the spot, terms strike, strike_exp, expiry_s,
is_call) and a margin leg of the same ref, its shares the contract's 18 places whatever the token has; a short call
whose margin is the underlying itself is covered. Terms of the market: rate_and_carry, min_static_quote_collateral,
min_static_base_collateral, shock_vol_a, shock_vol_point_a_s, shock_vol_b, shock_vol_point_b_s, call_spot_price_shock,
put_spot_price_shock; for fees penalty_ratio, liquidator_fee_ratio, sm_fee_ratio, min_liquidation_fee; per series
`series:<expiry_s>:<strike>:` iv, frozen, price_at_expiry, base_returned_ratio, in Newport long_scale_factor. Nothing
trades on a frozen board (OptionMarket._doTrade reverts BoardIsFrozen), liquidations included.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from aggregator.core.account import Account, Judgement, Leg, Liquidation
from aggregator.core.fixed import WAD, rescale
from aggregator.rules.base import MAX, CannotJudgeError, WouldRevertError, need, price_of
from aggregator.rules.lyra_maths import divide, multiply, prices


class Kind(IntEnum):
    """OptionMarket.OptionType."""

    LONG_CALL = 0
    LONG_PUT = 1
    SHORT_CALL_BASE = 2
    SHORT_CALL_QUOTE = 3
    SHORT_PUT_QUOTE = 4


class Position(NamedTuple):
    """One option position; all amounts wad, collateral in its own asset ('' for a long)."""

    ref: str
    kind: Kind
    amount: int
    strike: int
    expiry_s: int
    spot: int
    collateral: int
    asset: str
    leg: Leg


class Fees(NamedTuple):
    """OptionToken.LiquidationFees, in the collateral asset; insolvent in quote."""

    returned: int
    lp_premiums: int
    lp_fee: int
    liquidator_fee: int
    sm_fee: int
    insolvent: int


class Settlement(NamedTuple):
    """What the holder gets back or out (quote; base for a covered call) and what his collateral could not pay."""

    paid: int
    insolvent: int


@dataclass(frozen=True, slots=True)
class LyraV1:
    name: str = "lyra_v1@1"

    def positions(self, account: Account) -> tuple[Position, ...]:
        margins = {leg.ref: leg for leg in account.side("margin")}
        return tuple(_position(leg, margins.get(leg.ref)) for leg in account.side("long", "short"))

    def min_collateral(self, account: Account, position: Position) -> int:
        """OptionGreekCache.getMinCollateral at the account's time and spot, in the collateral asset; 0 for a long."""
        if position.kind < Kind.SHORT_CALL_BASE or position.amount == 0:
            return 0
        put = position.kind == Kind.SHORT_PUT_QUOTE
        shocked = multiply(
            position.spot, self._term(account, "put_spot_price_shock" if put else "call_spot_price_shock")
        )
        left_s = max(position.expiry_s - account.time_s, 0)
        vol, rate = self.shock_vol(account, left_s), self._term(account, "rate_and_carry")
        quoted = prices(left_s, vol, shocked, position.strike, rate)
        if position.kind == Kind.SHORT_CALL_BASE:
            needed = divide(multiply(quoted.call, position.amount), shocked)
            return min(max(needed, self._term(account, "min_static_base_collateral")), position.amount)
        static = self._term(account, "min_static_quote_collateral")
        if position.kind == Kind.SHORT_CALL_QUOTE:
            return max(multiply(quoted.call, position.amount), static)
        return min(max(multiply(quoted.put, position.amount), static), multiply(position.amount, position.strike))

    def shock_vol(self, account: Account, left_s: int) -> int:
        """getShockVol: A up to point A, B from point B, straight between."""
        a, b = self._term(account, "shock_vol_a"), self._term(account, "shock_vol_b")
        first, last = self._term(account, "shock_vol_point_a_s"), self._term(account, "shock_vol_point_b_s")
        if left_s <= first:
            return a
        return b if left_s >= last else a - (a - b) * (left_s - first) // (last - first)

    def judge(self, account: Account) -> Judgement:
        """Quote value of the collateral and of the requirement, 18 places; health of the weakest position, floored.

        liquidatable where any short position holds less than its requirement (OptionToken.canLiquidate) before expiry,
        on a frozen board too, where the call itself is refused.
        """
        held = required = 0
        health, any_short = None, False
        for position in self.positions(account):
            if position.kind < Kind.SHORT_CALL_BASE:
                continue
            needed, base = self.min_collateral(account, position), position.kind == Kind.SHORT_CALL_BASE
            held += multiply(position.collateral, position.spot) if base else position.collateral
            required += multiply(needed, position.spot) if base else needed
            if needed:
                own = position.collateral * WAD // needed
                health = own if health is None else min(health, own)
            any_short |= self.can_liquidate(account, position)
        return Judgement(held, required, 18, "", health, WAD, any_short, margined=True)

    def can_liquidate(self, account: Account, position: Position) -> bool:
        short = position.kind >= Kind.SHORT_CALL_BASE and position.expiry_s > account.time_s
        return short and position.collateral < self.min_collateral(account, position)

    def fees(self, account: Account, position: Position, premium: int) -> Fees:
        """getLiquidationFees: premium is what closing costs in the collateral asset."""
        smallest, multiplier = self._term(account, "min_liquidation_fee"), WAD
        if position.kind == Kind.SHORT_CALL_BASE:
            smallest, multiplier = divide(smallest, position.spot), position.spot
        held, owed, returned, insolvent = position.collateral, premium + smallest, 0, 0
        if held >= owed:
            penalty = max(multiply(held - premium, self._term(account, "penalty_ratio")), smallest)
            returned = held - premium - penalty
        elif held >= smallest:
            penalty, insolvent = smallest, multiply(owed - held, multiplier)
        else:
            penalty, insolvent = held, multiply(premium, multiplier)
        sm = multiply(penalty, self._term(account, "sm_fee_ratio"))
        liquidator = multiply(penalty, self._term(account, "liquidator_fee_ratio"))
        return Fees(returned, held - penalty - returned, penalty - sm - liquidator, liquidator, sm, insolvent)

    def liquidate(self, account: Account, collateral: str, debt: str, to_cover: int = MAX) -> Liquidation:
        """liquidatePosition of the position with id `debt`; to_cover is the premium the pool asks, in `collateral`.

        The pool's price depends on its own volatility averages, which are no part of the account: it must be given.
        protocol_fee: what pool and security module get, premium included; bad_debt: the pool's loss in quote.
        """
        position = self._find(account, debt)
        if _frozen(position):
            raise WouldRevertError("BoardIsFrozen", expected="a board that trades", found=_scope(position))
        if position.asset != collateral:
            raise WouldRevertError("no such collateral", expected=position.asset, found=collateral)
        if not self.can_liquidate(account, position):
            raise WouldRevertError("PositionNotLiquidatable", expected="collateral below the minimum", found=debt)
        if to_cover == MAX:
            raise CannotJudgeError("the pool's premium is unknown", expected="to_cover = premium", found="none")
        fees = self.fees(account, position, to_cover)
        to_pool = fees.lp_fee + fees.sm_fee + fees.lp_premiums
        bad = {debt: fees.insolvent} if fees.insolvent else {}
        return Liquidation(collateral, debt, to_cover, to_pool + fees.liquidator_fee, to_pool, fees.returned, 0, bad)

    def best_liquidation(self, account: Account) -> Liquidation | None:
        """The weakest position, closed at its fair price under the series' `iv`; the pool will ask more than that.

        None where no board that trades has one; CannotJudgeError without the volatility of the series.
        """
        weak = [p for p in self.positions(account) if self.can_liquidate(account, p) and not _frozen(p)]
        if not weak:
            return None
        position = min(weak, key=lambda p: (p.collateral * WAD // self.min_collateral(account, p), p.ref))
        rate, left_s = self._term(account, "rate_and_carry"), position.expiry_s - account.time_s
        fair = prices(left_s, _series(position, "iv"), position.spot, position.strike, rate)
        premium = multiply(fair.put if position.kind == Kind.SHORT_PUT_QUOTE else fair.call, position.amount)
        if position.kind == Kind.SHORT_CALL_BASE:
            premium = divide(premium, position.spot)
        return self.liquidate(account, position.asset, position.ref, premium)

    def settle(self, position: Position) -> Settlement:
        """ShortCollateral.settleOptions after expiry, at the series' `price_at_expiry` and `base_returned_ratio`.

        Newport pays longs on amount * `long_scale_factor`, rounded before the price is; Avalon has no such term.
        CannotJudgeError before the board is settled.
        """
        end, strike, amount = _series(position, "price_at_expiry"), position.strike, position.amount
        if position.kind < Kind.SHORT_CALL_BASE:
            scaled = multiply(amount, position.leg.terms.get(f"{_scope(position)}:long_scale_factor", WAD))
            gain = end - strike if position.kind == Kind.LONG_CALL else strike - end
            return Settlement(multiply(max(gain, 0), scaled), 0)
        if position.kind == Kind.SHORT_CALL_BASE:
            owed = multiply(_series(position, "base_returned_ratio"), amount)
        else:
            owed = multiply(max(strike - end if position.kind == Kind.SHORT_PUT_QUOTE else end - strike, 0), amount)
        return Settlement(max(position.collateral - owed, 0), max(owed - position.collateral, 0))

    def _find(self, account: Account, ref: str) -> Position:
        for position in self.positions(account):
            if position.ref == ref:
                return position
        raise WouldRevertError(f"{account.holder} has no position {ref}", expected="a position id", found=ref)

    def _term(self, account: Account, key: str) -> int:
        return need(account.terms, key, account.market)


def _position(leg: Leg, margin: Leg | None) -> Position:
    call = need(leg.terms, "is_call", leg.asset)
    if leg.side == "long":
        kind = Kind.LONG_CALL if call else Kind.LONG_PUT
    elif not call:
        kind = Kind.SHORT_PUT_QUOTE
    else:
        kind = Kind.SHORT_CALL_BASE if margin and margin.asset == leg.asset else Kind.SHORT_CALL_QUOTE
    if leg.side == "short" and margin is None:
        raise CannotJudgeError(f"short position {leg.ref} has no collateral leg", expected="a margin leg", found="none")
    strike = rescale(need(leg.terms, "strike", leg.asset), leg.terms.get("strike_exp", 18), 18)
    spot = price_of(leg)
    if spot == 0:
        raise CannotJudgeError(f"spot of {leg.asset} is 0", expected="> 0: the margin takes its logarithm", found="0")
    assert leg.price is not None
    return Position(
        ref=leg.ref,
        kind=kind,
        amount=rescale(leg.amount, leg.decimals, 18),
        strike=strike,
        expiry_s=need(leg.terms, "expiry_s", leg.asset),
        spot=rescale(spot, leg.price.exp, 18),
        collateral=margin.shares if margin else 0,
        asset=margin.asset if margin else "",
        leg=leg,
    )


def _series(position: Position, key: str) -> int:
    return need(position.leg.terms, f"{_scope(position)}:{key}", position.leg.asset)


def _frozen(position: Position) -> bool:
    return bool(position.leg.terms.get(f"{_scope(position)}:frozen", 0))


def _scope(position: Position) -> str:
    return f"series:{position.expiry_s}:{need(position.leg.terms, 'strike', position.leg.asset)}"
