"""Contradictions, unknown names, holes and NaN: a clear error or a stated limit, never a silent number."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from aggregator.core.errors import DomainError, ScenarioError
from aggregator.core.scenario import Conventions, Scenario
from aggregator.engine.outcome import stress_result
from aggregator.engine.run import cascade
from tests.engine.test_worlds import morpho_ladder, nine_identical
from tests.engine.worlds import World, conventions, price, run


def claims() -> World:
    w = World().pool("P", "WETH", 1000, 2_000_000)
    w.claim("wstETH", "WETH", 1.2, price=2400.0)
    return w.lending("M", "morpho_blue@1", "wstETH", 0.86, 0.04).account("a", "M", wstETH=10, USD=15_000)


@pytest.mark.parametrize(
    ("blow", "words"),
    [
        ({"price": {"WETHH": -0.1}}, ["WETHH", "did you mean 'WETH'"]),
        ({"price": {"WETH": -0.1, "weth": -0.2}}, ["price names WETH twice", "'WETH' and 'weth'"]),
        ({"vol": {"BTC": 0.1}}, ["vol names an asset"]),
        ({"price": {"wstETH": -0.2}, "depeg": {"wstETH": 0.9}}, ["contradict", "wstETH"]),
        ({"depeg": {"WETH": 0.9}}, ["no claim", "use price: WETH = -0.1"]),
    ],
)
def test_a_scenario_that_does_not_fit_the_book(blow: dict[str, dict[str, float]], words: list[str]) -> None:
    with pytest.raises(ScenarioError) as caught:
        run(claims(), **blow)
    assert all(word in str(caught.value) for word in words)


def test_an_optional_name_is_passed_over() -> None:
    assert price(run(claims(), price={"sETH?": -0.5, "WETH?": -0.1}), "WETH") == pytest.approx(1800)


def test_a_symbol_may_end_in_a_question_mark() -> None:
    w = World().pool("P", "X?", 100, 1_000)
    assert price(run(w, price={"X?": -0.5}), "X?") == pytest.approx(5)
    assert price(run(w, price={"X??": -0.5}), "X?") == pytest.approx(5)


@pytest.mark.parametrize("key", ["WETH", "weth", "Weth?"])
def test_a_symbol_moves_what_is_vouched_for_on_every_chain(key: str) -> None:
    book = claims().book()
    ids = ("iso4217:USD", "eip155:1/erc20:0xa", "eip155:1/erc20:0xb")
    same = dataclasses.replace(book, assets=ids, symbols=("USD", "WETH", "WETH"), standing={ids[1]: 0, ids[2]: 1})
    moved = cascade(same, Scenario("s", price={key: -0.1}))
    assert np.flatnonzero(moved.blow.price_ratio == 0.9).tolist() == [1]
    (note,) = [n for n in stress_result(moved, Scenario("s", price={key: -0.1})).notes if "not moved" in n]
    assert note.startswith(f"{key.strip('?')} means {ids[1]}; ")
    assert ids[2] in note
    ids = ("iso4217:USD", "eip155:1/erc20:0xa", "eip155:10/erc20:0xb")
    two = dataclasses.replace(book, assets=ids, symbols=("USD", "WETH", "WETH"))
    values_usd = cascade(two, Scenario("s", price={key: -0.1})).state.value_usd
    assert values_usd[1:].tolist() == [pytest.approx(1800), pytest.approx(2160)]
    with pytest.raises(ScenarioError, match="twice"):
        cascade(two, Scenario("s", price={key: -0.1, "eip155:1/erc20:0xA": -0.2}))


@pytest.mark.parametrize("move", [-1.5, float("nan"), float("inf")])
def test_a_move_out_of_range(move: float) -> None:
    with pytest.raises(ScenarioError, match="out of range"):
        Scenario("s", price={"WETH": move})


def test_a_price_of_zero_leaves_nothing_and_says_so() -> None:
    r = run(nine_identical(), price={"X": -1.0})
    assert r.bad_debt_usd + r.shortfall_usd == pytest.approx(9 * 9050)
    assert np.isfinite(r.state.value_usd).all()


def test_an_empty_book_is_a_result_that_says_it_is_empty() -> None:
    r = run(World())
    assert r.convergence.converged
    result = stress_result(r, Scenario("s"))
    assert result.totals["accounts"] == 0.0
    assert any("no account" in note for note in result.notes)


def test_a_book_of_one_account() -> None:
    r = run(
        World().pool("P", "X", 100, 100_000).lending("M", "aave_v3@3.6", "X", 0.8, 0.05).account("a", "M", X=1, USD=900)
    )
    assert int(r.state.calls[0]) == 1
    assert r.convergence.converged


@pytest.mark.parametrize("column", ["leg_amount", "price_usd"])
def test_nan_in_a_column_in_use(column: str) -> None:
    book = morpho_ladder().book()
    bad = getattr(book, column).copy()
    bad[1] = np.nan
    with pytest.raises(DomainError) as caught:
        cascade(dataclasses.replace(book, **{column: bad}), Scenario("s"))
    assert "leg_amount[1]" in str(caught.value) or "X" in str(caught.value)


@pytest.mark.parametrize("field", ["threshold_frac", "bonus_frac"])
def test_nan_in_a_table_names_the_row(field: str) -> None:
    book = morpho_ladder().book()
    column = getattr(book.terms, field).copy()
    column[0] = np.nan
    with pytest.raises(DomainError, match=rf"terms\.{field}\[0\]"):
        dataclasses.replace(book, terms=book.terms._replace(**{field: column}))


def test_a_code_out_of_range_names_the_row() -> None:
    book = morpho_ladder().book()
    with pytest.raises(DomainError, match=r"leg_term\[0\]"):
        dataclasses.replace(book, leg_term=np.full_like(book.leg_term, 9))


@pytest.mark.parametrize("suppliers", [0.0, 1_000.0])
def test_a_pot_that_is_there_twice_is_named(suppliers: float) -> None:
    w = claims().lending("M", "", "wstETH", 0.86, 0.04, supply=suppliers)
    run(w)
    with pytest.raises(DomainError, match="M and USD twice"):
        run(w.lending("M", "", "wstETH", 0.86, 0.04, supply=suppliers))


def test_claims_that_stand_on_each_other_have_no_value_and_that_is_stated() -> None:
    w = World()
    w.add_asset("A", 1.0)
    w.add_asset("B", 1.0)
    w.claim("A", "B", 1.0).claim("B", "A", 1.0)
    r = run(w)
    assert not r.convergence.converged
    assert "A, B" in r.convergence.why
    assert "gain 1" in r.convergence.why


def test_collateral_without_depth_is_sold_at_its_price_and_named() -> None:
    w = World()
    w.add_asset("X", 100.0)
    w.lending("M", "aave_v3@3.0", "X", 0.9, 0.05).account("a", "M", X=100, USD=9_500)
    r = run(w)
    assert price(r) == 100.0
    result = stress_result(r, Scenario("s"))
    assert [(g["subject"], g["reason"]) for g in result.gaps] == [("X", "no_depth")]
    assert result.totals["sold_without_known_depth_usd"] > 0.0
    assert any("lower bound" in note for note in result.notes)


def test_depth_that_is_gone_leaves_liquidators_with_the_collateral() -> None:
    r = run(nine_identical(), depth={"*": 1.0})
    assert float(r.state.depth.unfilled[1]) > 0.0
    assert any("ran dry" in note for note in stress_result(r, Scenario("s")).notes)
    idle = run(nine_identical(), conventions(profit=True), depth={"*": 1.0})
    assert int(idle.state.calls.sum()) == 0
    assert len(idle.unprofitable) == 9


def test_a_cascade_cut_short_is_not_called_converged() -> None:
    r = run(morpho_ladder(), conventions(max_rounds=2))
    assert not r.convergence.converged
    assert "round limit" in r.convergence.why
    assert any("Not converged" in note for note in stress_result(r, Scenario("s")).notes)


def test_recovery_between_rounds_brings_the_price_back() -> None:
    held, back = run(morpho_ladder()), run(morpho_ladder(), conventions(recovery_frac=0.5, max_rounds=200))
    assert price(back) > price(held)
    assert back.convergence.converged
    assert back.conservation["largest_round_error"] < 1e-6


def test_an_unknown_rule_is_refused_by_the_engine() -> None:
    w = World().pool("P", "X", 100, 100_000).lending("M", "aave_v3@9.9", "X", 0.8, 0.05).account("a", "M", X=1, USD=900)
    with pytest.raises(DomainError, match=r"aave_v3@9\.9"):
        run(w)


def test_the_result_is_plain_json() -> None:
    r = run(morpho_ladder())
    first = stress_result(r, Scenario("s", conventions=Conventions()), cut_digest="c").json()
    again = stress_result(run(morpho_ladder()), Scenario("s", conventions=Conventions()), cut_digest="c").json()
    assert first == again
    assert b"NaN" not in first


def test_the_realised_loss_is_the_sum_of_named_sinks() -> None:
    result = stress_result(run(nine_identical()), Scenario("s"))
    assert result.conservation["realised_loss_usd"] == pytest.approx(256.394622071116915689424532676, rel=1e-9)
    assert result.conservation["sinks_error_usd"] <= 1e-9
