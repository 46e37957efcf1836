"""The exact lane: amounts in the contract's rounding, terms by scope, nothing invented."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.core.fixed import U256_MAX, Fixed
from aggregator.core.rows import Exposure, Index, Market
from aggregator.snapshot.accounts import account, accounts
from aggregator.snapshot.values import amount_raw
from tests.snapshot.world import NOW_S, ODD, POOL, POOL_ROWS, RAY, USDC, VAULT, WETH, freeze, price


def test_an_account_is_what_its_rows_say() -> None:
    found = account(freeze(POOL_ROWS), POOL, "0xaa")
    assert (found.rule, found.time_s, dict(found.own)) == ("aave_v3@3.6", NOW_S, {"emode": 1})
    assert dict(found.terms) == {"base_unit_exp": 8, "emode:1:ltv_bps": 9000}
    weth, usdc = found.legs
    # 10^18 + 1 shares at 4/3, down: 1333333333333333334.666 -> ...334 (num is itself floored: RAY / 3)
    assert (weth.asset, weth.side, weth.amount) == (WETH, "collateral", (10**18 + 1) * (RAY + RAY // 3) // RAY)
    assert usdc.amount == -(-(10**9 + 1) * (RAY + RAY // 3) // RAY)
    assert weth.price == Fixed(2000 * 10**8, 8)
    assert (weth.decimals, usdc.decimals, weth.src, weth.shares) == (18, 6, b"\x01", 10**18 + 1)
    assert dict(weth.terms) == {"liquidation_threshold_bps": 8250}
    assert (weth.num, weth.den) == (RAY + RAY // 3, RAY)


def test_all_accounts_once_each() -> None:
    snap = freeze([*POOL_ROWS, Exposure("eip155:1/aave_v3/ghost", "0xaa", "", WETH, "debt", 1)])
    assert [a.holder for a in accounts(snap)] == ["0xaa", "0xbb"]
    assert list(accounts(snap)) == [account(snap, POOL, h) for h in ("0xaa", "0xbb")]
    assert list(accounts(freeze([]))) == []


def test_no_exposure_is_no_leg_and_no_market_is_an_error() -> None:
    snap = freeze(POOL_ROWS)
    assert account(snap, POOL, "0xcc").legs == ()
    with pytest.raises(DomainError, match="no such market"):
        account(snap, "eip155:1/aave_v3/other", "0xaa")


@given(
    shares=st.integers(0, U256_MAX),
    num=st.integers(0, U256_MAX),
    den=st.integers(1, U256_MAX),
    rounding=st.sampled_from(["down", "up", "half_up"]),
)
def test_amounts_round_as_named(shares: int, num: int, den: int, rounding: str) -> None:
    rows = [POOL_ROWS[0], Index(POOL, WETH, "debt", num, den, rounding), Exposure(POOL, "x", "", WETH, "debt", shares)]
    snap = freeze(rows)
    amount = account(snap, POOL, "x").legs[0].amount
    # the definition of each rounding, without dividing: amount * den against shares * num
    error = amount * den - shares * num
    low, high = {"down": (1 - den, 0), "up": (0, den - 1), "half_up": (-(den - 1) // 2, den // 2)}[rounding]
    assert low <= error <= high
    assert amount_raw(snap)[0] == pytest.approx(shares * num / den, rel=2**-49)


@pytest.mark.parametrize(("raw", "known"), [(0, Fixed(0, 8)), (-1, None)])
def test_a_price_of_zero_is_known_and_one_below_is_not(raw: int, known: Fixed | None) -> None:
    rows = [r for r in POOL_ROWS if r[:2] != (POOL, WETH) or not hasattr(r, "quote")]
    leg = account(freeze([*rows, price(POOL, WETH, raw)]), POOL, "0xaa").legs[0]
    assert (leg.asset, leg.price) == (WETH, known)


def test_unknown_index_or_decimals_make_a_leg_unpriced() -> None:
    strange = [
        Exposure(POOL, "0xcc", "", VAULT, "supply", 7),
        Exposure(POOL, "0xcc", "", ODD, "collateral", 7),
        Index(POOL, ODD, "collateral", 1, 1, "down"),
        price(POOL, VAULT, 5),
        price(POOL, ODD, 5),
    ]
    snap = freeze([*POOL_ROWS, *strange])
    assert [leg.price for leg in account(snap, POOL, "0xcc").legs] == [None, None]
    assert {(g.subject, g.reason) for g in snap.gaps} == {(VAULT, "unread"), (ODD, "no_price")}


@pytest.mark.parametrize(("kind", "known"), [("perp", True), ("amm", True), ("lending", False), ("vault", False)])
def test_only_a_market_that_counts_in_amounts_needs_no_index(kind: str, known: bool) -> None:
    """Where every index of a pool reverted, shares are not amounts: unknown, with a gap of its size."""
    rows = [Market(POOL, kind, "", ""), Exposure(POOL, "x", "7", USDC, "margin", 12), price(POOL, USDC, 10**8)]
    snap = freeze(rows)
    leg = account(snap, POOL, "x").legs[0]
    assert (leg.shares, leg.ref, leg.price) == (12, "7", Fixed(10**8, 8) if known else None)
    assert np.isnan(amount_raw(snap)).tolist() == [not known]
    assert [(g.subject, g.reason, g.accounts) for g in snap.gaps] == ([] if known else [(USDC, "unread", 1)])


def test_a_position_in_a_market_that_no_row_describes_is_a_gap() -> None:
    snap = freeze([*POOL_ROWS, Exposure("eip155:1/aave_v3/ghost", "0xaa", "", WETH, "debt", 1)])
    assert [(g.subject, g.reason, g.accounts) for g in snap.gaps] == [(WETH, "unread", 1)]
