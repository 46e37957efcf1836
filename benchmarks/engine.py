"""One-round health factors of a million accounts, and a whole cascade, against copies of the same bytes."""

from __future__ import annotations

import dataclasses
from time import perf_counter
from typing import Any

import numpy as np

from aggregator.core.scenario import Conventions, Scenario
from aggregator.engine import book as columns
from aggregator.engine import health
from aggregator.engine.run import cascade

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
    """Both sides in one run, best of several rounds. The size of the first stays: a small book fits the cache."""
    return [_health(1_000_000, 15 if quick else 30), _cascade(100_000 if quick else 1_000_000)]


def _health(accounts: int, rounds: int) -> dict[str, Any]:
    book = crowd(accounts)
    answers = book.price_usd
    read = [book.leg_start, book.leg_term, book.leg_amount]
    written = [np.empty(accounts), np.empty(accounts)]

    def copy() -> None:
        for column in (*read, *written):
            column.copy()

    ours, reference = _best_of(lambda: health.sums(book, book.leg_amount, answers), copy, rounds=rounds)
    plain = health.sums_plain(book, book.leg_amount, answers)
    fast = health.sums(book, book.leg_amount, answers)
    agree = all(np.allclose(a, b, rtol=1e-12, atol=0.0) for a, b in zip(fast, plain, strict=True))
    ratio = ours / reference
    return {
        "name": "health",
        "what": f"one-round health of {accounts:,} accounts / a copy of the same bytes",
        "ours": ours,
        "reference": reference,
        "ratio": ratio,
        "bar": BAR,
        "holds": bool(ratio <= BAR and agree),
    }


def _cascade(accounts: int) -> dict[str, Any]:
    """For orientation, without a bar: most of this book is under water, so every round liquidates most accounts."""
    plain = crowd(accounts)
    dollars = 0
    cash = plain.cash.copy()
    cash[dollars] = True
    price = plain.price_usd.copy()
    price[dollars] = 1.0
    terms = plain.terms._replace(bonus_frac=np.where(plain.terms.debt, 0.0, 0.05))
    volume = float(plain.leg_amount.sum())
    pools = tuple(
        columns.Pool.constant_product(f"p{i}", i, dollars, volume, volume * float(price[i]))
        for i in range(1, len(price))
    )
    book = dataclasses.replace(plain, cash=cash, price_usd=price, terms=terms, pools=pools)
    scenario = Scenario("bench", price=dict.fromkeys(book.assets[1:], -0.2), conventions=Conventions(max_rounds=10))
    read = [book.leg_start, book.leg_term, book.leg_amount]
    made: list[int] = []

    def ours() -> None:
        made.append(len(cascade(book, scenario).rounds))

    def copy() -> None:
        for column in read:
            column.copy()

    seconds, once = _best_of(ours, copy, rounds=2)
    return {
        "name": "cascade",
        "what": f"cascade of {accounts:,} accounts, {made[-1]} rounds / as many copies of its legs",
        "ours": seconds,
        "reference": once * made[-1],
        "ratio": seconds / (once * made[-1]),
        "bar": "none",
        "holds": True,
    }


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
