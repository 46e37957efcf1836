"""Total exposure to one asset: held outright, and through every claim that stands on it, by market and side."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd

from aggregator import graph
from aggregator.core.errors import ConfigError
from aggregator.report.coverage import coverage_json
from aggregator.report.frames import positions
from aggregator.report.plain import cut_json
from aggregator.snapshot import Snapshot
from aggregator.snapshot.symbols import Meaning, meaning, standing, symbols_of

MOST_SYMBOLS, MOST_MEANT = 30, 8  # in an error


def exposure(snap: Snapshot, text: str) -> dict[str, Any]:
    """text: asset id, or a symbol: then all assets that it means (`snapshot.symbols`), on any chain, count as one.

    namesakes: assets of that symbol that no market vouches for; they are left out.
    Rows sorted by size; symbol: of what is held; fraction: of the value held that stands on the asset; value_usd null
    where no price is known. A vault's own positions and its shares are rows of the same money: no sum of them is made.
    """
    assets, namesakes = find_assets(snap, text)
    built = graph.build(snap)
    seen = graph.look_through(built)
    names = [built.names[code] for code in seen.assets.tolist()]
    column = seen.share[:, [names.index(asset) for asset in assets if asset in names]].sum(axis=1).ravel().tolist()
    fractions = {name: part for name, part in zip(names, column, strict=True) if part > 0} | dict.fromkeys(assets, 1.0)
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
                "through": "direct" if through in assets else through,
                "symbol": snap.assets[through].symbol if through in snap.assets else "",
                "fraction": fractions[through],
                "value_usd": total if total == total else None,
            }
        )
    rows.sort(key=lambda r: (-(r["value_usd"] or 0.0), r["market"], r["side"]))
    return {
        "assets": list(assets),
        "namesakes": list(namesakes),
        "symbol": snap.assets[assets[0]].symbol,
        "cut": cut_json(snap.cut),
        "coverage": coverage_json(snap),
        "rows": rows,
    }


def _sum(usd: pd.Series[float]) -> float:
    """NaN where one of them is: the unknown does not count for nothing."""
    return float(usd.sum(skipna=False))


def find_assets(snap: Snapshot, text: str) -> Meaning:
    """What an id or symbol means; ConfigError names the nearest symbol where there is nothing."""
    found = meaning(text, symbols_of(snap), standing(snap))
    if found.assets:
        return found
    symbols = sorted({a.symbol for a in snap.assets.values() if a.symbol})
    more = f" and {len(symbols) - MOST_SYMBOLS} more" if len(symbols) > MOST_SYMBOLS else ""
    raise ConfigError(
        f"{text!r} is no asset of this cut",
        expected=f"an asset id, or a symbol: {', '.join(symbols[:MOST_SYMBOLS])}{more}",
        found=text or "nothing",
        fix=_meant(text, symbols),
    )


def _meant(text: str, symbols: list[str]) -> str:
    """Symbols with the text in them, the shortest first, as ETH is in WETH and wstETH; otherwise the nearest."""
    within = sorted((s for s in symbols if text and text.lower() in s.lower()), key=lambda s: (len(s), s))
    if within:
        return f"did you mean {' or '.join(repr(s) for s in within[:MOST_MEANT])}?"
    named = {s.lower(): s for s in symbols}  # case does not matter above
    near = get_close_matches(text.lower(), named, n=1)
    return f"did you mean {named[near[0]]!r}?" if near else ""
