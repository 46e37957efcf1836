"""Clearing vectors: published and exact answers, a linear programme, enumeration of default sets, and theorems."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import linprog

from aggregator.core.errors import DomainError
from aggregator.quant.clearing import System, clear, clear_by_picard, system
from aggregator.quant.furfine import furfine_cascade
from aggregator.quant.network import edges_to_matrix

BASE = ([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], [0.5, 0.625, 0.75], [1.5, 0.5, 0.5])
# CRAN systemicrisk 0.4.3: inputs of man/default_clearing and the vignette; payments solved in rationals, 1e-9.
PUBLISHED = [
    (BASE, 1.0, 1.0, [Fraction(165, 112), Fraction(159, 112), Fraction(3, 2)], [1, 1, 0]),
    (BASE, 0.5, 0.7, [Fraction(4225, 8416), Fraction(160275, 311392), Fraction(176055, 311392)], [1, 1, 1]),
    (
        ([[0, 0, 1], [0.4, 0, 2.1], [0.3, 2.7, 0]], [1, 1, 1], [1, 1, 1]),
        1.0, 1.0, [1.6961038961038961, 3.5, 3.948051948051948], [1, 0, 1],
    ),
    (
        ([[0, 0.09298631, 0.9070137], [0.3070137, 0, 2.1929863], [0.3929863, 2.60701369, 0]], [1, 1, 1], [1, 1, 1]),
        1.0, 1.0, [1.696292835103763, 3.5, 3.962266716479075], [1, 0, 1],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("network", "alpha", "beta", "paid", "failed"), PUBLISHED)
def test_published_networks(network: tuple, alpha: float, beta: float, paid: list, failed: list) -> None:
    for solver in (clear, clear_by_picard):
        found = solver(system(*network), alpha, beta)
        value = found.paid if solver is clear else found.value
        np.testing.assert_allclose(value, [float(p) for p in paid], rtol=1e-9)
        assert found.converged
        assert found.residual <= 1e-12
    assert clear(system(*network), alpha, beta).failed.tolist() == [bool(f) for f in failed]


@st.composite
def networks(draw: st.DrawFn, most: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole-number debts, so that exact ties happen; possibly disconnected, possibly without outside debts."""
    n = draw(st.integers(1, most))
    amounts = st.integers(0, 6)
    debts = np.array([[draw(amounts) if i != j else 0 for j in range(n)] for i in range(n)], float)
    cash = np.array([draw(st.integers(0, 8)) for _ in range(n)], float)
    return debts, cash, np.array([draw(st.integers(0, 4)) for _ in range(n)], float)


def greatest_by_enumeration(net: System, alpha: float, beta: float) -> np.ndarray:
    """Solve (1) for every set of failures and take the consistent answer with the largest payments."""
    pi_t, e, owed, n = net.pi_t.toarray(), net.outside, net.owed, len(net.owed)
    best = None
    for choice in product([False, True], repeat=n):
        fails = np.array(choice)
        a = np.eye(n) - np.where(fails[:, None], beta * pi_t, 0.0)
        if abs(np.linalg.det(a)) < 1e-12:
            continue
        p = np.linalg.solve(a, np.where(fails, alpha * e, owed))
        solvent = e + pi_t @ p >= owed - 1e-9
        if np.array_equal(solvent, ~fails) and (best is None or p.sum() > best.sum()):
            best = p
    assert best is not None
    return best


@settings(max_examples=150)
@given(networks(), st.sampled_from([(1.0, 1.0), (0.5, 0.7), (0.9, 1.0), (1.0, 0.6), (0.0, 0.0)]))
def test_greatest_vector_by_enumeration(net: tuple, costs: tuple[float, float]) -> None:
    built = system(*net)
    found = clear(built, *costs)
    np.testing.assert_allclose(found.paid, greatest_by_enumeration(built, *costs), atol=1e-8)
    assert found.converged


@given(networks(8))
def test_eisenberg_noe_is_the_linear_programme(net: tuple) -> None:
    """max 1'p subject to p <= e + Pi'p, 0 <= p <= Lbar (Eisenberg and Noe, lemma 4)."""
    built = system(*net)
    n = len(built.owed)
    best = linprog(
        -np.ones(n), A_ub=np.eye(n) - built.pi_t.toarray(), b_ub=built.outside, bounds=[(0, o) for o in built.owed]
    )
    np.testing.assert_allclose(clear(built).paid, best.x, atol=1e-7)


@given(networks(8), st.floats(0.2, 1), st.floats(0.2, 1))
def test_value_is_conserved_and_costs_only_hurt(net: tuple, alpha: float, beta: float) -> None:
    built = system(*net)
    found, free = clear(built, alpha, beta), clear(built)
    to_outside = float(
        (found.paid * np.divide(net[2], built.owed, out=np.zeros_like(net[2]), where=built.owed > 0)).sum()
    )
    assert built.outside.sum() == pytest.approx(float(found.equity.sum() + found.lost.sum()) + to_outside, abs=1e-8)
    assert np.all(found.paid <= free.paid + 1e-9)
    richer = clear(built._replace(outside=built.outside + 0.7), alpha, beta)
    assert np.all(richer.paid >= found.paid - 1e-9)


@given(networks(8), st.floats(1e-3, 1e3), st.randoms(use_true_random=False))
def test_units_and_names_do_not_matter(net: tuple, unit: float, random: object) -> None:
    debts, cash, outside = net
    found = clear(system(debts, cash, outside), 0.8, 0.9)
    scaled = clear(system(debts * unit, cash * unit, outside * unit), 0.8, 0.9)
    np.testing.assert_allclose(scaled.paid, found.paid * unit, rtol=1e-9, atol=1e-9 * unit)
    order = list(range(len(cash)))
    random.shuffle(order)  # type: ignore[attr-defined]
    moved = clear(system(debts[np.ix_(order, order)], cash[order], outside[order]), 0.8, 0.9)
    np.testing.assert_allclose(moved.paid, found.paid[order], rtol=1e-9, atol=1e-9)


@given(networks(8), st.floats(0, 8))
def test_losses_never_exceed_furfine_without_recovery(net: tuple, shock: float) -> None:
    debts, cash, outside = net
    hit = np.minimum(cash, shock * (np.arange(len(cash)) == 0))
    book = cash + debts.sum(axis=0) - debts.sum(axis=1) - outside
    cascade = furfine_cascade(debts.T, book, hit)
    found = clear(system(debts, cash - hit, outside))
    share = np.divide(found.paid, found.owed, out=np.ones_like(cash), where=found.owed > 0)
    lost = (debts * (1 - share)[:, None]).sum(axis=0)
    assert np.all(lost <= cascade.lost + 1e-8)


def slow_network(seed: int, leak: float) -> System:
    rng = np.random.default_rng(seed)
    n, edges = 300, 3000
    i, j = rng.integers(0, n, edges), rng.integers(0, n, edges)
    debts = edges_to_matrix(i[i != j], j[i != j], rng.lognormal(0, 1, int((i != j).sum())), n)
    total = debts.sum(axis=1)
    return system(debts, 0.9 * leak * total * rng.uniform(0.4, 1.4, n), leak * total)


@pytest.mark.parametrize("costs", [(1.0, 1.0), (0.9, 0.9999), (0.5, 0.95)])
@pytest.mark.parametrize("leak", [0.3, 0.01])
def test_every_path_of_the_solver_reaches_the_plain_iteration(costs: tuple[float, float], leak: float) -> None:
    for seed in range(3):
        net = slow_network(seed, leak)
        found, plain = clear(net, *costs), clear_by_picard(net, *costs, tolerance=1e-14)
        np.testing.assert_allclose(found.paid, plain.value, rtol=1e-9)
        if leak == 0.01 and costs[1] > 0.99:
            assert found.jumps > 0
            assert plain.rounds > 5 * found.rounds


@given(networks(8), st.sampled_from([(1.0, 1.0), (0.5, 0.7)]))
def test_compiled_form_equals_the_plain_one_to_1e_12(net: tuple, costs: tuple[float, float]) -> None:
    debts, cash, outside = net
    built = system(debts, cash, outside + debts.sum(axis=1) + 1)  # half of all debts outside: fast to converge
    plain = clear_by_picard(built, *costs, tolerance=1e-16)
    floor = 1e-14 * (1.0 + debts.sum())  # what is left of nothing after rounding is no payment
    np.testing.assert_allclose(clear(built, *costs, tolerance=1e-14).paid, plain.value, rtol=1e-12, atol=floor)


def test_long_chains_and_rings() -> None:
    """A chain falls node by node; a ring without leaks other than one tooth is where Krylov solvers stall."""
    n = 3000
    order = np.random.default_rng(5).permutation(n)
    chain = edges_to_matrix(order[:-1], order[1:], np.ones(n - 1), n)
    cash = np.zeros(n)
    cash[order[0]] = 0.25
    found = clear(system(chain, cash, np.zeros(n)))
    np.testing.assert_allclose(found.paid[order[:-1]], 0.25)
    ring = edges_to_matrix(np.arange(n), (np.arange(n) + 1) % n, np.ones(n), n)
    out = np.zeros(n)
    out[0] = 0.5
    # p_0 owes 1.5 and pays 2/3 of what it gets to the ring: p_0 = e + (2/3) p_0, so p_0 = 3 e.
    cash = np.zeros(n)
    cash[0] = 0.1
    looped = clear(system(ring, cash, out))
    assert looped.converged
    np.testing.assert_allclose(looped.paid, np.r_[0.3, np.full(n - 1, 0.2)], rtol=1e-9)


def test_closed_cycles_of_spectral_radius_one() -> None:
    """Everyone owes the next and nobody has cash: paying in full is the greatest answer, paying nothing another."""
    ring = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    found = clear(system(ring, 0.0), 0.5, 0.5)
    np.testing.assert_allclose(found.paid, 1.0)
    assert not found.failed.any()
    # one unit owed outside and nothing to pay it with drains the cycle
    drained = clear(system(ring, 0.0, [1, 0, 0]))
    np.testing.assert_allclose(drained.paid, 0.0, atol=1e-10)
    assert drained.failed.all()


def test_empty_single_and_disconnected_networks() -> None:
    empty = clear(system(np.zeros((0, 0)), np.zeros(0)))
    assert empty.converged
    assert len(empty.paid) == 0
    alone = clear(system([[0.0]], [1.0], [3.0]), 0.5, 0.5)
    assert alone.paid.tolist() == [0.5]
    assert alone.lost.tolist() == [0.5]
    with_stranger = np.zeros((4, 4))
    with_stranger[:3, :3] = BASE[0]
    found = clear(system(with_stranger, [*BASE[1], 5], [*BASE[2], 0]))
    np.testing.assert_allclose(found.paid[:3], clear(system(*BASE)).paid)
    assert found.equity[3] == 5


def test_round_limit_is_a_labelled_upper_bound() -> None:
    net = slow_network(1, 0.01)
    cut = clear_by_picard(net, max_rounds=5)
    assert not cut.converged
    assert cut.residual > 1e-12
    assert np.all(cut.value >= clear(net).paid - 1e-9)
    assert not clear(net, max_rounds=1).converged


def test_duplicate_edges_add_and_sparse_equals_dense() -> None:
    twice = sparse.coo_array(
        ([0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 0.5], ([0, 0, 0, 1, 1, 2, 2], [1, 1, 2, 0, 2, 0, 1])), (3, 3)
    )
    np.testing.assert_allclose(clear(system(twice, BASE[1], BASE[2])).paid, clear(system(*BASE)).paid, rtol=1e-14)


def test_the_matrix_of_the_caller_stays_as_it_was() -> None:
    debts = sparse.csr_array(np.array(BASE[0]))
    first = clear(system(debts, *BASE[1:])).paid
    np.testing.assert_array_equal(debts.toarray(), BASE[0])
    np.testing.assert_array_equal(clear(system(debts, *BASE[1:])).paid, first)
    unsorted = sparse.csr_array((np.array([1.0, 1.0]), np.array([1, 1]), np.array([0, 2, 2])), (2, 2))
    furfine_cascade(unsorted, [1, 1])
    assert unsorted.data.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: system([[1.0]], [1.0]), r"\[0, 0\].*itself"),
        (lambda: system([[0, -1], [0, 0]], [1, 1]), r"\[0, 1\]"),
        (lambda: system([[0, float("nan")], [0, 0]], [1, 1]), r"\[0, 1\]"),
        (lambda: system([[0, 1], [0, 0]], [1, -1]), r"outside_assets\[1\]"),
        (lambda: system([[0, 1], [0, 0]], [1, 1, 1]), "match"),
        (lambda: system([[0, 1, 2], [0, 0, 1]], [1, 1]), "square"),
        (lambda: clear(system(*BASE), 1.1, 1), "costs"),
        (lambda: system(sparse.coo_array(([5.0, -3.0], ([0, 0], [1, 1])), (2, 2)), [1, 1]), r"\[0, 1\]"),
        (lambda: system([["a"]], [1.0]), "numbers"),
        (lambda: clear(system(*BASE), tolerance=0.0), "tolerance"),
        (lambda: clear(system(*BASE), tolerance=float("nan")), "tolerance"),
        (lambda: clear_by_picard(system(*BASE), max_rounds=0), "max_rounds"),
        (lambda: clear(system(*BASE)._replace(outside=[1, float("nan"), 1])), r"outside_assets\[1\]"),
        (lambda: clear_by_picard(system(*BASE)._replace(outside=[1, 1, -1])), r"outside_assets\[2\]"),
        (lambda: edges_to_matrix([0], [3], [1.0], 3), "edge 0"),
        (lambda: edges_to_matrix([0, 0.5], [1, 1], [1.0, 1.0], 3), "edge 1"),
        (lambda: edges_to_matrix([0, float("nan")], [1, 1], [1.0, 1.0], 3), "edge 1"),
        (lambda: edges_to_matrix([0, 0], [1, 1], [5.0, -3.0], 3), r"amount\[1\]"),
        (lambda: edges_to_matrix([0, 1], [1], [1.0], 3), "ragged"),
    ],
)
def test_bad_input_names_its_place(call: object, message: str) -> None:
    with pytest.raises(DomainError, match=message):
        call()  # type: ignore[operator]


def test_a_small_node_beside_a_large_one_is_paid_to_its_own_last_digit() -> None:
    """Issue's book: 1e13 owed by node 0, 1 by node 2, who has 0.5 outside: it pays 0.5, and is not called sound."""
    debts = sparse.coo_array(([1e13, 1.0], ([0, 2], [1, 3])), shape=(4, 4))
    found = clear(system(debts, [1e13, 0.0, 0.5, 0.0]))
    assert list(found.paid) == [1e13, 0.0, 0.5, 0.0]
    assert list(found.failed) == [False, False, True, False]
    assert found.equity[3] == 0.5
    assert found.converged
    assert clear_by_picard(system(debts, [1e13, 0.0, 0.5, 0.0])).value[2] == 0.5


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.8, 0.6)])
@pytest.mark.parametrize("seed", range(6))
def test_every_part_of_a_book_clears_as_it_does_alone(alpha: float, beta: float, seed: int) -> None:
    """Systems of sizes 1e-9 to 1e12 put side by side: what each pays, to 1e-9 of what it owes, and who fails."""
    rng = np.random.default_rng(seed)
    blocks, outside = [], []
    for scale in 10.0 ** rng.uniform(-9, 12, 5):
        debts = rng.uniform(0, 1, (6, 6)) * (rng.random((6, 6)) < 0.5)
        np.fill_diagonal(debts, 0.0)
        blocks.append(debts * scale)
        outside.append(rng.uniform(0, 0.8, 6) * scale)
    together = clear(system(sparse.block_diag(blocks), np.concatenate(outside)), alpha, beta)
    assert together.converged
    for i, (debts, cash) in enumerate(zip(blocks, outside, strict=True)):
        alone = clear_by_picard(system(debts, cash), alpha, beta)
        part = slice(6 * i, 6 * i + 6)
        np.testing.assert_allclose(together.paid[part], alone.value, rtol=1e-9, atol=1e-9 * float(np.max(debts)) * 1e-6)
        assert list(together.failed[part]) == list(alone.value < together.owed[part] * (1 - 1e-12))


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.9, 0.8)])
@pytest.mark.parametrize("seed", range(40))
def test_small_debts_survive_the_failure_of_large_debtors(alpha: float, beta: float, seed: int) -> None:
    """Claims of 1e10 to 1e15 that turn out to pay a few units: what is left of them decides who fails."""
    rng = np.random.default_rng(seed)
    debts = np.zeros((6, 6))
    debts[:2, 2:] = rng.random((2, 4)) * 10.0 ** rng.uniform(10, 15)
    debts[2:, 2:] = rng.random((4, 4)) * (rng.random((4, 4)) < 0.6) * (1 - np.eye(4))
    market = system(debts, [3 * rng.random(), 3 * rng.random(), 0.0, 0.0, 0.0, 0.0])
    found, plain = clear(market, alpha, beta, max_rounds=2000), clear_by_picard(market, alpha, beta)
    assert found.converged
    np.testing.assert_allclose(found.paid, plain.value, rtol=1e-10, atol=0)
    assert list(found.failed) == list(plain.value < market.owed * (1 - 1e-12))


@pytest.mark.parametrize("scale", [1e3, 1e9, 1e15, 1e24])
@pytest.mark.parametrize("between", [0, 1, 4])
def test_a_small_creditor_of_a_large_debtor_is_cleared_right(scale: float, between: int) -> None:
    """A large debtor with 0.1 in cash owes half to a chain that ends in a node which owes it 1.

    All fail and pass on what they get: the large one pays p = 0.1 + p/2, that is 0.2, and each of the chain 0.1.
    """
    n = between + 2
    sizes = np.geomspace(scale, 1.0, n)
    debts = np.zeros((n + 1, n + 1))  # the last is the outside half of the large debt
    debts[0, 1] = debts[0, n] = sizes[0] / 2.0
    for i in range(1, n):
        debts[i, (i + 1) % n] = sizes[i]
    for factor in (1.0, 1e-9, 1e6):
        found = clear(system(debts * factor, np.r_[0.1, np.zeros(n)] * factor))
        assert found.converged
        assert found.paid / factor == pytest.approx([0.2, *[0.1] * (n - 1), 0.0], rel=1e-9)
        assert list(found.failed) == [True] * n + [False]


def test_debts_beyond_float64_are_refused() -> None:
    for amount in (1e308, 1e-320):
        with pytest.raises(DomainError, match=r"float64|1e308"):
            clear(system([[0.0, amount], [amount, 0.0]], [0.0, 0.0], [amount, 0.0]))
