"""Answers as tables for a terminal."""

from __future__ import annotations

from typing import Any

from aggregator.cli.output import age, amount, out, printable, short, table, usd, whole
from aggregator.core.ids import chain_order
from aggregator.core.result import becomes
from aggregator.core.words import count, first_of

MOST_GAPS = 12
MOST_NAMESAKES = 5
_LEAST_USD = 0.005


def collect(data: dict[str, Any], gaps: list[dict[str, Any]]) -> None:
    cut = data["cut"]
    table(
        f"cut {cut['digest'][:12]}, {age(data['age_s'])} (skew {cut['skew_s']} s)",
        ["source", "block", "finality"],
        [[str(b["chain"]), str(b["number"]), b["finality"]] for b in cut["blocks"]],
        right=frozenset({1}),
    )
    coverage(data["coverage"])
    off = [r for r in data["reconciliation"] if not r["equal"]]
    out.print(f"\nreconciliation: {len(data['reconciliation'])} totals checked, {len(off)} differ")
    for r in off[:20]:
        out.print(f"  {r['market']} {r['asset']} {r['side']}: off by {r['difference']}", markup=False)
    for g in gaps[:MOST_GAPS]:
        out.print(_gap(g), markup=False)
    if len(gaps) > MOST_GAPS:
        out.print(f"and {len(gaps) - MOST_GAPS} gaps more")


def dry_run(estimate: list[dict[str, Any]]) -> None:
    """What a run would cost, and what it would leave out."""
    columns = ["deployment", "calls", "requests", "bytes", "seconds"]
    rows = [[str(row[column]) for column in columns] for row in estimate]
    table("dry run: nothing was written", columns, rows, right=frozenset({1, 2, 3, 4}))
    for row in estimate:
        if row["problem"]:
            out.print(printable(f"left out: {row['deployment']}, {row['problem']}"), markup=False)


def _gap(g: dict[str, Any]) -> str:
    return printable(f"gap: {g['reason']}, {g['detail']} ({g['subject']})")


def coverage(coverage: list[dict[str, Any]]) -> None:
    table(
        "coverage",
        ["source", "protocol", "level", "accounts", "value USD", "gaps"],
        [
            [
                str(c["chain"]),
                f"{c['protocol']} {c.get('deployment', '')}".strip(),
                c["level"],
                str(c["accounts"]),
                usd(c["value_usd"]),
                str(c["gaps"]),
            ]
            for c in coverage
        ],
        right=frozenset({3, 4, 5}),
    )


def stress(r: dict[str, Any], age_s: int | None = None) -> None:
    """The answer, then one line a protocol, then who is closest to the edge; no figure where nothing was read.

    age_s: of the cut.
    """
    c = r["convergence"]
    seized = _sum(r["markets"], "liquidated_usd")
    accounts = count(sum(m["liquidated_accounts"] for m in r["markets"]), "account")
    settled = f"settled after {count(c['rounds'], 'round')}" if c["converged"] else f"NOT settled ({c['why']})"
    out.print(
        f"{printable(r['scenario']['name'])} at cut {r['cut_digest'][:12]}"
        + ("" if age_s is None else f", {age(age_s)}")
        + f" (stress {r['job'][:12]}): {settled}",
        style="bold",
        markup=False,
    )
    out.print(printable(r["headline"]), markup=False)
    if not read_nothing(r):
        if clause := becomes(r["totals"]):
            out.print(clause, markup=False)
        out.print(f"USD {whole(seized)} of collateral is seized in {accounts}")
        out.print(f"amplification {r['amplification']:.2f} (fixed point / first round: {_amplified(r)})")
    for note in r["notes"]:
        out.print(printable(note), markup=False, soft_wrap=False)
    full, gaps = sum(c["level"] == "full" for c in r["coverage"]), len(r["gaps"])
    rows = [row for row in _by_protocol(r) if row["accounts"] or row["level"] != "full"]
    money = [(key, title) for key, title in MONEY if any(row[key] for row in rows)]
    table(
        f"\nby protocol: {full} of {len(r['coverage'])} deployments read in full, {count(gaps, 'gap')}",
        ["chain", "protocol", "read", "accounts", *(title for _, title in money)],
        [
            [row["chain"], row["protocol"], row["level"], f"{row['accounts']:,}", *(_some(row[k]) for k, _ in money)]
            for row in rows
        ],
        right=frozenset(range(3, 8)),
    )
    if read_nothing(r):
        return
    table(
        "\nmost fragile wallets",
        ["wallet", "health before", "after", "seized USD", "loss USD"],
        [
            [short(w["holder"]), _hf(w["health_before"]), _hf(w["health_after"]), _some(w["liquidated_usd"]),
             whole(w["loss_usd"])]
            for w in fragile(r["wallets"])[:6]
        ],
        right=frozenset({1, 2, 3, 4}),
    )  # fmt: skip


def _amplified(r: dict[str, Any]) -> str:
    """What the amplification of a stress compares; a note says so too where it is not credit losses."""
    after, first = (r["totals"].get(key, 0.0) for key in ("credit_loss_usd", "credit_loss_first_round_usd"))
    return "losses at market value" if after > _LEAST_USD >= first else "debt left uncovered"


def read_nothing(r: dict[str, Any]) -> bool:
    """Whether a stress says nothing of debt, for nobody's account was read."""
    return not any(c["accounts"] for c in r["coverage"])


MONEY = (
    ("value_usd", "value USD"), ("liquidated_usd", "seized USD"), ("bad_debt_usd", "bad debt USD"),
    ("unrealised_shortfall_usd", "not booked USD"),
)  # fmt: skip


def fragile(wallets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with debt, lowest health first."""
    indebted = [w for w in wallets if w["health_before"] is not None]
    return sorted(indebted, key=lambda w: (w["health_before"], -w["loss_usd"], w["holder"]))


def _by_protocol(r: dict[str, Any]) -> list[dict[str, Any]]:
    """Deployments of one protocol on one chain together; level is the worst of them."""
    from aggregator.report.names import chain_name

    rows: dict[tuple[int | str, str], dict[str, Any]] = {}
    for found in (*r["coverage"], *r["markets"]):
        key = found["chain"], found["protocol"]
        if key not in rows:
            rows[key] = {"chain": short(chain_name(key[0])), "protocol": key[1], "level": "full", "accounts": 0}
            rows[key] |= dict.fromkeys((money for money, _ in MONEY), 0.0)
        row = rows[key]
        row["accounts"] += found.get("accounts", 0)
        if found.get("level", "full") != "full":
            row["level"] = found["level"]
        for money, _ in MONEY:
            row[money] += float(found.get(money) or 0.0)
    return [rows[k] for k in sorted(rows, key=lambda k: (chain_order(k[0]), k[1]))]


def _sum(rows: list[dict[str, Any]], key: str) -> float:
    return float(sum(row[key] for row in rows))


def _some(value: float) -> str:
    return whole(value) if value else "-"


def _hf(value: float | str | None) -> str:
    return "-" if value is None else f"{float(value):.4f}"


def wallet(w: dict[str, Any]) -> None:
    """Positions, what each is away from liquidation, Greeks, and what is not known."""
    from aggregator.report.names import chain_name

    out.print(f"{w['address']} at cut {w['cut']['digest'][:12]}, {age(w['age_s'])}", style="bold", markup=False)
    for p in w["positions"]:
        chain = chain_name(p["market"])
        state = "" if p["health_factor"] is None else f" · health factor {float(p['health_factor']):.6f}"
        table(
            f"\n{printable(p['protocol'])} {printable(p['deployment'])} · {chain}{state}",
            ["asset", "side", "amount", "USD"],
            [[leg["symbol"] or "?", leg["side"], amount(leg["amount"]), usd(leg["value_usd"])] for leg in p["legs"]],
            right=frozenset({2, 3}),
        )
        for line in _edge(p):
            out.print(line, markup=False)
    if w["positions"]:
        sums = f"collateral {usd(w['totals']['collateral_usd'])}, debt {usd(w['totals']['debt_usd'])}"
        supplied = [leg["value_usd"] for p in w["positions"] for leg in p["legs"] if leg["side"] == "supply"]
        if supplied:
            sums += f", supplied {usd(None if None in supplied else sum(map(float, supplied)))}"
        out.print(f"\nin all, USD: {sums}", markup=False)
        if required := sum(float(p["requirement_usd"] or 0.0) for p in w["positions"]):
            out.print(f"margin required, USD: {usd(required)}", markup=False)
        if unknown := w["totals"]["unpriced"]:
            out.print(f"{unknown} of {len(w['positions'])} positions have parts without a dollar value", markup=False)
    else:
        out.print("no position in what was read")
    out.print(_read(w["coverage"]))
    if w["greeks"]:
        names = ("delta", "gamma", "vega", "theta", "value")
        table(
            "\nGreeks: gamma per 1 of price, vega per 1.00 of volatility, theta a year",
            ["underlying", *names],
            [[_symbol(w["positions"], asset), *(f"{g[n]:,.4f}" for n in names)] for asset, g in w["greeks"].items()],
            right=frozenset(range(1, 6)),
        )
    for g in w["gaps"]:
        out.print(_gap(g), markup=False)


def _edge(position: dict[str, Any]) -> list[str]:
    """The nearest price that takes the account to its threshold, in words."""
    found = position["liquidation"]
    if found["liquidatable"]:
        return ["may be liquidated now"]
    ways = sorted(found["prices"], key=lambda p: abs(float(p["move_frac"])))[:2]
    return [
        f"liquidated if {printable(p['symbol'])} alone {'falls' if float(p['move_frac']) < 0 else 'rises'} "
        f"{abs(float(p['move_frac'])):.1%} to {amount(p['price'])} {_symbol([position], p['quote'])}"
        for p in ways
    ]


def _symbol(positions: list[dict[str, Any]], asset: str) -> str:
    """Symbol of an asset; its id's end where no leg knows it."""
    known = {leg["asset"]: leg["symbol"] for position in positions for leg in position["legs"]}
    return printable(known.get(asset) or short(asset.rsplit(":", 1)[-1]))


def exposure(e: dict[str, Any]) -> None:
    """One line a market, side and claim, largest first; positions of one pool together."""
    from aggregator.report.names import chain_name

    sums: dict[tuple[str, str, str], float | None] = {}
    for row in e["rows"]:
        through = row["through"]
        if "/erc721:" in through:
            through = "LP positions"
        elif through != "direct":
            through = row["symbol"] or short(through.rsplit(":", 1)[-1])
        key = row["market"], row["side"], through
        known = row["value_usd"] is not None and sums.get(key, 0.0) is not None
        sums[key] = (sums.get(key) or 0.0) + float(row["value_usd"]) if known else None
    several = f" ({len(e['assets'])} assets of that symbol)" if len(e["assets"]) > 1 else ""
    table(
        f"exposure to {printable(e['symbol'])}{several} at cut {e['cut']['digest'][:12]}, {age(e['age_s'])}",
        ["chain", "market", "side", "through", "USD"],
        [
            [short(chain_name(market)), short_market(market), side, through, "-" if value is None else whole(value)]
            for (market, side, through), value in sorted(sums.items(), key=lambda kv: (-(kv[1] or 0.0), kv[0]))
        ],
        right=frozenset({4}),
    )
    shares = {asset.rsplit(":", 1)[-1] for asset in e["assets"]}  # a vault is a market of its own shares
    if any(through not in ("direct", "LP positions") or market.rsplit("/", 1)[-1] in shares
           for market, _, through in sums):  # fmt: skip
        out.print("a vault's positions, its shares and who keeps them: same money, do not add up")
    if e["namesakes"]:
        others = printable(first_of(e["namesakes"], MOST_NAMESAKES))
        out.print(f"other assets of that symbol are left out: {others}", markup=False)
    out.print(_read(e["coverage"]))


def _read(coverage: list[dict[str, Any]]) -> str:
    return f"{sum(c['level'] == 'full' for c in coverage)} of {len(coverage)} deployments were read in full"


def short_market(market: str) -> str:
    """Protocol, deployment and the ends of what follows: morpho_blue blue 0xc70d0f…d7ae."""
    return " ".join(short(part) for part in market.split("/")[1:])


def bench(rows: list[dict[str, Any]]) -> None:
    """What was measured, then why the others were not."""
    columns = ["name", "what", "ours", "reference", "ratio", "bar", "holds"]
    measured = [
        row
        | {column: f"{row[column]:.4g}" for column in ("ours", "reference")}
        | {"ratio": f"{row['ratio']:.2f}", "holds": "yes" if row["holds"] else "NO"}
        for row in rows
        if "skipped" not in row
    ]
    table("benchmarks", columns, [[str(row[c]) for c in columns] for row in measured], right=frozenset({2, 3, 4}))
    for row in rows:
        if "skipped" in row:
            out.print(f"skipped {row['name']}: {row['skipped']}", markup=False)
