"""Whether a book can be run on: every number usable, every code a place in its table."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError

if TYPE_CHECKING:
    from aggregator.engine.book import Book, Floats

_MAY_BE_INFINITE = {"oracles.cap", "lps.sqrt_upper"}
_MAY_BE_NAN = {"oracles.before_usd"}


def check(book: Book) -> None:
    """DomainError names the first element that is unusable."""
    _check_numbers(book)
    _check_codes(book)


def _check_numbers(book: Book) -> None:
    columns: list[tuple[str, Floats]] = [("leg_amount", book.leg_amount), ("close_frac", book.close_frac)]
    for f in fields(book):
        value = getattr(book, f.name)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            columns += [(f"{f.name}.{c}", getattr(value, c)) for c in value._fields]
    funds = np.array([usd for _, usd in book.insurance_usd], np.float64)
    columns.append(("insurance_usd", funds))
    rows = [("option_shocks", m, tuple(row)) for m, row in book.option_shocks]
    rows += [("option_fees", m, tuple(row)) for m, row in book.option_fees]
    columns += [(f"{what} of {book.markets[m]}", np.array(row, np.float64)) for what, m, row in rows]
    for name, column in columns:
        wrong = np.isnan(column) & (name not in _MAY_BE_NAN)
        if name not in _MAY_BE_INFINITE:
            wrong |= np.isinf(column)
        if wrong.any():
            _refuse(name, int(np.argmax(wrong)), "a finite number", column)
    amounts = (("leg_amount", book.leg_amount), ("pots.supply_units", book.pots.supply_units))
    for name, column in (
        *amounts,
        ("claims.rate", book.claims.rate),
        ("oracles.level", book.oracles.level),
        ("oracles.cap", book.oracles.cap),
    ):
        if (column < 0.0).any():
            _refuse(name, int(np.argmax(column < 0.0)), "a number >= 0", column)
    wrong_price = (book.price_usd < 0.0) | np.isinf(book.price_usd)
    if wrong_price.any():
        at = int(np.argmax(wrong_price))
        raise DomainError(f"price of {book.assets[at]}", expected="finite, >= 0", found=repr(float(book.price_usd[at])))
    for pool in book.pools:
        numbers = np.concatenate([[pool.sqrt_price, pool.fee_frac], pool.edges[:-1], pool.liquidity])
        if not (np.isfinite(numbers).all() and pool.sqrt_price > 0.0 and (np.diff(pool.edges) > 0.0).all()):
            raise DomainError(f"pool {pool.name}", expected="finite liquidity steps, rising edges", found="other")


def _check_codes(book: Book) -> None:
    n = {"asset": len(book.assets), "market": len(book.markets), "holder": len(book.holders)}
    limits = {
        "terms.asset": n["asset"], "terms.market": n["market"], "terms.oracle": len(book.oracles.path),
        "oracles.source": n["asset"], "oracles.quote": n["asset"],
        "claims.asset": n["asset"],
        "claims.underlying": n["asset"], "lps.asset": n["asset"], "lps.base": n["asset"], "lps.quote": n["asset"],
        "pots.market": n["market"], "pots.asset": n["asset"], "supplies.pot": len(book.pots.market),
        "supplies.holder": n["holder"],
        "holdings.holder": n["holder"], "holdings.asset": n["asset"],
        "options.underlying": n["asset"], "options.quote": n["asset"], "options.margin_asset": n["asset"],
        "options.market": n["market"], "options.holder": n["holder"], "perps.account": len(book.perp_accounts.market),
        "perps.asset": n["asset"], "perp_accounts.market": n["market"], "perp_accounts.holder": n["holder"],
        "option_pools.market": n["market"], "option_pools.underlying": n["asset"], "option_pools.quote": n["asset"],
    }  # fmt: skip
    for name, limit in limits.items():
        table, column = name.split(".")
        _check_range(name, getattr(getattr(book, table), column), limit)
    _check_range("account_market", book.account_market, n["market"])
    _check_range("account_holder", book.account_holder, n["holder"])
    _check_range("leg_term", book.leg_term, len(book.terms.asset))
    pots = list(zip(book.pots.market.tolist(), book.pots.asset.tolist(), strict=True))
    if len(set(pots)) < len(pots):
        market, asset = next(pot for pot in pots if pots.count(pot) > 1)
        found = f"{book.markets[market]} and {book.assets[asset]} twice"
        raise DomainError("pots are not told apart", expected="one of each market and asset", found=found)
    if len(book.leg_start) != book.accounts + 1 or book.leg_start[-1] != len(book.leg_term):
        raise DomainError("leg_start does not close the legs", expected=str(len(book.leg_term)), found="other")


def _check_range(name: str, codes: npt.NDArray[np.int32], limit: int) -> None:
    wrong = (codes < 0) | (codes >= limit)
    if wrong.any():
        _refuse(name, int(np.argmax(wrong)), f"a code in [0, {limit})", codes)


def _refuse(name: str, at: int, expected: str, column: npt.NDArray[np.float64] | npt.NDArray[np.int32]) -> None:
    raise DomainError(f"{name}[{at}] is not usable", expected=expected, found=repr(column[at].item()))
