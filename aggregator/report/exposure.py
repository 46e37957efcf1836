"""Total exposure to one asset: held outright, and through every claim that stands on it, by market and side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aggregator import graph
from aggregator.core.errors import ConfigError, near_miss
from aggregator.report.frames import positions
from aggregator.report.plain import cut_json
from aggregator.snapshot import Snapshot


def exposure(snap: Snapshot, text: str) -> dict[str, Any]:
    """text: asset id or unambiguous symbol. Rows sorted by size; value_usd null where no price is known."""
    asset = find_asset(snap, text)
    built = graph.build(snap)
    seen = graph.look_through(built)
    names = [built.names[code] for code in seen.assets.tolist()]
    column = seen.share[:, [names.index(asset)]].toarray().ravel() if asset in names else []
    fractions = {name: float(part) for name, part in zip(names, column, strict=False) if part > 0} | {asset: 1.0}
    places = np.concatenate([snap.find("exposure", asset=name) for name in fractions])
    held = positions(snap, places).groupby(["asset", "market", "side"], as_index=False)["value_usd"]
    rows = []
    sums = held.agg(_sum)
    for through, market, side, usd in zip(*(sums[column] for column in sums), strict=True):
        total = usd * fractions[through]
        rows.append(
            {
                "market": market,
                "side": side,
                "through": "direct" if through == asset else through,
                "fraction": fractions[through],
                "value_usd": total if total == total else None,
            }
        )
    rows.sort(key=lambda r: (-(r["value_usd"] or 0.0), r["market"], r["side"]))
    known = snap.assets.get(asset)
    return {"asset": asset, "symbol": known.symbol if known else asset, "cut": cut_json(snap.cut), "rows": rows}


def _sum(usd: pd.Series[float]) -> float:
    """NaN where one of them is: the unknown does not count for nothing."""
    return float(usd.sum(skipna=False))


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
