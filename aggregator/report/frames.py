"""Rows of a cut as pandas frames, for notebooks and tables: names as text, amounts as exact Python integers.

Frames are an edge: everything inside works on the snapshot's columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from aggregator.core.errors import ConfigError, near_miss
from aggregator.core.schema import SCHEMA
from aggregator.snapshot import Snapshot, values

_TYPES = {"name": "str", "text": "str", "int": "int64"}
Places = npt.NDArray[np.int64] | Sequence[int]


def frame(snap: Snapshot, kind: str, places: Places | None = None) -> pd.DataFrame:
    """Rows of a kind of `core.schema` (those at `places`, or all), in canonical order, with their deployment.

    Columns are the schema's: names and texts str, 256-bit integers Python ints and bytes as objects, others int64; and
    `deployment`. ConfigError for an unknown kind.
    """
    if kind not in SCHEMA:
        raise ConfigError(
            f"no rows are called {kind!r}", expected=", ".join(SCHEMA), found=kind, fix=near_miss(kind, SCHEMA)
        )
    at = np.arange(snap.tables[kind].n) if places is None else np.asarray(places, dtype=np.int64)
    names = [column.name for column in SCHEMA[kind]]
    types = {column.name: _TYPES.get(column.type, object) for column in SCHEMA[kind]}
    rows = pd.DataFrame.from_records(snap.take(kind, at), columns=names, coerce_float=False).astype(types)
    deployments = [snap.names[code] for code in snap.tables[kind]["deployment"][at].tolist()]
    return rows.assign(deployment=pd.Series(deployments, dtype="str"))


def positions(snap: Snapshot, places: Places | None = None) -> pd.DataFrame:
    """Collateral, supply, debt and margin balances: `frame(snap, "exposure")` and two columns more.

    symbol: for display alone. value_usd: float64, not negative (debt too), NaN where amount or price is unknown: sum
    it with `skipna=False`, or the unknown counts for nothing.
    """
    out = frame(snap, "exposure", places)
    usd = values.value_usd(snap)
    symbols = {asset.id: asset.symbol for asset in snap.assets.values()}
    return out.assign(
        symbol=pd.Series([symbols.get(asset, "") for asset in out["asset"]], dtype="str"),
        value_usd=usd if places is None else usd[np.asarray(places, dtype=np.int64)],
    )
