"""A NaN anywhere in a book: refused by the name of its column and row, never carried into a number."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from aggregator.core.errors import DomainError
from aggregator.core.scenario import Scenario
from aggregator.engine.book import Book
from aggregator.engine.run import cascade
from tests.engine.test_derivatives import perps, short_call
from tests.engine.test_routes import chained
from tests.engine.worlds import World

MAY_BE_NAN = {"price_usd", "storefront_frac", "oracles.before_usd"}  # no price of its own, no storefront, no history


def full() -> Book:
    """A row in every table."""
    w: World = chained()
    w.claim("vX", "X", 1.1, "M")
    w.add_asset("LP")
    w.row("lps", w.asset["LP"], w.asset["X"], w.asset["WETH"], 5.0, 0.0, np.inf)
    w.supplier(w.row("pots", 0, 0, 1e6, 10.0, 0.0), "lender", 1e5)
    w.who("writer")
    options, traders = short_call(8_000.0), perps({"B": 99.0}, {"L": (700.0, 0.06, [("B", 100.0, 100.0)])}, 5.0)
    book = w.book()
    parts: dict[str, Any] = {"options": options.book().options, "option_pools": options.book().option_pools}
    parts |= {"perps": traders.book().perps, "perp_accounts": traders.book().perp_accounts}
    held = type(book.holdings)(np.array([0], np.int32), np.array([1], np.int32), np.array([2.0]))
    funds, shocks = traders.more["insurance_usd"], options.more["option_shocks"]
    return dataclasses.replace(book, holdings=held, insurance_usd=funds, option_shocks=shocks, **parts)


def float_columns() -> list[tuple[str, str]]:
    book, out = full(), []
    for f in dataclasses.fields(book):
        value = getattr(book, f.name)
        if isinstance(value, np.ndarray) and value.dtype == np.float64:
            out.append((f.name, ""))
        elif hasattr(value, "_fields"):
            out += [(f.name, c) for c in value._fields if getattr(value, c).dtype == np.float64]
    return out


@pytest.mark.parametrize(("table", "column"), float_columns())
def test_nan_in_any_column(table: str, column: str) -> None:
    book = full()
    before = getattr(book, table) if not column else getattr(getattr(book, table), column)
    assert len(before) > 0
    after = before.copy()
    after[0] = np.nan
    name = f"{table}.{column}" if column else table
    changed: Any = getattr(book, table)._replace(**{column: after}) if column else after
    if name in MAY_BE_NAN:
        assert dataclasses.replace(book, **{table: changed}).accounts == book.accounts
        return
    with pytest.raises(DomainError, match=name.replace(".", r"\.") + r"\[0\]"):
        dataclasses.replace(book, **{table: changed})


def test_nan_in_a_fund_or_a_margin_rule() -> None:
    book = full()
    with pytest.raises(DomainError, match=r"insurance_usd\[0\]"):
        dataclasses.replace(book, insurance_usd=((0, float("nan")),))
    ((market, shocks),) = book.option_shocks
    with pytest.raises(DomainError, match="option_shocks of M"):
        dataclasses.replace(book, option_shocks=((market, shocks._replace(vol_a=float("nan"))),))


@pytest.mark.parametrize("field", ["sqrt_price", "fee_frac", "edges", "liquidity"])
def test_nan_in_a_pool(field: str) -> None:
    book = full()
    first = book.pools[0]
    value = getattr(first, field)
    bad = dataclasses.replace(first, **{field: float("nan") if isinstance(value, float) else value * np.nan})
    with pytest.raises(DomainError, match=first.name):
        dataclasses.replace(book, pools=(bad,))


def test_an_asset_in_use_without_a_price_is_named() -> None:
    book = full()
    price = book.price_usd.copy()
    price[book.assets.index("X")] = np.nan
    with pytest.raises(DomainError, match="no price"):
        cascade(dataclasses.replace(book, price_usd=price), Scenario("s"))


@pytest.mark.parametrize("names", ["AB", "ABC", "ABCDE"])
@pytest.mark.parametrize("price", [1.0, 2000.0])
def test_claims_that_stand_on_each_other_are_named_and_not_iterated(names: str, price: float) -> None:
    """Prices that rates deny: each asset at another price than the next, one for one."""
    w = World()
    for i, name in enumerate(names):
        w.add_asset(name, price * 3.0**i)
    for one, other in zip(names, names[1:] + names[0], strict=True):
        w.claim(one, other, 1.0)
    try:
        r = cascade(w.book(), Scenario("s"))
        said, rounds = r.convergence.why, len(r.rounds)
    except DomainError as error:  # where figures leave float64
        said, rounds = str(error), 1
    assert "stand on each other" in said
    assert rounds == 1


@pytest.mark.parametrize("shocks", [{}, {"A": -0.6}])
@pytest.mark.parametrize("top", [2e3, 1e200])
@pytest.mark.parametrize("rate", [1.0, 1e3, 1e40, 1e57])
@pytest.mark.parametrize("names", ["AB", "ABC"])
def test_claims_that_leave_float64_are_refused_without_a_warning(
    names: str, rate: float, top: float, shocks: dict[str, float]
) -> None:
    """Warnings are errors in these tests; a RuntimeWarning from the values would be the error raised here."""
    w = World()
    for i, name in enumerate(names):
        w.add_asset(name, np.nan if i else top)
    for one, other in zip(names, names[1:] + names[0], strict=True):
        w.claim(one, other, rate)
    try:
        said = cascade(w.book(), Scenario("s", price=shocks)).convergence.why
    except DomainError as error:
        said = str(error)
    assert "stand on each other" in said or "no price" in said


@pytest.mark.parametrize("gain", [1.0, 1.3])
def test_claims_that_stand_on_each_other(gain: float) -> None:
    """Spectral radius of the cycle is the gain: look-through has no answer, and the result says so."""
    w = World()
    w.add_asset("A", 1.0)
    w.add_asset("B", 1.0)
    w.claim("A", "B", gain**2).claim("B", "A", 1.0)
    r = cascade(w.book(), Scenario("s"))
    assert not r.convergence.converged
    assert f"gain {gain:g}" in r.convergence.why


@pytest.mark.parametrize("fall", [0.0, -0.6, -0.9])
def test_claims_on_each_other_with_something_outside_have_a_value(fall: float) -> None:
    """A = B / 2 + 2 C and B = A / 2 + E, by hand: A = (2 C + E / 2) / (3 / 4)."""
    w = World()
    for name, price in {"A": 1336.0, "B": 2668.0, "C": 1.0, "E": 2000.0}.items():
        w.add_asset(name, price)
    w.claim("A", "B", 0.5).claim("A", "C", 2.0).claim("B", "A", 0.5).claim("B", "E", 1.0)
    r = cascade(w.book(), Scenario("s", price={"E": fall}))
    assert r.convergence.converged
    worth = r.state.value_usd[w.asset["A"]]
    assert worth == pytest.approx((2.0 + 1000.0 * (1.0 + fall)) / 0.75, rel=1e-12)
