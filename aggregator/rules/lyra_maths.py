"""Black-Scholes in Lyra's fixed point, to the last unit: what the contract answers, not what the formula says.

Source: @lyrafinance/protocol 0.1.3-alpha libraries BlackScholes, FixedPointMathLib, DecimalMath. Internally 27 places,
ln and exp at 18 (rational approximations on a 2^96 basis, after Remco Bloemen), the normal distribution by Hart's
algorithm 5666. Prices agree with the closed form to about 1e-15 of the spot. All inputs and outputs are wad.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

from aggregator.core.errors import DomainError
from aggregator.core.solmath import sdiv

UNIT = 10**27
YEAR_S = 31_536_000
NANO = 10**9
_SQRT_TWO_PI = 2506628274631000502415765285
_SPLIT = 7071067811865470 * 10**12
_SMALLEST_T, _SMALLEST_VOL = UNIT // YEAR_S, UNIT // 10_000
_STANDARD_DAYS, _DAY_S = 7, 86_400
_UPPER = (
    35262496599891100000000, 700383064443688000000000, 6373962203531650000000000, 33912866078383000000000000,
    112079291497871000000000000, 221213596169931000000000000, 220206867912376000000000000,
)  # fmt: skip
_LOWER = (
    88388347648318400000000, 1755667163182640000000000, 16064177579207000000000000, 86780732202946100000000000,
    296564248779674000000000000, 637333633378831000000000000, 793826512519948000000000000, 440413735824752000000000000,
)  # fmt: skip
_LN_P = (
    3273285459638523848632254066296, 24828157081833163892658089445524, 43456485725739037958740375743393,
    -11111509109440967052023855526967, -45023709667254063763336534515857, -14706773417378608786704636184526,
)  # fmt: skip
_LN_Q = (
    5573035233440673466300451813936, 71694874799317883764090561454958, 283447036172924575727196451306956,
    401686690394027663651624208769553, 204048457590392012362485061816622, 31853899698501571402653359427138,
    909429971244387300277376558375,
)  # fmt: skip
_EXP_P = (
    2772001395605857295435445496992, 44335888930127919016834873520032, 398888492587501845352592340339721,
    1993839819670624470859228494792842,
)  # fmt: skip
_LN2_96 = 54916777467707473351141471128


class Prices(NamedTuple):
    """call and put in quote units, deltas in base units, vega per unit of volatility and standardised; all wad."""

    call: int
    put: int
    call_delta: int
    put_delta: int
    vega: int
    std_vega: int


def prices(time_s: int, vol_wad: int, spot_wad: int, strike_wad: int, rate_wad: int) -> Prices:
    """BlackScholes.pricesDeltaStdVega; call and put also equal optionPrices. DomainError for spot or strike <= 0."""
    if spot_wad <= 0 or strike_wad <= 0 or time_s < 0 or vol_wad < 0:
        raise DomainError(
            "option outside its domain",
            expected="spot and strike > 0, time and volatility >= 0",
            found=f"spot {spot_wad}, strike {strike_wad}, time {time_s}, volatility {vol_wad}",
        )
    t, spot, strike, rate = _div(time_s, YEAR_S), spot_wad * NANO, strike_wad * NANO, rate_wad * NANO
    d1, d2 = _d1_d2(t, vol_wad * NANO, spot, strike, rate)
    present = _mul(strike, _exp_precise(-_mul(rate, t)))
    call = max(_mul(spot, _cdf(d1)) - _mul(present, _cdf(d2)), 0)
    put = max(call + present - spot, 0)
    delta = _cdf(d1)
    vega = _mul(_sqrt(t), _mul(_pdf(d1), spot))
    days = max(time_s, _STANDARD_DAYS * _DAY_S) // _DAY_S
    standard = _mul(vega, _sqrt(30 * UNIT // days) // 100)
    return Prices(*(_wad(x) for x in (call, put, delta, delta - UNIT, vega, standard)))


def multiply(x: int, y: int) -> int:
    """DecimalMath.multiplyDecimal: floor of the product in wad."""
    return x * y // 10**18


def divide(x: int, y: int) -> int:
    """DecimalMath.divideDecimal: floor of the quotient in wad."""
    return x * 10**18 // y


def _d1_d2(t: int, vol: int, spot: int, strike: int, rate: int) -> tuple[int, int]:
    t, vol = max(t, _SMALLEST_T), max(vol, _SMALLEST_VOL)
    spread = _mul(vol, _sqrt(t))
    drift = _mul(_mul(vol, vol) // 2 + rate, t)
    d1 = _div(_ln(_div(spot, strike) // NANO) * NANO + drift, spread)
    return d1, d1 - spread


def _cdf(x: int) -> int:
    z, c = abs(x), 0
    if z <= 37 * UNIT:
        e = _exp_precise(-_mul(z, z // 2))
        if z < _SPLIT:
            c = _mul(_div(_horner(_UPPER, z), _horner(_LOWER, z)), e)
        else:
            f = z + UNIT * 13 // 20
            for k in (4, 3, 2, 1):
                f = z + _div(k * UNIT, f)
            c = _div(e, _mul(f, _SQRT_TWO_PI))
    return c if x <= 0 else UNIT - c


def _pdf(x: int) -> int:
    return _div(_exp_precise(-_mul(x, sdiv(x, 2))), _SQRT_TWO_PI)


def _horner(coefficients: tuple[int, ...], z: int) -> int:
    out = 0
    for c in coefficients:
        out = out * z // UNIT + c * 1000
    return out


def _ln(x: int) -> int:
    """ln of a wad, in wad."""
    if x < 1:
        raise DomainError("logarithm of a number that is not positive", expected="> 0", found=str(x))
    k = x.bit_length() - 1 - 96
    x = (x << (159 - k)) >> 159
    p = x + _LN_P[0]
    for c in _LN_P[1:]:
        p = (p * x >> 96) + c
    p = p * x - (795164235651350426258249787498 << 96)
    q = x + _LN_Q[0]
    for c in _LN_Q[1:]:
        q = (q * x >> 96) + c
    r = sdiv(p, q) * 1677202110996718588342820967067443963516166
    r += 16597577552685614221487285958193947469193820559219878177908093499208371 * k
    return r + 600920179829731861736702779321621459595472258049074101567377883020018308 >> 174


def _exp_precise(x: int) -> int:
    """e^x at 27 places, exact to 18 of them."""
    return _exp(sdiv(x, NANO)) * NANO


def _exp(x: int) -> int:
    if x <= -42139678854452767551:
        return 0
    if x >= 135305999368893231589:
        raise DomainError("exponential overflows", expected="below 135.3", found=str(x))
    x = sdiv(x << 78, 5**18)
    k = sdiv(x << 96, _LN2_96) + 2**95 >> 96
    x -= k * _LN2_96
    p = x + _EXP_P[0]
    for c in _EXP_P[1:]:
        p = (p * x >> 96) + c
    p = p * x + (4385272521454847904632057985693276 << 96)
    z = x + 750530180792738023273180420736
    z = (z * x >> 96) + 32788456221302202726307501949080
    w = x - 2218138959503481824038194425854
    w = (w * z >> 96) + 892943633302991980437332862907700
    q = z + w - 78174809823045304726920794422040
    q = (q * w >> 96) + 4203224763890128580604056984195872
    return sdiv(p, q) * 3822833074963236453042738258902158003155416615667 >> (195 - k)


def _sqrt(x: int) -> int:
    return isqrt(x * UNIT)


def _mul(x: int, y: int) -> int:
    """multiplyDecimalRoundPrecise: cut at one place beyond, then half away from zero."""
    return _round_tenth(sdiv(x * y, UNIT // 10))


def _div(x: int, y: int) -> int:
    return _round_tenth(sdiv(x * UNIT * 10, y))


def _wad(x: int) -> int:
    return _round_tenth(sdiv(x, NANO // 10))


def _round_tenth(x: int) -> int:
    return (x + 5) // 10 if x >= 0 else -((-x + 5) // 10)
