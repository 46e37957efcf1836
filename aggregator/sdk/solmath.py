"""Solidity arithmetic on Python integers: the same rounding, and DomainError where the contract would revert.

Sources: Aave WadRayMath, PercentageMath, MathUtils (core-v3 1.19.3 and aave-v3-origin 3.6.0); Morpho Blue 1.0.0
MathLib, SharesMathLib; OpenZeppelin 5.1 Math.mulDiv. Aave's and Morpho's products must fit uint256; mul_div_* keep
the full 512-bit product as OpenZeppelin does.
"""

from __future__ import annotations

from aggregator.core.errors import DomainError
from aggregator.core.fixed import I256_MAX, I256_MIN, RAY, U256_MAX, WAD

SECONDS_PER_YEAR = 365 * 86400
BPS = 10_000
VIRTUAL_SHARES, VIRTUAL_ASSETS = 10**6, 1


def u256(value: int) -> int:
    """value, or DomainError outside uint256 (checked arithmetic reverts)."""
    if not 0 <= value <= U256_MAX:
        raise DomainError("uint256 overflow", expected="0 <= value < 2^256", found=str(value))
    return value


def i256(value: int) -> int:
    if not I256_MIN <= value <= I256_MAX:
        raise DomainError("int256 overflow", expected="-2^255 <= value < 2^255", found=str(value))
    return value


def _den(den: int) -> int:
    if den <= 0:
        raise DomainError("division by zero or a negative number", expected="den > 0", found=str(den))
    return den


def mul_div_down(a: int, b: int, den: int) -> int:
    return u256(u256(a) * u256(b) // _den(den))


def mul_div_up(a: int, b: int, den: int) -> int:
    return u256(-(-u256(a) * u256(b) // _den(den)))


def mul_div_half_up(a: int, b: int, den: int) -> int:
    return u256((u256(a) * u256(b) + _den(den) // 2) // den)


def sdiv(a: int, b: int) -> int:
    """Signed division towards zero, as Solidity's `/` (Python's rounds down)."""
    if b == 0:
        raise DomainError("division by zero", expected="b != 0", found="0")
    quotient = abs(a) // abs(b)
    return i256(quotient if (a < 0) == (b < 0) else -quotient)


def smod(a: int, b: int) -> int:
    """Signed remainder with the sign of a, as Solidity's `%`."""
    return a - sdiv(a, b) * b


# -- Aave: half up by default; floor and ceil where 3.5 and later name them


def ray_mul(a: int, b: int) -> int:
    return u256(a * b + RAY // 2) // RAY


def ray_div(a: int, b: int) -> int:
    return u256(a * RAY + _den(b) // 2) // b


def ray_mul_floor(a: int, b: int) -> int:
    return u256(a * b) // RAY


def ray_mul_ceil(a: int, b: int) -> int:
    return -(-u256(a * b) // RAY)


def ray_div_floor(a: int, b: int) -> int:
    return u256(a * RAY) // _den(b)


def ray_div_ceil(a: int, b: int) -> int:
    return -(-u256(a * RAY) // _den(b))


def wad_mul(a: int, b: int) -> int:
    return u256(a * b + WAD // 2) // WAD


def wad_div(a: int, b: int) -> int:
    return u256(a * WAD + _den(b) // 2) // b


def ray_to_wad(a: int) -> int:
    return (u256(a) + 5 * 10**8) // 10**9


def wad_to_ray(a: int) -> int:
    return u256(a * 10**9)


def percent_mul(value: int, bps: int) -> int:
    return u256(value * bps + BPS // 2) // BPS


def percent_div(value: int, bps: int) -> int:
    return u256(value * BPS + _den(bps) // 2) // bps


def percent_mul_floor(value: int, bps: int) -> int:
    return u256(value * bps) // BPS


def percent_mul_ceil(value: int, bps: int) -> int:
    return -(-u256(value * bps) // BPS)


def percent_div_ceil(value: int, bps: int) -> int:
    return -(-u256(value * BPS) // _den(bps))


def linear_interest_ray(rate_ray: int, elapsed_s: int) -> int:
    """Growth factor in ray: MathUtils.calculateLinearInterest."""
    return u256(RAY + u256(rate_ray * u256(elapsed_s)) // SECONDS_PER_YEAR)


def compounded_binomial_ray(rate_ray: int, elapsed_s: int) -> int:
    """Growth factor in ray by three binomial terms: MathUtils.calculateCompoundedInterest of core-v3 1.19.3 (3.0)."""
    n = u256(elapsed_s)
    if n == 0:
        return RAY
    square = ray_mul(rate_ray, rate_ray) // (SECONDS_PER_YEAR * SECONDS_PER_YEAR)
    cube = ray_mul(square, rate_ray) // SECONDS_PER_YEAR
    second = u256(n * (n - 1) * square) // 2
    third = u256(n * (n - 1) * max(n - 2, 0) * cube) // 6
    return u256(RAY + u256(rate_ray * n) // SECONDS_PER_YEAR + second + third)


def compounded_taylor_ray(rate_ray: int, elapsed_s: int) -> int:
    """Growth factor in ray by three Taylor terms: MathUtils.calculateCompoundedInterest of aave-v3-origin 3.6.0."""
    if u256(elapsed_s) == 0:
        return RAY
    x = u256(rate_ray * elapsed_s) // SECONDS_PER_YEAR
    return u256(RAY + x + ray_mul(x, x // 2 + ray_mul(x, x // 6)))


# -- Morpho Blue


def w_mul_down(x: int, y: int) -> int:
    return u256(x * y) // WAD


def w_div_down(x: int, y: int) -> int:
    return u256(x * WAD) // _den(y)


def w_div_up(x: int, y: int) -> int:
    return u256(x * WAD + _den(y) - 1) // y


def w_taylor_compounded(rate_wad: int, elapsed_s: int) -> int:
    """e^(rate * elapsed) - 1 in wad by three terms: MathLib.wTaylorCompounded."""
    first = u256(rate_wad * elapsed_s)
    second = u256(first * first) // (2 * WAD)
    third = u256(second * first) // (3 * WAD)
    return u256(first + second + third)


def to_assets_down(shares: int, total_assets: int, total_shares: int) -> int:
    return u256(shares * (total_assets + VIRTUAL_ASSETS)) // (total_shares + VIRTUAL_SHARES)


def to_assets_up(shares: int, total_assets: int, total_shares: int) -> int:
    return -(-u256(shares * (total_assets + VIRTUAL_ASSETS)) // (total_shares + VIRTUAL_SHARES))


def to_shares_down(assets: int, total_assets: int, total_shares: int) -> int:
    return u256(assets * (total_shares + VIRTUAL_SHARES)) // (total_assets + VIRTUAL_ASSETS)


def to_shares_up(assets: int, total_assets: int, total_shares: int) -> int:
    return -(-u256(assets * (total_shares + VIRTUAL_SHARES)) // (total_assets + VIRTUAL_ASSETS))
