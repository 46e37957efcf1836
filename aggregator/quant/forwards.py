r"""The forward curve: from put-call parity on one expiry, and across expiries from futures.

Parity, with discount factor :math:`D=e^{-rT}`, and its coin-settled form:

.. math:: C(K)-P(K) = D\,(F-K) \quad(1), \qquad c(K)-p(K) = D\,(1-K/F) \quad(2)

so the differences are a straight line in :math:`K`: its root is :math:`F`, its slope gives :math:`D`
(Stoll 1969, doi:10.1111/j.1540-6261.1969.tb01694.x).  With :math:`D` given, each strike is one estimate of
:math:`F` and the weighted median is taken, which a few wrong quotes cannot move; the line that gives both is found from
medians too, and then by least squares without the outliers.  Between pillars :math:`\ln F` is
linear in :math:`T` (constant forward carry); beyond the last pillar the last carry goes on, and before the first it
starts at spot.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, representable, require

Floats = npt.NDArray[np.float64]


class ParityForward(NamedTuple):
    """forward and discount of one expiry; worst parity violation [price units of the quotes]; strikes used."""

    forward: float
    discount: float
    worst_residual: float
    strikes: int


@representable
def parity_forward(
    K: npt.ArrayLike,
    call: npt.ArrayLike,
    put: npt.ArrayLike,
    *,
    discount: float | None = 1.0,
    weight: npt.ArrayLike | None = None,
    coin: bool = False,
) -> ParityForward:
    """Forward of one expiry from call and put prices on the same strikes, eq. (1), or (2) when `coin`.

    K, call, put, weight: shape (n,); a strike with a NaN price or no weight is left out.  discount=None
    fits D too, which takes two strikes.  Raises DomainError when too few strikes are left or the fit is absurd.
    """
    k, c, p = floats("K", K), floats("call", call), floats("put", put)
    w = np.ones_like(k) if weight is None else floats("weight", weight)
    if discount is not None:
        require("discount", discount, 0.0 < discount < np.inf, "0 < discount < inf, or None to fit it")
    if not k.shape == c.shape == p.shape == w.shape or k.ndim != 1:
        raise DomainError("strikes, calls, puts and weights differ in shape", expected="one price per strike")
    usable = np.isfinite(k) & np.isfinite(c) & np.isfinite(p) & (w > 0) & (w < np.inf) & (k > 0)
    k, gap, w = k[usable], (c - p)[usable], w[usable]
    need = 1 if discount is not None else 2
    if np.unique(k).size < need:
        raise DomainError(
            "too few strikes for parity", expected=f"{need} with both prices", found=str(np.unique(k).size)
        )
    if discount is None:
        level, slope = _line(k, gap, w)
        found = -level / slope if slope != 0.0 else np.nan
        discount = float(level) if coin else float(-slope)
    elif coin:
        # c - p >= D is parity with no finite forward: such a strike votes for the far end
        room = 1.0 - gap / discount
        found = _weighted_median(np.where(room > 0.0, k / np.where(room > 0.0, room, 1.0), np.inf), w)
    else:
        found = _weighted_median(k + gap / discount, w)
    if not (0.0 < found < np.inf and 0.0 < discount < np.inf):
        raise DomainError(
            "parity gives no forward", expected="positive forward and discount", found=f"F={found}, D={discount}"
        )
    model = discount * (1.0 - k / found) if coin else discount * (found - k)
    return ParityForward(float(found), discount, float(np.max(np.abs(gap - model))), int(k.size))


class ForwardCurve:
    """Forward by time to expiry.

    T_yr, forward: shape (n,), times positive and rising; spot: the value at T = 0.  DomainError names the pillar.
    """

    @representable
    def __init__(self, spot: float, T_yr: npt.ArrayLike, forward: npt.ArrayLike) -> None:
        times, values = np.atleast_1d(floats("T_yr", T_yr)), np.atleast_1d(floats("forward", forward))
        if times.shape != values.shape or times.ndim != 1 or times.size == 0:
            raise DomainError("a forward curve needs one forward per time", found=f"{times.shape}, {values.shape}")
        times, values = np.concatenate([[0.0], times]), np.concatenate([[spot], values])
        wrong = ~(np.isfinite(values) & (values > 0.0) & np.isfinite(times))
        wrong[1:] |= ~(times[1:] > times[:-1])
        if np.any(wrong):
            i = int(np.argmax(wrong))
            raise DomainError(
                f"pillar {i - 1} of the forward curve is unusable" if i else "spot is unusable",
                expected="finite positive values at rising positive times",
                found=f"T={times[i]}, F={values[i]}",
            )
        self._times, self._logs = times, np.log(values)

    @representable
    def forward(self, T_yr: npt.ArrayLike) -> Floats:
        """Forward for delivery at T_yr >= 0, any shape."""
        t = floats("T_yr", T_yr)
        require("T_yr", t, (t >= 0.0) & np.isfinite(t), "0 <= T_yr < inf: a forward is for a time to come")
        end = self._times[-1]
        carry = (self._logs[-1] - self._logs[-2]) / (end - self._times[-2])
        inside = np.interp(t, self._times, self._logs)
        return np.asarray(np.exp(inside + carry * np.maximum(t - end, 0.0)), dtype=np.float64)

    @representable
    def carry(self, T_yr: npt.ArrayLike) -> Floats:
        """Continuous carry ln(F(T)/S)/T per year for T_yr > 0, any shape."""
        t = floats("T_yr", T_yr)
        require("T_yr", t, (t > 0.0) & np.isfinite(t), "0 < T_yr < inf: carry needs time")
        return np.asarray((np.log(self.forward(t)) - self._logs[0]) / t, dtype=np.float64)


def _line(x: Floats, y: Floats, w: Floats) -> tuple[float, float]:
    """(level at 0, slope) of y over x that a few wrong points cannot move.

    The weighted median of the slopes of all pairs (Theil and Sen, pairs weighted by their distance), then least squares
    without what lies beyond 3.5 of the scale that the median residual gives (Rousseeuw and Leroy 1987, ch. 5).
    """
    kept = np.ones(len(x), np.bool_)
    if len(x) > 2:
        i, j = np.triu_indices(len(x), 1)
        apart = x[i] != x[j]
        i, j = i[apart], j[apart]
        slope = _weighted_median((y[j] - y[i]) / (x[j] - x[i]), w[i] * w[j] * np.abs(x[j] - x[i]))
        residual = y - slope * x
        residual = np.abs(residual - _weighted_median(residual, w))
        room = max(3.5 * 1.4826 * _weighted_median(residual, w), 1e-12 * float(np.max(np.abs(y))))
        kept = residual <= room
        if np.unique(x[kept]).size < 2:
            kept[:] = True
    u, at, value = w[kept], x[kept], y[kept]
    middle = np.average(at, weights=u)
    slope = float(np.sum(u * (at - middle) * value) / np.sum(u * (at - middle) ** 2))
    return float(np.average(value, weights=u) - slope * middle), slope


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(weights[order])
    half = 0.5 * mass[-1]
    i = int(np.searchsorted(mass, half))
    if mass[i] == half and i + 1 < values.size:
        return float(0.5 * (values[order[i]] + values[order[i + 1]]))
    return float(values[order[i]])
