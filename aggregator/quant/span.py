r"""SPAN, the clearing houses' scan: sixteen scenarios, calendar charges, credits between products, a floor for shorts.

Per account and combined commodity (all futures and options on one thing) with outcomes :math:`\Pi_1..\Pi_{16}`:

.. math::
   \text{scan} &= \max\bigl(0,\ -\min_j \Pi_j\bigr) = -\Pi_{j^*}                                        \tag{1}\\
   \text{calendar} &= \sum_s c_s\,n_s, \quad n_s = \text{long deltas of one tier against short deltas of another}
                                                                                                        \tag{2}\\
   w &= \max\Bigl(0,\ -\frac{\Pi_{j^*}+\Pi_{\bar\jmath^*}}2 + \frac{\Pi_1+\Pi_2}2\Bigr)\Big/|\Delta|, \qquad
   \text{credit} = \sum_s \rho_s\,n_s\,r\,w                                                             \tag{3}\\
   \text{minimum} &= m\,\max(\text{short calls},\ \text{short puts}), \text{ or } m \text{ times their sum}  \tag{4}\\
   M &= \max(\text{scan} + \text{calendar} - \text{credit},\ \text{minimum})                            \tag{5}

Scenarios: price moves of 0, 1/3, 2/3 and 3/3 of the scan range up and down, each with volatility up and down
(:math:`\bar\jmath` is the other volatility), and two extreme moves, a multiple of the range of which only a share of
the loss counts.  :math:`w` is the weighted price risk of one delta: what is left of the scan without volatility and
time.  Spreads are formed in the order given, each from what those before left over; a spread across products takes
deltas of opposite sign, :math:`r` of each product, and credits each of them.  Deltas are composite: the mean over the
seven price moves, weighted 0.270, 0.217, 0.111, 0.037.  Option value counts as equity, so :math:`M` is risk alone.

Sources: CME, *Components of SPAN* and *Inter and Intra Spread Calculations* (cme.com, cmegroup.com/clearing), and the
field definitions of its risk-parameter files.  Delivery charges and per-month spread rates are left out: nothing here
is delivered.  Rates are an exchange's to set, so they have no default but the extremes of the published example
(McMillan, *Options as a Strategic Investment*, ch. 34: twice the range, 35 % counted).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, indices, joint_shape, representable, require
from aggregator.quant._option_inputs import Floats, kind_sign

SCENARIOS = 16
PRICE_MOVES = (0.0, 1 / 3, -1 / 3, 2 / 3, -2 / 3, 1.0, -1.0)
DELTA_WEIGHTS = (0.270, 0.217, 0.217, 0.111, 0.111, 0.037, 0.037)


class CalendarSpread(NamedTuple):
    """Two tiers (equal: within one) and the charge in USD for one delta long in one and short in the other."""

    first: int
    second: int
    charge_usd: float


class ProductSpread(NamedTuple):
    """(product, signed deltas) of each leg, e.g. (("corn", 2.0), ("soybeans", -1.0)), and the share credited."""

    legs: tuple[tuple[str, float], ...]
    credit_frac: float


class SpanRisk(NamedTuple):
    """One combined commodity: outcomes (n, 16) USD; long, short (n, tiers) deltas; calls, puts (n,) options sold."""

    outcomes: Floats
    long: Floats
    short: Floats
    calls: Floats
    puts: Floats


class SpanCharge(NamedTuple):
    """Terms of (5), USD, each (n,)."""

    scan: Floats
    calendar: Floats
    credit: Floats
    minimum: Floats

    @property
    def total(self) -> Floats:
        return np.maximum(self.scan + self.calendar - self.credit, self.minimum)


@representable
def risk_of_arrays(
    accounts: int,
    account: npt.ArrayLike,
    quantity: npt.ArrayLike,
    arrays_usd: npt.ArrayLike,
    delta: npt.ArrayLike,
    tier: npt.ArrayLike = 0,
    kind: npt.ArrayLike = 0,
) -> SpanRisk:
    """Risk of positions (m,) from an exchange's risk arrays (m, 16): profit of one long contract, losses negative.

    delta (m,): composite delta of one long contract; tier (m,); kind (m,): 0 for a future, else as in `black.price`;
    each row is an expiry of its own.  DomainError names a bad row.
    """
    owner = np.atleast_1d(indices("account", account, accounts))
    rows = owner.shape
    arrays = np.atleast_2d(floats("arrays_usd", arrays_usd))
    if arrays.shape != (*rows, SCENARIOS):
        raise DomainError("risk arrays do not fit", expected=str((*rows, SCENARIOS)), found=str(arrays.shape))
    what = np.asarray(kind)
    columns = {"quantity": floats("quantity", quantity), "delta": floats("delta", delta), "tier": floats("tier", tier)}
    if joint_shape(account=rows, kind=what.shape, **{name: c.shape for name, c in columns.items()}) != rows:
        raise DomainError("columns do not pair with account", expected=str(rows), found="longer ones")
    held, each, tiers = (np.broadcast_to(column, rows) for column in columns.values())
    for name, column in (("quantity", held), ("delta", each), ("arrays_usd", arrays)):
        require(name, column, np.isfinite(column), "a finite number")
    place, what = indices("tier", tiers, 100), np.broadcast_to(what, rows)
    option = what.astype(str) != "0"
    sign = np.zeros(rows, np.int8)
    sign[option] = kind_sign(what[option])
    outcomes = np.zeros((accounts, SCENARIOS))
    np.add.at(outcomes, owner, held[:, None] * arrays)
    long, short = by_tier(accounts, owner, place, held * each, int(np.max(place, initial=0)) + 1)
    sold = np.maximum(-held, 0.0)
    calls, puts = (
        np.bincount(owner, weights=sold * (sign == way), minlength=accounts).astype(np.float64) for way in (1, -1)
    )
    return SpanRisk(outcomes, long, short, calls, puts)


@representable
def charge(
    risk: SpanRisk, calendar: Sequence[CalendarSpread] = (), short_minimum_usd: float = 0.0, *, gross: bool = False
) -> SpanCharge:
    """(1), (2) and (4) of one combined commodity; gross: short calls and puts add up in (4)."""
    tiers = risk.long.shape[1]
    long, short, cost = risk.long.copy(), risk.short.copy(), np.zeros(len(risk.long))
    for i, spread in enumerate(calendar):
        if not (0 <= spread.first < tiers and 0 <= spread.second < tiers and 0.0 <= spread.charge_usd < np.inf):
            raise DomainError(
                f"calendar spread [{i}] is unusable", expected=f"tiers 0 to {tiers - 1}, charge >= 0", found=str(spread)
            )
        for bought, sold in ((spread.first, spread.second), (spread.second, spread.first)):
            formed = np.minimum(long[:, bought], short[:, sold])
            long[:, bought] -= formed
            short[:, sold] -= formed
            cost += spread.charge_usd * formed
    require("short_minimum_usd", short_minimum_usd, 0.0 <= short_minimum_usd < np.inf, "finite and >= 0")
    shorts = risk.calls + risk.puts if gross else np.maximum(risk.calls, risk.puts)
    loss = np.maximum(-np.min(risk.outcomes, axis=1), 0.0)
    return SpanCharge(loss, cost, np.zeros_like(cost), short_minimum_usd * shorts)


@representable
def price_risk(risk: SpanRisk) -> Floats:
    """w of (3), USD per delta, (n,); 0 without a net delta or a loss."""
    at = np.argmin(risk.outcomes, axis=1)
    accounts = np.arange(len(at))
    pair = np.where(at < 14, at ^ 1, at)  # scenarios come in pairs, the two extremes alone
    both = (risk.outcomes[accounts, at] + risk.outcomes[accounts, pair]) / 2.0
    time = (risk.outcomes[:, 0] + risk.outcomes[:, 1]) / 2.0
    net = np.abs(np.sum(risk.long - risk.short, axis=1))
    loses = (risk.outcomes[accounts, at] < 0.0) & (net > 0.0)
    return np.asarray(np.divide(np.maximum(time - both, 0.0), net, out=np.zeros(len(at)), where=loses))


@representable
def with_credits(
    products: Mapping[str, tuple[SpanRisk, SpanCharge]], spreads: Sequence[ProductSpread]
) -> dict[str, SpanCharge]:
    """The charges of every product after (3).  All risks have the same accounts (n,); deltas in the units of ratios."""
    left = {name: np.sum(risk.long - risk.short, axis=1) for name, (risk, _) in products.items()}
    if len({column.shape for column in left.values()}) > 1:
        sizes = {name: len(column) for name, column in left.items()}
        raise DomainError("products do not pair", expected="the same accounts", found=str(sizes))
    worth = {name: price_risk(risk) for name, (risk, _) in products.items()}
    credits = {name: np.zeros_like(column) for name, column in left.items()}
    for i, spread in enumerate(spreads):
        known = all(name in products and ratio != 0.0 and np.isfinite(ratio) for name, ratio in spread.legs)
        if not (len(spread.legs) >= 2 and known and 0.0 <= spread.credit_frac <= 1.0):
            raise DomainError(
                f"product spread [{i}] is unusable",
                expected=f"two legs or more among {sorted(products)}, ratios not 0, credit in [0, 1]",
                found=str(spread),
            )
        for side in (1.0, -1.0):
            formed = np.min([np.maximum(side * left[name] / ratio, 0.0) for name, ratio in spread.legs], axis=0)
            for name, ratio in spread.legs:
                left[name] = left[name] - side * formed * ratio
                credits[name] += spread.credit_frac * formed * abs(ratio) * worth[name]
    return {name: before._replace(credit=credits[name]) for name, (_, before) in products.items()}


def by_tier(
    accounts: int, owner: npt.NDArray[np.int64], tier: npt.NDArray[np.int64], delta: Floats, tiers: int
) -> tuple[Floats, Floats]:
    """Deltas of expiries (k,) as long and short (n, tiers)."""
    sides = np.zeros((2, accounts, tiers))
    np.add.at(sides[0], (owner, tier), np.maximum(delta, 0.0))
    np.add.at(sides[1], (owner, tier), np.maximum(-delta, 0.0))
    return sides[0], sides[1]
