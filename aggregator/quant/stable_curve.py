"""StableSwap on arrays: many pools and many sizes at once, with the marginal price.

With Ann*S + D = Ann*D + D_P, D_P = D^(n+1)/(n^n prod x), the balance y of the coin bought obeys y^2 + B*y = C with
B = S' + D/Ann - D and C = D^(n+1)/(n^n P' Ann), primes leaving out y.  Selling a moves B by +a and C to C*x/(x+a), so
the amount out is the small root of

    out^2 - (2y + B + a)*out + a*(y + C/(x + a)) = 0,                                                (1)
    marginal price of i in j = (Ann + D_P/x_i) / (Ann + D_P/x_j),                                    (2)

solved without cancellation: a sale of 1e-12 of the pool keeps full precision.  Newton for D starts at S, from above.
Source and contract convention of A: `stableswap` (the integer form, which is the oracle here).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, joint_shape, representable, require
from aggregator.quant.amm import PoolSale, finite_and_not_negative, pool_columns
from aggregator.quant.depth import NO_DEPTH, DepthCurve, depth_through

Floats = npt.NDArray[np.float64]


class Invariant(NamedTuple):
    """d: (...,); rounds: Newton steps taken; residual: last relative step (...,); converged: (...,) bool.

    A pool with a zero balance has no invariant: d is NaN and converged False.
    """

    d: Floats
    rounds: int
    residual: Floats
    converged: npt.NDArray[np.bool_]


@representable
def stable_invariant(balances: npt.ArrayLike, amplification: npt.ArrayLike, tolerance: float = 1e-15) -> Invariant:
    """D for balances (..., n) in one unit and amplification (...) in the contract's convention."""
    x = floats("balances", balances)
    finite_and_not_negative("balances", x)
    if x.ndim == 0 or x.shape[-1] < 2:
        raise DomainError("a pool has two or more coins", expected="balances (..., n >= 2)", found=str(x.shape))
    a = floats("amplification", amplification)
    require("amplification", a, (a >= 1.0) & np.isfinite(a), "finite, >= 1")
    n = x.shape[-1]
    joint_shape(pools=x.shape[:-1], amplification=a.shape)
    whole = np.all(x > 0.0, axis=-1)
    held = np.where(whole[..., None], x, 1.0)
    total, ann = held.sum(axis=-1), a * n
    d, step, rounds = total + 0.0 * ann, np.full(np.broadcast_shapes(total.shape, ann.shape), np.inf), 0
    while rounds < 255 and np.any(step > tolerance):
        rounds += 1
        product = d * np.prod(d[..., None] / (held * n), axis=-1)
        following = (ann * total + product * n) * d / ((ann - 1.0) * d + (n + 1.0) * product)
        step, d = np.abs(following - d) / d, following
    # The last steps of Newton dance on the final bit.
    good = whole & (step <= 8.0 * np.finfo(np.float64).eps)
    return Invariant(np.where(whole, d, np.nan), rounds, step, good)


@representable
def stable_sale(
    amount: npt.ArrayLike,
    balances: npt.ArrayLike,
    amplification: npt.ArrayLike,
    i: int,
    j: int,
    fee_frac: npt.ArrayLike = 0.0,
) -> PoolSale:
    """Sell `amount` (...) of coin i for coin j in pools (..., n); the fee is taken from the output, as Curve does.

    Returns output net of fee, marginal price of i in j after the sale before fee (2), and `drained` for pools with an
    empty coin (output 0, price NaN).
    """
    x, amp = floats("balances", balances), floats("amplification", amplification)
    a, fee = pool_columns(amount=amount, fee_frac=fee_frac)
    joint_shape(pools=x.shape[:-1], amplification=amp.shape, amount=a.shape)
    n = x.shape[-1] if x.ndim else 0
    if i == j or not (0 <= i < n and 0 <= j < n):
        raise DomainError("coins are out of range", expected=f"two different of 0..{n - 1}", found=f"{i}, {j}")
    invariant = stable_invariant(x, amp)
    drained = ~np.all(x > 0.0, axis=-1)
    require("invariant", invariant.d, invariant.converged | drained, "a pool whose invariant converges")
    held = np.where(drained[..., None], 1.0, x)
    d, ann = np.where(drained, float(n), invariant.d), amp * n
    x_i, x_j = held[..., i], held[..., j]
    c = d / ann * np.prod(d[..., None] / (np.delete(held, j, axis=-1) * n), axis=-1) * (d / n)
    b = held.sum(axis=-1) - x_j + d / ann - d + a
    k = a * (x_j + c / (x_i + a))
    half = 2.0 * x_j + b
    out = 2.0 * k / (half + np.sqrt(np.maximum(half * half - 4.0 * k, 0.0)))
    after_i, after_j = x_i + a, x_j - out
    product = d * np.prod(d[..., None] / (held * n), axis=-1) * (x_i / after_i) * (x_j / after_j)
    price = (ann + product / after_i) / (ann + product / after_j)
    empty = np.broadcast_to(drained, out.shape)
    return PoolSale(np.where(empty, 0.0, (1.0 - fee) * out), np.where(empty, np.nan, price), np.array(empty))


@representable
def stable_depth(
    balances: npt.ArrayLike, amplification: float, i: int, j: int, fee_frac: float = 0.0, reach: float = 50.0
) -> DepthCurve:
    """A pool (n,) as a step book for `depth.merge`: exact in amount, proceeds and price at points 4 % of price apart.

    Sizes run up to `reach` times the balance of coin i; beyond, the book says exhausted.  Between points proceeds are
    within 1e-4 of the sale itself (tested).  A pool with an empty coin has no depth.
    """
    x = floats("balances", balances)
    finite_and_not_negative("balances", x)
    if x.ndim != 1:
        raise DomainError("a book is of one pool", expected="balances (n,)", found=str(x.shape))
    require("reach", reach, 1e-4 < reach < np.inf, "above 1e-4, finite")
    stable_sale(0.0, x, amplification, i, j, fee_frac)  # the checks of a sale hold for an empty pool too
    if not np.all(x > 0.0):
        return NO_DEPTH
    sizes = np.concatenate([[0.0], x[i] * np.geomspace(1e-4, reach, 40)])
    # The price of a strongly amplified pool falls off a cliff: halve intervals until no step is steeper than 4 %.
    for _ in range(40):
        sale = stable_sale(sizes, x, amplification, i, j, fee_frac)
        steep = np.flatnonzero(sale.price[:-1] > 1.04 * sale.price[1:])
        if not len(steep):
            break
        sizes = np.sort(np.append(sizes, (sizes[steep] + sizes[steep + 1]) / 2.0))
    return depth_through(sizes, sale.out, sale.price * (1.0 - fee_frac))
