"""What every rule gives: the exact judgement of one account, the exact liquidation, and the same on arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from aggregator.core.account import Account, Judgement, Leg, Liquidation
from aggregator.core.errors import DomainError

F8 = npt.NDArray[np.float64]
Number = float | F8
MAX = 2**256 - 1


class CannotJudgeError(DomainError):
    """A price or term that the rule needs is unknown: the caller states a Gap."""

    code = "SPL-410"
    title = "An account cannot be judged."


class WouldRevertError(DomainError):
    """The contract refuses this call; the message carries its reason."""

    code = "SPL-420"
    title = "The contract would refuse this liquidation."


class Calls(NamedTuple):
    """One liquidation per element: (n,) arrays or scalars that broadcast; usd at the market's own oracle price.

    weighted_usd: sum over the account's collateral of value times liquidation threshold. bonus_frac: 0.05 = +5 %
    (Comet: 1 - liquidationFactor). fee_frac: Aave's share of the bonus, Compound's share of the seized.
    close_frac: Compound v2 alone. to_cover_usd: the liquidator's own limit on what he repays.
    """

    collateral_usd: Number
    debt_usd: Number
    all_collateral_usd: Number
    all_debt_usd: Number
    weighted_usd: Number
    bonus_frac: Number
    fee_frac: Number = 0.0
    close_frac: Number = 0.5
    to_cover_usd: Number = np.inf


class Taken(NamedTuple):
    """The largest allowed call of each element, zero where healthy; (n,) arrays.

    seized_usd includes fee_usd. bad_debt_usd: written off over all debt legs; cleared: every debt leg is gone after it.
    """

    repaid_usd: F8
    seized_usd: F8
    fee_usd: F8
    bad_debt_usd: F8
    cleared: npt.NDArray[np.bool_]


class Rule(Protocol):
    """judge equals the contract's own view to the unit; liquidate what it does; best_liquidation the call to make.

    All raise CannotJudgeError; liquidate raises WouldRevertError.
    """

    @property
    def name(self) -> str: ...
    def judge(self, account: Account) -> Judgement: ...
    def liquidate(self, account: Account, collateral: str, debt: str, to_cover: int = MAX) -> Liquidation: ...
    def best_liquidation(self, account: Account) -> Liquidation | None: ...


class LendingRule(Rule, Protocol):
    """batch is the float64 form of best_liquidation, with one signature for all of lending.

    keeps_bad_debt: whether debt that no collateral covers stays owed on the emptied account; else the call that empties
    it takes the debt off.
    rate_ignores_losses: whether a supplier's share converts by the contract at the same rate after bad debt as before,
    so that a loss shows only in what is missing when he wants to be paid.
    needs_every_price: whether an oracle's 0 for any asset of an account is an error, so that nobody can call it.
    gives_for_nothing: whether collateral that the oracle prices at 0 can be seized, all of it and for no payment; else
    no call takes it.
    absorbs: whether a call takes the account whole, all its collateral and debts at once.
    floors_threshold: whether health is judged by the average threshold in whole basis points (`floored`).
    """

    @property
    def keeps_bad_debt(self) -> bool: ...
    @property
    def rate_ignores_losses(self) -> bool: ...
    @property
    def needs_every_price(self) -> bool: ...
    @property
    def gives_for_nothing(self) -> bool: ...
    @property
    def absorbs(self) -> bool: ...
    @property
    def floors_threshold(self) -> bool: ...
    def batch(self, calls: Calls) -> Taken: ...


def health(weighted_usd: Number, all_debt_usd: Number) -> F8:
    """weighted / debt, inf without debt; broadcasts."""
    weighted, debt = np.broadcast_arrays(np.asarray(weighted_usd, np.float64), np.asarray(all_debt_usd, np.float64))
    out = np.full(weighted.shape, np.inf)
    np.divide(weighted, debt, out=out, where=debt > 0)
    return out


def spread(calls: Calls) -> list[F8]:
    """The fields of calls as float64 arrays of one shape; DomainError names the first bad element."""
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(field, np.float64)) for field in calls))
    for name, values in zip(Calls._fields, arrays, strict=True):
        bad = ~(values >= 0)  # catches NaN too
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise DomainError(f"{name}[{at}] is negative or not a number", expected=">= 0", found=str(values[at]))
    return list(arrays)


def need(terms: Mapping[str, int], key: str, where: str) -> int:
    try:
        return terms[key]
    except KeyError:
        raise CannotJudgeError(
            f"term {key!r} is unknown for {where}", expected=f"a Term row {key!r}", found="none", fix="see its Gap"
        ) from None


def price_of(leg: Leg, exp: int | None = None) -> int:
    """Raw price of a leg at `exp` places (any where None); CannotJudgeError where unknown, below zero or elsewise."""
    if leg.price is None:
        raise CannotJudgeError(f"no price for {leg.asset}", expected="a Price row of the market", found="none")
    if leg.price.raw < 0:
        raise CannotJudgeError(f"price of {leg.asset} is below zero", expected=">= 0", found=str(leg.price.raw))
    if exp is not None and leg.price.exp != exp:
        raise CannotJudgeError(
            f"price of {leg.asset} is not in the market's unit", expected=f"{exp} places", found=str(leg.price.exp)
        )
    return leg.price.raw


def worthless(account: Account) -> str:
    """The first asset of the account whose oracle answers 0, '' for none: oracles of some protocols may not."""
    return next((leg.asset for leg in account.legs if leg.price is not None and leg.price.raw == 0), "")


def find(account: Account, asset: str, *sides: str) -> Leg:
    for leg in account.legs:
        if leg.asset == asset and leg.side in sides:
            return leg
    raise WouldRevertError(
        f"{account.holder} has no {' or '.join(sides)} of {asset}",
        expected=", ".join(leg.asset for leg in account.side(*sides)) or "an account with such a leg",
        found=asset,
    )
