"""Answers as tables for a terminal."""

from __future__ import annotations

from typing import Any

from aggregator.cli.output import out, short, table, usd


def collect(data: dict[str, Any]) -> None:
    cut = data["cut"]
    table(
        f"cut {cut['digest'][:12]} (skew {cut['skew_s']} s)",
        ["source", "block", "finality"],
        [[str(b["chain"]), str(b["number"]), b["finality"]] for b in cut["blocks"]],
        right=frozenset({1}),
    )
    coverage(data["coverage"])
    off = [r for r in data["reconciliation"] if not r["equal"]]
    out.print(f"\nreconciliation: {len(data['reconciliation'])} totals checked, {len(off)} differ")
    for r in off[:20]:
        out.print(f"  {r['market']} {r['asset']} {r['side']}: off by {r['difference']}", markup=False)


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


def stress(r: dict[str, Any]) -> None:
    c = r["convergence"]
    out.print(f"[bold]{r['scenario']['name']}[/] on cut {r['cut_digest'][:12]}: ", end="")
    out.print(f"{c['rounds']} rounds, " + ("converged" if c["converged"] else f"NOT converged ({c['why']})"))
    coverage(r["coverage"])
    table(
        "losses by protocol",
        ["protocol", "chain", "liquidated USD", "bad debt USD", "unrealised USD"],
        [
            [
                m["protocol"],
                m["chain"].removeprefix("eip155:"),
                usd(m["liquidated_usd"]),
                usd(m["bad_debt_usd"]),
                usd(m["unrealised_shortfall_usd"]),
            ]
            for m in _by_protocol(r["markets"])
        ],
        right=frozenset({2, 3, 4}),
    )
    table(
        "most fragile wallets",
        ["wallet", "health before", "after", "loss USD"],
        [
            [short(w["holder"]), _hf(w["health_before"]), _hf(w["health_after"]), usd(w["loss_usd"])]
            for w in fragile(r["wallets"])[:8]
        ],
        right=frozenset({1, 2, 3}),
    )
    out.print(f"amplification {r['amplification']:.3f} (loss at the fixed point / loss of the first round)")


def fragile(wallets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with debt, lowest health first."""
    indebted = [w for w in wallets if w["health_before"] is not None]
    return sorted(indebted, key=lambda w: (w["health_before"], -w["loss_usd"], w["holder"]))


def _by_protocol(markets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    for m in markets:
        row = sums.setdefault((m["protocol"], m["chain"]), {"protocol": m["protocol"], "chain": m["chain"]})
        for key in ("liquidated_usd", "bad_debt_usd", "unrealised_shortfall_usd"):
            row[key] = row.get(key, 0.0) + m[key]
    return [sums[k] for k in sorted(sums)]


def _hf(value: float | str | None) -> str:
    return "-" if value is None else f"{float(value):.4f}"


def wallet(w: dict[str, Any]) -> None:
    out.print(f"[bold]{w['address']}[/] at cut {w['cut']['digest'][:12]}, {w['age_s']} s old")
    for p in w["positions"]:
        out.print(f"\n{p['protocol']} · {p['deployment']} · chain {p['chain']}", markup=False)
        table(
            "",
            ["asset", "side", "amount", "USD"],
            [[leg["symbol"], leg["side"], leg["amount"], usd(leg["value_usd"])] for leg in p["legs"]],
            right=frozenset({2, 3}),
        )
        if p["health_factor"] is not None:
            out.print(f"health factor {p['health_factor']}")
    if not w["positions"]:
        out.print("no position in any source of this cut")
    for g in w["gaps"]:
        out.print(f"gap: {g['subject']} {g['reason']} {g['detail']}", markup=False)
