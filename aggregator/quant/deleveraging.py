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
from aggregator.quant._checks import broadcast, floats, representable, require
from aggregator.quant.impact import exponential_impact
from aggregator.quant.network import Floats, as_vector, check_solver


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


@representable
def sale_fraction(
    illiquid: npt.ArrayLike, marketable: npt.ArrayLike, capital: npt.ArrayLike, loss: npt.ArrayLike,
    max_leverage: float, target_leverage: float,
) -> Floats:  # fmt: skip
    """Gamma of (1), broadcasting, in money; 0 where leverage is allowed or nothing is marketable.

    DomainError for leverage bounds out of order and a figure that is not finite.
    """
    if not 1.0 <= target_leverage <= max_leverage < np.inf:
        raise DomainError(
            "leverage bounds are out of order",
            expected="1 <= target <= max < inf",
            found=f"{target_leverage}, {max_leverage}",
        )
    theta, pi, c, lost = broadcast(illiquid=illiquid, marketable=marketable, capital=capital, loss=loss)
    for name, figure in (("illiquid", theta), ("marketable", pi), ("capital", c), ("loss", lost)):
        require(name, figure, np.isfinite(figure), "a finite number")
    require("marketable", pi, pi >= 0.0, ">= 0")
    assets, own = theta + pi - lost, c - lost
    excess = np.clip((assets - target_leverage * own) / np.where(pi > 0.0, pi, 1.0), 0.0, 1.0)
    gamma = np.where(own <= 0.0, 1.0, np.where(assets > max_leverage * own, excess, 0.0))
    return np.where(pi > 0.0, gamma, 0.0)


@representable
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
    """Rounds of (1) and (2) after an initial loss (N,) on the illiquid assets.

    holdings (N, K) >= 0, illiquid (N,) >= 0, capital (N,), depth (K,) > 0, all in one money; floor_frac in [0, 1);
    execution in [0, 1].  DomainError names a figure out of range.
    """
    pi = np.array(_holdings(holdings))
    check_solver(1e-12, max_rounds)
    n, k = pi.shape
    require("execution", execution, 0.0 <= execution <= 1.0, "0 <= execution <= 1")
    hit = as_vector(loss, n, "loss")
    theta = as_vector(illiquid, n, "illiquid") - hit
    c = as_vector(capital, n, "capital", signed=True) - hit
    d = as_vector(depth, k, "depth", positive=True)
    sold, price, moved = np.zeros_like(pi), np.ones(k), np.zeros(k)
    history: list[Floats] = []
    volume, rounds, done, dust = np.inf, 0, False, 1e-12 * pi.sum(axis=1)
    while rounds < max_rounds:
        gamma = sale_fraction(theta, pi.sum(axis=1), c, 0.0, max_leverage, target_leverage)
        sale = gamma[:, None] * pi
        volume = float(sale.sum())
        done = bool(np.all(sale.sum(axis=1) <= dust))  # each holder's by its own book
        if done:
            break
        rounds += 1
        # Impact is a function of everything sold so far: rounds walk down one curve, they do not restart it.
        before = exponential_impact(moved, d, floor_frac)
        # A price that a sale has driven to nothing has nothing left to sell or to lose.
        moved += np.divide(sale.sum(axis=0), price, out=np.zeros(k), where=price > 0.0)
        drop = np.divide(
            exponential_impact(moved, d, floor_frac) - before, 1.0 - before, out=np.zeros(k), where=before < 1.0
        )
        lost = ((pi - sale) * drop).sum(axis=1) + (sale * drop * execution).sum(axis=1)
        pi, c, price = (pi - sale) * (1.0 - drop), c - lost, price * (1.0 - drop)
        sold += sale
        history.append(lost)
    losses = np.array(history) if history else np.zeros((0, n))
    return Deleveraging(pi, c, sold, price, losses, rounds, 0.0 if done else volume, done)


class Overlap(NamedTuple):
    """weight (N,) >= 0 summing to 1, the index; eigenvalue of Omega; omega (N, N); unique: no other vector has that
    eigenvalue (two strangers of equal overlap have many: then equal exposure to all is projected on them)."""

    weight: Floats
    eigenvalue: float
    omega: Floats
    unique: bool


@representable
def indirect_contagion_index(holdings: npt.ArrayLike, depth: npt.ArrayLike) -> Overlap:
    """Principal eigenvector of the overlap Omega.  holdings (N, K) >= 0, depth (K,) > 0.

    DomainError if nobody holds anything.
    """
    pi = _holdings(holdings)
    if not pi.any():
        raise DomainError("nobody holds anything", expected="a holding > 0", found="all zero")
    omega = (pi / as_vector(depth, pi.shape[1], "depth", positive=True)) @ pi.T
    value, vector = linalg.eigh(omega)
    top = vector[:, value >= value[-1] * (1.0 - 1e-10)]
    weight = np.abs(top @ top.sum(axis=0))  # Perron: one sign up to rounding
    return Overlap(weight / weight.sum(), float(value[-1]), omega, top.shape[1] == 1)


def _holdings(holdings: npt.ArrayLike) -> Floats:
    pi = np.atleast_2d(floats("holdings", holdings))
    if pi.ndim != 2:
        raise DomainError("holdings are no table", expected="(N, K)", found=str(pi.shape))
    require("holdings", pi, (pi >= 0.0) & np.isfinite(pi), "finite and >= 0")
    return pi
