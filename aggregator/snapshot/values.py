"""The float lane of exposures: amounts and USD values as arrays aligned with the exposure table."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aggregator.core.table import Table
from aggregator.snapshot.prices import all_usd

if TYPE_CHECKING:
    from aggregator.snapshot.snapshot import Snapshot

F8 = npt.NDArray[np.float64]
IN_AMOUNTS = ("amm", "perp")  # kinds of market whose exposures are amounts; all others count in shares of an Index


def price_usd(snap: Snapshot) -> F8:
    """(len(names),) USD per raw unit of the asset with that code, nan where it is no asset or has no price."""
    out = np.full(len(snap.names), nan)
    for asset, (price, _) in all_usd(snap).items():
        known = snap.assets.get(asset)
        if known is not None and known.decimals >= 0:
            places = price.exp + known.decimals
            out[snap.code(asset)] = price.raw / 10**places if places >= 0 else float(price.raw * 10**-places)
    return out


def amount_raw(snap: Snapshot) -> F8:
    """(n,) shares * num / den of every exposure in raw units, nan where no Index says what a share is.

    Markets of the kinds `IN_AMOUNTS` need none; where one has Index rows all the same, they count.
    """
    table, index, market = snap.tables["exposure"], snap.tables["index"], snap.tables["market"]
    out: F8 = table["shares_f"].copy()
    if not table.n:
        return out
    plain = market["market"][np.isin(market["kind"], [snap.code(kind) for kind in IN_AMOUNTS])]
    known = np.isin(table["market"], plain) & ~np.isin(table["market"], index["market"])
    if index.n:
        keys, wanted = _keys(snap, index), _keys(snap, table)
        order = np.argsort(keys, kind="stable")
        place = order[np.minimum(np.searchsorted(keys[order], wanted), index.n - 1)]
        hit = (keys[place] == wanted) & (index["den_f"][place] > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            out = np.where(hit, out * index["num_f"][place] / index["den_f"][place], out)
        known |= hit
    out[~known] = nan
    return out


def value_usd(snap: Snapshot) -> F8:
    """(n,) USD of every exposure at the cut (not negative, debt too), nan where amount or price is unknown."""
    out: F8 = amount_raw(snap) * price_usd(snap)[snap.tables["exposure"]["asset"]]
    return out


def _keys(snap: Snapshot, table: Table) -> npt.NDArray[np.int64]:
    """(market, asset, side) as one integer; sides are few, so told apart by their rank."""
    market, asset = (table[column].astype(np.int64) for column in ("market", "asset"))
    sides = np.unique(np.concatenate([snap.tables[kind]["side"] for kind in ("exposure", "index")]))
    keys: npt.NDArray[np.int64] = (market * len(snap.names) + asset) * len(sides)
    return keys + np.searchsorted(sides, table["side"])
