"""The sentences of a report say what its tables say, also where nothing defaults or nothing spreads."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aggregator import engine, graph
from aggregator.app.demo import Demo
from aggregator.app.wiring import App
from aggregator.core.result import NodeLoss, StressResult
from aggregator.core.scenario import parse_scenario
from aggregator.report.answer import answer
from aggregator.report.names import Names
from aggregator.report.stress import html
from aggregator.snapshot import Snapshot


@pytest.fixture(scope="module")
def snap(demo: Demo) -> Snapshot:
    with App.open(demo.config) as app:
        return app.snapshot()


def _run(snap: Snapshot, **moves: object) -> StressResult:
    return engine.stress(snap, graph.build(snap), parse_scenario({"name": "mine", **moves}))


def test_a_move_is_said_with_every_digit_it_has(snap: Snapshot) -> None:
    blow = answer(_run(snap, price={"wstETH": -0.154}, depth={"WETH": 0.125}, vol={"sETH": 0.075}), snap, Names(snap))
    assert blow[0].lower() == (
        "wsteth \u221215.4%; implied volatility of seth +7.5 points; 12.5% of the depth of weth gone."
    )


def test_nothing_is_said_to_spread_or_to_be_paid_where_nothing_does(snap: Snapshot) -> None:
    result = _run(snap, vol={"sETH": 0.3})
    said = answer(result, snap, Names(snap))
    assert result.totals["credit_loss_usd"] == 0.0
    assert said[2:4] == [
        "No layer pays: losses are of market value alone.",
        "No round leaves debt uncovered: there is nothing to amplify.",
    ]


def test_who_pays_is_a_share_of_what_defaults_cost_and_not_of_what_options_lost(snap: Snapshot) -> None:
    """A fall of a tenth: no lender loses, one insurance fund does, and a pool loses by the options it sold."""
    result = _run(snap, price={"WETH": -0.1, "sETH": -0.1, "vETH": -0.1, "vBTC": -0.1})
    fund, pool = (sum(x.loss_usd for x in result.losses if x.kind == kind) for kind in ("market", "pool"))
    assert fund > 1_000.0
    assert pool > 1.0
    assert fund == pytest.approx(result.totals["perp_shortfall_usd"])
    said = answer(result, snap, Names(snap))
    assert said[2].startswith("All of what defaults cost is paid by the insurance fund of perp_curie")
    assert said[2].endswith(f"USD {fund:,.0f}, 100%.")
    page = html(result, snap)
    assert f"traders of options and perps leave USD {fund:,.0f} more unpaid." in page
    assert (
        result.headline == f"No loan is left uncovered, but traders of options and perps leave USD {fund:,.0f} unpaid"
    )
    assert "Option pools that lose, 1 of 1, USD" in page
    assert "\u2026ns of" not in page  # a convention is never cut


@pytest.mark.parametrize(("unbooked", "begins", "share"), [(0.0, "All", 1.0), (0.5, "Most", 2 / 3), (3.0, "", 0.25)])
def test_the_share_of_a_payer_counts_what_nobody_has_booked(
    snap: Snapshot, unbooked: float, begins: str, share: float
) -> None:
    """In multiples of what the worst payer pays, alone."""
    result = _run(snap, price={"WETH": -0.1})
    paid = NodeLoss("eip155:1/aave_v3/v3.6", "market", "suppliers", 1e6)
    first, *rest = result.markets
    markets = [replace(first, unrealised_shortfall_usd=unbooked * 1e6), *rest]
    said = answer(replace(result, losses=[paid], markets=markets), snap, Names(snap))[2]
    assert said.startswith(f"{begins or 'The largest booked part'} of what defaults cost is paid by the suppliers")
    assert said.endswith(f"USD 1,000,000, {share:.0%}.")


def test_suppliers_are_written_down_by_what_was_written_off_whatever_option_pools_lose(snap: Snapshot) -> None:
    """No market of the demo has reserves: round by round the two columns are one, with shorts bought back beside."""
    result = _run(snap, price={"WETH": -0.6, "wstETH": -0.6, "sETH": -0.6}, vol={"sETH": 0.6}, depth={"*": 0.5})
    assert result.totals["option_shorts_bought_back"] == 1.0
    assert [r.write_down_usd for r in result.rounds] == pytest.approx([r.bad_debt_usd for r in result.rounds])
    assert result.totals["bad_debt_usd"] > 1e6
