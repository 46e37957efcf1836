r"""Dealers who hedge their gamma into a market with impact: damped, amplified, or unstable.

A shock :math:`r_0` moves spot; dealers with net gamma :math:`\Gamma` stay delta neutral by trading
:math:`-\Gamma S^2 r` dollars, and linear impact :math:`\kappa` (return per dollar of flow) feeds back:

.. math:: r = r_0 - g\,r,\quad g=\kappa\Gamma S^2 \qquad\Rightarrow\qquad
   r = \frac{r_0}{1+g},\quad \text{flow} = -\Gamma S^2 r,\quad \sigma_{eff}=\frac{\sigma}{1+g}            \tag{1}

(Frey & Stremme 1997, doi:10.1111/1467-9965.00036; Schoenbucher & Wilmott 2000, doi:10.1137/S0036139996308534).
Linear impact knows no floor: a response below -1 says only that the shock is beyond the model.
For :math:`g\le-1` there is no finite response: (1) would change sign, so it is labelled UNSTABLE and every figure
is NaN or infinite.  For :math:`g\ge1` the fixed point exists but plain iteration round by round diverges: flagged.

For a whole book the flow is :math:`-S_0[\Delta(S_0(1+r))-\Delta(S_0)]` with deltas repriced in full, and the response
is the first root met on the way from no move in the direction of the shock,

.. math:: h(r) = r - r_0 + \kappa S_0[\Delta(S_0(1+r))-\Delta(S_0)] = 0                                  \tag{2}

with `unstable` the spots where :math:`\kappa S_0^2\Gamma(S)\le-1`: there the market runs away from any small shock.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from aggregator.core.errors import DomainError
from aggregator.quant import black
from aggregator.quant._checks import broadcast, representable, require
from aggregator.quant._option_inputs import Floats
from aggregator.quant.risk_surface import OptionBook

STABLE, UNSTABLE = 0, 1


class Feedback(NamedTuple):
    """Arrays of the broadcast shape: response, hedge flow [USD], amplification r/r0, g of (1), status, whether
    plain iteration would converge (|g| < 1)."""

    return_frac: Floats
    flow_usd: Floats
    amplification: Floats
    g: Floats
    status: npt.NDArray[np.int8]
    iteration_converges: npt.NDArray[np.bool_]


class BookFeedback(NamedTuple):
    """Response of (2) or NaN; hedge flow; status; the unstable spots (m, 2) as [from, to] intervals of the scan."""

    return_frac: float
    flow_usd: float
    status: int
    unstable: Floats


@representable
def gamma_exposure_usd(
    dealer_sign: npt.ArrayLike, gamma: npt.ArrayLike, open_interest: npt.ArrayLike, spot_usd: npt.ArrayLike
) -> Floats:
    """Dollars of delta that dealers must trade per 1 % move, per leg: s Gamma OI S^2 / 100.

    dealer_sign: +1 where dealers are long, -1 where short, or their net share of the open interest in between; an
    assumption that the caller states, not a fact.  Broadcasts; DomainError names an element out of range.
    """
    side, g, size, s = broadcast(dealer_sign=dealer_sign, gamma=gamma, open_interest=open_interest, spot_usd=spot_usd)
    require("dealer_sign", side, np.abs(side) <= 1.0, "from -1 (short) to +1 (long)")
    require("gamma", g, np.isfinite(g), "a finite number")
    require("open_interest", size, (size >= 0.0) & (size < np.inf), "finite and >= 0")
    require("spot_usd", s, (s > 0.0) & (s < np.inf), "finite and > 0")
    return 0.01 * side * g * size * s * s


@representable
def gamma_feedback(
    shock_frac: npt.ArrayLike, gamma: npt.ArrayLike, spot_usd: npt.ArrayLike, impact_per_usd: npt.ArrayLike
) -> Feedback:
    """Eq. (1), any broadcast shape; gamma is dealers' net gamma in units of the underlying per USD (negative = short).

    DomainError names an element that is not finite, a spot that is not positive or a negative impact.
    """
    shock, net, s, kappa = broadcast(
        shock_frac=shock_frac, gamma=gamma, spot_usd=spot_usd, impact_per_usd=impact_per_usd
    )
    require("shock_frac", shock, np.isfinite(shock), "a finite number")
    require("gamma", net, np.isfinite(net), "a finite number")
    require("spot_usd", s, (s > 0.0) & (s < np.inf), "finite and > 0")
    require("impact_per_usd", kappa, (kappa >= 0.0) & (kappa < np.inf), "finite and >= 0")
    g = kappa * net * s * s
    stable = g > -1.0
    room = np.where(stable, 1.0 + g, np.nan)
    response = shock / room
    return Feedback(
        response,
        -net * s * s * response,
        np.where(stable, 1.0 / room, np.inf),
        g,
        np.where(stable, STABLE, UNSTABLE).astype(np.int8),
        np.abs(g) < 1.0,
    )


@representable
def effective_vol(sigma: npt.ArrayLike, g: npt.ArrayLike) -> Floats:
    """sigma/(1+g) of (1), any broadcast shape; infinite where g <= -1.  DomainError names a bad element."""
    vol, feedback = broadcast(sigma=sigma, g=g)
    require("sigma", vol, (vol >= 0.0) & (vol < np.inf), "finite and >= 0")
    require("g", feedback, np.isfinite(feedback), "a finite number")
    stable = feedback > -1.0
    return np.where(stable, vol / np.where(stable, 1.0 + feedback, 1.0), np.inf)


@representable
def book_feedback(
    legs: OptionBook,
    spot_usd: float,
    shock_frac: float,
    impact_per_usd: float,
    *,
    reach: tuple[float, float] = (-0.95, 3.0),
    points: int = 2001,
) -> BookFeedback:
    """Eq. (2) for dealers who hold `legs` (amounts signed from their side); forwards move with spot.

    reach: returns scanned, the shock among them; no root inside it means UNSTABLE.  DomainError on a bad spot, shock,
    impact or reach, and on a leg without time or volatility, whose delta is not a function at its strike.
    """
    _check_scan(legs, spot_usd, shock_frac, impact_per_usd, reach, points)

    def exposure(moves: Floats) -> tuple[Floats, Floats]:
        """(moves,) delta and gamma of the book in spot; forwards are proportional to it: d/dS = (F/S) d/dF."""
        scale, lift = 1.0 + moves[:, None], legs.F / spot_usd
        found = black.first_greeks(legs.sign, legs.F * scale, legs.K, legs.T_yr, legs.sigma, legs.r, legs.r)
        return np.sum(legs.amount * lift * found.delta, axis=1), np.sum(legs.amount * lift**2 * found.gamma, axis=1)

    (start,), (gamma,) = exposure(np.zeros(1))

    def gap(moves: Floats, delta: Floats) -> Floats:
        out: Floats = moves - shock_frac + impact_per_usd * spot_usd * (delta - start)
        return out

    grid = np.linspace(*reach, points)
    delta, curve = exposure(grid)
    unstable = _intervals(impact_per_usd * spot_usd**2 * curve <= -1.0, spot_usd * (1.0 + grid))
    if shock_frac == 0.0:
        here = impact_per_usd * spot_usd**2 * float(gamma)
        return BookFeedback(0.0, 0.0, UNSTABLE if here <= -1.0 else STABLE, unstable)
    bracket = _first_bracket(grid, gap(grid, delta), np.sign(shock_frac))
    if bracket is None:
        return BookFeedback(np.nan, np.nan, UNSTABLE, unstable)

    def gap_at(r: float) -> float:
        move = np.array([r])
        return float(gap(move, exposure(move)[0])[0])

    root = float(brentq(gap_at, *bracket, xtol=1e-15, rtol=1e-13))
    flow = -spot_usd * float(exposure(np.array([root]))[0][0] - start)
    return BookFeedback(root, flow, STABLE, unstable)


def _check_scan(
    legs: OptionBook, spot_usd: float, shock_frac: float, impact_per_usd: float, reach: tuple[float, float], points: int
) -> None:
    if not (
        0.0 < spot_usd < np.inf
        and 0.0 <= impact_per_usd < np.inf
        and -1.0 < reach[0] < 0.0 < reach[1] < np.inf
        and reach[0] < shock_frac < reach[1]
        and points >= 11
    ):
        raise DomainError(
            "cannot scan",
            expected="spot > 0, impact >= 0, finite reach around 0 and the shock and above -1, points >= 11",
            found=f"spot {spot_usd}, shock {shock_frac}, impact {impact_per_usd}, reach {reach}, points {points}",
        )
    require(
        "legs", legs.T_yr, (legs.T_yr > 0.0) & (legs.sigma > 0.0), "T_yr > 0 and sigma > 0 to have a delta to hedge"
    )


def _intervals(inside: npt.NDArray[np.bool_], spots: Floats) -> Floats:
    """(m, 2) first and last spot of every stretch inside."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8)))
    return np.stack([spots[edges[::2]], spots[edges[1::2] - 1]], axis=1)


def _first_bracket(grid: Floats, gaps: Floats, way: float) -> tuple[float, float] | None:
    """Neighbours on the way from no move in the direction `way` between which the gap closes first."""
    ahead = np.flatnonzero(np.sign(grid) == way)[:: int(way)]
    crossed = np.flatnonzero(way * gaps[ahead] >= 0.0)
    if not crossed.size:
        return None
    i = int(crossed[0])
    return float(grid[ahead[i - 1]]) if i else 0.0, float(grid[ahead[i]])
