"""A cut as columns: what was true at its blocks, for the deployments that took part in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from aggregator.core.block import BlockRef, Cut
from aggregator.core.rows import Asset
from aggregator.core.schema import PACK, POSITIONS, SCHEMA
from aggregator.core.table import DEPLOYMENT, RawColumn, RawTable
from aggregator.store.database import Raw


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


class StoredReconciliation(NamedTuple):
    """Raw shares: the sum of positions read and the contract's own total."""

    deployment: str
    market: str
    asset: str
    side: str
    positions: int
    total: int


def cuts(raw: Raw) -> list[StoredCut]:
    """All cuts, newest first."""
    blocks: dict[int, list[BlockRef]] = {}
    for cut_id, *block in raw.fetch("SELECT cut_id, source, number, hash, time_s, finality FROM block"):
        blocks.setdefault(cut_id, []).append(BlockRef(*block))
    runs = raw.fetch("SELECT id, version, config_digest, started_s FROM run ORDER BY id DESC")
    return [StoredCut(run[0], Cut.of(blocks.get(run[0], [])), *run[1:]) for run in runs]


def coverage(raw: Raw, cut_id: int) -> list[StoredCoverage]:
    sql = (
        "SELECT d.name, c.level, c.accounts_read, c.accounts_known FROM coverage c"
        " JOIN deployment d ON d.id = c.deployment_id WHERE c.cut_id = ?"
    )
    return sorted(StoredCoverage(*row) for row in raw.fetch(sql, (cut_id,)))


def reconciliation(raw: Raw, cut_id: int) -> list[StoredReconciliation]:
    sql = (
        "SELECT d.name, r.market, r.asset, r.side, r.positions, r.total FROM reconciliation r"
        " JOIN deployment d ON d.id = r.deployment_id WHERE r.cut_id = ?"
    )
    found = raw.fetch(sql, (cut_id,))
    return sorted(StoredReconciliation(d, m, a, side, int(have), int(total)) for d, m, a, side, have, total in found)


def assets(raw: Raw, cut: Cut) -> list[Asset]:
    """Versions valid at the cut, by id; assets of sources without a block in it as they are now."""
    at = {block.source: block.number for block in cut.blocks}
    rows = raw.fetch("SELECT asset, symbol, decimals, name, src, source, valid_from, valid_to FROM asset")
    return sorted(Asset(*row[:5]) for row in rows if _visible(row[6], row[7], at.get(row[5])))


def _visible(valid_from: int, valid_to: int | None, block: int | None) -> bool:
    return valid_to is None if block is None else valid_from <= block and (valid_to is None or valid_to > block)


def tables(raw: Raw, cut_id: int, cut: Cut) -> dict[str, RawTable]:
    """Every kind of `core.schema` at the cut. Codes index `names`; positions of failed deployments are left out."""
    texts = raw.fetch("SELECT id, text FROM name")
    names = [""] * (1 + max((code for code, _ in texts), default=-1))
    for code, text in texts:
        names[code] = text
    deployments = dict(raw.fetch("SELECT id, name FROM deployment"))
    code_of = {code: len(names) + place for place, code in enumerate(deployments)}
    names += deployments.values()
    places = _places(raw, cut_id, cut)
    out = {}
    for kind, columns in SCHEMA.items():
        picks = "deployment_id, " + ", ".join(f'"{column.name}"' for column in columns)
        if kind in POSITIONS:
            rows = [
                row
                for block, members in places.items()
                for row in raw.fetch(
                    f"SELECT {picks} FROM fact_{kind} WHERE deployment_id IN ({', '.join(map(str, members))})"
                    " AND valid_from <= ? AND (valid_to IS NULL OR valid_to > ?)",
                    (block, block),
                )
            ]
        else:
            rows = raw.fetch(f"SELECT {picks} FROM fact_{kind} WHERE cut_id = ?", (cut_id,))
        out[kind] = _columns(kind, rows, names, code_of)
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


def _columns(kind: str, rows: Sequence[tuple[Any, ...]], names: Sequence[str], code_of: Mapping[int, int]) -> RawTable:
    schema = (DEPLOYMENT, *SCHEMA[kind])
    values = zip(*rows, strict=True) if rows else iter([()] * len(schema))
    out: dict[str, RawColumn] = {}
    for column, found in zip(schema, values, strict=True):
        if column is DEPLOYMENT:
            out[column.name] = np.array([code_of[code] for code in found], dtype=np.int64)
        elif column.type in ("name", "int"):
            out[column.name] = np.array(found, dtype=np.int64)
        elif column.type in PACK:
            out[column.name] = b"".join(found)
        else:
            out[column.name] = list(found)
    return RawTable(kind, len(rows), names, out)
