r"""What hedging costs against what risk it leaves, by simulation with jumps.

One option is sold (or bought) at its Black-Scholes premium and hedged on a grid of :math:`n` dates by a rule; the
underlying follows Merton's (1976, doi:10.1016/0304-405X(76)90022-2) jump diffusion under zero drift of :math:`S`:

.. math::
   \ln\frac{S_{i+1}}{S_i} = -\tfrac12\sigma^2\Delta t-\eta\bar\kappa\Delta t + \sigma\sqrt{\Delta t}\,Z_i
        + \sum_{j=1}^{N_i}(m+sY_j),\quad \bar\kappa=e^{m+s^2/2}-1                                       \tag{1}

Wealth at expiry is premium - payoff + gains of the hedge - costs :math:`\lambda|\Delta n|S`; closing the hedge
costs too.  Reported with the sampling error of the mean, so that two rules can be told apart or not.  The random
numbers depend on the seed alone, not on the rule: rules are compared on the same paths.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant import black, hedging
from aggregator.quant._checks import representable, require
from aggregator.quant._option_inputs import Floats, kind_sign
from aggregator.quant.jit import jit
from aggregator.quant.normal import INV_SQRT_2PI, cdf

Rule = Literal["delta", "leland", "whalley_wilmott", "zakamouline"]
_CODES = {"delta": 0, "leland": 1, "whalley_wilmott": 2, "zakamouline": 3}


class Jumps(NamedTuple):
    """Intensity per year, mean and standard deviation of the log jump."""

    per_yr: float = 0.0
    mean: float = 0.0
    deviation: float = 0.0


class HedgeOutcome(NamedTuple):
    """Per rule: mean wealth and its standard error, standard deviation, expected shortfall of the worst 5 %
    (a loss, positive), mean cost paid, mean number of trades; wealth (paths,) itself.

    ill_posed_frac: share of hedging dates at which the rule had no hedge (Zakamouline's K <= -1 of a long option near
    its strike and expiry) and took the limit of no volatility instead; not zero: the costs are too large for the rule.
    """

    mean: float
    standard_error: float
    deviation: float
    es_95: float
    cost: float
    trades: float
    wealth: Floats
    ill_posed_frac: float


@representable
def simulate(
    rule: Rule,
    *,
    kind: str,
    S: float,
    K: float,
    T_yr: float,
    sigma: float,
    cost_frac: float,
    steps: int,
    paths: int,
    seed: int,
    risk_aversion: float = 1.0,
    jumps: Jumps = Jumps(),  # noqa: B008  an immutable default
    long: bool = False,
) -> HedgeOutcome:
    """Hedge one option held (`long`) or sold by `rule`; rates are zero, cost_frac per single trade.

    DomainError on an unknown rule, a number out of range, fewer than two paths, or an option that the rule has no
    hedge for at the start.
    """
    if rule not in _CODES:
        raise DomainError("unknown hedging rule", expected=", ".join(_CODES), found=str(rule))
    _check((S, K, T_yr, sigma, risk_aversion), cost_frac, jumps, steps, paths)
    premium = float(black.price(kind, S, K, T_yr, sigma))
    sign, side, hedge_vol = float(kind_sign(kind)), 1.0 if long else -1.0, sigma
    if rule == "leland":
        hedge_vol = _leland_vol(sigma, cost_frac, T_yr / steps, long=long)
    if rule == "zakamouline":  # refuses an option that it has no hedge for
        hedging.zakamouline(kind, S, K, T_yr, sigma, cost_frac=cost_frac, risk_aversion=risk_aversion, long=long)
    moves = log_moves(seed, paths, steps, T_yr, sigma, jumps)
    out = np.empty((4, paths))
    _run(moves, sign, S, K, T_yr, sigma, hedge_vol, cost_frac, risk_aversion, _CODES[rule], side, out)
    require("wealth of path", out[0], np.isfinite(out[0]), "finite: milder jumps or volatility")
    wealth = out[0] - side * premium
    deviation = float(np.std(wealth, ddof=1))
    return HedgeOutcome(
        mean=float(np.mean(wealth)),
        standard_error=deviation / float(np.sqrt(paths)),
        deviation=deviation,
        es_95=float(-np.mean(np.sort(wealth)[: max(paths // 20, 1)])),
        cost=float(np.mean(out[1])),
        trades=float(np.mean(out[2])),
        wealth=wealth,
        ill_posed_frac=float(np.mean(out[3])) / steps,
    )


def _check(numbers: tuple[float, ...], cost_frac: float, jumps: Jumps, steps: int, paths: int) -> None:
    """numbers: what has to be positive."""
    costs = (cost_frac, jumps.per_yr, jumps.deviation)
    if not (
        all(0.0 < x < np.inf for x in numbers)
        and all(0.0 <= x < np.inf for x in costs)
        and np.isfinite(jumps.mean)
        and steps >= 1
        and paths >= 2
    ):
        raise DomainError(
            "nothing to simulate",
            expected="S, K, T_yr, sigma, risk aversion > 0, cost and jumps >= 0, all finite, steps >= 1, paths >= 2",
            found=f"{numbers}, {costs}, mean jump {jumps.mean}, {steps} steps, {paths} paths",
        )


def _leland_vol(sigma: float, cost_frac: float, dt_yr: float, *, long: bool) -> float:
    """DomainError where the costs leave no volatility to hedge with."""
    both = hedging.leland(sigma, cost_frac=cost_frac, interval_yr=dt_yr)
    hedge_vol = float(both.long if long else both.short)
    if not hedge_vol > 0.0:
        raise DomainError(
            "Leland's number is at or above 1", expected="longer intervals or lower costs", found=str(both.number)
        )
    return hedge_vol


def log_moves(seed: int, paths: int, steps: int, T_yr: float, sigma: float, jumps: Jumps) -> Floats:
    """Log returns of (1), shape (paths, steps)."""
    rng = np.random.default_rng(seed)
    dt = T_yr / steps
    if jumps.per_yr * dt > 1e6:
        raise DomainError("jumps are no jumps", expected="at most 1e6 per interval", found=str(jumps.per_yr * dt))
    drift = -0.5 * sigma**2 - jumps.per_yr * np.expm1(jumps.mean + 0.5 * jumps.deviation**2)
    moves = drift * dt + sigma * np.sqrt(dt) * rng.standard_normal((paths, steps))
    if jumps.per_yr > 0.0:
        count: npt.NDArray[np.int64] = rng.poisson(jumps.per_yr * dt, (paths, steps))
        moves += count * jumps.mean + np.sqrt(count) * jumps.deviation * rng.standard_normal((paths, steps))
    return np.asarray(moves, dtype=np.float64)


@jit
def _target(
    code: int, sign: float, s: float, k: float, tau: float, vol: float, hedge_vol: float, cost: float, aversion: float,
    side: float,
) -> tuple[float, float, bool]:  # fmt: skip
    """Centre and half-width of the hedge of one option held (side +1) or sold (-1), in units of the underlying, and
    whether the rule has one (else centre and width are its limit as the adjusted volatility goes to zero)."""
    root = np.sqrt(tau)
    d1 = np.log(s / k) / (hedge_vol * root) + 0.5 * hedge_vol * root
    wide, posed = 0.0, True
    if code >= 2:
        d = np.log(s / k) / (vol * root) + 0.5 * vol * root
        gamma = INV_SQRT_2PI * np.exp(-0.5 * d * d) / (s * vol * root)
        if code == 2:
            wide = (1.5 * cost * s * gamma * gamma / aversion) ** (1.0 / 3.0)
            d1 = d
        else:
            squeeze = vol**-0.25
            wide = cost / (aversion * s * vol * vol * tau)
            wide += 1.12 * cost**0.31 * tau**0.05 * squeeze * np.sqrt(gamma / aversion)
            shift = -4.76 * cost**0.78 * tau**-0.02 * squeeze * (aversion * s * s * gamma) ** 0.15
            scale = 1.0 + side * shift
            posed = scale > 0.0
            moved = vol * np.sqrt(max(scale, 1e-8))
            d1 = np.log(s / k) / (moved * root) + 0.5 * moved * root
    return -side * sign * cdf(sign * d1), wide, posed


@jit
def _run(
    moves: Floats, sign: float, s0: float, k: float, horizon: float, vol: float, hedge_vol: float, cost: float,
    aversion: float, code: int, side: float, out: Floats,
) -> None:  # fmt: skip
    """Rows of out: wealth without premium, cost, trades, dates without a well-posed hedge, per path."""
    paths, steps = moves.shape
    dt = horizon / steps
    for i in range(paths):
        s, held, cash, paid, trades, ill_posed = s0, 0.0, 0.0, 0.0, 0.0, 0.0
        for j in range(steps):
            centre, wide, posed = _target(code, sign, s, k, horizon - j * dt, vol, hedge_vol, cost, aversion, side)
            ill_posed += 0.0 if posed else 1.0
            new = min(max(held, centre - wide), centre + wide)
            if new != held:
                fee = cost * abs(new - held) * s
                cash -= (new - held) * s + fee
                paid += fee
                trades += 1.0
                held = new
            s *= np.exp(moves[i, j])
        fee = cost * abs(held) * s
        out[0, i] = cash + held * s - fee + side * max(sign * (s - k), 0.0)
        out[1, i] = paid + fee
        out[2, i] = trades
        out[3, i] = ill_posed
