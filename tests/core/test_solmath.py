"""Solidity's integer arithmetic against exact fractions: each name rounds as it says."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core import solmath as m
from aggregator.core.errors import DomainError
from aggregator.core.fixed import RAY, WAD

AMOUNT = st.integers(0, 2**120)
POSITIVE = st.integers(1, 2**120)


@given(AMOUNT, AMOUNT, POSITIVE)
def test_the_three_roundings(a: int, b: int, den: int) -> None:
    exact = Fraction(a * b, den)
    assert m.mul_div_down(a, b, den) == floor(exact)
    assert m.mul_div_up(a, b, den) == ceil(exact)
    assert m.mul_div_half_up(a, b, den) == floor(Fraction(a * b + den // 2, den))  # as the contracts write it


@given(AMOUNT, AMOUNT)
def test_products_round_as_they_are_named(a: int, b: int) -> None:
    for mul, unit in ((m.ray_mul, RAY), (m.wad_mul, WAD), (m.percent_mul, m.BPS)):
        assert mul(a, b) == floor(Fraction(a * b, unit) + Fraction(1, 2))
    assert m.wad_mul_down(a, b) == floor(Fraction(a * b, WAD))
    assert m.percent_mul_down(a, b) == floor(Fraction(a * b, m.BPS))


@given(AMOUNT, POSITIVE)
def test_quotients_round_as_they_are_named(a: int, b: int) -> None:
    for div, unit in ((m.ray_div, RAY), (m.wad_div, WAD), (m.percent_div, m.BPS)):
        assert div(a, b) == floor(Fraction(a * unit + b // 2, b))
    assert m.wad_div_down(a, b) == floor(Fraction(a * WAD, b))
    assert m.wad_div_up(a, b) == ceil(Fraction(a * WAD, b))


@pytest.mark.parametrize("divide", [m.mul_div_down, m.mul_div_up, m.mul_div_half_up])
def test_no_division_by_zero(divide: Callable[[int, int, int], int]) -> None:
    with pytest.raises(DomainError, match="denominator"):
        divide(1, 1, 0)
