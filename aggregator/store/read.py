"""A cut as columns: what was true at its blocks, for the deployments that took part in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from sqlmodel import Session, select

from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import StoreError
from aggregator.core.rows import Asset
from aggregator.core.schema import PACK, POSITIONS, SCHEMA
from aggregator.core.table import DEPLOYMENT, I8, RawColumn, RawTable
from aggregator.store.database import Raw
from aggregator.store.models import Coverage, Deployment


class StoredCut(NamedTuple):
    """number: 1, 2, ... in the order of writing; never used again after a rewind of the newest but by its successor."""

    number: int
    cut: Cut
    version: str
    config_digest: str
    started_s: int


class StoredCoverage(NamedTuple):
    deployment: str
    level: str
    accounts_read: int
    accounts_known: int


def cuts(raw: Raw) -> list[StoredCut]:
    """All cuts, newest first."""
    blocks: dict[int, list[BlockRef]] = {}
    for cut_id, *block in raw.fetch("SELECT cut_id, source, number, hash, time_s, finality FROM block"):
        blocks.setdefault(cut_id, []).append(BlockRef(*block))
    runs = raw.fetch("SELECT id, version, config_digest, started_s FROM run ORDER BY id DESC")
    return [StoredCut(run[0], Cut.of(blocks.get(run[0], [])), *run[1:]) for run in runs]


def coverage(raw: Raw, cut_id: int) -> list[StoredCoverage]:
    took_part = select(Deployment, Coverage).where(Coverage.deployment_id == Deployment.id, Coverage.cut_id == cut_id)
    with Session(raw.connection) as session:
        return sorted(
            StoredCoverage(d.name, c.level, c.accounts_read, c.accounts_known) for d, c in session.exec(took_part)
        )


def assets(raw: Raw, cut: Cut) -> list[Asset]:
    """Versions valid at the cut, by id; assets of sources without a block in it as they are now."""
    at = {block.source: block.number for block in cut.blocks}
    rows = raw.fetch("SELECT asset, symbol, decimals, name, src, source, valid_from, valid_to FROM asset")
    return sorted(Asset(*row[:5]) for row in rows if _visible(row[6], row[7], at.get(row[5])))


def _visible(valid_from: int, valid_to: int | None, block: int | None) -> bool:
    return valid_to is None if block is None else valid_from <= block and (valid_to is None or valid_to > block)


def tables(raw: Raw, cut_id: int, cut: Cut) -> dict[str, RawTable]:
    """Every kind of `core.schema` at the cut. Codes index `names`; positions of failed deployments are left out."""
    # SQLite hands them over sorted from their index, which spares the snapshot's code book a sort
    texts = raw.fetch("SELECT id, text FROM name" + ("" if raw.postgres else " ORDER BY text"))
    deployments = raw.fetch("SELECT id, name FROM deployment")
    names = [text for _, text in (*texts, *deployments)]
    place, place_d = _places_of(texts), _places_of(deployments) + len(texts)
    bits = max(len(place), len(place_d)).bit_length()
    places = _places(raw, cut_id, cut)
    out = {}
    for kind in SCHEMA:
        fold = _Fold(kind, bits)
        if kind in POSITIONS:
            for block, members in places.items():
                within = f"deployment_id IN ({', '.join(map(str, members))})"
                where = f"{within} AND valid_from <= ? AND (valid_to IS NULL OR valid_to > ?)"
                fold.take(raw.chunks(f"SELECT {fold.sql} FROM fact_{kind} WHERE {where}", (block, block)))
        else:
            fold.take(raw.chunks(f"SELECT {fold.sql} FROM fact_{kind} WHERE cut_id = ?", (cut_id,)))
        columns = fold.columns(place) | {DEPLOYMENT.name: fold.places(DEPLOYMENT.name, place_d)}
        out[kind] = RawTable(kind, fold.n, names, columns)
    return out


def _places_of(rows: Sequence[tuple[Any, ...]]) -> I8:
    """Id of a row -> its place."""
    ids = _int64(rows, 0)
    out = np.full(1 + int(ids.max(initial=0)), -1, dtype=np.int64)
    out[ids] = np.arange(len(ids))
    return out


def _places(raw: Raw, cut_id: int, cut: Cut) -> dict[int, list[int]]:
    """Block number -> deployments whose positions are read there."""
    at = {block.source: block.number for block in cut.blocks}
    sql = (
        "SELECT d.id, d.source FROM coverage c JOIN deployment d ON d.id = c.deployment_id"
        " WHERE c.cut_id = ? AND c.level <> 'failed'"
    )
    places: dict[int, list[int]] = {}
    for deployment, source in raw.fetch(sql, (cut_id,)):
        places.setdefault(at[source], []).append(deployment)
    return places


class _Fold:
    """Several codes of a row travel in one 64-bit integer: the cost of a fetch is the objects that it makes."""

    def __init__(self, kind: str, bits: int) -> None:
        coded = {c.name: f'"{c.name}"' for c in SCHEMA[kind] if c.type == "name"} | {DEPLOYMENT.name: "deployment_id"}
        self._kind, self._bits, per = kind, bits, 63 // bits
        self._groups = [list(coded)[i : i + per] for i in range(0, len(coded), per)]
        self._rest = [c for c in SCHEMA[kind] if c.type != "name"]
        shifted = (
            " | ".join(f"(CAST({coded[name]} AS BIGINT) << {bits * place})" for place, name in enumerate(group))
            for group in self._groups
        )
        self.sql = ", ".join([*shifted, *(f'"{c.name}"' for c in self._rest)])
        self.n = 0
        self._folded: list[list[Any]] = [[] for _ in self._groups]
        self._found: list[list[Any]] = [[] for _ in self._rest]

    def take(self, chunks: Iterable[list[tuple[Any, ...]]]) -> None:
        for rows in chunks:
            self.n += len(rows)
            for place, group in enumerate(self._folded):
                group.append(_int64(rows, place))
            for place, (column, parts) in enumerate(zip(self._rest, self._found, strict=True), len(self._groups)):
                if column.type == "int":
                    parts.append(_int64(rows, place))
                elif column.type in PACK:
                    parts.append(b"".join(map(itemgetter(place), rows)))
                else:
                    parts += map(itemgetter(place), rows)

    def codes(self, name: str) -> I8:
        number = next(i for i, group in enumerate(self._groups) if name in group)
        if len(self._folded[number]) != 1:
            self._folded[number] = [np.concatenate([np.zeros(0, dtype=np.int64), *self._folded[number]])]
        folded: I8 = self._folded[number][0]
        return folded >> (self._bits * self._groups[number].index(name)) & ((1 << self._bits) - 1)

    def places(self, name: str, place: I8) -> I8:
        """The codes of a column by their place among the names."""
        codes = self.codes(name)
        if self.n and (int(codes.max()) >= len(place) or int((found := place[codes]).min()) < 0):
            raise self._damaged(name, "a code without a name")
        return found if self.n else codes

    def columns(self, place: I8) -> dict[str, RawColumn]:
        """All but the deployment; place: of each code among the names."""
        out: dict[str, RawColumn] = {c.name: self.places(c.name, place) for c in SCHEMA[self._kind] if c.type == "name"}
        for column, parts in zip(self._rest, self._found, strict=True):
            if column.type == "int":
                out[column.name] = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
            else:
                out[column.name] = b"".join(parts) if column.type in PACK else parts
                if column.type in PACK and len(out[column.name]) != 32 * self.n:
                    raise self._damaged(column.name, "integers that are not 32 bytes")
        return out

    def _damaged(self, column: str, found: str) -> StoreError:
        return StoreError(
            f"table fact_{self._kind} is damaged in column {column}",
            expected="what spillover has written",
            found=found,
            fix="restore a copy of the database, or collect again into a new one",
        )


def _int64(rows: Sequence[tuple[Any, ...]], place: int) -> I8:
    return np.fromiter(map(itemgetter(place), rows), dtype=np.int64, count=len(rows))
