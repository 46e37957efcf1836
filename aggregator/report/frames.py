"""Rows of a cut as pandas frames, for notebooks and tables: names and exact amounts as text.

Frames are an edge: everything inside works on the snapshot's columns. No format that a frame can be saved in holds an
integer of 256 bits, so amounts are decimal text: `frame["shares"].map(int)` gives Python's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from aggregator.core.errors import ConfigError, near_miss
from aggregator.core.schema import SCHEMA
from aggregator.snapshot import Snapshot, values

_TEXTS: dict[str, Callable[[Any], str]] = {"u256": str, "i256": str, "bytes": lambda data: f"0x{data.hex()}"}
Places = npt.NDArray[np.int64] | Sequence[int]


def frame(snap: Snapshot, kind: str, places: Places | None = None) -> pd.DataFrame:
    """Rows of a kind of `core.schema` (those at `places`, or all), in canonical order, with their deployment.

    Columns are the schema's: names and texts, 256-bit integers as decimal and bytes as 0x-hex text (all str), other
    integers int64; and `deployment`. ConfigError for an unknown kind.
    """
    if kind not in SCHEMA:
        raise ConfigError(
            f"no rows are called {kind!r}", expected=", ".join(SCHEMA), found=kind, fix=near_miss(kind, SCHEMA)
        )
    at = np.arange(snap.tables[kind].n) if places is None else np.asarray(places, dtype=np.int64)
    columns: Iterable[Sequence[Any]] = zip(*snap.take(kind, at), strict=True) if len(at) else [()] * len(SCHEMA[kind])
    rows = pd.DataFrame(
        {
            column.name: pd.Series(values, dtype="int64")
            if column.type == "int"
            else pd.Series(list(map(_TEXTS.get(column.type, str), values)), dtype="str")
            for column, values in zip(SCHEMA[kind], columns, strict=True)
        }
    )
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
