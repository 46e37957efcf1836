"""The exact lane: one (market, holder) as its rule sees it.

amount = shares * num / den in the market's own rounding, from the Index row of (market, asset, side). A market of a
kind in `values.IN_AMOUNTS` without Index rows counts in amounts already. For any other leg without an Index row the
amount is unknown: it carries its shares, a zero denominator and no price, and cannot be judged.
Prices are the market's own Price rows (order of `prices.PATHS` where it has several); zero is zero, negative unknown.
Account.terms holds the market's own terms by key and those of a sub-unit under `scope:key` (emode:1:ltv_bps);
Leg.terms the same for its asset. Options and perpetuals are legs too (`snapshot.derivatives`).
Account.own holds AccountTerm by key, under `ref:key` where a ref is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from itertools import groupby, pairwise
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from aggregator.core.account import Account, Leg, mul_div
from aggregator.core.errors import DomainError
from aggregator.core.fixed import Fixed
from aggregator.core.rows import AccountTerm, Exposure, Index
from aggregator.snapshot import derivatives
from aggregator.snapshot.prices import rank
from aggregator.snapshot.snapshot import Snapshot
from aggregator.snapshot.values import IN_AMOUNTS


class _Market(NamedTuple):
    rule: str
    in_amounts: bool
    time_s: int
    indices: Mapping[tuple[str, str], Index]
    prices: Mapping[str, Fixed]
    terms: Mapping[str, Mapping[str, int]]  # by asset, '' for the market itself


_UNDESCRIBED = _Market("", False, 0, {}, {}, {})


def account(snap: Snapshot, market: str, holder: str) -> Account:
    """All legs of one account; without legs if it has nothing here.

    Of a market that no row of the cut describes its shares alone, without a rule; DomainError if it has none there.
    """
    exposures = snap.rows("exposure", market=market, holder=holder)
    if exposures and not len(snap.find("market", market=market)):
        legs = tuple(_leg(snap, _UNDESCRIBED, row) for row in exposures)
        return Account(market, holder, "", legs, {}, {}, snap.time_s(market))
    own = snap.rows("account_term", market=market, holder=holder)
    return _account(snap, market, holder, exposures, own)


def amount(snap: Snapshot, row: Exposure) -> int | None:
    """Smallest units of an exposure as the contract would answer them; None where no index says what a share is."""
    if not len(snap.find("market", market=row.market)):
        return None
    book = _market(snap, row.market)
    index = book.indices.get((row.asset, row.side))
    if index is None:
        return row.shares if book.in_amounts else None
    return mul_div(row.shares, index.num, index.den, index.rounding) if index.den else None


def accounts(snap: Snapshot) -> Iterator[Account]:
    """Every account with a position, by market and holder; those of markets that no row describes are left out."""
    bare = ((market, holder, 0, 0) for market, holder in derivatives.holders(snap))
    seen = ("", "")
    for market, holder, first, last in merge(_runs(snap), bare, key=itemgetter(0, 1)):
        if seen == (seen := (market, holder)):
            continue  # the run of its exposures came first
        if len(snap.find("market", market=market)):
            own = snap.rows("account_term", market=market, holder=holder) if snap.tables["account_term"].n else []
            yield _account(snap, market, holder, snap.take("exposure", range(first, last)), own)


def _runs(snap: Snapshot) -> Iterator[tuple[str, str, int, int]]:
    """Exposures stand by market and holder first: each account is one stretch of them."""
    table = snap.tables["exposure"]
    if not table.n:
        return
    market, holder = table["market"], table["holder"]
    change = np.flatnonzero((market[1:] != market[:-1]) | (holder[1:] != holder[:-1])) + 1
    edges = [0, *change.tolist(), table.n]
    for first, last in pairwise(edges):
        yield snap.names[market[first]], snap.names[holder[first]], first, last


def _account(
    snap: Snapshot, market: str, holder: str, exposures: Sequence[Exposure], own: Sequence[AccountTerm]
) -> Account:
    book = _market(snap, market)
    bought = derivatives.legs(snap, market, holder, book.prices, book.terms)
    legs = (*(_leg(snap, book, row) for row in exposures), *bought)
    mine = {f"{term.ref}:{term.key}" if term.ref else term.key: term.raw for term in own}
    return Account(market, holder, book.rule, legs, book.terms.get("", {}), mine, book.time_s)


def _leg(snap: Snapshot, book: _Market, row: Exposure) -> Leg:
    asset, index = snap.assets.get(row.asset), book.indices.get((row.asset, row.side))
    decimals = asset.decimals if asset else -1
    num, den = (index.num, index.den) if index else (1, int(book.in_amounts))
    amount = mul_div(row.shares, num, den, index.rounding) if index and den else row.shares
    return Leg(
        row.asset,
        row.side,
        row.shares,
        amount,
        decimals,
        book.prices.get(row.asset) if decimals >= 0 and den else None,
        book.terms.get(row.asset, {}),
        row.ref,
        row.src,
        num,
        den,
    )


def _market(snap: Snapshot, market: str) -> _Market:
    memo: dict[str, _Market] = snap.memo.setdefault("market", {})
    if market not in memo:
        rows = snap.rows("market", market=market)
        if not rows:
            raise DomainError("no such market at this cut", expected="the id of a Market row", found=market)
        prices: dict[str, Fixed] = {}
        for price in sorted((p for p in snap.rows("price", market=market) if p.raw >= 0), key=rank):
            prices.setdefault(price.asset, Fixed(price.raw, price.exp))
        terms: dict[str, dict[str, int]] = {}
        for asset, group in groupby(snap.rows("term", market=market), key=lambda term: term.asset):
            terms[asset] = {f"{t.scope}:{t.key}" if t.scope else t.key: t.raw for t in group}
        indices = {(i.asset, i.side): i for i in snap.rows("index", market=market)}
        in_amounts = rows[0].kind in IN_AMOUNTS and not indices
        memo[market] = _Market(rows[0].rule, in_amounts, snap.time_s(market), indices, prices, terms)
    return memo[market]
