"""Total exposure to one asset: held outright, and through every claim that stands on it, by market and side."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import numpy as np

from aggregator.core.errors import ConfigError
from aggregator.report.plain import cut_json
from aggregator.snapshot import Snapshot, values


def exposure(snap: Snapshot, text: str) -> dict[str, Any]:
    """text: asset id or unambiguous symbol. Rows sorted by size; value_usd null where no price is known."""
    asset = find_asset(snap, text)
    shares = {asset: (1.0, "direct")}
    frontier = [asset]
    prices = values.price_usd(snap)
    while frontier:  # each claim adds its dollar fraction once; a cycle of claims ends when nothing new is met
        under = frontier.pop()
        for claim in snap.rows("claim", underlying=under):
            if claim.asset in shares:
                continue
            part, whole = prices[snap.code(under)] * claim.num / max(claim.den, 1), prices[snap.code(claim.asset)]
            fraction = part / whole if whole > 0 and part == part else float("nan")
            before, path = shares[under]
            shares[claim.asset] = (
                before * min(fraction, 1.0),
                f"{claim.kind} {claim.asset}" + ("" if path == "direct" else f" > {path}"),
            )
            frontier.append(claim.asset)
    table, usd = snap.tables["exposure"], values.value_usd(snap)
    rows = []
    for held, (fraction, path) in sorted(shares.items()):
        places = snap.find("exposure", asset=held)
        keys = np.stack([table["market"][places], table["side"][places]], axis=1)
        for market, side in np.unique(keys, axis=0).tolist():
            total = float(usd[places[(keys == (market, side)).all(axis=1)]].sum()) * fraction
            rows.append(
                {
                    "market": snap.names[market],
                    "side": snap.names[side],
                    "through": path,
                    "value_usd": total if total == total else None,
                }
            )
    rows.sort(key=lambda r: (-(r["value_usd"] or 0.0), r["market"], r["side"]))
    known = snap.assets.get(asset)
    return {"asset": asset, "symbol": known.symbol if known else asset, "cut": cut_json(snap.cut), "rows": rows}


def find_asset(snap: Snapshot, text: str) -> str:
    """Asset id of an id or symbol; ConfigError for an unknown one (nearest named) or a symbol of several assets."""
    if text in snap.assets:
        return text
    found = sorted(a.id for a in snap.assets.values() if a.symbol.lower() == text.lower())
    if len(found) == 1:
        return found[0]
    symbols = sorted({a.symbol for a in snap.assets.values() if a.symbol})
    near = get_close_matches(text, symbols, n=1)
    raise ConfigError(
        f"{text!r} is {'several assets' if found else 'no asset of this cut'}",
        expected=", ".join(found or symbols[:20]),
        found=text,
        fix="give the id" if found else (f"did you mean {near[0]!r}?" if near else ""),
    )
