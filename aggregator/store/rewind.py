"""Undo what was read from blocks that are no longer canonical."""

from __future__ import annotations

from aggregator.core.schema import POSITIONS, SCHEMA
from aggregator.store import discovery
from aggregator.store.database import Raw


def drop_cut(raw: Raw, cut_id: int) -> None:
    """Everything that belongs to this cut alone, but not the blocks that it was read at."""
    digest = raw.fetch("SELECT digest FROM run WHERE id = ?", (cut_id,))
    for kind in SCHEMA:
        if kind not in POSITIONS:
            raw.execute(f"DELETE FROM fact_{kind} WHERE cut_id = ?", (cut_id,))
    raw.execute("DELETE FROM coverage WHERE cut_id = ?", (cut_id,))
    raw.execute("DELETE FROM run WHERE id = ?", (cut_id,))
    for row in digest:
        raw.execute("DELETE FROM stress WHERE cut_digest = ?", row)


def rewind(raw: Raw, source: str, fork: int) -> list[int]:
    """As if no block of source above fork had ever been seen; the cuts dropped, oldest first.

    Rows that begin above the fork go, and rows that were closed above it are open again: dropping alone would leave
    a hole wherever a dropped block had changed an older position. What other sources of a dropped cut gave lives on,
    and so do their blocks: without them nobody would see that one of those sources was reorganised too.
    """
    dropped = [
        cut_id
        for (cut_id,) in raw.fetch(
            "SELECT cut_id FROM block WHERE source = ? AND number > ? ORDER BY cut_id", (source, fork)
        )
    ]
    for cut_id in dropped:
        drop_cut(raw, cut_id)
    raw.execute("DELETE FROM block WHERE source = ? AND number > ?", (source, fork))
    of_source = "deployment_id IN (SELECT id FROM deployment WHERE source = ?)"
    for kind in POSITIONS:
        raw.execute(f"DELETE FROM fact_{kind} WHERE valid_from > ? AND {of_source}", (fork, source))
        raw.execute(f"UPDATE fact_{kind} SET valid_to = NULL WHERE valid_to > ? AND {of_source}", (fork, source))
    raw.execute("DELETE FROM asset WHERE source = ? AND valid_from > ?", (source, fork))
    raw.execute("UPDATE asset SET valid_to = NULL WHERE source = ? AND valid_to > ?", (source, fork))
    raw.execute(f"DELETE FROM target WHERE first_block > ? AND {of_source}", (fork, source))
    raw.execute(f"DELETE FROM cursor WHERE block > ? AND {of_source}", (fork, source))
    discovery.rewind(raw, source, fork)
    raw.execute("DELETE FROM deployment WHERE source = ? AND first_block > ?", (source, fork))
    return dropped
