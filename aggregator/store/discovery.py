"""How far a discovery has come: a checkpoint outside of runs, so that a first one of hours is not begun again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aggregator.core.block import BlockRef
from aggregator.core.ids import source_of
from aggregator.core.table import clean_text
from aggregator.store.database import Raw


class StoredDiscovery(NamedTuple):
    """Logs up to and including `block` are read, seen from `at`; `targets` (market, holder, ref) were found there."""

    block: int
    at: BlockRef
    targets: tuple[tuple[str, str, str], ...]


def save(raw: Raw, deployment: str, at: BlockRef, block: int, targets: Iterable[tuple[str, str, str]]) -> None:
    raw.executemany(
        "INSERT INTO discovered (deployment, market, holder, ref) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(deployment, *map(clean_text, target)) for target in targets],
    )
    raw.execute("DELETE FROM discovery WHERE deployment = ?", (deployment,))
    raw.execute(
        "INSERT INTO discovery (deployment, source, block, at_number, at_hash) VALUES (?, ?, ?, ?, ?)",
        (deployment, at.source, block, at.number, at.hash),
    )


def load(raw: Raw, deployment: str) -> StoredDiscovery | None:
    rows = raw.fetch("SELECT block, at_number, at_hash FROM discovery WHERE deployment = ?", (deployment,))
    if not rows:
        return None
    block, number, block_hash = rows[0]
    found = raw.fetch(
        "SELECT market, holder, ref FROM discovered WHERE deployment = ? ORDER BY market, holder, ref", (deployment,)
    )
    return StoredDiscovery(block, BlockRef(source_of(deployment), number, block_hash, 0, ""), tuple(found))


def under_way(raw: Raw, source: str) -> dict[str, tuple[int, BlockRef]]:
    """Deployments of the source -> (block reached, block it was seen from)."""
    rows = raw.fetch("SELECT deployment, block, at_number, at_hash FROM discovery WHERE source = ?", (source,))
    return {name: (block, BlockRef(source, number, found, 0, "")) for name, block, number, found in rows}


def drop(raw: Raw, deployment: str) -> None:
    for table in ("discovery", "discovered"):
        raw.execute(f"DELETE FROM {table} WHERE deployment = ?", (deployment,))


def rewind(raw: Raw, source: str, fork: int) -> None:
    """Drop those that were seen from a block above the fork: what they found may never have been."""
    for (deployment,) in raw.fetch(
        "SELECT deployment FROM discovery WHERE source = ? AND at_number > ?", (source, fork)
    ):
        drop(raw, deployment)
