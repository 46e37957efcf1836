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


@given(st.integers(0, 10**6))
def test_one_asset_in_closed_form(seed: int) -> None:
    """All hold one asset: sum(a) * l * sum(a b) |f| / sum(E); each sells a b |f| and loses a/E * l * sum(a b) |f|."""
    rng = np.random.default_rng(seed)
    a = rng.uniform(1, 9, 5)
    e = a * rng.uniform(0.05, 0.5, 5)
    impact, fall = rng.uniform(0, 0.01), rng.uniform(0, 0.2)
    found = greenwood_landier_thesmar(a, e, np.ones((5, 1)), [impact], [-fall])
    sales = (a - e) * a / e * fall
    assert -found.sold[0] == pytest.approx(sales.sum())
    assert found.aggregate == pytest.approx(a.sum() * impact * sales.sum() / e.sum())
    assert found.systemicness == pytest.approx(a.sum() * impact * sales / e.sum())
    assert found.indirect == pytest.approx(a / e * impact * sales.sum())


@given(st.integers(0, 10**6))
def test_slicing_and_merging_equals_changes_nothing(seed: int) -> None:
    """Slices of a bank add up to it, which is also the merger of banks of one leverage and portfolio; and a
    bank without debt takes out its own systemicness and leaves that of the others."""
    rng = np.random.default_rng(seed)
    a, m = rng.uniform(1, 9, 3), rng.dirichlet(np.ones(4), 3)
    e, per_unit, f = a * rng.uniform(0.05, 0.5, 3), rng.uniform(0, 0.01, 4), -rng.random(4) * 0.1
    whole = greenwood_landier_thesmar(a, e, m, per_unit, f)
    part = np.array([0.5, 0.2, 0.3])
    cut = greenwood_landier_thesmar([*part * a[0], *a[1:]], [*part * e[0], *e[1:]], m[[0, 0, 0, 1, 2]], per_unit, f)
    assert cut.aggregate == pytest.approx(whole.aggregate)
    assert cut.systemicness == pytest.approx([*part * whole.systemicness[0], *whole.systemicness[1:]])
    assert cut.indirect[:3] == pytest.approx(whole.indirect[0])
    unlevered = greenwood_landier_thesmar(a, [a[0], *e[1:]], m, per_unit, f)
    lost, before = (x.aggregate * own for x, own in ((unlevered, a[0] + e[1:].sum()), (whole, e.sum())))
    assert lost == pytest.approx(before - whole.systemicness[0] * e.sum())


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


def test_the_stress_test_of_oxford_gives_the_same_banks() -> None:
    """ox-inet-resilience/firesale_stresstest dd861c6 (Farmer, Kleinnijenhuis, Nahai-Williamson and Wetzer 2020), run on
    three banks: agents that raise cash at the middle of old and new price and repay with it a step later, buffer and
    target both E/A = 5 %, no default; a fall of 1 % and 0.4 % when 5 % of all holdings are sold.  Its printed doubles.
    """
    holdings = np.array([[30.0, 10.0], [12.0, 25.0], [5.0, 18.0]])
    illiquid, capital, hit = [60.0, 40.0, 50.0], np.array([5.2, 4.0, 3.9]), np.array([0.4, 0.2, 0.0])
    depth = holdings.sum(axis=0) / (-20.0 * np.log1p([-0.01, -0.004]))
    found = deleverage(holdings, illiquid, capital, depth, hit, 20.0, 20.0)
    after = capital - hit - np.cumsum(found.loss_by_round, axis=0)
    np.testing.assert_allclose(after[0], [4.41888231573521, 3.59688521117904, 3.79793962043125], rtol=1e-12)
    np.testing.assert_allclose(after[1], [3.67335869885818, 3.12914103227369, 3.53661687536369], rtol=1e-12)
    np.testing.assert_allclose(found.capital, [2.21529727905017, 1.56715370931081, 2.24291969842558], rtol=1e-12)
    np.testing.assert_allclose(found.price, [0.8179069375972307, 0.9229682646014030], rtol=1e-12)


def test_first_order_losses_are_the_overlap() -> None:
    """In a deep market where i alone sells everything, what j loses is Omega_ij, and i itself half of Omega_ii."""
    pi, depth = np.array([[30.0, 10.0], [5.0, 20.0], [0.0, 8.0]]), np.array([1e8, 3e8])
    found = deleverage(pi, [10.0] * 3, [1.0, 30.0, 30.0], depth, [1.0, 0, 0], 33.0, 31.35)
    omega = indirect_contagion_index(pi, depth).omega
    assert found.rounds == 1
    assert found.loss_by_round[0] == pytest.approx(omega[0] * [0.5, 1, 1], rel=1e-6)


def leverage_targeting(
    holdings: np.ndarray, leverage: np.ndarray, depth: np.ndarray, loss: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(first round's losses, all losses) of banks that hold nothing but `holdings` and keep one leverage, sold at once.

    To first order in the loss: i sells (lambda - 1) L_i of its holdings in proportion, j loses Omega_ij of a full sale.
    """
    overlap = (holdings / depth) @ holdings.T
    spread = overlap * ((leverage - 1.0) / holdings.sum(axis=1))
    return spread @ loss, np.linalg.solve(np.eye(len(loss)) - spread, loss) - loss


@given(st.integers(0, 10**6), st.integers(1, 5), st.floats(0.05, 0.9))
def test_small_shocks_are_a_neumann_series_of_overlaps(seed: int, n: int, radius: float) -> None:
    """Rounds of sales add up to (I - S)^-1 - I, S the overlap times leverage over holdings: linear algebra, no rounds.

    For one bank and one asset that is rho/(1 - rho) with rho = x(lambda - 1)/D: all is sold once rho reaches 1.
    """
    rng = np.random.default_rng(seed)
    holdings, leverage = rng.uniform(1, 40, (n, 3)), rng.uniform(5, 30)
    depth = rng.uniform(1, 9, 3)
    spread = ((holdings / depth) @ holdings.T) * ((leverage - 1.0) / holdings.sum(axis=1))
    depth *= max(abs(np.linalg.eigvals(spread))) / radius
    loss = rng.uniform(0.5e-7, 1e-7, n) * holdings.sum(axis=1)
    first, everything = leverage_targeting(holdings, np.full(n, leverage), depth, loss)
    own = (holdings.sum(axis=1) + loss) / leverage
    found = deleverage(holdings, loss, own, depth, loss, leverage, leverage, execution=1.0, max_rounds=5000)
    np.testing.assert_allclose(found.loss_by_round[0], first, rtol=1e-4)
    # rounds end when one sells 1e-12 of all holdings, a share of so small a loss that shows
    np.testing.assert_allclose(found.loss_by_round.sum(axis=0), everything, rtol=2e-3)


def test_feedback_at_one_sells_everything() -> None:
    """One bank, x(lambda - 1)/D either side of 1: below, losses end at rho/(1 - rho) of the shock; above, in ruin."""
    x, leverage, loss = 40.0, 20.0, 1e-6
    for rho, survives in ((0.9, True), (1.1, False)):
        depth = [x * (leverage - 1.0) / rho]
        found = deleverage([[x]], [loss], [(x + loss) / leverage], depth, [loss], leverage, leverage, execution=1.0)
        assert found.converged
        assert bool(found.holdings.sum() > 0.99 * x) == survives
        if survives:
            assert found.loss_by_round.sum() / loss == pytest.approx(rho / (1.0 - rho), rel=1e-2)


@given(st.integers(0, 10**6))
def test_one_round_of_cont_schaanning_is_greenwood_landier_thesmar(seed: int) -> None:
    """Two programs of this library that share no formula: a small shock, everyone at its target, the same depth."""
    rng = np.random.default_rng(seed)
    holdings, depth = rng.uniform(1, 40, (4, 3)), rng.uniform(1e3, 1e4, 3)
    a, leverage, loss = holdings.sum(axis=1), 20.0, rng.uniform(0, 1e-6, 4)
    rounds = deleverage(
        holdings, loss, (a + loss) / leverage, depth, loss, leverage, leverage, execution=1.0, max_rounds=1
    )
    # an asset of its own for each bank carries the shock, too thin to be sold and without impact
    weights = np.column_stack([holdings / a[:, None], np.zeros((4, 4))]) * (1 - 1e-9)
    weights[np.arange(4), 3 + np.arange(4)] = 1e-9
    impact, shock = np.r_[1.0 / depth, np.zeros(4)], np.r_[np.zeros(3), -loss / (a * 1e-9)]
    linear = greenwood_landier_thesmar(a, a / leverage, weights, impact, shock)
    np.testing.assert_allclose(rounds.loss_by_round[0], -a * linear.second_return, rtol=1e-4)


def test_the_unit_of_money_does_not_matter() -> None:
    """Billions or cents: rounds end at a share of holdings, not at an amount."""
    plain = deleverage([[40.0]], [60.0], [4.0], [2e3], [1.5], 33.0, 31.35)
    for unit in (1e-9, 1e9):
        found = deleverage([[40.0 * unit]], [60.0 * unit], [4.0 * unit], [2e3 * unit], [1.5 * unit], 33.0, 31.35)
        assert found.rounds == plain.rounds
        assert found.capital / unit == pytest.approx(plain.capital, rel=1e-12)


def test_no_shock_is_no_sale_and_strangers_do_not_matter() -> None:
    still = deleverage([[40.0]], [60.0], [4.0], [1e3], [0.0], 33.0, 31.35)
    assert still.rounds == 0
    assert still.capital[0] == 4
    pair = deleverage([[40.0, 0], [0, 40.0]], [60.0, 60], [4.0, 40], [1e3, 1e3], [1.5, 0], 33.0, 31.35)
    assert pair.capital[1] == 40


def test_indirect_contagion_index_in_closed_form() -> None:
    """One asset: rank one, so holdings themselves and |x|^2/D.  Two banks, two assets: the quadratic formula.  Groups
    that share nothing: the index stays in the group of the largest eigenvalue, or is not unique and says so."""
    x, depth = np.array([30.0, 5.0, 1.0]), 7.0
    one = indirect_contagion_index(x[:, None], [depth])
    np.testing.assert_allclose(one.weight, x / x.sum(), rtol=1e-12)
    assert one.eigenvalue == pytest.approx(float(x @ x) / depth)
    assert one.unique
    pi, d = np.array([[3.0, 1.0], [2.0, 2.0]]), np.array([2.0, 5.0])
    p, q, r = 9 / 2 + 1 / 5, 3 * 2 / 2 + 1 * 2 / 5, 4 / 2 + 4 / 5
    top = (p + r) / 2 + np.hypot((p - r) / 2, q)
    two = indirect_contagion_index(pi, d)
    assert two.eigenvalue == pytest.approx(top)
    np.testing.assert_allclose(two.weight, np.array([q, top - p]) / (q + top - p), rtol=1e-12)
    apart = indirect_contagion_index([[2.0, 0.0], [2.0, 0.0], [0.0, 2.5]], [1.0, 1.0])
    np.testing.assert_allclose(apart.weight, [0.5, 0.5, 0.0], atol=1e-12)
    strangers = indirect_contagion_index([[2.0, 0.0], [0.0, 2.0]], [1.0, 1.0])
    assert not strangers.unique
    np.testing.assert_allclose(strangers.weight, [0.5, 0.5], atol=1e-12)


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
        lambda: sale_fraction(60.0, 40.0, 4.0, 1.5, float("inf"), 31.35),
        lambda: deleverage(np.ones((2, 2, 2)), [1.0] * 2, [1.0] * 2, [1.0] * 2, [0.0] * 2, 30.0, 20.0),
        lambda: deleverage([[1.0]], [1.0], [1.0], [1.0], [0.0], 30.0, 20.0, max_rounds=2.5),  # type: ignore[arg-type]
        lambda: indirect_contagion_index([[1e300]], [1.0]),
        lambda: greenwood_landier_thesmar([1e300], [1.0], [[1.0]], [1e300], [-0.1]),
        lambda: sale_fraction([60.0, float("nan")], 40.0, 4.0, 1.5, 33.0, 31.35),
        lambda: sale_fraction(60.0, -40.0, 4.0, 1.5, 33.0, 31.35),
        lambda: greenwood_landier_thesmar([], [], np.zeros((0, 0)), [], []),
        lambda: cifuentes_ferrucci_shin(*BANKS, 0.01, tolerance=0.0),
    ],
)
def test_bad_input_is_refused(call: object) -> None:
    with pytest.raises(DomainError):
        call()  # type: ignore[operator]
