"""Network valuation (NEVA): equities as the fixed point of how claims on each other are valued.

    E_i = A_i^e - L_i^e - L_i + sum_j A_ij V_j(E_j),   L_i interbank liabilities, A_ij claim of i on j           (1)

Barucca et al. 2020, doi:10.1111/mafi.12272.  V_j in [0, 1] is non-decreasing, so the map is monotone; downward from all
claims at par it reaches the greatest solution.  Valuations offered, with L_tot all liabilities of j:

    furfine        1 if E > 0 else R
    linear         clip(E / E_book, 0, 1)                                                  linear DebtRank
    junior         clip((E + L_inter) / L_inter, 0, 1)                                     interbank debt junior
    pari_passu     clip((E + L_tot) / L_tot, 0, 1)                                         Eisenberg-Noe
    rogers_veraart 1 if E >= 0 else (alpha*A^e + beta*(E + L_tot - A^e)) / L_tot
    black_cox      1 + (R - 1)*PD, first passage of a driftless geometric asset value through its liabilities
    merton         1 + (R - 1)*PD at maturity

A valuation is a function of all equities (n,) -> (n,), so no closure can capture one bank's index for another's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, representable, require
from aggregator.quant.network import Floats, Matrix, as_network, as_vector, iterate_down

Valuation = Callable[[Floats], Floats]


class Valued(NamedTuple):
    """equity (n,) (negative: shortfall), value (n,) per unit of claim on each node, book equity (n,), and the solver's
    rounds, residual (each node's relative to what it holds and owes) and converged."""

    equity: Floats
    value: Floats
    book: Floats
    rounds: int
    residual: float
    converged: bool


@representable
def solve_neva(
    claims: Matrix,
    outside_assets: npt.ArrayLike,
    outside_liabilities: npt.ArrayLike,
    valuation: Valuation,
    shock: npt.ArrayLike = 0.0,
    tolerance: float = 1e-12,
    max_rounds: int = 100_000,
) -> Valued:
    """Greatest solution of (1) after `shock` (n,) is taken off outside assets.  claims[i, j]: i is owed by j.

    DomainError for bad figures, or a valuation that leaves [0, 1] or rises when equities fall.
    """
    network = as_network(claims, "claims")
    n = network.shape[0]
    cash = as_vector(outside_assets, n, "outside_assets") - as_vector(outside_liabilities, n, "outside_liabilities")
    owed = np.asarray(network.sum(axis=0)).ravel()
    book = cash + np.asarray(network.sum(axis=1)).ravel() - owed
    left = cash - as_vector(shock, n, "shock", signed=True)

    last = np.ones(n)

    def once(equity: Floats) -> Floats:
        nonlocal last
        try:
            value = floats("valuation", valuation(equity))
        except ValueError as error:  # figures for another number of nodes
            raise DomainError("valuation does not fit the network", expected=f"({n},)", found=str(error)) from None
        if value.shape != (n,):
            raise DomainError("valuation does not fit the network", expected=f"({n},)", found=str(value.shape))
        require("value", value, (value >= 0.0) & (value <= 1.0), "in [0, 1]")
        # Equities only fall on the way down, so a value that rises does so although equities fell.
        require("value", value, value <= last + 1e-12, "not to rise when equities fall")
        last = value
        return np.asarray(left - owed + network @ value)

    held = np.asarray(network.sum(axis=1)).ravel()
    size = np.maximum(np.abs(left) + owed + held, np.finfo(np.float64).tiny)
    found = iterate_down(once, left - owed + held, tolerance, max_rounds, size=size)
    return Valued(found.value, valuation(found.value), book, found.rounds, found.residual, found.converged)


@representable
def book_figures(
    claims: Matrix, outside_assets: npt.ArrayLike, outside_liabilities: npt.ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """(book equity, interbank liabilities, all liabilities), each (n,), as the valuations below want them."""
    network = as_network(claims, "claims")
    n = network.shape[0]
    owed = np.asarray(network.sum(axis=0)).ravel()
    b = as_vector(outside_liabilities, n, "outside_liabilities")
    own = as_vector(outside_assets, n, "outside_assets") + np.asarray(network.sum(axis=1)).ravel() - owed - b
    return own, owed, owed + b


def furfine(recovery_frac: float = 0.0) -> Valuation:
    """Par above zero equity (n,), recovery_frac in [0, 1] of it at or below."""
    recovery = _fraction("recovery_frac", recovery_frac)
    return lambda equity: np.where(equity > 0.0, 1.0, recovery)


def linear(book_equity: npt.ArrayLike) -> Valuation:
    """Share of the book equity (n,) that is left, in [0, 1]; 0 where there was none."""
    book = floats("book_equity", book_equity)
    require("book_equity", book, np.isfinite(book), "finite")
    return lambda equity: np.where(book > 0.0, np.clip(equity / np.where(book > 0.0, book, 1.0), 0.0, 1.0), 0.0)


def recovery_of(liabilities: npt.ArrayLike) -> Valuation:
    """Eisenberg-Noe: what is left for `liabilities` (interbank only: junior; all: pari passu).  No debt is at par."""
    owed = floats("liabilities", liabilities)
    require("liabilities", owed, (owed >= 0.0) & np.isfinite(owed), "finite and >= 0")
    safe = np.where(owed > 0.0, owed, 1.0)
    return lambda equity: np.where(owed > 0.0, np.clip((equity + owed) / safe, 0.0, 1.0), 1.0)


def rogers_veraart(outside_assets: npt.ArrayLike, liabilities: npt.ArrayLike, alpha: float, beta: float) -> Valuation:
    """outside_assets (n,) after the shock, all liabilities (n,); alpha, beta as in `clearing`."""
    e, owed = floats("outside_assets", outside_assets), floats("liabilities", liabilities)
    require("outside_assets", e, np.isfinite(e), "finite")
    require("liabilities", owed, (owed >= 0.0) & np.isfinite(owed), "finite and >= 0")
    a, b = _fraction("alpha", alpha), _fraction("beta", beta)
    safe = np.where(owed > 0.0, owed, 1.0)

    def value(equity: Floats) -> Floats:
        estate = a * e + b * np.maximum(equity + owed - e, 0.0)
        return np.where((equity >= -1e-12 * owed) | (owed == 0.0), 1.0, np.clip(estate / safe, 0.0, 1.0))

    return value


def merton(assets: npt.ArrayLike, sigma: npt.ArrayLike, recovery_frac: float = 0.0) -> Valuation:
    """Ex ante: PD = N[(s^2/2 + ln(1 - E/A)) / s], assets A now (n,), volatility s to maturity (n,), debt A - E."""
    a, s = floats("assets", assets), floats("sigma", sigma)
    recovery = _fraction("recovery_frac", recovery_frac)
    require("assets", a, (a > 0.0) & np.isfinite(a), "finite and > 0")
    require("sigma", s, (s > 0.0) & np.isfinite(s), "finite and > 0")

    def value(equity: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            distance = np.log(np.maximum(1.0 - equity / a, 0.0))
        return np.where(equity < 0.0, recovery, 1.0 + (recovery - 1.0) * ndtr(s / 2.0 + distance / s))

    return value


def black_cox(assets: npt.ArrayLike, sigma: npt.ArrayLike, recovery_frac: float = 0.0) -> Valuation:
    """Ex ante with default at first passage: with k = ln(1 - E/A) and drift -s^2/2 of log assets,
    PD = N[(k + s^2/2)/s] + e^-k N[(k - s^2/2)/s], and 1 for E <= 0."""
    a, s = floats("assets", assets), floats("sigma", sigma)
    recovery = _fraction("recovery_frac", recovery_frac)
    require("assets", a, (a > 0.0) & np.isfinite(a), "finite and > 0")
    require("sigma", s, (s > 0.0) & np.isfinite(s), "finite and > 0")

    def value(equity: Floats) -> Floats:
        debt = np.clip(1.0 - equity / a, 1e-300, None)
        k = np.minimum(np.log(debt), 0.0)
        # The image term is e^(2*mu*k/s^2) = e^-k; where k is very low its normal factor underflows first.
        image = np.exp(-k) * ndtr(k / s - s / 2.0)
        default = np.where(equity <= 0.0, 1.0, np.clip(ndtr(k / s + s / 2.0) + image, 0.0, 1.0))
        return 1.0 + (recovery - 1.0) * default

    return value


def _fraction(name: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise DomainError(f"{name} is out of range", expected="0 <= value <= 1", found=str(value))
    return value
