"""Curve's three-coin crypto pools (tricrypto) in exact integers; `curve_crypto` has those of two coins.

With N = 3, K0 = 27 * x0*x1*x2 / D^3 and g = gamma + 1 - K0, divided by K * D^2, equation (1) of `curve_crypto` is

    x0 + x1 + x2 - D + D/A * (g/gamma)^2 * (1 - 1/K0) = 0,      A = ANN / multiplier.                  (1)

`version` is that of the pool's mathematics: 1 stores ANN = A * 100 (the first pool, May 2021), 2 and 3 A * 10^4.  1 and
2 find a balance by Newton's method.  3 (tricrypto-ng) solves (1) as a cubic in K0,

    a*K0^3 + b*K0^2 + c*K0 + d = 0                                                                     (2)

by Cardano's formula in fixed point, and takes Newton's method where its discriminant is not positive.

Source: Egorov 2021, "Automatic market-making with dynamic peg"; curvefi/curve-crypto-contract (d7d04cd)
contracts/tricrypto and deployment-logs/2021-05-28: CurveCryptoMath3.vy, CurveCryptoViews3.vy; curvefi/tricrypto-ng
(584591e) contracts/main: CurveCryptoMathOptimized3.vy, CurveCryptoViews3Optimized.vy.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

from aggregator.core.errors import DomainError
from aggregator.quant._checks import require_ints, require_version
from aggregator.quant.curve_crypto import WAD, bend, next_balance, next_invariant

_MULTIPLIER = {1: 100, 2: 10_000, 3: 10_000}
_LEAST_ANN, _MOST_ANN = 2_700, {1: 27 * 10**6, 2: 27 * 10**7, 3: 27 * 10**7}
_LEAST_GAMMA, _MOST_GAMMA = 10**10, {1: 10**16, 2: 5 * 10**16, 3: 5 * 10**16}
_LEAST_FRACTION = {1: 10**16, 2: 10**16, 3: 10**16 - 1}  # of D (1e18), in an answer; what is given must be 1e16
_ROUNDS = 255
_CUBE_LIMIT = 115792089237316195423570985008687907853269  # 2^256 / 1e36
_INT256 = 1 << 255

Three = tuple[int, int, int]


class TricryptoPool(NamedTuple):
    """Raw state: balances, precisions (10^(18 - decimals)), price_scale (1e18, coins 1 and 2 in coin 0), D, ANN, gamma,
    the three fee parameters (of 1e10; fee_gamma of 1e18) and the version of the mathematics.

    ANN is A_precise() of a pool of version 1, A() of others.  D is the stored one; while A or gamma ramps, get_dy takes
    `tricrypto_invariant` of the balances instead (versions 2 and 3).
    """

    balances_raw: Three
    precisions: Three
    price_scale: tuple[int, int]
    d: int
    ann: int
    gamma: int
    mid_fee: int
    out_fee: int
    fee_gamma: int
    version: int


def tricrypto_invariant(ann: int, gamma: int, balances: Three, version: int) -> int:
    """D of (1) for scaled balances (newton_D); DomainError where the contract's safety checks revert."""
    _check_terms(ann, gamma, version)
    require_ints(balances=balances)
    x = sorted(balances, reverse=True)
    if version < 3 and (not 10**9 <= x[0] <= 10**33 or x[2] * WAD // x[0] < 10**11):
        raise DomainError("balances are unsafe", expected="1e9 <= largest <= 1e33, ratio >= 1e-7", found=str(balances))
    if x[2] <= 0:
        raise DomainError("pool is drained", expected="balances > 0", found=str(balances))
    d, total = 3 * (_mean_by_root(x) if version == 3 else _mean_by_newton(x)), sum(x)
    for _ in range(_ROUNDS):
        previous = d
        k0 = WAD
        for held in x:
            k0 = k0 * held * 3 // d if d else 0
        if k0 == 0:
            raise DomainError("invariant underflows", expected="a smaller imbalance", found=f"balances {balances}")
        d = next_invariant(d, total, k0, 3, *bend(ann, gamma, d, k0, _MULTIPLIER[version]))
        if abs(d - previous) * 10**14 < max(10**16, d):
            for held in x:
                _check_fraction(held, d, _LEAST_FRACTION[version])
            return d
    raise DomainError("invariant does not converge", expected=f"{_ROUNDS} rounds", found=str(balances))


def tricrypto_balance(ann: int, gamma: int, balances: Three, d: int, i: int, version: int) -> int:
    """Scaled balance of coin i that solves (1) for the two others and D (newton_y; get_y of version 3)."""
    _check_terms(ann, gamma, version)
    require_ints(balances=balances, d=d)
    if not 10**17 <= d <= 10**33 or i not in (0, 1, 2):
        raise DomainError("invariant is unsafe", expected="1e17 <= D <= 1e33, i in (0, 1, 2)", found=f"{d}, {i}")
    j, k = (other for other in range(3) if other != i)
    for held in (balances[j], balances[k]):
        _check_fraction(held, d)
    if version == 3:
        y = _by_cardano(ann, gamma, balances[j], balances[k], d)
        if y is not None:
            _check_fraction(y, d, _LEAST_FRACTION[3])
            return y
    y = _by_newton(ann, gamma, max(balances[j], balances[k]), min(balances[j], balances[k]), d, version)
    _check_fraction(y, d)
    return y


def tricrypto_fee(pool: TricryptoPool, scaled: Three) -> int:
    """Dynamic fee of 1e10 at scaled balances: mid*f + out*(1-f), f = fee_gamma / (fee_gamma + 1 - prod x / (S/3)^3)."""
    require_ints(scaled=scaled, fees=(pool.mid_fee, pool.out_fee, pool.fee_gamma))
    if min(scaled) <= 0 or pool.fee_gamma < 0 or not 0 <= pool.mid_fee <= pool.out_fee < 10**10:
        raise DomainError(
            "fee is out of range",
            expected="balances > 0, fee_gamma >= 0, 0 <= mid <= out < 1e10",
            found=f"{scaled}, fees {pool.mid_fee}, {pool.out_fee}, {pool.fee_gamma}",
        )
    total, f = sum(scaled), WAD
    for held in scaled:
        f = f * 3 * held // total
    if pool.fee_gamma:
        f = pool.fee_gamma * WAD // (pool.fee_gamma + WAD - f)
    return (pool.mid_fee * f + pool.out_fee * (WAD - f)) // WAD


def tricrypto_amount_out(pool: TricryptoPool, i: int, j: int, amount_in_raw: int) -> int:
    """Raw output of selling coin i for coin j (get_dy), with the dynamic fee taken at the new balances."""
    require_ints(balances_raw=pool.balances_raw, precisions=pool.precisions, price_scale=pool.price_scale)
    require_ints(amount_in_raw=amount_in_raw)
    positive = (*pool.balances_raw, *pool.precisions, *pool.price_scale)
    if i == j or i not in range(3) or j not in range(3) or amount_in_raw <= 0 or min(positive) <= 0:
        raise DomainError(
            "swap is out of range",
            expected="two coins of 0, 1, 2; amount, balances, precisions and price scales > 0",
            found=f"{i}, {j}, {amount_in_raw}, {positive}",
        )
    held = list(pool.balances_raw)
    held[i] += amount_in_raw
    scales = (pool.precisions[0], *(p * q for p, q in zip(pool.price_scale, pool.precisions[1:], strict=True)))
    after = [held[0] * scales[0], *(x * scale // WAD for x, scale in zip(held[1:], scales[1:], strict=True))]
    y = tricrypto_balance(pool.ann, pool.gamma, (after[0], after[1], after[2]), pool.d, j, pool.version)
    out = after[j] - y - 1
    if out < 0:
        raise DomainError("swap pays nothing", expected="a larger amount", found=str(amount_in_raw))
    after[j] = y
    if j:
        out = out * WAD // pool.price_scale[j - 1]
    out //= pool.precisions[j]
    return out - tricrypto_fee(pool, (after[0], after[1], after[2])) * out // 10**10


def _by_newton(ann: int, gamma: int, large: int, small: int, d: int, version: int) -> int:
    y = d // 3
    for held in (small, large):
        y = y * d // (held * 3)
    k0_others = WAD
    for held in (large, small):
        k0_others = k0_others * held * 3 // d
    limit = max(large // 10**14, d // 10**14, 100)
    for _ in range(_ROUNDS):
        previous = y
        k0 = k0_others * y * 3 // d
        mul1, g = bend(ann, gamma, d, k0, _MULTIPLIER[version])
        y, halved = next_balance(y, large + small, d, k0, mul1, WAD + 2 * WAD * k0 // g)
        if not halved and abs(y - previous) < max(limit, y // 10**14):
            return y
    raise DomainError("balance does not converge", expected=f"{_ROUNDS} rounds", found=f"{large}, {small}, D = {d}")


def _by_cardano(ann: int, gamma: int, x: int, z: int, d: int) -> int | None:
    """The balance from (2), every step truncated towards zero; None where the discriminant is not positive."""
    a, e = 10**36 // 27, (WAD + gamma) ** 2 // 27
    b = 10**36 // 9 + 2 * WAD * gamma // 27 - d * d // x * gamma**2 * ann // 27**2 // 10_000 // z
    c = 10**36 // 9 + gamma * (gamma + 4 * WAD) // 27
    c += _div(_div(_div(gamma**2 * (x + z - d), d) * ann, 27), 10_000)
    a, b, c, e = _rescaled(a, b, c, e)
    three_ac = 3 * a * c
    delta0 = _div(three_ac, b) - b
    delta1 = _div(3 * three_ac, b) - 2 * b - _div(_div(27 * a * a, b) * e, b)
    square = _fits(delta1**2 + _div(4 * delta0**2, b) * delta0)
    if square <= 0:
        return None
    root = isqrt(square)
    b_root = _cube_root(b) if b >= 0 else -_cube_root(-b)
    second = _cube_root((delta1 + root) // 2) if delta1 > 0 else -_cube_root((root - delta1) // 2)
    c1 = _div(_div(b_root * b_root, WAD) * second, WAD)
    if c1 == 0:
        raise DomainError("balance does not exist", expected="a smaller trade", found=f"{x}, {z}, D = {d}")
    k0 = _div(b + _div(_fits(b * delta0), c1) - c1, 3)
    y = _div(_fits(d * d // 27 // z * d // x * k0), a)
    if y < 0:
        raise DomainError("balance is negative", expected="a smaller trade", found=f"{x}, {z}, D = {d}")
    return y


def _rescaled(a: int, b: int, c: int, e: int) -> tuple[int, int, int, int]:
    """The coefficients of (2) at a size whose products fit into 256 bits."""
    if b == 0:
        raise DomainError("balance does not exist", expected="b != 0", found="0")
    size = abs(_div(3 * a * c, b) - b)
    divider = next((10 ** (power - 18) for power in (48, 44, 40, 36, 32, 28, 24, 20) if size > 10**power), 1)
    if abs(a) > abs(b):
        factor = abs(_div(a, b))
        sized = [x * factor for x in (a, b, c, e)]
    else:
        factor = abs(_div(b, a))
        sized = [_div(x, factor) for x in (a, b, c, e)]
    a, b, c, e = (_div(x, divider) for x in sized)
    return a, b, c, e


def _mean_by_newton(x: list[int]) -> int:
    """Geometric mean of falling balances, as versions 1 and 2 stop it."""
    d = x[0]
    for _ in range(_ROUNDS):
        previous, ratio = d, WAD
        for held in x:
            ratio = ratio * held // d
        d = d * (2 * WAD + ratio) // (3 * WAD)
        diff = abs(d - previous)
        if diff <= 1 or diff * WAD < d:
            return d
    raise DomainError("geometric mean does not converge", expected=f"{_ROUNDS} rounds", found=str(x))


def _mean_by_root(x: list[int]) -> int:
    product = x[0] * x[1] // WAD * x[2]
    if product >= 2 * _INT256:
        raise DomainError("balances are unsafe", expected="a product of 256 bits", found=str(x))
    return _cube_root(product // WAD)


def _cube_root(x: int) -> int:
    """Cube root of 1e18 fixed point in seven rounds of Newton, as version 3 takes it."""
    back = 10**12 if x >= _CUBE_LIMIT * WAD else 10**6 if x >= _CUBE_LIMIT else 1
    wide = x * 10**36 // back**3
    power = max(wide.bit_length() - 1, 0)
    root = (1 << power // 3) * (1, 1260, 1260**2)[power % 3] // (1, 1000, 1000**2)[power % 3]
    for _ in range(7):
        root = (2 * root + (wide // (root * root) if root else 0)) // 3
    return root * back


def _check_terms(ann: int, gamma: int, version: int) -> None:
    require_version("tricrypto pools", version, 3)
    require_ints(ann=ann, gamma=gamma)
    most = _MOST_ANN[version], _MOST_GAMMA[version]
    if not (_LEAST_ANN <= ann <= most[0] and _LEAST_GAMMA <= gamma <= most[1]):
        expected = f"ANN {_LEAST_ANN} to {most[0]}, gamma {_LEAST_GAMMA} to {most[1]}"
        raise DomainError("terms are unsafe", expected=expected, found=f"{ann}, {gamma}")


def _check_fraction(held: int, d: int, least: int = 10**16) -> None:
    if not least <= held * WAD // d <= 10**20:
        raise DomainError("balance is unsafe", expected="0.01 <= x/D <= 100", found=f"{held} of D = {d}")


def _div(numerator: int, denominator: int) -> int:
    """Signed division towards zero; by zero it is 0, as the contract's unchecked division has it."""
    if denominator == 0:
        return 0
    quotient = abs(numerator) // abs(denominator)
    return quotient if (numerator < 0) == (denominator < 0) else -quotient


def _fits(value: int) -> int:
    if not -_INT256 <= value < _INT256:
        raise DomainError("cubic overflows", expected="256 bits", found=f"{value.bit_length()} bits")
    return value
