"""The contagion stress report: the answer first, then what it rests on, in the same order every time."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from aggregator.core.ids import adapter_of
from aggregator.core.result import StressResult, WalletOutcome
from aggregator.report import plots
from aggregator.report.coverage import coverage_json, reconcile
from aggregator.report.page import Section, render
from aggregator.report.plain import chain_json
from aggregator.snapshot import Snapshot

MOST_ROWS = 25
MARKET_VALUE = "market value"  # a holder's own fall in worth, as against what defaults cost
_MOVES = {
    "price": "{} {:+.0%}",
    "vol": "volatility of {} {:+.0%}",
    "depth": "{1:.0%} of the depth of {0} gone",
    "depeg": "{} at {:.2f} of its backing",
}


def html(result: StressResult, snap: Snapshot) -> str:
    """One self-contained page; the same bytes for the same result and snapshot."""
    names = {a.id: a.symbol or a.id for a in snap.assets.values()}
    names |= {m.market: _market_name(m.market, m.name) for m in snap.rows("market")}
    return render(
        str(result.scenario["name"]),
        answer(result, snap),
        _tiles(result, snap),
        [
            _as_of(result, snap),
            _scenario(result),
            _rounds(result, names),
            _payers(result, names),
            _markets(result, names),
            _wallets(result),
            _derivatives(result),
            _unknown(result, snap),
            _method(result),
        ],
    )


def answer(result: StressResult, snap: Snapshot) -> list[str]:
    """The answer in sentences that can be quoted: what breaks, who pays, how sure."""
    bad = sum(m.bad_debt_usd for m in result.markets)
    seized = sum(m.liquidated_usd for m in result.markets)
    moves = [
        words.format(key.removesuffix("?"), value)
        for kind, words in _MOVES.items()
        for key, value in sorted(_mapping(result.scenario.get(kind)).items())
        if key.removesuffix("?") in {a.symbol for a in snap.assets.values()} | set(snap.assets) | {"*"}
    ]
    lines = [
        f"{', '.join(moves) or 'No shock'}: USD {_usd(seized)} of collateral is liquidated in "
        f"{sum(m.liquidated_accounts for m in result.markets)} accounts, and USD {_usd(bad)} of debt is left uncovered."
    ]
    worst = max(result.markets, key=lambda m: (m.bad_debt_usd, m.liquidated_usd), default=None)
    if worst is not None and worst.bad_debt_usd > 0:
        lines.append(
            f"{adapter_of(worst.market)} on {chain_json(worst.market)} bears the most: "
            f"USD {_usd(worst.bad_debt_usd)} of bad debt."
        )
    c = result.convergence
    share = _read_share(snap)
    lines.append(
        f"Losses at the fixed point are {result.amplification:.2f} times those of the first round. The cascade "
        + (f"settled after {c.rounds} rounds" if c.converged else f"did NOT settle in {c.rounds} rounds ({c.why})")
        + f"; {share} of the deployments configured were read in full."
    )
    return lines


def _tiles(result: StressResult, snap: Snapshot) -> list[dict[str, str]]:
    bad, latent = (sum(getattr(m, k) for m in result.markets) for k in ("bad_debt_usd", "unrealised_shortfall_usd"))
    error = max((abs(r.conservation_error_usd) for r in result.rounds), default=0.0)
    return [
        {"value": _usd(bad), "label": "bad debt, USD", "note": "booked by a liquidation"},
        {
            "value": _usd(latent),
            "label": "unrealised shortfall, USD",
            "note": "debt above collateral that nobody booked",
        },
        {"value": f"{result.amplification:.3f}", "label": "amplification", "note": "fixed point / first round"},
        {"value": _read_share(snap), "label": "read in full", "note": "deployments"},
        {"value": f"{error:.1e}", "label": "conservation error, USD", "note": "worst round"},
    ]


def _as_of(result: StressResult, snap: Snapshot) -> Section:
    rows = [[str(chain_json(b.source)), str(b.number), _utc(b.time_s), b.finality, b.hash] for b in snap.cut.blocks]
    text = (
        f"Cut {snap.cut.digest}, snapshot {result.snapshot_digest}, version {result.version}; skew {snap.cut.skew_s} s."
    )
    return Section("As of", text).table(
        "One block per chain: every figure below was read there.",
        ["source", "block", "time (UTC)", "finality", "hash"],
        rows,
        ["block"],
    )


def _scenario(result: StressResult) -> Section:
    return Section(
        "Scenario",
        str(result.scenario.get("description") or ""),
        "Hypothetical, not a forecast.",
        pre=json.dumps(result.scenario, indent=1, sort_keys=True),
    )


def _rounds(result: StressResult, names: dict[str, str]) -> Section:
    rows = [
        [
            str(r.number),
            str(r.liquidations),
            _usd(r.liquidated_usd),
            _usd(r.repaid_usd),
            _usd(r.sold_usd),
            _usd(r.bad_debt_usd),
            _usd(r.write_down_usd),
            _usd(r.option_pnl_usd),
            f"{r.conservation_error_usd:.1e}",
        ]
        for r in result.rounds
    ]
    columns = [
        "round",
        "calls",
        "seized",
        "repaid",
        "sold",
        "bad debt",
        "write-down",
        "options P&L",
        "conservation error",
    ]
    return (
        Section("Round by round")
        .figure("rounds", "What each round seizes, repays, loses and writes down.", plots.rounds_bars(result.rounds))
        .figure(
            "prices", "Prices after each round: how far selling pushes them.", plots.price_paths(result.rounds, names)
        )
        .table("USD", columns, rows, columns)
    )


def _payers(result: StressResult, names: dict[str, str]) -> Section:
    credit = [x for x in result.losses if x.layer != MARKET_VALUE]
    losses = sorted(result.losses, key=lambda x: (-x.loss_usd, x.node, x.layer))
    rows = [[names.get(x.node, x.node), x.kind, x.layer, _usd(x.loss_usd)] for x in losses[:MOST_ROWS]]
    direct = sum(x.loss_usd for x in result.losses if x.layer == MARKET_VALUE)
    return (
        Section("Who pays", f"Holders lose USD {_usd(direct)} of market value; what defaults cost is below.")
        .figure("waterfall", "Credit losses by the layer that bears them.", plots.waterfall(credit))
        .figure("losers", "The nodes that lose most.", plots.losers(result.losses, names))
        .table(f"Largest {len(rows)} of {len(losses)} losses, USD", ["node", "kind", "layer", "loss"], rows, ["loss"])
    )


def _markets(result: StressResult, names: dict[str, str]) -> Section:
    ranked = sorted(result.markets, key=lambda m: (-m.bad_debt_usd, -m.liquidated_usd, m.market))
    rows = [
        [
            names.get(m.market, m.market),
            m.protocol,
            m.chain,
            str(m.liquidated_accounts),
            str(m.unprofitable_accounts),
            _usd(m.liquidated_usd),
            _usd(m.repaid_usd),
            _usd(m.bad_debt_usd),
            _usd(m.unrealised_shortfall_usd),
        ]
        for m in ranked[:MOST_ROWS]
    ]
    columns = [
        "market",
        "protocol",
        "chain",
        "liquidated",
        "unprofitable",
        "seized",
        "repaid",
        "bad debt",
        "unrealised",
    ]
    return Section("Markets").table(
        f"{len(rows)} of {len(ranked)} markets; counts of accounts, amounts in USD", columns, rows, columns[3:]
    )


def _wallets(result: StressResult) -> Section:
    rows = [
        [
            w.holder,
            _number(w.health_before),
            _number(w.health_after),
            _usd(w.equity_before_usd),
            _usd(w.equity_after_usd),
            _usd(w.liquidated_usd),
            _usd(w.loss_usd),
        ]
        for w in fragile(result.wallets)[:MOST_ROWS]
    ]
    columns = ["wallet", "health before", "after", "equity before", "equity after", "liquidated", "loss"]
    return (
        Section("Most fragile wallets")
        .figure(
            "health", "Health factors before and after; liquidation begins at 1.", plots.health(fragile(result.wallets))
        )
        .table("Lowest health first, USD", columns, rows, columns[1:])
    )


def fragile(wallets: list[WalletOutcome]) -> list[WalletOutcome]:
    """Those with debt, lowest health first."""
    return sorted(
        (w for w in wallets if w.health_before is not None), key=lambda w: (w.health_before, -w.loss_usd, w.holder)
    )


def _derivatives(result: StressResult) -> Section:
    pnl = sum(r.option_pnl_usd for r in result.rounds)
    return Section(
        "Options and perps", f"Profit and loss of option legs over all rounds, repriced in full: USD {_usd(pnl)}."
    )


def _unknown(result: StressResult, snap: Snapshot) -> Section:
    cover = coverage_json(snap)
    rows = [
        [
            str(c["chain"]),
            f"{c['protocol']} {c['deployment']}",
            c["level"],
            str(c["accounts"]),
            _usd(float(c["value_usd"])),
            str(c["gaps"]),
        ]
        for c in cover
    ]
    lines = reconcile(snap)
    off = [r for r in lines if r.positions != r.contract]
    gaps = [
        [str(g.get("subject")), str(g.get("reason")), str(g.get("detail")), str(g.get("value_usd") or "unknown")]
        for g in result.gaps[:MOST_ROWS]
    ]
    section = Section(
        "What we do not know",
        f"{len(lines)} totals were checked against the contracts' own; {len(off)} differ. {len(result.gaps)} gaps.",
        *result.notes,
    )
    section.table(
        "Coverage",
        ["source", "protocol", "level", "accounts", "value USD", "gaps"],
        rows,
        ["accounts", "value USD", "gaps"],
    )
    if off:
        section.table(
            "Totals that differ (raw shares)",
            ["market", "asset", "side", "positions", "contract"],
            [[r.market, r.asset, r.side, str(r.positions), str(r.contract)] for r in off],
            ["positions", "contract"],
        )
    if gaps:
        section.table(
            f"{len(gaps)} of {len(result.gaps)} gaps", ["subject", "reason", "detail", "size USD"], gaps, ["size USD"]
        )
    return section


def _method(result: StressResult) -> Section:
    checks = [[k, f"{v:.3e}"] for k, v in sorted(result.conservation.items())]
    return Section(
        "Method",
        "Each round values claims down from book value, lets oracles follow their path, liquidates by each "
        "protocol's own rule and version, walks one shared depth with everything that is sold, reprices options in "
        "full, and sends bad debt through reserves to suppliers, whose written-down shares are collateral elsewhere.",
        pre=json.dumps(result.conventions, indent=1, sort_keys=True),
    ).table("Checks of the run", ["check", "value"], checks, ["value"])


def _market_name(market: str, name: str) -> str:
    return f"{adapter_of(market)} · {name}" if name and "/" in market else market


def _read_share(snap: Snapshot) -> str:
    cover = coverage_json(snap)
    return f"{sum(c['level'] == 'full' for c in cover)} of {len(cover)}"


def _mapping(value: Any) -> dict[str, float]:
    return dict(value) if isinstance(value, dict) else {}


def _usd(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _utc(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
