"""The float book walk against one exact Uniswap v3 swap after another, answers compared first."""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from typing import Any

import numpy as np

from aggregator.quant.depth import uniswap_v3_depth
from aggregator.quant.uniswap_v3 import Pool, swap
from aggregator.quant.uniswap_v3_math import Q96
from benchmarks._pairs import pair_seconds, require_close, row


def wide_pool(ticks: int) -> Pool:
    """`ticks` initialised ticks on each side, 10 apart, uneven, so deep that a raw unit is 1e-20 of a range."""
    rng = np.random.default_rng(3)
    levels = [int(10**27 * (0.5 + x)) for x in rng.random(2 * ticks + 1)]
    edges = [10 * (k - ticks) - 5 for k in range(2 * ticks + 2)]
    edges = [e - e % 10 for e in edges]
    nets = [levels[0], *(b - a for a, b in pairwise(levels)), -levels[-1]]
    at = max(k for k, edge in enumerate(edges) if edge <= 0)
    return Pool(Q96, 0, levels[at], 500, 10, tuple(edges), tuple(nets))


def benchmarks(quick: bool = True) -> list[dict[str, Any]]:
    """Rows name, what, ours, reference (seconds), ratio, bar, holds."""
    pool = wide_pool(500)
    pool.check()
    curve = uniswap_v3_depth(pool, sell_token0=True)
    count = 200 if quick else 1000
    sizes = [int(s) for s in np.linspace(1e-3, 0.9999, count) * float(curve.base[-1])]
    floats = np.array(sizes, float)
    exact = [swap(pool, size, True) for size in sizes]
    paid = np.array([float(-s.amount1_raw) for s in exact])
    require_close("uniswap_v3.walk", float(np.max(np.abs(curve.walk(floats).proceeds / paid - 1.0))), 1e-12)
    # The book is part of the work: it is built once per pool and round.
    ours, reference = pair_seconds(
        lambda: uniswap_v3_depth(pool, sell_token0=True).walk(floats),
        lambda: [swap(pool, size, True) for size in sizes],
        7 if quick else 3,
    )
    what = f"{count} sizes over up to {max(s.crossed for s in exact)} ticks, book built from the tick table, to 1e-12"
    return [row("uniswap_v3.walk", what, ours, reference, 100.0)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    print(json.dumps(benchmarks(quick=not parser.parse_args().full), indent=1))
