r"""Perpetual futures: when an account is liquidated, who is deleveraged, what a trade moves.

Cross margin, equity :math:`E`, positions :math:`n_i` (signed contracts) at marks :math:`P_i` with maintenance share
:math:`l_i`; liquidation when :math:`E<M=\sum_i l_i|n_i|P_i`, maintenance re-marked at the moved price.  With the others
fixed, and along joint relative moves :math:`s\,d_i`:

.. math::
   P_i^* &= P_i - \mathrm{side}_i\,\frac{E-M}{|n_i|\,(1-l_i\,\mathrm{side}_i)}                             \tag{1}\\
   s^*   &= \frac{E-M}{\sum_i l_i|n_i|P_id_i-\sum_i n_iP_id_i}                                        \tag{2}

(1) is Hyperliquid's published liq_price (docs, *Liquidations*: maintenance is half the initial margin at maximum
leverage, the backstop takes over below 2/3 of it); an isolated position is an account of one.
Auto-deleveraging ranks by

.. math:: \text{long: } \frac{P}{P_0}\cdot\frac{|n|P}{E},\quad \text{short: } \frac{P_0}{P}\cdot\frac{|n|P}{E}   \tag{3}

GMX v2 charges imbalance :math:`d=|\text{long}-\text{short}|` (gmx-synthetics a5c0c88 PricingUtils.sol), with
:math:`f^+\le f^-` enforced, and :math:`d^e=0` below one dollar (its power is not defined there), as the contract does:

.. math:: \text{same side: } f^\pm\,(d_0^e-d_1^e),\qquad \text{crossing zero: } f^+d_0^e - f^-d_1^e              \tag{4}
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import broadcast, floats, indices, joint_shape, representable, require
from aggregator.quant._option_inputs import Floats

Ints = npt.NDArray[np.int64]
BACKSTOP_SHARE = 2.0 / 3.0


class CrossMargin(NamedTuple):
    """maintenance (n,) and excess E - M (n,) per account; liquidation price (m,) per row, that of the account's net
    position in the row's market with the other markets fixed: NaN where no positive price liquidates."""

    maintenance: Floats
    excess: Floats
    liquidation_price: Floats


@representable
def cross_margin(
    account: npt.ArrayLike,
    market: npt.ArrayLike,
    size: npt.ArrayLike,
    mark: npt.ArrayLike,
    maintenance_frac: npt.ArrayLike,
    equity: npt.ArrayLike,
) -> CrossMargin:
    """Eq. (1) for whole books.

    account (m,) index into equity (n,); market (m,) any whole number: rows of one account in one market are one
    position; size (m,) signed contracts; mark (m,) price and maintenance_frac (m,) in (0, 1), one each a market.  An
    account already below maintenance gets the price at which it would be back on it.  DomainError names the row.
    """
    value = _equity(equity)
    owner, n, p, share, rows = _positions(account, market, size, mark, maintenance_frac, value.size)
    maintenance = np.bincount(owner, weights=share * np.abs(n) * p, minlength=value.size).astype(np.float64)
    excess = value - maintenance
    side = np.sign(n)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        price = p - side * excess[owner] / (np.abs(n) * (1.0 - share * side))
    return CrossMargin(
        maintenance, excess, np.where((n != 0.0) & (price > 0.0) & (price < np.inf), price, np.nan)[rows]
    )


@representable
def joint_liquidation_move(
    account: npt.ArrayLike,
    market: npt.ArrayLike,
    size: npt.ArrayLike,
    mark: npt.ArrayLike,
    maintenance_frac: npt.ArrayLike,
    equity: npt.ArrayLike,
    direction: npt.ArrayLike,
) -> Floats:
    """Eq. (2): the least s >= 0 at which prices mark x (1 + s direction) liquidate each account (n,).

    inf if none does while all its prices are positive; 0 for an account that is already below maintenance.
    Arguments as in `cross_margin`, direction (m,) finite, one a market.  DomainError names a bad row.
    """
    value = _equity(equity)
    owner, n, p, share, rows = _positions(account, market, size, mark, maintenance_frac, value.size)
    every = _per_position("direction", direction, rows)
    require("direction", every, np.isfinite(every), "a finite number")
    d = _one_each("direction", every, rows, owner.size)
    excess = value - np.bincount(owner, weights=share * np.abs(n) * p, minlength=value.size)
    speed = np.bincount(owner, weights=(share * np.abs(n) - n) * p * d, minlength=value.size)
    steepest = np.zeros(value.size)
    np.maximum.at(steepest, owner, np.where(n != 0.0, -d, 0.0))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        move = np.where(speed > 0.0, excess / speed, np.inf)
        move = np.where(move * steepest < 1.0, move, np.inf)  # by then a price would be gone
    return np.where(excess < 0.0, 0.0, move)


@representable
def adl_score(size: npt.ArrayLike, entry: npt.ArrayLike, mark: npt.ArrayLike, account_value: npt.ArrayLike) -> Floats:
    """Eq. (3), any broadcast shape; the highest score is closed first. DomainError names a bad element."""
    n, p0, p, value = broadcast(size=size, entry=entry, mark=mark, account_value=account_value)
    require("size", n, np.isfinite(n), "a finite number")
    for name, figure in (("entry", p0), ("mark", p), ("account_value", value)):
        require(name, figure, (figure > 0.0) & np.isfinite(figure), "finite and > 0")
    gain = np.where(n > 0.0, p / p0, p0 / p)
    return np.asarray(gain * np.abs(n) * p / value, dtype=np.float64)


@representable
def adl_close(size_to_close: float, size: npt.ArrayLike, score: npt.ArrayLike) -> Floats:
    """Contracts closed per position (n,), taking whole positions from the highest score down until the sum is reached.

    size, score (n,): contracts on the profitable side, any sign; equal scores go by index.  DomainError if there is not
    enough, or a size or score is none.
    """
    available, rank = (np.array(column) for column in broadcast(size=np.abs(floats("size", size)), score=score))
    require("size", available, np.isfinite(available), "a finite number")
    require("score", rank, ~np.isnan(rank), "a number")
    total = float(np.sum(available))
    if not 0.0 <= size_to_close <= total * (1.0 + 1e-12):
        raise DomainError("cannot deleverage that much", expected=f"0 to {total} contracts", found=str(size_to_close))
    order = np.argsort(-rank, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(available[order])[:-1]])
    closed = np.empty_like(available)
    closed[order] = np.clip(size_to_close - before, 0.0, available[order])
    return closed


@representable
def gmx_price_impact(
    imbalance_before_usd: npt.ArrayLike,
    imbalance_after_usd: npt.ArrayLike,
    positive_factor: npt.ArrayLike,
    negative_factor: npt.ArrayLike,
    exponent: npt.ArrayLike = 2.0,
) -> Floats:
    """Eq. (4): what the trader is paid (> 0) or pays, in USD; imbalances are long minus short, signed.

    All broadcast; factors per USD ** exponent, exponent >= 1; an imbalance below one dollar counts as none.
    DomainError names a figure out of range.
    """
    before, after, plus, minus, power = broadcast(
        imbalance_before_usd=imbalance_before_usd, imbalance_after_usd=imbalance_after_usd,
        positive_factor=positive_factor, negative_factor=negative_factor, exponent=exponent,
    )  # fmt: skip
    require("imbalance_before_usd", before, np.isfinite(before), "a finite number")
    require("imbalance_after_usd", after, np.isfinite(after), "a finite number")
    require("positive impact factor", plus, (plus >= 0.0) & np.isfinite(plus), "finite and >= 0")
    require("negative impact factor", minus, (minus >= 0.0) & np.isfinite(minus), "finite and >= 0")
    require("impact exponent", power, (power >= 1.0) & np.isfinite(power), "finite and >= 1")
    plus = np.minimum(plus, minus)
    d0, d1 = (np.where(d < 1.0, 0.0, d**power) for d in (np.abs(before), np.abs(after)))
    same = np.where(d1 <= d0, plus, minus) * (d0 - d1)
    return np.asarray(np.where(before * after < 0.0, plus * d0 - minus * d1, same), dtype=np.float64)


@representable
def gmx_liquidatable(
    collateral_usd: npt.ArrayLike,
    pnl_usd: npt.ArrayLike,
    impact_usd: npt.ArrayLike,
    fees_usd: npt.ArrayLike,
    size_usd: npt.ArrayLike,
    min_collateral_usd: float,
    min_collateral_factor: float,
) -> npt.NDArray[np.bool_]:
    """GMX v2: remaining collateral (only negative impact counts) below the floor, the factor of size, or zero.

    USD, all broadcast, impact as capped by the market; min_collateral_factor is a share of size.  DomainError names a
    figure that is not finite.
    """
    parts = {
        "collateral_usd": collateral_usd, "pnl_usd": pnl_usd, "impact_usd": impact_usd, "fees_usd": fees_usd,
        "size_usd": size_usd, "min_collateral_usd": min_collateral_usd,
        "min_collateral_factor": min_collateral_factor,
    }  # fmt: skip
    columns = broadcast(**parts)
    for name, figure in zip(parts, columns, strict=True):
        require(name, figure, np.isfinite(figure), "a finite number")
    collateral, pnl, impact, fees, size, *_ = columns
    require("size_usd", size, size >= 0.0, ">= 0")
    remaining = collateral + pnl + np.minimum(impact, 0.0) - fees
    least = np.maximum(min_collateral_usd, size * min_collateral_factor)
    return np.asarray((remaining < least) | (remaining <= 0.0), dtype=np.bool_)


class Bankruptcy(NamedTuple):
    """shortfall of accounts with negative equity; what the fund pays; what winners pay in sum; haircut of profits;
    charge (n,) and equity after (n,), bankrupt accounts at zero; beyond: loss that profits could not cover."""

    shortfall: float
    fund_pays: float
    socialised: float
    haircut_frac: float
    charged: Floats
    equity_after: Floats
    beyond: float


@representable
def socialise(equity: npt.ArrayLike, profit: npt.ArrayLike, fund: float) -> Bankruptcy:
    """Insurance fund first, then winners pro rata to their session profit (Deribit's rule).

    equity, profit (n,), fund >= 0, in one money: profit counts where positive and the account is not itself bankrupt.
    """
    e, gain = floats("equity", equity), floats("profit", profit)
    if e.shape != gain.shape:
        raise DomainError("equity and profit do not pair", expected=str(e.shape), found=str(gain.shape))
    require("equity", e, np.isfinite(e), "a finite number")
    require("profit", gain, np.isfinite(gain), "a finite number")
    require("fund", fund, fund >= 0.0, ">= 0")
    shortfall = float(np.sum(np.maximum(-e, 0.0)))
    pays = min(shortfall, fund)
    winners = np.where(e > 0.0, np.maximum(gain, 0.0), 0.0)
    pool = float(np.sum(winners))
    left = shortfall - pays
    haircut = min(left / pool, 1.0) if pool > 0.0 else 0.0
    charged = haircut * winners
    taken = float(np.sum(charged))
    return Bankruptcy(shortfall, pays, taken, haircut, charged, np.maximum(e, 0.0) - charged, max(left - taken, 0.0))


def _positions(
    account: npt.ArrayLike,
    market: npt.ArrayLike,
    size: npt.ArrayLike,
    mark: npt.ArrayLike,
    maintenance_frac: npt.ArrayLike,
    accounts: int,
) -> tuple[Ints, Floats, Floats, Floats, Ints]:
    """Net positions (k,) by account and market: account, size, mark, share; and of each row (m,) its position."""
    owner = np.atleast_1d(indices("account", account, accounts))
    n, p, share = (
        _per_position(name, x, owner)
        for name, x in (("size", size), ("mark", mark), ("maintenance_frac", maintenance_frac))
    )
    good = np.isfinite(n) & (p > 0.0) & (p < np.inf) & (share > 0.0) & (share < 1.0)
    if not np.all(good):
        i = int(np.argmin(good))
        raise DomainError(
            f"position [{i}] is unusable",
            expected="finite size, positive mark, maintenance share in (0, 1)",
            found=f"size={n[i]}, mark={p[i]}, maintenance_frac={share[i]}",
        )
    places, rows = np.unique(np.stack([owner, _market_codes(market, owner)]), axis=1, return_inverse=True)
    rows = rows.reshape(-1).astype(np.int64)
    count = places.shape[1]
    net = np.bincount(rows, weights=n, minlength=count).astype(np.float64)
    gross = np.bincount(rows, weights=np.abs(n), minlength=count)
    net[np.abs(net) <= 1e-15 * gross] = 0.0  # 0.1 + 0.2 - 0.3 is no position
    columns = (_one_each(name, x, rows, count) for name, x in (("mark", p), ("maintenance_frac", share)))
    return places[0], net, *columns, rows


def _market_codes(market: npt.ArrayLike, owner: Ints) -> Ints:
    """(m,) one code for each different market id; whole numbers of any size are told apart as they are given."""
    where = _per_position("market", market, owner)
    require("market", where, np.isfinite(where) & (where == np.floor(where)), "a whole number")
    given = np.asarray(market, None if hasattr(market, "dtype") else object)  # as float64, 2^53 + 1 would be 2^53
    return np.unique(np.broadcast_to(given, owner.shape), return_inverse=True)[1].reshape(-1).astype(np.int64)


def _one_each(name: str, values: Floats, rows: Ints, count: int) -> Floats:
    """(count,) the value of each position; DomainError names the first row that says another than its position."""
    first = np.zeros(count)
    first[rows[::-1]] = values[::-1]
    require(name, values, values == first[rows], "one figure in all rows of an account's market")
    return first


def _equity(equity: npt.ArrayLike) -> Floats:
    value = np.atleast_1d(floats("equity", equity))
    if value.ndim != 1:
        raise DomainError("equity is no list of accounts", expected="(n,)", found=str(value.shape))
    require("equity", value, np.isfinite(value), "a finite number")
    return value


def _per_position(name: str, values: npt.ArrayLike, owner: Ints) -> Floats:
    column = floats(name, values)
    if joint_shape(account=owner.shape, **{name: column.shape}) != owner.shape:
        raise DomainError(f"{name} does not pair with account", expected=str(owner.shape), found=str(column.shape))
    return np.broadcast_to(column, owner.shape)
