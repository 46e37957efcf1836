r"""The law of a quadratic form of independent normals, by inversion of its transform.

.. math::
   Z &= \sum_j \bigl[a_j y_j + \tfrac12\lambda_j (y_j^2-1)\bigr], \qquad y_j\sim N(0,1)                        \tag{1}\\
   K(s) &= \ln E\,e^{sZ} = \sum_j\Bigl[-\tfrac12\ln(1-\lambda_j s) - \tfrac12\lambda_j s
           + \tfrac12\frac{a_j^2s^2}{1-\lambda_j s}\Bigr]                                                      \tag{2}\\
   P(Z>x) &= \frac1{2\pi i}\int \frac{e^{K(s)-sx}}{s}\,ds, \qquad
   E(Z-x)^+ = \frac1{2\pi i}\int \frac{e^{K(s)-sx}}{s^2}\,ds                                               \tag{3}

(Imhof 1961, doi:10.1093/biomet/48.3-4.419, integrates (3) along the imaginary axis.)  Here the path starts at the
saddlepoint :math:`K'(c)=x` (Lugannani and Rice 1980) and leaves it on two rays, at the angle among `_RAYS` at which
the integrand dies first: to the right where x lies above the centre of what the far transform sees, to the left where
the law is bounded above.  No ray meets a singularity, all of which are real.  On a ray u = exp(v - exp(-v)) turns the
integral into one that the trapezoid rule sums with an error that squares when the step halves (Takahasi and Mori 1974);
the last change is given as the error.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy.special import ndtri

from aggregator.core.errors import DomainError

Floats = npt.NDArray[np.float64]
_RAYS = np.exp(1j * np.pi / 180.0 * np.array([60.0, 120.0, 75.0, 105.0, 90.0]))
_PROBES = np.exp(np.linspace(-4.0, 25.0, 59))
_LEAST_BASE = 0.3  # the path keeps off the pole at 0, in standard deviations; every 1/lambda is beyond 0.7


class FormTail(NamedTuple):
    """density, probability P(Z > x) and excess E(Z - x)+ at one x, and the errors of the three by inversion."""

    density: float
    probability: float
    excess: float
    errors: Floats


class QuadraticForm:
    """Z of (1) with a variance of one; a, lam: shape (k,)."""

    def __init__(self, a: Floats, lam: Floats) -> None:
        self.a, self.lam = a, lam
        self.largest = float(np.sum(-0.5 * a * a / lam) - 0.5 * np.sum(lam)) if np.all(lam < 0.0) else np.inf

    def quantile(self, level: float) -> float:
        """x with P(Z > x) = 1 - level; one-sided Chebyshev (Cantelli) bounds it on both sides."""
        beyond = 1.0 - level
        low = -1.000001 * float(np.sqrt(beyond / level))
        high = min(1.000001 * float(np.sqrt(level / beyond)), self.largest)
        x = min(float(ndtri(level)), 0.5 * (low + high))
        for _ in range(8):  # Newton; an end of the law where its density is infinite is left to bisection
            at = self.tail(x)
            if not at.density > 0.0:
                break
            step = (at.probability - beyond) / at.density
            x = min(max(x + step, low), high)
            if abs(step) < 1e-8 * (1.0 + abs(x)):
                return x
        return float(optimize.brentq(lambda x: self.tail(x).probability - beyond, low, high, xtol=1e-15, rtol=1e-14))

    def tail(self, x: float) -> FormTail:
        """Equations (3) at x."""
        if x >= self.largest:
            return FormTail(0.0, 0.0, 0.0, np.zeros(3))
        base = self._base(x)
        unit = 1.0 / np.sqrt(self._slope_and_curve(base)[1])
        height = float(self._log_transform(np.array([base + 0j]))[0].real) - base * x
        ray, end = self._ray(x, base, unit, height)

        def at(v: Floats) -> Floats:
            u = np.exp(v - np.exp(-v))
            s = base + unit * u * ray
            f = np.exp(self._log_transform(s) - s * x - height) * ray * u * (1.0 + np.exp(-v))
            return np.asarray(np.stack([f, f / s, f / (s * s)]).imag.sum(axis=1), dtype=np.float64)

        step, low, high = 0.25, -3.6, float(np.log(end)) + 0.5
        total = at(np.arange(low, high, step))
        change = np.full(3, np.inf)
        while np.any(change > 1e-12 * np.abs(total) * step) and step > 1e-3:
            before = total * step
            total = total + at(np.arange(low + 0.5 * step, high, step))
            step *= 0.5
            change = np.abs(total * step - before)
        scale = unit * np.exp(height) / np.pi
        density, probability, excess = total * step * scale
        return FormTail(float(density), float(probability), float(excess), change * scale)

    def _log_transform(self, s: npt.NDArray[np.complexfloating] | Floats) -> npt.NDArray[np.complex128]:
        """K of (2) at points of any shape."""
        left = 1.0 - np.multiply.outer(s, self.lam)
        square = np.multiply.outer(s * s, self.a**2)
        return np.asarray(np.sum(-0.5 * np.log(left) + 0.5 * square / left, axis=-1) - 0.5 * s * np.sum(self.lam))

    def _slope_and_curve(self, c: float) -> tuple[float, float]:
        left = 1.0 - self.lam * c
        slope = 0.5 * self.lam * (1.0 / left - 1.0) + self.a**2 * c * (1.0 - 0.5 * self.lam * c) / left**2
        return float(np.sum(slope)), float(np.sum(0.5 * (self.lam / left) ** 2 + self.a**2 / left**3))

    def _base(self, x: float) -> float:
        """The real point where the path starts: K'(c) = x, but not below `_LEAST_BASE`."""
        if self._slope_and_curve(_LEAST_BASE)[0] >= x:
            return _LEAST_BASE
        steepest = max(float(np.max(self.lam)), 0.0)  # c = t/(1 + steepest t) stays left of 1/steepest

        def short(t: float) -> float:
            return self._slope_and_curve(t / (1.0 + steepest * t))[0] - x

        low = _LEAST_BASE / (1.0 - steepest * _LEAST_BASE)
        high = 2.0 * low
        while short(high) < 0.0:
            high *= 2.0
        t = float(optimize.brentq(short, low, high, rtol=1e-2))
        return t / (1.0 + steepest * t)

    def _ray(self, x: float, base: float, unit: float, height: float) -> tuple[complex, float]:
        """Direction, and the distance in units beyond which the integrand is below e^-45 of its start.

        DomainError where it dies on no ray, as rounding can make it."""
        s = base + unit * np.multiply.outer(_RAYS, _PROBES)
        size = (self._log_transform(s) - s * x).real - height - np.log(np.abs(s) / base)
        best, reach = 1j, np.inf
        for direction, along in zip(_RAYS, size, strict=True):
            if np.max(along) <= 3.0:  # on the vertical it never grows
                alive = int(np.max(np.flatnonzero(along > -45.0), initial=-1))
                end = float(_PROBES[min(alive + 1, len(_PROBES) - 1)])
                if end < 0.7 * reach:
                    best, reach = complex(direction), end
        if reach == np.inf:
            raise DomainError(
                "the inversion does not settle", expected="a ray on which the transform dies", found="none"
            )
        return best, reach
