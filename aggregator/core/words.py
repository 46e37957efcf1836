"""Figures in sentences: what every face says of a result says it in the same words."""

from __future__ import annotations

from collections.abc import Sequence


def usd(value: float) -> str:
    """Dollars for a person: whole above a thousand, two places below."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.2f}"


def count(number: int, what: str) -> str:
    """1 account, 2 accounts."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def first_of(names: Sequence[str], most: int = 3) -> str:
    """a, b, c and 4 more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
