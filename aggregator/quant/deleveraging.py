"""Deleveraging in rounds over common holdings (Cont and Schaanning 2017, doi:10.2139/ssrn.2541114).

Bank i holds marketable assets Pi (N, K), illiquid assets Theta (N,) and capital C (N,).  After a loss L its leverage is
(Theta + Pi - L)/(C - L).  Above lambda_max it sells, in proportion to its holdings, the fraction

    Gamma = min(1, (Theta + Pi - L - lambda_b*(C - L)) / Pi),   1 if C <= L,                            (1)

which brings leverage to lambda_b.  The sales q_mu of all banks move prices by

    Psi(q) = (1 - phi)*(1 - exp(-q/((1 - phi)*D_mu))),                                                 (2)

and every holding is marked again; what is sold is sold at the share `execution` of the move (1/2: halfway).  Rounds go
on until nobody sells.  With q in units at the first prices, rounds of (2) from the price S already reached walk down
one curve, S' = phi + (S - phi)*exp(-q/((1 - phi)*D_mu)).

Portfolio overlap Omega_ij = sum_mu Pi_i Pi_j / D_mu; its principal eigenvector is the indirect contagion index (Cont
and Schaanning 2019, Journal of Banking & Finance 104): to first order, Omega_ij is the loss of j when i sells all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg

from aggregator.core.errors import DomainError
from aggregator.quant._checks import require
from aggregator.quant.impact import exponential_impact
from aggregator.quant.network import Floats, as_vector


class Deleveraging(NamedTuple):
    """holdings (N, K) left at the last prices; capital (N,); sold (N, K) at pre-round marks, all rounds; price (K,)
    relative to the start; loss_by_round (rounds, N); rounds; residual: value sold in the last round; converged: 0."""

    holdings: Floats
    capital: Floats
    sold: Floats
    price: Floats
    loss_by_round: Floats
    rounds: int
    residual: float
    converged: bool


def sale_fraction(
    illiquid: npt.ArrayLike, marketable: npt.ArrayLike, capital: npt.ArrayLike, loss: npt.ArrayLike,
    max_leverage: float, target_leverage: float,
) -> Floats:  # fmt: skip
    """Gamma of (1), broadcasting; 0 where leverage is allowed or nothing is marketable."""
    if not 1.0 <= target_leverage <= max_leverage:
        raise DomainError(
            "leverage bounds are out of order",
            expected="1 <= target <= max",
            found=f"{target_leverage}, {max_leverage}",
        )
    theta, pi, c, lost = (np.asarray(v, dtype=np.float64) for v in (illiquid, marketable, capital, loss))
    assets, own = theta + pi - lost, c - lost
    excess = np.clip((assets - target_leverage * own) / np.where(pi > 0.0, pi, 1.0), 0.0, 1.0)
    gamma = np.where(own <= 0.0, 1.0, np.where(assets > max_leverage * own, excess, 0.0))
    return np.where(pi > 0.0, gamma, 0.0)


def deleverage(
    holdings: npt.ArrayLike,
    illiquid: npt.ArrayLike,
    capital: npt.ArrayLike,
    depth: npt.ArrayLike,
    loss: npt.ArrayLike,
    max_leverage: float,
    target_leverage: float,
    floor_frac: float = 0.0,
    execution: float = 0.5,
    max_rounds: int = 1000,
) -> Deleveraging:
    """Rounds of (1) and (2) after an initial loss (N,) on the illiquid assets.  holdings (N, K), depth (K,) > 0."""
    pi = np.array(np.atleast_2d(np.asarray(holdings, dtype=np.float64)))
    n, k = pi.shape
    require("holdings", pi, (pi >= 0.0) & np.isfinite(pi), "finite and >= 0")
    require("execution", execution, 0.0 <= execution <= 1.0, "0 <= execution <= 1")
    hit = as_vector(loss, n, "loss")
    theta = as_vector(illiquid, n, "illiquid") - hit
    c = as_vector(capital, n, "capital", signed=True) - hit
    d = as_vector(depth, k, "depth", positive=True)
    sold, price, moved = np.zeros_like(pi), np.ones(k), np.zeros(k)
    history: list[Floats] = []
    volume, rounds = np.inf, 0
    while rounds < max_rounds:
        gamma = sale_fraction(theta, pi.sum(axis=1), c, 0.0, max_leverage, target_leverage)
        sale = gamma[:, None] * pi
        volume = float(sale.sum())
        if volume <= 1e-12 * float(pi.sum() + 1.0):
            break
        rounds += 1
        # Impact is a function of everything sold so far: rounds walk down one curve, they do not restart it.
        before = exponential_impact(moved, d, floor_frac)
        moved += sale.sum(axis=0) / price
        drop = (exponential_impact(moved, d, floor_frac) - before) / (1.0 - before)
        lost = ((pi - sale) * drop).sum(axis=1) + (sale * drop * execution).sum(axis=1)
        pi, c, price = (pi - sale) * (1.0 - drop), c - lost, price * (1.0 - drop)
        sold += sale
        history.append(lost)
    losses = np.array(history) if history else np.zeros((0, n))
    done = volume <= 1e-12 * float(pi.sum() + 1.0)
    return Deleveraging(pi, c, sold, price, losses, rounds, 0.0 if done else volume, done)


class Overlap(NamedTuple):
    """weight (N,) >= 0 summing to 1, the index; eigenvalue of Omega; omega (N, N)."""

    weight: Floats
    eigenvalue: float
    omega: Floats


def indirect_contagion_index(holdings: npt.ArrayLike, depth: npt.ArrayLike) -> Overlap:
    """Principal eigenvector of the overlap Omega.  holdings (N, K) >= 0, depth (K,) > 0.

    DomainError if nobody holds anything.
    """
    pi = np.atleast_2d(np.asarray(holdings, dtype=np.float64))
    require("holdings", pi, (pi >= 0.0) & np.isfinite(pi), "finite and >= 0")
    if not pi.any():
        raise DomainError("nobody holds anything", expected="a holding > 0", found="all zero")
    omega = (pi / as_vector(depth, pi.shape[1], "depth", positive=True)) @ pi.T
    top = len(pi) - 1
    value, vector = linalg.eigh(omega, subset_by_index=(top, top))
    weight = np.abs(vector[:, 0])  # Perron: one sign up to rounding
    return Overlap(weight / weight.sum(), float(value[0]), omega)
