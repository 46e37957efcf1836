"""Scores of forecasts, and tests of whether one forecast beats another.

    QLIKE = mean(RV/h - ln(RV/h) - 1)            robust to noise in RV (Patton 2011, doi:10.1016/j.jeconom.2010.03.034)
    DM    = mean(d) / sqrt((g_0 + 2 sum_{k<h} g_k)/n) * sqrt((n + 1 - 2h + h(h-1)/n)/n),  against t(n-1)     (1)

    CRPS  = int (F(x) - 1[y <= x])^2 dx = E|X - y| - E|X - X'|/2 = 2 int_0^1 L_u(y) du                    (2)

the continuous ranked probability score (Gneiting and Raftery 2007, doi:10.1198/016214506000001437), in the unit of y;
of m members fairly, with X and X' never the same member (Ferro 2014, doi:10.1002/qj.2270).

d the loss difference and g_k its autocovariances: Diebold and Mariano 1995, doi:10.1080/07350015.1995.10524599, with
the correction of Harvey, Leybourne and Newbold 1997, doi:10.1016/S0169-2070(96)00719-4.  Model confidence set: Hansen,
Lunde and Nason 2011, doi:10.3982/ECTA5771, through `arch`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import xlogy

from aggregator.core.errors import DomainError
from aggregator.quant._checks import broadcast, check_level, floats, representable, require
from aggregator.quant.backtests import Verdict

Floats = npt.NDArray[np.float64]


@representable
def qlike(realised: npt.ArrayLike, forecast: npt.ArrayLike) -> Floats:
    """Loss per day, broadcasting; mean() is the score.  Both must be > 0: a zero forecast is infinitely wrong."""
    rv, h = _pair(realised, forecast)
    require("realised", rv, rv > 0.0, "> 0: QLIKE needs positive variances")
    require("forecast", h, h > 0.0, "> 0: QLIKE needs positive variances")
    ratio = rv / h
    return np.asarray(ratio - np.log(ratio) - 1.0)


@representable
def squared_error(realised: npt.ArrayLike, forecast: npt.ArrayLike) -> Floats:
    """Loss per day in the square of the unit given, broadcasting; DomainError names an element that is not finite."""
    rv, h = _pair(realised, forecast)
    return (rv - h) ** 2


@representable
def diebold_mariano(loss_a: npt.ArrayLike, loss_b: npt.ArrayLike, horizon: int = 1) -> Verdict:
    """Equation (1) on losses (n,), two-sided; negative: a is better.

    DomainError when the losses never differ or the long-run variance is not positive (then use horizon 1).
    """
    a, b = _numbers("loss_a", loss_a), _numbers("loss_b", loss_b)
    if a.ndim != 1 or a.shape != b.shape or not 1 <= horizon < len(a):
        raise DomainError(
            "losses do not pair", expected="two (n,), 1 <= horizon < n", found=f"{a.shape}, {b.shape}, {horizon}"
        )
    d = a - b
    n, centred = len(d), d - d.mean()
    covariances = [float(centred[k:] @ centred[: n - k]) / n for k in range(horizon)]
    rounding = 4.0 * np.finfo(np.float64).eps * float(np.max(np.abs(a) + np.abs(b)))
    if covariances[0] <= rounding**2:
        raise DomainError(
            "the losses differ by a constant", expected="differences that vary", found=f"{d.mean():.6g} throughout"
        )
    variance = (covariances[0] + 2.0 * sum(covariances[1:])) / n
    if not variance > 0.0:
        raise DomainError("loss differences have no variance", expected="> 0", found=str(variance), fix="use horizon 1")
    correction = np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    statistic = float(d.mean() / np.sqrt(variance) * correction)
    return Verdict(statistic, float(2.0 * stats.t.sf(abs(statistic), n - 1)))


class ConfidenceSet(NamedTuple):
    """included: names that stay; p_values by name, in the order given."""

    included: tuple[str, ...]
    p_values: dict[str, float]


@representable
def model_confidence_set(
    losses: npt.ArrayLike,
    names: list[str],
    *,
    seed: int,
    level: float = 0.9,
    reps: int = 1000,
    block: int | None = None,
) -> ConfidenceSet:
    """Models that cannot be told from the best at the level.  losses (n, models); seeded block bootstrap, T_R."""
    from arch.bootstrap import MCS  # 0.5 s to import; only this needs it

    table, size = _numbers("losses", losses), 1.0 - check_level(level)
    if (
        table.ndim != 2
        or table.shape[1] != len(set(names))
        or not 2 <= len(names) == len(set(names))
        or len(table) < 2
        or reps < 1
        or not (block is None or 1 <= block <= len(table))
    ):
        raise DomainError(
            "losses do not match the names",
            expected="(n >= 2, models >= 2), a name for each, reps and block from 1",
            found=f"{table.shape}, {names}, {reps} reps, block {block}",
        )
    for i, name in enumerate(names):
        for j in range(i):
            if np.array_equal(table[:, i], table[:, j]):
                raise DomainError(f"{names[j]} and {name} lose the same on every day", expected="models that differ")
    found = MCS(table, size=size, reps=reps, block_size=block, method="R", bootstrap="stationary", seed=seed)
    try:
        found.compute()
        included, p_values = set(found.included), found.pvalues["Pvalue"]
    except ValueError as error:  # `arch` cannot order models of exactly one mean loss
        raise DomainError(
            "models tie", expected="mean losses that differ", found=str(table.mean(axis=0)), fix="drop one of them"
        ) from error
    return ConfidenceSet(
        tuple(name for i, name in enumerate(names) if i in included),
        {name: float(p_values.loc[i]) for i, name in enumerate(names)},
    )


@representable
def crps_ensemble(realised: npt.ArrayLike, members: npt.ArrayLike, *, fair: bool = False) -> Floats:
    """Equation (2) of the step distribution of members (..., m) at realised (...), lower is better.

    fair: the members are draws of a forecast whose own score is meant; unbiased for it whatever m >= 2, and it may be
    negative.  DomainError names an element that is not finite, or shapes that do not pair.
    """
    y, x = _numbers("realised", realised), _numbers("members", members)
    m = x.shape[-1] if x.ndim else 0
    if m < (2 if fair else 1) or x.shape[:-1] != y.shape:
        raise DomainError(
            "members do not pair with realised",
            expected=f"(..., m >= {1 + fair}) and (...)",
            found=f"{x.shape}, {y.shape}",
        )
    x = np.sort(x - y[..., None], axis=-1)
    spread = x @ (2.0 * np.arange(1, m + 1) - m - 1.0)  # half the sum of |x_i - x_j| over all pairs
    return np.asarray(np.mean(np.abs(x), axis=-1) - spread / (m * (m - 1.0 if fair else m)))


@representable
def crps_gaussian(realised: npt.ArrayLike, mean: npt.ArrayLike, sigma: npt.ArrayLike) -> Floats:
    """Equation (2) of N(mean, sigma^2), broadcasting: sigma*(z(2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi)); |y - mean| at
    sigma 0."""
    y, mu, s = broadcast(
        realised=_numbers("realised", realised), mean=_numbers("mean", mean), sigma=_numbers("sigma", sigma)
    )
    require("sigma", s, s >= 0.0, ">= 0")
    off = np.abs(y - mu)
    with np.errstate(over="ignore"):
        z = np.minimum(
            np.divide(off, s, out=np.full(off.shape, np.inf), where=s > 0.0), 40.0
        )  # then all is in the tail
    shape = 2.0 * stats.norm.pdf(z) - 2.0 * z * stats.norm.sf(z) - 1.0 / np.sqrt(np.pi)
    return np.asarray(off + s * shape)


@representable
def crps_quantiles(realised: npt.ArrayLike, forecast: npt.ArrayLike, *, quantile: npt.ArrayLike) -> Floats:
    """Equation (2) from quantiles: forecast (..., q) are those of probability quantile (q,), rising in (0, 1).

    Each stands for the probabilities nearer to it than to its neighbours, the outer ones out to 0 and 1; at (k - 1/2)/q
    this is `crps_ensemble`.  DomainError for quantiles that cross.
    """
    y, x, u = _numbers("realised", realised), _numbers("forecast", forecast), _numbers("quantile", quantile)
    if u.ndim != 1 or x.shape != (*y.shape, len(u)):
        raise DomainError(
            "quantiles do not pair",
            expected="realised (...), forecast (..., q), quantile (q,)",
            found=f"{y.shape}, {x.shape}, {u.shape}",
        )
    require("quantile", u, (u > 0.0) & (u < 1.0) & (np.diff(u, prepend=0.0) > 0.0), "rising in (0, 1)")
    require("forecast", x[..., 1:], np.diff(x, axis=-1) >= 0.0, "not below the quantile before it")
    weight = np.diff(np.concatenate([[0.0], (u[1:] + u[:-1]) / 2.0, [1.0]]))
    off = y[..., None] - x
    return np.asarray(2.0 * np.sum(weight * np.maximum(u * off, (u - 1.0) * off), axis=-1))


def brier(probability: npt.ArrayLike, happened: npt.ArrayLike) -> float:
    """Mean squared error of probabilities (n,) in [0, 1] against what happened (n,), 0 or 1: 0 is perfect."""
    p, y = _events(probability, happened)
    return float(np.mean((p - y) ** 2))


def log_loss(probability: npt.ArrayLike, happened: npt.ArrayLike) -> float:
    """Mean -ln of the probability given to what happened; inf if that was 0."""
    p, y = _events(probability, happened)
    with np.errstate(divide="ignore"):
        return float(-np.mean(xlogy(y, p) + xlogy(1.0 - y, 1.0 - p)))


def auc(score: npt.ArrayLike, happened: npt.ArrayLike) -> float:
    """Probability that an event scores above a non-event (ties half); NaN if only one kind occurred."""
    s, y = _numbers("score", score), _numbers("happened", happened)
    _check_flags(s, y)
    hits = int(y.sum())
    if hits in (0, len(y)):
        return float("nan")
    ranks = stats.rankdata(s)
    return float((ranks[y == 1.0].sum() - hits * (hits + 1) / 2.0) / (hits * (len(y) - hits)))


def _events(probability: npt.ArrayLike, happened: npt.ArrayLike) -> tuple[Floats, Floats]:
    p, y = _numbers("probability", probability), _numbers("happened", happened)
    _check_flags(p, y)
    require("probability", p, (p >= 0.0) & (p <= 1.0), "0 <= p <= 1")
    return p, y


def _check_flags(values: Floats, flags: Floats) -> None:
    if values.shape != flags.shape or values.ndim != 1:
        raise DomainError("events do not pair", expected="(n,) twice", found=f"{values.shape}, {flags.shape}")
    require("happened", flags, (flags == 0) | (flags == 1), "0 or 1")


def _pair(realised: npt.ArrayLike, forecast: npt.ArrayLike) -> tuple[Floats, Floats]:
    rv, h = broadcast(realised=_numbers("realised", realised), forecast=_numbers("forecast", forecast))
    return rv, h


def _numbers(name: str, values: npt.ArrayLike) -> Floats:
    column = floats(name, values)
    if not column.size:
        raise DomainError(f"{name} is empty", expected="numbers", found=str(column.shape))
    require(name, column, np.isfinite(column), "a finite number")
    return column
