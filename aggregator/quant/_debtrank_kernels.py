"""Compiled stress propagation of `debtrank`: many shocks on one network, each costing the edges it touches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aggregator.quant.jit import jit

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Pointers = npt.NDArray[np.uint64]
Columns = npt.NDArray[np.uint32]

LINEAR, EXPONENTIAL, THRESHOLD = 0, 1, 2
GONE_FRAC = 1.0 - 1e-12  # shares of equity that add up to one may fall short of it by rounding


@jit
def spread(h: float, kind: int, alpha: float) -> float:
    """What a node at stress h passes on, in [0, 1]."""
    if h >= 1.0:
        return 1.0
    if kind == LINEAR:
        return max(h, 0.0)
    if kind == EXPONENTIAL:
        return float(max(h, 0.0) * np.exp(alpha * (h - 1.0)))
    return 1.0 if h >= GONE_FRAC else 0.0


@jit
def propagate(
    indptr: Pointers,
    indices: Columns,
    leverage: Floats,
    stress: Floats,
    sent: Floats,
    rounds: Counts,
    kind: int,
    alpha: float,
    crumb: float,
    max_rounds: int,
) -> None:
    """Raise `stress` (shocks, n, uncapped) in place until no node has more than `crumb` left to pass on.

    indptr, indices, leverage: column j of Lambda (who loses when j is stressed).  sent: what each node has passed on.
    """
    shocks, n = stress.shape
    front, following = np.empty(n, np.uint32), np.empty(n, np.uint32)
    queued = np.zeros(n, np.bool_)
    for s in range(shocks):
        h, out = stress[s], sent[s]
        size = 0
        for i in range(n):
            if spread(h[i], kind, alpha) - out[i] > crumb:
                front[size] = i
                queued[i] = True
                size += 1
        while size > 0 and rounds[s] < max_rounds:
            rounds[s] += 1
            count = 0
            for f in range(size):
                j = front[f]
                queued[j] = False
                now = spread(h[j], kind, alpha)
                more = now - out[j]
                out[j] = now
                for k in range(indptr[j], indptr[j + 1]):
                    i = indices[k]
                    h[i] += leverage[k] * more
                    if not queued[i] and spread(h[i], kind, alpha) - out[i] > crumb:
                        queued[i] = True
                        following[count] = i
                        count += 1
            front, following = following, front
            size = count
        for f in range(size):
            queued[front[f]] = False
