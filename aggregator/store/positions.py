"""What changed of positions: open rows of the targets that were read are closed unless they were read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aggregator.core.schema import POSITIONS, SCHEMA
from aggregator.store.database import Raw
from aggregator.store.facts import KEYS

Columns = dict[str, list[Any]]  # of one kind, as `core.table.encode` gives them: names as codes


def has_open(raw: Raw, deployment: int) -> bool:
    kinds = (f"SELECT 1 FROM fact_{kind} WHERE deployment_id = {deployment} AND valid_to IS NULL" for kind in KEYS)
    return bool(raw.fetch(" UNION ALL ".join(kinds) + " LIMIT 1"))


def close_changed(
    raw: Raw, deployment: int, block: int, targets: Sequence[tuple[int, ...]], read: Mapping[str, Columns]
) -> dict[str, Columns]:
    """Close at block the open rows of the targets that are not in `read`; what is in it and not open, by kind.

    targets: (market, holder, ref) as codes.
    """
    raw.execute("CREATE TEMPORARY TABLE IF NOT EXISTS staged (market INTEGER, holder INTEGER, ref INTEGER)")
    raw.execute("DELETE FROM staged")
    raw.insert("staged", ("market", "holder", "ref"), ("INTEGER",) * 3, targets)
    fresh = {kind: _close(raw, kind, deployment, block, read.get(kind)) for kind in POSITIONS}
    raw.execute("DELETE FROM staged")
    return fresh


def _close(raw: Raw, kind: str, deployment: int, block: int, columns: Columns | None) -> Columns:
    names = [column.name for column in SCHEMA[kind]]
    picks = ", ".join(f'f."{name}"' for name in ("valid_from", *names))
    by_holder = "f.holder = t.holder AND t.ref IN (0, f.ref) AND t.holder <> 0"
    by_ref = "f.ref = t.ref AND t.holder = 0 AND f.ref <> 0"
    found = {
        row
        for join in (by_holder, by_ref)
        for row in raw.fetch(
            f"SELECT {picks} FROM staged t CROSS JOIN fact_{kind} f"  # CROSS: SQLite keeps this order of loops
            f" WHERE f.deployment_id = {deployment} AND f.market = t.market AND f.valid_to IS NULL AND {join}"
        )
    }
    rows = list(zip(*columns.values(), strict=True)) if columns else []
    fresh = set(rows)
    known = {row[1:] for row in found}
    gone = [row for row in found if row[1:] not in fresh]
    key = [names.index(name) + 1 for name in KEYS[kind]]
    where = f"WHERE deployment_id = {deployment} AND valid_to IS NULL" + "".join(f' AND "{n}" = ?' for n in KEYS[kind])
    raw.executemany(f"DELETE FROM fact_{kind} {where}", [[r[i] for i in key] for r in gone if r[0] >= block])
    raw.executemany(
        f"UPDATE fact_{kind} SET valid_to = {block} {where}", [[r[i] for i in key] for r in gone if r[0] < block]
    )
    kept = [row for row in rows if row not in known]
    return dict(zip(names, map(list, zip(*kept, strict=True)), strict=True)) if kept else {n: [] for n in names}
