"""Which of the stored cuts a person means."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aggregator.core.errors import ConfigError
from aggregator.report.plain import utc

if TYPE_CHECKING:
    from aggregator.store import StoredCut

_MOST_CUTS = 5  # in an error
_LEAST_TIME_S = 10**9  # below it a number is no time of a block


def choose(cuts: Sequence[StoredCut], at: str) -> StoredCut:
    """Of cuts, newest first, at least one: the first for '', else as `App.snapshot` says. ConfigError for none."""
    if not at:
        return cuts[0]
    time_s = int(at) if at.isdigit() else _time_s(at)
    if at.isdigit() and (by_block := [c for c in cuts if any(b.number == time_s for b in c.cut.blocks)]):
        return by_block[0]
    begin_so = [c for c in cuts if c.cut.digest.startswith(at.lower())]
    if len(begin_so) == 1:
        return begin_so[0]
    if time_s is not None and time_s > _LEAST_TIME_S:
        by_time = [c for c in cuts if any(b.time_s == time_s for b in c.cut.blocks)]
        by_time += [c for c in cuts if c.cut.time_s <= time_s]
        if by_time:
            return by_time[0]
    named = (
        f"{c.digest[:12]} ({utc(c.time_s)}, unix time {c.time_s}, blocks {', '.join(str(b.number) for b in c.blocks)})"
        for c in (one.cut for one in (begin_so or cuts)[:_MOST_CUTS])
    )
    raise ConfigError(
        "several cuts begin so" if begin_so else "no such cut",
        expected="the start of a cut's digest, one of its blocks, or a time not before it, in UTC or unix seconds: "
        + "; ".join(named),
        found=at,
        fix="give more of the digest" if begin_so else "leave --at out for the newest",
    )


def _time_s(text: str) -> int | None:
    """Unix seconds of a time such as 2026-03-01 12:00:00, with T, Z or an offset too, UTC where it has none."""
    try:
        time = datetime.fromisoformat(text.strip().removesuffix("UTC").strip())
    except ValueError:
        return None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
