"""What a result assumes is in the result: cash without limit, prices that follow their quotes, moves without effect.

And the ends of the scale: a price of zero, tokens that pay for nothing, loops of shares, sizes beyond any supply.
"""

from __future__ import annotations

import pytest

from aggregator.core.result import StressResult
from aggregator.core.rows import Gap
from aggregator.core.scenario import Scenario
from aggregator.engine.outcome import stress_result
from aggregator.engine.run import Cascade
from tests.engine.test_derivatives import options
from tests.engine.test_routes import chained, in_usd
from tests.engine.test_worlds import near, nine_identical
from tests.engine.worlds import EVERY_RULE, World, by_name, conventions, price, run


def said(cascade: Cascade) -> StressResult:
    return stress_result(cascade, Scenario("s"))


def gap(result: StressResult, reason: str) -> dict[str, object]:
    (found,) = [g for g in result.gaps if g["reason"] == reason]
    return found


def test_collateral_that_counts_as_cash_is_named_with_what_was_sold() -> None:
    """A borrower of ether against a stablecoin: its sale moves nothing, and the result says so."""
    w = World().pool("P", "ETH", 1000, 2_000_000)
    w.add_asset("DAI", 0.99, cash=True)
    w.lending("M", "aave_v3@3.0", "DAI", 0.8, 0.05, debt="ETH").account("a", "M", DAI=10_000, ETH=4.2)
    r = run(w)
    assert price(r, "DAI") == 0.99
    found = gap(said(r), "assumed_depth")
    assert found["subject"] == "DAI"
    sold = float(r.state.seized_usd[0])
    assert float(str(found["value_usd"])) == pytest.approx(sold, abs=0.01)
    assert said(r).totals["sold_as_cash_usd"] == near(sold)


def test_an_asset_that_follows_its_quote_is_named_with_what_that_took() -> None:
    """Nobody sells X, yet it is quoted in WETH alone and WETH is sold: 10 X at 400 fall with it."""
    w = chained(10.0, 1_000.0).lending("N", "morpho_blue@1", "WETH", 0.86, 0.04)
    w.account("w", "N", WETH=100, USD=180_000)
    r = run(w)
    sold = 180_000 * 1.04 / 2_000
    _, weth = in_usd(sold)
    assert price(r, "WETH") == near(weth)
    assert price(r, "X") == near(400 * weth / 2_000)
    found = gap(said(r), "followed_quote")
    assert (found["subject"], found["value_usd"]) == ("X", f"{10 * 400 * (1 - weth / 2_000):.2f}")
    assert f"{100 * (weth / 2_000 - 1):.2f} %" in str(found["detail"])
    assert not [g for g in said(run(chained(10.0, 1_000.0))).gaps if g["reason"] == "followed_quote"]


@pytest.mark.parametrize(("rounds", "said_so", "share_usd"), [("batch", "round", 1.0), ("sequential", "call", 0.89648)])
def test_losses_are_booked_when_the_result_says(rounds: str, said_so: str, share_usd: float) -> None:
    """Two loans stand to be called at once; the first one's bad debt writes down the share that backs the second.

    The share stands at 1 - (640,000 - 800 x 700 / 1.0438413) / 1,000,000 afterwards (engine_keys 17).
    """
    w = World()
    w.add_asset("X", 700.0)
    w.add_asset("V")
    w.lending("M", "morpho_blue@1", "X", 0.86, 0.043841336116910229, supply=1_000_000)
    w.lending("N", "morpho_blue@1", "V", 0.915, 0.02616726526423807, supply=1_000_000)
    w.claim("V", "USD", 1.0, "M").account("m", "M", X=800, USD=640_000).account("n", "N", V=100, USD=92)
    r = run(w, conventions(rounds))
    assert str(said(r).conventions["loss_booking"]).endswith(f"the next {said_so} on")
    assert price(r, "V") == near(0.89648)
    assert by_name(r, r.state.repaid_usd)["n"] == near(min(92.0, 100 * share_usd / 1.02616726526423807))


def test_every_assumption_has_its_line() -> None:
    keys = {"cash", "quotes", "costs", "interest", "option_liquidation", "option_hedging", "perp_settlement"}
    assert keys < said(run(nine_identical())).conventions.keys()


def test_moves_that_meet_nothing_are_named() -> None:
    w = nine_identical()
    w.add_asset("IDLE", 7.0)
    (note,) = [n for n in said(run(w, price={"IDLE": -0.5}, vol={"X": 0.2})).notes if "meet nothing" in n]
    assert note.endswith("price.IDLE, vol.X.")
    assert not [n for n in said(run(w, price={"IDLE?": -0.5}, vol={"X?": 0.2})).notes if "meet nothing" in n]
    assert not [n for n in said(run(options(), price={"ETH": -0.5}, vol={"ETH": 0.2})).notes if "nothing" in n]


def test_a_book_of_options_alone_is_not_called_empty() -> None:
    assert not any("no account" in note for note in said(run(options())).notes)


@pytest.mark.parametrize("rule", EVERY_RULE)
@pytest.mark.parametrize("rounds", ["batch", "sequential"])
@pytest.mark.parametrize("profit", [False, True])
def test_at_a_price_of_zero_every_debt_is_lost(rule: str, rounds: str, profit: bool) -> None:
    w = World().pool("P", "X", 100, 100_000).lending("M", rule, "X", 0.85, 0.05, supply=1e6, storefront=0.5)
    w.account("a", "M", X=10, USD=8_000).account("b", "M", X=1, USD=10)
    r = run(w, conventions(rounds, profit), price={"X": -1.0})
    assert r.convergence.converged
    assert r.bad_debt_usd + r.shortfall_usd == near(8_010)
    assert r.conservation["largest_round_error"] == 0.0


@pytest.mark.parametrize("rule", EVERY_RULE)
@pytest.mark.parametrize("rounds", ["batch", "sequential"])
@pytest.mark.parametrize("profit", [False, True])
@pytest.mark.parametrize("size", [1.0, 1e-3, 1e4])
def test_collateral_that_an_oracle_prices_at_zero_goes_for_nothing_where_the_contract_gives_it(
    rule: str, rounds: str, profit: bool, size: float
) -> None:
    """Worth 1,000 on the market against 700: Morpho's lenders lose all 700, elsewhere no call can take it."""
    w = World().pool("P", "X", 1e4 * size, 1e6 * size)
    w.lending("M", rule, "X", 0.8, 0.05, path="constant", level=0.0, supply=1e9, storefront=0.5)
    r = run(w.account("a", "M", X=10 * size, USD=700 * size).supplier(0, "lender", 1e9), conventions(rounds, profit))
    given = rule == "morpho_blue@1"
    assert r.convergence.converged
    assert bool(r.state.calls[0]) == given
    assert (r.bad_debt_usd, float(r.state.repaid_usd[0])) == (near(700 * size * given), near(0.0))
    assert float(r.state.seized_usd[0]) == pytest.approx(1_000 * size * given, rel=1e-6)
    assert r.shortfall_usd == 0.0
    assert float(r.health_after[0]) == (float("inf") if given else 0.0)
    assert r.conservation["largest_round_error"] <= 1e-6 * size


@pytest.mark.parametrize("rule", [rule for rule in EVERY_RULE if rule != "morpho_blue@1"])  # one collateral, one debt
@pytest.mark.parametrize("rounds", ["batch", "sequential"])
@pytest.mark.parametrize("profit", [False, True])
@pytest.mark.parametrize("side", ["collateral", "debt", "neither"])
def test_one_price_of_zero_closes_a_whole_account_where_the_contract_refuses_it(
    rule: str, rounds: str, profit: bool, side: str
) -> None:
    """Compound's PRICE_ERROR and Comet's BadPrice; Aave calls the good collateral. A sound account is beside it."""
    w = World().pool("P", "X", 100, 100_000).pool("Q", "Y", 1e6, 1e9)
    for asset, supply in (("X", 1e6), ("Y", None)):
        w.lending("M", rule, asset, 0.8, 0.05, supply=supply, storefront=0.5)
    if side == "debt":
        w.lending("N", rule, "Y", 0.8, 0.05, debt="X", supply=1e6, storefront=0.5)
        w.lending("N", rule, "Y", 0.8, 0.05, debt="USD", supply=1e6)
    market = "N" if side == "debt" else "M"
    w.account("a", market, **({} if side == "neither" else {"X": 5}), Y=10, USD=9_000)
    w.account("b", market, Y=10, USD=9_000)
    r = run(w, conventions(rounds, profit), price={"X": -1.0})
    refuses = rule in ("compound_v2@1", "comet@1") and side != "neither"
    assert r.convergence.converged
    assert bool(r.state.calls[0]) != refuses
    assert r.state.calls[1]
    assert any("answers 0" in note for note in said(r).notes) == refuses
    assert not len(r.unprofitable)


@pytest.mark.parametrize("weth", [-1.0, -0.999999])
def test_a_pool_that_pays_in_nothing_is_no_depth(weth: float) -> None:
    """X is sold for WETH, and WETH is gone: liquidators keep the X, its price in dollars is its own."""
    r = run(chained(100.0, 36_000.0), conventions(), price={"WETH": weth})
    assert 0.0 <= price(r, "WETH") <= 2_000 * (1 + weth)
    assert r.conservation["largest_round_error"] <= 1e-6
    if weth == -1.0:
        assert float(r.state.depth.unfilled[r.book.assets.index("X")]) == near(36_000 * 1.04 / 400)
        assert any("ran dry" in note for note in said(r).notes)


def test_a_worthless_quote_beside_a_good_one_leaves_the_good_one() -> None:
    w = chained().pool("X/USD", "X", 50, 20_000)
    r = run(w, price={"WETH": -1.0})
    sold = 36_000 * 1.04 / 400
    assert price(r, "X") == near(400 * (50 / (50 + sold)) ** 2)
    assert r.conservation["largest_round_error"] <= 1e-6


def looped(share: float) -> World:
    """A vault lends to borrowers who pledge its own share; share of the supply is that of the loop itself."""
    w = World().pool("P", "X", 1000, 1_000_000)
    w.lending("M", "morpho_blue@1", "X", 0.86, 0.04, supply=100_000).claim("V", "USD", 1.0, "M")
    w.lending("M", "morpho_blue@1", "V", 0.86, 0.04)
    w.account("x", "M", X=60, USD=51_000).account("v", "M", V=100_000 * share, USD=85_000 * share)
    return w


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_vault_that_takes_its_own_share_as_collateral_ends(share: float) -> None:
    r = run(looped(share), price={"X": -0.5})
    assert r.convergence.converged
    assert r.bad_debt_usd + r.shortfall_usd > 51_000 - 60 * 500
    assert 0.0 <= price(r, "V") < 0.9
    assert r.conservation["largest_round_error"] <= 1e-6
    assert said(r).conservation["sinks_error_usd"] <= 1e-6


def test_a_share_that_is_half_itself_is_worth_its_backing() -> None:
    """V = V/2 + X/2: at par with X, whatever the loop."""
    w = World().pool("P", "X", 1000, 1_000_000)
    w.claim("V", "V", 0.5).claim("V", "X", 0.5)
    r = run(w.lending("M", "morpho_blue@1", "V", 0.86, 0.04).account("a", "M", V=1, USD=10), price={"X": -0.3})
    assert price(r, "V") == near(700)


@pytest.mark.parametrize("scale", [1e-12, 1e12, 1e30])
@pytest.mark.parametrize("rounds", ["batch", "sequential"])
def test_a_book_beyond_any_supply_is_the_same_book(scale: float, rounds: str) -> None:
    """Theorem 13: rules that are homogeneous of degree one do not see the unit (v3.3+ thresholds do)."""

    def ladder(scale: float) -> Cascade:
        w = World().pool("P", "X", 800 * scale, 800_000 * scale)
        w.lending("M", "morpho_blue@1", "X", 0.85, 0.05, supply=1e6 * scale)
        for i in range(5):
            w.account(f"z{i}", "M", X=10 * scale * (i + 1), USD=(8_700 - 7 * i) * scale * (i + 1))
        return run(w, conventions(rounds, profit=True), price={"X": -0.1})

    one, scaled = ladder(1.0), ladder(scale)
    assert price(scaled) == pytest.approx(price(one), rel=1e-9)
    assert scaled.bad_debt_usd == pytest.approx(one.bad_debt_usd * scale, rel=1e-9)
    assert scaled.state.calls.tolist() == one.state.calls.tolist()
    assert scaled.conservation["largest_round_error"] <= 1e-9 * scale * 1e6


def test_a_thousand_rounds_and_more_end_and_conserve() -> None:
    """One account a round, each due."""
    w = World().pool("P", "X", 1e6, 1e9).lending("M", "morpho_blue@1", "X", 0.85, 0.05, supply=1e9)
    for i in range(1_500):
        w.account(f"z{i}", "M", X=1, USD=860)
    r = run(w, conventions(capacity=1, max_rounds=5_000))
    assert r.convergence.converged
    assert len(r.rounds) == 1_501
    assert r.conservation["largest_round_error"] <= 1e-5


def test_an_unknown_size_is_null_and_never_minus_one() -> None:
    (found,) = stress_result(run(World()), Scenario("s"), gaps=[Gap("s", "reverted", "d")]).gaps
    assert (found["accounts"], found["value_usd"]) == (None, None)
