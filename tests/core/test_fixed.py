"""Exact numbers against Python's own integers, fractions and decimals."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.account import mul_div
from aggregator.core.errors import DomainError
from aggregator.core.fixed import (
    I256_MAX,
    I256_MIN,
    U256_MAX,
    Fixed,
    column,
    pack_i256,
    pack_u256,
    parse_fixed,
    plain,
    rescale,
    to_float,
    unpack_i256,
    unpack_u256,
)  # fmt: skip

u256 = st.integers(0, U256_MAX)
i256 = st.integers(I256_MIN, I256_MAX)


@given(u256, u256)
def test_u256_bytes_come_back_and_sort_as_numbers(a: int, b: int) -> None:
    assert unpack_u256(pack_u256(a)) == a
    assert len(pack_u256(a)) == 32
    assert (pack_u256(a) < pack_u256(b)) == (a < b)


@given(i256, i256)
def test_i256_bytes_come_back_and_sort_as_numbers(a: int, b: int) -> None:
    assert unpack_i256(pack_i256(a)) == a
    assert (pack_i256(a) < pack_i256(b)) == (a < b)


@pytest.mark.parametrize(
    ("pack", "bad"), [(pack_u256, -1), (pack_u256, 2**256), (pack_i256, 2**255), (pack_i256, -(2**255) - 1)]
)
def test_what_does_not_fit_is_refused(pack: object, bad: int) -> None:
    with pytest.raises(DomainError, match="does not fit"):
        pack(bad)  # type: ignore[operator]


def error_of(found: float, exact: Fraction) -> Fraction:
    return abs(Fraction(found) - exact) / abs(exact) if exact else abs(Fraction(found))


@given(st.lists(st.tuples(u256, st.integers(-40, 60)), min_size=1, max_size=20))
def test_unsigned_floats_are_within_2_to_the_minus_51(pairs: list[tuple[int, int]]) -> None:
    found = to_float(column([pack_u256(raw) for raw, _ in pairs]), np.array([exp for _, exp in pairs], dtype=np.int16))
    for value, (raw, exp) in zip(found.tolist(), pairs, strict=True):
        assert error_of(value, Fraction(raw) / Fraction(10) ** exp) <= Fraction(1, 2**51)


@given(st.lists(st.tuples(i256, st.integers(-40, 60)), min_size=1, max_size=20))
def test_signed_floats_are_within_2_to_the_minus_51(pairs: list[tuple[int, int]]) -> None:
    packed = column(b"".join(pack_i256(raw) for raw, _ in pairs))
    found = to_float(packed, np.array([exp for _, exp in pairs], dtype=np.int16), signed=True)
    for value, (raw, exp) in zip(found.tolist(), pairs, strict=True):
        assert error_of(value, Fraction(raw) / Fraction(10) ** exp) <= Fraction(1, 2**51)


@given(st.integers(0, 2**53), st.integers(0, 22))
def test_floats_of_small_numbers_are_the_nearest(raw: int, exp: int) -> None:
    assert to_float(column([pack_u256(raw)]), exp)[0] == raw / 10**exp


def test_no_rows_no_floats() -> None:
    assert to_float(column([])).shape == (0,)


@given(i256, st.integers(-20, 80))
def test_fixed_prints_every_digit(raw: int, exp: int) -> None:
    text = str(Fixed(raw, exp))
    assert "e" not in text.lower()
    assert Fraction(text) == Fraction(raw) / Fraction(10) ** exp
    assert Fraction(Fixed(raw, exp).decimal()) == Fraction(text)
    if exp > 0:
        assert len(text.split(".")[1]) == exp
        assert parse_fixed(text, exp) == raw


def test_known_strings() -> None:
    assert plain(1_500_000, 6) == "1.500000"
    assert plain(-5, 2) == "-0.05"
    assert [parse_fixed(t, 2) for t in ("1", "1.", ".5", "+1.50", "-0.05", "-0", "007", "1.2300")] == [
        100, 100, 50, 150, -5, 0, 700, 123,
    ]  # fmt: skip
    assert plain(-5, -2) == "-500"
    assert (
        parse_fixed("115792089237316195423570985008687907853269984665640564039457.584007913129639935", 18) == U256_MAX
    )


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "abc",
        "1,5",
        "NaN",
        "Infinity",
        "1e-7",
        "0.1234567",
        "1e9999999999",
        "1e3",
        "1_000",
        "1 000",
        "1,000.5",
        "\N{FULLWIDTH DIGIT ONE}",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "0x10",
        ".",
        "+",
        "--1",
        "1.2.3",
        "5%",
        "1\n",
    ],
)
def test_amounts_that_are_none_are_refused(bad: str) -> None:
    with pytest.raises(DomainError, match="balance"):
        parse_fixed(bad, 6, what="balance")


@given(i256, st.integers(0, 40), st.integers(0, 40))
def test_rescale_floors(raw: int, exp: int, to_exp: int) -> None:
    exact = Fraction(raw) * Fraction(10) ** (to_exp - exp)
    found = rescale(raw, exp, to_exp)
    assert found <= exact < found + 1


@given(u256, u256, st.integers(1, U256_MAX))
def test_mul_div_rounds_as_solidity_does(a: int, b: int, den: int) -> None:
    down, up, half = (mul_div(a, b, den, rounding) for rounding in ("down", "up", "half_up"))
    assert down * den <= a * b < (down + 1) * den
    assert up == down + (a * b % den > 0)
    assert half == down + (a * b % den >= den - den // 2)  # (a * b + den // 2) // den, as WadRayMath rounds


def test_mul_div_refuses() -> None:
    with pytest.raises(DomainError, match="denominator"):
        mul_div(1, 1, 0, "down")
    with pytest.raises(DomainError, match="rounding"):
        mul_div(1, 1, 1, "nearest")
