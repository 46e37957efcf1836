"""The answer of a stress in sentences that can be quoted: what happens, what breaks, who pays, how far, how sure."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from aggregator.core.result import StressResult, becomes
from aggregator.core.words import count, usd
from aggregator.report.coverage import coverage_json
from aggregator.report.names import Names, clean
from aggregator.snapshot import Snapshot
from aggregator.snapshot.symbols import key_meaning, standing, symbols_of

_LEAST_USD = 0.005
_LEAST_GROWTH = 0.005  # shown as 1.00
_MOST_TITLE = 300
_PAYERS = {
    "socialised to winners": "is taken from the winners of",
    "suppliers unknown": "is borne by suppliers whom nobody could list in",
    "uncovered": "stays open in",
}


def title(result: StressResult) -> str:
    """One sentence with the number."""
    return clean(result.headline, _MOST_TITLE)


def answer(result: StressResult, snap: Snapshot, names: Names) -> list[str]:
    """Five lines: the blow, what breaks, who bears it, how it spreads, how sure. The first and the last of a run that
    read nothing."""
    if result.read_nothing:
        return [_blow(result, snap), sure(result, snap)]
    return [_blow(result, snap), _breaks(result), _bears(result, names), _spreads(result), sure(result, snap)]


def read_share(snap: Snapshot) -> str:
    cover = coverage_json(snap)
    return f"{sum(c['level'] == 'full' for c in cover)} of {len(cover)}"


def blow_of(result: StressResult, snap: Snapshot, kind: str) -> list[tuple[str, float, set[str]]]:
    """(name, move, ids of what it moves) by price, vol, depth or depeg of the scenario; '*' is every asset."""
    found: Any = result.scenario.get(kind)
    out = []
    for key, value in sorted(found.items()) if isinstance(found, dict) else ():
        meant, name = key_meaning(key, symbols_of(snap), standing(snap))
        out.append((name, float(value), set(snap.assets) if key == "*" else set(meant.assets)))
    return out


def moves(result: StressResult, snap: Snapshot) -> list[str]:
    """The blow in words, of what the book has; equal moves are said once."""
    optioned = {leg.underlying for leg in snap.rows("option")}
    out = []
    for kind, words in (
        ("price", "{} {}%"),
        ("vol", "implied volatility of {} {} points"),
        ("depth", "{1}% of the depth of {0} gone"),
        ("depeg", "{} at {} of its backing"),
    ):
        same: dict[float, list[str]] = defaultdict(list)
        for name, value, assets in blow_of(result, snap, kind):
            if name == "*" or (assets & optioned if kind == "vol" else assets):
                same[value].append("every asset" if name == "*" else clean(name, 24))
        out += [words.format(", ".join(names), _shown(kind, v)) for v, names in sorted(same.items())]
    return out


def _shown(kind: str, value: float) -> str:
    """A move in percent or points with its sign, a share of depth in percent, a peg as it is; no digit is rounded off
    that a scenario would write."""
    text = {"depth": f"{100 * value:.6g}", "depeg": f"{value:.6g}"}.get(kind, f"{100 * value:+.6g}")
    return text.replace("-", "\u2212")


def _blow(result: StressResult, snap: Snapshot) -> str:
    said = clean(str(result.scenario.get("description") or ""), 300)
    found = "; ".join(moves(result, snap)) or "no move of anything that this book holds"
    return f"{said}: {found}." if said else f"{found[:1].upper()}{found[1:]}."


def _breaks(result: StressResult) -> str:
    seized = sum(m.liquidated_usd for m in result.markets)
    accounts = count(sum(m.liquidated_accounts for m in result.markets), "account")
    text = "In what was read, " if result.degraded else ""
    text += f"USD {usd(seized)} of collateral is seized in {accounts}"
    clause = becomes(result.totals)
    return f"{text}; {clause}." if clause else f"{text}."


def _bears(result: StressResult, names: Names) -> str:
    paid = [x for x in result.losses if x.kind == "market" and x.loss_usd > _LEAST_USD]
    if not paid:
        booked = result.credit_loss_usd <= _LEAST_USD
        return "No layer pays: losses are of market value alone." if booked else "No layer pays yet: nothing is booked."
    worst = max(paid, key=lambda x: (x.loss_usd, x.node))
    unbooked = sum(m.unrealised_shortfall_usd for m in result.markets)
    share, where = worst.loss_usd / (unbooked + sum(x.loss_usd for x in paid)), names.market(worst.node)
    who = _PAYERS.get(worst.layer, f"is paid by the {worst.layer} of")
    part = "All" if share > 0.995 else "Most" if share > 0.5 else "The largest part"
    if unbooked > worst.loss_usd:
        part = "The largest booked part"
    return f"{part} of what defaults cost {who} {where}: USD {usd(worst.loss_usd)}, {share:.0%}."


def _spreads(result: StressResult) -> str:
    first, last = result.totals.get("credit_loss_first_round_usd", 0.0), result.credit_loss_usd
    if last <= _LEAST_USD:
        return f"No round leaves debt{' that was read' * bool(result.degraded)} uncovered: there is nothing to amplify."
    if first <= _LEAST_USD:
        return "The first round leaves no debt uncovered to compare with."
    if abs(result.amplification - 1.0) < _LEAST_GROWTH:
        return f"The first round leaves all of it, USD {usd(first)}; later rounds add nothing."
    grown = f"The first round leaves USD {usd(first)}; sales that move prices and write-downs of claims make it"
    return f"{grown} USD {usd(last)}, {result.amplification:.2f} times as much."


def sure(result: StressResult, snap: Snapshot) -> str:
    c = result.convergence
    rounds, gaps = count(c.rounds, "round"), count(len(result.gaps), "gap")
    settled = f"settled after {rounds}" if c.converged else f"did NOT settle in {rounds} ({c.why})"
    return f"The cascade {settled}; {read_share(snap)} deployments were read in full; {gaps}, listed below."
