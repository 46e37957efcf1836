r"""SVI: one expiry's smile as five numbers, fitted free of butterfly arbitrage.

Total variance :math:`w=\sigma_{imp}^2T` against log-moneyness :math:`k=\ln(K/F)`
(Gatheral & Jacquier 2014, doi:10.1080/14697688.2013.819986, eq. 3.1, 2.1-2.2, 3.5, sec. 5.1):

.. math::
   w(k) &= a + b\,[\rho(k-m) + \sqrt{(k-m)^2+\sigma^2}]                                     \tag{1}\\
   g(k) &= \Bigl(1-\frac{k w'}{2w}\Bigr)^2 - \frac{w'^2}{4}\Bigl(\frac1w+\frac14\Bigr) + \frac{w''}2 \ge 0 \tag{2}

Which smiles are free of arbitrage: `_svi_shape`, whose names stand here too.

The jump-wing form names at-the-money variance, skew, wing slopes, minimum:

.. math::
   v_tT=w(0),\quad \psi=\frac{b}{2\sqrt{w(0)}}\Bigl(\rho-\frac{m}{\sqrt{m^2+\sigma^2}}\Bigr),\quad
   p=\frac{b(1-\rho)}{\sqrt{w(0)}},\quad c=\frac{b(1+\rho)}{\sqrt{w(0)}},\quad
   \tilde vT=a+b\sigma\sqrt{1-\rho^2}                                                        \tag{3}

Fit: for fixed :math:`(m,\sigma)` (1) is linear in :math:`(a, b\rho\sigma, b\sigma)` on a convex set, so only two
parameters are searched (Zeliade 2009, quasi-explicit calibration); the three others are exact, the best optimum among
the faces of the box.  A fit with :math:`g<0` somewhere is first moved along the segment towards
:math:`c^*=p+2\psi,\ \tilde v^*=4v_tpc^*/(p+c^*)^2`, just far enough, or, where that end has :math:`g<0` too, towards
its mean variance; then the closest smile with :math:`g>0` is searched from there.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, representable
from aggregator.quant._svi_shape import Calendar as Calendar
from aggregator.quant._svi_shape import Svi, butterfly, derivatives, is_free, least_butterfly, rungs
from aggregator.quant._svi_shape import butterfly_of as butterfly_of
from aggregator.quant._svi_shape import calendar as calendar
from aggregator.quant._svi_shape import total_variance as total_variance

Floats = npt.NDArray[np.float64]
LEAST_VOL = 1e-6  # below it a quote is a slip of units
_FORBIDDEN = 1e30  # finite, so that the simplex search can subtract it
_CORNERS = np.array(list(product((0, 1), repeat=3)))  # of a box in three unknowns


class JumpWings(NamedTuple):
    """Jump-wing parameters of (3): at-the-money variance, skew, put and call slopes, minimum variance (per year)."""

    v: float
    psi: float
    p: float
    c: float
    v_min: float


class SviFit(NamedTuple):
    """params; root mean square and largest error in volatility; least g of (2) over all k, positive by `is_free`;
    whether (2) had to move it."""

    params: Svi
    rms_vol: float
    worst_vol: float
    least_g: float
    moved: bool


@representable
def to_jump_wings(params: Svi, T_yr: float) -> JumpWings:
    """Eq. (3)."""
    a, b, rho, m, sigma = params
    w = float(total_variance(params, 0.0))
    if not (w > 0.0 and 0.0 < T_yr < np.inf):
        raise DomainError("no variance at the money", expected="w(0) > 0, 0 < T_yr < inf", found=f"{w}, {T_yr}")
    root = np.sqrt(w)
    return JumpWings(
        w / T_yr,
        0.5 * b / root * (rho - m / np.hypot(m, sigma)),
        b * (1.0 - rho) / root,
        b * (1.0 + rho) / root,
        (a + b * sigma * np.sqrt(1.0 - rho * rho)) / T_yr,
    )


@representable
def from_jump_wings(wings: JumpWings, T_yr: float) -> Svi:
    """Inverse of (3) (Gatheral & Jacquier 2014, lemma 3.2)."""
    v, psi, p, c, v_min = wings
    if not (np.all(np.isfinite(wings)) and v > 0.0 and v_min >= 0.0 and 0.0 < T_yr < np.inf):
        raise DomainError("not jump wings", expected="finite, v > 0, v_min >= 0, T_yr > 0", found=f"{wings}, {T_yr}")
    w = v * T_yr
    root = np.sqrt(w)
    b = 0.5 * root * (c + p)
    rho = 1.0 - p * root / b if b > 0.0 else 0.0
    beta = rho - 2.0 * psi * root / b if b > 0.0 else 0.0
    if not (b > 0.0 and abs(beta) <= 1.0 and abs(rho) <= 1.0):
        raise DomainError("no SVI smile has these jump wings", expected="b > 0, |rho|, |beta| <= 1", found=str(wings))
    if abs(beta) < 1e-12:
        # m = 0: the smile's centre is at the money
        if abs(rho) < 1e-9:
            raise DomainError(
                "a smile that is symmetric about the money is not fixed by its jump wings", found=str(wings)
            )
        m, sigma = 0.0, (w - v_min * T_yr) / (b * (1.0 - np.sqrt(1.0 - rho * rho)))
        a = w - b * sigma
    else:
        alpha = np.sign(beta) * np.sqrt(1.0 / beta**2 - 1.0)
        spread = -rho + np.sign(alpha) * np.sqrt(1.0 + alpha**2) - alpha * np.sqrt(1.0 - rho * rho)
        m = (v - v_min) * T_yr / (b * spread)
        sigma = alpha * m
        a = v_min * T_yr - b * sigma * np.sqrt(1.0 - rho * rho)
    if not sigma > 0.0:
        raise DomainError("no SVI smile has these jump wings", expected="sigma > 0", found=f"sigma {sigma} of {wings}")
    return Svi(float(a), float(b), float(rho), float(m), float(sigma))


@representable
def repair(params: Svi, T_yr: float) -> Svi:
    """The nearest smile on the segment to the arbitrage-free jump wings (module docstring), to 1e-4 of its length."""
    wings = to_jump_wings(params, T_yr)
    c_star = wings.p + 2.0 * wings.psi
    if not (c_star > 0.0 and wings.p > 0.0):
        raise DomainError(
            "this smile has no arbitrage-free neighbour of its kind", expected="p + 2 psi > 0", found=str(wings)
        )
    v_star = 4.0 * wings.v * wings.p * c_star / (wings.p + c_star) ** 2

    def along(step: float) -> Svi:
        c = wings.c + step * (c_star - wings.c)
        return from_jump_wings(wings._replace(c=c, v_min=wings.v_min + step * (v_star - wings.v_min)), T_yr)

    if not is_free(along(1.0)):
        raise DomainError("the published repair does not free this smile", expected="g > 0", found=str(wings))
    return along(_least_step(along))


@representable
def fit(k: npt.ArrayLike, *, T_yr: float, vol: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> SviFit:
    """Smile through volatilities of one expiry, free of butterfly arbitrage at every k.

    k, vol, weight: shape (n,), with five different k = ln(K/F) at least, as there are five parameters.  Weights
    multiply squared errors in volatility, (w - w_quote)/(2 vol T).  DomainError on too few strikes, NaN (index named)
    or T_yr <= 0.
    """
    x, sigma = floats("k", k), floats("vol", vol)
    u = np.ones_like(x) if weight is None else floats("weight", weight)
    check_smile(x, T_yr, vol=sigma, weight=u, need=5)
    w, root = sigma**2 * T_yr, np.sqrt(u / np.sum(u)) / (2.0 * sigma * T_yr)
    span = max(float(np.ptp(x)), 1e-3)

    def inner(z: Floats) -> tuple[float, Svi]:
        params = _best_level_and_wings(x, w, root, float(z[0]), float(np.exp(np.clip(z[1], -12, 3))))
        return float(np.sum((root * (derivatives(params, x)[0] - w)) ** 2)), params

    found = []
    for log_width in np.log([0.05 * span, 0.3 * span]):
        start = np.array([x[np.argmin(w)], log_width])
        simplex = start + np.array([[0.0, 0.0], [0.1 * span, 0.0], [0.0, 0.5]])
        options = {"xatol": 1e-8, "fatol": 1e-18, "maxiter": 400, "initial_simplex": simplex}
        found.append(inner(minimize(lambda z: inner(z)[0], start, method="Nelder-Mead", options=options).x))
    params, moved = min(found, key=lambda pair: pair[0])[1], False
    if not is_free(params):
        params, moved = _closest_free(params, T_yr, x, w, root), True
    error = np.sqrt(derivatives(params, x)[0] / T_yr) - sigma
    rms = float(np.sqrt(np.average(error**2, weights=u)))
    return SviFit(params, rms, float(np.max(np.abs(error))), least_butterfly(params)[0], moved)


def _best_level_and_wings(k: Floats, w: Floats, root: Floats, m: float, s: float) -> Svi:
    """The smile of least weighted squared error at fixed m and sigma, within Lee's bound and with positive variance."""
    y = (k - m) / s
    z = np.sqrt(y * y + 1.0)
    # w = a + p (z - y) + q (z + y): b = (p + q)/s, rho = (q - p)/(p + q); b (1 + |rho|) <= 2 is p, q <= s
    basis, level = np.linalg.qr(np.column_stack([np.ones_like(y), z - y, z + y]) * root[:, None])
    target, high = basis.T @ (w * root), float(np.max(w)) + 1e-12
    for floor in (-2.0 * high, 0.0):
        a, p, q = _box_least_squares(level, target, np.array([floor, 0.0, 0.0]), np.array([high, s, s]))
        # a may be negative as long as the least variance, a + b s sqrt(1 - rho^2), is not
        if a + 2.0 * np.sqrt(p * q) > 1e-6 * float(np.min(w)):
            break
    return Svi(a, (p + q) / s, (q - p) / (p + q) if p + q > 0.0 else 0.0, m, s)


def _box_least_squares(matrix: Floats, target: Floats, low: Floats, high: Floats) -> tuple[float, float, float]:
    """min |matrix x - target| over low <= x <= high in three unknowns: inside, or the best of faces, edges, corners."""
    x = np.linalg.lstsq(matrix, target, rcond=None)[0]
    if not np.all((x >= low) & (x <= high)):
        gram, pull, ends = matrix.T @ matrix, matrix.T @ target, np.array([low, high])
        corners = ends[_CORNERS, np.arange(3)]
        trials = [corners]
        for i, j, k in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
            room = gram[i, i] * gram[j, j] - gram[i, j] ** 2
            if room > 1e-14 * gram[i, i] * gram[j, j]:  # else the optimum of the face is on one of its edges too
                a, b = pull[i] - gram[i, k] * ends[:, k], pull[j] - gram[j, k] * ends[:, k]
                face = ends.copy()
                face[:, i] = (a * gram[j, j] - b * gram[i, j]) / room
                face[:, j] = (b * gram[i, i] - a * gram[i, j]) / room
                trials.append(face)
        for i in range(3):
            edge = corners[_CORNERS[:, i] == 0]
            edge[:, i] += (pull[i] - edge @ gram[i]) / gram[i, i]
            trials.append(edge)
        points = np.concatenate(trials)
        miss = np.sum((points @ matrix.T - target) ** 2, axis=1)
        x = points[np.argmin(np.where(np.all((points >= low) & (points <= high), axis=1), miss, np.inf))]
    return float(x[0]), float(x[1]), float(x[2])


def _flattened(params: Svi, level: float) -> Svi:
    """The smile drawn towards the constant variance `level`, just far enough to be free."""

    def along(step: float) -> Svi:
        return params._replace(a=params.a + step * (level - params.a), b=params.b * (1.0 - step))

    return along(_least_step(along))


def _least_step(along: Callable[[float], Svi]) -> float:
    """The least step in (0, 1], to 1e-4, that bisection finds to be free; 1 is taken to be."""
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if is_free(along(middle)) else (middle, high)
    return high


def _closest_free(fitted: Svi, T_yr: float, k: Floats, w: Floats, root: Floats) -> Svi:
    """The best-fitting free smile near the repaired one, or near one that is flat enough."""

    def loss(z: Floats) -> float:
        if not (np.all(np.abs(z[[1, 4]]) < 14.0) and np.all(np.isfinite(z))):
            return _FORBIDDEN  # no smile of quotes is a millionth wide
        rho, b, sigma = float(np.tanh(z[2])), float(np.exp(z[1])), float(np.exp(z[4]))
        trial = Svi(float(z[0]), b, rho, float(z[3]), sigma)
        if not z[0] + b * sigma * np.sqrt(1.0 - rho * rho) > 0.0 or b * (1.0 + abs(rho)) > 2.0:
            return _FORBIDDEN
        g = butterfly(trial, rungs(trial))
        return float(_FORBIDDEN if np.min(g) < 0.0 else np.sum((root * (derivatives(trial, k)[0] - w)) ** 2))

    try:
        start = repair(fitted, T_yr)
    except DomainError:
        start = _flattened(fitted, float(np.mean(w)))
    tilt = float(np.arctanh(np.clip(start.rho, -1.0 + 1e-12, 1.0 - 1e-12)))
    found = np.array([start.a, np.log(start.b), tilt, start.m, np.log(start.sigma)])
    for _ in range(3):  # a fresh simplex escapes a collapsed one
        simplex = np.vstack([found, found + 0.02 * np.eye(5)])
        options = {"maxiter": 600, "xatol": 1e-7, "fatol": 1e-14, "initial_simplex": simplex}
        found = minimize(loss, found, method="Nelder-Mead", options=options).x
    best = Svi(
        float(found[0]), float(np.exp(found[1])), float(np.tanh(found[2])), float(found[3]), float(np.exp(found[4]))
    )
    if loss(found) == _FORBIDDEN:
        return start
    if is_free(best):
        return best
    flat = _flattened(best, float(np.mean(w)))  # g < 0 between the rungs: a hair's breadth away
    return flat if is_free(flat) else start


def check_smile(k: Floats, T_yr: float, *, vol: Floats, weight: Floats, need: int) -> None:
    """DomainError naming the first unusable quote of a smile, or that there are fewer than `need`."""
    if not k.shape == vol.shape == weight.shape or k.ndim != 1:
        raise DomainError("not a smile", expected="quotes of equal shape (n,)", found=f"{k.shape}, {vol.shape}")
    wrong = ~(np.isfinite(k) & (vol >= LEAST_VOL) & (vol < np.inf) & np.isfinite(weight) & (weight > 0.0))
    if np.any(wrong):
        i = int(np.argmax(wrong))
        raise DomainError(
            f"quote [{i}] of the smile is unusable",
            expected=f"finite k, vol >= {LEAST_VOL}, weight > 0",
            found=f"k={k[i]}, vol={vol[i]}, weight={weight[i]}",
        )
    if np.unique(k).size < need:
        raise DomainError(
            "too few different strikes determine no smile", expected=f"at least {need}", found=str(np.unique(k).size)
        )
    if np.ndim(T_yr) or not 0.0 < T_yr < np.inf:
        raise DomainError("a smile needs one time to expiry", expected="a number T_yr > 0", found=str(T_yr))
