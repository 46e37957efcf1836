"""A finished cascade as a `StressResult`: who lost, at which layer, in which market and wallet.

Loss of a holder is the fall of what he owns net of what he owes, from the cut to the fixed point, at market values;
debt that was written off is no longer owed. `totals` keep apart what holders lost, what they were relieved of and what
lenders lost who are not listed (`equity.Fall`), for a borrower's relief is his lenders' loss. Credit loss is realised
bad debt and unrealised shortfall together. amplification = credit loss at the fixed point / after the first round;
where the first round has none, the same of losses. Both ratios' parts are in `totals`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

import numpy as np

from aggregator.core.ids import adapter_of, chain_or_source
from aggregator.core.result import Coverage, MarketOutcome, NodeLoss, StressResult, WalletOutcome
from aggregator.core.rows import Gap
from aggregator.core.scenario import Scenario
from aggregator.engine import declared, equity
from aggregator.engine.book import Flags, Floats, Indices, add_up
from aggregator.engine.run import Cascade

_LEAST_USD = 1e-9
_SHOWN = 5_000  # wallets and holders' losses named in a result, the largest first; `notes` says what the rest lost


def stress_result(
    run: Cascade,
    scenario: Scenario,
    *,
    cut_digest: str = "",
    snapshot_digest: str = "",
    coverage: Iterable[Coverage] = (),
    gaps: Iterable[Gap] = (),
) -> StressResult:
    fall = equity.fall(run.state, run.derivatives)
    wallets, losses = _wallets(run, fall), _losses(run, fall.own)
    conservation = run.conservation | _sinks(run, losses)
    amplification, by_credit = _amplification(run, fall)
    return StressResult(
        version=version("spillover"),
        cut_digest=cut_digest,
        snapshot_digest=snapshot_digest,
        scenario_digest=scenario.digest,
        scenario=scenario.plain(),
        conventions=declared.conventions(run),
        convergence=run.convergence,
        rounds=list(run.rounds),
        losses=losses,
        markets=_markets(run),
        wallets=wallets,
        totals=dict(sorted((_totals(run) | _fallen(run, fall)).items())),
        amplification=amplification,
        conservation=dict(sorted(conservation.items())),
        coverage=sorted(coverage, key=lambda c: (str(c.chain), c.protocol, c.deployment)),
        gaps=[_plain(gap) for gap in sorted([*gaps, *run.book.gaps, *declared.assumed(run)], key=_gap_order)],
        edges=declared.edges(run),
        edge_counts=run.state.edges.counts(),
        notes=declared.notes(run, by_credit) + _unnamed(fall.of_holders, wallets),
    )


def _fallen(run: Cascade, fall: equity.Fall) -> dict[str, float]:
    """What holders and lenders lost, and what defaults cost, at the end and after the first round."""
    out = {"credit_loss_usd": run.state.credit_loss_usd(), "credit_loss_first_round_usd": run.first_credit_loss_usd}
    for when, at in (("", fall), ("first_round_", run.first_fall)):
        out |= {
            f"losses_{when}usd": at.losses_usd,
            f"reliefs_{when}usd": at.reliefs_usd,
            f"unlisted_lender_loss_{when}usd": at.unlisted_usd,
        }
    return out


def _amplification(run: Cascade, fall: equity.Fall) -> tuple[float, bool]:
    """(ratio, whether it is of credit losses). No relief is netted in either."""
    credit, first = run.state.credit_loss_usd(), run.first_credit_loss_usd
    if not any(r.liquidations for r in run.rounds):
        return 1.0, True
    if first > _LEAST_USD:
        return credit / first, True
    if credit <= _LEAST_USD:
        return 1.0, True
    lost, lost_first = (at.losses_usd + at.unlisted_usd for at in (fall, run.first_fall))
    return (lost / lost_first if lost_first > _LEAST_USD else 1.0), False


def _plain(gap: Gap) -> dict[str, object]:
    """A size that is unknown is null, as in every other answer."""
    return {
        "subject": gap.subject,
        "reason": gap.reason,
        "detail": gap.detail,
        "accounts": None if gap.accounts == -1 else gap.accounts,
        "value_usd": gap.value_usd or None,
    }


def _gap_order(gap: Gap) -> tuple[str, ...]:
    return str(gap.accounts), gap.detail, gap.reason, gap.subject, gap.value_usd


def _wallets(run: Cascade, fall: equity.Fall) -> list[WalletOutcome]:
    book, state, before, after = run.book, run.state, fall.before_usd, fall.after_usd
    n = len(book.holders)
    liquidated = add_up(book.account_holder, state.seized_usd, n)
    worst = [np.full(n, np.inf), np.full(n, np.inf)]
    for column, healths in zip(worst, (run.health_before, run.health_after), strict=True):
        np.minimum.at(column, book.account_holder, healths)
    shown = (np.abs(before) > _LEAST_USD) | (np.abs(after) > _LEAST_USD) | (liquidated > 0.0)
    return [
        WalletOutcome(
            holder=book.holders[i],
            equity_before_usd=float(before[i]),
            equity_after_usd=float(after[i]),
            loss_usd=float(before[i] - after[i]),
            liquidated_usd=float(liquidated[i]),
            health_before=_finite(worst[0][i]),
            health_after=_finite(worst[1][i]),
        )
        for i in _largest(before - after, shown).tolist()
    ]


def _largest(loss_usd: Floats, shown: Flags) -> Indices:
    """Holders to name: the largest losses first, by name among equals (holders are sorted)."""
    at = np.flatnonzero(shown)
    return at[np.lexsort((at, -loss_usd[at]))][:_SHOWN]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _losses(run: Cascade, by_holder: Floats) -> list[NodeLoss]:
    """Realised bad debt by the layer that paid it, and every holder's own loss at market value."""
    book, state = run.book, run.state
    named = _largest(by_holder, by_holder > _LEAST_USD).tolist()
    out = [NodeLoss(book.holders[i], "holder", "market value", float(by_holder[i])) for i in named]
    pots = book.pots
    for i in np.flatnonzero(state.lost_usd > 0.0).tolist():
        market, usd, written = book.markets[pots.market[i]], float(state.lost_usd[i]), float(state.written_usd[i])
        out.append(NodeLoss(market, "market", "reserves", usd - written))
        out.append(NodeLoss(market, "market", "suppliers", written))
    extra, token = run.derivatives, equity.perp_token_usd(book, state.value_usd)
    charges = add_up(book.perp_accounts.market, extra.charged_usd, len(book.markets)) * token
    for m, name in enumerate(book.markets):
        out.append(NodeLoss(name, "market", "reserves", float(state.reserves_usd[m])))
        out.append(NodeLoss(name, "market", "suppliers unknown", float(state.homeless_usd[m])))
        out.append(NodeLoss(name, "market", "insurance fund", float(extra.fund_paid_usd[m] * token[m])))
        out.append(NodeLoss(name, "market", "socialised to winners", float(charges[m])))
        out.append(NodeLoss(name, "market", "uncovered", float(extra.uncovered_usd[m] * token[m])))
    for k, m in enumerate(book.option_pools.market.tolist()):
        out.append(NodeLoss(book.markets[m], "pool", "option liquidity", max(0.0, -float(extra.pool_pnl_usd[k]))))
    merged: dict[tuple[str, str, str], float] = {}
    for x in out:  # one market may have lost in several assets
        key = x.node, x.kind, x.layer
        merged[key] = merged.get(key, 0.0) + x.loss_usd
    out = [NodeLoss(*key, usd) for key, usd in merged.items()]
    return sorted((x for x in out if x.loss_usd > _LEAST_USD), key=lambda x: (-x.loss_usd, x.kind, x.node, x.layer))


_SINKS = ("reserves", "suppliers", "suppliers unknown", "insurance fund", "socialised to winners", "uncovered")


def _sinks(run: Cascade, losses: list[NodeLoss]) -> dict[str, float]:
    """Realised loss and the sum of the layers that paid it: equal, or the engine lost track of money."""
    realised = run.bad_debt_usd + _perp_shortfall_usd(run)
    sinks = float(sum(x.loss_usd for x in losses if x.kind == "market" and x.layer in _SINKS))
    return {"realised_loss_usd": realised, "sinks_usd": sinks, "sinks_error_usd": abs(realised - sinks)}


def _markets(run: Cascade) -> list[MarketOutcome]:
    book, state, n = run.book, run.state, len(run.book.markets)
    by = {name: add_up(book.account_market, column, n) for name, column in (
        ("seized", state.seized_usd), ("repaid", state.repaid_usd), ("bad", state.bad_usd),
        ("short", state.shortfall_usd()), ("calls", (state.calls > 0).astype(np.float64)))}  # fmt: skip
    refused = np.bincount(book.account_market[run.unprofitable], minlength=n)
    out = [
        MarketOutcome(
            market=book.markets[m],
            protocol=_protocol(book.markets[m]),
            chain=chain_or_source(book.markets[m]),
            liquidated_usd=float(by["seized"][m]),
            repaid_usd=float(by["repaid"][m]),
            bad_debt_usd=float(by["bad"][m]),
            unrealised_shortfall_usd=float(by["short"][m]),
            liquidated_accounts=int(by["calls"][m]),
            unprofitable_accounts=int(refused[m]),
        )
        for m in np.unique(book.account_market).tolist()
    ]
    return sorted(out, key=lambda x: x.market)


def _protocol(market: str) -> str:
    return adapter_of(market) if "/" in market else market


def _totals(run: Cascade) -> dict[str, float]:
    state, extra = run.state, run.derivatives
    return {
        "bad_debt_usd": run.bad_debt_usd,
        "bad_debt_owed_usd": float(state.owed_usd().sum()),
        "unrealised_shortfall_usd": run.shortfall_usd,
        "liquidated_usd": float(state.seized_usd.sum()),
        "repaid_usd": float(state.repaid_usd.sum()),
        "liquidated_accounts": float((state.calls > 0).sum()),
        "unprofitable_accounts": float(len(run.unprofitable)),
        "accounts": float(run.book.accounts),
        "liquidation_rounds": float(run.liquidation_rounds),
        "sold_without_known_depth_usd": float(state.depth.without_depth.sum()),
        "sold_as_cash_usd": float(state.depth.sold_as_cash[declared.not_dollars(run)].sum()),
        "unsold_usd": float((state.depth.unfilled * state.value_usd).sum()),
        "option_pool_pnl_usd": float(extra.pool_pnl_usd.sum()),
        "option_shortfall_usd": float(extra.option_shortfall_usd.sum()),
        "option_shorts_bought_back": float(extra.bought_back.sum()),
        "option_fees_usd": extra.fees_usd,
        "perp_shortfall_usd": _perp_shortfall_usd(run),
        "perp_accounts_closed": float(extra.closed.sum()),
        "perp_accounts_refused": float(extra.refused.sum()),
        "perp_unrealised_shortfall_usd": float(_in_usd(run, np.maximum(-extra.equity_usd, 0.0)).sum()),
    }


def _perp_shortfall_usd(run: Cascade) -> float:
    return float(_in_usd(run, run.derivatives.shortfall_usd).sum())


def _in_usd(run: Cascade, of_accounts: Floats) -> Floats:
    """(perp accounts,) figures of their venues in dollars, at what their token stands at in the end."""
    return of_accounts * equity.perp_token_usd(run.book, run.state.value_usd)[run.book.perp_accounts.market]


def _unnamed(loss_usd: Floats, wallets: list[WalletOutcome]) -> list[str]:
    if len(wallets) < _SHOWN:
        return []
    rest = float(loss_usd.sum()) - sum(w.loss_usd for w in wallets)
    return [
        f"Only the {_SHOWN:,} wallets with the largest losses are listed; all others lost {rest:,.2f} USD together."
    ]
