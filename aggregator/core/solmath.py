"""Solidity's integer arithmetic, to the last unit, on Python integers.

Names end in the rounding: down (floor), up (ceil), half_up. A bare ray_/wad_/percent_ name is half-up, as in Aave's
WadRayMath and PercentageMath (aave-v3-core 1.19, aave-v3-origin 3.1 to 3.7). Contracts revert above 2^256; here the
integers simply grow, so a caller that can meet such numbers checks them (`core.fixed.pack_u256`).
"""

from __future__ import annotations

from typing import NamedTuple

from aggregator.core.errors import DomainError
from aggregator.core.fixed import RAY, WAD

BPS = 10_000
YEAR_S = 31_536_000  # Aave's SECONDS_PER_YEAR: 365 days


def mul_div_down(a: int, b: int, den: int) -> int:
    _check(den)
    return a * b // den


def mul_div_up(a: int, b: int, den: int) -> int:
    _check(den)
    return -(-a * b // den)


def mul_div_half_up(a: int, b: int, den: int) -> int:
    """(a*b + den//2) // den: Aave's half-up, which for an odd den rounds the exact half down as the contract does."""
    _check(den)
    return (a * b + den // 2) // den


def sdiv(a: int, b: int) -> int:
    """Signed division towards zero, as the EVM's of that name; ZeroDivisionError for b = 0."""
    return a // b if (a < 0) == (b < 0) else -(-a // b)


def ray_mul(a: int, b: int) -> int:
    return mul_div_half_up(a, b, RAY)


def ray_div(a: int, b: int) -> int:
    return mul_div_half_up(a, RAY, b)


def wad_mul(a: int, b: int) -> int:
    return mul_div_half_up(a, b, WAD)


def wad_mul_down(a: int, b: int) -> int:
    return mul_div_down(a, b, WAD)


def wad_div(a: int, b: int) -> int:
    return mul_div_half_up(a, WAD, b)


def wad_div_down(a: int, b: int) -> int:
    return mul_div_down(a, WAD, b)


def wad_div_up(a: int, b: int) -> int:
    return mul_div_up(a, WAD, b)


def percent_mul(value: int, bps: int) -> int:
    return mul_div_half_up(value, bps, BPS)


def percent_mul_down(value: int, bps: int) -> int:
    return mul_div_down(value, bps, BPS)


def percent_div(value: int, bps: int) -> int:
    return mul_div_half_up(value, BPS, bps)


def linear_interest(rate_ray: int, elapsed_s: int) -> int:
    """Growth factor in ray of a yearly rate in ray over elapsed_s (Aave MathUtils.calculateLinearInterest)."""
    return RAY + rate_ray * elapsed_s // YEAR_S


def compounded_interest(rate_ray: int, elapsed_s: int) -> int:
    """Aave MathUtils.calculateCompoundedInterest since 3.4: third-order series in x = rate * dt / year."""
    if elapsed_s == 0:
        return RAY
    x = rate_ray * elapsed_s // YEAR_S
    return RAY + x + ray_mul(x, x // 2 + ray_mul(x, x // 6))


def compounded_interest_v30(rate_ray: int, elapsed_s: int) -> int:
    """Aave MathUtils.calculateCompoundedInterest of 3.0 to 3.3: binomial series in n = dt seconds, three terms."""
    if elapsed_s == 0:
        return RAY
    n, rest = elapsed_s - 1, max(elapsed_s - 2, 0)
    base2 = ray_mul(rate_ray, rate_ray) // (YEAR_S * YEAR_S)
    base3 = ray_mul(base2, rate_ray) // YEAR_S
    return RAY + rate_ray * elapsed_s // YEAR_S + elapsed_s * n * base2 // 2 + elapsed_s * n * rest * base3 // 6


def w_taylor_compounded(rate_wad: int, elapsed_s: int) -> int:
    """Morpho Blue MathLib.wTaylorCompounded: x + x^2/2 + x^3/6 in wad, x = rate per second * elapsed."""
    first = rate_wad * elapsed_s
    second = first * first // (2 * WAD)
    return first + second + second * first // (3 * WAD)


VIRTUAL_SHARES, VIRTUAL_ASSETS = 10**6, 1  # Morpho Blue SharesMathLib


class MorphoTotals(NamedTuple):
    """A Morpho Blue market's totals in raw assets and shares."""

    supply_assets: int
    supply_shares: int
    borrow_assets: int
    borrow_shares: int


def morpho_accrue(totals: MorphoTotals, rate_wad: int, fee_wad: int, elapsed_s: int) -> MorphoTotals:
    """Totals after Morpho Blue `_accrueInterest`: rate_wad per second from the IRM, fee shares minted on supply."""
    interest = wad_mul_down(totals.borrow_assets, w_taylor_compounded(rate_wad, elapsed_s))
    supply_assets, fee = totals.supply_assets + interest, wad_mul_down(interest, fee_wad)
    fee_shares = mul_div_down(fee, totals.supply_shares + VIRTUAL_SHARES, supply_assets - fee + VIRTUAL_ASSETS)
    return MorphoTotals(
        supply_assets, totals.supply_shares + fee_shares, totals.borrow_assets + interest, totals.borrow_shares
    )


def _check(den: int) -> None:
    if den <= 0:
        raise DomainError("division by a non-positive denominator", expected="den > 0", found=str(den))
