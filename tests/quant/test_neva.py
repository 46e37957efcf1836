"""Network valuation on the published three-bank networks, against its own models elsewhere, and a simulation."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant import neva
from aggregator.quant.clearing import clear, system
from aggregator.quant.debtrank import leverage_matrix, linear_debtrank
from aggregator.quant.network import iterate_down

# marcobardoscia/neva 6ced7f7, data/shock_chain.json and shock_cycle.json: claims, outside assets and debts.
CHAIN = np.array([[0, 0.5, 0], [0, 0, 0.5], [0, 0, 0]])
CYCLE = np.array([[0, 0.5, 0], [0, 0, 0.5], [0.5, 0, 0]])
ASSETS, DEBTS = np.array([10.0, 5.0, 3.0]), np.array([9.0, 4.0, 2.0])
# (claims, shock, furfine, linear DebtRank, E-N pari passu over all liabilities, E-N interbank junior): equities, 1e-9.
CASES = [
    (CHAIN, [0, 0, 0.5], [1.5, 0.5, 0], [1.25, 0.5, 0], [1.5, 1, 0], [1.5, 1, 0]),
    (CHAIN, [0, 0, 1], [1.5, 0.5, -0.5], [1.25, 0.5, -0.5], [1.5, 0.9, -0.5], [1.5, 0.5, -0.5]),
    (CHAIN, [0, 0, 1.2], [1.5, 0.5, -0.7], [1.25, 0.5, -0.7], [1.5, 0.86, -0.7], [1.5, 0.5, -0.7]),
    (CHAIN, [0, 0, 0], [1.5, 1, 0.5], [1.5, 1, 0.5], [1.5, 1, 0.5], [1.5, 1, 0.5]),
    (CHAIN, [1.2, 0, 0], [0.3, 1, 0.5], [0.3, 1, 0.5], [0.3, 1, 0.5], [0.3, 1, 0.5]),
    (CHAIN, [0.3, 0.3, 0.3], [1.2, 0.7, 0.2], [0.9, 0.4, 0.2], [1.2, 0.7, 0.2], [1.2, 0.7, 0.2]),
    (CYCLE, [0.3, 0.3, 0.3], [0.7, 0.7, 0.7], [0.4, 0.4, 0.4], [0.7, 0.7, 0.7], [0.7, 0.7, 0.7]),
    (CYCLE, [0, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]),
    (CYCLE, [0, 0, 0.5], [1, 1, 0.5], [6 / 7, 5 / 7, 3 / 7], [1, 1, 0.5], [1, 1, 0.5]),
    (CYCLE, [0, 0, 1], [1, 0.5, 0], [0.75, 0.5, -0.125], [1, 1, 0], [1, 1, 0]),
    (CYCLE, [0, 0, 1.2], [1, 0.5, -0.2], [0.75, 0.5, -0.325], [1, 0.96, -0.2], [1, 0.8, -0.2]),
    (CYCLE, [1.2, 0, 0], [-0.2, 1, 0.5], [-0.325, 0.75, 0.5], [-0.2, 1, 0.98947368421], [-0.2, 1, 0.8]),
]


@pytest.mark.parametrize(("claims", "shock", "furfine", "linear", "pari_passu", "junior"), CASES)
def test_published_networks(
    claims: np.ndarray, shock: list, furfine: list, linear: list, pari_passu: list, junior: list
) -> None:
    book, inside, everything = neva.book_figures(claims, ASSETS, DEBTS)
    for valuation, expected in (
        (neva.furfine(), furfine),
        (neva.linear(book), linear),
        (neva.recovery_of(everything), pari_passu),
        (neva.recovery_of(inside), junior),
    ):
        found = neva.solve_neva(claims, ASSETS, DEBTS, valuation, shock)
        np.testing.assert_allclose(found.equity, expected, atol=1e-9)
        assert found.converged
        np.testing.assert_allclose(found.book, book)


def test_every_bank_has_its_own_equity_in_the_linear_valuation() -> None:
    """neva's shock_and_solve(linear_dr) closes over the loop variable and divides by the last bank's equity for all:
    on the chain with shock (0, 0, 0.5) that gives A 1.5 (B's 0.5 over C's book 0.5), not 1.25."""
    book, *_ = neva.book_figures(CHAIN, ASSETS, DEBTS)
    wrong = neva.solve_neva(CHAIN, ASSETS, DEBTS, neva.linear(np.full(3, book[-1])), [0, 0, 0.5])
    assert wrong.equity[0] == pytest.approx(1.5)
    right = neva.solve_neva(CHAIN, ASSETS, DEBTS, neva.linear(book), [0, 0, 0.5])
    assert right.equity[0] == pytest.approx(1.25)


worlds = st.integers(0, 10**6).map(np.random.default_rng)


def world(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    claims = rng.random((n, n)) * (rng.random((n, n)) < 0.5)
    np.fill_diagonal(claims, 0)
    assets = rng.uniform(1, 4, n)
    inside = claims.sum(axis=1) - claims.sum(axis=0)
    outside = np.maximum(0, np.minimum(assets + inside, assets) * rng.uniform(0.2, 0.95, n))
    return claims, assets, outside, assets * rng.random(n)


@pytest.mark.slow
@given(worlds, st.integers(1, 8))
def test_pari_passu_valuation_is_the_clearing_vector(rng: np.random.Generator, n: int) -> None:
    claims, assets, outside, shock = world(rng, n)
    *_, everything = neva.book_figures(claims, assets, outside)
    found = neva.solve_neva(claims, assets, outside, neva.recovery_of(everything), shock)
    cleared = clear(system(claims.T, assets - shock, outside))
    np.testing.assert_allclose(np.maximum(found.equity, 0), cleared.equity, atol=1e-8)
    costly = clear(system(claims.T, assets - shock, outside), 0.6, 0.8)
    valued = neva.solve_neva(claims, assets, outside, neva.rogers_veraart(assets - shock, everything, 0.6, 0.8), shock)
    np.testing.assert_allclose(valued.value * everything, costly.paid, atol=1e-7)


@given(worlds, st.integers(1, 8))
def test_linear_valuation_is_debtrank(rng: np.random.Generator, n: int) -> None:
    claims, assets, outside, _ = world(rng, n)
    book, *_ = neva.book_figures(claims, assets, outside)
    outside = outside - np.minimum(0, book - 0.1)  # give everyone positive equity
    assets = assets - np.minimum(0, book - 0.1) * 2
    book, *_ = neva.book_figures(claims, assets, outside)
    shock = rng.random(n) * book
    found = neva.solve_neva(claims, assets, outside, neva.linear(book), shock)
    stress = linear_debtrank(leverage_matrix(claims, book), shock / book)
    np.testing.assert_allclose(1 - np.maximum(found.equity, 0) / book, stress.stress, atol=1e-7)


@given(worlds, st.integers(1, 8))
def test_fixed_point_loss_is_at_least_the_direct_loss_and_grows_with_the_shock(
    rng: np.random.Generator, n: int
) -> None:
    claims, assets, outside, shock = world(rng, n)
    *_, everything = neva.book_figures(claims, assets, outside)
    found = neva.solve_neva(claims, assets, outside, neva.recovery_of(everything), shock)
    worse = neva.solve_neva(claims, assets, outside, neva.recovery_of(everything), shock * 1.2)
    assert np.all(found.equity <= found.book - shock + 1e-9)
    assert np.all(worse.equity <= found.equity + 1e-9)


def test_ex_ante_probabilities_against_simulation() -> None:
    """Merton at maturity and first passage on 200,000 paths with a Brownian-bridge crossing probability per step."""
    a, equity, s = 10.0, 2.0, 0.25
    rng = np.random.default_rng(11)
    steps, paths = 50, 200_000
    moves = rng.normal(-s * s / 2 / steps, s / np.sqrt(steps), (paths, steps))
    logs = np.cumsum(moves, axis=1)
    barrier = np.log(1 - equity / a)
    at_end = float((logs[:, -1] < barrier).mean())
    previous = np.column_stack([np.zeros(paths), logs[:, :-1]])
    gap = np.maximum(previous - barrier, 0) * np.maximum(logs - barrier, 0)
    survive = np.prod(1 - np.exp(-2 * gap * steps / s**2), axis=1)
    value = neva.merton([a], [s])(np.array([equity]))[0]
    assert 1 - value == pytest.approx(at_end, abs=4 * np.sqrt(at_end / paths))
    first = neva.black_cox([a], [s], 0.4)(np.array([equity]))[0]
    assert (1 - first) / 0.6 == pytest.approx(1 - survive.mean(), abs=0.004)


@given(st.floats(0.05, 1.5), st.floats(0, 1))
def test_ex_ante_values_rise_with_equity(volatility: float, recovery: float) -> None:
    for build in (neva.merton, neva.black_cox):
        value = build(10.0, volatility, recovery)
        line = [float(value(np.array([e]))[0]) for e in np.linspace(-2, 9.99, 60)]
        assert all(b >= a - 1e-12 for a, b in pairwise(line))
        assert line[0] == pytest.approx(recovery)
        assert all(recovery - 1e-12 <= v <= 1 for v in line)


def test_two_vaults_that_hold_each_other_in_closed_form() -> None:
    """A lends 600 against 620 B shares, B 450 against 470 A shares; A loses 100 of 400 cash.

    Exact rationals of the linear system where both are short: 2285/2543 and 2455/2543.
    """
    cash, shares = np.array([300.0, 350.0]), np.array([1000.0, 800.0])
    loan, pledged = np.array([600.0, 450.0]), np.array([620.0, 470.0])
    found = iterate_down(lambda v: (cash + np.minimum(loan, pledged * v[::-1])) / shares, np.ones(2), 1e-15)
    np.testing.assert_allclose(found.value, [2285 / 2543, 2455 / 2543], rtol=1e-9)
    assert found.converged
    assert found.rounds > 10
    once = (cash + np.minimum(loan, pledged)) / shares
    np.testing.assert_allclose(once, [0.9, 1.0])


def test_bad_input_is_refused() -> None:
    for call in (
        lambda: neva.solve_neva(CHAIN, ASSETS, DEBTS, lambda e: np.full(3, 1.5)),
        lambda: neva.solve_neva(CHAIN, ASSETS, DEBTS, lambda e: np.ones(2)),
        lambda: neva.solve_neva(CHAIN, [-1, 0, 0], DEBTS, neva.furfine()),
        lambda: neva.furfine(1.2),
        lambda: neva.solve_neva(CHAIN, ASSETS, DEBTS, neva.recovery_of(np.ones(2))),
        lambda: neva.solve_neva(CYCLE, ASSETS, DEBTS, lambda e: np.where(e > 0.9, 0.5, 0.9)),  # rises as equity falls
        lambda: neva.linear([1.0, np.nan]),
        lambda: neva.recovery_of([1.0, -1.0]),
        lambda: neva.rogers_veraart([np.nan], [1.0], 0.5, 0.5),
        lambda: neva.merton([0.0], [0.1]),
        lambda: neva.black_cox([1.0], [0.0]),
    ):
        with pytest.raises(DomainError):
            call()
    empty = neva.solve_neva(np.zeros((0, 0)), np.zeros(0), np.zeros(0), neva.furfine())
    assert empty.converged
    cut = neva.solve_neva(CYCLE, ASSETS, DEBTS, neva.linear([1, 1, 1]), [0, 0, 0.9], max_rounds=3)
    assert not cut.converged


def test_a_small_node_beside_a_large_one_is_valued_to_its_own_last_digit() -> None:
    """A slow cycle of two small nodes beside a claim of 1e13: the same values as the cycle alone."""
    cycle = np.array([[0.0, 1.0], [1.0, 0.0]])
    alone = neva.solve_neva(cycle, [0.3, 0.0], [0.0, 0.05], neva.recovery_of([1.0, 1.05]))
    claims = np.zeros((4, 4))
    claims[:2, :2], claims[2, 3] = cycle, 1e13
    cash, debts = [0.3, 0.0, 0.0, 2e13], [0.0, 0.05, 0.0, 0.0]
    beside = neva.solve_neva(claims, cash, debts, neva.recovery_of([1.0, 1.05, 0.0, 1e13]))
    assert beside.converged
    np.testing.assert_allclose(beside.value[:2], alone.value, rtol=1e-10)
    np.testing.assert_allclose(beside.equity[:2], alone.equity, atol=1e-10)
