"""How much of many sales of one asset pays, when all of them share one walk down its depth."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from aggregator.engine.bids import Ahead
from aggregator.engine.book import Floats, Indices
from aggregator.engine.crossing import crossing
from aggregator.engine.market import Depth
from aggregator.engine.ties import SAME, levels, surplus

_LEAST, _SLACK = 1e-9, 2.0 * SAME  # relative: a part worth making, what a wave may seem to lose
_NOUGHT = 2.0**-60  # a share so small that it moves no price
Average = Callable[[float], float]  # USD per unit that so many units bring


def affordable(
    depth: Depth,
    asset: int,
    units: Floats,
    cost_usd: Floats,
    value_usd: Floats,
    ahead: Ahead,
    allow: Callable[[Indices, float], Floats],
) -> tuple[Floats, Floats]:
    """Share in [0, 1] of each sale that a liquidator without inventory makes after the sales in `ahead`, (k,).

    Beside it (k,) how far, relative, those at the margin are from just paying or from just fitting; inf for the others.

    All sales of a round share one walk and get its average price, so calls enter from the cheapest unit cost up while
    the average still pays the dearest; the group at the margin enters in part, each member by the same share. One call
    of c on a fee-free pool of x at a live oracle enters whole iff c <= bonus * x. What enters joins `ahead`.

    allow(at, share) (k',): what the rule makes of those calls cut to a share, at most that. Those it cuts further enter
    whole, in the order given, where what they leave of the group's part has room; if not, dearer ones may.
    """

    @cache
    def average(total: float) -> float:
        return depth.quote(asset, total, value_usd, ahead.copy()) / total if total > 0.0 else np.inf

    order, starts, ends, floor = _groups(units, cost_usd)
    total = np.cumsum(units[order])[ends - 1]
    share, first, last, left_out = np.zeros(len(units)), 0, int(np.isfinite(floor).sum()), 0.0
    off = np.full(len(units), np.inf)
    while first < last:
        margin = _first_too_dear(average, total - left_out, floor, first, last)
        if margin > first:
            share[order[starts[first] : ends[margin - 1]]] = 1.0
            whole = average(float(total[margin - 1]) - left_out)
            off[order[starts[margin - 1] : ends[margin - 1]]] = surplus(whole, float(floor[margin - 1]))
        if margin == last:
            break
        group = order[starts[margin] : ends[margin]]
        cheaper = (float(total[margin - 1]) if margin else 0.0) - left_out
        more = float(total[margin]) - left_out - cheaper
        part, off[group] = _largest_part(average, cheaper, more, float(floor[margin]))
        if part == 0.0:
            break
        cut = allow(group, part) if part > _LEAST else np.zeros(len(group))
        short = np.flatnonzero(cut < part * (1.0 - SAME))
        share[group], fits = _filled(cut, units[group], short, part * more)
        off[group] = np.minimum(np.abs(off[group]), fits)
        if not len(short):
            break
        first, left_out = margin + 1, left_out + more - float(share[group] @ units[group])
    after = ahead.copy()
    got = depth.quote(asset, float(share @ units), value_usd, after)
    if got < float(share @ cost_usd) * (1.0 - _SLACK):  # of several quotes one has fallen: less may bring less a unit
        return np.zeros(len(units)), off
    ahead.update(after)
    return share, off


def _groups(units: Floats, cost_usd: Floats) -> tuple[Indices, Indices, Indices, Floats]:
    """Calls of one unit cost together, cheapest first: order (k,), and of each group (starts, ends) in it, its cost."""
    with np.errstate(divide="ignore", invalid="ignore"):
        unit_cost = np.where(units > 0.0, cost_usd / units, np.inf)
    level = levels(unit_cost)
    if not level.any():
        return np.arange(len(units)), np.zeros(1, np.int64), np.array([len(units)]), np.max(unit_cost, keepdims=True)
    order = np.argsort(level, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(level[order]) > 0))
    return order, starts, np.append(starts[1:], len(order)), np.maximum.reduceat(unit_cost[order], starts)


def _first_too_dear(average: Average, total: Floats, floor: Floats, first: int, end: int) -> int:
    """The first group that does not pay whole; total (groups,): units up to and with it."""
    while first < end:  # the average falls and the cost rises: groups that pay whole come first
        middle = (first + end) // 2
        pays = average(float(total[middle])) >= floor[middle] * (1.0 - SAME)
        first, end = (middle + 1, end) if pays else (first, middle)
    return first


def _largest_part(average: Average, cheaper: float, more: float, floor: float) -> tuple[float, float]:
    """Largest share of `more` units behind `cheaper` ones at which the average pays the floor, and by how much the
    first of them pays more, relative."""

    def pays(share: float) -> float:
        return average(cheaper + share * more) - floor

    part = crossing(pays, _NOUGHT, 1.0)  # of several quotes one has fallen: the first unit need not pay most
    return (part if part > _NOUGHT else 0.0), surplus(average(cheaper + _LEAST * more), floor)


def _filled(cut: Floats, units: Floats, short: Indices, room: float) -> tuple[Floats, Floats]:
    """Shares of a group: those cut `short` enter whole while what it leaves of its `room` (units) holds them.

    Beside it how close, relative, each was to just fitting; inf for those that were not asked.
    """
    out, off, room = cut.copy(), np.full(len(cut), np.inf), room - float(cut @ units)
    for i in short.tolist():
        rest = (1.0 - float(out[i])) * float(units[i])
        off[i] = abs(rest - room) / float(units[i])
        if rest <= room + SAME * float(units[i]):
            out[i], room = 1.0, room - rest
    return out, off
