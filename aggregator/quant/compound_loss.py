"""Distribution of a total loss from frequency and severity, by Panjer's recursion.

For frequencies with p_n = (a + b/n) p_{n-1} (Poisson: a = 0, b = lambda; negative binomial) and a severity f on whole
units, f_0 allowed,

    g_0 = P_N(f_0),     g_s = 1/(1 - a f_0) * sum_{j=1}^{s} (a + b j/s) f_j g_{s-j}.                     (1)

Panjer 1981, doi:10.1017/S0515036100006796.  g_0 underflows for lambda above about 700; the recursion then runs on
lambda/2^k and the result is convolved with itself k times, which is exact for a compound Poisson law.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import check_level, floats, representable
from aggregator.quant.jit import jit

Floats = npt.NDArray[np.float64]


class LossLaw(NamedTuple):
    """pmf (n,): probability of a total of 0..n-1 units; missing: probability beyond n-1."""

    pmf: Floats
    missing: float

    @property
    def mean(self) -> float:
        """Expected total in units, of what the table holds."""
        return float(np.arange(len(self.pmf)) @ self.pmf)

    @property
    def variance(self) -> float:
        """Variance in units squared, of what the table holds."""
        units = np.arange(len(self.pmf))
        return float((units - self.mean) ** 2 @ self.pmf)


@representable
def panjer_poisson(frequency: float, severity: npt.ArrayLike, units: int) -> LossLaw:
    """Compound Poisson.

    frequency >= 0: claims expected; severity (m,): probability of 0..m-1 units a claim; table of `units` >= 1.
    """
    f = _severity(severity)
    if not 0.0 <= frequency < np.inf:
        raise DomainError("frequency is out of range", expected="0 <= frequency < inf", found=str(frequency))
    _check_units(units)
    halvings = max(int(np.ceil(np.log2(frequency / 500.0))), 0) if frequency > 500.0 else 0
    part = frequency / 2.0**halvings
    g = recursion(0.0, part, float(np.exp(-part * (1.0 - f[0]))), f, units)
    for _ in range(halvings):
        g = np.convolve(g, g)[:units]
    return LossLaw(g, max(1.0 - float(g.sum()), 0.0))


@representable
def panjer_negative_binomial(r: float, success: float, severity: npt.ArrayLike, units: int) -> LossLaw:
    """Claims negative binomial, p_n = C(n+r-1, n) success^r (1-success)^n; r > 0, 0 < success < 1."""
    f = _severity(severity)
    if not 0.0 < r < np.inf or not 0.0 < success < 1.0:
        raise DomainError("frequency is out of range", expected="r > 0, 0 < success < 1", found=f"{r}, {success}")
    _check_units(units)
    a = 1.0 - success
    first = float((success / (1.0 - a * f[0])) ** r)
    if first == 0.0:
        raise DomainError("probability of no loss underflows", expected="> 1e-300", found="0", fix="use a coarser unit")
    g = recursion(a, a * (r - 1.0), first, f, units)
    return LossLaw(g, max(1.0 - float(g.sum()), 0.0))


def loss_quantile(law: LossLaw, level: float) -> int:
    """Least total whose cumulative probability reaches `level`; DomainError if the table ends before."""
    at = int(np.searchsorted(np.cumsum(law.pmf), check_level(level) * (1.0 - 1e-15)))
    if at >= len(law.pmf):
        raise DomainError(
            "the table ends before the level",
            expected=f"more than {len(law.pmf)} units",
            found=f"missing {law.missing}",
        )
    return at


@representable
def loss_shortfall(law: LossLaw, level: float) -> float:
    """Expected shortfall at `level` in units, the boundary total split as in `tail_risk`.  Needs the whole tail."""
    var = loss_quantile(law, level)
    _whole(law)
    units = np.arange(len(law.pmf))
    beyond = law.pmf[var + 1 :]
    return float((units[var + 1 :] @ beyond + var * (1.0 - level - beyond.sum())) / (1.0 - level))


@representable
def layer(law: LossLaw, attachment: float, limit: float = np.inf) -> float:
    """Expected payment of the layer min(max(S - attachment, 0), limit): stop-loss premium for limit inf."""
    if not attachment >= 0.0 or not limit > 0.0:
        raise DomainError(
            "layer is out of range", expected="attachment >= 0, limit > 0", found=f"{attachment}, {limit}"
        )
    _whole(law)
    return float(np.clip(np.arange(len(law.pmf)) - attachment, 0.0, limit) @ law.pmf)


@representable
def loaded_premium(law: LossLaw, loading: float) -> float:
    """Standard-deviation principle: E[S] + loading * sd(S), loading >= 0."""
    if not 0.0 <= loading < np.inf:
        raise DomainError("loading is out of range", expected="0 <= loading < inf", found=str(loading))
    _whole(law)
    return law.mean + loading * float(np.sqrt(law.variance))


@jit
def recursion(a: float, b: float, first: float, f: Floats, units: int) -> Floats:
    """g (units,) of (1) from severity f (m,) and g_0 = `first`."""
    g = np.zeros(units)
    g[0] = first
    scale = 1.0 / (1.0 - a * f[0])
    for s in range(1, units):
        total = 0.0
        for j in range(1, min(s, len(f) - 1) + 1):
            total += (a + b * j / s) * f[j] * g[s - j]
        g[s] = scale * total
    return g


def recursion_by_rows(a: float, b: float, first: float, f: Floats, units: int) -> Floats:
    """The oracle of `recursion`: (1) with one array sum for each total; (units,)."""
    g = np.zeros(units)
    g[0] = first
    for s in range(1, units):
        j = np.arange(1, min(s, len(f) - 1) + 1)
        g[s] = np.sum((a + b * j / s) * f[j] * g[s - j]) / (1.0 - a * f[0])
    return g


def _severity(severity: npt.ArrayLike) -> Floats:
    f = np.ascontiguousarray(floats("severity", severity))
    if f.ndim != 1 or not len(f) or not np.all(f >= 0.0) or abs(float(f.sum()) - 1.0) > 1e-9 or f[0] >= 1.0:
        raise DomainError(
            "severity is not a distribution", expected="(m,) >= 0 summing to 1, not all at 0", found=f"sum {f.sum()}"
        )
    return f


def _check_units(units: int) -> None:
    if isinstance(units, bool) or not isinstance(units, int | np.integer) or units < 1:
        raise DomainError("table has no size", expected="a whole number of units >= 1", found=str(units))


def _whole(law: LossLaw) -> None:
    if law.missing > 1e-9:
        raise DomainError(
            "the table cuts the tail off", expected="missing <= 1e-9", found=str(law.missing), fix="more units"
        )
