r"""Funding of perpetual futures: what longs pay shorts for a mark above the index.

With index :math:`S`, impact bid and ask :math:`B, A` (what a set size sells and buys for), interest :math:`I` and
premium :math:`P` per premium period, averaged over it:

.. math::
   P &= \bigl[\max(B-S,\,0) - \max(S-A,\,0)\bigr]/S                                                  \tag{1}\\
   R &= P + \mathrm{clamp}(I-P,\,-d,\,d), \qquad R = P + I \text{ where a venue damps nothing}        \tag{2}\\
   f &= \mathrm{clamp}\bigl(R\,h/H,\,-c,\,c\bigr), \qquad \text{paid by a long} = n\,X\,f              \tag{3}

for a payment every :math:`h` hours at a premium quoted per :math:`H` hours, capped at :math:`c` a payment, on the
price :math:`X` that the venue values a position at.

| venue | P | I | d | H, h | c | X |
| Binance [1] | (1) | 0.01 %, some 0 | 0.05 % | 8, N hours | by symbol | mark |
| Hyperliquid [2] | (1) | 0.01 % | 0.05 % | 8, 1 | 4 % an hour | oracle |
| Deribit [3] | mark/S - 1 | 0 | 0.025 % | 8, any h, paid continuously | by instrument | by contract |
| dYdX [4] | (1) | by market | none | 8, 1 | an eighth of 6 (initial - maintenance share) | oracle |
| Derive [5] | (1) | H times 0.00125 % | none | 16 (BTC, ETH, SOL), 24 (HYPE) or 8, 1 | 0.017123 to 0.4 % | oracle |

Sources, as of 2026: [1] Binance's announcement of 2025-09-18 restated by others, its own page not seen; [2] Hyperliquid
docs, *Funding*, restated by docs.notional.xyz; [3] support.deribit.com 31424939178397, *Funding Specifications*;
[4] v4-chain x/perpetuals (``GetMaxAbsFundingClampPpm``, ``getFundingIndexDelta``), factor 6 by default;
[5] docs.derive.xyz, *Perpetuals*, for H and c; I of v2-core's PerpAsset, unconfirmed today.  Venues change parameters
without notice: there are no defaults.  GMX and Synthetix fund by skew over time, which is another law.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aggregator.quant._checks import broadcast, representable, require
from aggregator.quant._option_inputs import Floats


@representable
def premium_index(index: npt.ArrayLike, *, impact_bid: npt.ArrayLike, impact_ask: npt.ArrayLike) -> Floats:
    """Eq. (1), any broadcast shape; 0 while the index lies between the two.  DomainError names an element that is no
    positive price, or a bid above its ask."""
    s, bid, ask = broadcast(index=index, impact_bid=impact_bid, impact_ask=impact_ask)
    for name, price in (("index", s), ("impact_bid", bid), ("impact_ask", ask)):
        require(name, price, (price > 0.0) & np.isfinite(price), "finite and > 0")
    require("impact_bid", bid, bid <= ask, "not above impact_ask")
    return np.asarray((np.maximum(bid - s, 0.0) - np.maximum(s - ask, 0.0)) / s)


@representable
def funding_rate(
    premium_frac: npt.ArrayLike,
    *,
    interest_frac: npt.ArrayLike,
    damp_frac: npt.ArrayLike | None,
    cap_frac: npt.ArrayLike,
    premium_hours: npt.ArrayLike,
    interval_hours: npt.ArrayLike,
) -> Floats:
    """f of (3), a share of the position's value at each payment, any broadcast shape; positive: longs pay.

    premium_frac and interest_frac per premium_hours; damp_frac: d of (2), None for no damping; cap_frac: c, inf for no
    cap, per payment; one every interval_hours.  DomainError names an element out of range.
    """
    damp = np.inf if damp_frac is None else damp_frac
    p, i, d, c, period, interval = broadcast(
        premium_frac=premium_frac,
        interest_frac=interest_frac,
        damp_frac=damp,
        cap_frac=cap_frac,
        premium_hours=premium_hours,
        interval_hours=interval_hours,
    )
    for name, share in (("premium_frac", p), ("interest_frac", i)):
        require(name, share, np.isfinite(share), "a finite share")
    for name, bound in (("damp_frac", d), ("cap_frac", c)):
        require(name, bound, bound >= 0.0, ">= 0")
    for name, hours in (("premium_hours", period), ("interval_hours", interval)):
        require(name, hours, (hours > 0.0) & np.isfinite(hours), "finite and > 0")
    rate = p + i if damp_frac is None else p + np.clip(i - p, -d, d)
    return np.asarray(np.clip(rate * (interval / period), -c, c))


@representable
def funding_payment(size: npt.ArrayLike, index: npt.ArrayLike, rate_frac: npt.ArrayLike) -> Floats:
    """What the holder of `size` signed contracts pays at one payment (negative: is paid), in the quote; any shape.

    index: X of (3), for a venue that values positions at its mark the mark.
    """
    n, s, f = broadcast(size=size, index=index, rate_frac=rate_frac)
    for name, figure in (("size", n), ("rate_frac", f)):
        require(name, figure, np.isfinite(figure), "a finite number")
    require("index", s, (s > 0.0) & np.isfinite(s), "finite and > 0")
    return np.asarray(n * s * f)
