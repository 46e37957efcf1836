"""Laws of all pool curves, written once. A function of quant that gives a `PoolSale` joins by a line in `CURVES`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aggregator import quant
from aggregator.quant import amm, balancer, crypto_curve, depth, stable_curve
from aggregator.quant.amm import PoolSale
from aggregator.quant.depth import DepthCurve

A, GAMMA, RATIO, SCALE = 85.0, 1e-4, 4.0, 1.25


class Curve(NamedTuple):
    """sell and back: (amount, base, quote, fee) of base for quote, of quote for base; price_scale where one unit of
    base is worth so much quote in a balanced pool. within: relative error of the book between its points."""

    function: Callable[..., PoolSale]
    sell: Callable[[Any, Any, Any, float], PoolSale]
    back: Callable[[Any, Any, Any, float], PoolSale]
    book: Callable[[float, float, float], DepthCurve] | None = None
    within: float = 1e-12


def stable(amount: Any, i: int, x: Any, y: Any, fee: float, *more: float) -> PoolSale:
    held = np.stack([*np.broadcast_arrays(x, y, *more)], axis=-1)
    return stable_curve.stable_sale(amount, held, A, i, 1 - i, fee)


def crypto(amount: Any, x: Any, y: Any, scale: float, fee: float, third: float | None = None) -> PoolSale:
    return crypto_curve.crypto_sale(amount, x, y, scale, A, GAMMA, (fee, fee, 1.0), third=third)


CURVES = {
    "constant product": Curve(
        amm.constant_product_sale,
        amm.constant_product_sale,
        lambda a, x, y, fee: amm.constant_product_sale(a, y, x, fee),
        depth.constant_product_depth,
    ),
    "weighted": Curve(
        balancer.weighted_sale,
        lambda a, x, y, fee: balancer.weighted_sale(a, x, y, RATIO, fee),
        lambda a, x, y, fee: balancer.weighted_sale(a, y, x, 1 / RATIO, fee),
        lambda x, y, fee: balancer.weighted_depth(x, y, RATIO, fee),
        within=1e-5,
    ),
    "stable": Curve(
        stable_curve.stable_sale,
        lambda a, x, y, fee: stable(a, 0, x, y, fee),
        lambda a, x, y, fee: stable(a, 1, x, y, fee),
        lambda x, y, fee: stable_curve.stable_depth([x, y], A, 0, 1, fee),
        within=1e-4,
    ),
    "crypto": Curve(
        crypto_curve.crypto_sale,
        lambda a, x, y, fee: crypto(a, x, y, SCALE, fee),
        lambda a, x, y, fee: crypto(a, y, x, 1 / SCALE, fee),
    ),
}
every_curve = pytest.mark.parametrize("name", CURVES)
# a pool within a factor of three of balance, a sale of up to half of it
sizes, tilts, shares = st.floats(-2.0, 7.0), st.floats(-0.5, 0.5), st.floats(1e-6, 0.5)
fees = st.sampled_from([0.0, 4e-4, 0.003, 0.05])
few = settings(max_examples=40)


def test_every_curve_is_here() -> None:
    modules = [importlib.import_module(m.name) for m in pkgutil.iter_modules(quant.__path__, "aggregator.quant.")]
    functions = {f for module in modules for f in vars(module).values() if callable(f)}
    sales = {f.__name__ for f in functions if getattr(f, "__annotations__", {}).get("return") == "PoolSale"}
    assert sales == {curve.function.__name__ for curve in CURVES.values()}


@every_curve
@few
@given(size=sizes, tilt=tilts, share=shares, fee=fees)
def test_more_brings_more_at_a_falling_price_and_never_the_whole_reserve(
    name: str, size: float, tilt: float, share: float, fee: float
) -> None:
    x, y = 10.0**size, 10.0 ** (size + tilt)
    sale = CURVES[name].sell(np.array([0.0, 0.25, 0.5, 1.0]) * share * x, x, y, fee)
    assert sale.out[0] == pytest.approx(0.0, abs=1e-14 * y)
    assert (np.diff(sale.out) > 0).all()
    assert (np.diff(sale.price) < 0).all()
    assert sale.out[-1] < y
    assert not sale.drained.any()
    middle = (sale.out[0] + sale.out[2]) / 2
    assert sale.out[1] >= middle - 1e-13 * y  # concave


@every_curve
@few
@given(size=sizes, tilt=tilts, share=st.floats(1e-3, 0.5))
def test_the_price_is_what_one_more_unit_brings(name: str, size: float, tilt: float, share: float) -> None:
    x, y = 10.0**size, 10.0 ** (size + tilt)
    at, step = share * x, 1e-4 * share * x
    sale = CURVES[name].sell(np.array([at - step, at, at + step]), x, y, 0.0)
    assert (sale.out[2] - sale.out[0]) / (2 * step) == pytest.approx(float(sale.price[1]), rel=2e-6)


@every_curve
@few
@given(size=sizes, tilt=tilts, share=shares, fee=fees)
def test_there_and_back_never_gains_and_without_a_fee_loses_nothing(
    name: str, size: float, tilt: float, share: float, fee: float
) -> None:
    """In the pool as the sale leaves it, the fee within."""
    curve, x, y = CURVES[name], 10.0**size, 10.0 ** (size + tilt)
    sold = share * x
    got = float(curve.sell(sold, x, y, fee).out)
    again = float(curve.back(got, x + sold, y - got, fee).out)
    assert again <= sold * (1 + 1e-9) + 1e-12 * x
    if not fee:
        assert again == pytest.approx(sold, rel=1e-8, abs=1e-11 * x)


@every_curve
@few
@given(size=sizes, tilt=tilts, share=shares, part=st.floats(0.05, 0.95))
def test_in_two_parts_it_brings_what_it_brings_at_once(
    name: str, size: float, tilt: float, share: float, part: float
) -> None:
    curve, x, y = CURVES[name], 10.0**size, 10.0 ** (size + tilt)
    sold = share * x
    whole, first = float(curve.sell(sold, x, y, 0.0).out), float(curve.sell(part * sold, x, y, 0.0).out)
    second = float(curve.sell((1 - part) * sold, x + part * sold, y - first, 0.0).out)
    assert first + second == pytest.approx(whole, rel=1e-9, abs=1e-12 * y)


@every_curve
@few
@given(size=sizes, tilt=tilts, share=shares, fee=fees, unit=st.floats(1e-6, 1e6))
def test_the_unit_of_account_changes_nothing(
    name: str, size: float, tilt: float, share: float, fee: float, unit: float
) -> None:
    curve, x, y = CURVES[name], 10.0**size, 10.0 ** (size + tilt)
    plain, scaled = curve.sell(share * x, x, y, fee), curve.sell(share * x * unit, x * unit, y * unit, fee)
    assert float(scaled.out) == pytest.approx(float(plain.out) * unit, rel=1e-9, abs=1e-13 * y * unit)
    assert float(scaled.price) == pytest.approx(float(plain.price), rel=1e-9)


@every_curve
@few
@given(size=sizes, tilt=tilts, share=shares)
def test_a_fee_takes_its_share_at_most_of_what_would_come(name: str, size: float, tilt: float, share: float) -> None:
    """Off the input or off the output: between the share of a free sale and the free sale."""
    curve, x, y = CURVES[name], 10.0**size, 10.0 ** (size + tilt)
    free, paid = float(curve.sell(share * x, x, y, 0.0).out), float(curve.sell(share * x, x, y, 0.05).out)
    assert 0.95 * free * (1 - 1e-12) - 1e-14 * y <= paid < free


@every_curve
@few
@given(tilt=tilts, share=shares, fee=fees)
def test_many_pools_at_once_are_one_by_one(name: str, tilt: float, share: float, fee: float) -> None:
    curve, x = CURVES[name], 10.0 ** np.linspace(-2, 7, 5)
    y = x * 10.0**tilt
    together = curve.sell(share * x, x, y, fee)
    for i in range(len(x)):
        alone = curve.sell(share * x[i], x[i], y[i], fee)
        for one, many in zip(alone, together, strict=True):  # an iteration ends where all have ended
            assert float(one) == pytest.approx(float(many[i]), rel=1e-11)


@every_curve
def test_an_empty_side_pays_nothing_and_says_so(name: str) -> None:
    for x, y in ((0.0, 5.0), (5.0, 0.0), (0.0, 0.0)):
        sale = CURVES[name].sell(1.0, x, y, 0.003)
        assert float(sale.out) == 0.0
        assert bool(sale.drained)
        assert np.isnan(sale.price)


@pytest.mark.parametrize("name", [name for name, curve in CURVES.items() if curve.book])
@few
@given(size=sizes, tilt=tilts, share=st.floats(1e-4, 0.5), fee=fees)
def test_its_book_is_the_pool(name: str, size: float, tilt: float, share: float, fee: float) -> None:
    """What a sale brings, its first price, and what the next brings once the first is done."""
    curve, x, y = CURVES[name], 10.0**size, 10.0 ** (size + tilt)
    assert curve.book is not None
    book = curve.book(x, y, fee)
    sold = share * x
    brings = float(curve.sell(sold, x, y, fee).out)
    assert float(book.walk(sold).proceeds) == pytest.approx(brings, rel=curve.within)
    assert book.price == pytest.approx(float(curve.sell(0.0, x, y, fee).price) * (1 - fee), rel=1e-9)
    assume(not fee)  # where it stays depends on the pool
    more = float(curve.sell(2 * sold, x, y, 0.0).out) - brings
    slack = 3 * curve.within * brings
    assert float(book.after(sold).walk(sold).proceeds) == pytest.approx(more, rel=10 * curve.within, abs=slack)
