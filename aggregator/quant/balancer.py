"""Balancer weighted pools: prod x_i^w_i = const, in the contract's fixed point and on arrays.

    out = y * (1 - (x / (x + a))^(w_x / w_y)),     in = x * ((y / (y - out))^(w_y / w_x) - 1)            (1)

Powers go through LogExpMath: 18-decimal fixed point, ln by decomposition into powers of e and an artanh series, exp by
decomposition and a Taylor series; FixedPoint widens each power by its error bound (1e-14 relative) against the trader.
`version` 1 widens every power (WeightedPool and WeightedPool2Tokens of April 2021, InvestmentPool and the bootstrapping
pools of 2021); 2 (WeightedPool v2 of September 2022 to v4, ManagedPool) and 3 (Balancer v3, the same here) multiply for
exponents of 1, 2 and 4.

Source: Martinelli and Mushegian 2019, Balancer whitepaper; balancer-v2-monorepo (316ded078; version 1: e287ed1ea)
pkg/solidity-utils/contracts/math/{LogExpMath,FixedPoint}.sol, pkg/pool-weighted/contracts/WeightedMath.sol.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import representable, require, require_ints, require_version
from aggregator.quant.amm import PoolSale, pool_columns
from aggregator.quant.depth import NO_DEPTH, DepthCurve, depth_through

ONE = 10**18
_SQUARINGS = {ONE: 0, 2 * ONE: 1, 4 * ONE: 2}  # by exponent
_ONE20, _ONE36 = 10**20, 10**36
MAX_RATIO = 3 * 10**17  # a swap moves at most 30 % of a balance
_MAX_EXPONENT, _MIN_EXPONENT = 130 * ONE, -41 * ONE
# (power x_k, e^x_k): the first two in 18 decimals with whole e^x, the rest in 20 decimals.
_LARGE = (
    (128 * ONE, 38877084059945950922200000000000000000000000000000000000),
    (64 * ONE, 6235149080811616882910000000),
)
_SMALL = (
    (32 * _ONE20, 7896296018268069516100000000000000), (16 * _ONE20, 888611052050787263676000000),
    (8 * _ONE20, 298095798704172827474000), (4 * _ONE20, 5459815003314423907810), (2 * _ONE20, 738905609893065022723),
    (_ONE20, 271828182845904523536), (_ONE20 // 2, 164872127070012814685), (_ONE20 // 4, 128402541668774148407),
    (_ONE20 // 8, 113314845306682631683), (_ONE20 // 16, 106449445891785942956),
)  # fmt: skip


def exp_fixed(x: int) -> int:
    """e^x in 18 decimals (LogExpMath.exp)."""
    require_ints(x=x)
    if not _MIN_EXPONENT <= x <= _MAX_EXPONENT:
        raise DomainError("exponent is out of range", expected="-41e18 <= x <= 130e18", found=str(x))
    if x < 0:
        return ONE * ONE // exp_fixed(-x)
    whole = 1
    for power, value in _LARGE:
        if x >= power:
            x -= power
            whole = value
            break
    x *= 100
    product = _ONE20
    for power, value in _SMALL[:8]:
        if x >= power:
            x -= power
            product = product * value // _ONE20
    total, term = _ONE20 + x, x
    for n in range(2, 13):
        term = term * x // _ONE20 // n
        total += term
    return product * total // _ONE20 * whole // 100


def pow_fixed(x: int, y: int) -> int:
    """x^y in 18 decimals (LogExpMath.pow)."""
    require_ints(x=x, y=y)
    if y == 0:
        return ONE
    if x == 0:
        return 0
    if not 0 < x < 1 << 255 or not 0 < y < (1 << 254) // _ONE20:
        raise DomainError("power is out of range", expected="0 <= x < 2^255, 0 <= y < 2^254 / 1e20", found=f"{x}, {y}")
    if 9 * 10**17 < x < 11 * 10**17:
        near = _ln_36(x)
        quotient = _div(near, ONE)
        log_times = quotient * y + _div((near - quotient * ONE) * y, ONE)
    else:
        log_times = _ln(x) * y
    log_times = _div(log_times, ONE)
    if not _MIN_EXPONENT <= log_times <= _MAX_EXPONENT:
        raise DomainError("power is out of range", expected="-41 <= y ln x <= 130", found=f"{x}, {y}")
    return exp_fixed(log_times)


def pow_up(x: int, y: int, version: int = 2) -> int:
    """x^y in 18 decimals, never below the true value (FixedPoint.powUp)."""
    require_ints(x=x, y=y)
    if _multiplies(y, version):
        for _ in range(_SQUARINGS[y]):
            x = _ceil(x * x, ONE)
        return x
    raw = pow_fixed(x, y)
    return raw + _ceil(raw * 10_000, ONE) + 1


def pow_down(x: int, y: int, version: int = 2) -> int:
    """x^y in 18 decimals, never above the true value (FixedPoint.powDown)."""
    require_ints(x=x, y=y)
    if _multiplies(y, version):
        for _ in range(_SQUARINGS[y]):
            x = x * x // ONE
        return x
    raw = pow_fixed(x, y)
    return max(raw - _ceil(raw * 10_000, ONE) - 1, 0)


def weighted_invariant(balances: Sequence[int], weights: Sequence[int], version: int = 2) -> int:
    """prod x_i^w_i in 18 decimals (WeightedMath._calculateInvariant); weights of 1e18 sum to 1e18."""
    require_ints(balances=balances, weights=weights)
    if len(balances) != len(weights) or sum(weights) != ONE or min(weights) <= 0 or min(balances) < 0:
        raise DomainError(
            "pool is out of range",
            expected="a weight > 0 for each balance >= 0, summing to 1e18",
            found=f"balances {list(balances)}, weights {list(weights)}",
        )
    result = ONE
    for x, w in zip(balances, weights, strict=True):
        result = result * pow_down(x, w, version) // ONE
    if result <= 0:
        raise DomainError("pool is drained", expected="an invariant > 0", found=str(list(balances)))
    return result


def weighted_amount_out(
    amount_in: int, balance_in: int, weight_in: int, balance_out: int, weight_out: int, version: int = 2
) -> int:
    """WeightedMath._calcOutGivenIn on 18-decimal (upscaled) integers; the swap fee is taken off amount_in before."""
    _check_swap(amount_in, balance_in, weight_in, balance_out, weight_out)
    if amount_in > balance_in * MAX_RATIO // ONE:
        raise DomainError(
            "swap exceeds 30 % of the balance", expected=f"<= {balance_in * MAX_RATIO // ONE}", found=str(amount_in)
        )
    power = pow_up(_ceil(balance_in * ONE, balance_in + amount_in), weight_in * ONE // weight_out, version)
    return balance_out * max(ONE - power, 0) // ONE


def weighted_amount_in(
    amount_out: int, balance_in: int, weight_in: int, balance_out: int, weight_out: int, version: int = 2
) -> int:
    """WeightedMath._calcInGivenOut on 18-decimal integers, before fee."""
    _check_swap(amount_out, balance_in, weight_in, balance_out, weight_out)
    if amount_out > balance_out * MAX_RATIO // ONE:
        raise DomainError(
            "swap exceeds 30 % of the balance", expected=f"<= {balance_out * MAX_RATIO // ONE}", found=str(amount_out)
        )
    power = pow_up(_ceil(balance_out * ONE, balance_out - amount_out), _ceil(weight_out * ONE, weight_in), version)
    return _ceil(balance_in * (power - ONE), ONE)


@representable
def weighted_sale(
    amount: npt.ArrayLike,
    base: npt.ArrayLike,
    quote: npt.ArrayLike,
    weight_ratio: npt.ArrayLike,
    fee_frac: npt.ArrayLike = 0.0,
) -> PoolSale:
    """Equation (1) on arrays (all broadcast): sell `amount` of base, weight_ratio = w_base / w_quote.

    `price` is the marginal quote per base after the sale, (y/x) * weight_ratio; a zero reserve is `drained`.
    """
    a, x, y, ratio, fee = pool_columns(
        amount=amount, base=base, quote=quote, weight_ratio=weight_ratio, fee_frac=fee_frac
    )
    require("weight_ratio", ratio, ratio > 0.0, "> 0")
    drained = (x <= 0.0) | (y <= 0.0)
    held = np.where(drained, 1.0, x)
    # expm1 and log1p keep small sales exact where 1 - (x/(x+a))^w cancels.
    out = np.where(drained, 0.0, -y * np.expm1(-ratio * np.log1p((1.0 - fee) * a / held)))
    return PoolSale(out, np.where(drained, np.nan, ratio * (y - out) / (held + a)), drained)


@representable
def weighted_depth(
    base: float, quote: float, weight_ratio: float, fee_frac: float = 0.0, reach: float = 1e3
) -> DepthCurve:
    """A pool as a step book: exact in amount, proceeds and price at 200 sizes up to `reach` times the base reserve.

    Between points proceeds are within 1e-5 of the sale itself (tested); an empty pool has no depth.
    """
    pool_columns(base=base, quote=quote, weight_ratio=weight_ratio, fee_frac=fee_frac)
    require("reach", reach, 1e-3 < reach < np.inf, "above 1e-3, finite")
    if base == 0.0 or quote == 0.0:
        return NO_DEPTH
    sizes = np.concatenate([[0.0], base * np.geomspace(1e-3, reach, 199)])
    sale = weighted_sale(sizes, base, quote, weight_ratio, fee_frac)
    net = (1.0 - fee_frac) * weight_ratio * (quote - sale.out) / (base + (1.0 - fee_frac) * sizes)
    return depth_through(sizes, sale.out, net)


def _multiplies(y: int, version: int) -> bool:
    require_version("Balancer's pools", version, 3)
    return version > 1 and y in _SQUARINGS


def _ln(a: int) -> int:
    if a < ONE:
        return -_ln(ONE * ONE // a)
    total = 0
    for power, value in _LARGE:
        if a >= value * ONE:
            a //= value
            total += power
    total *= 100
    a *= 100
    for power, value in _SMALL:
        if a >= value:
            a = a * _ONE20 // value
            total += power
    z = (a - _ONE20) * _ONE20 // (a + _ONE20)
    return (total + 2 * _artanh(z, _ONE20, 11)) // 100


def _ln_36(x: int) -> int:
    x *= ONE
    return 2 * _artanh(_div((x - _ONE36) * _ONE36, x + _ONE36), _ONE36, 15)


def _artanh(z: int, unit: int, last: int) -> int:
    squared, power, total = z * z // unit, z, z
    for n in range(3, last + 1, 2):
        power = _div(power * squared, unit)
        total += _div(power, n)
    return total


def _check_swap(amount: int, balance_in: int, weight_in: int, balance_out: int, weight_out: int) -> None:
    require_ints(
        amount=amount, balance_in=balance_in, weight_in=weight_in, balance_out=balance_out, weight_out=weight_out
    )
    if amount < 0 or min(balance_in, balance_out, weight_in, weight_out) <= 0:
        raise DomainError(
            "pool cannot trade", expected="amount >= 0, balances and weights > 0",
            found=f"amount {amount}, balances {balance_in}, {balance_out}, weights {weight_in}, {weight_out}",
        )  # fmt: skip


def _div(numerator: int, denominator: int) -> int:
    """Solidity's signed division, towards zero."""
    return numerator // denominator if numerator >= 0 else -(-numerator // denominator)


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
