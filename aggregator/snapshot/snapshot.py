"""The frozen book of one cut: what everyone owes, as columns for the engine and as exact rows for a wallet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from aggregator.core.block import Cut
from aggregator.core.ids import source_of
from aggregator.core.rows import Asset, Gap
from aggregator.core.schema import KINDS, PACK, SCHEMA, UNPACK
from aggregator.core.table import RawTable, Table, raw_tables
from aggregator.snapshot.columns import code_book, digest, first_teller, freeze, merge
from aggregator.snapshot.coverage import ADDED_REASONS, price_gaps
from aggregator.snapshot.totals import total_gaps

I8 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Equal and hashed by identity; compare digests.

    names: all texts, sorted; tables: every kind of `core.schema`, in canonical order; assets: those in use, by id.

    digest: the same for the same rows and levels at the same cut, whatever database and order they came in.
    memo: what has been derived so far (indices, prices); nothing else changes after `build`.
    levels: deployment -> full | partial | aggregate | failed, as the run said.
    """

    cut: Cut
    names: tuple[str, ...]
    tables: Mapping[str, Table]
    assets: Mapping[str, Asset]
    levels: Mapping[str, str]
    digest: str
    _codes: Mapping[str, int] = field(repr=False)
    memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def code(self, name: str) -> int:
        """Code of a text, -1 if no row holds it."""
        return self._codes.get(name, -1)

    def time_s(self, identifier: str) -> int:
        """Time of the cut in the source of a deployment, market or asset id; the cut's youngest time for others."""
        block = self.cut.at(source_of(identifier))
        return block.time_s if block else self.cut.time_s

    @property
    def deployments(self) -> tuple[str, ...]:
        """All that took part or wrote a row, sorted."""
        codes = {code for table in self.tables.values() for code in np.unique(table["deployment"]).tolist()}
        return tuple(sorted({self.names[code] for code in codes} | set(self.levels)))

    @property
    def gaps(self) -> list[Gap]:
        return self.rows("gap")

    def deployment_of(self, market: str) -> str:
        """Deployment whose Market row it is; '' for an unknown market."""
        places = self.find("market", market=market)
        return self.names[int(self.tables["market"]["deployment"][places[0]])] if len(places) else ""

    def rows(self, kind: str, **equals: str | int) -> list[Any]:
        """Exact rows of a kind whose columns (or `deployment`) equal what is given, in canonical order."""
        return self.take(kind, self.find(kind, **equals))

    def find(self, kind: str, **equals: str | int) -> I8:
        """Places of those rows in the kind's table, ascending."""
        table = self.tables[kind]
        types = {column.name: column.type for column in SCHEMA[kind]} | {"deployment": "name"}
        ranges = [
            self._range(kind, column, self.code(str(equals[column]))) for column in equals if types[column] == "name"
        ]
        places: I8 = min(ranges, key=len) if ranges else np.arange(table.n)
        for column, value in equals.items():
            wanted: Any = self.code(str(value)) if types[column] == "name" else value
            if types[column] in PACK:
                exact = np.frombuffer(PACK[types[column]](int(value)), dtype=np.uint8)
                places = places[(table[column][places] == exact).all(axis=1)]
            else:
                places = places[table[column][places] == wanted]
        return np.sort(places)

    def take(self, kind: str, places: I8 | Sequence[int]) -> list[Any]:
        """Exact rows at places: texts and Python integers."""
        at = np.asarray(places, dtype=np.int64)
        table, names = self.tables[kind], self.names
        values: list[Sequence[Any]] = []
        for column in SCHEMA[kind]:
            found = table[column.name][at]
            if column.type == "name":
                values.append([names[code] for code in found.tolist()])
            elif column.type in PACK:
                data, unpack = found.tobytes(), UNPACK[column.type]
                values.append([unpack(data[i : i + 32]) for i in range(0, len(data), 32)])
            else:
                values.append(found.tolist())
        make = KINDS[kind]._make
        return [make(row) for row in zip(*values, strict=True)]

    def _range(self, kind: str, column: str, code: int) -> I8:
        """Places that hold code in a name column, by an index made at first use."""
        key = f"order {kind}.{column}"
        if key not in self.memo:
            values = self.tables[kind][column]
            order: I8 = np.argsort(values, kind="stable")
            self.memo[key] = order, values[order]
        order, ordered = self.memo[key]
        low, high = np.searchsorted(ordered, [code, code + 1])
        return order[low:high]


def build(
    raw: Mapping[str, RawTable], cut: Cut, assets: Sequence[Asset] = (), levels: Mapping[str, str] | None = None
) -> Snapshot:
    """Freeze the rows of a cut (`store.read`, `core.table.raw_tables`); kinds that are missing are empty.

    levels: what the run said of each deployment (`store.coverage`). Gaps of prices (missing, stale, not positive) and
    of totals (accounts that no log named) are added to those of the run.
    """
    whole = raw_tables(()) | dict(raw)
    codes, maps = code_book(whole, ADDED_REASONS)
    book = tuple(codes)
    tables = {kind: freeze(table, maps[id(table.names)]) for kind, table in whole.items()}
    tables["claim"] = first_teller(tables["claim"])
    used = {asset.id: asset for asset in sorted(assets) if asset.id in codes}
    snap = Snapshot(cut, book, tables, used, dict(levels or {}), "", codes)
    gaps = price_gaps(snap) + total_gaps(snap)
    if gaps:
        tables["gap"] = merge(tables["gap"], raw_tables(gaps)["gap"], codes)
    parts = [cut.digest, *(repr(tuple(asset)) for asset in used.values())]
    parts += [f"{name} {level}" for name, level in sorted(snap.levels.items()) if level != "full"]
    return replace(snap, digest=digest(parts, book, tables), memo={})
