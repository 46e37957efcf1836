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

    def delta(moves: Floats) -> tuple[Floats, Floats]:
        scale = 1.0 + moves[:, None]
        found = black.first_greeks(legs.sign, legs.F * scale, legs.K, legs.T_yr, legs.sigma, legs.r, legs.r)
        # forwards are proportional to spot: d/dS = (F/S) d/dF
        lift = legs.F / spot_usd
        return np.sum(legs.amount * lift * found.delta, axis=1), np.sum(legs.amount * lift**2 * found.gamma, axis=1)

    start = float(delta(np.zeros(1))[0][0])

    def gap(r: float) -> float:
        return r - shock_frac + impact_per_usd * spot_usd * (float(delta(np.array([r]))[0][0]) - start)

    grid = np.linspace(*reach, points)
    hedge, curve = delta(grid)
    runaway = impact_per_usd * spot_usd**2 * curve <= -1.0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], runaway, [False]]).astype(np.int8)))
    spots = spot_usd * (1.0 + grid)
    regions = np.array([[spots[a], spots[b - 1]] for a, b in zip(edges[::2], edges[1::2], strict=True)]).reshape(-1, 2)
    if shock_frac == 0.0:
        here = impact_per_usd * spot_usd**2 * float(delta(np.zeros(1))[1][0])
        return BookFeedback(0.0, 0.0, UNSTABLE if here <= -1.0 else STABLE, regions)

    way = np.sign(shock_frac)
    on_the_way = np.flatnonzero(np.sign(grid) == way)[:: int(way)]
    ahead = grid[on_the_way]
    values = way * (ahead - shock_frac + impact_per_usd * spot_usd * (hedge[on_the_way] - start))
    crossed = np.flatnonzero(values >= 0.0)
    if crossed.size == 0:
        return BookFeedback(np.nan, np.nan, UNSTABLE, regions)
    i = int(crossed[0])
    before = float(ahead[i - 1]) if i else 0.0
    root = float(brentq(gap, before, float(ahead[i]), xtol=1e-15, rtol=1e-13))
    flow = -spot_usd * (float(delta(np.array([root]))[0][0]) - start)
    return BookFeedback(root, flow, STABLE, regions)
