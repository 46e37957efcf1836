"""The array form of each lending rule equals the exact form on random accounts, to 1e-9 of the account's size."""

from __future__ import annotations

import random

import numpy as np
import pytest

from aggregator.core.account import Account, Leg, Liquidation
from aggregator.core.errors import DomainError
from aggregator.core.fixed import RAY, Fixed
from aggregator.rules import Calls, LendingRule, lending
from aggregator.rules.morpho_blue import bonus_frac
from tests.rules.worlds import aave, aave_leg, morpho

WAD, E8 = 10**18, 10**8


def rule_of(name: str) -> LendingRule:
    rule = lending(name)
    assert rule is not None
    return rule


def worth(leg: Leg, amount: int) -> float:
    assert leg.price is not None
    return amount / 10**leg.decimals * leg.price.raw / 10**leg.price.exp


def aave_account(rng: random.Random, directional: bool) -> tuple[Account, float, float]:
    """One to two collaterals, one to two debts from 50 dollars to 50 millions, health 0.4 to 1.1."""
    bonus, fee, threshold = rng.randint(10_100, 11_500), rng.choice([0, 1000, 2000]), rng.randint(5000, 8500)
    terms = {
        "liquidation_threshold_bps": threshold,
        "liquidation_bonus_bps": bonus,
        "liquidation_protocol_fee_bps": fee,
    }
    index = RAY * rng.randint(1000, 1900) // 1000
    size = 10 ** rng.uniform(1.7, 7.7)
    pair = [
        aave_leg(
            "c0", "collateral", int(size * WAD / 1234), 1234 * E8, 18, index=index, terms=terms, directional=directional
        )
    ]
    if rng.random() < 0.4:
        pair.append(
            aave_leg(
                "c1",
                "collateral",
                int(size * rng.random() * WAD),
                E8,
                18,
                index=index,
                terms=terms,
                directional=directional,
            )
        )
    limit = sum(worth(leg, leg.amount) for leg in pair) * threshold / 10_000
    owed = limit / rng.uniform(0.4, 1.1)
    split = rng.choice([1.0, rng.random()])
    for i, part in enumerate((split, 1 - split)):
        if part:
            raw = int(owed * part * WAD * RAY / index)
            pair.append(aave_leg(f"d{i}", "debt", raw, E8, 18, index=index, directional=directional))
    return aave(*pair), bonus / 10_000 - 1, fee / 10_000


def check(rule: LendingRule, account: Account, bonus: float, fee: float) -> Liquidation | None:
    exact = rule.best_liquidation(account)
    judged = rule.judge(account)
    if exact is None:
        pair = (account.side("collateral")[0], account.side("debt")[0])
    else:
        pair = tuple(  # type: ignore[assignment]
            next(leg for leg in account.side(side) if leg.asset == asset)
            for side, asset in (("collateral", exact.collateral), ("debt", exact.debt))
        )
    collateral, debt = pair
    weighted = judged.collateral * judged.threshold_wad // WAD
    scale = 10.0**judged.exp
    loan = worth(debt, debt.amount) if debt.price else debt.amount / 10**debt.decimals
    taken = rule.batch(
        Calls(
            worth(collateral, collateral.amount), loan, judged.collateral / scale, judged.debt / scale,
            weighted / scale, bonus, fee,
        )
    )  # fmt: skip
    size = judged.collateral / scale + judged.debt / scale

    def dollars(leg: Leg, amount: int) -> float:
        return worth(leg, amount) if leg.price else amount / 10**leg.decimals

    if exact is None:
        assert taken.repaid_usd[0] == 0
        return None
    tolerance = 1e-9 * size + 3e-8 + 3 * 10.0**-debt.decimals  # base units are 1e-8 dollars, and whole raw units
    assert taken.repaid_usd[0] == pytest.approx(dollars(debt, exact.repaid), abs=tolerance)
    assert taken.seized_usd[0] == pytest.approx(dollars(collateral, exact.seized), abs=tolerance)
    assert taken.fee_usd[0] == pytest.approx(dollars(collateral, exact.protocol_fee), abs=tolerance)
    written_off = sum(dollars(leg, exact.bad_debt.get(leg.asset, 0)) for leg in account.side("debt"))
    assert taken.bad_debt_usd[0] == pytest.approx(written_off, abs=tolerance)
    return exact


@pytest.mark.parametrize("name", [f"aave_v3@3.{minor}" for minor in range(8)])
def test_aave_arrays_equal_the_exact_form(name: str) -> None:
    rng, rule, seen = random.Random(name), rule_of(name), 0
    for _ in range(150):
        account, bonus, fee = aave_account(rng, name >= "aave_v3@3.5")
        health = rule.judge(account).health_factor
        assert health is not None
        if min(abs(health / WAD - 1), abs(health / WAD - 0.95)) < 1e-4:
            continue  # the step of the rule itself
        seen += check(rule, account, bonus, fee) is not None
    assert seen > 80


def test_morpho_arrays_equal_the_exact_form() -> None:
    rng, rule, seen = random.Random(5), rule_of("morpho_blue@1"), 0
    for _ in range(200):
        lltv = rng.choice([385, 625, 770, 860, 915, 945, 980]) * WAD // 1000
        price, shares = rng.randint(10, 90_000), int(10 ** rng.uniform(15, 20))
        borrowed = shares / 10**12 * 1.05
        raw = int(borrowed * rng.uniform(0.3, 1.1) / (lltv / WAD) / price * WAD)
        account = morpho(raw, price * 10**24, shares, 105 * 10**18, 100 * 10**24, lltv)
        collateral, debt = account.legs
        collateral = collateral._replace(price=Fixed(price * 10**24, 24))
        health = rule.judge(account).health_factor
        assert health is not None
        if abs(health / WAD - 1) > 1e-4:
            seen += check(rule, account._replace(legs=(collateral, debt)), bonus_frac(lltv), 0.0) is not None
    assert seen > 50


def test_compound_arrays_equal_the_exact_form() -> None:
    rng, rule = random.Random(7), rule_of("compound_v2@1")
    market = {"close_factor_wad": WAD // 2, "liquidation_incentive_wad": 108 * WAD // 100}
    for _ in range(100):
        size, share = 10 ** rng.uniform(2, 7), 28 * WAD // 1000
        terms = {"collateral_factor_wad": 75 * WAD // 100, "protocol_seize_share_wad": share}
        owed = int(size * 0.75 / rng.uniform(0.3, 1.1) * WAD)
        legs = (
            Leg("c", "collateral", int(size * WAD), int(size * WAD), 18, Fixed(E8, 8), terms),
            Leg("d", "debt", owed, owed, 18, Fixed(E8, 8), {}),
        )
        check(rule, Account("m", "h", rule.name, legs, market, {}, 0), 0.08, 0.028)


def test_broadcast_bounds_and_bad_numbers() -> None:
    rule = rule_of("aave_v3@3.6")
    cover = np.array([0.0, 100.0, 10_000.0, np.inf])
    taken = rule.batch(Calls(100_000.0, 90_000.0, 100_000.0, 90_000.0, 80_000.0, 0.05, 0.1, to_cover_usd=cover))
    assert taken.repaid_usd.tolist() == [0.0, 100.0, 10_000.0, 90_000.0]
    assert taken.cleared.tolist() == [False, False, False, True]
    dust = rule.batch(Calls(100_000.0, 90_000.0, 100_000.0, 90_000.0, 80_000.0, 0.05, to_cover_usd=89_500.0))
    assert dust.repaid_usd[0] == 89_000.0
    with pytest.raises(DomainError, match=r"debt_usd\[1\]"):
        rule.batch(Calls(1.0, np.array([1.0, np.nan]), 1.0, 1.0, 1.0, 0.05))
    nothing = rule.batch(Calls(*[np.zeros(0)] * 6))
    assert nothing.repaid_usd.shape == (0,)
