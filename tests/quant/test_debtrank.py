"""DebtRank and threshold cascades: the published 125-bank market, plain iteration, limits and laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant.debtrank import (
    debtrank_by_iteration,
    leverage_matrix,
    linear_debtrank,
    nonlinear_debtrank,
    single_hit_debtrank,
    threshold_cascade,
)
from aggregator.quant.furfine import furfine_cascade
from benchmarks._debtrank_125 import EDGES, EXPECTED_DEBTRANK, EXPECTED_THRESHOLD, NODES

FIGURES = np.array(NODES.split(), float).reshape(-1, 2)
BUFFER, WEIGHT = FIGURES[:, 0], FIGURES[:, 1] / FIGURES[:, 1].sum()
CLAIMS = np.zeros((125, 125))
for edge in EDGES.split():
    creditor, debtor, amount = edge.split(",")
    CLAIMS[int(creditor), int(debtor)] += float(amount)
LEVERAGE = leverage_matrix(CLAIMS, BUFFER)

# Published with a tolerance of 7.4e-4 in README.md and test_4_contagion.R: compare at two digits.
README_DEBTRANK = {
    55: (0.29, 235, 18), 28: (0.20, 117, 9), 74: (0.15, 48, 5), 84: (0.13, 72, 4), 33: (0.12, 46, 4),
    5: (0.12, 27, 4), 101: (0.11, 25, 3), 60: (0.11, 26, 3), 23: (0.11, 22, 2), 114: (0.10, 31, 3),
}  # fmt: skip
README_THRESHOLD = {
    55: (0.271, 221.6, 17), 28: (0.171, 110.8, 9), 27: (0.084, 40.3, 3), 69: (0.082, 39.2, 3),
    74: (0.082, 27.6, 3), 33: (0.052, 27.1, 2), 84: (0.051, 44.8, 2),
}  # fmt: skip
# Tight recomputation, uniform shock in per cent: additional stress, losses, defaults; 1e-6.
UNIFORM = {
    1: (0.1345126665, 30.6423536, 3), 2: (0.1670062675, 40.7309744, 5), 3: (0.1797770834, 48.1972949, 5),
    4: (0.1900209693, 55.6294913, 6), 5: (0.1993048141, 63.0487232, 6), 6: (0.2085886588, 70.467955, 6),
    7: (0.2178725036, 77.8871869, 6), 8: (0.2250430214, 84.8337123, 7), 9: (0.2311283032, 91.5374933, 7),
    10: (0.2372135851, 98.2412743, 7), 11: (0.2393807359, 104.7613448, 9), 12: (0.2410006205, 111.2585143, 9),
}  # fmt: skip


def figures(found: object, shock: np.ndarray) -> np.ndarray:
    """(m, 3): additional weighted stress, losses not capped at the buffer, additional defaults."""
    stress, uncapped = found.stress, found.uncapped  # type: ignore[attr-defined]
    failed = (stress >= 1).sum(axis=1) - (shock >= 1).sum(axis=1)
    return np.column_stack([(stress - shock) @ WEIGHT, (uncapped - shock) @ BUFFER, failed])


@pytest.mark.parametrize(
    ("model", "text"), [(linear_debtrank, EXPECTED_DEBTRANK), (threshold_cascade, EXPECTED_THRESHOLD)]
)
def test_single_defaults_of_the_125_banks(model: object, text: str) -> None:
    found = model(LEVERAGE, np.eye(125))  # type: ignore[operator]
    ours = figures(found, np.eye(125))
    assert found.converged.all()
    for row in text.split():
        bank, *expected = (float(f) for f in row.split(","))
        np.testing.assert_allclose(ours[int(bank)], expected, rtol=1e-6, atol=1e-6)


def test_readme_tables_at_their_own_precision() -> None:
    for model, table, digits in (
        (linear_debtrank, README_DEBTRANK, 0.006),
        (threshold_cascade, README_THRESHOLD, 6e-4),
    ):
        ours = figures(model(LEVERAGE, np.eye(125)), np.eye(125))
        for bank, (stress, losses, defaults) in table.items():
            assert ours[bank - 1, 0] == pytest.approx(stress, abs=digits)
            assert ours[bank - 1, 1] == pytest.approx(losses, abs=0.6 if digits > 1e-3 else 0.06)
            assert ours[bank - 1, 2] == defaults


def test_the_package_default_tolerance_is_what_differs() -> None:
    """NetworkRiskMeasures prints 0.001402345 for b2 because it stops at 7.4e-4; converged it is 0.002016."""
    h, passed = np.eye(125)[1], np.zeros(125)
    while True:
        fresh = np.minimum(h, 1) - passed
        if fresh.sum() < 7.4e-4:
            break
        passed = passed + fresh
        h = np.eye(125)[1] + LEVERAGE @ passed
    loose = float((np.minimum(h, 1) - np.eye(125)[1]) @ WEIGHT)
    tight = float(figures(linear_debtrank(LEVERAGE, np.eye(125)[1:2]), np.eye(125)[1:2])[0, 0])
    assert tight == pytest.approx(0.0020159746, abs=1e-9)
    assert loose < tight
    assert tight - 0.001402345 > 5e-4


def test_uniform_shocks() -> None:
    shocks = np.array([np.full(125, percent / 100) for percent in UNIFORM])
    np.testing.assert_allclose(
        figures(linear_debtrank(LEVERAGE, shocks), shocks), list(UNIFORM.values()), rtol=1e-6, atol=1e-6
    )


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 3.0, np.inf]))
def test_compiled_form_equals_the_plain_one_to_1e_12(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.random((12, 12)) * (rng.random((12, 12)) < 0.3)
    np.fill_diagonal(matrix, 0)
    matrix *= 0.5 / max(1e-9, matrix.sum(axis=1).max())
    shock = np.where(rng.random(12) < 0.2, 1.0, rng.random(12))
    plain = debtrank_by_iteration(matrix, shock, tolerance=1e-16, alpha=alpha)
    compiled = nonlinear_debtrank(matrix, shock, alpha, tolerance=1e-14)
    np.testing.assert_allclose(compiled.stress, 1 - plain.value, atol=1e-12)


def test_acceleration_equals_plain_iteration_near_radius_one() -> None:
    radius = max(abs(np.linalg.eigvals(LEVERAGE.toarray())))
    assert 0.99 < radius < 1
    for bank in (4, 54, 100):
        plain = debtrank_by_iteration(LEVERAGE, np.eye(125)[bank], tolerance=1e-14)
        np.testing.assert_allclose(linear_debtrank(LEVERAGE, np.eye(125)[bank]).stress, 1 - plain.value, atol=1e-10)


leverages = st.integers(0, 10**6).map(lambda seed: np.random.default_rng(seed))


@settings(max_examples=30)
@given(leverages, st.integers(1, 9), st.floats(0.1, 2.5))
def test_least_solution_for_any_radius(rng: np.random.Generator, n: int, radius: float) -> None:
    """Random networks below, at and above spectral radius 1: (1) holds, nothing smaller solves it, T is monotone."""
    matrix = rng.random((n, n)) * (rng.random((n, n)) < 0.5)
    np.fill_diagonal(matrix, 0)
    top = max(abs(np.linalg.eigvals(matrix)))
    if top > 1e-9:
        matrix *= radius / top
    shock = np.minimum(1, rng.random(n) * (rng.random(n) < 0.5))
    found = linear_debtrank(matrix, shock)
    plain = debtrank_by_iteration(matrix, shock, tolerance=1e-14, max_rounds=20_000)
    np.testing.assert_allclose(found.stress, 1 - plain.value, atol=1e-7)
    more = linear_debtrank(matrix, np.minimum(1, shock + 0.1))
    assert np.all(more.stress >= found.stress - 1e-9)
    milder = nonlinear_debtrank(matrix, shock, 2.0)
    last = nonlinear_debtrank(matrix, shock, np.inf)
    assert np.all(found.stress >= milder.stress - 1e-9)
    assert np.all(milder.stress >= last.stress - 1e-9)
    order = rng.permutation(n)
    moved = linear_debtrank(matrix[np.ix_(order, order)], shock[order])
    np.testing.assert_allclose(moved.stress, found.stress[order], atol=1e-9)


@settings(max_examples=30)
@given(leverages, st.integers(2, 9), st.floats(0.1, 5))
def test_nonlinear_solves_its_equation(rng: np.random.Generator, n: int, alpha: float) -> None:
    matrix = rng.random((n, n)) * (rng.random((n, n)) < 0.4)
    np.fill_diagonal(matrix, 0)
    shock = rng.random(n) * 0.5
    found = nonlinear_debtrank(matrix, shock, alpha)
    h = np.zeros(n)
    for _ in range(3000):
        h = np.minimum(1, shock + matrix @ (h * np.exp(alpha * (h - 1))))
    assert found.converged
    assert np.all(h <= found.stress + 1e-9)  # from below, perhaps not there yet
    np.testing.assert_allclose(found.stress, h, atol=1e-3)


@given(leverages, st.integers(1, 9))
def test_threshold_cascade_is_furfine_without_recovery(rng: np.random.Generator, n: int) -> None:
    claims = rng.integers(0, 5, (n, n)) * (rng.random((n, n)) < 0.5)
    np.fill_diagonal(claims, 0)
    equity, shock = rng.integers(1, 9, n), rng.integers(0, 9, n)
    shock = np.minimum(shock, equity)
    cascade = furfine_cascade(claims, equity, shock)
    found = threshold_cascade(leverage_matrix(claims, equity), shock / equity)
    np.testing.assert_array_equal(found.uncapped >= 1 - 1e-12, cascade.failed)
    np.testing.assert_allclose(found.uncapped * equity, equity - cascade.equity, atol=1e-9)


def test_contagion_never_exceeds_exposure() -> None:
    """An open tool passes a debtor's whole loss on and says 200 and 300 here; creditors lose what they lent: 101."""
    one = furfine_cascade([[0, 0], [1, 0]], [100, 50], [100, 0])
    assert 100 + one.lost.sum() == 101
    chain = furfine_cascade([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [100, 50, 50], [100, 0, 0])
    assert 100 + chain.lost.sum() == 101
    assert chain.failed.tolist() == [True, False, False]


def test_single_hit_by_hand() -> None:
    """0 <-> 1, each losing half of the other's stress: 0 passes on once, 1 once, and what returns to 0 stops there."""
    found = single_hit_debtrank([[0, 0.5], [0.5, 0]], [0.4, 0.0])
    assert found.stress.tolist() == [0.4 + 0.5 * 0.2, 0.2]
    linear = linear_debtrank([[0, 0.5], [0.5, 0]], [0.4, 0.0])
    np.testing.assert_allclose(linear.stress, [0.4 / 0.75, 0.2 / 0.75])


def test_single_and_empty_networks_and_zero_shock() -> None:
    assert linear_debtrank([[0.0]], [0.3]).stress.tolist() == [0.3]
    empty = linear_debtrank(np.zeros((0, 0)), np.zeros(0))
    assert empty.stress.shape == (0,)
    assert empty.converged
    still = linear_debtrank(LEVERAGE, np.zeros(125))
    assert not still.stress.any()
    assert still.rounds == 0


def test_recovery_softens_the_cascade() -> None:
    claims, equity = [[0, 0, 0], [4, 0, 0], [0, 4, 0]], [1, 3, 3]
    hard, soft = (furfine_cascade(claims, equity, [1, 0, 0], r) for r in (0.0, 0.5))
    assert hard.round_failed.tolist() == [0, 1, 2]
    assert soft.round_failed.tolist() == [0, -1, -1]
    assert soft.lost.tolist() == [0, 2, 0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: linear_debtrank([[0.0, 1.0], [0.0, 0.0]], [1.5, 0]),
        lambda: linear_debtrank([[0.0, 1.0], [0.0, 0.0]], [1.0]),
        lambda: linear_debtrank([[0.5]], [0.1]),
        lambda: nonlinear_debtrank([[0.0]], [0.1], -1.0),
        lambda: leverage_matrix([[0, 1], [0, 0]], [0, 1]),
        lambda: furfine_cascade([[0, 1], [0, 0]], [1, 1], 0, 1.5),
        lambda: linear_debtrank([[0.0, 1.0], [0.0, 0.0]], [1.0, 0.0], tolerance=0.0),
        lambda: linear_debtrank([[0.0, 1.0], [0.0, 0.0]], [1.0, 0.0], max_rounds=0),
        lambda: debtrank_by_iteration([[0.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]),
        lambda: debtrank_by_iteration([[0.0, 1.0], [0.0, 0.0]], [1.0, 0.0], alpha=float("nan")),
    ],
)
def test_bad_input_is_refused(call: object) -> None:
    with pytest.raises(DomainError):
        call()  # type: ignore[operator]
