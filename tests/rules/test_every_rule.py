"""Laws of all rules, written once. A new rule joins by a line in `families.FAMILIES`; without one it fails by name."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import numpy as np
import pytest

from aggregator import rules
from aggregator.core.account import Account, Liquidation
from aggregator.core.errors import DomainError
from aggregator.core.fixed import WAD
from aggregator.rules import Calls, CannotJudgeError, LendingRule, Rule, WouldRevertError
from tests.rules.families import FAMILIES, Drawn, drawn, worth

ALL = sorted(rules._BY_NAME)
LENDING = sorted(rules._LENDING_BY_NAME)
WHOLE = {"comet@1"}  # absorbs the account whatever the caller offers to pay
every_rule = pytest.mark.parametrize("name", ALL)
every_lending_rule = pytest.mark.parametrize("name", LENDING)


def rule_of(name: str) -> Rule:
    rule = rules.get(name)
    assert rule is not None
    return rule


def lending_rule(name: str) -> LendingRule:
    rule = rules.lending(name)
    assert rule is not None
    return rule


def changed(account: Account, at: int, **fields: object) -> Account:
    legs = list(account.legs)
    legs[at] = legs[at]._replace(**fields)  # type: ignore[arg-type]
    return account._replace(legs=tuple(legs))


def called(name: str, count: int) -> Iterator[tuple[Drawn, Liquidation]]:
    """Accounts that somebody may liquidate, each with the call to make."""
    for one in drawn(name, count):
        call = rule_of(name).best_liquidation(one.account)
        if call is not None:
            yield one, call


def test_every_rule_has_its_family() -> None:
    assert {name.partition("@")[0] for name in ALL} == set(FAMILIES)


# -- all rules --------------------------------------------------------------------------------------------
@every_rule
def test_there_is_a_call_exactly_where_the_account_is_liquidatable(name: str) -> None:
    rule, seen = rule_of(name), []
    for one in drawn(name, 60):
        judged = rule.judge(one.account)
        assert (judged.health_factor is not None and judged.health_factor < WAD) == judged.liquidatable
        assert (rule.best_liquidation(one.account) is not None) == judged.liquidatable
        seen.append(judged.liquidatable)
    assert {True, False} == set(seen)


@every_rule
def test_the_order_of_legs_judges_nothing(name: str) -> None:
    for one in drawn(name, 20):
        turned = one.account._replace(legs=one.account.legs[::-1])
        assert rule_of(name).judge(turned) == rule_of(name).judge(one.account)


@every_rule
def test_an_unknown_price_is_never_a_judgement(name: str) -> None:
    asked = 0
    for one in drawn(name, 20):
        for i, leg in enumerate(one.account.legs):
            if leg.price is None or (name == "lyra_v1@1" and leg.side == "margin"):  # its option carries the spot
                continue
            with pytest.raises(CannotJudgeError, match=r"price|Price"):
                rule_of(name).judge(changed(one.account, i, price=None))
            asked += 1
    assert asked >= 20


@every_rule
def test_an_unknown_term_is_never_a_judgement(name: str) -> None:
    """Every term of the market or of a leg that changes the judgement is needed, and missed by its name."""
    rule, missed = rule_of(name), set[str]()
    for one in drawn(name, 10):
        account, judged = one.account, rule.judge(one.account)
        places = [(None, key) for key in account.terms]
        places += [(i, key) for i, leg in enumerate(account.legs) for key in leg.terms]
        for at, key in places:
            if at is None:
                without = account._replace(terms={k: v for k, v in account.terms.items() if k != key})
            else:
                without = changed(account, at, terms={k: v for k, v in account.legs[at].terms.items() if k != key})
            try:
                assert rule.judge(without) == judged, key
            except CannotJudgeError as error:
                assert key in error.message  # noqa: PT017
                missed.add(key)
    assert missed


def test_collateral_of_which_nothing_was_read_is_not_the_settlement_token() -> None:
    """A WETH of 18 decimals, its ratio and price unread, beside USDC and alone."""
    rule, seen = rule_of("perp_curie@1"), 0
    for one in drawn(rule.name, 40):
        for i, leg in enumerate(one.account.legs):
            if leg.asset == "WETH":
                blind = changed(one.account, i, price=None, terms={})
                alone = blind._replace(legs=tuple(x for x in blind.legs if x.asset != "USDC"))
                for account in (blind, alone):
                    with pytest.raises(CannotJudgeError, match="collateral_ratio_pips"):
                        rule.judge(account)
                seen += 1
    assert seen > 5


@every_rule
def test_a_call_takes_no_more_than_there_is(name: str) -> None:
    seen = 0
    for one, call in called(name, 60):
        legs = {(leg.side in ("collateral", "margin"), leg.ref or leg.asset): leg for leg in one.account.legs}
        held, owed = legs.get((True, call.collateral)), legs[False, call.debt]
        if name in LENDING:
            assert held is not None
            assert 0 <= call.seized <= held.amount
            assert 0 <= call.left_collateral <= held.amount - call.seized + held.num // held.den + 1
        if name == "lyra_v1@1":
            held = legs[True, call.debt]
            assert call.seized + call.left_collateral == held.shares
        else:
            assert 0 < call.repaid <= owed.amount
            gone = call.repaid + call.bad_debt.get(owed.asset, 0)
            assert abs(owed.amount - gone - call.left_debt) <= owed.num // owed.den + 1 or name == "comet@1"
        assert 0 <= call.protocol_fee <= call.seized
        assert all(raw > 0 for raw in call.bad_debt.values())
        seen += 1
    assert seen > 10


@every_rule
def test_healthy_accounts_and_strangers_are_refused(name: str) -> None:
    rule, seen = rule_of(name), 0
    for one in drawn(name, 60):
        account = one.account
        pairs = [(c, d) for c in account.side("collateral", "margin") for d in account.side("debt", "long", "short")]
        if not rule.judge(account).liquidatable:
            for held, owed in pairs:
                with pytest.raises(WouldRevertError):
                    rule.liquidate(account, held.asset, owed.ref or owed.asset, 10**6)
            seen += 1
        with pytest.raises(WouldRevertError):
            rule.liquidate(account, pairs[0][0].asset, "nobody owes this", 10**6)
    assert seen > 3


# -- what more of something does --------------------------------------------------------------------------
@every_rule
def test_more_collateral_never_lowers_health(name: str) -> None:
    """In lending by its price, elsewhere by how much of it there is."""
    rule, rng = rule_of(name), random.Random(name)
    for one in drawn(name, 40):
        before = rule.judge(one.account)
        for i, leg in enumerate(one.account.legs):
            account = one.account
            if leg.side == "collateral" and leg.price:
                account = changed(account, i, price=leg.price._replace(raw=int(leg.price.raw * rng.uniform(1, 3)) + 1))
            elif leg.side == "margin" and "settlement_balance" not in account.own:
                raw = int(leg.amount * rng.uniform(1, 3)) + 1
                account = changed(account, i, shares=raw, amount=raw)
            else:
                continue
            after = rule.judge(account)
            assert before.health_factor is not None
            assert after.health_factor is not None
            assert after.health_factor >= before.health_factor
            assert after.liquidatable <= before.liquidatable


@every_lending_rule
def test_a_call_writes_off_what_is_left_or_the_market_keeps_it_as_owed(name: str) -> None:
    rule = lending_rule(name)
    written = [bool(call.bad_debt) for _, call in called(name, 120)]
    assert len(written) > 10
    assert any(written) != rule.keeps_bad_debt


# what a contract converts a share at: 400 in cash, 600 lent, of which so much stays owed and so much was written off
RATES = {
    "aave_v3": lambda owed, written: 1.25,  # liquidityIndex: _burnBadDebtForUser adds to `deficit` alone
    "comet": lambda owed, written: 1.25,  # baseSupplyIndex: absorbInternal moves totalBorrowBase alone
    "compound_v2": lambda owed, written: (400 + owed) / 800,  # exchangeRateStoredInternal: cash + totalBorrows
    "morpho_blue": lambda owed, written: (1000 - written) / 800,  # totalSupplyAssets -= badDebtAssets
}


@every_lending_rule
@pytest.mark.parametrize("bad", [1, 150, 600])
def test_a_rate_ignores_losses_where_its_contract_computes_it_without_them(name: str, bad: int) -> None:
    rule, rate = lending_rule(name), RATES[name.partition("@")[0]]
    kept, written = (bad, 0) if rule.keeps_bad_debt else (0, bad)
    assert rate(600, 0) == 1.25
    assert (rate(600 - bad + kept, written) == 1.25) == rule.rate_ignores_losses
    assert rule.rate_ignores_losses or not rule.keeps_bad_debt  # what is still owed nobody has lost yet


@every_lending_rule
def test_a_price_of_zero_closes_an_account_where_its_rule_needs_every_price(name: str) -> None:
    rule, called = lending_rule(name), 0
    for one in drawn(name, 60):
        for i, leg in enumerate(one.account.legs):
            if leg.price is None:
                continue
            account = changed(one.account, i, price=leg.price._replace(raw=0))
            judged, best = rule.judge(account), rule.best_liquidation(account)
            below = judged.health_factor is not None and judged.health_factor < WAD
            assert judged.liquidatable == (below and not rule.needs_every_price)
            called += best is not None
            for held, owed in itertools.product(account.side("collateral"), account.side("debt")):
                if rule.needs_every_price:
                    with pytest.raises(WouldRevertError):
                        rule.liquidate(account, held.asset, owed.asset)
    assert bool(called) != rule.needs_every_price


@every_lending_rule
def test_collateral_priced_at_zero_goes_for_nothing_or_not_at_all(name: str) -> None:
    rule, given = lending_rule(name), set[bool]()
    for one in drawn(name, 60):
        for i, leg in enumerate(one.account.legs):
            if leg.side != "collateral" or leg.price is None:
                continue
            account = changed(one.account, i, price=leg.price._replace(raw=0))
            if rule.judge(account).health_factor != 0:
                continue
            best = rule.best_liquidation(account)
            given.add(best is not None)
            assert best is None or (best.repaid, best.seized, best.left_debt) == (0, leg.amount, 0)
    assert given == {rule.gives_for_nothing}


@every_lending_rule
def test_dearer_debt_never_raises_health(name: str) -> None:
    rule, rng = lending_rule(name), random.Random(name)
    for one in drawn(name, 40):
        before = rule.judge(one.account)
        for i, leg in enumerate(one.account.legs):
            if leg.side != "debt" or (leg.price is None and name != "morpho_blue@1"):
                continue
            account = one.account
            if leg.price:
                account = changed(account, i, price=leg.price._replace(raw=int(leg.price.raw * rng.uniform(1, 3)) + 1))
            else:  # Morpho's oracle quotes collateral in the loan asset
                other = account.legs[0]
                assert other.price is not None
                account = changed(account, 0, price=other.price._replace(raw=int(other.price.raw / rng.uniform(1, 3))))
            after = rule.judge(account)
            assert before.health_factor is not None
            assert after.health_factor is not None
            assert after.health_factor <= before.health_factor
            assert after.liquidatable >= before.liquidatable


@every_lending_rule
def test_without_debt_nobody_is_judged(name: str) -> None:
    for one in drawn(name, 10):
        account = one.account._replace(legs=one.account.side("collateral"))
        judged = rule_of(name).judge(account)
        assert (judged.health_factor, judged.liquidatable, judged.debt) == (None, False, 0)
        assert rule_of(name).best_liquidation(account) is None


@every_lending_rule
def test_an_offer_bounds_the_call(name: str) -> None:
    rule, rng, seen = lending_rule(name), random.Random(name), 0
    for one, call in called(name, 60):
        offer = max(1, int(call.repaid * rng.uniform(0, 1.2)))
        try:
            taken = rule.liquidate(one.account, call.collateral, call.debt, offer)
        except WouldRevertError:  # dust would stay
            continue
        assert taken.repaid <= offer or name in WHOLE
        assert taken.repaid <= call.repaid or name.startswith("aave")  # whose call leaves dust is reduced
        seen += 1
    assert seen > 5


@every_lending_rule
def test_a_liquidator_gets_what_he_pays_for_and_the_bonus_at_most(name: str) -> None:
    for one, call in called(name, 60):
        held = next(leg for leg in one.account.side("collateral") if leg.asset == call.collateral)
        owed = next(leg for leg in one.account.side("debt") if leg.asset == call.debt)
        paid, taken = worth(owed, call.repaid), worth(held, call.seized)
        slack = 1e-9 * taken + worth(owed, 2) + worth(held, 2 + held.num // held.den)
        if name in WHOLE:  # the protocol pays itself: what it seizes is credited less the factor
            assert paid <= taken * (1 - one.bonus_frac) + slack
            continue
        assert taken <= paid * (1 + one.bonus_frac) + slack
        assert worth(held, call.to_liquidator) >= paid - slack


# -- the array form ---------------------------------------------------------------------------------------
def check(rule: LendingRule, one: Drawn) -> Liquidation | None:
    """The array form equals the exact one, to 1e-9 of the account's size."""
    account, exact, judged = one.account, rule.best_liquidation(one.account), rule.judge(one.account)
    collateral, debt = account.side("collateral")[0], account.side("debt")[0]
    if exact is not None:
        collateral, debt = (
            next(leg for leg in account.side(side) if leg.asset == asset)
            for side, asset in (("collateral", exact.collateral), ("debt", exact.debt))
        )
    weighted = judged.collateral * judged.threshold_wad // WAD
    scale = 10.0**judged.exp
    taken = rule.batch(
        Calls(
            worth(collateral, collateral.amount),
            worth(debt, debt.amount),
            judged.collateral / scale,
            judged.debt / scale,
            weighted / scale,
            one.bonus_frac,
            one.fee_frac,
        )
    )
    size = judged.collateral / scale + judged.debt / scale
    if exact is None:
        assert taken.repaid_usd[0] == 0
        return None
    tolerance = 1e-9 * size + 3e-8 + 3 * 10.0**-debt.decimals  # base units are 1e-8 dollars, and whole raw units
    assert taken.repaid_usd[0] == pytest.approx(worth(debt, exact.repaid), abs=tolerance)
    assert taken.seized_usd[0] == pytest.approx(worth(collateral, exact.seized), abs=tolerance)
    assert taken.fee_usd[0] == pytest.approx(worth(collateral, exact.protocol_fee), abs=tolerance)
    written_off = sum(worth(leg, exact.bad_debt.get(leg.asset, 0)) for leg in account.side("debt"))
    assert taken.bad_debt_usd[0] == pytest.approx(written_off, abs=tolerance)
    return exact


@every_lending_rule
def test_arrays_equal_the_exact_form(name: str) -> None:
    rule, seen = lending_rule(name), 0
    for one in drawn(name, 200):
        health = rule.judge(one.account).health_factor
        assert health is not None
        if min(abs(health / WAD - 1), abs(health / WAD - 0.95)) >= 1e-4:  # at the steps of a rule the last unit decides
            seen += check(rule, one) is not None
    assert seen > 50


def some_calls(count: int) -> Calls:
    rng = np.random.default_rng(1)
    collateral, debt = 10 ** rng.uniform(0, 8, count), 10 ** rng.uniform(0, 8, count)
    all_collateral, all_debt = collateral * rng.uniform(1, 3, count), debt * rng.uniform(1, 3, count)
    cover = np.where(rng.random(count) < 0.5, np.inf, debt * rng.uniform(0, 1.2, count))
    return Calls(
        collateral,
        debt,
        all_collateral,
        all_debt,
        all_collateral * rng.uniform(0.3, 0.9, count),
        rng.uniform(0, 0.15, count),
        rng.uniform(0, 0.2, count),
        0.5,
        cover,
    )


@every_lending_rule
def test_arrays_take_no_more_than_there_is(name: str) -> None:
    calls = some_calls(400)
    taken = lending_rule(name).batch(calls)
    eps = 1e-12
    assert all((part >= 0).all() for part in taken)
    assert (taken.seized_usd <= calls.collateral_usd).all()
    assert (taken.fee_usd <= taken.seized_usd).all()
    assert (taken.repaid_usd <= np.asarray(calls.debt_usd) * (1 + eps)).all()
    assert name in WHOLE or (taken.repaid_usd <= np.asarray(calls.to_cover_usd) * (1 + eps)).all()
    assert (taken.repaid_usd + taken.bad_debt_usd <= np.asarray(calls.all_debt_usd) * (1 + eps)).all()
    healthy = np.asarray(calls.weighted_usd) >= np.asarray(calls.all_debt_usd) * (1 + 1e-3)
    assert healthy.any()
    assert all((part[healthy] == 0).all() for part in taken)
    assert (taken.repaid_usd[~healthy] > 0).any()


@every_lending_rule
def test_one_at_a_time_is_all_at_once_to_the_bit(name: str) -> None:
    calls = some_calls(40)
    whole = lending_rule(name).batch(calls)
    for i in range(40):
        alone = lending_rule(name).batch(Calls(*(np.broadcast_to(field, 40)[i] for field in calls)))
        assert [part[0] for part in alone] == [part[i] for part in whole]
    nothing = lending_rule(name).batch(Calls(*[np.zeros(0)] * 6))
    assert [part.shape for part in nothing] == [(0,)] * 5


@every_lending_rule
@pytest.mark.parametrize("field", Calls._fields)
@pytest.mark.parametrize("bad", [np.nan, -1.0])
def test_a_number_that_is_none_is_named(name: str, field: str, bad: float) -> None:
    calls = Calls(1.0, 1.0, 1.0, 1.0, 1.0, 0.05)._replace(**{field: np.array([1.0, 1.0, bad])})
    with pytest.raises(DomainError, match=rf"{field}\[2\]"):
        lending_rule(name).batch(calls)


def test_an_offer_within_the_dust_is_reduced_by_aave() -> None:
    rule = lending_rule("aave_v3@3.6")
    cover = np.array([0.0, 100.0, 10_000.0, np.inf])
    taken = rule.batch(Calls(100_000.0, 90_000.0, 100_000.0, 90_000.0, 80_000.0, 0.05, 0.1, to_cover_usd=cover))
    assert taken.repaid_usd.tolist() == [0.0, 100.0, 10_000.0, 90_000.0]
    assert taken.cleared.tolist() == [False, False, False, True]
    dust = rule.batch(Calls(100_000.0, 90_000.0, 100_000.0, 90_000.0, 80_000.0, 0.05, to_cover_usd=89_500.0))
    assert dust.repaid_usd[0] == 89_000.0
