"""What one call costs must not grow with the book: sequential rounds make one call after another."""

from __future__ import annotations

import tracemalloc

import numpy as np

from aggregator.engine.liquidate import wave
from benchmarks.engine import crowd


def test_one_accounts_call_touches_its_own_legs_alone() -> None:
    """200,000 legs are 800 kB of codes; one account has at most five of them."""
    book = crowd(70_000)
    answers = book.price_usd
    for account in (0, 69_999):
        tracemalloc.start()
        try:
            wave(book, np.array([account]), book.leg_amount, answers, book.price_usd)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 100_000
