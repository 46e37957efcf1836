"""What a result says beside its figures: the conventions they rest on, what was assumed and how large it is, notes.

Reasons of gaps that arise here: no_depth, assumed_depth, discount, followed_quote, pool_off_price, settlement_price
(docs/engine.md).
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import numpy as np

from aggregator.core.ids import USD
from aggregator.core.result import Edge
from aggregator.core.rows import Gap
from aggregator.core.words import first_of
from aggregator.engine import health
from aggregator.engine.book import Flags, add_up
from aggregator.engine.market import EITHER, REDEEM
from aggregator.engine.run import Cascade

_LEAST_SHOWN_USD, _NEAR_DOLLAR = 0.01, 0.01
_OFF_PRICE = 0.02  # beyond a pool's fee and a feed's deviation
_some = partial(first_of, most=5)
_LISTED = 20  # edges of a kind


def conventions(run: Cascade) -> dict[str, object]:
    """What another engine would have to share for the figures to be comparable."""
    return asdict(run.conventions) | {
        "profit_test_unit": "whole wave: one asset after the other at its average price, calls cut to the size that "
        "pays, what cannot be cut whole by rising health, then absorptions of several assets, then the next collateral "
        "of refused accounts",
        "capacity_unit": "accounts by rising health, of equals see ties; with profit_test those that would pay alone",
        "ties": "equal within 1e-9: first what costs less to sell, net of fee and impact by known depth, then what is "
        "deeper, then the lower id",
        "lagged_oracle": "market price at the start of the previous round",
        "loss_booking": "bad debt writes claims down from the next "
        + ("call on" if run.conventions.rounds == "sequential" else "round on"),
        "receipt_rates": "an exchange rate falls with bad debt where its market's contract lowers it; elsewhere "
        "rates stand, kept as owed or written off, and suppliers lose what is missing when they want to be paid",
        "queue": "no withdrawals are modelled",
        "bankrupt_order": "all at once; fund first, then winners in proportion to profit; by the rule of Perp Curie "
        "the fund alone, in order of the book, and what it cannot cover stays open and unrealised",
        "unrealised_shortfall": "reported beside realised bad debt",
        "impact": "sales move the asset sold and what its pools pay in, sold on; repaid debt is bought at its price",
        "routing": "over quotes at values of the blow; a pool of two volatile tokens is depth of the shallower",
        "redemption": "a claim within 1 % of its backing is redeemed at once, or sold into its pools where that brings "
        "more, and follows its backing; any other is sold into its pools alone",
        "cash": "assets within 5 % of one dollar at the cut, without a pool against the dollar itself, are sold at "
        "their price without limit",
        "quotes": "an asset whose pools pay in another token moves with it, sold or not: no other market is read",
        "costs": "liquidators pay no gas and need no capital; swap fees stay outside a pool's liquidity, or join its "
        "reserves after each sale where it has reserves alone",
        "interest": "none accrues, nor funding",
        "option_liquidation": "bought back at the model price of the series' volatility; fees by the market's terms",
        "option_hedging": "pools keep the hedge of the cut: no dealer flow",
        "perp_settlement": "venues count one settlement token as one dollar; reported is what that is worth in the end",
        "claims_in_pools": "sales move a claim's discount to its backing, its write-downs move no pool",
        "perp_orders": "open orders are cancelled before a close; positions are taken over at mark without impact",
    }


def not_dollars(run: Cascade) -> Flags:
    """(assets,) all but the dollar itself."""
    return np.array([asset != USD for asset in run.book.assets], np.bool_)


def assumed(run: Cascade) -> list[Gap]:
    """What the result owes to an assumption about depth or money, with its size."""
    book, state, depth = run.book, run.state, run.state.depth
    out = [
        _gap(book.assets[a], "no_depth", "sold at its price: no pool read quotes it", depth.without_depth[a])
        for a in np.flatnonzero(depth.without_depth > 0.0)
    ]
    detail = "taken as cash, being within 5 % of one dollar at the cut: sold at its price without limit"
    sold = np.where(not_dollars(run), depth.sold_as_cash, 0.0)
    out += [_gap(book.assets[a], "assumed_depth", detail, sold[a]) for a in np.flatnonzero(sold > 0.0)]
    held = np.where(book.terms.debt[book.leg_term], 0.0, book.leg_amount)
    units = add_up(book.terms.asset[book.leg_term], held, len(book.assets))
    below = np.where(~np.isin(depth.how, (EITHER, REDEEM)) & depth.is_claim, state.backing_usd - state.value_usd, 0.0)
    for a in np.flatnonzero(units * below > _LEAST_SHOWN_USD).tolist():
        off = 100 * float(below[a] / state.backing_usd[a])
        detail = f"ends {off:.2f} % below what it stands for: not redeemed, being off its backing or its depth unknown"
        out.append(_gap(book.assets[a], "discount", detail, float(units[a] * below[a])))
    for a, moved in sorted(depth.followed().items()):
        fall = float(units[a] * state.blow_usd[a] * (1.0 - moved))
        if fall > _LEAST_SHOWN_USD:
            detail = f"moved {100 * (moved - 1):.2f} % with what its pools pay in: too much if it trades elsewhere too"
            out.append(_gap(book.assets[a], "followed_quote", detail, fall))
    for a, curve in sorted(depth.curve.items()):
        at = float(state.blow_usd[a])
        apart = curve.price / at - 1.0 if len(curve.liquidity) and at > 0.0 else 0.0
        usd = float(units[a]) * at * abs(apart)
        if abs(apart) > _OFF_PRICE and usd > _LEAST_SHOWN_USD:
            detail = f"its pools pay {100 * abs(apart):.1f} % {'more' if apart > 0.0 else 'less'} than its price"
            out.append(_gap(book.assets[a], "pool_off_price", detail, usd))
    equity = add_up(book.perp_accounts.market, np.abs(run.derivatives.equity_usd), len(book.markets))
    for market, asset in book.perp_settlement:
        price = float(state.value_usd[asset])
        if abs(price - 1.0) > _NEAR_DOLLAR:
            detail = f"counts {book.symbols[asset]} as one dollar, it stands at {price:.4f}: it judges accounts by that"
            out.append(_gap(book.markets[market], "settlement_price", detail, equity[market] * abs(price - 1.0)))
    return out


def _gap(subject: str, reason: str, detail: str, usd: float) -> Gap:
    return Gap(subject, reason, detail, value_usd=f"{usd:.2f}")


def edges(run: Cascade) -> list[Edge]:
    """The nearest edges of each kind, which is where another machine or the last digit of an input may tell."""
    book = run.book
    return [
        Edge(
            e.kind,
            book.holders[book.account_holder[e.account]] if e.account >= 0 else "",
            book.markets[book.account_market[e.account]] if e.account >= 0 else "",
            book.assets[e.asset] if e.asset >= 0 else "",
            e.off,
        )
        for e in run.state.edges.nearest(_LISTED)
    ]


def notes(run: Cascade, by_credit: bool) -> list[str]:
    """Sentences for a reader; by_credit: whether amplification is of credit losses."""
    out = []
    if not by_credit:
        out.append("Amplification is of holders' losses: the first round left no credit loss to compare with.")
    if run.state.depth.without_depth.any():
        out.append("Some collateral was sold without known depth: its impact is missing, losses are a lower bound.")
    if run.state.depth.unfilled.any():
        out.append("Pools ran dry: liquidators hold what found no buyer.")
    if not run.convergence.converged:
        out.append(f"Not converged: {run.convergence.why}.")
    if len(run.at_edge):
        book, at = run.book, run.at_edge
        names = [f"{book.holders[book.account_holder[i]]} in {book.markets[book.account_market[i]]}" for i in at]
        out.append(
            f"{len(at)} accounts stood within 1e-9 of their threshold, where the contract's rounding decides and not "
            f"float64: {_some(names)}."
        )
    owed_usd = run.state.owed_usd()
    if owed_usd.sum() > _LEAST_SHOWN_USD:
        where = tuple(run.book.markets[m] for m in np.flatnonzero(owed_usd > 0.0))
        out.append(f"Bad debt of {_some(where)}, {owed_usd.sum():,.2f} USD, stays owed until somebody writes it off.")
    claimed = np.isin(np.arange(len(run.book.pots.market)), run.state.look.row_pot)
    unrated_usd = float(run.state.written_usd[claimed & (run.state.unrated_units() > 0.0)].sum())
    if unrated_usd > _LEAST_SHOWN_USD:
        out.append(f"{unrated_usd:,.2f} USD of suppliers' losses lower no exchange rate, yet receipts are paid less.")
    below = np.flatnonzero((run.health_after < 1.0) & ~run.state.dead)
    unpriced = int(health.unpriced(run.book, below, run.state.answers()).sum())
    if unpriced:
        out.append(
            f"{unpriced} accounts below their threshold stay open: an oracle answers 0 for an asset of theirs, which "
            "their market's contract refuses as no price."
        )
    if run.derivatives.refused.any():
        refused = int(run.derivatives.refused.sum())
        out.append(
            f"{refused} perp accounts stay open: their funds cannot cover the loss, and the venue refuses the call."
        )
    frozen = run.derivatives.short_of_margin(run.state.value_usd) & ~run.book.options.live
    if frozen.any():
        out.append(f"{int(frozen.sum())} short options are below their minimum and stay open: their boards are frozen.")
    if not (run.book.accounts or len(run.book.perp_accounts.market) or len(run.book.options.size)):
        out.append("The book holds no account that can be judged.")
    out += [
        f"{name} means {_some(meant.assets)}; other assets of that symbol are not moved: {_some(meant.others)}."
        for name, meant in sorted(run.blow.meant.items())
    ]
    if idle := _without_effect(run):
        out.append(f"Moves that meet nothing in this book: {', '.join(idle)}.")
    return out


def _without_effect(run: Cascade) -> list[str]:
    """Keys that move prices of what nobody owns, owes or quotes, or volatilities without options; not optional ones."""
    book = run.book
    used, quoted = (np.zeros(len(book.assets), np.bool_) for _ in range(2))
    columns = [book.terms.asset[book.leg_term], book.pots.asset, book.holdings.asset, book.claims.underlying]
    columns += [book.claims.asset, book.lps.base, book.lps.quote, book.perps.asset, book.options.margin_asset]
    columns += [book.options.underlying, book.options.quote]
    for column in columns:
        used[column] = True
    for pool in book.pools:
        used[[pool.base, pool.quote]] = True
    quoted[book.options.underlying] = True
    meets = {"price": used, "depeg": used, "vol": quoted}
    return [f"{t}.{key}" for t, key, codes in run.blow.named if t in meets and not meets[t][list(codes)].any()]
