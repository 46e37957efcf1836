"""Compiled solver of `aggregator.quant.implied_vol`; equation numbers are of its docstring."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from aggregator.quant.jit import jit
from aggregator.quant.normal import INV_SQRT_2PI, SQRT_HALF, erfcx

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int8]

OK, BAD_INPUT, EXPIRED, BELOW_INTRINSIC, NO_TIME_VALUE, ABOVE_BOUND, IMPRECISE, NOT_CONVERGED = range(8)
EPS = 2.220446049250313e-16
_SQRT_HALF_PI = math.sqrt(0.5 * math.pi)
_SIXTH = 1.0 / 6.0
_SQRT_8 = math.sqrt(8.0)
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


@jit
def mills(z: float) -> float:
    """Y(z) = Phi(z)/phi(z) for z <= 0."""
    return _SQRT_HALF_PI * erfcx(max(-z, 0.0) * SQRT_HALF)


@jit
def price_over_vega(x: float, h: float, t: float) -> float:
    """Y(h+t) - Y(h-t) for h + t <= 0: eq. (3), or its Taylor series (4) in t where the difference cancels."""
    if t >= 0.1 or x < -0.5:
        return mills(h + t) - mills(h - t)
    return _mills_series(h, t)


@jit
def _mills_series(h: float, t: float) -> float:
    below = mills(h) if h <= 0.0 else math.sqrt(2.0 * math.pi) * math.exp(0.5 * h * h) - mills(-h)
    order = 1.0 + h * below
    factor = 2.0 * t
    total = factor * order
    for n in range(1, 13, 2):
        even = h * order + n * below
        below = even
        order = h * even + (n + 1) * order
        factor *= t * t / ((n + 1.0) * (n + 2.0))
        total += factor * order
    return total


@jit
def householder(newton: float, second: float, third: float) -> float:
    """Third-order Householder step from -f/f', f''/f', f'''/f'."""
    return newton * (1.0 + 0.5 * second * newton) / (1.0 + newton * (second + third * newton * _SIXTH))


@jit
def _low_guess(x: float, w: float, s_c: float, w_c: float, slope_c: float) -> float:
    a = w / w_c
    return s_c * a * a * (3.0 - 2.0 * a) + w_c * a * (-x * SQRT_HALF * (1.0 - a) * (1.0 - a) - slope_c * a * (1.0 - a))


@jit
def _solve_low(x: float, beta: float, s_c: float, z_c: float, log_b_c: float) -> float:
    """Below the inflection: f(s) = (-ln b)^(-1/2), nearly linear in s; eq. (5)."""
    y_target = -math.log(beta)
    y_c = -log_b_c
    w_c = 1.0 / math.sqrt(y_c)
    s = _low_guess(x, 1.0 / math.sqrt(y_target), s_c, w_c, 2.0 * y_c * z_c / w_c)
    low, high = 0.0, s_c
    for _ in range(40):
        if not low < s < high:
            s = 0.5 * (low + high)
        inverse = 1.0 / s
        h, t = x * inverse, 0.5 * s
        z = price_over_vega(x, h, t)
        y = 0.5 * (h * h + t * t) + _HALF_LOG_2PI - math.log(z)
        if y > y_target:
            low = s
        else:
            high = s
        m = 1.0 / z
        bend = (h * h - t * t) * inverse
        bend_slope = -3.0 * h * h * inverse * inverse - 0.25
        u2 = bend - m
        u3 = u2 * bend + bend_slope - 2.0 * m * u2
        newton = -2.0 * y * (1.0 - math.sqrt(y / y_target)) * z
        g2, g3 = 1.5 / y, 3.75 / (y * y)
        step = householder(newton, u2 + g2 * m, u3 + 3.0 * g2 * m * u2 + g3 * m * m)
        s += step
        if abs(step) <= 1e-5 * s and low <= s <= high:
            # the step after a fourth-order one of relative size e is of size e^4
            return s
        if high - low <= 2.0 * EPS * high:
            return s
    return math.nan


@jit
def _solve_high(x: float, beta: float, complement: float, s_c: float, b_c: float, z_c: float) -> float:
    """Above the inflection: f = b - beta up to half of the bound, then f(s) = (-ln(1 - b/b_max))^(1/2); eq. (6)."""
    b_max = math.exp(0.5 * x)
    near = beta < 0.5 * b_max
    v_target = -math.log1p(-beta / b_max) if near else -math.log(complement / b_max)
    v_c = -math.log1p(-b_c / b_max)
    density_c = INV_SQRT_2PI * b_max
    m_c = density_c / (b_max - b_c)
    root_c = math.sqrt(v_c)
    slope_c = 2.0 * root_c / m_c
    gap = math.sqrt(v_target) - root_c
    kappa = max((1.0 - 2.0 * v_c) / (m_c * max(_SQRT_8 - slope_c, 0.1)), 0.05)
    s = s_c + _SQRT_8 * gap + (slope_c - _SQRT_8) * gap / (1.0 + kappa * gap)
    low, high = s_c, math.inf
    for _ in range(60):
        if not low < s < high:
            s = 2.0 * low + 1.0 if high == math.inf else 0.5 * (low + high)
        inverse = 1.0 / s
        h, t = x * inverse, 0.5 * s
        density = INV_SQRT_2PI * math.exp(-0.5 * (h * h + t * t))
        bend = (h * h - t * t) * inverse
        bend_slope = -3.0 * h * h * inverse * inverse - 0.25
        if near:
            if t < 0.1:
                excess = density * _mills_series(h, t) - beta
            else:
                excess = (b_max - beta) - density * (mills(-h - t) + mills(h - t))
            step = householder(-excess / density, bend, bend * bend + bend_slope)
        else:
            z = mills(-h - t) + mills(h - t)
            m = 1.0 / z
            v = -math.log(density * z / b_max)
            excess = v - v_target
            u2 = bend + m
            u3 = u2 * bend + bend_slope + 2.0 * m * u2
            newton = -2.0 * v * (1.0 - math.sqrt(v_target / v)) * z
            g2, g3 = -0.5 / v, 0.75 / (v * v)
            step = householder(newton, u2 + g2 * m, u3 + 3.0 * g2 * m * u2 + g3 * m * m)
        if excess < 0.0:
            low = s
        else:
            high = s
        s += step
        if abs(step) <= 1e-5 * s and low <= s <= high:
            return s
        if high < math.inf and high - low <= 2.0 * EPS * high:
            return s
    return math.nan


@jit
def total_vol(x: float, beta: float, complement: float) -> float:
    """s = sigma sqrt(T) from x = -|ln(F/K)|, beta = price/sqrt(FK) and complement = b_max - beta; NaN if not found."""
    s_c = math.sqrt(-2.0 * x)
    z_c = max(_SQRT_HALF_PI - mills(-s_c), 0.0)
    b_c = INV_SQRT_2PI * math.exp(0.5 * x) * z_c
    if beta < b_c:
        return _solve_low(x, beta, s_c, z_c, 0.5 * x - _HALF_LOG_2PI + math.log(z_c))
    return _solve_high(x, beta, complement, s_c, b_c, z_c)


@jit
def own_error(x: float, s: float, beta: float, bound: float) -> float:
    """Bound on the error of s by the solver's own rounding; bound: b_max over the density where b - beta is solved.

    erfcx is right to 9 EPS, so Y(h+t) -+ Y(h-t) is to 9 EPS times both, and ds = dY of either; Y(-u) <= min(Y(0), 1/u).
    Elsewhere the series (4) is right to a few EPS of s, and a logarithm of (5) to an EPS of itself.
    """
    h, t = x / s, 0.5 * s
    error = 12.0 * s + ((4.0 - x) * bound if bound > 0.0 else -2.0 * s * math.log(beta) / (1.0 + h * h))
    if t >= 0.1 or x < -0.5:
        error += 12.0 * (min(_SQRT_HALF_PI, 1.0 / abs(h + t)) + min(_SQRT_HALF_PI, 1.0 / (t - h))) * (1.0 - 0.25 * x)
    return EPS * error


@jit
def solve(
    start: int,
    end: int,
    sign: Codes,
    rows: Floats,
    slack: Floats,
    tolerance: float,
    sigma: Floats,
    error: Floats,
    status: Codes,
) -> int:
    """Fill [start, end) from rows price, F, K, T_yr, discount; returns -1 (no element stops it).

    slack: by how much the undiscounted price may be off besides the rounding of the quote; or empty.
    """
    for i in range(start, end):
        p, f, k, years, discount = rows[0, i], rows[1, i], rows[2, i], rows[3, i], rows[4, i]
        sigma[i] = math.nan
        error[i] = math.nan
        inf = math.inf
        if not (0.0 <= p < inf and 0.0 < f < inf and 0.0 < k < inf and 0.0 < discount < inf and abs(years) < inf):
            status[i] = BAD_INPUT
            continue
        if years <= 0.0:
            status[i] = EXPIRED
            continue
        value = p / discount
        noise = 0.5 * EPS * value * (1.0 if discount == 1.0 else 2.0)
        if slack.size:
            noise += slack[i]
        small, large = min(f, k), max(f, k)
        inside = large - small
        if sign[i] * (f - k) > 0.0:
            value = value - inside - ((large - inside) - small)  # the last: what rounding took from F - K
            if abs(value) <= noise:
                value = 0.0
            noise += EPS * abs(value)
        if value <= 2.3e-308 * max(1.0, f + k):
            status[i] = BELOW_INTRINSIC if value < 0.0 else NO_TIME_VALUE
            continue
        if value >= small:
            status[i] = ABOVE_BOUND
            continue
        root = math.sqrt(small) * math.sqrt(large)
        gap = inside / small
        x = -math.log1p(gap) if gap < 0.5 else math.log(small / large)
        beta = value / root
        s = total_vol(x, beta, (small - value) / root)
        if not 0.0 < s < inf:
            status[i] = NOT_CONVERGED
            continue
        h, t = x / s, 0.5 * s
        vega = root * INV_SQRT_2PI * math.exp(-0.5 * (h * h + t * t))
        if noise <= 1e-3 * min(value, small - value):
            # in a far wing the vega underflows, the ratio of price to vega does not
            off = 1.01 * (noise / vega if vega > 1e-280 * root else noise / value * price_over_vega(x, h, t))
        else:  # no slope is a bound so close to an end: the two ends themselves
            least, most = max(value - noise, 0.0), value + noise
            below = total_vol(x, least / root, (small - least) / root) if least > 0.0 else 0.0
            above = total_vol(x, most / root, (small - most) / root) if most < small else inf
            off = max(s - below, above - s)
            if not off >= 0.0:
                off = inf
        scale = 1.0 / math.sqrt(years)
        sigma[i] = s * scale
        near = s * s >= -2.0 * x and 2.0 * value < small
        error[i] = (off + own_error(x, s, beta, small / vega if near else 0.0)) * scale
        status[i] = OK if error[i] <= tolerance * max(1.0, sigma[i]) else IMPRECISE
    return -1
