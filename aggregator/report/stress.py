"""The contagion stress report: the answer first, then what it rests on, in the same order every time."""

from __future__ import annotations

import json
from typing import Any

from aggregator.core.result import StressResult, WalletOutcome
from aggregator.core.words import count, usd
from aggregator.report import plots
from aggregator.report.answer import answer, blow_of, read_share, title
from aggregator.report.coverage import coverage_json
from aggregator.report.names import Cell, Names, chain_name, clean, short
from aggregator.report.page import Section, render
from aggregator.report.plain import utc
from aggregator.snapshot import Snapshot
from aggregator.snapshot.prices import all_usd
from aggregator.snapshot.symbols import symbols_of
from aggregator.snapshot.totals import reconcile

MOST_ROWS, MOST_PATHS, MOST_BARS = 25, 6, 12
MARKET_VALUE = "market value"  # a holder's own fall in worth, as against what defaults cost
_FLOWS = {
    "calls": "liquidations",
    "seized": "liquidated_usd",
    "repaid": "repaid_usd",
    "sold for": "sold_usd",
    "option pools": "option_pnl_usd",
}
_DEBTS = {
    "bad debt": "bad_debt_usd",
    "suppliers' write-down": "write_down_usd",
    "not booked": "unrealised_shortfall_usd",
    "uncovered": "credit_loss_usd",
}
_STANDS = ("unrealised_shortfall_usd", "credit_loss_usd")  # at a round's end
_SEEN_FRAC = 1e-3  # a price that moved less is not drawn
_LEAST_USD = 0.005


def html(result: StressResult, snap: Snapshot, again: str = "") -> str:
    """One self-contained page; the same bytes for the same arguments.

    again: the command line that makes it once more, typed in the folder where the page lies.
    """
    names = Names(snap)
    sections = [_as_of(result, snap), _scenario(result, again)]
    if not result.read_nothing:
        sections += [
            _rounds(result, snap, names),
            _payers(result, names),
            _markets(result, names),
            _wallets(result),
            _derivatives(result, names),
        ]
    sections += [_unknown(result, snap, names), _method(result)]
    name = clean(str(result.scenario["name"]))
    return render(name, title(result), answer(result, snap, names), _tiles(result, snap), sections)


def fragile(wallets: list[WalletOutcome]) -> list[WalletOutcome]:
    """Those with debt, lowest health first."""
    return sorted(
        (w for w in wallets if w.health_before is not None), key=lambda w: (w.health_before, -w.loss_usd, w.holder)
    )


def _tiles(result: StressResult, snap: Snapshot) -> list[dict[str, str]]:
    bad, latent = (sum(getattr(m, k) for m in result.markets) for k in ("bad_debt_usd", "unrealised_shortfall_usd"))
    seized, error = sum(m.liquidated_usd for m in result.markets), _worst_error(result)
    accounts = count(sum(m.liquidated_accounts for m in result.markets), "account")

    def figure(value: float) -> str:
        least = "≥\N{NO-BREAK SPACE}" if result.degraded else ""
        return "-" if result.read_nothing else least + usd(value)

    grown = "-" if result.read_nothing else f"{result.amplification:.2f}×"
    return [
        {"value": figure(bad), "label": "bad debt, USD", "note": "no collateral is left behind it"},
        {"value": figure(latent), "label": "unbooked shortfall, USD", "note": "debt above its collateral"},
        {"value": figure(seized), "label": "collateral seized, USD", "note": f"in {accounts}"},
        {"value": grown, "label": "amplification", "note": "fixed point / first round"},
        {"value": read_share(snap), "label": "read in full", "note": "deployments"},
        {"value": f"{error:.0e}", "label": "conservation error, USD", "note": "worst round"},
    ]


def _worst_error(result: StressResult) -> float:
    return max((abs(r.conservation_error_usd) for r in result.rounds), default=0.0)


def _as_of(result: StressResult, snap: Snapshot) -> Section:
    rows = [
        [chain_name(b.source), f"{b.number:,}", utc(b.time_s), b.finality, Cell(short(b.hash), b.hash)]
        for b in snap.cut.blocks
    ]
    digests = (
        ("cut", result.cut_digest),
        ("snapshot", result.snapshot_digest),
        ("scenario", result.scenario_digest),
        ("this stress", result.job),
    )
    text = f"All figures are of one cut; its blocks are at most {snap.cut.skew_s} s apart."
    return (
        Section("As of", text)
        .table("Blocks", ["source", "block", "time (UTC)", "finality", "hash"], rows, ["block"])
        .table("Digests", ["of", "sha-256"], [[name, Cell(digest[:16], digest)] for name, digest in digests])
    )


def _scenario(result: StressResult, again: str) -> Section:
    if again:
        text = f"To run it again with version {result.version}, type in the folder of this page: {clean(again, 1000)}"
    else:
        text = (
            f"To run it again with version {result.version}, save the following as scenario.toml and type: "
            f"spillover stress scenario.toml --at {result.cut_digest[:12]}"
        )
    return Section("Scenario", text, pre=_toml(result.scenario))


def _toml(scenario: dict[str, Any]) -> str:
    """A scenario file with this content."""
    lines = [f"{k} = {_toml_value(v)}" for k, v in sorted(scenario.items()) if not isinstance(v, dict)]
    for table, body in sorted(scenario.items()):
        if isinstance(body, dict) and body:
            bare = table == "conventions"
            lines += ["", f"[{table}]"]
            lines += [f"{k if bare else _toml_value(k)} = {_toml_value(v)}" for k, v in sorted(body.items())]
    return "\n".join(lines)


def _toml_value(value: Any) -> str:
    return json.dumps(clean(value, 300) if isinstance(value, str) else value, ensure_ascii=False)


def _rounds(result: StressResult, snap: Snapshot, names: Names) -> Section:
    busy = sum(r.liquidations > 0 for r in result.rounds)
    paths = price_paths(result, snap, names)
    steps = ["cut", "blow", *(str(r.number) for r in result.rounds)]
    return (
        Section("Round by round")
        .figure(
            "rounds",
            f"{count(busy, 'round')} with liquidations, and the debt that stands uncovered after each.",
            plots.rounds_bars(result.rounds) if busy else None,
        )
        .figure(
            "prices",
            _price_finding(paths),
            plots.price_paths(paths, steps),
        )
        .table("Flows of each round, USD", ["round", *_FLOWS], _by_round(result, _FLOWS), ["round", *_FLOWS])
        .table(
            "Debt: bad debt of each round, and what stands at its end, USD. Uncovered is all bad debt so far and what "
            "is not booked; the first round and the last are those of the headline",
            ["round", *_DEBTS],
            _by_round(result, _DEBTS),
            ["round", *_DEBTS],
        )
    )


def _by_round(result: StressResult, columns: dict[str, str]) -> list[list[str]]:
    """A row a round, and one of all: sums, or the end of what stands. columns: title -> field of the round."""
    rounds = [[getattr(r, key) for key in columns.values()] for r in result.rounds]
    whole = [
        of[-1] if key in _STANDS else sum(of)
        for key, of in zip(columns.values(), zip(*rounds, strict=True), strict=True)
    ]
    numbers = [*(str(r.number) for r in result.rounds), "all"]
    shown = [[str(x) if isinstance(x, int) else usd(x) for x in row] for row in (*rounds, whole)]
    return [[number, *row] for number, row in zip(numbers, shown, strict=True)]


def price_paths(result: StressResult, snap: Snapshot, names: Names) -> list[plots.PricePath]:
    """Share of the price at the cut: at the cut, after the blow (None where it follows from other assets), after each
    round. The assets that selling and write-downs move most; of several that move as one, the one that is shocked."""
    cut = {asset: float(price.decimal()) for asset, (price, _) in all_usd(snap).items()}
    blow = {asset: move for _, move, assets in blow_of(result, snap, "price") for asset in assets}
    symbols = symbols_of(snap)
    best: dict[tuple[float, ...], tuple[bool, int, str, list[float | None]]] = {}
    for asset in sorted(result.rounds[0].prices_usd) if result.rounds else []:
        if not cut.get(asset):
            continue
        after = [r.prices_usd[asset] / cut[asset] for r in result.rounds]
        hit = blow.get(asset)
        found = (hit is None, len(symbols.get(asset, "")), asset, [1.0, None if hit is None else 1.0 + hit, *after])
        key = tuple(round(share, 2) for share in after)  # lines that nobody could tell apart
        best[key] = min(best.get(key, found), found, key=lambda f: f[:3])
    ranked = sorted(best.values(), key=lambda f: (-_spread(f[3]), f[2]))
    seen = [f for f in ranked if max(abs((s or 1.0) - 1.0) for s in f[3]) >= _SEEN_FRAC]
    return [plots.PricePath(asset, names.asset(asset), shares) for _, _, asset, shares in seen[:MOST_PATHS]]


def _price_finding(paths: list[plots.PricePath]) -> str:
    """What the cascade does to the price that it moves most."""
    _, name, shares = next(iter(paths), plots.PricePath("", "", [None]))
    blow, last = shares[min(1, len(shares) - 1)], shares[-1] or 0.0
    if blow is None:
        return f"{name} ends at {last:.1%} of its price at the cut."
    return f"{name} ends at {last:.1%} of its price at the cut; the blow alone leaves {blow:.1%}."


def _spread(shares: list[float | None]) -> float:
    """How far the last price stands from where the blow, or the first known value after it, left it."""
    after = [s for s in shares[1:] if s is not None]
    return abs(after[-1] - after[0])


def _payers(result: StressResult, names: Names) -> Section:
    totals = result.totals
    value = {x.node: x.loss_usd for x in result.losses if x.layer == MARKET_VALUE}
    credit = sorted((x for x in result.losses if x.kind == "market"), key=lambda x: (-x.loss_usd, x.node, x.layer))
    holders = sorted(value, key=lambda h: (-value[h], h))
    unrealised = sum(m.unrealised_shortfall_usd for m in result.markets)
    first, all_usd_ = totals.get("credit_loss_first_round_usd", 0.0), result.credit_loss_usd
    lost, relieved, unlisted = (totals.get(k, 0.0) for k in ("losses_usd", "reliefs_usd", "unlisted_lender_loss_usd"))
    at_first = sum(totals.get(k, 0.0) for k in ("losses_first_round_usd", "unlisted_lender_loss_first_round_usd"))
    text = f"Two losses, never added up: what holders lose at market value (USD {usd(lost)}"
    text += f", and lenders who are not listed USD {usd(unlisted)}" if abs(unlisted) >= _LEAST_USD else ""
    text += f"; others gain or are relieved of USD {usd(relieved)}" if relieved >= _LEAST_USD else ""
    text += f"), and what defaults cost those who lent (USD {usd(all_usd_)})"
    unpaid = result.traders_unpaid_usd
    text += f"; traders of options and perps leave USD {usd(unpaid)} more unpaid." if unpaid >= _LEAST_USD else "."
    return (
        Section("Who pays", text)
        .figure("waterfall", "Credit loss, booked or not: how it grows, and which layer takes how much of it.",
                plots.credit_waterfall(first, all_usd_, unrealised, credit) if credit or unrealised else None)
        .figure("direct", "How much of each loss the blow makes at once, and how much the cascade adds, in USD.",
                plots.direct_and_contagion({"market value": (at_first, lost + unlisted), "credit": (first, all_usd_)}))
        .figure("losers", "Holders who lose most at market value.",
                plots.losers([(short(h), value[h]) for h in holders[:MOST_BARS]], "loss, USD"))
        .table(f"What defaults cost, by layer, {_of(credit)}, USD", ["who", "layer", "loss"],
               [[names.node(x.node), x.layer, usd(x.loss_usd)] for x in credit[:MOST_ROWS]], ["loss"])
        .table(f"Holders' losses at market value, {_of(holders)}, USD", ["holder", "loss"],
               [[names.node(h), usd(value[h])] for h in holders[:MOST_ROWS]], ["loss"])
    )  # fmt: skip


def _of(rows: Any) -> str:
    return f"{min(MOST_ROWS, len(rows))} of {len(rows)}"


def _markets(result: StressResult, names: Names) -> Section:
    ranked = sorted(result.markets, key=lambda m: (-m.bad_debt_usd, -m.liquidated_usd, m.market))
    columns = ["market", "liquidated", "unprofitable", "seized, USD", "repaid, USD", "bad debt, USD", "unbooked, USD"]
    rows = [
        [names.node(m.market), str(m.liquidated_accounts), str(m.unprofitable_accounts), usd(m.liquidated_usd),
         usd(m.repaid_usd), usd(m.bad_debt_usd), usd(m.unrealised_shortfall_usd)]
        for m in ranked[:MOST_ROWS]
    ]  # fmt: skip
    text = "Unprofitable: accounts that may be liquidated, but where no liquidator earns after the price he moves."
    return Section("Markets", text).table(f"{_of(ranked)} markets; accounts, and amounts in USD", columns, rows,
                                          columns[1:])  # fmt: skip


def _wallets(result: StressResult) -> Section:
    ranked = fragile(result.wallets)
    columns = ["wallet", "health before", "after", "equity before", "equity after", "liquidated", "loss"]
    rows = [
        [Cell(short(w.holder), clean(w.holder, 200)), _number(w.health_before), _number(w.health_after),
         usd(w.equity_before_usd), usd(w.equity_after_usd), usd(w.liquidated_usd), usd(w.loss_usd)]
        for w in ranked[:MOST_ROWS]
    ]  # fmt: skip
    text = (
        "Health of a wallet is that of its weakest account, as the contract would answer; equity also counts what "
        "suppliers lost. After the stress: 0 is debt with nothing behind it, a dash no debt any more. "
        "A negative loss is a gain: debt that fell in value or was written off."
    )
    return (
        Section("Most fragile wallets", text)
        .figure("health", _health_finding(ranked), plots.health(ranked))
        .table(f"Lowest health first, {_of(ranked)}, amounts in USD", columns, rows, columns[1:])
    )


def _health_finding(indebted: list[WalletOutcome]) -> str:
    below = sum(w.health_after is not None and w.health_after < 1.0 for w in indebted)
    closed = sum(w.health_after is None for w in indebted)
    return f"Of {len(indebted)} wallets with debt, {below} end below 1 and {closed} without any debt."


def _derivatives(result: StressResult, names: Names) -> Section:
    rows = [[k.removesuffix("_usd").replace("_", " "), f"USD {usd(v)}" if k.endswith("_usd") else f"{v:,.0f}"]
            for k, v in sorted(result.totals.items()) if k.startswith(("option_", "perp_"))]  # fmt: skip
    pnl = sum(r.option_pnl_usd for r in result.rounds)
    text = f"Option legs are repriced in full after every round; their pools {_gain(pnl)}."
    pools = [x for x in result.losses if x.kind == "pool"]
    lost = [[names.node(x.node), usd(x.loss_usd)] for x in pools[:MOST_ROWS]]
    return (
        Section("Options and perps", text)
        .table("Totals", ["what", "value"], rows, ["value"])
        .table(f"Option pools that lose, {_of(pools)}, USD", ["pool", "loss"], lost, ["loss"])
    )


def _gain(pnl_usd: float) -> str:
    if abs(pnl_usd) < 0.005:
        return "neither gain nor lose"
    return f"{'gain' if pnl_usd > 0 else 'lose'} USD {usd(abs(pnl_usd))}"


def _unknown(result: StressResult, snap: Snapshot, names: Names) -> Section:
    cover = [
        [chain_name(c["chain"]),
         clean(f"{c['protocol']} {c['deployment']}"), c["level"], f"{c['accounts']:,}", _size(c["value_usd"]),
         str(c["gaps"])]
        for c in coverage_json(snap)
    ]  # fmt: skip
    lines = reconcile(snap)
    off = [r for r in lines if r.positions != r.contract]
    gaps = [
        [names.subject(str(g.get("subject"))), clean(str(g.get("reason"))), clean(str(g.get("detail")), 160),
         _size(g.get("value_usd"))]
        for g in result.gaps[:MOST_ROWS]
    ]  # fmt: skip
    text = (
        f"{len(lines)} sums of positions were checked against the contracts' own totals: {len(lines) - len(off)} are "
        f"equal to the last unit, {len(off)} differ. What could not be read is a gap, never a zero."
    )
    differing = [[names.node(r.market), names.node(r.asset), r.side, str(r.positions), str(r.contract)] for r in off]
    return (
        Section("What we do not know", text, *result.notes)
        .table(f"{_of(result.gaps)} gaps", ["about", "reason", "detail", "size, USD"], gaps, ["size, USD"])
        .table("Totals that differ, raw shares", ["market", "asset", "side", "positions", "contract"],
               differing[:MOST_ROWS], ["positions", "contract"])
        .table("Coverage", ["source", "deployment", "level", "accounts", "value, USD", "gaps"], cover,
               ["accounts", "value, USD", "gaps"])
    )  # fmt: skip


def _size(value: Any) -> str:
    return usd(float(value)) if value else "unknown"


def _method(result: StressResult) -> Section:
    checks = [[k.removesuffix("_usd").replace("_", " "), _small(v)] for k, v in sorted(result.conservation.items())]
    rules = [[k.replace("_", " "), clean(str(v), 400)] for k, v in sorted(result.conventions.items())]
    return (
        Section(
            "Method",
            "Each round values claims down from book value, lets oracles follow their path, liquidates by each "
            "protocol's own rule and version, walks one shared depth with everything that is sold, reprices options "
            "in full, and sends bad debt through reserves to suppliers, whose written-down shares are collateral "
            "elsewhere. It ends when nothing is liquidated and every oracle equals its source. docs/engine.md has "
            "each step and what is left out.",
        )
        .table("Conventions of this run", ["convention", "value"], rules)
        .table("Checks of this run: value is conserved, losses equal their sinks, USD", ["check", "value"], checks,
               ["value"])
    )  # fmt: skip


def _small(value: float) -> str:
    """Dollars, and errors below a cent by their size."""
    return usd(value) if abs(value) >= 0.005 else f"{value:.0e}" if value else "0"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
