"""Aave v3 in all its versions: GenericLogic.calculateUserAccountData and LiquidationLogic.executeLiquidationCall.

Sources: aave-v3-core 1.19 (3.0) and aave-v3-origin tags 3.1 to 3.7. What a version changes is a field of `AaveV3`:

    <= 3.1   half-up rounding; close factor on the reserve's debt (50 %, 100 % at health <= 0.95); bad debt stays on the
             account; e-mode is one category per asset with its own price if it names a price source
    3.2      e-mode by bitmaps over reserve ids, no price source
    3.3      close factor on the whole position, all of a reserve below 2000 base units; MIN_LEFTOVER_BASE 1000;
             debt that no collateral covers is burned into the reserve's deficit; as ever, liquidityIndex stays
    3.5      debt rounds up, collateral down; health divides the weighted sum once
    3.6      assets with a zero liquidation threshold count as collateral
    3.7      seizure rounds down, protocol fee up; "no collateral left" is judged on scaled balances

Terms: market `base_unit_exp`, `emode:<id>:*`; asset `liquidation_threshold_bps`, `liquidation_bonus_bps`,
`liquidation_protocol_fee_bps`, `reserve_id` or `emode_category`; optional market `liquidation_allowed` (the sequencer
sentinel's word, up to 3.6), asset `active`, `paused`, `grace_until_s`, `decimals` (the pool's own). A second debt leg
of one asset with ref `stable` is its stable-rate debt (3.0, 3.1).
Not modelled: GHO's discounted debt before 3.4, and a lack of cash to pay the liquidator out (he can take aTokens).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, NamedTuple

from aggregator.core.account import Account, Judgement, Leg, Liquidation, mul_div
from aggregator.core.errors import shown
from aggregator.core.fixed import WAD
from aggregator.core.ids import USD
from aggregator.core.solmath import BPS, mul_div_down, mul_div_up, percent_mul, percent_mul_down, wad_div
from aggregator.rules.aave_v3_batch import batch_by_position, batch_by_reserve, floored
from aggregator.rules.base import MAX, Calls, CannotJudgeError, Taken, WouldRevertError, find, need, price_of

GRACE = "LiquidationGraceSentinelCheckFailed"
CLOSE_FACTOR_BPS = 5_000
CLOSE_FACTOR_HF = 95 * 10**16
FULL_CLOSE_BASE = 2_000 * 10**8
MIN_LEFTOVER_BASE = 1_000 * 10**8


class _Sums(NamedTuple):
    collateral: int
    debt: int
    weighted: int
    health: int | None


class _Seizure(NamedTuple):
    repaid: int
    seized: int
    fee: int


@dataclass(frozen=True, slots=True)
class AaveV3:
    version: tuple[int, int]
    rate_ignores_losses: ClassVar[bool] = True
    needs_every_price: ClassVar[bool] = False
    gives_for_nothing: ClassVar[bool] = False
    absorbs: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"aave_v3@{self.version[0]}.{self.version[1]}"

    @property
    def _directional(self) -> bool:
        return self.version >= (3, 5)

    @property
    def floors_threshold(self) -> bool:
        return not self._directional

    @property
    def keeps_bad_debt(self) -> bool:
        return self.version < (3, 3)

    def judge(self, account: Account) -> Judgement:
        """totalCollateralBase, totalDebtBase, healthFactor and currentLiquidationThreshold of getUserAccountData."""
        sums = self._sums(account)
        average = sums.weighted // sums.collateral if sums.collateral else 0
        return Judgement(
            collateral=sums.collateral,
            debt=sums.debt,
            exp=_base_exp(account),
            unit=USD,
            health_factor=sums.health,
            threshold_wad=average * (WAD // BPS),
            liquidatable=sums.health is not None and sums.health < WAD,
        )

    def ltv_bps(self, account: Account) -> int:
        """ltv of getUserAccountData: value-weighted loan to value of the collateral, in basis points."""
        total = weighted = 0
        for leg in self._counted(account):
            value = self._value(account, leg)
            total += value
            weighted += value * self._leg_ltv(account, leg)
        return weighted // total if total else 0

    def bonus_bps(self, account: Account, leg: Leg) -> int:
        """What a call that seizes this leg pays, 10500 = +5 %: its e-mode's or its own; 0 where none is set."""
        return self._scoped(account, leg, "liquidation_bonus_bps")

    def counts(self, leg: Leg) -> bool:
        """Whether a flagged asset is collateral: up to 3.5 not where its own liquidation threshold is zero."""
        return self.version >= (3, 6) or need(leg.terms, "liquidation_threshold_bps", leg.asset) != 0

    def in_emode(self, account: Account, leg: Leg) -> bool:
        """Whether the account's e-mode says what this asset counts as collateral."""
        emode = account.own.get("emode", 0)
        if not emode:
            return False
        if self.version < (3, 2):
            return need(leg.terms, "emode_category", leg.asset) == emode
        bitmap = need(account.terms, f"emode:{emode}:collateral_bitmap", account.market)
        return bool(bitmap >> need(leg.terms, "reserve_id", leg.asset) & 1)

    def priced_by_emode(self, account: Account, leg: Leg) -> bool:
        """Whether the account's e-mode has a price of its own for this asset, in place of the asset's."""
        return (
            self.version < (3, 2) and self.in_emode(account, leg) and bool(_emode_price(account, account.own["emode"]))
        )

    def shielded(self, account: Account) -> bool:
        """Whether the sequencer's sentinel lets nobody be called whose health is CLOSE_FACTOR_HF or more."""
        return self.version < (3, 7) and not account.terms.get("liquidation_allowed", 1)

    def closed(self, account: Account, *legs: Leg) -> str:
        """The contract's reason why no call may touch these reserves at the account's time; '' where one may."""
        if any(leg.terms.get("active", 1) == 0 for leg in legs):
            return "ReserveInactive"
        if any(leg.terms.get("paused", 0) for leg in legs):
            return "ReservePaused"
        waits = self.version >= (3, 1) and any(leg.terms.get("grace_until_s", 0) >= account.time_s > 0 for leg in legs)
        return GRACE if waits else ""

    def liquidate(self, account: Account, collateral: str, debt: str, to_cover: int = MAX) -> Liquidation:
        """liquidationCall(collateral, debt, holder, to_cover, receiveAToken=False) at the account's time.

        protocol_fee is what the treasury gets; WouldRevertError carries the contract's reason (names of 3.4+).
        """
        sums = self._validate(account, collateral, debt)
        leg, owed = find(account, collateral, "collateral"), _debts(account, debt)
        self._check_index(leg, *owed)
        taken = self._seizure(account, leg, owed, min(to_cover, self._max_debt(account, leg, owed, sums)))
        if self._leaves_dust(account, leg, owed, taken):
            raise WouldRevertError(
                "MustNotLeaveDust", expected="at least 1000 base units left, or none", found=str(taken)
            )
        return self._settle(account, leg, owed, taken, sums)

    def best_liquidation(self, account: Account) -> Liquidation | None:
        """Over all pairs the largest call that does not revert, the pair with the largest profit; None if none."""
        best: tuple[Fraction, Liquidation] | None = None
        if not self.judge(account).liquidatable:
            return None
        for leg in account.side("collateral"):
            for asset in sorted({d.asset for d in account.side("debt")}):
                call = self._largest(account, leg, asset)
                if call is not None:
                    profit = self._worth(account, leg, call.to_liquidator) - self._worth(
                        account, find(account, asset, "debt"), call.repaid
                    )
                    if best is None or profit > best[0]:
                        best = (profit, call)
        return best[1] if best else None

    def batch(self, calls: Calls) -> Taken:
        """Float64 form of the largest allowed call; base units are USD."""
        if self.floors_threshold:
            calls = calls._replace(weighted_usd=floored(calls.weighted_usd, calls.all_collateral_usd))
        return batch_by_position(calls) if self.version >= (3, 3) else batch_by_reserve(calls)

    # value ------------------------------------------------------------------------------------------------------

    def _sums(self, account: Account) -> _Sums:
        collateral = weighted = debt = 0
        for leg in self._counted(account):
            value = self._value(account, leg)
            collateral += value
            weighted += value * self._threshold(account, leg)
        for asset in {leg.asset for leg in account.side("debt")}:
            legs = _debts(account, asset)
            debt += self._debt_value(account, legs, sum(leg.amount for leg in legs))
        if debt == 0:
            return _Sums(collateral, debt, weighted, None)
        if self._directional:
            return _Sums(collateral, debt, weighted, wad_div(weighted, debt) // BPS)
        average = weighted // collateral if collateral else 0
        return _Sums(collateral, debt, weighted, wad_div(percent_mul(collateral, average), debt))

    def _counted(self, account: Account) -> Iterator[Leg]:
        return (leg for leg in account.side("collateral") if self.counts(leg))

    def _price(self, account: Account, leg: Leg) -> int:
        if self.priced_by_emode(account, leg):
            return _emode_price(account, account.own["emode"])
        return price_of(leg, _base_exp(account))

    def _value(self, account: Account, leg: Leg) -> int:
        return leg.amount * self._price(account, leg) // _unit(leg)

    def _worth(self, account: Account, leg: Leg, amount: int) -> Fraction:
        return Fraction(amount * self._price(account, leg), _unit(leg))

    def _debt_value(self, account: Account, legs: tuple[Leg, ...], amount: int) -> int:
        divide = mul_div_up if self._directional else mul_div_down
        return divide(amount, self._price(account, legs[0]), _unit(legs[0]))

    def _scoped(self, account: Account, leg: Leg, key: str) -> int:
        """The e-mode's term where the asset is in the account's e-mode, else the asset's own."""
        if self.in_emode(account, leg):
            return need(account.terms, f"emode:{account.own['emode']}:{key}", account.market)
        return need(leg.terms, key, leg.asset)

    def _threshold(self, account: Account, leg: Leg) -> int:
        return self._scoped(account, leg, "liquidation_threshold_bps")

    def _leg_ltv(self, account: Account, leg: Leg) -> int:
        own = need(leg.terms, "ltv_bps", leg.asset)
        if self.version < (3, 6):
            return self._scoped(account, leg, "ltv_bps") if own else 0
        emode = account.own.get("emode", 0)
        if self.in_emode(account, leg):
            zero = account.terms.get(f"emode:{emode}:ltvzero_bitmap", 0)
            out = need(account.terms, f"emode:{emode}:ltv_bps", account.market)
            return 0 if zero >> need(leg.terms, "reserve_id", leg.asset) & 1 else out
        return 0 if emode and account.terms.get(f"emode:{emode}:isolated", 0) else own

    # the call ---------------------------------------------------------------------------------------------------

    def _validate(self, account: Account, collateral: str, debt: str) -> _Sums:
        """ValidationLogic.validateLiquidationCall, in its order."""
        sums = self._sums(account)
        closed = self.closed(account, *(leg for leg in account.legs if leg.asset in (collateral, debt)))
        if self.shielded(account) and closed in ("", GRACE) and (sums.health is None or sums.health >= CLOSE_FACTOR_HF):
            raise WouldRevertError(
                "PriceOracleSentinelCheckFailed", expected=f"< {CLOSE_FACTOR_HF}", found=shown(sums.health)
            )
        if closed:
            raise WouldRevertError(closed, expected="active, unpaused reserves", found=f"{collateral}, {debt}")
        if sums.health is None or sums.health >= WAD:
            raise WouldRevertError("HealthFactorNotBelowThreshold", expected=f"< {WAD}", found=shown(sums.health))
        leg = next((x for x in account.side("collateral") if x.asset == collateral), None)
        if leg is None or not self.counts(leg):
            raise WouldRevertError(
                "CollateralCannotBeLiquidated", expected="an asset in use as collateral", found=collateral
            )
        if sum(x.amount for x in _debts(account, debt)) == 0:
            raise WouldRevertError("SpecifiedCurrencyNotBorrowedByUser", expected="a debt of the account", found=debt)
        return sums

    def _max_debt(self, account: Account, leg: Leg, owed: tuple[Leg, ...], sums: _Sums) -> int:
        total, half = sum(x.amount for x in owed), sums.health is not None and sums.health > CLOSE_FACTOR_HF
        if self.version < (3, 3):
            return percent_mul(total, CLOSE_FACTOR_BPS if half else BPS)
        value = self._debt_value(account, owed, total)
        if not half or value < FULL_CLOSE_BASE or self._value(account, leg) < FULL_CLOSE_BASE:
            return total
        cap = percent_mul(sums.debt, CLOSE_FACTOR_BPS)
        return cap * _unit(owed[0]) // self._price(account, owed[0]) if value > cap else total

    def _seizure(self, account: Account, leg: Leg, owed: tuple[Leg, ...], cover: int) -> _Seizure:
        """_calculateAvailableCollateralToLiquidate."""
        price_c, price_d = self._price(account, leg), self._call_price(account, owed[0])
        unit_c, unit_d, bonus = _unit(leg), _unit(owed[0]), self.bonus_bps(account, leg)
        if not price_c or not bonus:  # no bonus: what the configurator leaves with a zero threshold
            raise WouldRevertError("division by zero", expected="a price and a bonus", found=f"0 of {leg.asset}")
        base = price_d * cover * unit_c // (price_c * unit_d)
        seized = percent_mul_down(base, bonus) if self.version >= (3, 7) else percent_mul(base, bonus)
        if seized > leg.amount:
            seized = leg.amount
            worth = price_c * seized * unit_d // (price_d * unit_c)
            cover = mul_div(worth, BPS, bonus, "up" if self._directional else "half_up")
        share, down, up = need(leg.terms, "liquidation_protocol_fee_bps", leg.asset), "half_up", "half_up"
        if self.version >= (3, 7):
            down, up = "down", "up"
        fee = mul_div(seized - mul_div(seized, BPS, bonus, down), share, BPS, up)
        return _Seizure(cover, seized, fee)

    def _call_price(self, account: Account, owed: Leg) -> int:
        """<= 3.1 prices every debt of an account in e-mode by the category's source, whatever the debt's category."""
        emode = account.own.get("emode", 0)
        override = _emode_price(account, emode) if emode and self.version < (3, 2) else 0
        return override or self._price(account, owed)

    def _leaves_dust(self, account: Account, leg: Leg, owed: tuple[Leg, ...], taken: _Seizure) -> bool:
        debt_left, left = sum(x.amount for x in owed) - taken.repaid, leg.amount - taken.seized
        if self.version < (3, 3) or debt_left <= 0 or left <= 0:
            return False
        value = left * self._price(account, leg) // _unit(leg)
        return value < MIN_LEFTOVER_BASE or self._debt_value(account, owed, debt_left) < MIN_LEFTOVER_BASE

    def _largest(self, account: Account, leg: Leg, debt: str) -> Liquidation | None:
        try:
            return self.liquidate(account, leg.asset, debt)
        except WouldRevertError as error:
            if error.message != "MustNotLeaveDust":
                return None
        sums, owed = self._sums(account), _debts(account, debt)
        low, high = 0, self._max_debt(account, leg, owed, sums)  # leaving dust is monotone in what is covered
        while high - low > 1:
            middle = (low + high) // 2
            if self._leaves_dust(account, leg, owed, self._seizure(account, leg, owed, middle)):
                high = middle
            else:
                low = middle
        try:
            return self.liquidate(account, leg.asset, debt, low)
        except WouldRevertError:
            return None

    def _settle(self, account: Account, leg: Leg, owed: tuple[Leg, ...], taken: _Seizure, sums: _Sums) -> Liquidation:
        """Burns and transfers on scaled balances, in the tokens' own rounding."""
        burn, debt_burn = ("up", "down") if self._directional else ("half_up", "half_up")
        total, fee = sum(x.amount for x in owed), taken.fee
        to_liquidator = _shares(taken.seized - fee, leg, burn)
        fee_shares = _shares(fee, leg, burn)
        if taken.repaid > total or to_liquidator == 0:
            raise WouldRevertError("InvalidBurnAmount", expected=f"1 to {total} repaid", found=str(taken))
        none_left = self.version >= (3, 3) and self._none_left(account, leg, taken, to_liquidator + fee_shares, sums)
        left = leg.shares - to_liquidator
        if fee_shares > left:  # the contract sends what is left, in its own rounding
            fee_shares, fee = left, self._amount(leg, left)
        left_debt = 0
        rest = total if none_left else taken.repaid
        for x in sorted(owed, key=lambda x: x.ref == "stable"):
            part = min(rest, x.amount)
            burned = _shares(part, x, debt_burn)
            if part and burned == 0:
                raise WouldRevertError("InvalidBurnAmount", expected="at least one scaled unit", found=str(part))
            left_debt, rest = left_debt + self._amount(x, max(x.shares - burned, 0)), rest - part
        bad = {owed[0].asset: total - taken.repaid} if none_left else {}
        for x in account.side("debt") if none_left else ():
            if x.asset != owed[0].asset and x.terms.get("active", 1):
                bad[x.asset] = bad.get(x.asset, 0) + x.amount
        return Liquidation(
            collateral=leg.asset,
            debt=owed[0].asset,
            repaid=taken.repaid,
            seized=taken.seized - taken.fee + fee,
            protocol_fee=fee,
            left_collateral=self._amount(leg, left - fee_shares),
            left_debt=left_debt,
            bad_debt={asset: amount for asset, amount in bad.items() if amount},
        )

    def _none_left(self, account: Account, leg: Leg, taken: _Seizure, shares: int, sums: _Sums) -> bool:
        gone = taken.seized
        if self.version >= (3, 7):
            gone = self._amount(leg, min(shares, leg.shares))
        return gone * self._price(account, leg) // _unit(leg) == sums.collateral

    def _amount(self, leg: Leg, shares: int) -> int:
        rounding = "half_up" if not self._directional else "up" if leg.side == "debt" else "down"
        return mul_div(shares, leg.num, leg.den, rounding)

    def _check_index(self, *legs: Leg) -> None:
        for leg in legs:
            if self._amount(leg, leg.shares) != leg.amount:
                raise CannotJudgeError(
                    f"amount of {leg.asset} is not shares times index",
                    expected=str(self._amount(leg, leg.shares)),
                    found=str(leg.amount),
                    fix="set Leg.num and Leg.den from the Index row",
                )


def _base_exp(account: Account) -> int:
    return need(account.terms, "base_unit_exp", account.market)


def _emode_price(account: Account, emode: int) -> int:
    source = need(account.terms, f"emode:{emode}:price_source", account.market)
    return need(account.terms, f"emode:{emode}:price", account.market) if source else 0


def _unit(leg: Leg) -> int:
    return int(10 ** leg.terms.get("decimals", leg.decimals))


def _debts(account: Account, asset: str) -> tuple[Leg, ...]:
    return tuple(leg for leg in account.side("debt") if leg.asset == asset)


def _shares(amount: int, leg: Leg, rounding: str) -> int:
    return mul_div(amount, leg.den, leg.num, rounding)
