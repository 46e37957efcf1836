"""Fire sales: worked figures, loops against matrices, fixed points by brute force, conservation, bad input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant.deleveraging import deleverage, indirect_contagion_index, sale_fraction
from aggregator.quant.fire_sales import cifuentes_ferrucci_shin, greenwood_landier_thesmar

# Worked in two ways (matrices and loops; fixed-point residual) outside this library; 1e-9.
ASSETS, EQUITY = [100.0, 60.0, 40.0], [5.0, 4.0, 4.0]
WEIGHTS = [[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [0.0, 0.4, 0.6]]
IMPACT, SHOCK = [0.001, 0.002, 0.0005], [-0.05, 0.0, 0.0]
# alpha, price, sold, equity of banks with cash 2, 1, 3, units 10, 12, 8, debts 10, 11.5, 10.4, ratio 8 %
CFS = [
    (0.001, 0.9994491720996146, [0, 0, 0.5509796618], [1.9944917209961, 1.4933900651954, 0.5955933767969]),
    (0.005, 0.9953503212046784, [0, 0, 0.9321044354], [1.9535032120468, 1.4442038544561, 0.5628025696374]),
    (0.01, 0.7408182206817179, [10, 12, 8], [-0.5918177931828, -1.6101813518194, -1.4734542345463]),
    (0.02, 0.5488116360940264, [10, 12, 8], [-2.5118836390597, -3.9142603668717, -3.0095069112478]),
]
BANKS = ([2.0, 1.0, 3.0], [10.0, 12.0, 8.0], [10.0, 11.5, 10.4], 0.08)


def test_greenwood_landier_thesmar_figures() -> None:
    found = greenwood_landier_thesmar(ASSETS, EQUITY, WEIGHTS, IMPACT, SHOCK)
    np.testing.assert_allclose(found.direct_return, [-0.025, -0.01, 0], atol=1e-12)
    np.testing.assert_allclose(found.sold, [-25.43, -26.27, -4.2], rtol=1e-9)
    np.testing.assert_allclose(found.impact_return, [-0.02543, -0.05254, -0.0021], rtol=1e-9)
    assert found.aggregate == pytest.approx(0.46949384615384626, rel=1e-9)
    np.testing.assert_allclose(found.systemicness, [0.4201923076923077, 0.04930153846153847, 0], atol=1e-9)
    np.testing.assert_allclose(found.indirect, [0.7797, 0.32847, 0.22276], rtol=1e-9)


@given(st.integers(0, 10**6))
def test_systemicness_adds_up_and_equals_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, k = 5, 4
    m = rng.dirichlet(np.ones(k), n)
    a = rng.uniform(1, 9, n)
    e, per_unit, f = a * rng.uniform(0.05, 0.5, n), rng.uniform(0, 0.01, k), -rng.random(k) * 0.1
    found = greenwood_landier_thesmar(a, e, m, per_unit, f)
    assert found.systemicness.sum() == pytest.approx(found.aggregate, rel=1e-12)
    assert found.indirect @ e / e.sum() == pytest.approx(found.aggregate, rel=1e-12)
    loss = 0.0
    for bank in range(n):
        for asset in range(k):
            sales = sum(
                a[j] * (a[j] - e[j]) / e[j] * sum(m[j, q] * f[q] for q in range(k)) * m[j, asset] for j in range(n)
            )
            loss -= a[bank] * m[bank, asset] * per_unit[asset] * sales
    assert found.aggregate == pytest.approx(loss / e.sum(), rel=1e-10)


def test_systemicness_is_what_one_seller_alone_costs() -> None:
    """Each bank in turn sells what brings its leverage back, the others hold: all lose S_i of all equity."""
    a, e, m = np.array(ASSETS), np.array(EQUITY), np.array(WEIGHTS)
    found = greenwood_landier_thesmar(a, e, m, IMPACT, SHOCK)
    for bank in range(3):
        left = a[bank] * (1 + m[bank] @ SHOCK)
        own = e[bank] + left - a[bank]
        sale = left - own * a[bank] / e[bank]
        assert (left - sale) / own == pytest.approx(a[bank] / e[bank])
        moves = -np.array(IMPACT) * sale * m[bank]
        assert -(a * (m @ moves)).sum() / e.sum() == pytest.approx(found.systemicness[bank], abs=1e-12)


@pytest.mark.parametrize(("alpha", "price", "sold", "equity"), CFS)
def test_cifuentes_ferrucci_shin_figures(alpha: float, price: float, sold: list, equity: list) -> None:
    found = cifuentes_ferrucci_shin(*BANKS, alpha)
    assert found.converged
    assert found.price == pytest.approx(price, rel=1e-9)
    np.testing.assert_allclose(found.sold, sold, atol=1e-8)
    np.testing.assert_allclose(found.equity, equity, rtol=1e-8)


@given(st.floats(1e-4, 0.05), st.floats(0.03, 0.15))
def test_price_is_the_greatest_root_on_a_grid(alpha: float, ratio: float) -> None:
    """Scan p downward from 1: no crossing of the map above the price found, and the ratio is met or all is sold."""
    cash, units, debts, _ = BANKS
    found = cifuentes_ferrucci_shin(cash, units, debts, ratio, alpha)
    grid = np.linspace(found.price, 1, 400)[1:]
    for p in grid[grid > found.price + 1e-9]:
        e, c, owed = np.array(units), np.array(cash), np.array(debts)
        s = np.clip(e - np.maximum(p * e + c - owed, 0) / (ratio * p), 0, e)
        assert np.exp(-alpha * s.sum()) < p
    left = np.array(units) - found.sold
    kept = left > 1e-9
    assert np.all(found.equity[kept] >= ratio * found.price * left[kept] * (1 - 1e-8))


def test_a_price_driven_to_nothing_is_a_price_and_not_a_nan() -> None:
    """exp(-alpha*s) underflows: the bank without cash has sold all, the one with more cash than debts nothing."""
    gone = cifuentes_ferrucci_shin([0.0, 20.0], [10.0, 5.0], [9.5, 10.0], 0.08, 1e4)
    assert gone.converged
    assert (gone.price, gone.sold.tolist(), gone.equity.tolist()) == (0.0, [10.0, 0.0], [-9.5, 10.0])
    # two assets, one without a market: its holders lose all of it, the other asset goes on
    found = deleverage([[20.0, 20.0]], [60.0], [4.0], [1e-3, 1e6], [1.5], 33.0, 31.35)
    assert found.price[0] == 0.0
    assert 0.99 < found.price[1] < 1.0
    assert np.all(np.isfinite(found.capital))
    assert found.capital[0] == pytest.approx(2.5 - found.loss_by_round.sum())


def test_sale_fraction_figures() -> None:
    """Theta 60, Pi 40, C 4, bounds 33 and 31.35: losses 0, 1 allowed, 1.5 back to 31.35, 2.5 too late, 5 insolvent."""
    gamma = sale_fraction(60.0, 40.0, 4.0, [0, 1, 1.5, 2.5, 5], 33.0, 31.35)
    np.testing.assert_allclose(gamma, [0, 0, 0.503125, 1, 1], atol=1e-12)
    assert pytest.approx(31.35) == (60 + 40 - 1.5 - 0.503125 * 40) / 2.5
    assert float(sale_fraction(60.0, 0.0, 1.0, 0.0, 33.0, 31.0)) == 0.0


def test_one_bank_one_asset_by_hand() -> None:
    """Deep market: one round, sale as (1), loss = execution share on what is sold plus the drop on what is kept."""
    depth, gamma = 1e6, 0.503125
    found = deleverage([[40.0]], [60.0], [4.0], [depth], [1.5], 33.0, 31.35, execution=0.5)
    drop = 1 - np.exp(-gamma * 40 / depth)
    assert found.sold[0, 0] == pytest.approx(gamma * 40)
    assert found.loss_by_round[0, 0] == pytest.approx(40 * ((1 - gamma) * drop + 0.5 * gamma * drop))
    assert found.capital[0] == pytest.approx(2.5 - found.loss_by_round.sum())
    assert found.converged


@given(st.integers(0, 10**6), st.floats(0, 0.5))
def test_rounds_lose_exactly_what_marks_and_sales_lose(seed: int, floor: float) -> None:
    rng = np.random.default_rng(seed)
    n, k = 6, 3
    pi, theta = rng.random((n, k)) * 40, rng.random(n) * 60
    c = (pi.sum(axis=1) + theta) / rng.uniform(15, 33, n)
    hit = c * rng.uniform(0, 0.6, n)
    found = deleverage(pi, theta, c, np.full(k, 400.0), hit, 33.0, 31.35, floor_frac=floor)
    assert found.converged
    np.testing.assert_allclose(c - hit - found.loss_by_round.sum(axis=0), found.capital, atol=1e-9)
    assert np.all(found.price <= 1)
    assert np.all(found.price >= floor)
    own = found.capital
    leverage = (theta - hit + found.holdings.sum(axis=1)) / np.where(own > 0, own, 1)
    assert np.all((own <= 0) | (leverage <= 33.0 * (1 + 1e-9)) | (found.holdings.sum(axis=1) < 1e-9))


def test_rounds_equal_a_scalar_walk_down_the_floored_price() -> None:
    """Per asset S' = B + (S - B) exp(-units/((1 - floor) D)): impact depends on the level of the price, in loops."""
    rng = np.random.default_rng(8)
    n, k, floor, half = 4, 3, 0.4, 0.5
    units, theta = rng.random((n, k)) * 40, rng.random(n) * 60
    c = (units.sum(axis=1) + theta) / rng.uniform(22, 32, n)
    hit, depth = c * rng.uniform(0.1, 0.5, n), rng.uniform(300, 900, k)
    found = deleverage(units, theta, c, depth, hit, 33.0, 31.35, floor_frac=floor, execution=half)
    price, own, other, left = [1.0] * k, list(c - hit), list(theta - hit), units.tolist()
    for losses in found.loss_by_round:
        gammas = []
        for i in range(n):
            marketable = sum(left[i][m] * price[m] for m in range(k))
            assets = other[i] + marketable
            if own[i] <= 0:
                gammas.append(1.0)
            elif assets > 33.0 * own[i]:
                gammas.append(min(1.0, (assets - 31.35 * own[i]) / marketable))
            else:
                gammas.append(0.0)
        after = []
        for m in range(k):
            sold = sum(gammas[i] * left[i][m] for i in range(n))
            after.append(floor + (price[m] - floor) * np.exp(-sold / ((1 - floor) * depth[m])))
        for i in range(n):
            lost = 0.0
            for m in range(k):
                gone = gammas[i] * left[i][m]
                lost += (left[i][m] - gone + half * gone) * (price[m] - after[m])
                left[i][m] -= gone
            assert losses[i] == pytest.approx(lost, abs=1e-10)
            own[i] -= lost
        price = after
    assert found.rounds >= 2
    assert found.price == pytest.approx(price)
    assert found.capital == pytest.approx(own)


def test_first_order_losses_are_the_overlap() -> None:
    """In a deep market where i alone sells everything, what j loses is Omega_ij, and i itself half of Omega_ii."""
    pi, depth = np.array([[30.0, 10.0], [5.0, 20.0], [0.0, 8.0]]), np.array([1e8, 3e8])
    found = deleverage(pi, [10.0] * 3, [1.0, 30.0, 30.0], depth, [1.0, 0, 0], 33.0, 31.35)
    omega = indirect_contagion_index(pi, depth).omega
    assert found.rounds == 1
    assert found.loss_by_round[0] == pytest.approx(omega[0] * [0.5, 1, 1], rel=1e-6)


def test_no_shock_is_no_sale_and_strangers_do_not_matter() -> None:
    still = deleverage([[40.0]], [60.0], [4.0], [1e3], [0.0], 33.0, 31.35)
    assert still.rounds == 0
    assert still.capital[0] == 4
    pair = deleverage([[40.0, 0], [0, 40.0]], [60.0, 60], [4.0, 40], [1e3, 1e3], [1.5, 0], 33.0, 31.35)
    assert pair.capital[1] == 40


def test_indirect_contagion_index_is_the_principal_eigenvector() -> None:
    rng = np.random.default_rng(2)
    pi, depth = rng.random((6, 4)), rng.uniform(1, 9, 4)
    found = indirect_contagion_index(pi, depth)
    loops = np.array([[sum(pi[i, m] * pi[j, m] / depth[m] for m in range(4)) for j in range(6)] for i in range(6)])
    np.testing.assert_allclose(found.omega, loops, rtol=1e-12)
    power = np.ones(6)
    for _ in range(500):
        power = loops @ power
        power /= power.sum()
    np.testing.assert_allclose(found.weight, power, rtol=1e-9)
    assert found.eigenvalue == pytest.approx(float((loops @ power)[0] / power[0]), rel=1e-9)
    assert found.weight.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: greenwood_landier_thesmar([0], [1], [[1]], [0], [0]),
        lambda: greenwood_landier_thesmar([1], [1], [[2]], [0], [0]),
        lambda: greenwood_landier_thesmar([1], [0.5], [[1]], [0, 0], [0]),
        lambda: cifuentes_ferrucci_shin([1], [1], [1], 1.5, 0.1),
        lambda: cifuentes_ferrucci_shin([1], [-1], [1], 0.1, 0.1),
        lambda: sale_fraction(1.0, 1.0, 1.0, 0.0, 20.0, 30.0),
        lambda: deleverage([[1.0]], [1.0], [1.0], [0.0], [0.0], 30.0, 20.0),
        lambda: deleverage([[float("nan")]], [1.0], [1.0], [1.0], [0.0], 30.0, 20.0),
        lambda: indirect_contagion_index([[0.0]], [1.0]),
        lambda: sale_fraction([60.0, float("nan")], 40.0, 4.0, 1.5, 33.0, 31.35),
        lambda: sale_fraction(60.0, -40.0, 4.0, 1.5, 33.0, 31.35),
        lambda: greenwood_landier_thesmar([], [], np.zeros((0, 0)), [], []),
        lambda: cifuentes_ferrucci_shin(*BANKS, 0.01, tolerance=0.0),
    ],
)
def test_bad_input_is_refused(call: object) -> None:
    with pytest.raises(DomainError):
        call()  # type: ignore[operator]
