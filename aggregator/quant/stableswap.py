"""StableSwap in exact integers: Curve pools and Balancer stable pools.

n coins with balances x_i in one unit of account, amplification in the contract's convention (A here is
A_paper * n^(n-1)), Ann = A*n.  The invariant D solves

    Ann * S + D = Ann * D + D^(n+1) / (n^n * prod x)                                                   (1)

by Newton in integers; a trade puts x_i + dx in and solves y^2 + (S' + D/Ann - D)*y = D^(n+1)/(n^n * P' * Ann)     (2)
for the other balance, the primes leaving out y.  Source: Egorov 2019, "StableSwap"; curvefi/curve-contract (574f440)
pools/3pool/StableSwap3Pool.vy and pool-templates/base/SwapTemplateBase.vy; balancer-v2-monorepo (316ded078)
pkg/pool-stable/contracts/StableMath.sol.  These differ only in where they round.  Array form: `stable_curve`.
"""

from __future__ import annotations

from collections.abc import Sequence

from aggregator.core.errors import DomainError
from aggregator.quant._checks import require_ints, require_version

FEE_UNIT = 10**10
PRECISION = 10**18
BALANCER_A_PRECISION = 1000
_ROUNDS = 255


def curve_invariant(balances: Sequence[int], a_raw: int, a_precision: int = 1) -> int:
    """D of (1), truncating like Vyper.  a_raw = A * a_precision (1 in the first pools, 100 since the 2020 templates).

    Zero balances give D = 0 if all are zero and DomainError otherwise (the contract divides by zero).
    """
    n, total = _check(balances, a_raw, a_precision)
    if total == 0:
        return 0
    d, ann = total, a_raw * n
    for _ in range(_ROUNDS):
        product = d
        for x in balances:
            product = product * d // (x * n)
        previous = d
        d = (
            (ann * total // a_precision + product * n)
            * d
            // ((ann - a_precision) * d // a_precision + (n + 1) * product)
        )
        if abs(d - previous) <= 1:
            return d
    raise DomainError("invariant does not converge", expected=f"{_ROUNDS} rounds", found=f"balances {list(balances)}")


def curve_balance(i: int, j: int, x: int, balances: Sequence[int], a_raw: int, a_precision: int = 1) -> int:
    """Balance of coin j that keeps D when the balance of coin i becomes x (get_y)."""
    n, _ = _check(balances, a_raw, a_precision)
    _check_pair(i, j, n)
    require_ints(x=x)
    d = curve_invariant(balances, a_raw, a_precision)
    if d == 0 or x <= 0:
        raise DomainError("pool is drained", expected="positive balances", found=f"{list(balances)}, x = {x}")
    ann, c, total = a_raw * n, d, 0
    for k in range(n):
        if k == j:
            continue
        held = x if k == i else balances[k]
        total += held
        c = c * d // (held * n)
    c = c * d * a_precision // (ann * n)
    b = total + d * a_precision // ann
    y = d
    for _ in range(_ROUNDS):
        previous = y
        y = (y * y + c) // (2 * y + b - d)
        if abs(y - previous) <= 1:
            return y
    raise DomainError("balance does not converge", expected=f"{_ROUNDS} rounds", found=f"x = {x}")


def curve_amount_out(
    i: int,
    j: int,
    amount_in_raw: int,
    balances_raw: Sequence[int],
    rates: Sequence[int],
    a_raw: int,
    fee_raw: int,
    *,
    a_precision: int = 1,
    fee_first: bool = False,
) -> int:
    """Raw output of a swap, to the unit.

    rates: 1e18 * 10^(18 - decimals) per coin (times a redemption or virtual price in metapools); fee_raw: of 1e10.
    fee_first: the fee is taken before scaling back to raw units, as `exchange` and the newer `get_dy` do; the first
    pools' `get_dy` (3pool) scales first.
    """
    n, _ = _check(balances_raw, a_raw, a_precision)
    _check_pair(i, j, n)
    require_ints(amount_in_raw=amount_in_raw, rates=rates, fee_raw=fee_raw)
    if amount_in_raw < 0 or len(rates) != n or min(rates) <= 0 or not 0 <= fee_raw < FEE_UNIT:
        raise DomainError(
            "swap is out of range", expected=f"amount >= 0, {n} positive rates, 0 <= fee_raw < 1e10",
            found=f"amount {amount_in_raw}, rates {list(rates)}, fee {fee_raw}",
        )  # fmt: skip
    xp = [x * r // PRECISION for x, r in zip(balances_raw, rates, strict=True)]
    y = curve_balance(i, j, xp[i] + amount_in_raw * rates[i] // PRECISION, xp, a_raw, a_precision)
    out = max(xp[j] - y - 1, 0)
    if fee_first:
        return (out - fee_raw * out // FEE_UNIT) * PRECISION // rates[j]
    out = out * PRECISION // rates[j]
    return out - fee_raw * out // FEE_UNIT


def balancer_stable_invariant(balances: Sequence[int], a_raw: int, version: int = 2, *, round_up: bool = True) -> int:
    """StableMath._calculateInvariant, a_raw = A * 1000.

    version 1 (StablePool of 2021, MetaStablePool, StablePhantomPool): an iteration of its own that rounds up, as swaps
    take it, or down, as their getRate does. 2 (StablePool v2 of June 2022, ComposableStablePool) and 3 (Balancer v3):
    the integers of Curve, which have one rounding.
    """
    require_version("Balancer's pools", version, 3)
    if version > 1:
        return curve_invariant(balances, a_raw, BALANCER_A_PRECISION)
    n, total = _check(balances, a_raw, BALANCER_A_PRECISION)
    if total == 0:
        return 0
    divide = _ceil if round_up else _floor
    against = _floor if round_up else _ceil
    ann, d = a_raw * n, total
    for _ in range(_ROUNDS):
        product = balances[0] * n
        for x in balances[1:]:
            product = divide(product * x * n, d)
        previous = d
        d = divide(
            n * d * d + divide(ann * total * product, BALANCER_A_PRECISION),
            (n + 1) * d + against((ann - BALANCER_A_PRECISION) * product, BALANCER_A_PRECISION),
        )
        if abs(d - previous) <= 1:
            return d
    raise DomainError("invariant does not converge", expected=f"{_ROUNDS} rounds", found=f"balances {list(balances)}")


def balancer_stable_amount_out(
    i: int, j: int, amount_in: int, balances: Sequence[int], a_raw: int, version: int = 2
) -> int:
    """StableMath._calcOutGivenIn on 18-decimal (upscaled) balances, before fee; the swap fee is off `amount_in`."""
    after = list(balances)
    _check_pair(i, j, len(after))
    invariant = balancer_stable_invariant(balances, a_raw, version)
    after[i] += _amount(amount_in)
    return max(after[j] - _balancer_balance(after, a_raw, invariant, j, version) - 1, 0)


def balancer_stable_amount_in(
    i: int, j: int, amount_out: int, balances: Sequence[int], a_raw: int, version: int = 2
) -> int:
    """StableMath._calcInGivenOut on 18-decimal balances, before fee."""
    after = list(balances)
    _check_pair(i, j, len(after))
    if _amount(amount_out) >= after[j]:
        raise DomainError("pool cannot pay that much", expected=f"< {after[j]}", found=str(amount_out))
    invariant = balancer_stable_invariant(balances, a_raw, version)
    after[j] -= amount_out
    return _balancer_balance(after, a_raw, invariant, i, version) - balances[i] + 1


def _balancer_balance(balances: Sequence[int], a_raw: int, invariant: int, index: int, version: int) -> int:
    n, total = _check(balances, a_raw, BALANCER_A_PRECISION)
    ann, product = a_raw * n, balances[0] * n
    if product == 0 or invariant == 0:
        raise DomainError("pool is drained", expected="positive balances", found=str(list(balances)))
    for x in balances[1:]:
        product = product * x * n // invariant
    squared = invariant * invariant
    if version < 3:  # Balancer v2 divides before it multiplies by the precision, v3 after
        factor = _ceil(squared, ann * product) * BALANCER_A_PRECISION
        share = invariant // ann * BALANCER_A_PRECISION
    else:
        factor = _ceil(squared * BALANCER_A_PRECISION, ann * product)
        share = invariant * BALANCER_A_PRECISION // ann
    c, b = factor * balances[index], total - balances[index] + share
    y = _ceil(squared + c, invariant + b)
    for _ in range(_ROUNDS):
        previous = y
        y = _ceil(y * y + c, 2 * y + b - invariant)
        if abs(y - previous) <= 1:
            return y
    raise DomainError("balance does not converge", expected=f"{_ROUNDS} rounds", found=f"balances {list(balances)}")


def _check(balances: Sequence[int], a_raw: int, a_precision: int) -> tuple[int, int]:
    n = len(balances)
    require_ints(balances=balances, a_raw=a_raw, a_precision=a_precision)
    if n < 2 or a_raw < a_precision or a_precision <= 0 or min(balances) < 0:
        raise DomainError(
            "pool is out of range",
            expected="two or more balances >= 0, amplification >= 1",
            found=f"balances {list(balances)}, a_raw {a_raw}, a_precision {a_precision}",
        )
    total = sum(balances)
    if total and min(balances) == 0:
        at = list(balances).index(0)
        raise DomainError(f"balance {at} is zero: the pool is drained", expected="> 0", found=str(list(balances)))
    return n, total


def _check_pair(i: int, j: int, n: int) -> None:
    if i == j or not (0 <= i < n and 0 <= j < n):
        raise DomainError("coins are out of range", expected=f"two different of 0..{n - 1}", found=f"{i}, {j}")


def _amount(amount: int) -> int:
    require_ints(amount=amount)
    if amount < 0:
        raise DomainError("amount is negative", expected=">= 0", found=str(amount))
    return amount


def _floor(numerator: int, denominator: int) -> int:
    return numerator // denominator


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
