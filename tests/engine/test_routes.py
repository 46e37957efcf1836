"""Depth against tokens that are no cash: what a pool pays is sold on, and prices follow their quote."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar

from aggregator.core.scenario import Scenario
from aggregator.engine.blow import blow_of
from aggregator.engine.market import SELL
from aggregator.engine.outcome import stress_result
from aggregator.engine.run import cascade
from aggregator.engine.state import State
from tests.engine.test_worlds import near
from tests.engine.worlds import EVERY_RULE, World, conventions, price, run

WETH_RESERVES, X_RESERVES = (1000.0, 2_000_000.0), (500.0, 100.0)


def chained(collateral: float = 100.0, debt: float = 36_000.0) -> World:
    """X trades against WETH alone at 0.2, WETH against dollars at 2,000: X stands at 400."""
    w = World().pool("WETH/USD", "WETH", *WETH_RESERVES)
    w.add_asset("X", 400.0)
    w.pool("X/WETH", "X", *X_RESERVES, quote="WETH")
    w.lending("M", "morpho_blue@1", "X", 0.86, 0.04).account("x", "M", X=collateral, USD=debt)
    return w


def in_weth(sold: float) -> tuple[float, float]:
    """(proceeds, marginal price) of selling X, in WETH."""
    x, y = X_RESERVES
    return y * sold / (x + sold), x * y / (x + sold) ** 2


def in_usd(sold: float) -> tuple[float, float]:
    x, y = WETH_RESERVES
    return y * sold / (x + sold), x * y / (x + sold) ** 2


def test_a_token_that_trades_against_weth_alone_reaches_dollars_through_it() -> None:
    r = run(chained())
    depth, codes = r.state.depth, {name: i for i, name in enumerate(r.book.assets)}
    sold = float(depth.sold[codes["X"]])
    assert sold == near(36_000 * 1.04 / 400)
    weth, x_price = in_weth(sold)
    usd, weth_price = in_usd(weth)
    assert float(depth.sold[codes["WETH"]]) == near(weth)
    assert price(r, "WETH") == near(weth_price)
    assert price(r, "X") == near(x_price * weth_price)
    assert r.state.cash["liquidators"] == near(usd - 36_000)
    assert r.conservation["total"] == pytest.approx(r.conservation["units_times_price_change"], abs=1e-6)
    assert r.conservation["largest_round_error"] <= 1e-6
    assert depth.without_depth.sum() == 0.0


@settings(max_examples=60)
@given(st.floats(1, 400), st.floats(0.7, 1.2), st.floats(-0.5, 0.2), st.booleans(), st.floats(0.0, 0.5))
def test_value_is_conserved_along_every_route(
    collateral: float, trigger: float, blow: float, profit: bool, back: float
) -> None:
    """With a second pool of X for dollars, WETH borrowers beside, a profit test, recovery between rounds."""
    w = chained(collateral, collateral * 400 * 0.86 * trigger).pool("X/USD", "X", 50, 20_000)
    w.lending("N", "aave_v3@3.6", "WETH", 0.8, 0.05).account("w", "N", WETH=50, USD=78_000)
    r = run(w, conventions(profit=profit, recovery_frac=back, max_rounds=40), price={"WETH": blow, "X": blow})
    assert r.conservation["largest_round_error"] <= 1e-5
    weth, x = (r.book.assets.index(name) for name in ("WETH", "X"))
    assert r.state.value_usd[x] / 400 <= (1 + blow) * (1 + 1e-12)
    if back == 0.0:
        assert r.state.depth.paid_units[weth] <= r.state.depth.sold[weth] + 1e-9
    if profit:  # both waves sell WETH in one pool: whoever comes second finds the price the first has left
        assert r.conservation["liquidators"] >= -1e-6


def test_calls_on_two_assets_foresee_the_pool_they_share() -> None:
    """10 WETH pay in full; X, sold after them for WETH, is cut to what then still pays."""
    w = chained(400.0, 150_000.0).lending("N", "morpho_blue@1", "WETH", 0.86, 0.04)
    w.account("w", "N", WETH=11, USD=20_000 / 1.04)
    r = run(w, conventions(profit=True, max_rounds=1))
    weth, x = (r.book.assets.index(name) for name in ("WETH", "X"))

    def gain(sold: float) -> float:
        return in_usd(10 + in_weth(sold)[0])[0] - in_usd(10)[0] - sold * 400 / 1.04

    sold = float(r.state.depth.sold[x])
    assert sold == pytest.approx(brentq(gain, 0.01, 500.0), rel=1e-8)
    assert float(r.state.depth.sold[weth]) == near(10 + in_weth(sold)[0])
    assert r.conservation["liquidators"] == near(
        in_usd(10)[0] - 20_000 / 1.04
    )  # X is sold down to where it pays nothing
    alone = run(chained(400.0, 150_000.0), conventions(profit=True, max_rounds=1))
    assert float(alone.state.depth.sold[x]) > 1.5 * sold


def test_a_sale_of_x_makes_borrowers_on_weth_due() -> None:
    """X is sold for WETH, WETH is sold for dollars, so an account on WETH falls below its threshold."""
    w = chained(400.0, 150_000.0).lending("N", "morpho_blue@1", "WETH", 0.86, 0.04)
    w.account("w", "N", WETH=1, USD=1_700)
    r = run(w)
    assert r.state.calls.tolist() == [1, 1]
    assert r.state.first_round.tolist() == [1, 2]
    alone = World().pool("WETH/USD", "WETH", *WETH_RESERVES).lending("N", "morpho_blue@1", "WETH", 0.86, 0.04)
    assert int(run(alone.account("w", "N", WETH=1, USD=1_700)).state.calls[0]) == 0


def test_a_wrapper_below_its_backing_moves_the_backing_and_its_own_discount() -> None:
    """At 0.95 of its backing it cannot be redeemed at once, so it is sold into its pool against the backing."""
    w = World().pool("WETH/USD", "WETH", *WETH_RESERVES)
    w.claim("wstETH", "WETH", 1.2, price=2280.0).pool("wstETH/WETH", "wstETH", 1000, 1140, quote="WETH")
    w.lending("M", "morpho_blue@1", "wstETH", 0.86, 0.04).account("a", "M", wstETH=100, USD=215_000)
    r = run(w)
    sold = 215_000 * 1.04 / 2280
    weth = 1140 * sold / (1000 + sold)
    _, weth_price = in_usd(weth)
    assert price(r, "WETH") == near(weth_price)
    assert price(r, "wstETH") == near(1000 * 1140 / (1000 + sold) ** 2 * weth_price)
    assert r.conservation["largest_round_error"] <= 1e-6


@given(
    st.floats(0.0, 0.1),
    st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=4),
    st.integers(1, 3),
    st.floats(-0.9, 1.0),
    st.sampled_from([1_400.0, 2e-7, 3e7]),
)
def test_a_price_is_what_the_reserves_say_after_the_fee_has_joined_them(
    fee: float, orders: list[float], pools: int, fall: float, usd: float
) -> None:
    """UniswapV2Pair: the reserve of what is sold grows by the whole order, that of the other falls by what is paid."""
    w = World()
    for i in range(pools):
        w.pool(f"P{i}", "X", 1_000.0, 1_000.0 * usd, fee=fee)
    w.pools = [replace(p, fee_stays=True) for p in w.pools]
    book = w.book()
    state = State(book, blow_of(book, Scenario("s", price={"X": fall})))
    root = (1.0 + fall) ** 0.5
    base, quote = 1_000.0 / root, 1_000.0 * usd * root
    for sold in orders:
        paid = quote * sold * (1.0 - fee) / (base + sold * (1.0 - fee))
        assert state.sell(1, pools * sold, state.value_usd) == near(pools * paid)
        base, quote = base + sold, quote - paid
        state.refresh()
        assert state.value_usd[1] == pytest.approx(quote / base, rel=1e-9)


def staked(*, pool: str, fee: float = 0.0, worth: float = 2400.0, stays: bool = False) -> World:
    """wstETH is a claim on 1.2 WETH; WETH has 20,000 against 40 million dollars, wstETH 3,000 if it has a pool.

    stays: fees join the reserves.
    """
    w = World().pool("PW", "WETH", 20_000, 40_000_000, fee=fee)
    w.claim("wstETH", "WETH", 1.2, price=worth)
    for quote in pool.split():
        w.pool(f"P{quote}", "wstETH", 3_000, 3_000 * worth / (1.0 if quote == "USD" else 2_000.0), quote=quote, fee=fee)
    w.pools = [replace(p, fee_stays=stays) for p in w.pools]
    return w


def test_a_share_at_par_is_sold_as_if_both_pools_were_one() -> None:
    """Without fees the best split is that of the joint reserve; then the share stands where its backing holds it."""
    w = staked(pool="USD").lending("M", "morpho_blue@1", "wstETH", 0.86, 0.04)
    r = run(w.account("a", "M", wstETH=5_000, USD=10_500_000))
    sold, base = 10_500_000 * 1.04 / 2_400, 20_000 / 1.2 + 3_000
    left = base / (base + sold)
    assert price(r, "wstETH") == near(2_400 * left**2)
    assert price(r, "WETH") == near(2_000 * left**2)
    assert r.state.cash["liquidators"] == near(47_200_000 * (1 - left) - 10_500_000)
    codes = [r.book.assets.index(name) for name in ("WETH", "wstETH")]
    assert r.state.depth.sold[codes] / sold == near([20_000 / base, 3_000 / base])
    assert r.conservation["largest_round_error"] <= 1e-6


def quoted(w: World, units: float, *before: tuple[str, float]) -> float:
    """What wstETH brings after WETH sales, after a fall of 30 %."""
    book = w.book()
    state = State(book, blow_of(book, Scenario("s", price={"WETH": -0.3})))
    for asset, sold in before:
        state.sell(book.assets.index(asset), sold, state.value_usd)
    return state.depth.quote(book.assets.index("wstETH"), units, state.value_usd, {})


@pytest.mark.parametrize("worth", [0.991, 0.9999, 1.0, 1.0001, 1.009])
@pytest.mark.parametrize("units", [1e-3, 4_000.0])
@pytest.mark.parametrize("wrapped", [False, True])
def test_redeeming_brings_no_more_than_a_share_stands_for(worth: float, units: float, wrapped: bool) -> None:
    """1.2 WETH, whatever the share trades at; what it trades below that is kept."""
    w = World().pool("PW", "WETH", 20_000, 40_000_000)
    w.claim("S" if wrapped else "wstETH", "WETH", 1.2, price=2_400 * worth)
    if wrapped:
        w.claim("wstETH", "S", 1.0)
    weth, base = 1.2 * units * min(worth, 1.0), 20_000 / 0.7**0.5
    assert quoted(w, units) == near(1_400 * weth * base / (base + weth))


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("units", [1e-3, 50.0, 4_000.0])
def test_shares_of_shares_are_split_over_every_pool_on_the_way(steps: int, units: float) -> None:
    """Each claim on 1.2 of the one before, each with a pool at par: best is one order of all of them together."""
    w, base = World().pool("P0", "WETH", 1_000, 2_000_000), 1_000 / 1.2**steps
    for i in range(1, steps + 1):
        name = "wstETH" if i == steps else f"S{i}"
        w.claim(name, "WETH" if i == 1 else f"S{i - 1}", 1.2, price=2_000 * 1.2**i)
        w.pool(f"P{i}", name, 100, 100 * 2_000 * 1.2**i)
        base += 100 / 1.2 ** (steps - i)
    value = 1_400 * 1.2**steps
    assert quoted(w, units) == near(value * units * base / (base + units * 0.7**0.5))


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("fees", [(0.05, 0.0), (0.003, 0.01), (0.0, 0.05)])
@pytest.mark.parametrize("off", [0.8, 0.98, 1.1])
@pytest.mark.parametrize("units", [3.0, 8.0, 40.0, 3_000.0])
def test_a_share_is_split_as_brings_the_most_at_whatever_price_and_fee_its_pool_stands(
    units: float, off: float, fees: tuple[float, float], stays: bool
) -> None:
    """By closed form of both pairs; a fee joins the reserves after the order, and tells only the next one."""
    w = World().pool("PW", "WETH", 100, 200_000, fee=fees[0])
    w.claim("wstETH", "WETH", 1.2, price=2_400.0)
    w.pool("PS", "wstETH", 100, 240_000 * off, fee=fees[1])
    w.pools = [replace(p, fee_stays=stays) for p in w.pools]

    def brings(own: float) -> float:
        ways = (100, 240_000 * off, own * (1 - fees[1])), (100, 200_000, 1.2 * (units - own) * (1 - fees[0]))
        return sum(y * 0.7**0.5 * net / (x / 0.7**0.5 + net) for x, y, net in ways)

    best = minimize_scalar(lambda own: -brings(own), bounds=(0.0, units), method="bounded", options={"xatol": 1e-9})
    most = max(brings(0.0), brings(units), -float(best.fun))
    assert quoted(w, units) == near(most)


@settings(max_examples=60)
@given(
    st.floats(1e-6, 3e4),
    st.floats(0.0, 3e4),
    st.floats(0.0, 0.05),
    st.sampled_from(["USD", "WETH", "USD WETH"]),
    st.booleans(),
    st.booleans(),
)
def test_a_seller_of_a_share_receives_no_less_where_it_has_a_pool_too(
    units: float, weth: float, fee: float, pool: str, share_first: bool, stays: bool
) -> None:
    """Nor does any other split of the order bring more than the one that is made, where its pools pay in one token.

    Nor that where two orders meet in one pool whose fee stays, for they are no split of one.
    """
    before = () if stays else (("wstETH", units / 3), ("WETH", weth))[:: 1 if share_first else -1]
    best = quoted(staked(pool=pool, fee=fee, stays=stays), units, *before)
    assert best >= quoted(staked(pool="", fee=fee, stays=stays), units, *before) * (1 - 1e-12)
    if " " in pool or (stays and pool == "WETH"):
        return
    book = staked(pool=pool, fee=fee, stays=stays).book()
    share, ether = (book.assets.index(name) for name in ("wstETH", "WETH"))
    state = State(book, blow_of(book, Scenario("s", price={"WETH": -0.3})))
    for asset, sold in before:
        state.sell(book.assets.index(asset), sold, state.value_usd)
    state.depth.how[share] = SELL  # its pools alone
    for part in (0.0, 0.01, 0.1, 0.3, 0.5, 0.8, 1.0):
        ahead: dict[int, Any] = {}
        brings = state.depth.quote(share, part * units, state.value_usd, ahead)
        brings += state.depth.quote(ether, 1.2 * (1.0 - part) * units, state.value_usd, ahead)
        assert brings <= best * (1 + 1e-12)


@pytest.mark.parametrize("rule", EVERY_RULE)
@pytest.mark.parametrize("rounds", ["batch", "sequential"])
@pytest.mark.parametrize("profit", [False, True])
def test_a_pool_of_the_share_does_not_raise_bad_debt(rule: str, rounds: str, profit: bool) -> None:
    """WETH -30 %, 6,000 wstETH pledged; marked down by its own pool and its backing, it fell to 217."""

    def after(pool: str, fee: float) -> tuple[float, float, float]:
        w = staked(pool=pool, fee=fee)
        for market, asset in (("M", "wstETH"), ("N", "WETH")):
            w.lending(market, rule, asset, 0.8, 0.05, storefront=0.5)
        for i in range(20):
            w.account(f"a{i:02}", "M", wstETH=300, USD=300 * 2400 * (0.70 + 0.005 * i))
        r = run(w.account("w", "N", WETH=1_000, USD=1_500_000), conventions(rounds, profit), price={"WETH": -0.3})
        assert r.conservation["largest_round_error"] <= 1e-6
        assert price(r, "wstETH") == near(1.2 * price(r, "WETH"))
        assert r.conservation["liquidators"] >= -1e-6 or not profit
        return r.bad_debt_usd + r.shortfall_usd, r.bad_debt_usd, price(r, "wstETH")

    for fee in (0.0, 0.003):
        alone = after("", fee)
        for pool in ("USD", "WETH"):
            credit, bad, share = after(pool, fee)
            assert credit <= alone[0] * (1 + 1e-9)
            assert bad <= alone[1] * (1 + 1e-9) or rule == "comet@1"
            assert share >= alone[2] * (1 - 1e-9)


@pytest.mark.parametrize(("worth", "depeg"), [(2_400.0, 0.9), (2_160.0, None)])
def test_a_share_that_is_not_redeemed_has_its_discount_in_the_result(worth: float, depeg: float | None) -> None:
    w = staked(pool="USD", worth=worth).lending("M", "morpho_blue@1", "wstETH", 0.86, 0.04)
    w.account("a", "M", wstETH=100, USD=190_000)
    r = run(w, depeg={"wstETH": depeg} if depeg else {})
    (gap,) = [g for g in stress_result(r, Scenario("s")).gaps if g["reason"] == "discount"]
    share = price(r, "wstETH")
    x = 3_000 * np.sqrt(worth / 2_160)
    assert share == near(2_160 * (x / (x + 190_000 * 1.04 / 2_160)) ** 2)
    assert price(r, "WETH") == 2_000
    assert (gap["subject"], gap["value_usd"]) == ("wstETH", f"{100 * (2_400 - share):.2f}")
    assert f"{100 * (1 - share / 2_400):.2f} % below" in str(gap["detail"])
    assert "discount" not in {g["reason"] for g in stress_result(run(staked(pool="USD")), Scenario("s")).gaps}


def test_a_share_whose_backing_has_no_known_depth_is_sold_into_its_own_pool() -> None:
    """Redeemed, it would end where nothing is known of the price; what its own pool pays is known."""
    w = World()
    w.add_asset("WETH", 2_000.0)
    w.claim("wstETH", "WETH", 1.2, price=2_400.0).pool("PS", "wstETH", 3_000, 7_200_000)
    w.lending("M", "morpho_blue@1", "wstETH", 0.86, 0.04).account("a", "M", wstETH=100, USD=220_000)
    r = run(w)
    assert price(r, "wstETH") == near(2_400 * (3_000 / (3_000 + 220_000 * 1.04 / 2_400)) ** 2)
    assert r.state.depth.without_depth.sum() == 0.0


def test_a_pool_of_two_volatile_tokens_is_depth_of_the_shallower_alone() -> None:
    """Listed both ways, as a loader gives it; selling WETH into it would lean on WETH itself."""
    w = chained()
    w.add_asset("WETH")
    w.pool("WETH/X", "WETH", 100, 500, quote="X")
    r = run(w)
    assert price(r, "X") == near(price(run(chained()), "X"))
    assert price(r, "WETH") == near(price(run(chained()), "WETH"))


def test_tokens_that_lead_nowhere_end_and_are_named() -> None:
    """X and Y trade against each other, A and B are claims on each other's: no way to cash."""
    w = World()
    w.add_asset("X", 100.0)
    w.add_asset("Y", 50.0)
    w.pool("X/Y", "X", 100, 200, quote="Y").pool("Y/X", "Y", 200, 100, quote="X")
    w.lending("M", "aave_v3@3.0", "X", 0.9, 0.05).account("a", "M", X=10, USD=950)
    r = run(w)
    result = stress_result(r, Scenario("s"))
    assert r.convergence.converged
    assert result.totals["sold_without_known_depth_usd"] > 0.0
    assert [g["reason"] for g in result.gaps] == ["no_depth"]


def test_claims_on_each_other_can_be_seized_and_sold() -> None:
    w = World()
    w.add_asset("A", 1.0)
    w.add_asset("B", 1.0)
    w.claim("A", "B", 1.0).claim("B", "A", 1.0)
    w.lending("M", "aave_v3@3.0", "A", 0.8, 0.05).account("a", "M", A=1000, USD=850)
    result = stress_result(cascade(w.book(), Scenario("s")), Scenario("s"))
    assert not result.convergence.converged
    assert "gain 1" in result.convergence.why
    assert np.isfinite(result.totals["liquidated_usd"])


@pytest.mark.parametrize("depth", [{"X": 1.0}, {"*": 1.0}])
def test_a_token_whose_pools_all_stand_empty_follows_its_quotes_and_finds_no_buyer(depth: dict[str, float]) -> None:
    w = chained().pool("X/USD", "X", 50, 20_000).lending("N", "aave_v3@3.6", "WETH", 0.8, 0.05)
    r = run(w.account("w", "N", WETH=50, USD=90_000), depth=depth)
    moved = price(r, "WETH") / 2000
    assert price(r, "X") == near(400 * (moved + 1) / 2)  # of two quotes without depth none weighs more
    x = r.book.assets.index("X")
    assert r.state.depth.unfilled[x] == near(36_000 * 1.04 / 400)
    assert r.convergence.converged
