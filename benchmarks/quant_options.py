"""Options and margin against other programs, and against the rates that the product needs.

Every row is measured in this run.  Rows named `.rate`, `.error` or `.silent` compare with a required figure, the others
with another program at the same work on the same inputs (a sample of them, where it is slow), answers compared first.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from vollib.black import black as vollib_black
from vollib.black.implied_volatility import implied_volatility as vollib_iv
from vollib.black_scholes import black_scholes as vollib_price
from vollib.black_scholes.greeks import analytical as vollib_greeks

from aggregator.quant import black, implied_vol, margin_reference, ssvi
from aggregator.quant.inverse import inverse_first_greeks
from aggregator.quant.margin import MarginBook, Market, margin_book
from aggregator.quant.margin_derive import PMRM_RULES, PMRM_SCENARIOS, DerivePortfolio
from benchmarks._pairs import row

OPTIONS_PER_S, QUOTES_PER_S, PORTFOLIOS_PER_S = 1e7, 3e6, 5e3
SSVI_S, VOL_ERROR = 0.05, 1e-8
CORES = min(2, os.cpu_count() or 1)  # the bars are for two


def seconds(work: Callable[[], Any], repeats: int, cores: int = 1) -> float:
    """Best CPU time of several, what worker threads did shared among the cores, after one warm-up that may compile.

    CPU time, because other processes on the machine should not count; the calling thread's own part is serial.
    """
    work()
    best = np.inf
    for _ in range(repeats):
        everything, serial = time.process_time(), time.thread_time()
        work()
        everything, serial = time.process_time() - everything, time.thread_time() - serial
        best = min(best, serial + (everything - serial) / cores)
    return float(best)


def chain(n: int) -> tuple[np.ndarray, ...]:
    """Kinds, forwards, strikes, years, volatilities."""
    rng = np.random.default_rng(0)
    forward = rng.uniform(1500.0, 4500.0, n)
    T, vol = rng.uniform(0.005, 1.0, n), rng.uniform(0.2, 1.5, n)
    strike = forward * np.exp(vol * np.sqrt(T) * rng.normal(size=n))
    return np.where(rng.random(n) < 0.5, 1, -1), forward, strike, T, vol


def greeks(n: int, sample: int, repeats: int) -> list[dict[str, Any]]:
    kind, S, K, T, vol = chain(n)

    def vollib() -> list[tuple[float, ...]]:
        out = []
        for w, s, k, t, v in zip(kind[:sample], S, K, T, vol, strict=False):
            a = ("c" if w > 0 else "p", float(s), float(k), float(t), 0.03, float(v))
            out.append(
                (
                    vollib_price(*a),
                    *(
                        f(*a)
                        for f in (vollib_greeks.delta, vollib_greeks.gamma, vollib_greeks.vega, vollib_greeks.theta)
                    ),
                )
            )
        return out

    # vollib's vega is per 1 % and its theta per day
    ours = black.first_greeks(kind[:sample], S[:sample], K[:sample], T[:sample], vol[:sample], 0.03)
    theirs = np.array(vollib()).T
    for mine, other, unit in zip(ours[:5], theirs, (1, 1, 1, 100, 365), strict=True):
        if not np.allclose(mine, other * unit, rtol=1e-8, atol=1e-9):
            raise AssertionError("price or Greeks differ from vollib")
    slow = seconds(vollib, 2) * n / sample
    linear = seconds(lambda: black.first_greeks(kind, S, K, T, vol, 0.03), repeats, CORES)
    coin = seconds(lambda: inverse_first_greeks(kind, S, K, T, vol), repeats, CORES)
    return [
        row("options.greeks", f"price and four Greeks of {n:,} options, s: vollib / ours", linear, slow, 100.0),
        row("options.greeks.rate", "options per second: required / ours", linear, n / OPTIONS_PER_S, 1.0),
        row("options.inverse", f"coin price and four Greeks of {n:,} options, s: vollib / ours", coin, slow, 100.0),
        row("options.inverse.rate", "options per second: required / ours", coin, n / OPTIONS_PER_S, 1.0),
    ]


def inversion(n: int, sample: int, repeats: int) -> list[dict[str, Any]]:
    kind, F, K, T, vol = chain(n)
    price = black.black76_price(kind, F, K, T, vol)
    ours = seconds(lambda: implied_vol.implied_vol(kind, price, F, K, T), repeats, CORES)
    found = implied_vol.implied_vol(kind, price, F, K, T)

    def vollib() -> list[float]:
        out = []
        for w, p, f, k, t in zip(kind[:sample], price, F, K, T, strict=False):
            try:
                out.append(vollib_iv(float(p), float(f), float(k), 0.0, float(t), "c" if w > 0 else "p"))
            except Exception:  # noqa: BLE001  it raises several kinds of its own where it cannot solve
                out.append(np.nan)
        return out

    slow = seconds(vollib, 1) * n / sample
    theirs = np.array(vollib())
    # "solves": its answer, put back into its own formula, gives the price to one part in 1e12 of the forward
    back = np.array([
        vollib_black("c" if w > 0 else "p", float(f), float(k), float(t), 0.0, float(v)) if np.isfinite(v) else np.nan
        for w, f, k, t, v in zip(kind[:sample], F, K, T, theirs, strict=False)
    ])  # fmt: skip
    solved = np.isfinite(theirs) & (np.abs(back - price[:sample]) < 1e-12 * F[:sample])
    comparable = solved & (found.status[:sample] == implied_vol.OK)
    error = float(np.max(np.abs(found.sigma[:sample] - vol[:sample])[comparable]))
    silent = silent_failures()
    return [
        row("options.iv", f"{n:,} implied volatilities, s: vollib / ours", ours, slow, 1.0),
        row("options.iv.rate", "quotes per second: required / ours", ours, n / QUOTES_PER_S, 1.0),
        row(
            "options.iv.error",
            f"largest error in vol where vollib solves ({int(np.sum(comparable))} of {sample}), over 1e-8",
            error,
            VOL_ERROR,
            1.0,
            at_most=True,
        ),
        row(
            "options.iv.silent",
            "silent failures on the tiny-time-value grid, plus one, over one",
            silent + 1.0,
            1.0,
            1.0,
            at_most=True,
        ),
    ]


def silent_failures() -> int:
    """Quotes on a 3,000 underlying with time values down to 1e-8 that are called OK and do not reprice."""
    F, T = 3000.0, 30 / 365
    strikes, values = F * np.linspace(0.5, 2.0, 31), 10.0 ** np.arange(-8.0, 2.0)
    kind, K, value = (a.ravel() for a in np.meshgrid([1, -1], strikes, values, indexing="ij"))
    intrinsic = np.maximum(kind * (F - K), 0.0)
    quote = intrinsic + value
    found = implied_vol.implied_vol(kind, quote, F, K, T)
    otm = np.where(K >= F, 1, -1)
    again = black.black76_price(otm, F, K, T, np.where(np.isfinite(found.sigma), found.sigma, 0.0))
    wrong = np.abs(again - (quote - intrinsic)) > 1e-9 * value + 4e-13 * np.minimum(F, K) * (np.abs(K / F - 1) < 0.02)
    return int(np.sum(wrong & (found.status == implied_vol.OK)))


def surface(repeats: int) -> list[dict[str, Any]]:
    times = np.array([1, 2, 7, 14, 30, 60, 90, 180, 270, 365]) / 365
    truth = ssvi.SsviSurface(times, 0.4 * times**0.9, -0.3, 1.2, 0.4)
    t = np.repeat(times, 100)
    k = np.concatenate([np.linspace(-3, 3, 100) * np.sqrt(theta) for theta in truth.theta])
    vol = truth.vol(k, t) * (1 + 0.005 * np.random.default_rng(1).standard_normal(k.size))
    slot = np.repeat(np.arange(10), 100)

    def scipy_fit() -> Any:
        def errors(z: np.ndarray) -> np.ndarray:
            theta = np.cumsum(np.exp(z[3:]))[slot]
            rho, eta, gamma = np.tanh(z[0]), np.exp(z[1]), z[2]
            phi = eta * theta**-gamma * (1 + theta) ** (gamma - 1)
            w = 0.5 * theta * (1 + rho * phi * k + np.sqrt((phi * k + rho) ** 2 + 1 - rho**2))
            return np.asarray(np.sqrt(w / t) - vol)

        start = np.concatenate([[-0.2, 0.0, 0.35], np.log(np.diff(0.35 * times, prepend=0.0))])
        return least_squares(errors, start)

    ours = seconds(lambda: ssvi.fit(k, T_yr=t, vol=vol), repeats)
    found, other = ssvi.fit(k, T_yr=t, vol=vol), scipy_fit()
    if found.rms_vol > 1.01 * np.sqrt(2 * other.cost / k.size):
        raise AssertionError("the fit is worse than scipy's unconstrained one")
    return [
        row(
            "options.ssvi", "SSVI fit of 1,000 quotes, s: scipy least_squares / ours", ours, seconds(scipy_fit, 2), 1.0
        ),
        row("options.ssvi.rate", "seconds per fit over 0.05", ours, SSVI_S, 1.0, at_most=True),
    ]


def portfolios(accounts: int, legs: int = 30) -> MarginBook:
    rng = np.random.default_rng(2)
    m = accounts * legs
    return margin_book(
        accounts, account=np.repeat(np.arange(accounts), legs), kind=rng.random(m) < 0.5,
        K=rng.integers(10, 40, m) * 100.0, seconds=rng.choice([7, 30, 90, 180], m) * 86_400.0,
        forward_variable=2000.0, amount=rng.normal(size=m), sigma=rng.uniform(0.4, 1.0, m), r=0.03,
    )  # fmt: skip


def pmrm(accounts: int, sample: int, repeats: int) -> list[dict[str, Any]]:
    book, small = portfolios(accounts), portfolios(sample)
    ours = seconds(lambda: DerivePortfolio().margin(book, Market(2000.0)), repeats)
    zero, one = np.zeros(sample), np.ones(sample)
    slow = seconds(lambda: margin_reference.scan(small, zero, one, PMRM_RULES, PMRM_SCENARIOS), 1) * accounts / sample
    return [
        row("margin.pmrm", f"PMRM of {accounts:,} thirty-leg portfolios, s: numpy form / ours", ours, slow, 1.0),
        row("margin.pmrm.rate", "portfolios per second: required / ours", ours, accounts / PORTFOLIOS_PER_S, 1.0),
    ]


def benchmarks(quick: bool = True) -> list[dict[str, Any]]:
    """name, what, ours, reference, ratio, bar and whether it holds, one dict per comparison."""
    repeats = 5 if quick else 15
    return [
        *greeks(1_000_000, 500 if quick else 5_000, repeats),
        *inversion(1_000_000, 500 if quick else 5_000, repeats),
        *surface(repeats),
        *pmrm(2_000, 10, repeats),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="larger samples and more repeats")
    print(json.dumps(benchmarks(quick=not parser.parse_args().full), indent=1))
