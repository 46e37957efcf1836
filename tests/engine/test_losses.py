"""Who lost what: holders, those relieved of what they owed, lenders whom nobody listed; and round by round.

    losses - reliefs + unlisted lenders' loss = units x fall of price + seized - repaid + fees - reserves

where liquidators sell without impact: what holders and lenders lose went with prices or to liquidators and the
protocol, and reserves paid a part of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aggregator.core.result import StressResult
from aggregator.core.scenario import Scenario
from aggregator.engine import book as b
from aggregator.engine.outcome import stress_result
from aggregator.engine.run import Cascade
from tests.engine.test_more_worlds import ladder_37, lagged
from tests.engine.test_worlds import comets, morpho_ladder, nine_identical, toxic, vault_chain
from tests.engine.worlds import World, conventions, run

BONUS = {"aave_v3@3.6": 0.05, "aave_v3@3.0": 0.1, "morpho_blue@1": 0.043841336116910229}


def said(cascade: Cascade) -> StressResult:
    return stress_result(cascade, Scenario("s"))


def lent(
    rule: str,
    borrowers: dict[str, tuple[float, float]],
    lenders: dict[str, float],
    supply: float,
    *,
    reserve: float = 0.0,
    debt: str = "USD",
    collateral_usd: float = 1.0,
) -> World:
    """One market of X against `debt`, X sold without impact. borrowers: (units of X, debt)."""
    w = World()
    w.add_asset("X", collateral_usd, cash=True)
    w.add_asset(debt, 1.0, cash=True)
    w.lending("M", rule, "X", 0.8, BONUS[rule], debt=debt, supply=supply, reserve=reserve)
    for name, (units, owed) in borrowers.items():
        w.account(name, "M", **{"X": units, debt: owed})
    for name, units in lenders.items():
        w.supplier(0, name, units)
    return w


def figures(result: StressResult) -> tuple[float, float, float]:
    t = result.totals
    assert "holder_loss_usd" not in t
    return t["losses_usd"], t["reliefs_usd"], t["unlisted_lender_loss_usd"]


def layer(result: StressResult, name: str) -> float:
    return sum(x.loss_usd for x in result.losses if x.layer == name)


@pytest.mark.parametrize("size", [1.0, 1e-4, 1e5])
@pytest.mark.parametrize("rule", BONUS)
@pytest.mark.parametrize(("listed", "reserve"), [(1.0, 0.0), (0.64, 0.0), (0.0, 0.0), (0.64, 5e6), (1.0, 90e6)])
@pytest.mark.parametrize("move", [0.0, -0.1, -0.4, 0.05])
def test_an_insolvent_book_loses_what_its_lenders_lose(
    rule: str, listed: float, reserve: float, move: float, size: float
) -> None:
    """A borrower is 25.1 million under water before anything happens: what he is relieved of is not what others gain,
    and lenders whom the book does not name lose as those do whom it names."""
    safe, units, owed, supply = 1e6 * size, 74.9e6 * size, 100e6 * size, 400e6 * size
    borrowers = {"a": (safe, 1.0 * size), "b": (units, owed)}
    w = lent(rule, borrowers, {"c": supply * listed} if listed else {}, supply, reserve=reserve * size)
    result = said(run(w, price={"X": move}))
    bad = owed - units * (1.0 + move) / (1.0 + BONUS[rule])
    by_lenders = bad - min(bad, reserve * size)
    near = {"rel": 1e-9, "abs": 1e-9 * owed}
    losses, reliefs, unlisted = figures(result)
    assert result.totals["bad_debt_usd"] == pytest.approx(bad, **near)
    assert unlisted == pytest.approx((1.0 - listed) * by_lenders, **near)
    assert losses == pytest.approx(listed * by_lenders + max(0.0, -move) * safe, **near)
    assert reliefs == pytest.approx(owed - units + max(0.0, move) * safe, **near)
    fell, t = -(safe + units) * move, result.totals
    moved = fell + t["liquidated_usd"] - t["repaid_usd"] - layer(result, "reserves")
    assert losses - reliefs + unlisted == pytest.approx(moved, **near)
    assert losses - reliefs == pytest.approx(sum(x.loss_usd for x in result.wallets), **near)


def test_the_book_of_the_report_loses_sixteen_million() -> None:
    """Equities add up to 9.1 million more than before, though lenders who are listed lost 16 and others 9.1 + bonus."""
    w = lent("morpho_blue@1", {"b": (74.9e6, 100e6)}, {"c": 255e6}, 400e6)
    losses, reliefs, unlisted = figures(said(run(w)))
    bad = 100e6 - 74.9e6 / (1.0 + BONUS["morpho_blue@1"])
    assert losses == pytest.approx(bad * 255 / 400)
    assert losses > 16e6
    assert reliefs == pytest.approx(25.1e6)
    assert losses - reliefs < 0.0 < unlisted


@pytest.mark.parametrize("rule", BONUS)
@pytest.mark.parametrize("asset_move", [0.0, -0.3, 0.2])  # of what was lent
@pytest.mark.parametrize("listed", [0.0, 0.1, 0.5, 1.0])
def test_it_changes_no_total_whom_the_book_names(rule: str, asset_move: float, listed: float) -> None:
    borrowers = {f"b{i}": (1000.0 + 40.0 * i, 900.0) for i in range(9)}
    whole = {"price": {"X": -0.3, "Y": asset_move}}

    def lost(lenders: dict[str, float]) -> tuple[float, float]:
        losses, reliefs, unlisted = figures(said(run(lent(rule, borrowers, lenders, 20_000.0, debt="Y"), **whole)))
        return losses - reliefs + unlisted, losses + unlisted

    named = {"c": 20_000.0 * listed * 0.3, "d": 20_000.0 * listed * 0.7}
    assert lost(named) == pytest.approx(lost({"c": 12_000.0, "d": 8_000.0}), rel=1e-12)


@pytest.mark.parametrize("owners", [("b", "c"), ("b", "b")])
def test_a_lender_who_is_insolvent_elsewhere_has_lost_no_less(owners: tuple[str, str]) -> None:
    borrower, lender = owners
    w = lent("morpho_blue@1", {borrower: (50.0, 100.0)}, {lender: 1000.0}, 1000.0)
    losses, reliefs, unlisted = figures(said(run(w)))
    assert (losses, reliefs) == pytest.approx((100.0 - 50.0 / (1.0 + BONUS["morpho_blue@1"]), 50.0))
    assert unlisted == 0.0


def vault(through: str, listed: float) -> World:
    """The vault lent 400 of 1,000; its 400 shares are partly held by d. through: a receipt, on its own account, or by
    shares alone, whose vault nobody listed."""
    own = {} if through == "shares alone" else {"vault": 400.0}
    w = lent("morpho_blue@1", {"b": (50.0, 100.0)}, {"c": 600.0, **own}, 1000.0)
    if through != "account":
        w.claim("R", "USD", 1.0, "M")
    w.claim("SHARE", "USD" if through == "account" else "R", 1.0)
    w.issuers.append((w.asset["SHARE"], w.who("vault")))
    held = [(w.who("d"), w.asset["SHARE"], 400.0 * listed)]
    w.more["holdings"] = b.table(b.Holdings, held)
    return w


@pytest.mark.parametrize("through", ["receipt", "account", "shares alone"])
@pytest.mark.parametrize("listed", [0.0, 0.25, 1.0])
def test_what_a_vault_lost_is_its_share_holders_listed_or_not(through: str, listed: float) -> None:
    losses, reliefs, unlisted = figures(said(run(vault(through, listed))))
    bad = 100.0 - 50.0 / (1.0 + BONUS["morpho_blue@1"])
    assert losses == pytest.approx(bad * (0.6 + 0.4 * listed), rel=1e-9)
    assert unlisted == pytest.approx(bad * 0.4 * (1.0 - listed), rel=1e-9, abs=1e-9)
    assert reliefs == pytest.approx(50.0)


@pytest.mark.parametrize("listed", [0.0, 0.5, 1.0])
def test_who_holds_a_receipt_of_a_pot_is_a_lender_who_is_named(listed: float) -> None:
    w = lent("morpho_blue@1", {"b": (50.0, 100.0)}, {"c": 600.0}, 1000.0).claim("R", "USD", 0.5, "M")
    w.more["holdings"] = b.table(b.Holdings, [(w.who("d"), w.asset["R"], 800.0 * listed)])
    losses, _, unlisted = figures(said(run(w)))
    bad = 100.0 - 50.0 / (1.0 + BONUS["morpho_blue@1"])
    assert losses == pytest.approx(bad * (0.6 + 0.4 * listed), rel=1e-9)
    assert unlisted == pytest.approx(bad * 0.4 * (1.0 - listed), rel=1e-9, abs=1e-9)


def test_bad_debt_of_a_market_without_any_known_lender_is_lost_by_lenders_not_listed() -> None:
    w = World()
    w.add_asset("X", 1.0, cash=True)
    w.lending("M", "morpho_blue@1", "X", 0.8, 0.05).account("b", "M", X=50.0, USD=100.0)
    assert figures(said(run(w))) == pytest.approx((0.0, 50.0, 100.0 - 50.0 / 1.05))


@pytest.mark.parametrize("gain", [0.0, 1e3, 1e9])
def test_amplification_does_not_depend_on_who_gains(gain: float) -> None:
    """Nobody is under water after the first round, z is after the second; g holds what the blow makes dear."""
    w = World().pool("P", "X", 1000, 1_000_000)
    w.add_asset("Y", 1.0, cash=True)
    w.lending("M", "morpho_blue@1", "X", 0.86, 0.05, supply=1e6).supplier(0, "c", 1e6)
    w.account("a", "M", X=300, USD=195_000).account("b", "M", X=100, USD=42_000)
    w.lending("Z", "morpho_blue@1", "X", 0.86, 0.05, path="constant", level=1000.0, supply=1e6)
    w.account("z", "Z", X=20, USD=20 * 430)
    w.more["holdings"] = b.table(b.Holdings, [(w.who("g"), w.asset["Y"], 2 * gain)])
    result = said(run(w, price={"X": -0.3, "Y": 0.5}))
    assert result.rounds[0].credit_loss_usd == 0.0 < result.totals["credit_loss_usd"]
    base = (1e9 / 700.0) ** 0.5  # of the pool after the blow
    a_sold = 195_000 * 1.05 / 700.0
    first = 1e9 / (base + a_sold) ** 2
    b_sold = 42_000 * 1.05 / first
    last = 1e9 / (base + a_sold + b_sold) ** 2
    lost_first = (300_000 - 195_000) - (300 - a_sold) * first + (100 + 20) * (1000 - first)
    lost = (300_000 - 195_000) - (300 - a_sold) * last + 58_000 - (100 - b_sold) * last + 20 * (1000 - last)
    assert result.totals["losses_usd"] == pytest.approx(lost, rel=1e-9)
    assert result.totals["reliefs_usd"] == pytest.approx(gain, abs=1e-6)
    assert result.amplification == pytest.approx(lost / lost_first, rel=1e-9)


def reserved() -> World:
    """Two markets that pay part of what is lost out of reserves; what one lends is sold by the other as it falls."""
    w = World().pool("P", "X", 5000, 10_000_000).pool("Q", "Y", 5000, 10_000_000)
    w.lending("M", "morpho_blue@1", "X", 0.86, 0.0438, supply=2e3, reserve=3.0, debt="Y")
    w.lending("N", "aave_v3@3.6", "Y", 0.86, 0.05, supply=2e6, reserve=1_000.0)
    for i, (units, owed) in enumerate(((40, 80_152), (100, 169_592), (110, 180_213), (120, 189_372), (90, 136_611))):
        w.account(f"m{i}", "M", X=units, Y=owed / 2000).account(f"n{i}", "N", Y=units, USD=owed * 0.9)
    return w


ROUNDS: dict[str, Callable[[], World]] = {
    "reserves": reserved,
    "ladder": morpho_ladder,
    "nine": nine_identical,
    "absorbed": lambda: comets("shared"),
    "left on the account": lambda: toxic("aave_v3@3.0"),
    "vaults": vault_chain,
    "lagged": lambda: lagged("lagged"),
    "six": lambda: ladder_37("aave_v3@3.6", (0, 1, 2, 3, 4, 5), 2),
}


@pytest.mark.parametrize("name", ROUNDS)
@pytest.mark.parametrize("rounds", ["batch", "sequential"])
@pytest.mark.parametrize("profit", [False, True])
@pytest.mark.parametrize("move", [0.0, -0.2])
def test_rounds_add_up_to_the_totals(name: str, rounds: str, profit: bool, move: float) -> None:
    w = ROUNDS[name]()
    result = said(run(w, conventions(rounds, profit), price={"X": move}))
    totals, made = result.totals, result.rounds
    near = {"rel": 1e-9, "abs": 1e-6}
    for key in ("liquidated_usd", "repaid_usd", "bad_debt_usd"):
        assert sum(getattr(r, key) for r in made) == pytest.approx(totals[key], **near)
    assert sum(r.write_down_usd for r in made) == pytest.approx(layer(result, "suppliers"), **near)
    written = np.cumsum([r.bad_debt_usd for r in made])
    stands = [r.credit_loss_usd - r.unrealised_shortfall_usd for r in made]
    assert stands == pytest.approx(written.tolist(), **near)
    assert made[-1].unrealised_shortfall_usd == totals["unrealised_shortfall_usd"]
    assert made[-1].credit_loss_usd == totals["credit_loss_usd"]
    assert made[0].credit_loss_usd == totals["credit_loss_first_round_usd"]
    if any(r.liquidations for r in made) and made[0].credit_loss_usd > 0.0:
        assert result.amplification == made[-1].credit_loss_usd / made[0].credit_loss_usd
