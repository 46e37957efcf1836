"""Impact, communicability, reconstruction, Glasserman-Young: published tests and independent second answers."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant.clearing import clear, system
from aggregator.quant.network_measures import (
    amplification_bound,
    communicability,
    contagion_impossible,
    diffusion,
    fluidity,
    impact_matrix,
    susceptibility,
)
from aggregator.quant.reconstruct import maximum_entropy

# NetworkRiskMeasures tests/testthat/test_1_risk_com.R: six banks, rows owe columns (one owes itself); 1e-9.
OWES = np.array([
    [0, 5, 0, 0, 10, 2], [0, 0, 3, 0, 2, 0], [0, 0, 0, 4, 0, 0],
    [0, 0, 0, 0, 0, 0], [0, 0, 2, 5, 5, 0], [0, 2, 2, 0, 0, 0],
])  # fmt: skip
SIX_BUFFERS = [10, 2, 2, 1, 10, 4]
SIX_IMPACT = [
    [0, 1, 0, 0, 1, 0.5], [0, 0, 1, 0, 0.2, 0], [0, 0, 0, 1, 0, 0],
    [0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0.5, 0], [0, 1, 1, 0, 0, 0],
]  # fmt: skip
SIX_COMMUNICABILITY = [
    [1, 1, 1, 5 / 6, 1, 0], [0, 1, 1, 0.5, 0, 0], [0, 0, 1, 1, 0, 0],
    [0, 0, 0, 1, 0, 0], [0, 0, 1, 1.5, 1, 0], [0, 1, 1.5, 2 / 3, 0, 1],
]  # fmt: skip
# Anand, Craig and von Peter 2015, p. 628, as printed to two decimals.
LENT, BORROWED = [7, 5, 3, 1, 3, 0, 1], [4, 5, 5, 0, 0, 2, 4]
PRINTED = [
    [0, 2.53, 2.18, 0, 0, 0.74, 1.55], [1.72, 0, 1.60, 0, 0, 0.54, 1.14], [0.98, 1.06, 0, 0, 0, 0.31, 0.65],
    [0.25, 0.27, 0.23, 0, 0, 0.08, 0.17], [0.75, 0.81, 0.70, 0, 0, 0.24, 0.50], [0] * 7,
    [0.30, 0.32, 0.28, 0, 0, 0.09, 0],
]  # fmt: skip


def test_six_banks() -> None:
    np.testing.assert_allclose(impact_matrix(OWES.T, SIX_BUFFERS), SIX_IMPACT, atol=1e-9)
    binary = impact_matrix(OWES.T, SIX_BUFFERS, binary=True)
    np.testing.assert_allclose(communicability(binary), SIX_COMMUNICABILITY, atol=1e-9)


def test_three_banks() -> None:
    """test_3_impacts.R."""
    v = impact_matrix([[0, 1, 0], [10, 0, 3], [3, 2, 0]], [2, 5, 2], binary=True)
    np.testing.assert_allclose(susceptibility(v), [0, 1, 1.25], atol=1e-9)
    assert fluidity(v) == pytest.approx(0.75)
    found = diffusion(v)
    np.testing.assert_allclose(found.start, [1.25, 1, 0], atol=1e-9)
    np.testing.assert_allclose(found.intermediate, [0, 0.5, 0], atol=1e-9)
    np.testing.assert_allclose(found.total, [1.25, 1.5, 0], atol=1e-9)


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_communicability_is_the_power_series(seed: int, n: int) -> None:
    v = np.random.default_rng(seed).random((n, n))
    total, term = np.eye(n), np.eye(n)
    for k in range(1, 60):
        term = term @ v / k
        total = total + term
    np.testing.assert_allclose(communicability(v), total, rtol=1e-10)


def test_published_maximum_entropy_matrix() -> None:
    found = maximum_entropy(LENT, BORROWED)
    np.testing.assert_allclose(found.claims, PRINTED, atol=0.0051)
    np.testing.assert_allclose(found.claims.sum(axis=1), LENT, atol=1e-9)
    np.testing.assert_allclose(found.claims.sum(axis=0), BORROWED, atol=1e-9)
    assert found.converged


@given(st.integers(0, 10**6), st.integers(3, 7))
def test_entropy_is_stationary_on_every_four_cycle(seed: int, n: int) -> None:
    """First-order condition, free of the algorithm: x_ij x_kl = x_il x_kj for distinct i, k, j, l off the diagonal."""
    rng = np.random.default_rng(seed)
    true = rng.random((n, n)) + 0.1
    np.fill_diagonal(true, 0)
    found = maximum_entropy(true.sum(axis=1), true.sum(axis=0))
    assert found.converged
    x = found.claims
    assert not np.diag(x).any()
    for i, k, j, m in ((a, b, c, d) for a in range(n) for b in range(n) for c in range(n) for d in range(n)):
        if len({i, k, j, m}) == 4:
            assert x[i, j] * x[k, m] == pytest.approx(x[i, m] * x[k, j], rel=1e-6)


def test_reconstruction_bad_input_and_limits() -> None:
    with pytest.raises(DomainError, match="balance"):
        maximum_entropy([1, 2], [1, 1])
    with pytest.raises(DomainError, match="node 0"):
        maximum_entropy([3, 1], [3, 1])
    assert maximum_entropy([0, 0], [0, 0]).converged
    assert maximum_entropy(np.zeros(0), np.zeros(0)).claims.shape == (0, 0)
    assert not maximum_entropy(LENT, BORROWED, max_rounds=1).converged
    for bad in (0.0, float("nan")):
        with pytest.raises(DomainError, match="tolerance"):
            maximum_entropy(LENT, BORROWED, tolerance=bad)


@given(st.integers(0, 10**6), st.integers(2, 6))
def test_contagion_that_is_ruled_out_does_not_happen(seed: int, n: int) -> None:
    """Wipe out all outside assets of a node: no set that the bound protects fails as a whole when debts are cleared."""
    rng = np.random.default_rng(seed)
    debts = rng.random((n, n)) * (rng.random((n, n)) < 0.6)
    np.fill_diagonal(debts, 0)
    outside = rng.random(n)
    inside = debts.sum(axis=0) - debts.sum(axis=1)
    cash = np.maximum(0, outside - inside) + rng.random(n) * 0.5 + 0.01
    worth = cash + inside - outside
    share = debts.sum(axis=1) / (debts.sum(axis=1) + outside)
    hit = cash.copy()
    hit[0] = 0
    failed = clear(system(debts, hit, outside)).failed
    targets = np.flatnonzero(failed[1:]) + 1
    if len(targets):
        assert not contagion_impossible(worth, cash, share, 0, targets)


def test_amplification_bound_by_hand_and_its_limits() -> None:
    """delta = 1 %, equal assets, at most half of debts inside: 1 + 0.01 / (1 - 0.5)."""
    assert amplification_bound([0.01, 0.01], [5, 5], [0.5, 0.2]) == pytest.approx(1.02)
    assert amplification_bound([0.01], [5], [1.0]) == float("inf")
    assert np.isnan(fluidity(np.zeros((0, 0))))
    assert susceptibility([[0.0]]).tolist() == [0.0]
    for call in (
        lambda: amplification_bound([1.5], [1], [0.1]),
        lambda: amplification_bound([0.5], [0], [0.1]),
        lambda: amplification_bound([0.5], [1], [1.1]),
        lambda: contagion_impossible([1, 1], [1, 1], [0, 0], 0, [0]),
        lambda: contagion_impossible([0, 1], [1, 1], [0, 0], 0, [1]),
        lambda: contagion_impossible([1, 1], [1, 1], [0, 0], 0, []),
        lambda: contagion_impossible([1, 1], [1, 1], [0, 0], 0, [0.7]),
        lambda: communicability([[np.nan]]),
        lambda: communicability([[0.0, 1e300], [1.0, 0.0]]),
        lambda: communicability([[1.0, 2.0]]),
        lambda: communicability([[0.0, 1e3], [1e3, 0.0]]),
        lambda: susceptibility([[0.0, -1.0], [1.0, 0.0]]),
        lambda: impact_matrix([[0, 1], [1, 0]], [0, 1]),
    ):
        with pytest.raises(DomainError):
            call()


def test_a_target_named_twice_counts_once() -> None:
    """Worth 1, outside assets 3, all debts inside: the source may miss 2, which fells a target worth 1.5."""
    figures = ([1.0, 1.5], [3.0, 1.0], [1.0, 0.0], 0)
    assert not contagion_impossible(*figures, [1])
    assert not contagion_impossible(*figures, [1, 1])


def market(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    """Debts (n, n), cash, outside debts, net worth > 0 and share of debts inside, at most 0.8."""
    debts = rng.random((n, n)) * (rng.random((n, n)) < 0.7)
    np.fill_diagonal(debts, 0)
    owed, claims = debts.sum(axis=1), debts.sum(axis=0)
    outside = np.maximum(owed * rng.uniform(0.25, 2, n), 0.1)
    cash = np.maximum(outside + owed - claims, 0.0) + rng.uniform(0.02, 0.3, n)
    return debts, cash, outside, cash + claims - owed - outside, owed / (owed + outside)


@pytest.mark.parametrize("seed", range(4))
def test_amplification_stays_within_the_bound_for_increasing_failure_rates(seed: int) -> None:
    """Exponential losses, capped at all assets, the same share for all: each clearing and the mean obey (2)."""
    rng = np.random.default_rng(seed)
    debts, cash, outside, worth, inside = market(rng, 5)
    net, scale = system(debts, cash, outside), 0.15
    lost = np.minimum(rng.exponential(scale, (1500, 5)), 1.0) * cash
    missed = []
    for x in lost:
        found = clear(net._replace(outside=cash - x))
        missed.append(float((found.owed - found.paid).sum()))
        assert missed[-1] <= np.maximum(x - worth, 0).sum() / (1 - inside.max()) + 1e-9
    delta = np.where(worth < cash, np.exp(-worth / cash / scale), 0.0)
    direct = lost.sum(axis=1)
    ratio = (direct + missed).mean() / direct.mean()
    assert 1 < ratio <= amplification_bound(delta, cash, inside)


def test_amplification_bound_needs_an_increasing_failure_rate() -> None:
    """Ring of three; each loses everything with probability 1 %, else nothing: all eight outcomes are enumerated."""
    cash, outside, owed = 10.0, 9.9, 89.1
    net = system([[0, owed, 0], [0, 0, owed], [owed, 0, 0]], [cash] * 3, [outside] * 3)
    direct = total = 0.0
    for outcome in product([False, True], repeat=3):
        chance = float(np.prod([0.01 if hit else 0.99 for hit in outcome]))
        found = clear(net._replace(outside=np.where(outcome, 0.0, cash)))
        direct += chance * cash * sum(outcome)
        total += chance * (cash * sum(outcome) + float((found.owed - found.paid).sum()))
    bound = amplification_bound([0.01] * 3, [cash] * 3, [owed / (owed + outside)] * 3)
    assert bound == pytest.approx(1.1)
    assert total / direct > 5
