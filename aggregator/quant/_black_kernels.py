"""Compiled forms of `aggregator.quant.black`; the numpy oracle beside them is `black_reference`.

They fill [start, end).  Rows of `x`: S, K, T_yr, sigma, r, q.  Every kernel returns -1, or the index
of the first element that is out of domain or overflows.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from aggregator.quant.jit import jit
from aggregator.quant.normal import INV_SQRT_2PI, tail_given_pdf

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int8]


@jit
def in_domain(s: float, k: float, t: float, v: float, r: float, q: float) -> bool:
    inf = math.inf
    return 0.0 < s < inf and 0.0 < k < inf and 0.0 <= t < inf and 0.0 <= v < inf and abs(r) < inf and abs(q) < inf


@jit
def time_value(spot: float, cash: float, d1: float, d2: float, tail1: float, tail2: float) -> float:
    """Price of the out-of-the-money one of call and put, eq. (2), from the tails Phi(-|d1|) and Phi(-|d2|).

    What an in-the-money option is worth above its intrinsic value is this too (put-call parity); eq. (2) itself would
    lose it in the rounding of the larger terms.
    """
    if spot > cash:
        return max(cash * (tail2 if d2 > 0.0 else 1.0 - tail2) - spot * (tail1 if d1 > 0.0 else 1.0 - tail1), 0.0)
    return max(spot * (tail1 if d1 < 0.0 else 1.0 - tail1) - cash * (tail2 if d2 < 0.0 else 1.0 - tail2), 0.0)


@jit
def first_order(start: int, end: int, sign: Codes, x: Floats, out: Floats, status: Codes) -> int:
    """Rows of `out`: price, delta, gamma, vega, theta."""
    for i in range(start, end):
        s, k, t, v, ri, qi = x[0, i], x[1, i], x[2, i], x[3, i], x[4, i], x[5, i]
        if not in_domain(s, k, t, v, ri, qi):
            return i
        w = float(sign[i])
        root = math.sqrt(t)
        total = v * root
        carry = 1.0 if qi == 0.0 else math.exp(-qi * t)
        spot = s * carry
        cash = k * (carry if ri == qi else math.exp(-ri * t))
        if total == 0.0:
            status[i] = 1 if t == 0.0 else 2
            gain = w * (spot - cash)
            if not abs(spot) + abs(cash) + abs(qi * spot) + abs(ri * cash) < math.inf:
                return i
            out[0, i] = max(gain, 0.0)
            out[2, i] = 0.0
            out[3, i] = 0.0
            if gain > 0.0:
                out[1, i] = w * carry
                out[4, i] = w * (qi * spot - ri * cash)
            elif gain < 0.0:
                out[1, i] = 0.0
                out[4, i] = 0.0
            else:
                status[i] = 3
                for j in range(1, 5):
                    out[j, i] = math.nan
            continue
        per_total = 1.0 / total
        d1 = (math.log(s / k) + (ri - qi) * t) * per_total + 0.5 * total
        d2 = d1 - total
        n1 = INV_SQRT_2PI * math.exp(-0.5 * d1 * d1)
        tail1, tail2 = tail_given_pdf(d1, n1), tail_given_pdf(d2, n1 * spot / cash)
        big1 = tail1 if w * d1 < 0.0 else 1.0 - tail1
        big2 = tail2 if w * d2 < 0.0 else 1.0 - tail2
        price = time_value(spot, cash, d1, d2, tail1, tail2) + max(w * (spot - cash), 0.0)
        slope = spot * n1
        out[0, i] = price
        out[1, i] = w * carry * big1
        out[2, i] = carry * n1 * per_total / s
        out[3, i] = slope * root
        out[4, i] = -0.5 * slope * v * v * per_total + w * (qi * spot * big1 - ri * cash * big2)
        if not abs(spot - cash) + price + abs(out[2, i]) + abs(out[4, i]) < math.inf:
            return i
        status[i] = 0
    return -1


@jit
def all_orders(start: int, end: int, sign: Codes, x: Floats, out: Floats, status: Codes) -> int:
    """Rows of `out`: price, delta, gamma, vega, theta, rho, vanna, volga, charm, speed."""
    stop = first_order(start, end, sign, x, out, status)
    if stop >= 0:
        return stop
    for i in range(start, end):
        s, k, t, v, ri, qi = x[0, i], x[1, i], x[2, i], x[3, i], x[4, i], x[5, i]
        w = float(sign[i])
        if status[i] == 3:
            for j in range(5, 10):
                out[j, i] = math.nan
            continue
        carry = math.exp(-qi * t)
        cash = k * math.exp(-ri * t)
        root = math.sqrt(t)
        total = v * root
        if total == 0.0:
            inside = out[1, i] != 0.0
            out[5, i] = w * t * cash if inside else 0.0
            out[6, i] = 0.0
            out[7, i] = 0.0
            out[8, i] = w * qi * carry if inside else 0.0
            out[9, i] = 0.0
            continue
        b = ri - qi
        d1 = (math.log(s / k) + b * t) / total + 0.5 * total
        d2 = d1 - total
        n1 = INV_SQRT_2PI * math.exp(-0.5 * d1 * d1)
        tail2 = tail_given_pdf(d2, n1 * s * carry / cash)
        big2 = tail2 if w * d2 < 0.0 else 1.0 - tail2
        out[5, i] = w * t * cash * big2
        out[6, i] = -carry * n1 * d2 / v
        out[7, i] = out[3, i] * d1 * d2 / v
        out[8, i] = -carry * n1 * (b / total - d2 / (2.0 * t)) + qi * out[1, i]
        out[9, i] = -out[2, i] / s * (1.0 + d1 / total)
        if not abs(out[6, i]) + abs(out[7, i]) + abs(out[8, i]) + abs(out[9, i]) < math.inf:
            return i
    return -1


@jit
def only_price(start: int, end: int, sign: Codes, x: Floats, out: Floats) -> int:
    """Price alone."""
    for i in range(start, end):
        s, k, t, v, ri, qi = x[0, i], x[1, i], x[2, i], x[3, i], x[4, i], x[5, i]
        if not in_domain(s, k, t, v, ri, qi):
            return i
        w = float(sign[i])
        total = v * math.sqrt(t)
        carry = 1.0 if qi == 0.0 else math.exp(-qi * t)
        spot = s * carry
        cash = k * (carry if ri == qi else math.exp(-ri * t))
        value = max(w * (spot - cash), 0.0)
        if total != 0.0:
            d1 = (math.log(s / k) + (ri - qi) * t) * (1.0 / total) + 0.5 * total
            d2 = d1 - total
            n1 = INV_SQRT_2PI * math.exp(-0.5 * d1 * d1)
            value += time_value(spot, cash, d1, d2, tail_given_pdf(d1, n1), tail_given_pdf(d2, n1 * spot / cash))
        if not abs(spot - cash) + value < math.inf:
            return i
        out[i] = value
    return -1
