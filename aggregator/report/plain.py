"""Vocabulary types as the plain JSON that scripts rely on (design contracts of `collect`, `wallet`, `stress`)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aggregator.core.block import Cut
from aggregator.core.ids import adapter_of, chain_or_source
from aggregator.core.rows import Gap


def utc(time_s: int) -> str:
    """A time as pages and errors print it, and as --at takes it."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def cut_json(cut: Cut) -> dict[str, Any]:
    return {
        "digest": cut.digest,
        "skew_s": cut.skew_s,
        "blocks": [
            {
                "chain": chain_or_source(b.source),
                "number": b.number,
                "hash": b.hash,
                "timestamp": b.time_s,
                "finality": b.finality,
            }
            for b in cut.blocks
        ],
    }


def gap_json(gap: Gap) -> dict[str, Any]:
    """accounts and value_usd are null where the size is unknown."""
    return {
        "subject": gap.subject,
        "reason": gap.reason,
        "detail": gap.detail,
        "accounts": None if gap.accounts < 0 else gap.accounts,
        "value_usd": gap.value_usd or None,
    }


def split_deployment(deployment: str) -> tuple[str, str]:
    """Deployment or market id -> (protocol, deployment name)."""
    return adapter_of(deployment), deployment.split("/")[2]
