r"""SVI: one expiry's smile as five numbers, fitted free of butterfly arbitrage.

Total variance :math:`w=\sigma_{imp}^2T` against log-moneyness :math:`k=\ln(K/F)`
(Gatheral & Jacquier 2014, doi:10.1080/14697688.2013.819986, eq. 3.1, 2.1-2.2, 3.5, sec. 5.1):

.. math::
   w(k) &= a + b\,[\rho(k-m) + \sqrt{(k-m)^2+\sigma^2}]                                     \tag{1}\\
   g(k) &= \Bigl(1-\frac{k w'}{2w}\Bigr)^2 - \frac{w'^2}{4}\Bigl(\frac1w+\frac14\Bigr) + \frac{w''}2 \ge 0 \tag{2}

Risk-neutral density is non-negative exactly where :math:`g\ge0` (and :math:`d_+\to-\infty`); wings need
:math:`b(1+|\rho|)\le 2` (Lee 2004).  With :math:`k=m+\tfrac\sigma2(p-1/p)`, :math:`D=p^2+1`,
:math:`W=pw=ap+\tfrac{b\sigma}2[(1+\rho)p^2+1-\rho]`, :math:`N=\rho D+p^2-1`, :math:`\kappa=2pk`, the sign of g is
that of a polynomial of degree ten in :math:`p>0`,

.. math:: 16W^2D^3g = D(4WD-b\kappa N)^2 - b^2N^2DW(4p+W) + 64\,bp^3W^2/\sigma            \tag{4}

so `is_free` decides :math:`g>0` for all k, without a grid: Sturm's theorem on (4) in exact fractions.

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

Two expiries have no calendar arbitrage where the later total variance is the larger at every k.  Where they cross,
:math:`w_2-w_1=0` squared twice is a quartic in k: `calendar` looks at both sides of each of its roots, and on the scale
of both smiles.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise, product
from math import gcd, lcm
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.polynomial.polynomial import polyroots
from scipy.optimize import brentq, minimize, minimize_scalar

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, representable, require

Floats = npt.NDArray[np.float64]
_LADDER = np.exp(np.linspace(-14.0, 14.0, 561))  # p of (4): g is smooth on its scale, however narrow the smile
LEAST_VOL = 1e-6  # below it a quote is a slip of units
_FORBIDDEN = 1e30  # finite, so that the simplex search can subtract it
_CORNERS = np.array(list(product((0, 1), repeat=3)))  # of a box in three unknowns


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
    """params; root mean square and largest error in volatility; least g of (2) over all k, positive by `is_free`;
    whether (2) had to move it."""

    params: Svi
    rms_vol: float
    worst_vol: float
    least_g: float
    moved: bool


@representable
def total_variance(params: Svi, k: npt.ArrayLike) -> Floats:
    """w(k) of (1), any shape; DomainError names a k where the parameters give no variance."""
    return _smile(params, k)[1]


@representable
def butterfly(params: Svi, k: npt.ArrayLike) -> Floats:
    """g(k) of (2), any shape; negative where the smile admits butterfly arbitrage."""
    return butterfly_of(*_smile(params, k))


@representable
def is_free(params: Svi) -> bool:
    """Whether g > 0 at every real k, decided exactly (module docstring); False also where g only touches zero."""
    _derivatives(params, np.zeros(1))  # refuses what is no smile
    a, b, rho, m, sigma = (Fraction(float(x)) for x in params)
    if a <= 0 and a * a >= (b * sigma) ** 2 * (1 - rho * rho):
        return False  # no variance somewhere
    if b * (1 + abs(rho)) > 2:
        return False
    d = [Fraction(1), Fraction(0), Fraction(1)]
    w = [b * sigma * (1 - rho) / 2, a, b * sigma * (1 + rho) / 2]
    n, kappa = [rho - 1, Fraction(0), rho + 1], [-sigma, 2 * m, sigma]
    first = _sum(_times([Fraction(4)], w, d), _times([-b], kappa, n))
    second = _times([b * b], n, n, d, w, _sum([Fraction(0), Fraction(4)], w))
    third = _times([Fraction(0)] * 3 + [64 * b / sigma], w, w)
    return _positive(_sum(_times(d, first, first), [-x for x in second], third))


def _times(*factors: list[Fraction]) -> list[Fraction]:
    """Product of polynomials, coefficients from the constant up."""
    out = [Fraction(1)]
    for factor in factors:
        product_of = [Fraction(0)] * (len(out) + len(factor) - 1)
        for i, x in enumerate(out):
            for j, y in enumerate(factor):
                product_of[i + j] += x * y
        out = product_of
    return out


def _sum(*terms: list[Fraction]) -> list[Fraction]:
    size = max(len(term) for term in terms)
    return [sum((term[i] for term in terms if i < len(term)), Fraction(0)) for i in range(size)]


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
    y = 0.5 * params.sigma * (_LADDER - 1.0 / _LADDER)
    g = butterfly(params, params.m + y)
    at = int(np.argmin(g))
    least, where = float(g[at]), float(params.m + y[at])
    inside = np.flatnonzero((g[1:-1] <= g[:-2]) & (g[1:-1] <= g[2:])) + 1
    for i in inside[np.argsort(g[inside])[:3]]:
        found = minimize_scalar(
            lambda k: float(butterfly(params, k)),
            bounds=(params.m + y[i - 1], params.m + y[i + 1]),
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
        _derivatives(params, np.zeros(1))  # refuses what is no smile

    def step(k: npt.ArrayLike) -> Floats:
        x = np.asarray(k, dtype=np.float64)
        return np.asarray(_derivatives(later, x)[0] - _derivatives(earlier, x)[0])

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
    ladder = [p.m + 0.5 * p.sigma * (_LADDER - 1.0 / _LADDER) for p in (earlier, later)]
    points = np.unique(np.concatenate([*ladder, near, 0.5 * (near[1:] + near[:-1])]))
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
        return float(np.sum((root * (_derivatives(params, x)[0] - w)) ** 2)), params

    found = []
    for log_width in np.log([0.05 * span, 0.3 * span]):
        start = np.array([x[np.argmin(w)], log_width])
        simplex = start + np.array([[0.0, 0.0], [0.1 * span, 0.0], [0.0, 0.5]])
        options = {"xatol": 1e-8, "fatol": 1e-18, "maxiter": 400, "initial_simplex": simplex}
        found.append(inner(minimize(lambda z: inner(z)[0], start, method="Nelder-Mead", options=options).x))
    params, moved = min(found, key=lambda pair: pair[0])[1], False
    if not is_free(params):
        params, moved = _closest_free(params, T_yr, x, w, root), True
    error = np.sqrt(_derivatives(params, x)[0] / T_yr) - sigma
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
        g = butterfly(trial, trial.m + 0.5 * sigma * steps)
        return float(_FORBIDDEN if np.min(g) < 0.0 else np.sum((root * (_derivatives(trial, k)[0] - w)) ** 2))

    try:
        start = repair(fitted, T_yr)
    except DomainError:
        start = _flattened(fitted, float(np.mean(w)))
    steps = _LADDER - 1.0 / _LADDER
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


def _bend(params: Svi, k: float) -> float:
    """b sqrt((k - m)^2 + sigma^2), the part of (1) that is no straight line."""
    return float(params.b * np.hypot(k - params.m, params.sigma))


def _smile(params: Svi, k: npt.ArrayLike) -> tuple[Floats, Floats, Floats, Floats]:
    x = floats("k", k)
    require("k", x, np.isfinite(x), "finite log-moneyness")
    w, slope, curve = _derivatives(params, x)
    require("k", x, w > 0.0, f"total variance > 0 there: {params} is no smile")
    return x, w, slope, curve


def _derivatives(params: Svi, k: Floats) -> tuple[Floats, Floats, Floats]:
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
