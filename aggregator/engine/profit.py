"""Which calls of a wave pay after their own impact, and at what size."""

from __future__ import annotations

from functools import partial

import numpy as np

from aggregator.engine.afford import affordable
from aggregator.engine.bids import Ahead
from aggregator.engine.book import Book, Floats, Indices
from aggregator.engine.liquidate import Wave, join, judge, wave
from aggregator.engine.sale import sale_of
from aggregator.engine.state import State
from aggregator.engine.ties import SAME, near, surplus
from aggregator.rules import Calls, Taken


def profitable(state: State, calls: Wave, answers_usd: Floats) -> Wave:
    """The calls that pay after impact, cut to the size that pays; a refused account is asked for its next collateral.

    Every call meets the depth that those before it leave, and turns are sold in the order in which they were foreseen,
    so a wave as a whole never loses.
    """
    ahead: Ahead = {}
    made: list[Wave] = []
    passed = np.zeros(len(state.book.leg_term), np.bool_)
    turn = 0
    while True:
        share, turns, ahead = _shares(state, calls, answers_usd, ahead)
        made.append(_cut(state, calls._replace(turn=turn + turns), share))
        turn += 1 + int(turns.max(initial=0))
        refused = np.flatnonzero((calls.collateral >= 0) & ~np.isin(calls.account, made[-1].account))
        if not len(refused):
            return join(made) if len(made) > 1 else made[0]
        passed[calls.collateral[refused]] = True
        calls = wave(state, calls.account[refused], answers_usd, passed)


def _shares(state: State, calls: Wave, answers_usd: Floats, ahead: Ahead) -> tuple[Floats, Indices, Ahead]:
    """(share of each call that pays after the sales `ahead`, (k,) in [0, 1]; its turn, (k,); what then is ahead).

    Assets by code in the first turn, then each call that sells several. Absorptions are whole or not at all.
    """
    sale = sale_of(state, calls, answers_usd)
    book, v = state.book, state.value_usd
    asset = book.terms.asset[book.leg_term[sale.leg]]
    several = np.bincount(sale.call, minlength=len(calls.account)) > 1
    share, turn = np.zeros(len(calls.account)), np.zeros(len(calls.account), np.int64)
    for code in np.unique(asset[~several[sale.call]]).tolist():
        rows = np.flatnonzero((asset == code) & ~several[sale.call])
        at = sale.call[rows]
        allow = partial(_allowed, state.book, calls.take(at))
        share[at], off = affordable(state.depth, code, sale.units[rows], sale.cost_usd[at], v, ahead, allow)
        just = np.flatnonzero(near(off))
        state.edges.note("profit", calls.account[at[just]], np.abs(off[just]), code)
    for call in np.flatnonzero(several).tolist():
        rows, after = np.flatnonzero(sale.call == call), ahead.copy()
        got = sum(
            state.depth.quote(int(a), float(u), v, after) for a, u in zip(asset[rows], sale.units[rows], strict=True)
        )
        if got >= sale.cost_usd[call] * (1.0 - SAME):
            share[call], turn[call], ahead = 1.0, 1 + turn.max(), after
        if near(off := np.array([surplus(got, float(sale.cost_usd[call]))])).any():
            state.edges.note("profit", calls.account[[call]], np.abs(off))
    return share, turn, ahead


def paying(state: State, calls: Wave, answers_usd: Floats, most: int) -> Indices:
    """The first calls, at most so many, that would be made if each were the only one."""
    found: list[int] = []
    for i in range(len(calls.account)):
        if len(profitable(state, calls.take(np.array([i])), answers_usd).account):
            found.append(i)
        if len(found) == most:
            break
    return np.array(found, np.int64)


def _less(book: Book, calls: Wave, at: Indices, share: Floats | float) -> Taken:
    """What the rule makes of calls cut to a share; it may shrink them further (dust)."""
    smaller = Calls(*(np.asarray(c)[at] for c in calls.calls._replace(to_cover_usd=calls.taken.repaid_usd)))
    smaller = smaller._replace(to_cover_usd=smaller.to_cover_usd * share)
    return judge(book, book.account_market[calls.account[at]], smaller)


def _allowed(book: Book, calls: Wave, at: Indices, share: float) -> Floats:
    """Shares that calls can be cut to, none of an absorption."""
    whole, less = calls.taken.repaid_usd[at], _less(book, calls, at, share)
    can = (calls.collateral[at] >= 0) & (less.seized_usd > 0.0) & (whole > 0.0)
    return np.divide(less.repaid_usd, whole, out=np.zeros(len(at)), where=can)


def _cut(state: State, calls: Wave, share: Floats) -> Wave:
    act = np.flatnonzero(share > 0.0)
    calls, share = calls.take(act), share[act]
    cut = np.flatnonzero(share < 1.0)
    if len(cut):
        for column, new in zip(calls.taken, _less(state.book, calls, cut, share[cut]), strict=True):
            column[cut] = new
        calls = calls.take(np.flatnonzero((calls.taken.seized_usd > 0.0) | calls.taken.cleared))
    return calls
