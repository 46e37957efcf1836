"""One-round health factors of a million accounts against a copy of the same bytes."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

from aggregator.engine import book as columns
from aggregator.engine import health

BAR = 3.0


def crowd(accounts: int, seed: int = 7) -> columns.Book:
    """Accounts with one to five legs (three on average), heavy-tailed sizes, 300 assets in 20 markets."""
    rng = np.random.default_rng(seed)
    assets, markets = 300, 20
    counts = rng.integers(1, 6, accounts)
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    terms = assets * 4
    debt = np.arange(terms) % 2 == 1
    zero = np.zeros(terms)
    asset = (np.arange(terms) // 4).astype(np.int32)
    return columns.Book(
        assets=tuple(f"a{i}" for i in range(assets)),
        symbols=tuple(f"a{i}" for i in range(assets)),
        price_usd=rng.lognormal(3.0, 2.0, assets),
        cash=np.zeros(assets, np.bool_),
        markets=tuple(f"m{i}" for i in range(markets)),
        rules=("aave_v3@3.6",) * markets,
        holders=("0x",),
        account_market=rng.integers(0, markets, accounts).astype(np.int32),
        account_holder=np.zeros(accounts, np.int32),
        leg_start=start,
        leg_term=rng.integers(0, terms, int(start[-1])).astype(np.int32),
        leg_amount=rng.pareto(1.2, int(start[-1])),
        terms=columns.Terms(
            np.zeros(terms, np.int32),
            asset,
            asset,
            debt,
            np.where(debt, 0.0, rng.uniform(0.5, 0.95, terms)),
            zero,
            zero,
            np.ones(terms, np.bool_),
        ),
        oracles=columns.Oracles(
            np.zeros(assets, np.int8),
            np.arange(assets, dtype=np.int32),
            np.ones(assets),
            np.zeros(assets, np.int32),
            np.full(assets, np.inf),
            np.full(assets, np.nan),
        ),
    )


def benchmarks(quick: bool = True) -> list[dict[str, Any]]:
    """Both sides in one run, best of several rounds; fewer when quick. The size stays: a small book fits the cache."""
    accounts = 1_000_000
    book = crowd(accounts)
    answers = book.price_usd
    read = [book.leg_start, book.leg_term, book.leg_amount]
    written = [np.empty(accounts), np.empty(accounts)]

    def copy() -> None:
        for column in (*read, *written):
            column.copy()

    ours, reference = _best_of(lambda: health.sums(book, book.leg_amount, answers), copy, rounds=5 if quick else 15)
    plain = health.sums_plain(book, book.leg_amount, answers)
    fast = health.sums(book, book.leg_amount, answers)
    agree = all(np.allclose(a, b, rtol=1e-12, atol=0.0) for a, b in zip(fast, plain, strict=True))
    ratio = ours / reference
    return [
        {
            "name": "health",
            "what": f"one-round health of {accounts:,} accounts / a copy of the same bytes",
            "ours": ours,
            "reference": reference,
            "ratio": ratio,
            "bar": BAR,
            "holds": bool(ratio <= BAR and agree),
        }
    ]


def _best_of(*sides: Any, rounds: int) -> list[float]:
    """Seconds of each side, the best of interleaved rounds; the first one warms up."""
    best = [float("inf")] * len(sides)
    for turn in range(rounds + 1):
        for i, side in enumerate(sides):
            begun = perf_counter()
            side()
            if turn:
                best[i] = min(best[i], perf_counter() - begun)
    return best
