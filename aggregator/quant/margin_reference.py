"""Scenario scan and standard margin in plain numpy, account by account: the oracles of `_margin_kernels`."""

from __future__ import annotations

import numpy as np

from aggregator.quant._option_inputs import Floats, Signs
from aggregator.quant.black import SECONDS_PER_YEAR
from aggregator.quant.black_reference import all_orders
from aggregator.quant.margin import MarginBook
from aggregator.quant.margin_rules import ABS, DOWN, LINEAR, UP, ScanRules, Scenario
from aggregator.quant.margin_scan import ScanResult, scenario_columns


def scan(
    book: MarginBook, linear: Floats, trust: Floats, rules: ScanRules, scenarios: tuple[Scenario, ...]
) -> ScanResult:
    """Same arguments and result as `margin_scan.scan`; expiries must lie in the future."""
    spots, directions, damping = scenario_columns(scenarios)
    out, worst = np.zeros((5, book.accounts)), np.empty(book.accounts, np.int64)
    outcomes = np.empty((book.accounts, spots.size))
    for a in range(book.accounts):
        rows = slice(int(book.offsets[a]), int(book.offsets[a + 1]))
        sign, x = book.sign[rows], book.options[:, rows]
        losses = linear[a] * ((1.0 - 1.0 / spots) if rules.coin else (spots - 1.0)) * damping
        for seconds in np.unique(x[1]):
            mine = x[1] == seconds
            w, (k, _, fixed, moving, size, vol, rate, df, confidence) = sign[mine], x[:, mine]
            years = seconds / SECONDS_PER_YEAR
            price_df = df[0] if rules.use_discount else 1.0
            power = rules.short_power if seconds <= 30 * 86_400 else rules.long_power
            stretch = (30 * 86_400 / max(seconds, rules.floor_s)) ** power
            r = max(rate[0], 0.0)
            gain = rules.gain_base * np.exp(-years * (r * rules.gain_mult + rules.gain_add))
            loss = 1.0
            if rules.loss_base:
                loss = min(rules.loss_base * np.exp(years * (r * rules.loss_mult + rules.loss_add)), 1.0 / df[0])

            def value(
                f: Floats, v: Floats, w: Signs = w, k: Floats = k, size: Floats = size, t: float = years
            ) -> float:
                price = all_orders(w, f, k, t, v, 0.0, 0.0)["price"]
                return float(np.sum(size * (price / f if rules.coin else price)))

            now = value(fixed + moving, vol) * price_df
            high = value(fixed + moving * rules.basis_up, vol) * price_df
            low = value(fixed + moving * rules.basis_down, vol) * price_df
            out[0, a] += now
            out[2, a] += min(high - now, low - now, 0.0) * (rules.basis_add + rules.basis_mult * years)
            out[3, a] += sum(max(-float(np.sum(size[k == strike])), 0.0) for strike in np.unique(k))
            least = min(float(np.min(confidence)), float(trust[a]))
            if least < rules.confidence_threshold:
                out[4, a] += (1.0 - least) * float(np.sum(np.abs(size)))
            for j, (spot, way) in enumerate(zip(spots, directions, strict=True)):
                f, v = fixed + moving * spot, vol
                if way == UP:
                    v = np.maximum(vol * (1.0 + rules.vol_up * stretch), rules.least_vol_up)
                elif way == DOWN:
                    v = vol * max(1.0 - rules.vol_down * stretch, 0.0)
                elif way in (LINEAR, ABS):
                    f, root = fixed + moving, np.sqrt(years)
                    caps = (rules.linear_cap, rules.linear_slope) if way == LINEAR else (rules.abs_cap, rules.abs_slope)
                    cap = caps[0] + caps[1] * root
                    flat = max(rules.least_k_star, root * rules.width * (rules.vol_static + root * rules.vol_slope))
                    distance = np.log(k / f) if way == LINEAR else np.abs(np.log(k / f))
                    bend = np.where(
                        distance >= 0.0, np.minimum(cap, distance * cap / flat), np.maximum(-cap, distance * cap / flat)
                    )
                    v = vol * np.maximum(1.0 + bend, 0.0)
                moved = value(f, v, t=max(seconds - rules.look_ahead_s, 0.0) / SECONDS_PER_YEAR) * price_df
                change = (moved * (gain if moved > 0.0 else loss) - now) * damping[j]
                losses[j] += -abs(change) if way in (LINEAR, ABS) else change
        outcomes[a] = losses
        j = int(np.argmin(losses))
        out[1, a], worst[a] = (losses[j], j) if losses[j] < out[2, a] else (out[2, a], spots.size)
    return ScanResult(out[0], out[1], out[2], out[3], out[4], worst, outcomes)


def standard(book: MarginBook, isolated: Floats, unpaired: float) -> Floats:
    """Net option margin per account (<= 0): eq. (3) of `margin_derive`, isolated margins in the book's order."""
    out = np.zeros(book.accounts)
    for a in range(book.accounts):
        rows = slice(int(book.offsets[a]), int(book.offsets[a + 1]))
        sign, x, alone = book.sign[rows], book.options[:, rows], isolated[rows]
        for seconds in np.unique(x[1]):
            mine = x[1] == seconds
            w, k, size = sign[mine], x[0, mine], x[4, mine]
            prices = np.concatenate([[0.0], k])
            payoff = np.sum(size * np.maximum(w * (prices[:, None] - k), 0.0), axis=1)
            forward = float(x[2, mine][0] + x[3, mine][0])
            worst = min(float(np.min(payoff)), 0.0) + unpaired * forward * min(float(np.sum(size[w > 0])), 0.0)
            out[a] += max(float(np.sum(alone[mine])), worst)
    return out
