"""A scenario on a book: which assets it names, by how much they move, and whether it contradicts itself.

A key is an asset id or a symbol (`snapshot.symbols`): a symbol moves what a market vouches for, on all chains.
A key that ends in '?' is passed over where the book does not have it, unless that is its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from aggregator.core.errors import ScenarioError, near_miss
from aggregator.core.ids import USD
from aggregator.core.scenario import Scenario
from aggregator.engine.book import Book, Floats
from aggregator.snapshot.symbols import Meaning, key_meaning


class Blow(NamedTuple):
    """(assets,) columns. price_ratio and depeg are NaN where the scenario leaves them alone.

    price_ratio: market price after / before; depeg: price of a claim relative to its backing; depth_kept: share of the
    sell depth that stays; vol_shift: absolute move of implied volatility. named: (table, key, assets) of every key that
    has to be there. meant: what each symbol means of which there are others, by the symbol.
    """

    price_ratio: Floats
    depeg: Floats
    depth_kept: Floats
    vol_shift: Floats
    named: tuple[tuple[str, str, tuple[int, ...]], ...] = ()
    meant: Mapping[str, Meaning] = MappingProxyType({})


def blow_of(book: Book, scenario: Scenario) -> Blow:
    """ScenarioError names an unknown asset with the nearest known one, a second move of one asset, a contradiction."""
    n, symbols = len(book.assets), dict(zip(book.assets, book.symbols, strict=True))
    place, namesakes = {asset: i for i, asset in enumerate(book.assets)}, dict[str, Meaning]()
    columns = {"price": np.full(n, np.nan), "depeg": np.full(n, np.nan), "depth": np.zeros(n), "vol": np.zeros(n)}
    asked: list[tuple[str, str, tuple[int, ...]]] = []
    for table, column in columns.items():
        named: dict[int, str] = {}
        moves: Mapping[str, float] = getattr(scenario, table)
        for key in sorted(moves, key=lambda k: k != "*"):  # '*' first, so that a named asset overrides it
            if key == "*" and table == "depth":
                column[:] = moves[key]
                continue
            meant, name = key_meaning(key, symbols, book.standing)
            codes = [place[asset] for asset in meant.assets]
            if name == key:  # no mark: it has to be there
                if not codes:
                    raise _unknown(symbols, table, key)
                asked.append((table, key, tuple(codes)))
            if meant.others:
                namesakes[name] = meant
            for code in codes:
                if code in named and moves[named[code]] != moves[key]:
                    raise ScenarioError(
                        f"{table} names {book.assets[code]} twice, with two moves",
                        expected="one move for each asset",
                        found=f"{named[code]!r} and {key!r}",
                        fix="delete one",
                    )
                if book.assets[code] == USD:
                    raise ScenarioError(
                        f"{table} names the dollar, in which everything is counted",
                        expected="an asset with a price in dollars",
                        found=repr(key),
                        fix="name the token that loses its peg",
                    )
                named[code] = key
                column[code] = moves[key]
    _contradictions(book, columns["price"], columns["depeg"])
    price, kept = 1.0 + columns["price"], 1.0 - columns["depth"]
    return Blow(price, columns["depeg"], kept, columns["vol"], tuple(sorted(asked)), namesakes)


def _contradictions(book: Book, price: Floats, depeg: Floats) -> None:
    claims = {*book.claims.asset.tolist(), *book.lps.asset.tolist()}
    for code in np.flatnonzero(~np.isnan(depeg)).tolist():
        if not np.isnan(price[code]):
            raise ScenarioError(
                f"price and depeg of {book.symbols[code]} contradict each other",
                expected="one of them: price fixes its market price, depeg its price relative to its backing",
                found=f"price {price[code]} and depeg {depeg[code]}",
                fix="delete one",
            )
        if code not in claims:
            raise ScenarioError(
                f"{book.symbols[code]} is no claim: it has nothing to depeg from",
                expected="an asset with a claim row",
                found=book.assets[code],
                fix=f"use price: {book.symbols[code]} = {depeg[code] - 1.0:.4g}",
            )


def _unknown(symbols: Mapping[str, str], table: str, key: str) -> ScenarioError:
    known = [*sorted(set(symbols.values()) - {""}), *sorted(symbols)]
    return ScenarioError(
        f"{table} names an asset that the book does not have",
        expected="an asset id or symbol of the book" + (f", e.g. {', '.join(known[:8])}" if known else ""),
        found=repr(key),
        fix=near_miss(key, known, "correct it; with a ? behind the key it passes over what the book does not have"),
    )
