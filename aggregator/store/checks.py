"""What a run must be before a byte of it is written: rows of known kinds, each position owned and told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.core.rows import POSITION_KINDS, Asset, Row
from aggregator.core.schema import KIND_OF
from aggregator.core.table import Names
from aggregator.store.facts import KEYS


def by_kind(rows: Iterable[Row]) -> dict[str, list[Row]]:
    kept = list(rows)
    kinds = dict.fromkeys(map(type, kept))
    for kind in kinds:
        if kind is not Asset and kind not in KIND_OF:
            raise DomainError("not a row", expected="a row kind of aggregator.core.rows", found=kind.__name__)
    if len(kinds) == 1:
        grouped = dict.fromkeys(kinds, kept)
    else:
        grouped = {kind: [row for row in kept if type(row) is kind] for kind in kinds}
    return {"asset" if kind is Asset else KIND_OF[kind]: found for kind, found in grouped.items()}


def check_owners(columns: dict[str, list[Any]], rows: Sequence[Any], read: set[Any], names: Names) -> None:
    """Every row belongs to a target read: by arrays for accounts, one by one for what they leave over."""
    accounts = [target for target in read if not target[2]]
    size = names.following
    owners = _fold([columns["market"], columns["holder"]], size)
    wanted = _fold([names.codes([target[place] for target in accounts]) for place in (0, 1)], size)
    for place in np.flatnonzero(~np.isin(owners, wanted)).tolist():
        market, holder, ref = rows[place][:3]
        if (market, holder, ref) not in read and (market, "", ref) not in read:
            raise DomainError(
                "a position belongs to no target that was read",
                expected="(market, holder), (market, holder, ref) or (market, '', ref) among the targets",
                found=repr(rows[place])[:500],
            )


def check_distinct(kind: str, columns: dict[str, list[Any]], rows: Sequence[Any]) -> None:
    keys: Sequence[Any]
    if kind == "option":
        keys = list(zip(*(columns[name] for name in KEYS[kind]), strict=True))
        distinct = len(set(keys))
    else:
        size = 1 + max((max(columns[name], default=0) for name in KEYS[kind]), default=0)
        folded = _fold([columns[name] for name in KEYS[kind]], size)
        ordered = np.sort(folded)
        distinct = len(rows) - int((ordered[1:] == ordered[:-1]).sum())
        keys = folded.tolist() if distinct < len(rows) else ()
    if distinct < len(rows):
        twice = next(key for key, times in Counter(keys).items() if times > 1)
        raise DomainError(
            f"two {kind} rows for one position",
            expected=f"one row per {', '.join(KEYS[kind])}",
            found=" and ".join(repr(rows[i]) for i, key in enumerate(keys) if key == twice)[:500],
        )


def _fold(columns: Sequence[Sequence[int]], size: int) -> npt.NDArray[Any]:
    """Columns of codes below size as one key per row."""
    keys = np.array(columns[0], dtype=np.int64)
    room = size
    for column in columns[1:]:
        if room * size > 2**62:  # as dense ranks: there are no more of them than rows
            keys = np.unique(keys, return_inverse=True)[1]
            room = len(keys) + 1
        keys = keys * size + np.array(column, dtype=np.int64)
        room *= size
    return keys


assert {KIND_OF[kind] for kind in POSITION_KINDS} == set(KEYS)
