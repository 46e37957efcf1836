"""Was a VaR or ES forecast right?

Kupiec 1995 (unconditional coverage), N violations in T days at rate p = 1 - level, pi = N/T:

    LR_uc = -2 ln[(1-p)^(T-N) p^N / ((1-pi)^(T-N) pi^N)]  ~ chi2(1)                                    (1)

Christoffersen 1998, doi:10.2307/2527341: first-order independence from transitions n_ij, and both together,

    LR_ind = -2 ln[(1-pi2)^(n00+n10) pi2^(n01+n11) / ((1-pi01)^n00 pi01^n01 (1-pi11)^n10 pi11^n11)]  ~ chi2(1)
    LR_cc = LR_uc + LR_ind  ~ chi2(2).                                                                 (2)

Basel Committee 1996 traffic light: zones by the binomial probability of at most N violations (green < 95 %, red from
99.99 %), and the published multiplier add-on for 250 days at 99 %.
Acerbi and Szekely 2014 (Risk, "Back-testing expected shortfall"), profit X, forecasts VaR, ES > 0, I = [X < -VaR]:

    Z1 = (1/N) sum X I/ES + 1,     Z2 = sum X I / (T*alpha*ES) + 1,                                    (3)

both 0 in expectation when right and negative when risk is understated; Z2 rejects below -0.70 at 5 %, -1.8 at 0.01 %,
critical values that hardly depend on the tail.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import xlogy

from aggregator.core.errors import DomainError
from aggregator.quant._checks import broadcast, check_level, floats, representable, require

Flags = npt.NDArray[np.bool_]
# Supplement of the multiplication factor, by violations in 250 days at 99 % (Basel Committee, January 1996, table 2).
_PLUS = {5: 0.40, 6: 0.50, 7: 0.65, 8: 0.75, 9: 0.85}


class Verdict(NamedTuple):
    """statistic and p_value; small p_value: the forecast is rejected."""

    statistic: float
    p_value: float


class Coverage(NamedTuple):
    """Kupiec's, the independence and the joint test; transitions (2, 2): n_ij from state i to j, 1 = violation."""

    unconditional: Verdict
    independence: Verdict
    joint: Verdict
    transitions: npt.NDArray[np.int64]


class TrafficLight(NamedTuple):
    """zone: green, yellow or red; cumulative: probability of at most that many; plus: add-on, NaN off the table."""

    zone: str
    cumulative: float
    plus: float


def kupiec(violations: int, days: int, level: float) -> Verdict:
    """Equation (1) with p = 1 - level.  DomainError unless 0 <= violations <= days, days > 0 and 0.5 <= level < 1."""
    rate = _rate(violations, days, level)
    share = violations / days
    likelihood = float(_log(days - violations, violations, share) - _log(days - violations, violations, rate))
    return _chi2(2.0 * likelihood, 1)


def christoffersen(violated: npt.ArrayLike, level: float) -> Coverage:
    """Equations (1) and (2) on daily flags (T,), T >= 2.

    With no violation on the day after one, or none at all, the likelihoods take their limits 0 ln 0 = 0.
    """
    hit = floats("violated", violated)
    if hit.ndim != 1 or len(hit) < 2 or not np.all((hit == 0) | (hit == 1)):
        raise DomainError("flags are out of range", expected="(T >= 2,) of 0 and 1", found=str(hit.shape))
    before, after = hit[:-1].astype(np.int64), hit[1:].astype(np.int64)
    counts = np.bincount(2 * before + after, minlength=4).reshape(2, 2)
    n00, n01, n10, n11 = (int(c) for c in counts.ravel())
    pooled = (n01 + n11) / (len(hit) - 1)
    free = _log(n00, n01, _ratio(n01, n00 + n01)) + _log(n10, n11, _ratio(n11, n10 + n11))
    alone = kupiec(int(hit.sum()), len(hit), level)
    independence = _chi2(2.0 * (free - _log(n00 + n10, n01 + n11, pooled)), 1)
    return Coverage(alone, independence, _chi2(alone.statistic + independence.statistic, 2), counts)


def traffic_light(violations: int, days: int = 250, level: float = 0.99) -> TrafficLight:
    """Basel zone of a violation count; `plus` is defined for 250 days at 99 % only."""
    rate = _rate(violations, days, level)
    cumulative = float(stats.binom.cdf(violations, days, rate))
    zone = "green" if cumulative < 0.95 else "yellow" if cumulative < 0.9999 else "red"
    plus = float("nan")
    if (days, level) == (250, 0.99):
        plus = 0.0 if violations < 5 else _PLUS.get(violations, 1.0)
    return TrafficLight(zone, cumulative, plus)


class ShortfallTest(NamedTuple):
    """z1 (NaN without a violation), z2, violations; rejected: z2 below -0.70 (5 %)."""

    z1: float
    z2: float
    violations: int
    rejected: bool


@representable
def acerbi_szekely(profit: npt.ArrayLike, var: npt.ArrayLike, es: npt.ArrayLike, level: float = 0.975) -> ShortfallTest:
    """Equations (3) with alpha = 1 - level.  profit (T,), var and es (T,) or scalar, 0 < var <= es."""
    tail = 1.0 - check_level(level)
    length = floats("profit", profit).shape
    x, v, s = broadcast(profit=profit, var=var, es=es)
    if x.ndim != 1 or x.shape != length or not len(x):
        raise DomainError("profits are no line", expected="(T >= 1,)", found=f"{length}")
    require("profit", x, np.isfinite(x), "a finite number")
    require("var", v, v > 0.0, "> 0")
    require("es", s, (s >= v) & np.isfinite(s), "finite, at least VaR")
    hit = x < -v
    total, count = float(np.sum(x[hit] / s[hit])), int(hit.sum())
    z2 = total / (len(x) * tail) + 1.0
    return ShortfallTest(total / count + 1.0 if count else float("nan"), z2, count, z2 < -0.70)


def _rate(violations: int, days: int, level: float) -> float:
    """The expected share of violations, 1 - level; DomainError if the counts are none."""
    whole = 0 < days < np.inf and 0 <= violations <= days and days % 1 == 0 and violations % 1 == 0
    if not whole:
        raise DomainError(
            "counts are out of range", expected="whole 0 <= violations <= days", found=f"{violations}, {days}"
        )
    return 1.0 - check_level(level)


def _log(quiet: int, hits: int, rate: float) -> float:
    return float(xlogy(quiet, 1.0 - rate) + xlogy(hits, rate))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _chi2(statistic: float, degrees: int) -> Verdict:
    bounded = max(statistic, 0.0)  # a likelihood ratio is not negative; rounding may say -1e-16
    return Verdict(bounded, float(stats.chi2.sf(bounded, degrees)))
