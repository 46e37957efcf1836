"""Solidity arithmetic: exact fractions as the oracle, and what the deployed contracts compute."""

from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.core.fixed import RAY, U256_MAX, WAD
from aggregator.sdk import solmath as m

AMOUNT = st.integers(0, 2**120)
POSITIVE = st.integers(1, 2**120)


def half_up(x: Fraction) -> int:
    return floor(x + Fraction(1, 2))


@given(AMOUNT, AMOUNT, POSITIVE)
def test_the_three_roundings(a, b, den):
    exact = Fraction(a * b, den)
    if exact < 2**256:
        assert m.mul_div_down(a, b, den) == floor(exact)
        assert m.mul_div_up(a, b, den) == ceil(exact)
    if den % 2 == 0 and exact < 2**255:
        assert m.mul_div_half_up(a, b, den) == half_up(exact)


@given(AMOUNT, AMOUNT)
def test_aave_products_round_half_up_floor_and_ceil(a, b):
    for mul, unit in ((m.ray_mul, RAY), (m.wad_mul, WAD), (m.percent_mul, 10_000)):
        assert mul(a, b) == half_up(Fraction(a * b, unit))
    assert m.ray_mul_floor(a, b) == floor(Fraction(a * b, RAY))
    assert m.ray_mul_ceil(a, b) == ceil(Fraction(a * b, RAY))
    assert m.percent_mul_ceil(a, b) == ceil(Fraction(a * b, 10_000))
    assert m.percent_mul_floor(a, b) == floor(Fraction(a * b, 10_000))
    assert m.w_mul_down(a, b) == floor(Fraction(a * b, WAD))


@given(AMOUNT, POSITIVE)
def test_aave_quotients(a, b):
    assert m.ray_div_floor(a, b) == floor(Fraction(a * RAY, b))
    assert m.ray_div_ceil(a, b) == ceil(Fraction(a * RAY, b))
    assert m.ray_div(a, b) == floor(Fraction(a * RAY + b // 2, b))
    assert m.wad_div(a, b) == floor(Fraction(a * WAD + b // 2, b))
    assert m.percent_div(a, b) == floor(Fraction(a * 10_000 + b // 2, b))
    assert m.percent_div_ceil(a, b) == ceil(Fraction(a * 10_000, b))
    assert m.w_div_down(a, b) == floor(Fraction(a * WAD, b))
    assert m.w_div_up(a, b) == ceil(Fraction(a * WAD, b))


@given(st.integers(-(2**200), 2**200), st.integers(-(2**100), 2**100).filter(bool))
def test_signed_division_goes_to_zero(a, b):
    exact = Fraction(a, b)
    assert m.sdiv(a, b) == (floor(exact) if exact >= 0 else ceil(exact))
    assert m.smod(a, b) == a - b * m.sdiv(a, b)
    assert m.smod(a, b) == 0 or (m.smod(a, b) < 0) == (a < 0)


@given(AMOUNT, AMOUNT, AMOUNT)
def test_morpho_shares_never_favour_the_user(amount, assets, shares):
    assert m.to_assets_down(amount, assets, shares) <= m.to_assets_up(amount, assets, shares)
    assert m.to_assets_up(amount, assets, shares) - m.to_assets_down(amount, assets, shares) <= 1
    assert m.to_assets_down(m.to_shares_down(amount, assets, shares), assets, shares) <= amount
    assert m.to_assets_up(m.to_shares_up(amount, assets, shares), assets, shares) >= amount


@pytest.mark.parametrize(
    "overflow",
    [
        lambda: m.ray_mul(2**200, 2**100),
        lambda: m.wad_div(2**200, 0),
        lambda: m.mul_div_down(1, 1, 0),
        lambda: m.mul_div_up(U256_MAX, 2, 1),
        lambda: m.mul_div_down(-1, 1, 1),
        lambda: m.sdiv(1, 0),
        lambda: m.sdiv(-(2**255), -1),
        lambda: m.linear_interest_ray(RAY, -1),
        lambda: m.w_taylor_compounded(2**200, 2**100),
        lambda: m.wad_to_ray(2**250),
    ],
)
def test_where_the_contract_reverts_there_is_an_error(overflow):
    with pytest.raises(DomainError):
        overflow()


def test_mul_div_keeps_the_whole_product_as_openzeppelin_does():
    assert m.mul_div_down(U256_MAX, U256_MAX, U256_MAX) == U256_MAX
    assert m.ray_to_wad(m.wad_to_ray(5)) == 5
    assert m.ray_to_wad(15 * 10**8) == 2


def reserves(market):
    for symbol in market.reserves:
        address = market.asset(symbol).address
        yield market.pool.read("getReserveData", address), address


@pytest.mark.parametrize(("chain", "compounded"), [(1, m.compounded_taylor_ray), (42161, m.compounded_binomial_ray)])
def test_aave_interest_is_what_the_deployed_pool_computes(three_chains_world, chain, compounded):
    """Normalised income and debt of every reserve, months after its last update, from rates and indices alone."""
    market = three_chains_world.aave[chain]
    checked = 0
    with market.chain.undone():
        market.chain.warp(97 * 86_400 + 13)
        now = market.chain.block()["timestamp"]
        for data, address in reserves(market):
            elapsed = now - data["lastUpdateTimestamp"]
            assert elapsed > 90 * 86_400
            debt = m.ray_mul(compounded(data["currentVariableBorrowRate"], elapsed), data["variableBorrowIndex"])
            income = m.ray_mul(m.linear_interest_ray(data["currentLiquidityRate"], elapsed), data["liquidityIndex"])
            assert debt == market.pool.call("getReserveNormalizedVariableDebt", address)
            assert income == market.pool.call("getReserveNormalizedIncome", address)
            checked += data["currentVariableBorrowRate"] > 0
    assert checked >= 2
