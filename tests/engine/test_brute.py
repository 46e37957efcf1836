"""The engine against an independent cascade on random worlds of several assets that meet in the same pools."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from aggregator.engine import settle
from tests.engine.brute import draw, play
from tests.engine.worlds import by_name, conventions, price, run

seeds = st.integers(0, 2**32)


@settings(max_examples=20)
@given(seeds, st.sampled_from(["batch", "sequential"]))
def test_prices_calls_and_losses_are_those_of_the_independent_cascade(seed: int, rounds: str) -> None:
    drawn = draw(Random(seed), 6)
    r = run(drawn.world(), conventions(rounds), price=drawn.blow)
    assume(not len(r.at_edge))
    scale = sum(loan.debt for loan in drawn.loans)
    end = play(drawn, sequential=rounds == "sequential")
    assert {a: price(r, a) for a in end.value} == {a: pytest.approx(v, rel=1e-8) for a, v in end.value.items()}
    assert by_name(r, r.state.calls) == end.calls
    assert r.state.cash["liquidators"] == pytest.approx(end.cash, rel=1e-8, abs=1e-9 * scale)
    assert r.bad_debt_usd == pytest.approx(end.bad, rel=1e-8, abs=1e-9 * scale)


@settings(max_examples=10)
@given(seeds, st.sampled_from(["batch", "sequential"]), st.sampled_from([0, 0, 1]))
@example(5116, "batch", 0)  # one of three quotes fell: what is left after those that do not fit brings less a unit
def test_no_wave_loses_what_is_foreseen_comes_and_nobody_who_pays_is_left(
    seed: int, rounds: str, capacity: int
) -> None:
    """With a profit test and live oracles. Left alone are those alone whom no collateral and no size would pay."""
    drawn, real = draw(Random(seed), 8), settle._sell
    scale = sum(loan.debt for loan in drawn.loans)
    waves = []

    def watched(state: Any, sale: Any) -> float:
        foreseen, ahead = 0.0, dict[int, Any]()
        asset = state.book.terms.asset[state.book.leg_term[sale.leg]]
        for code, units in zip(asset.tolist(), sale.units.tolist(), strict=True):
            foreseen += state.depth.quote(code, units, state.value_usd, ahead)
        received = real(state, sale)
        waves.append((foreseen, received, float(sale.cost_usd.sum())))
        return received

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settle, "_sell", watched)
        r = run(drawn.world(), conventions(rounds, True, capacity), price=drawn.blow)
    assert r.convergence.converged
    assert r.conservation["largest_round_error"] <= 1e-9 * (scale + 1e6)
    for foreseen, received, cost in waves:
        assert received == pytest.approx(foreseen, rel=1e-9, abs=1e-12 * scale)
        assert received >= cost - 1e-9 * scale
    assume(not len(r.at_edge))
    pools, amounts = drawn.after_blow(), iter(r.state.amount.tolist())
    for asset in pools.of:
        pools.stand(asset, float(r.state.depth.sold[r.book.assets.index(asset)]))
    value = {a: price(r, a) for a in (*drawn.price, *drawn.claims)}
    for loan in drawn.loans:
        loan.held, loan.debt = {a: next(amounts) for a in loan.held}, next(amounts)
        parts = [1.0] if loan.market.rule == "comet@1" else [10.0**-k for k in range(7)]
        for units, cost in loan.offers(value) if loan.health(value) < 1.0 else []:
            for part in parts:
                at = pools.copy()
                assert sum(at.sell(a, u * part) for a, u in units.items()) <= cost * part * (1 + 1e-6)
