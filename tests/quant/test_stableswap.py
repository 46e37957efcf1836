"""StableSwap, integer and array forms: contract answers, an independent simulation, the invariant in 60 digits."""

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant.stable_curve import stable_depth, stable_invariant, stable_sale
from aggregator.quant.stableswap import (
    balancer_stable_amount_in,
    balancer_stable_amount_out,
    balancer_stable_invariant,
    curve_amount_out,
    curve_balance,
    curve_invariant,
)

M = 10**18
# curvefi/curve-contract 574f440 tests/simulation.py: (balances, A, i, j, dx, D, dy before fee), exact.
SIMULATION = [
    ([10**24] * 3, 2000, 0, 1, 10**23, 3 * 10**24, 99994952327521979899953),
    ([3 * 10**24, 10**24], 85, 0, 1, 5 * 10**23, 3992292527743892310382224, 479796975809858357850129),
    ([999 * M, 1001 * M], 200, 1, 0, 10 * M, 1999999995024870683796, 9999402945634109046),
]
# 3pool 0xbEbc44782C7dB0a1A60Cb6fe97d0b483032FF1C7 at mainnet block 24407242 (DAI, USDC, USDT), A 4000, fee 1.5 bp:
# the contract's own get_dy.
TRIPOOL = ([27137121100372139339642768, 27662471158553, 108298644409129], [M, 10**30, 10**30], 4000, 1500000)
GET_DY = [
    (0, 1, 1356856055018607064645632, 1356612150763), (0, 1, 271371211003721406218240, 271332968007),
    (0, 1, 6784280275093034786357248, 6781654901966), (0, 2, 1356856055018607064645632, 1357606473559),
    (0, 2, 271371211003721406218240, 271529527537), (0, 2, 6784280275093034786357248, 6787196433875),
    (1, 0, 1383123557927, 1382821436077900268480124), (1, 0, 6915617789638, 6912607137909214000054832),
    (1, 2, 1383123557927, 1383863675206), (1, 2, 6915617789638, 6918484564487),
    (2, 0, 1082986444091, 1081985665466741847422424), (2, 0, 27074661102282, 26351597648166837047328741),
    (2, 1, 1082986444091, 1082007466603), (2, 1, 27074661102282, 26557656799969),
]  # fmt: skip

# beyond a hundredfold imbalance integer Newton may dance for ever, here as in the contract
pools = st.integers(10**20, 10**25).flatmap(
    lambda least: st.tuples(
        st.lists(st.integers(least, 99 * least), min_size=2, max_size=4), st.integers(10, 5000), st.floats(1e-9, 2.0)
    )
)


@pytest.mark.parametrize(("balances", "a", "i", "j", "dx", "d", "dy"), SIMULATION)
def test_the_authors_simulation(balances: list[int], a: int, i: int, j: int, dx: int, d: int, dy: int) -> None:
    assert curve_invariant(balances, a) == d
    assert balances[j] - curve_balance(i, j, balances[i] + dx, balances, a) == dy
    sale = stable_sale(float(dx), np.array(balances, float), a, i, j)
    assert float(sale.out) == pytest.approx(dy, rel=1e-14)


@pytest.mark.parametrize(("i", "j", "amount", "answer"), GET_DY)
def test_mainnet_three_pool_answers_to_the_unit(i: int, j: int, amount: int, answer: int) -> None:
    balances, rates, a, fee = TRIPOOL
    assert curve_amount_out(i, j, amount, balances, rates, a, fee) == answer


def test_a_precision_of_the_newer_templates_changes_nothing_but_scale() -> None:
    """A * 100 with a_precision 100 is the same pool up to the truncations: within two units."""
    for balances, a, i, j, dx, d, _dy in SIMULATION:
        assert abs(curve_invariant(balances, 100 * a, 100) - d) <= 2
        plain = curve_balance(i, j, balances[i] + dx, balances, a)
        assert abs(curve_balance(i, j, balances[i] + dx, balances, 100 * a, 100) - plain) <= 2


def exact_root(balances: list[int], a: int) -> mpmath.mpf:
    """Bisection of the invariant between the geometric mean and the sum, in the caller's precision."""
    n, total = len(balances), mpmath.mpf(sum(balances))
    product = mpmath.fprod(mpmath.mpf(x) for x in balances)
    low, high = n * product ** (mpmath.mpf(1) / n), total
    for _ in range(170):
        d = (low + high) / 2
        rising = d ** (n + 1) / (mpmath.mpf(n) ** n * product) + (a * n - 1) * d - a * n * total
        low, high = (d, high) if rising < 0 else (low, d)
    return low


@given(pools)
def test_integer_array_and_exact_roots_agree(pool: tuple[list[int], int, float]) -> None:
    balances, a, share = pool
    with mpmath.workdps(60):
        d = exact_root(balances, a)
        assert abs(curve_invariant(balances, a) - d) <= max(10, d * mpmath.mpf("1e-17"))
        solved = stable_invariant(np.array(balances, float), a)
        assert bool(solved.converged)
        assert float(abs(solved.d - d) / d) < 1e-14
    assert abs(curve_invariant(balances, a) - balancer_stable_invariant(balances, 1000 * a)) <= 2
    dx = int(share * balances[0])
    dy = balances[1] - curve_balance(0, 1, balances[0] + dx, balances, a)
    out = float(stable_sale(float(dx), np.array(balances, float), a, 0, 1).out)
    # The integer invariant is a unit or two off, which the steep end of a pool magnifies.
    assert out == pytest.approx(dy, rel=1e-11, abs=1e6)
    balancer = balancer_stable_amount_out(0, 1, dx, balances, 1000 * a)
    assert balancer == pytest.approx(dy, rel=1e-9, abs=1e6)
    if balancer > 0:
        assert balancer_stable_amount_in(0, 1, balancer, balances, 1000 * a) <= dx + 10**4 + dx // 10**9


@given(pools)
def test_a_swap_never_lowers_the_invariant(pool: tuple[list[int], int, float]) -> None:
    """Fee-free trade rounded for the pool: D of the new balances is below the old by no more than Newton's own unit."""
    balances, a, share = pool
    dx = int(share * balances[0])
    dy = balances[1] - curve_balance(0, 1, balances[0] + dx, balances, a) - 1
    after = [balances[0] + dx, balances[1] - max(dy, 0), *balances[2:]]
    assume(max(after) < 100 * min(after))
    assert curve_invariant(after, a) >= curve_invariant(balances, a) - 2


def test_price_is_the_derivative_and_small_sales_keep_their_digits() -> None:
    x = np.array([3e6, 1e6, 2e6])
    for share in (1e-12, 1e-6, 0.1, 1.0):
        dx = share * x[0]
        pair = stable_sale([dx, dx * (1 + 1e-5)], x, 85, 0, 1)
        middle = stable_sale(dx * (1 + 5e-6), x, 85, 0, 1)
        assert (pair.out[1] - pair.out[0]) / (dx * 1e-5) == pytest.approx(float(middle.price), rel=2e-9)
    with mpmath.workdps(60):
        d = exact_root([3 * 10**6, 10**6, 2 * 10**6], 85)
        dx = mpmath.mpf("3e-6")

        def moved(y: mpmath.mpf) -> mpmath.mpf:
            held = [mpmath.mpf(3 * 10**6) + dx, y, mpmath.mpf(2 * 10**6)]
            return 255 * sum(held) + d - 255 * d - d**4 / (27 * mpmath.fprod(held))

        exact = 10**6 - mpmath.findroot(moved, mpmath.mpf(10**6))
    assert float(stable_sale(3e-6, x, 85, 0, 1).out) == pytest.approx(float(exact), rel=1e-13)


@pytest.mark.parametrize(("balances", "a"), [([3e6, 1e6], 85.0), ([1e6, 1e6, 1e6], 2000.0), ([2.0, 9.0], 1.0)])
def test_stable_book_follows_the_pool(balances: list[float], a: float) -> None:
    book = stable_depth(balances, a, 0, 1, fee_frac=4e-4)
    sizes = balances[0] * np.geomspace(1e-6, 49, 500)
    sale = stable_sale(sizes, balances, a, 0, 1, 4e-4)
    np.testing.assert_allclose(book.walk(sizes).proceeds, sale.out, rtol=1e-4)
    np.testing.assert_allclose(book.walk(sizes).price, 0.9996 * sale.price, rtol=1e-2)
    assert book.walk(balances[0] * 60).exhausted


def test_many_pools_at_once_equal_one_by_one() -> None:
    rng = np.random.default_rng(3)
    x, a, q = rng.uniform(1, 9, (5, 3)), rng.uniform(1, 500, 5), rng.uniform(0, 5, 5)
    together = stable_sale(q, x, a, 2, 0, 0.001)
    for k in range(5):
        one = stable_sale(q[k], x[k], a[k], 2, 0, 0.001)
        assert together.out[k] == pytest.approx(float(one.out), rel=1e-14)


def test_an_oscillating_invariant_is_an_error_as_in_the_template() -> None:
    """A = 1 far off balance: integer Newton dances by more than a unit for ever; SwapTemplateBase.vy reverts."""
    with pytest.raises(DomainError, match="converge"):
        curve_invariant([7041884008401174790004, 21602652989318989766, 100000000000000000000], 1)


def test_drained_pools_are_labelled_or_refused() -> None:
    sale = stable_sale([1.0, 1.0], [[0.0, 5.0], [5.0, 5.0]], 100, 0, 1)
    assert sale.drained.tolist() == [True, False]
    assert np.isnan(sale.price[0])
    assert sale.out[0] == 0
    assert not stable_invariant([0.0, 5.0], 100).converged
    assert stable_depth([0, 5], 100, 0, 1).walk(1.0).exhausted
    assert curve_invariant([0, 0], 100) == 0
    for call in (
        lambda: curve_invariant([0, 5], 100),
        lambda: curve_balance(0, 0, 1, [5, 5], 100),
        lambda: curve_balance(0, 1, 1, [0, 0], 100),
        lambda: curve_invariant([5], 100),
        lambda: curve_invariant([5, 5], 0),
        lambda: curve_amount_out(0, 1, -1, [5, 5], [M, M], 100, 0),
        lambda: curve_amount_out(0, 1, 1, [5, 5], [M, 0], 100, 0),
        lambda: balancer_stable_amount_in(0, 1, 5, [5, 5], 10**5),
        lambda: stable_sale(1, [1, 2], 0.5, 0, 1),
        lambda: stable_sale(float("nan"), [1, 2], 10, 0, 1),
        lambda: stable_sale(1, [1, 2], 10, 0, 2),
    ):
        with pytest.raises(DomainError):
            call()
