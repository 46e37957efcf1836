"""Constant-product pools: x * y = k, the exact Uniswap v2 integers and the same map on arrays.

With reserves x (received) and y (paid), fee f and gamma = 1 - f, an input a pays

    out = y * gamma*a / (x + gamma*a),        price after = y' / x' = (y - out) / (x + a)              (1)

Source: Uniswap/v2-periphery UniswapV2Library.getAmountOut / getAmountIn (fee 997/1000), general fee as in its forks;
Angeris et al. 2019, doi:10.48550/arXiv.1911.03380, section 2.  For many pools at once see `depth`, which merges them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import broadcast, representable, require, require_ints

Floats = npt.NDArray[np.float64]


class PoolSale(NamedTuple):
    """Arrays of one shape: quote received, marginal pool price after (quote per base), and whether the pool is empty.

    An empty pool (a zero reserve) pays nothing: its `price` is NaN and `drained` is True.
    """

    out: Floats
    price: Floats
    drained: npt.NDArray[np.bool_]


def v2_amount_out(
    amount_in_raw: int, reserve_in_raw: int, reserve_out_raw: int, fee: tuple[int, int] = (3, 1000)
) -> int:
    """Output of a Uniswap v2 swap to the unit (rounded down).  fee: (numerator, denominator), 3/1000 is 0.3 %."""
    _check_reserves(amount_in_raw, reserve_in_raw, reserve_out_raw, fee)
    kept = amount_in_raw * (fee[1] - fee[0])
    return kept * reserve_out_raw // (reserve_in_raw * fee[1] + kept)


def v2_amount_in(
    amount_out_raw: int, reserve_in_raw: int, reserve_out_raw: int, fee: tuple[int, int] = (3, 1000)
) -> int:
    """Input that a Uniswap v2 swap needs for an output, to the unit (rounded up by one, as the contract does)."""
    _check_reserves(amount_out_raw, reserve_in_raw, reserve_out_raw, fee)
    if amount_out_raw >= reserve_out_raw:
        raise DomainError("pool cannot pay that much", expected=f"< {reserve_out_raw}", found=str(amount_out_raw))
    return reserve_in_raw * amount_out_raw * fee[1] // ((reserve_out_raw - amount_out_raw) * (fee[1] - fee[0])) + 1


@representable
def constant_product_sale(
    amount: npt.ArrayLike, base: npt.ArrayLike, quote: npt.ArrayLike, fee_frac: npt.ArrayLike = 0.0
) -> PoolSale:
    """Sell `amount` of base into pools (base, quote), equation (1); all arguments broadcast.

    DomainError for negative, NaN or infinite inputs or a fee outside [0, 1).
    """
    a, x, y, fee = pool_columns(amount=amount, base=base, quote=quote, fee_frac=fee_frac)
    drained = (x <= 0.0) | (y <= 0.0)
    net = (1.0 - fee) * a
    held = np.where(drained, 1.0, x)
    out = np.where(drained, 0.0, y * net / (held + net))
    return PoolSale(out, np.where(drained, np.nan, (y - out) / (held + a)), drained)


@representable
def merged_reserves(base: npt.ArrayLike, quote: npt.ArrayLike) -> tuple[float, float]:
    """Reserves of the one pool that equals best routing over fee-free pools standing at one price.

    base, quote: (n,).  k adds as sqrt: at one price the merged pool is (sum x, sum y), and the best split is in
    proportion to reserves.  DomainError, naming the pool, if prices differ by more than 1e-9: merge those with `depth`.
    """
    x, y = (np.atleast_1d(column) for column in pool_columns(base=base, quote=quote))
    require("base", x, (x > 0.0) == (y > 0.0), "both reserves of a pool, or none: one alone stands at no price")
    spread = np.abs(y * x.sum() - x * y.sum()) > 1e-9 * x.sum() * y
    if spread.any():
        at = int(np.argmax(spread))
        raise DomainError(
            f"pool {at} stands at another price", expected=f"{y.sum() / x.sum()}", found=f"{y[at] / x[at]}"
        )
    return float(x.sum()), float(y.sum())


@representable
def profitable_liquidation_limit(base: npt.ArrayLike, bonus_frac: npt.ArrayLike) -> Floats:
    """Largest seizure c <= b*x that a liquidator without inventory sells at no loss, same shape, base units.

    Fee-free pool standing at the oracle price: proceeds y*c/(x+c) >= c*p/(1+b) iff c <= b*x.
    """
    x, b = pool_columns(base=base, bonus_frac=bonus_frac)
    return b * x


@representable
def best_liquidation_size(base: npt.ArrayLike, bonus_frac: npt.ArrayLike) -> Floats:
    """Seizure that maximises the liquidator's profit, c = x*(sqrt(1+b) - 1), base units.

    It moves a fee-free pool's price by exactly 1/(1+b), so the next liquidation at a live oracle pays nothing.
    """
    x, b = pool_columns(base=base, bonus_frac=bonus_frac)
    return x * b / (np.sqrt(1.0 + b) + 1.0)


def finite_and_not_negative(name: str, column: Floats) -> None:
    """Raise DomainError naming the first element that is NaN, infinite or negative."""
    require(name, column, (column >= 0.0) & np.isfinite(column), "finite and >= 0")


def pool_columns(**given: npt.ArrayLike) -> list[Floats]:
    """One shape for all; DomainError names an element that is not finite and >= 0, or a `fee_frac` of 1 or more."""
    columns = broadcast(**given)
    for name, column in zip(given, columns, strict=True):
        finite_and_not_negative(name, column)
        if name == "fee_frac":
            require(name, column, column < 1.0, "0 <= fee_frac < 1")
    return columns


def _check_reserves(amount_raw: int, reserve_in_raw: int, reserve_out_raw: int, fee: tuple[int, int]) -> None:
    require_ints(amount_raw=amount_raw, reserve_in_raw=reserve_in_raw, reserve_out_raw=reserve_out_raw, fee=fee)
    if amount_raw < 0 or reserve_in_raw <= 0 or reserve_out_raw <= 0 or not 0 <= fee[0] < fee[1]:
        raise DomainError(
            "pool cannot trade",
            expected="amount >= 0, both reserves > 0, 0 <= fee < 1",
            found=f"amount {amount_raw}, reserves {reserve_in_raw} and {reserve_out_raw}, fee {fee[0]}/{fee[1]}",
        )
