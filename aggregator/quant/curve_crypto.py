"""Curve's two-coin crypto pool (v2) in exact integers.

Balances x are scaled by precision and price scale to one unit.  With K0 = N^N * prod x / D^N and

    K = A * K0 * gamma^2 / (gamma + 1 - K0)^2,      K * D^(N-1) * S + prod x = K * D^N + (D/N)^N        (1)

the pool is a StableSwap near the price scale and a constant product away from it.  ANN = A * N^N * 10^4 and gamma
(1e18) as the contract stores them.  D is the stored one; while A or gamma ramps, get_dy takes `crypto_invariant` of the
balances instead.  The fee is mid*f + out*(1-f) with

    f = fee_gamma / (fee_gamma + 1 - prod x / (S/N)^N).                                              (2)

Source: Egorov 2021, "Automatic market-making with dynamic peg"; curvefi/curve-crypto-contract (d7d04cd)
contracts/two/CurveCryptoSwap2.vy: geometric_mean, newton_D, newton_y, _fee, get_dy.  Array form: `crypto_curve`.
"""

from __future__ import annotations

from typing import NamedTuple

from aggregator.core.errors import DomainError
from aggregator.quant._checks import require_ints

WAD = 10**18
A_MULTIPLIER = 10_000
_ROUNDS = 255


class CryptoPool(NamedTuple):
    """Raw state: balances, precisions (10^(18 - decimals)), price_scale (1e18, coin 1 in coin 0), D, ANN, gamma and the
    three fee parameters (of 1e10; fee_gamma of 1e18)."""

    balances_raw: tuple[int, int]
    precisions: tuple[int, int]
    price_scale: int
    d: int
    ann: int
    gamma: int
    mid_fee: int
    out_fee: int
    fee_gamma: int


def geometric_mean(x: tuple[int, int]) -> int:
    """Newton square root of x0 * x1 for x0 >= x1 > 0, as the contract stops it."""
    require_ints(x=x)
    if not x[0] >= x[1] > 0:
        raise DomainError("pool is drained or out of order", expected="x0 >= x1 > 0", found=str(x))
    d = x[0]
    for _ in range(_ROUNDS):
        previous = d
        d = (d + x[0] * x[1] // d) // 2
        diff = abs(d - previous)
        if diff <= 1 or diff * WAD < d:
            return d
    raise DomainError("geometric mean does not converge", expected=f"{_ROUNDS} rounds", found=str(x))


def crypto_invariant(ann: int, gamma: int, balances: tuple[int, int]) -> int:
    """D of (1) for scaled balances (newton_D); DomainError where the contract's safety checks revert."""
    _check_terms(ann, gamma)
    require_ints(balances=balances)
    x = (max(balances), min(balances))
    if not 10**9 <= x[0] <= 10**33 or x[1] * WAD // x[0] < 10**14:
        raise DomainError("balances are unsafe", expected="1e9 <= larger <= 1e33, ratio >= 1e-4", found=str(balances))
    d, total = 2 * geometric_mean(x), sum(x)
    for _ in range(_ROUNDS):
        previous, k0 = d, 4 * WAD * x[0] // d * x[1] // d
        d = next_invariant(d, total, k0, 2, *bend(ann, gamma, d, k0, A_MULTIPLIER))
        if abs(d - previous) * 10**14 < max(10**16, d):
            for held in x:
                _check_fraction(held, d)
            return d
    raise DomainError("invariant does not converge", expected=f"{_ROUNDS} rounds", found=str(balances))


def crypto_balance(ann: int, gamma: int, balances: tuple[int, int], d: int, i: int) -> int:
    """Scaled balance of coin i that solves (1) for the other balance and D (newton_y)."""
    _check_terms(ann, gamma)
    require_ints(balances=balances, d=d)
    if not 10**17 <= d <= 10**33 or i not in (0, 1):
        raise DomainError("invariant is unsafe", expected="1e17 <= D <= 1e33, i in (0, 1)", found=f"{d}, {i}")
    other = balances[1 - i]
    _check_fraction(other, d)
    y = d * d // (other * 4)
    k0_other = 2 * WAD * other // d
    limit = max(other // 10**14, d // 10**14, 100)
    for _ in range(_ROUNDS):
        previous = y
        k0 = k0_other * y * 2 // d
        mul1, g = bend(ann, gamma, d, k0, A_MULTIPLIER)
        mul2 = (WAD + 2 * WAD * k0) // g  # where the contract's bracket is; the root does not depend on it
        y, halved = next_balance(y, other, d, k0, mul1, mul2)
        if not halved and abs(y - previous) < max(limit, y // 10**14):
            _check_fraction(y, d)
            return y
    raise DomainError("balance does not converge", expected=f"{_ROUNDS} rounds", found=str(balances))


def bend(ann: int, gamma: int, d: int, k0: int, multiplier: int) -> tuple[int, int]:
    """(D/A * (g/gamma)^2, g), both of 1e18; ANN = A * multiplier."""
    g = abs(gamma + WAD - k0) + 1
    return WAD * d // gamma * g // gamma * g * multiplier // ann, g


def next_invariant(d: int, total: int, k0: int, n: int, mul1: int, g: int) -> int:
    """One step of newton_D for n coins; mul1 and g by `bend`."""
    mul2 = 2 * n * WAD * k0 // g
    slope = total + total * mul2 // WAD + mul1 * n // k0 - mul2 * d // WAD
    if slope <= 0:
        raise DomainError("invariant underflows", expected="slope > 0", found=f"{total} in all, D = {d}")
    plus, minus = d * (slope + total) // slope, d * d // slope
    bent = d * (mul1 // slope) // WAD * abs(WAD - k0) // k0
    minus += bent if k0 < WAD else -bent
    if minus < 0:
        raise DomainError("invariant underflows", expected="a smaller imbalance", found=f"{total} in all, D = {d}")
    return plus - minus if plus > minus else (minus - plus) // 2


def next_balance(y: int, others: int, d: int, k0: int, mul1: int, mul2: int) -> tuple[int, bool]:
    """One step of newton_y from y, others: the sum of the other balances; and whether the step was no Newton step."""
    total = others + y
    slope_y = WAD * y + total * mul2 + mul1 - d * mul2
    if slope_y < 0:
        return y // 2, True
    if k0 == 0 or slope_y < y:  # the contract divides by zero; k0 is zero before y is
        raise DomainError("balance vanishes", expected="a smaller trade", found=f"{others} beside it, D = {d}")
    slope = slope_y // y
    minus = mul1 // slope
    plus = (slope_y + WAD * d) // slope + minus * WAD // k0
    minus += WAD * total // slope
    return (y // 2 if plus < minus else plus - minus), False


def crypto_fee(pool: CryptoPool, scaled: tuple[int, int]) -> int:
    """Dynamic fee (2) of 1e10 at scaled balances."""
    require_ints(scaled=scaled, fees=(pool.mid_fee, pool.out_fee, pool.fee_gamma))
    if min(scaled) <= 0 or pool.fee_gamma <= 0 or not 0 <= pool.mid_fee <= pool.out_fee < 10**10:
        raise DomainError(
            "fee is out of range",
            expected="balances and fee_gamma > 0, 0 <= mid <= out < 1e10",
            found=f"{scaled}, fees {pool.mid_fee}, {pool.out_fee}, {pool.fee_gamma}",
        )
    total = scaled[0] + scaled[1]
    balance_term = 4 * WAD * scaled[0] // total * scaled[1] // total
    f = pool.fee_gamma * WAD // (pool.fee_gamma + WAD - balance_term)
    return (pool.mid_fee * f + pool.out_fee * (WAD - f)) // WAD


def crypto_amount_out(pool: CryptoPool, i: int, amount_in_raw: int) -> int:
    """Raw output of selling coin i for the other (get_dy), with the dynamic fee taken at the new balances."""
    require_ints(balances_raw=pool.balances_raw, precisions=pool.precisions, price_scale=pool.price_scale)
    require_ints(amount_in_raw=amount_in_raw)
    positive = (*pool.balances_raw, *pool.precisions, pool.price_scale)
    if i not in (0, 1) or amount_in_raw < 0 or min(positive) <= 0:
        raise DomainError(
            "swap is out of range",
            expected="i in (0, 1), amount >= 0, balances, precisions and price scale > 0",
            found=f"{i}, {amount_in_raw}, {positive}",
        )
    j, scale = 1 - i, pool.price_scale * pool.precisions[1]
    held = list(pool.balances_raw)
    held[i] += amount_in_raw
    scaled = [held[0] * pool.precisions[0], held[1] * scale // WAD]
    y = crypto_balance(pool.ann, pool.gamma, (scaled[0], scaled[1]), pool.d, j)
    out = scaled[j] - y - 1
    if out < 0:
        raise DomainError("swap pays nothing", expected="a larger amount", found=str(amount_in_raw))
    scaled[j] = y
    out = out * WAD // scale if j else out // pool.precisions[0]
    return out - crypto_fee(pool, (scaled[0], scaled[1])) * out // 10**10


def _check_terms(ann: int, gamma: int) -> None:
    require_ints(ann=ann, gamma=gamma)
    if not 4 * A_MULTIPLIER // 10 <= ann <= 4 * A_MULTIPLIER * 100_000 or not 10**10 <= gamma <= 2 * 10**16:
        raise DomainError(
            "terms are unsafe", expected="4e3 <= ANN <= 4e9, 1e10 <= gamma <= 2e16", found=f"{ann}, {gamma}"
        )


def _check_fraction(held: int, d: int) -> None:
    if not 10**16 <= held * WAD // d <= 10**20:
        raise DomainError("balance is unsafe", expected="0.01 <= x/D <= 100", found=f"{held} of D = {d}")
