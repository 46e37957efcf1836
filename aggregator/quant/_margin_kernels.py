"""Compiled scenario scan of `margin_scan` and standard margin of `margin_derive`; numpy form: `margin_reference`."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from aggregator.quant._black_kernels import time_value
from aggregator.quant.jit import jit
from aggregator.quant.margin_rules import DOWN, LINEAR, UP, ScanRules
from aggregator.quant.normal import INV_SQRT_2PI, tail_given_pdf

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int8]
Ints = npt.NDArray[np.int64]
_YEAR_S = 31_536_000.0
_MONTH_S = 2_592_000.0


@jit
def undiscounted(w: float, f: float, k: float, root: float, vol: float) -> float:
    """Black-76 price before discounting; root = sqrt(T)."""
    total = vol * root
    intrinsic = max(w * (f - k), 0.0)
    if total <= 0.0:
        return intrinsic
    d1 = math.log(f / k) / total + 0.5 * total
    d2 = d1 - total
    n1 = INV_SQRT_2PI * math.exp(-0.5 * d1 * d1)
    return intrinsic + time_value(f, k, d1, d2, tail_given_pdf(d1, n1), tail_given_pdf(d2, n1 * f / k))


@jit
def marked(rules: ScanRules, w: float, f: float, k: float, root: float, vol: float) -> float:
    """Price in the currency of account: USD, or coin."""
    usd = undiscounted(w, f, k, root, vol)
    return usd / f if rules.coin != 0.0 else usd


@jit
def vol_factors(rules: ScanRules, seconds: float) -> tuple[float, float]:
    """Multipliers of volatility in up and down scenarios."""
    power = rules.short_power if seconds <= _MONTH_S else rules.long_power
    stretch = (_MONTH_S / max(seconds, rules.floor_s)) ** power
    return 1.0 + rules.vol_up * stretch, max(1.0 - rules.vol_down * stretch, 0.0)


@jit
def expiry_discounts(rules: ScanRules, years: float, rate: float, discount: float) -> tuple[float, float]:
    """Static discounts of an expiry worth more and less than nothing."""
    r = max(rate, 0.0)
    gain = rules.gain_base * math.exp(-years * (r * rules.gain_mult + rules.gain_add))
    if rules.loss_base == 0.0:
        return gain, 1.0
    return gain, min(rules.loss_base * math.exp(years * (r * rules.loss_mult + rules.loss_add)), 1.0 / discount)


@jit
def skewed_vol(rules: ScanRules, vol: float, k: float, root: float, linear: bool) -> float:
    """Volatility with the wings of the smile raised (and, when linear, the other wing lowered)."""
    cap = rules.linear_cap + rules.linear_slope * root if linear else rules.abs_cap + rules.abs_slope * root
    flat = max(rules.least_k_star, root * rules.width * (rules.vol_static + root * rules.vol_slope))
    x = k if linear else abs(k)
    bend = min(cap, x * cap / flat) if x >= 0.0 else max(-cap, x * cap / flat)
    return vol * max(1.0 + bend, 0.0)


@jit
def scan(
    offsets: Ints,
    sign: Codes,
    x: Floats,
    linear: Floats,
    trust: Floats,
    rules: ScanRules,
    spots: Floats,
    directions: Ints,
    damping: Floats,
    out: Floats,
    outcomes: Floats,
    worst: Ints,
) -> None:
    """Rows of out per account: option value, worst scenario (or basis) loss, basis loss, naked shorts, distrust.

    outcomes (accounts, scenarios): equation (1) of `margin_scan`.
    """
    n_scenarios = spots.size
    for a in range(offsets.size - 1):
        value, basis, naked, distrust = 0.0, 0.0, 0.0, 0.0
        losses = outcomes[a]
        for j in range(n_scenarios):
            move = 1.0 - 1.0 / spots[j] if rules.coin != 0.0 else spots[j] - 1.0
            losses[j] = linear[a] * move * damping[j]
        first, end = offsets[a], offsets[a + 1]
        while first < end:
            last = first + 1
            while last < end and x[1, last] == x[1, first]:
                last += 1
            seconds = x[1, first]
            years = seconds / _YEAR_S
            root = math.sqrt(years)
            later = math.sqrt(max(seconds - rules.look_ahead_s, 0.0) / _YEAR_S)
            up, down = vol_factors(rules, seconds)
            df = x[7, first] if rules.use_discount != 0.0 else 1.0
            gain, loss = expiry_discounts(rules, years, x[6, first], x[7, first])

            now, high, low = 0.0, 0.0, 0.0
            held, confidence = 0.0, trust[a]
            for i in range(first, last):
                f, k, size, vol = x[2, i] + x[3, i], x[0, i], x[4, i], x[5, i]
                now += size * marked(rules, sign[i], f, k, root, vol)
                high += size * marked(rules, sign[i], x[2, i] + x[3, i] * rules.basis_up, k, root, vol)
                low += size * marked(rules, sign[i], x[2, i] + x[3, i] * rules.basis_down, k, root, vol)
                held += abs(size)
                confidence = min(confidence, x[8, i])
            now, high, low = now * df, high * df, low * df
            value += now
            basis += min(high - now, low - now, 0.0) * (rules.basis_add + rules.basis_mult * years)
            if confidence < rules.confidence_threshold:
                distrust += (1.0 - confidence) * held
            i = first
            while i < last:
                net, k = 0.0, x[0, i]
                while i < last and x[0, i] == k:
                    net += x[4, i]
                    i += 1
                naked += max(-net, 0.0)

            for j in range(n_scenarios):
                way = directions[j]
                moved = 0.0
                for i in range(first, last):
                    vol = x[5, i]
                    f = x[2, i] + x[3, i] * spots[j]
                    if way == UP:
                        vol = max(vol * up, rules.least_vol_up)
                    elif way == DOWN:
                        vol *= down
                    elif way >= LINEAR:
                        f = x[2, i] + x[3, i]
                        vol = skewed_vol(rules, vol, math.log(x[0, i] / f), root, way == LINEAR)
                    moved += x[4, i] * marked(rules, sign[i], f, x[0, i], later, vol)
                moved *= df
                change = (moved * (gain if moved > 0.0 else loss) - now) * damping[j]
                losses[j] += -abs(change) if way >= LINEAR else change
            first = last
        out[0, a], out[2, a], out[3, a], out[4, a] = value, basis, naked, distrust
        least, where = basis, n_scenarios
        for j in range(n_scenarios):
            if losses[j] < least:
                least, where = losses[j], j
        out[1, a] = least
        worst[a] = where


@jit
def standard(offsets: Ints, sign: Codes, x: Floats, isolated: Floats, unpaired: float, out: Floats) -> None:
    """Per account: sum over expiries of the better of isolated margin and settlement loss (net margin, <= 0)."""
    for a in range(offsets.size - 1):
        total = 0.0
        first, end = offsets[a], offsets[a + 1]
        while first < end:
            last = first + 1
            while last < end and x[1, last] == x[1, first]:
                last += 1
            alone, net_calls = 0.0, 0.0
            for i in range(first, last):
                alone += isolated[i]
                if sign[i] > 0:
                    net_calls += x[4, i]
            least = 0.0
            for j in range(first - 1, last):
                price = 0.0 if j < first else x[0, j]
                payoff = 0.0
                for i in range(first, last):
                    payoff += x[4, i] * max(sign[i] * (price - x[0, i]), 0.0)
                least = min(least, payoff)
            if net_calls < 0.0:
                least += unpaired * (x[2, first] + x[3, first]) * net_calls
            total += max(alone, least)
            first = last
        out[a] = total
