"""Total exposure to one asset: held outright, and through every claim that stands on it, by market and side."""

from __future__ import annotations

from typing import Any

import numpy as np

from aggregator import graph
from aggregator.core.errors import ConfigError, near_miss
from aggregator.report.plain import cut_json
from aggregator.snapshot import Snapshot, values


def exposure(snap: Snapshot, text: str) -> dict[str, Any]:
    """text: asset id or unambiguous symbol. Rows sorted by size; value_usd null where no price is known."""
    asset = find_asset(snap, text)
    built = graph.build(snap)
    seen = graph.look_through(built)
    names = [built.names[code] for code in seen.assets.tolist()]
    column = seen.share[:, [names.index(asset)]].toarray().ravel() if asset in names else []
    fractions = {held: float(f) for held, f in zip(names, column, strict=False) if f > 0} | {asset: 1.0}
    table, usd = snap.tables["exposure"], values.value_usd(snap)
    rows = []
    for held, fraction in sorted(fractions.items()):
        places = snap.find("exposure", asset=held)
        keys = np.stack([table["market"][places], table["side"][places]], axis=1)
        for market, side in np.unique(keys, axis=0).tolist():
            total = float(usd[places[(keys == (market, side)).all(axis=1)]].sum()) * fraction
            through = "direct" if held == asset else held
            rows.append(
                {
                    "market": snap.names[market],
                    "side": snap.names[side],
                    "through": through,
                    "fraction": fraction,
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
    raise ConfigError(
        f"{text!r} is {'several assets' if found else 'no asset of this cut'}",
        expected=", ".join(found or symbols[:20]),
        found=text,
        fix="give the id" if found else near_miss(text, symbols),
    )
