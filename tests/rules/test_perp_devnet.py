"""Account value, requirement and liquidation of Perp Curie against its own bytecode, to the unit."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from aggregator.core.account import Account, Leg, Liquidation
from aggregator.core.fixed import Fixed
from aggregator.rules import CannotJudgeError, WouldRevertError
from aggregator.rules.base import MAX
from aggregator.rules.perp_curie import PerpCurie, batch
from tests.devnet import perp
from tests.devnet.anvil import Chain
from tests.devnet.contract import Reverted
from tests.devnet.crowds_derivatives import PerpPeople
from tests.devnet.perp import Perp
from tests.devnet.toolchain import Toolchain
from tests.devnet.worlds import wallets

RULE, WAD, PEOPLE = PerpCurie(), 10**18, 21
SETTLEMENT = "usdc"


@pytest.fixture(scope="module")
def house(devnet_tools: Toolchain) -> Iterator[Perp]:
    """Two perpetuals, a deep maker, takers both ways at up to 8.8 times leverage, small makers; prices have moved."""
    with Chain(devnet_tools, 10) as chain:
        made = perp.deploy(devnet_tools, chain)
        made.list_base("ETH", 2_000)
        made.list_base("BTC", 40_000)
        users = wallets(9, PEOPLE)
        chain.fund(*users)
        crowd = PerpPeople(made, random.Random("perp"))
        crowd.arrive(users, chain.accounts[5])
        for liquidator in (chain.accounts[6], chain.accounts[7]):
            made.deposit(liquidator, 5e6)
        crowd.fall(chain.accounts[7], {"ETH": 1_880.0, "BTC": 37_500.0})
        yield made


def account_on(house: Perp, trader: str) -> Account:
    """The trader's account from the contracts' own parts; nothing here is a sum of theirs."""
    balance, legs = house.account_balance, []
    owed, _, fee = balance.call("getPnlAndPendingFee", trader)
    own = {"owed_realized_pnl": owed, "pending_fee": fee, "has_order": int(house.has_orders(trader))}
    for symbol, base in sorted(house.bases.items()):
        size = balance.call("getTotalPositionSize", trader, base.token.address)
        notional = balance.call("getTotalOpenNotional", trader, base.token.address)
        own[f"pending_funding:{symbol}"] = house.exchange.call("getPendingFundingPayment", trader, base.token.address)
        if size or notional:
            mark = Fixed(balance.call("getMarkPrice", base.token.address), 18)
            terms = {"size": size, "open_notional": notional}
            legs.append(Leg(symbol, "long" if size > 0 else "short", abs(size), abs(size), 18, mark, terms))
    held = house.vault.call("getBalance", trader)
    if held < 0:
        own["settlement_balance"] = held
    legs.append(Leg(SETTLEMENT, "margin", max(held, 0), max(held, 0), 6, None, {}))
    terms = {
        "mm_ratio_pips": house.config.call("getMmRatio"), "settlement_decimals": 6,
        "liquidation_penalty_pips": house.config.call("getLiquidationPenaltyRatio"),
        "insurance_fund_capacity": house.insurance_fund.call("getInsuranceFundCapacity"),
    }  # fmt: skip
    return Account("eip155:10/perp_curie/x", trader.lower(), RULE.name, tuple(legs), terms, own, 0)


def test_value_and_requirement_are_the_contracts(house: Perp) -> None:
    makers = 0
    for trader in [*wallets(9, PEOPLE), house.chain.accounts[5], house.chain.accounts[7]]:
        account = account_on(house, trader)
        judged = RULE.judge(account)
        assert judged.collateral == house.account_value(trader)
        assert judged.debt == house.margin_requirement(trader)
        assert judged.liquidatable == house.can_be_liquidated(trader)
        makers += account.own["has_order"]
        value = house.vault.call("getAccountValue", trader) * 10**12
        for symbol, base in house.bases.items():
            if any(leg.asset == symbol for leg in account.side("long", "short")):
                theirs = house.account_balance.call("getLiquidatablePositionSize", trader, base.token.address, value)
                assert RULE.liquidatable_size(account, symbol) == theirs
    assert makers > 1


def account_at(house: Perp, time_s: int, trader: str) -> Account:
    """The account as the clearing house will see it in a block at time_s."""
    with house.chain.undone():
        house.chain.rpc("evm_setNextBlockTimestamp", time_s)
        house.chain.rpc("evm_mine")
        return account_on(house, trader)


def outcome(account: Account, symbol: str, cover: int = MAX) -> tuple[Liquidation | None, str]:
    """What the rule foretells, and of which kind."""
    try:
        said = RULE.liquidate(account, SETTLEMENT, symbol, cover)
    except WouldRevertError as error:
        return None, error.message
    return said, "bad debt" if said.bad_debt else "half" if said.left_debt else "whole"


def liquidate(
    house: Perp, time_s: int, account: Account, symbol: str, said: Liquidation | None, cover: int = MAX
) -> None:
    base, liquidator = house.bases[symbol].token.address, house.chain.accounts[6]
    call: tuple[object, ...] = ("liquidate(address,address)", account.holder, base)
    if cover != MAX:
        size = next(leg.terms["size"] for leg in account.side("long", "short") if leg.asset == symbol)
        call = ("liquidate(address,address,int256)", account.holder, base, cover if size > 0 else -cover)
    house.chain.rpc("evm_setNextBlockTimestamp", time_s)
    if said is None:
        with pytest.raises(Reverted):
            house.clearing_house.send(*call, sender=liquidator)  # type: ignore[arg-type]
        return
    receipt = house.clearing_house.send(*call, sender=liquidator)  # type: ignore[arg-type]
    (event,) = house.clearing_house.events(receipt, "PositionLiquidated")
    assert event["positionSize"] == said.repaid
    assert event["liquidationFee"] == said.seized
    assert abs(house.size(account.holder, symbol)) == said.left_debt
    settled = [e["amount"] for e in house.vault.events(receipt, "BadDebtSettled")]
    assert settled == list(said.bad_debt.values())
    assert max(house.account_value(account.holder), 0) == said.left_collateral * 10**12
    fund = [
        e["amount"]
        for e in house.account_balance.events(receipt, "PnlRealized")
        if e["trader"] == house.insurance_fund.address
    ]
    assert sum(fund) == said.protocol_fee


@pytest.mark.parametrize(
    ("eth", "btc", "funded"), [(1_877.0, 37_450.0, 0), (1_500.0, 44_000.0, 0), (1_500.0, 44_000.0, 10**6)]
)
def test_liquidation_is_what_the_clearing_house_does(house: Perp, eth: float, btc: float, funded: int) -> None:
    seen: Counter[str] = Counter()
    with house.chain.undone():
        if funded:
            house.fund_insurance(funded)
        PerpPeople(house, random.Random(1)).fall(house.chain.accounts[7], {"ETH": eth, "BTC": btc})
        time_s = house.chain.block()["timestamp"] + 45
        for trader in wallets(9, PEOPLE):
            account = account_at(house, time_s, trader)
            for leg in account.side("long", "short"):
                said, kind = outcome(account, leg.asset)
                seen[kind] += 1
                with house.chain.undone():
                    liquidate(house, time_s, account, leg.asset, said)
            best = RULE.best_liquidation(account)
            assert best is None or best.seized > 0
    assert {"CH_CLWTISO", "CH_EAV"} <= set(seen), seen
    assert ("bad debt" if funded else "CH_IIC" if eth < 1_800 else "half") in seen, seen


def test_at_every_margin_the_clearing_house_does_what_is_foretold(house: Perp) -> None:
    """Two positions, or one and a crumb, under a margin that a last deposit sets: from all but enough to less than
    nothing, for the whole and for any part, against an empty insurance fund and a full one.
    """
    rng, seen, odd = random.Random(5), Counter[str](), 0
    with house.chain.undone():
        shapes = {house.chain.accounts[3]: (6_000, 2_400), house.chain.accounts[4]: (8_400, 75)}
        for user, (eth, btc) in shapes.items():
            house.chain.fund(user)
            house.deposit(user, 1_000)
            house.trade(user, "ETH", eth)
            house.trade(user, "BTC", btc)
        PerpPeople(house, random.Random(1)).fall(house.chain.accounts[7], {"ETH": 1_600.0, "BTC": 33_000.0})
        time_s = house.chain.block()["timestamp"] + 45
        for user in shapes:
            margin = RULE.margin(account_at(house, time_s, user))
            penalty = int(margin.positions * 0.025)
            assert margin.value < 0
            wanted = [margin.requirement * n // 100 for n in (95, 70, 55, 30)]
            for target, funded in [(t, 0) for t in (*wanted, penalty * 7 // 10, penalty * 3 // 10)] + [(0, 10**5)]:
                with house.chain.undone():
                    if funded:
                        house.fund_insurance(funded)
                    else:
                        house.deposit(user, (target - margin.value) / WAD)
                    account = account_at(house, time_s, user)
                    for leg in account.side("long", "short"):
                        for cover in (MAX, rng.randint(1, abs(leg.terms["size"]))):
                            said, kind = outcome(account, leg.asset, cover)
                            with house.chain.undone():
                                liquidate(house, time_s, account, leg.asset, said, cover)
                            seen[kind] += 1
                            odd += said is not None and said.seized % 2 and said.protocol_fee > 0
    assert {"half", "whole", "CH_IIC"} <= set(seen), seen
    assert odd > 2


def test_array_form_equals_the_exact_form() -> None:
    rng = random.Random(3)
    for _ in range(300):
        marks = [rng.randint(1, 50_000), rng.randint(1, 50_000)]
        sizes = [int(rng.choice([-1, 1]) * 10 ** rng.uniform(-3, 3) * WAD) for _ in marks]
        values = [abs(s) / WAD * m for s, m in zip(sizes, marks, strict=True)]
        required = sum(values) * 0.0625
        target = required * rng.uniform(-0.5, 1.2)
        if min(abs(target / required - x) for x in (0, 0.5, 1)) < 1e-3 or min(abs(v - 100) for v in values) < 1:
            continue
        legs = [
            Leg(str(i), "long" if s > 0 else "short", abs(s), abs(s), 18, Fixed(m * WAD, 18),
                {"size": s, "open_notional": -s * m})
            for i, (s, m) in enumerate(zip(sizes, marks, strict=True))
        ]  # fmt: skip
        terms = {"mm_ratio_pips": 62_500, "liquidation_penalty_pips": 25_000, "settlement_decimals": 18}
        account = Account("m", "h", RULE.name, tuple(legs), terms, {"settlement_balance": int(target * WAD)}, 0)
        try:
            said = RULE.liquidate(account, SETTLEMENT, "0")
        except WouldRevertError:
            said = None
        taken = batch(target, values[0], sum(values), 0.0625, 0.025)
        if said is None:
            assert taken.closed_usd[0] == 0 or sum(values) / values[0] > 30
            continue
        near = 1e-6 * sum(values)  # the contract's ratio has six places
        assert taken.closed_usd[0] == pytest.approx(said.repaid / WAD * marks[0], abs=near)
        assert taken.penalty_usd[0] == pytest.approx(said.seized / WAD, abs=near)
        assert taken.to_insurance_usd[0] == pytest.approx(said.protocol_fee / WAD, abs=near)
    assert batch(np.zeros(0), np.zeros(0), np.zeros(0), 0.1, 0.1).closed_usd.shape == (0,)


def test_other_collateral_counts_in_settlement_tokens() -> None:
    """Vault.getAccountValue answers settlement tokens, whatever else the margin holds: 100 + 1 WETH at 2,000 x 0.7."""
    weth = Leg("A weth", "margin", WAD, WAD, 18, Fixed(2_000 * 10**8, 8), {"collateral_ratio_pips": 700_000})
    usdc = Leg("usdc", "margin", 10**8, 10**8, 6, None, {})
    terms = {"mm_ratio_pips": 62_500, "settlement_decimals": 6}
    judged = RULE.judge(Account("m", "h", RULE.name, (weth, usdc), terms, {}, 0))
    assert (judged.collateral, judged.unit) == (1_500 * WAD, "usdc")
    judged = RULE.judge(Account("m", "h", RULE.name, (weth,), terms, {"settlement_balance": -(10**8)}, 0))
    assert (judged.collateral, judged.unit) == (1_300 * WAD, "")


def test_missing_price_and_terms() -> None:
    leg = Leg("ETH", "long", WAD, WAD, 18, None, {"size": WAD, "open_notional": -WAD})
    terms = {"mm_ratio_pips": 62_500, "settlement_decimals": 6}
    with pytest.raises(CannotJudgeError, match="no price"):
        RULE.judge(Account("m", "h", RULE.name, (leg,), terms, {}, 0))
    with pytest.raises(CannotJudgeError, match="settlement_decimals"):
        RULE.judge(Account("m", "h", RULE.name, (), {"mm_ratio_pips": 1}, {}, 0))
    for places in (-1, 19, 255):
        with pytest.raises(CannotJudgeError, match=rf"cannot be scaled\s+expected: 0 to 18\s+found: {places}"):
            RULE.judge(Account("m", "h", RULE.name, (), terms | {"settlement_decimals": places}, {}, 0))
    for places in (0, 6, 18):
        cash = {"settlement_balance": 7}
        judged = RULE.judge(Account("m", "h", RULE.name, (), terms | {"settlement_decimals": places}, cash, 0))
        assert judged.collateral == 7 * 10 ** (18 - places)
