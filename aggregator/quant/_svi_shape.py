r"""The shape of a smile that is given: total variance, and where it leaves room for arbitrage.

Equations (1) and (2) are those of `svi`.

Risk-neutral density is non-negative exactly where :math:`g\ge0` (and :math:`d_+\to-\infty`); wings need
:math:`b(1+|\rho|)\le 2` (Lee 2004).  With :math:`k=m+\tfrac\sigma2(p-1/p)`, :math:`D=p^2+1`,
:math:`W=pw=ap+\tfrac{b\sigma}2[(1+\rho)p^2+1-\rho]`, :math:`N=\rho D+p^2-1`, :math:`\kappa=2pk`, the sign of g is
that of a polynomial of degree ten in :math:`p>0`,

.. math:: 16W^2D^3g = D(4WD-b\kappa N)^2 - b^2N^2DW(4p+W) + 64\,bp^3W^2/\sigma            \tag{4}

so `is_free` decides :math:`g>0` for all k, without a grid: Sturm's theorem on (4) in exact fractions.

Two expiries have no calendar arbitrage where the later total variance is the larger at every k.  Where they cross,
:math:`w_2-w_1=0` squared twice is a quartic in k: `calendar` looks at both sides of each of its roots, and on the scale
of both smiles.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import gcd, lcm
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.polynomial import Polynomial
from numpy.polynomial.polynomial import polyroots
from scipy.optimize import brentq, minimize_scalar

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, representable, require

Floats = npt.NDArray[np.float64]
_LADDER = np.exp(np.linspace(-14.0, 14.0, 561))  # p of (4): g is smooth on its scale, however narrow the smile
_STEPS = _LADDER - 1.0 / _LADDER


class Svi(NamedTuple):
    """Raw parameters of (1); a and b in total variance."""

    a: float
    b: float
    rho: float
    m: float
    sigma: float


def rungs(params: Svi) -> Floats:
    """(561,) k of a ladder on the smile's own scale."""
    return np.asarray(params.m + 0.5 * params.sigma * _STEPS)


@representable
def total_variance(params: Svi, k: npt.ArrayLike) -> Floats:
    """w(k) of (1), any shape; DomainError names a k where the parameters give no variance."""
    return positive_smile(params, k)[1]


@representable
def butterfly(params: Svi, k: npt.ArrayLike) -> Floats:
    """g(k) of (2), any shape; negative where the smile admits butterfly arbitrage."""
    return butterfly_of(*positive_smile(params, k))


@representable
def is_free(params: Svi) -> bool:
    """Whether g > 0 at every real k, decided exactly (module docstring); False also where g only touches zero."""
    derivatives(params, np.zeros(1))  # refuses what is no smile
    a, b, rho, m, sigma = (Fraction(float(x)) for x in params)
    if a <= 0 and a * a >= (b * sigma) ** 2 * (1 - rho * rho):
        return False  # no variance somewhere
    if b * (1 + abs(rho)) > 2:
        return False
    p = Polynomial([Fraction(0), Fraction(1)])
    d = p**2 + 1
    w = a * p + b * sigma / 2 * ((1 + rho) * p**2 + 1 - rho)
    n, kappa = rho * d + p**2 - 1, 2 * m * p + sigma * (p**2 - 1)
    g = d * (4 * w * d - b * kappa * n) ** 2 - b**2 * n**2 * d * w * (4 * p + w) + 64 * b / sigma * p**3 * w**2
    return _positive(g.coef.tolist())


def _positive(polynomial: list[Fraction]) -> bool:
    """Whether a polynomial is positive on (0, inf): no root there by Sturm's theorem, and positive at both ends.

    Whole numbers throughout: positive factors change no sign, and fractions would be cancelled at every step.
    """
    unit = lcm(*(x.denominator for x in polynomial))
    whole = [int(x * unit) for x in polynomial]
    low = next((i for i, x in enumerate(whole) if x), len(whole))
    while whole and not whole[-1]:
        whole.pop()
    chain = [whole[low:]]
    if not chain[0] or chain[0][-1] < 0 or chain[0][0] < 0:
        return False
    chain.append([i * x for i, x in enumerate(chain[0])][1:])
    while chain[-1]:
        over, rest = chain[-1], list(chain[-2])
        size = abs(over[-1])
        while len(rest) >= len(over):
            factor, shift = (rest[-1] if over[-1] > 0 else -rest[-1]), len(rest) - len(over)
            rest = [size * x - (factor * over[i - shift] if i >= shift else 0) for i, x in enumerate(rest)][:-1]
        while rest and not rest[-1]:
            rest.pop()
        common = gcd(*rest) if rest else 1
        chain.append([-(x // common) for x in rest])

    def changes(signs: list[int]) -> int:
        return sum(x != y for x, y in pairwise([x > 0 for x in signs]))

    rows = [row for row in chain if row]
    lowest = [next(x for x in row if x) for row in rows]  # which decides the sign just above 0
    return changes(lowest) == changes([row[-1] for row in rows])


@representable
def least_butterfly(params: Svi) -> tuple[float, float]:
    """(least g over all real k, where): the lowest points of a ladder on its own scale, refined."""
    k = rungs(params)
    g = butterfly(params, k)
    at = int(np.argmin(g))
    least, where = float(g[at]), float(k[at])
    inside = np.flatnonzero((g[1:-1] <= g[:-2]) & (g[1:-1] <= g[2:])) + 1
    for i in inside[np.argsort(g[inside])[:3]]:
        found = minimize_scalar(
            lambda x: float(butterfly(params, x)),
            bounds=(k[i - 1], k[i + 1]),
            method="bounded",
            options={"xatol": 1e-12 * params.sigma},
        )
        if found.fun < least:
            least, where = float(found.fun), float(found.x)
    for side in (-1.0, 1.0):  # far out w is b (1 +- rho) |k|, and g tends to a limit
        slope = params.b * (1.0 + side * params.rho)
        if slope > 0.0 and 0.25 - slope * slope / 16.0 < least:
            least, where = 0.25 - slope * slope / 16.0, side * np.inf
    return least, where


class Calendar(NamedTuple):
    """least_step: least w_later(k) - w_earlier(k) over all k, -inf where a wing of the later is flatter; where: that k
    (inf and -inf: a wing); crossings: every k at which the two are equal."""

    least_step: float
    where: float
    crossings: Floats


@representable
def calendar(earlier: Svi, later: Svi) -> Calendar:
    """Whether two smiles of one forward have calendar arbitrage: they have where least_step < 0."""

    for params in (earlier, later):
        derivatives(params, np.zeros(1))  # refuses what is no smile

    def step(k: npt.ArrayLike) -> Floats:
        x = np.asarray(k, dtype=np.float64)
        return np.asarray(derivatives(later, x)[0] - derivatives(earlier, x)[0])

    # a + L + b2 z2 = b1 z1 twice squared: 4 b2^2 line^2 z2^2 = (b1^2 z1^2 - line^2 - b2^2 z2^2)^2
    line = np.array(
        [step(0.0) - _bend(later, 0.0) + _bend(earlier, 0.0), later.b * later.rho - earlier.b * earlier.rho]
    )
    one, two = (np.array([p.b**2 * (p.m**2 + p.sigma**2), -2.0 * p.b**2 * p.m, p.b**2]) for p in (earlier, later))
    square = np.convolve(line, line)
    left = one - two - square
    quartic = 4.0 * np.convolve(square, two) - np.convolve(left, left)
    if not np.all(np.isfinite(quartic)):
        raise OverflowError("the smiles are too far from one in size")
    near = np.sort(polyroots(np.trim_zeros(quartic, "b")).real) if np.any(quartic) else np.empty(0)
    points = np.unique(np.concatenate([rungs(earlier), rungs(later), near, 0.5 * (near[1:] + near[:-1])]))
    heights = step(points)
    apart, signs = points[heights != 0.0], np.sign(heights[heights != 0.0])
    turns = np.flatnonzero(signs[1:] != signs[:-1])
    crossings = [brentq(lambda k: float(step(k)), apart[i], apart[i + 1], xtol=1e-15) for i in turns]
    at = int(np.argmin(heights))
    least, where = float(heights[at]), float(points[at])
    if 0 < at < len(points) - 1:
        found = minimize_scalar(lambda k: float(step(k)), bounds=(points[at - 1], points[at + 1]), method="bounded")
        if found.fun < least:
            least, where = float(found.fun), float(found.x)
    for side in (-1.0, 1.0):
        if later.b * (1.0 + side * later.rho) < earlier.b * (1.0 + side * earlier.rho):
            least, where = -np.inf, side * np.inf
    return Calendar(least, where, np.array(crossings))


def butterfly_of(k: Floats, w: Floats, slope: Floats, curve: Floats) -> Floats:
    """g of (2) from total variance and its first two derivatives in k."""
    ratio = slope / w
    return np.asarray((1.0 - 0.5 * k * ratio) ** 2 - 0.25 * slope**2 * (1.0 / w + 0.25) + 0.5 * curve, dtype=np.float64)


def _bend(params: Svi, k: float) -> float:
    """b sqrt((k - m)^2 + sigma^2), the part of (1) that is no straight line."""
    return float(params.b * np.hypot(k - params.m, params.sigma))


def positive_smile(params: Svi, k: npt.ArrayLike) -> tuple[Floats, Floats, Floats, Floats]:
    x = floats("k", k)
    require("k", x, np.isfinite(x), "finite log-moneyness")
    w, slope, curve = derivatives(params, x)
    require("k", x, w > 0.0, f"total variance > 0 there: {params} is no smile")
    return x, w, slope, curve


def derivatives(params: Svi, k: Floats) -> tuple[Floats, Floats, Floats]:
    a, b, rho, m, sigma = params
    if not (0.0 <= b < np.inf and abs(rho) <= 1.0 and 0.0 < sigma < np.inf and np.isfinite(a) and np.isfinite(m)):
        raise DomainError("not an SVI smile", expected="b >= 0, |rho| <= 1, sigma > 0", found=str(params))
    y = k - m
    z = np.sqrt(y * y + sigma * sigma)
    return (
        np.asarray(a + b * (rho * y + z), dtype=np.float64),
        np.asarray(b * (rho + y / z), dtype=np.float64),
        np.asarray(b * sigma * sigma / z**3, dtype=np.float64),
    )
