"""Exact numbers: 256-bit integers, their 32 stored bytes, and the one door to float64.

Unsigned values are 32 big-endian bytes. Signed values are stored with 2^255 added, so that bytes sort as numbers do.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError

U256_MAX = 2**256 - 1
I256_MIN, I256_MAX = -(2**255), 2**255 - 1
WAD = 10**18
RAY = 10**27

_EXACT = Context(prec=200, traps=[Inexact])
_PLAIN = re.compile(r"([+-]?)(?=\.?[0-9])([0-9]{0,200})(?:\.([0-9]{0,200}))?")


def pack_u256(value: int) -> bytes:
    """32 big-endian bytes; DomainError outside [0, 2^256)."""
    if not 0 <= value <= U256_MAX:
        raise DomainError("integer does not fit uint256", expected="0 <= value < 2^256", found=str(value))
    return value.to_bytes(32, "big")


def unpack_u256(data: bytes) -> int:
    return int.from_bytes(data, "big")


def pack_i256(value: int) -> bytes:
    """32 big-endian bytes of value + 2^255; DomainError outside int256."""
    if not I256_MIN <= value <= I256_MAX:
        raise DomainError("integer does not fit int256", expected="-2^255 <= value < 2^255", found=str(value))
    return (value + 2**255).to_bytes(32, "big")


def unpack_i256(data: bytes) -> int:
    return int.from_bytes(data, "big") - 2**255


class Fixed(NamedTuple):
    """raw * 10^-exp, exactly."""

    raw: int
    exp: int

    def decimal(self) -> Decimal:
        return Decimal(self.raw).scaleb(-self.exp, context=_EXACT)

    def __float__(self) -> float:
        """Nearest float64, for one figure shown; columns go through `to_float`."""
        return float(self.decimal())

    def __str__(self) -> str:
        """Plain positional notation with `exp` places: '1.500000' for Fixed(1500000, 6)."""
        return plain(self.raw, self.exp)


def plain(raw: int, exp: int) -> str:
    """Exact decimal string of raw * 10^-exp without exponent notation, trailing zeros kept."""
    if exp <= 0:
        return str(raw * 10**-exp)
    sign, digits = ("-" if raw < 0 else ""), str(abs(raw)).rjust(exp + 1, "0")
    return f"{sign}{digits[:-exp]}.{digits[-exp:]}"


def parse_fixed(text: str, exp: int, *, what: str = "amount") -> int:
    """Decimal string -> raw integer at exp >= 0 places. DomainError if it is not a number or has more places.

    Plain digits with a point and nothing else: an exponent or a thousands separator is the mark of a program that
    rounded, or of a country where the comma is a point.
    """
    found = _PLAIN.fullmatch(text)
    if found is None:
        raise DomainError(
            f"{what} is not a number",
            expected="a decimal string such as 1234.567",
            found=repr(text[:60]),
            fix="all digits, a point before the decimals, no separators, exponent or unit",
        )
    sign, whole, places = found.groups(default="")
    digits = places.rstrip("0")
    if len(digits) > exp:
        raise DomainError(f"{what} has too many decimal places", expected=f"at most {exp}", found=repr(text))
    raw = int(whole + digits.ljust(exp, "0") or "0")
    return -raw if sign == "-" else raw


def rescale(raw: int, exp: int, to_exp: int) -> int:
    """raw at `exp` places -> floor at `to_exp` places."""
    shift = to_exp - exp
    return raw * int(10**shift) if shift >= 0 else raw // int(10**-shift)


U8 = npt.NDArray[np.uint8]
F8 = npt.NDArray[np.float64]


def to_float(data: U8, exp: npt.NDArray[np.int16] | int = 0, *, signed: bool = False) -> F8:
    """(n, 32) uint8 exact column -> (n,) float64 of raw * 10^-exp. The only place where float64 is made of raw amounts.

    Relative error at most 2^-51. Signed columns carry the 2^255 offset of `pack_i256`.
    """
    limbs = np.ascontiguousarray(data, dtype=np.uint8).reshape(-1, 32).view(">u8").astype(np.uint64)
    weights = np.array([2.0**192, 2.0**128, 2.0**64, 1.0])
    if signed:
        limbs[:, 0] ^= np.uint64(1 << 63)  # take the offset off: two's complement
        negative = limbs[:, 0] >> np.uint64(63) == 1
        limbs[negative] = ~limbs[negative]  # -x - 1
    out: F8 = (limbs.astype(np.float64) * weights).sum(axis=1)
    if signed:
        out[negative] = -(out[negative] + 1.0)
    scale = np.asarray(exp, dtype=np.int64)
    # a division by an exact power of ten (up to 10^22) rounds once; beyond that the error stays below 2^-51
    scaled: F8 = np.where(scale >= 0, out / 10.0 ** np.abs(scale), out * 10.0 ** np.abs(scale))
    return scaled


def column(values: list[bytes] | bytes) -> U8:
    """Packed 32-byte values -> (n, 32) uint8, without a copy of each."""
    joined = values if isinstance(values, bytes) else b"".join(values)
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, 32)
