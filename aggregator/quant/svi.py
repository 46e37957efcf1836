r"""SVI: one expiry's smile as five numbers, fitted free of butterfly arbitrage.

Total variance :math:`w=\sigma_{imp}^2T` against log-moneyness :math:`k=\ln(K/F)`
(Gatheral & Jacquier 2014, doi:10.1080/14697688.2013.819986, eq. 3.1, 2.1-2.2, 3.5, sec. 5.1):

.. math::
   w(k) &= a + b\,[\rho(k-m) + \sqrt{(k-m)^2+\sigma^2}]                                     \tag{1}\\
   g(k) &= \Bigl(1-\frac{k w'}{2w}\Bigr)^2 - \frac{w'^2}{4}\Bigl(\frac1w+\frac14\Bigr) + \frac{w''}2 \ge 0 \tag{2}

Risk-neutral density is non-negative exactly where :math:`g\ge0` (and :math:`d_+\to-\infty`); wings need
:math:`b(1+|\rho|)\le 2` (Lee 2004).  The jump-wing form names at-the-money variance, skew, wing slopes, minimum:

.. math::
   v_tT=w(0),\quad \psi=\frac{b}{2\sqrt{w(0)}}\Bigl(\rho-\frac{m}{\sqrt{m^2+\sigma^2}}\Bigr),\quad
   p=\frac{b(1-\rho)}{\sqrt{w(0)}},\quad c=\frac{b(1+\rho)}{\sqrt{w(0)}},\quad
   \tilde vT=a+b\sigma\sqrt{1-\rho^2}                                                        \tag{3}

Fit: for fixed :math:`(m,\sigma)` (1) is linear in :math:`(a, b\rho\sigma, b\sigma)` on a convex set, so only two
parameters are searched (Zeliade 2009, quasi-explicit calibration).  A fit with :math:`g<0` somewhere is first moved
along the segment towards :math:`c^*=p+2\psi,\ \tilde v^*=4v_tpc^*/(p+c^*)^2`, which is free of butterfly
arbitrage, just far enough, then the closest smile with :math:`g\ge0` on GRID is searched from there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import lsq_linear, minimize

from aggregator.core.errors import DomainError

Floats = npt.NDArray[np.float64]
GRID = np.linspace(-3.0, 3.0, 1201)


class Svi(NamedTuple):
    """Raw parameters of (1); a and b in total variance."""

    a: float
    b: float
    rho: float
    m: float
    sigma: float


class JumpWings(NamedTuple):
    """Jump-wing parameters of (3): at-the-money variance, skew, put and call slopes, minimum variance (per year)."""

    v: float
    psi: float
    p: float
    c: float
    v_min: float


class SviFit(NamedTuple):
    """params; root mean square and largest error in volatility; least g of (2) on GRID; whether (2) had to move it."""

    params: Svi
    rms_vol: float
    worst_vol: float
    least_g: float
    moved: bool


def total_variance(params: Svi, k: npt.ArrayLike) -> Floats:
    """w(k) of (1), any shape."""
    return _derivatives(params, np.asarray(k, dtype=np.float64))[0]


def butterfly(params: Svi, k: npt.ArrayLike) -> Floats:
    """g(k) of (2), any shape; negative where the smile admits butterfly arbitrage."""
    x = np.asarray(k, dtype=np.float64)
    return butterfly_of(x, *_derivatives(params, x))


def butterfly_of(k: Floats, w: Floats, slope: Floats, curve: Floats) -> Floats:
    """g of (2) from total variance and its first two derivatives in k."""
    ratio = slope / w
    return np.asarray((1.0 - 0.5 * k * ratio) ** 2 - 0.25 * slope**2 * (1.0 / w + 0.25) + 0.5 * curve, dtype=np.float64)


def to_jump_wings(params: Svi, T_yr: float) -> JumpWings:
    """Eq. (3)."""
    a, b, rho, m, sigma = params
    w = float(total_variance(params, 0.0))
    if not (w > 0.0 and T_yr > 0.0):
        raise DomainError("no variance at the money", expected="w(0) > 0 and T_yr > 0", found=f"{w}, {T_yr}")
    root = np.sqrt(w)
    return JumpWings(
        w / T_yr,
        0.5 * b / root * (rho - m / np.hypot(m, sigma)),
        b * (1.0 - rho) / root,
        b * (1.0 + rho) / root,
        (a + b * sigma * np.sqrt(1.0 - rho * rho)) / T_yr,
    )


def from_jump_wings(wings: JumpWings, T_yr: float) -> Svi:
    """Inverse of (3) (Gatheral & Jacquier 2014, lemma 3.2)."""
    v, psi, p, c, v_min = wings
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
        sigma = (w - v_min * T_yr) / (b * (1.0 - np.sqrt(1.0 - rho * rho)))
        return Svi(w - b * sigma, b, rho, 0.0, sigma)
    alpha = np.sign(beta) * np.sqrt(1.0 / beta**2 - 1.0)
    spread = -rho + np.sign(alpha) * np.sqrt(1.0 + alpha**2) - alpha * np.sqrt(1.0 - rho * rho)
    m = (v - v_min) * T_yr / (b * spread)
    sigma = alpha * m
    a = v_min * T_yr - b * sigma * np.sqrt(1.0 - rho * rho)
    return Svi(float(a), float(b), float(rho), float(m), float(sigma))


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

    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if np.min(butterfly(along(middle), GRID)) >= 0.0 else (middle, high)
    return along(high)


def fit(k: npt.ArrayLike, vol: npt.ArrayLike, T_yr: float, weight: npt.ArrayLike | None = None) -> SviFit:
    """Smile through volatilities of one expiry, free of butterfly arbitrage on GRID.

    k, vol, weight: shape (n,), n >= 5; k = ln(K/F).  Weights multiply squared errors in total variance.
    Raises DomainError on too few points, NaN (index named) or T_yr <= 0.
    """
    x, sigma = np.asarray(k, dtype=np.float64), np.asarray(vol, dtype=np.float64)
    u = np.ones_like(x) if weight is None else np.asarray(weight, dtype=np.float64)
    check_smile(x, sigma, u, T_yr, 5)
    w, root = sigma**2 * T_yr, np.sqrt(u / np.sum(u))
    span = max(float(np.ptp(x)), 1e-3)

    def inner(m: float, s: float) -> tuple[float, Svi]:
        y = (x - m) / s
        # |d| <= c, written as c = p + q, d = q - p with p, q >= 0
        z = np.sqrt(y * y + 1.0)
        design = np.column_stack([np.ones_like(y), z - y, z + y]) * root[:, None]
        cap = 2.0 * s  # Lee: b(1+|rho|) <= 2
        b, slant, a = 0.0, 0.0, 0.0
        for floor in (-2.0 * float(np.max(w)), 0.0):
            bounds = ([floor, 0.0, 0.0], [float(np.max(w)) + 1e-12, 0.5 * cap, 0.5 * cap])
            a, p, q = (float(value) for value in lsq_linear(design, w * root, bounds, tol=1e-14).x)
            b, slant = (p + q) / s, (q - p) / (p + q) if p + q > 0.0 else 0.0
            # a may be negative as long as the least variance, a + b s sqrt(1 - rho^2), is not
            if a + 2.0 * np.sqrt(p * q) > 1e-6 * float(np.min(w)):
                break
        params = Svi(a, b, slant, m, s)
        return float(np.sum((root * (total_variance(params, x) - w)) ** 2)), params

    starts = [(float(x[np.argmin(w)]), span * f) for f in (0.05, 0.3)]
    best: tuple[float, Svi] | None = None
    for m0, s0 in starts:
        found = minimize(
            lambda z: inner(float(z[0]), float(np.exp(np.clip(z[1], -12, 3))))[0],
            np.array([m0, np.log(s0)]),
            method="Nelder-Mead",
            options={
                "xatol": 1e-8,
                "fatol": 1e-18,
                "maxiter": 400,
                "initial_simplex": [[m0, np.log(s0)], [m0 + 0.1 * span, np.log(s0)], [m0, np.log(s0) + 0.5]],
            },
        )
        candidate = inner(float(found.x[0]), float(np.exp(np.clip(found.x[1], -12, 3))))
        best = candidate if best is None or candidate[0] < best[0] else best
    if best is None:  # pragma: no cover - there are always two starts
        raise DomainError("no start")
    params, moved = best[1], False
    if np.min(butterfly(params, GRID)) < 0.0:
        params, moved = _closest_free(repair(params, T_yr), T_yr, x, w, root), True
    error = np.sqrt(total_variance(params, x) / T_yr) - sigma
    least = float(np.min(butterfly(params, GRID)))
    return SviFit(params, float(np.sqrt(np.mean(error**2))), float(np.max(np.abs(error))), least, moved)


def _closest_free(start: Svi, T_yr: float, k: Floats, w: Floats, root: Floats) -> Svi:
    """The best-fitting smile with g >= 0 on GRID near an arbitrage-free start."""

    def loss(z: Floats) -> float:
        rho, b, sigma = float(np.tanh(z[2])), float(np.exp(z[1])), float(np.exp(z[4]))
        trial = Svi(float(z[0]), b, rho, float(z[3]), sigma)
        if not z[0] + b * sigma * np.sqrt(1.0 - rho * rho) > 0.0 or b * (1.0 + abs(rho)) > 2.0:
            return np.inf
        g = butterfly(trial, GRID)
        return float(np.inf if np.min(g) < 0.0 else np.sum((root * (total_variance(trial, k) - w)) ** 2))

    z0 = np.array([start.a, np.log(start.b), np.arctanh(start.rho), start.m, np.log(start.sigma)])
    found = z0
    for _ in range(3):  # a fresh simplex escapes a collapsed one
        simplex = np.vstack([found, found + 0.02 * np.eye(5)])
        options = {"maxiter": 600, "xatol": 1e-7, "fatol": 1e-14, "initial_simplex": simplex}
        found = minimize(loss, found, method="Nelder-Mead", options=options).x
    best = found if loss(found) <= loss(z0) else z0
    return Svi(float(best[0]), float(np.exp(best[1])), float(np.tanh(best[2])), float(best[3]), float(np.exp(best[4])))


def check_smile(k: Floats, vol: Floats, weight: Floats, T_yr: float, need: int) -> None:
    """DomainError naming the first unusable quote of a smile, or that there are fewer than `need`."""
    if not k.shape == vol.shape == weight.shape or k.ndim != 1 or k.size < need:
        raise DomainError(
            "not a smile", expected=f"at least {need} quotes of equal shape (n,)", found=f"{k.shape}, {vol.shape}"
        )
    wrong = ~(np.isfinite(k) & np.isfinite(vol) & (vol > 0.0) & np.isfinite(weight) & (weight > 0.0))
    if np.any(wrong):
        i = int(np.argmax(wrong))
        raise DomainError(
            f"quote [{i}] of the smile is unusable",
            expected="finite k, vol > 0, weight > 0",
            found=f"k={k[i]}, vol={vol[i]}, weight={weight[i]}",
        )
    if not 0.0 < T_yr < np.inf:
        raise DomainError("a smile needs time to expiry", expected="T_yr > 0", found=str(T_yr))


def _derivatives(params: Svi, k: Floats) -> tuple[Floats, Floats, Floats]:
    a, b, rho, m, sigma = params
    if not (b >= 0.0 and abs(rho) <= 1.0 and sigma > 0.0 and np.isfinite(a) and np.isfinite(m)):
        raise DomainError("not an SVI smile", expected="b >= 0, |rho| <= 1, sigma > 0", found=str(params))
    y = k - m
    z = np.sqrt(y * y + sigma * sigma)
    return (
        np.asarray(a + b * (rho * y + z), dtype=np.float64),
        np.asarray(b * (rho + y / z), dtype=np.float64),
        np.asarray(b * sigma * sigma / z**3, dtype=np.float64),
    )
