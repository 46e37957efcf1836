"""Selection of USD prices: the documented order, exact arithmetic, and no answer that depends on who asks first."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.fixed import Fixed
from aggregator.core.ids import USD
from aggregator.core.rows import Asset, Claim, Exposure, Gap, Market, OptionLeg, PerpPosition, Price, Row
from aggregator.core.table import raw_tables
from aggregator.snapshot import build
from aggregator.snapshot.coverage import coverage
from aggregator.snapshot.prices import all_usd, own_price, usd
from tests.snapshot.world import ASSETS, CUT, NOW_S, POOL, POOL_ROWS, USDC, VAULT, WETH, freeze, price


def value(found: tuple[Fixed, str] | None) -> Fraction:
    assert found is not None
    return Fraction(found[0].raw) / Fraction(10) ** found[0].exp


def test_reference_feed_before_market_before_other_quote_before_claim() -> None:
    ladder: list[Row] = [
        Claim(WETH, USDC, "lst", 10**6, 10**18, ""),
        price(POOL, WETH, 3, quote=USDC, exp=0),
        price(POOL, WETH, 4, exp=0),
        price("", WETH, 5, exp=0, path="feed"),
    ]
    base: list[Row] = [price("", USDC, 1, exp=0, path="feed")]
    answers = [usd(freeze(base + ladder[: n + 1]), WETH) for n in range(4)]
    assert [value(a) for a in answers] == [1, 3, 4, 5]
    assert [a[1] for a in answers if a] == ["lst > feed", f"live@{POOL} > feed", f"live@{POOL}", "feed"]


@pytest.mark.parametrize("step", range(4))
def test_a_price_of_zero_is_zero_at_every_step_of_the_ladder(step: int) -> None:
    """Whoever speaks first says it; one that comes later is not asked."""
    ladder: list[list[Row]] = [
        [price("", WETH, 0, exp=0, path="feed")],
        [price(POOL, WETH, 0, exp=0)],
        [price("", WETH, 0, quote=USDC, exp=3), price("", USDC, 1, exp=0)],
        [Claim(WETH, USDC, "receipt", 10**6, 10**18, ""), price("", USDC, 0, exp=0)],
    ]
    snap = freeze([*POOL_ROWS[:3], *ladder[step], price("eip155:1/aave_v3/late", WETH, 7, exp=0, quote=VAULT)])
    assert value(usd(snap, WETH)) == 0
    assert {g.reason for g in snap.gaps if g.subject == WETH} <= {"unread"}
    (basket,) = [freeze([*ladder[step], Claim(VAULT, WETH, "vault", 3, 7, "")])]
    assert value(usd(basket, VAULT)) == 0


def test_a_market_judges_by_its_own_price_and_zero_is_one() -> None:
    rows: list[Row] = [price("", WETH, 9), price(POOL, WETH, 5, path="rate"), price(POOL, WETH, -1, path="live")]
    own = own_price(freeze(rows), POOL, WETH)
    assert own is not None
    assert own.raw == 5
    zero = own_price(freeze([*rows, price(POOL, WETH, 0, path="feed")]), POOL, WETH)
    assert zero is not None
    assert zero.raw == 0
    assert own_price(freeze(rows[::2]), POOL, WETH) is None


def test_an_answer_that_its_reader_refused_is_not_a_price_of_zero() -> None:
    """AggregatorV3Interface answers 0 where it has no price; the gap names the very answer that the row came from."""
    rows: list[Row] = [price("", WETH, 0)._replace(src=b"a"), price(POOL, WETH, 5, exp=0)]
    refused = Gap(WETH, "bad_price", "feed answers 0", src=b"a")
    assert value(usd(freeze(rows), WETH)) == 0
    assert value(usd(freeze([*rows, refused]), WETH)) == 5
    assert usd(freeze([rows[0], refused]), WETH) is None
    assert value(usd(freeze([*rows, refused._replace(src=b"")]), WETH)) == 0  # of some other answer


def test_within_a_step_path_then_youngest_then_market() -> None:
    rows: list[Row] = [price("", WETH, 1, path="constant", at=9), price("", WETH, 2, path="live", at=5)]
    assert value(usd(freeze(rows), WETH)) == Fraction(2, 10**8)
    rows.append(price("", WETH, 3, path="live", at=6))
    assert value(usd(freeze(rows), WETH)) == Fraction(3, 10**8)


def test_of_markets_that_anybody_may_open_the_one_that_holds_most_is_asked() -> None:
    mine, honest = "eip155:1/morpho_blue/core/0x00", "eip155:1/morpho_blue/core/0xff"
    rows: list[Row] = [price("", USDC, 1, exp=0)]
    rows += [price(mine, WETH, 10**50, quote=USDC, exp=0, path="live", at=9)]
    rows += [price(honest, WETH, 2000, quote=USDC, exp=0, path="rate")]
    rows += [Exposure(mine, "thief", "", WETH, "collateral", 1), Exposure(mine, "thief", "", WETH, "debt", 10**30)]
    rows += [Exposure(honest, "a", "", WETH, "collateral", 10**18)]
    assert usd(freeze(rows), WETH) == (Fixed(2000, 0), f"rate@{honest} > live")
    rows.append(price("", WETH, 1999, quote=USDC, exp=0, path="feed"))  # a configured feed comes before any market
    assert usd(freeze(rows), WETH) == (Fixed(1999, 0), "feed > live")


def test_oracles_of_other_chains_are_not_asked() -> None:
    assert usd(freeze([price("eip155:10/aave_v3/core", WETH, 5)]), WETH) is None


def test_usd_is_one_and_the_unknown_is_none() -> None:
    snap = freeze(POOL_ROWS)
    assert usd(snap, USD) == (Fixed(1, 0), "unit")
    assert usd(snap, VAULT) is None


@given(st.integers(1, 2**256 - 1), st.integers(1, 2**256 - 1), st.integers(0, 36), st.integers(0, 36))
def test_a_claim_is_worth_its_share_of_the_whole_floored_once(num: int, den: int, own: int, under: int) -> None:
    assets = [Asset(VAULT, "v", own), Asset(WETH, "w", under)]
    rows: list[Row] = [price("", WETH, 123456789, exp=5), Claim(VAULT, WETH, "vault", num, den, "")]
    exact = Fraction(num, den) * Fraction(10) ** (own - under) * Fraction(123456789, 10**5)
    found = usd(freeze(rows, assets=assets), VAULT)
    floored = int(exact * 10**36)
    assert (found[0] if found else None) == (Fixed(floored, 36) if 0 < floored < 10 ** (36 + 60) else None)


def test_a_basket_needs_every_price() -> None:
    basket: list[Row] = [Claim(VAULT, a, "lp", 1, 1, "") for a in (WETH, USDC)]
    rows: list[Row] = [price("", WETH, 2, exp=0), *basket]
    assert usd(freeze(rows), VAULT) is None
    both = usd(freeze([*rows, price("", USDC, 1, exp=0)]), VAULT)
    assert value(both) == 2 + 10**12  # one whole vault token of 10^18 units holds 10^18 units of USDC: 10^12 USDC


def test_cycles_end_and_nothing_depends_on_the_order() -> None:
    names = [f"eip155:1/erc20:0x{i:040x}" for i in range(12)]
    rng = random.Random(2)
    rows: list[Row] = [price("", names[0], 7, exp=0)]
    rows += [price(POOL, a, 2, quote=b, exp=0) for a in names for b in rng.sample(names, 3) if a != b]
    rows += [Claim(names[11], names[11], "vault", 1, 1, "")]
    assets = [Asset(name, "", 0) for name in names]
    first = all_usd(freeze(rows, assets=assets))
    rng.shuffle(rows)
    assert all_usd(freeze(rows, assets=assets)) == first
    assert all_usd(freeze([price("", "a", 1, quote="b"), price("", "b", 1, quote="a")])).keys() == {USD}


@pytest.mark.parametrize(("raw", "exp"), [(2**255 - 1, 0), (1, 72)])
def test_an_oracle_that_says_anything_is_not_believed_without_end(raw: int, exp: int) -> None:
    """Anybody can deploy a market whose oracle answers 2^255, and price another one in it."""
    names = [f"eip155:1/erc20:0x{i:040x}" for i in range(8)]
    rows: list[Row] = [Market(POOL, "perp", "", ""), price("", USDC, 10**8)]
    rows += [price(POOL, a, raw, quote=b, exp=exp) for a, b in pairwise([*names, USDC])]
    rows += [Exposure(POOL, "x", "", asset, "margin", 2**256 - 1) for asset in (*names, USDC)]
    snap = freeze(rows, assets=[Asset(USDC, "", 6), *(Asset(name, "", 0) for name in names)])
    assert all_usd(snap).keys() == {USD, USDC}
    assert {(g.subject, g.reason) for g in snap.gaps} == {(name, "no_price") for name in names}
    (line,) = coverage(snap)
    assert float(line.value_usd) == pytest.approx((2**256 - 1) / 1e6)


def test_stale_bad_and_missing_prices_are_gaps_with_their_size() -> None:
    stale = Price("", WETH, USD, 2000 * 10**8, 8, "feed", NOW_S - 3601, 3600)
    fresh = Price("", USDC, USD, 10**8, 8, "feed", NOW_S - 3600, 3600)
    rows: list[Row] = [
        Market(POOL, "perp", "", ""),
        stale,
        fresh,
        price("", VAULT, -1),
        *(Exposure(POOL, h, "", WETH, "supply", 10**18) for h in ("a", "b")),
        Exposure(POOL, "a", "", VAULT, "supply", 5),
        Exposure(POOL, "b", "", USDC, "supply", 5),
    ]
    snap = freeze(rows)
    assert [(g.subject, g.reason, g.accounts, g.value_usd) for g in snap.gaps] == [
        (WETH, "stale_price", 2, "4000.00"),
        (VAULT, "bad_price", 1, ""),
        (VAULT, "no_price", 1, ""),
    ]
    assert "3601 s old" in snap.gaps[0].detail
    assert snap.rows("price", asset=VAULT)[0].raw == -1  # kept and shown, never used
    assert usd(snap, WETH) == (Fixed(2000 * 10**8, 8), "feed")


def test_perpetuals_and_options_on_what_has_no_price_are_gaps() -> None:
    rows: list[Row] = [
        PerpPosition(POOL, "a", "", WETH, -1, 1, 18),
        PerpPosition(POOL, "b", "", WETH, 0, 0, 18),
        *(OptionLeg(POOL, h, "1", VAULT, USDC, "C", "european", USDC, 1, 1, 1, 18) for h in ("a", "b")),
    ]
    assert [(g.subject, g.reason, g.accounts) for g in freeze(rows).gaps] == [
        (WETH, "no_price", 1),
        (VAULT, "no_price", 2),
    ]
    priced = [*rows, price("", WETH, 1), price("", VAULT, 1)]
    assert freeze(priced).gaps == []


def test_gaps_of_the_run_stay_beside_ours() -> None:
    told = Gap(POOL, "unlisted_accounts", "12 of them", 12, "5.00")
    assert freeze([*POOL_ROWS, told]).gaps == [told]


@pytest.mark.parametrize("decimals", [0, 6, 18, 36])
def test_decimals_do_not_change_a_value(decimals: int) -> None:
    from aggregator.snapshot.values import value_usd

    assets = [a for a in ASSETS if a.id != WETH] + [Asset(WETH, "W", decimals)]
    rows: list[Row] = [
        Market(POOL, "amm", "", ""),
        price("", WETH, 10**8),
        Exposure(POOL, "a", "", WETH, "supply", 10**decimals * 3),
    ]
    assert value_usd(freeze(rows, assets=assets)).tolist() == [3.0]


def test_a_vaults_own_rate_comes_before_a_market_that_anybody_may_open() -> None:
    """50 shares of a vault that lost its half are worth 25, whatever an oracle of Morpho says they are."""
    mine = "eip155:1/morpho_blue/core/0x00"
    rows: list[Row] = [
        price("", USDC, 1, exp=0, path="feed"),
        price(mine, VAULT, 10**30, quote=USDC, exp=0),
        Exposure(mine, "thief", "", VAULT, "collateral", 10**30),
        price(mine, WETH, 2000, quote=USDC, exp=0),  # without a feed of its own it is taken from there
        Claim(VAULT, USDC, "vault", 1, 2 * 10**12, ""),
    ]
    assert value(usd(freeze(rows), VAULT)) == Fraction(1, 2)
    assert value(usd(freeze(rows), WETH)) == 2000
    rows.append(price("", VAULT, 3, quote=USDC, exp=0, path="feed"))  # a configured feed comes before both
    assert value(usd(freeze(rows), VAULT)) == 3


def test_two_deployments_that_read_one_vault_do_not_double_its_share() -> None:
    rows: list[Row] = [price("", USDC, 1, exp=0, path="feed"), Claim(VAULT, USDC, "vault", 1, 10**12, "a")]
    told = [("eip155:1/erc4626/a", row) for row in rows]
    told += [("eip155:1/erc4626/b", Claim(VAULT, USDC, "vault", 1, 10**12, "b"))]
    snap = build(raw_tables(told), CUT, ASSETS)
    assert value(usd(snap, VAULT)) == 1
    assert [claim.market for claim in snap.rows("claim")] == ["a"]
