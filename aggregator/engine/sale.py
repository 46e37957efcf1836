"""What the calls of a wave put up for sale, and what the sellers pay for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aggregator.engine.book import Floats, Indices, add_up
from aggregator.engine.liquidate import Legs, Wave, legs_of
from aggregator.engine.state import State


class Sale(NamedTuple):
    """(s,) what leaves to liquidators: position in the wave, leg, units, turn; cost_usd (k,) per call."""

    call: Indices
    leg: Indices
    units: Floats
    turn: Indices
    cost_usd: Floats


def sale_of(state: State, calls: Wave, answers_usd: Floats) -> Sale:
    book, v = state.book, state.value_usd
    single = np.flatnonzero(calls.collateral >= 0)
    leg = calls.collateral[single]
    taken = calls.taken
    seized = _units(taken.seized_usd, calls.answer_collateral)[single]
    all_of_it = taken.seized_usd[single] >= np.asarray(calls.calls.collateral_usd)[single]
    seized = np.where(all_of_it, state.amount[leg], np.minimum(seized, state.amount[leg]))
    fee = taken.fee_usd[single] / calls.answer_collateral[single]
    debt_asset = book.terms.asset[book.leg_term[calls.debt[single]]]
    cost = np.zeros(len(calls.account))
    cost[single] = taken.repaid_usd[single] / calls.answer_debt[single] * v[debt_asset]
    whole = np.flatnonzero(calls.collateral < 0)
    legs = legs_of(book, calls.account[whole], state.amount, answers_usd)
    at = np.flatnonzero(~legs.debt & (legs.usd > 0.0))
    term = book.leg_term[legs.leg[at]]
    discount = book.storefront_frac[book.terms.market[term]] * book.terms.bonus_frac[term]
    asked = add_up(legs.owner[at], legs.usd[at] * (1.0 - np.nan_to_num(discount)), len(whole))
    cost[whole] = asked * owed_usd(state, legs, len(whole)) / np.asarray(calls.calls.all_debt_usd)[whole]
    call = np.concatenate([single, whole[legs.owner[at]]])
    return Sale(
        call,
        np.concatenate([leg, legs.leg[at]]),
        np.concatenate([seized - fee, state.amount[legs.leg[at]]]),
        calls.turn[call],
        cost,
    )


def owed_usd(state: State, legs: Legs, n: int) -> Floats:
    """(n,) debts at market values; over the same at the oracle it turns what a market counts in its base into USD."""
    at = np.flatnonzero(legs.debt & (legs.usd > 0.0))
    term = state.book.leg_term[legs.leg[at]]
    return add_up(legs.owner[at], state.amount[legs.leg[at]] * state.value_usd[state.book.terms.asset[term]], n)


def _units(usd: Floats, answer: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        out: Floats = np.where(answer > 0.0, usd / answer, 0.0)
    return out
