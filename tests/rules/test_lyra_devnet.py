"""Lyra's margin, fees and settlement against its own bytecode, to the unit; prices also against the closed form."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from math import erfc, exp, log, sqrt

import numpy as np
import pytest

from aggregator.core.account import Account, Leg
from aggregator.core.errors import DomainError
from aggregator.core.fixed import Fixed
from aggregator.rules import CannotJudgeError, WouldRevertError
from aggregator.rules.lyra_maths import prices
from aggregator.rules.lyra_v1 import Kind, LyraV1
from aggregator.rules.lyra_v1_arrays import Shocks, min_collateral
from tests.devnet import lyra, lyra_params
from tests.devnet.anvil import Chain
from tests.devnet.contract import Contract, Reverted
from tests.devnet.lyra import BASE_KEY, Lyra, OptionType
from tests.devnet.toolchain import Toolchain

RULE, WAD, DAY = LyraV1(), 10**18, 86_400
BASE, QUOTE = "eip155:10/erc20:base", "eip155:10/erc20:quote"


@pytest.fixture(scope="module")
def market(devnet_tools: Toolchain) -> Iterator[Lyra]:
    """Two boards, shorts of all three kinds at random sizes, near and far from their minimum."""
    rng = random.Random("lyra")
    with Chain(devnet_tools, 10) as chain:
        made = lyra.deploy(devnet_tools, chain, 2_000)
        made.create_board(25, 0.9, [1_700, 2_000, 2_300], [1.05, 1, 0.97])
        made.create_board(60, 0.8, [1_800, 2_000, 2_500], [1.03, 1, 0.98])
        made.refresh()
        user = chain.accounts[3]
        for strike in (s for board in made.boards() for s in made.strikes(board)):
            for kind in OptionType:
                amount = round(rng.uniform(1, 8), 3)
                need = made.min_collateral(strike, kind, int(amount * WAD)) if kind >= 2 else 0
                share = rng.uniform(1.02, 1.4)
                held = min(need / WAD * share, amount) if kind == OptionType.SHORT_CALL_BASE else need / WAD * share
                with suppress(Reverted):  # a delta outside the market's range
                    made.open(user, strike, kind, amount, round(held + 1e-6, 6) if kind != 2 else held)
        yield made


def terms_of(market: Lyra) -> dict[str, int]:
    least, partial = lyra_params.MIN_COLLATERAL, lyra_params.PARTIAL_COLLATERAL
    return {
        "rate_and_carry": lyra_params.GREEK_CACHE["rateAndCarry"],
        "min_static_quote_collateral": least["minStaticQuoteCollateral"],
        "min_static_base_collateral": least["minStaticBaseCollateral"],
        "shock_vol_a": least["shockVolA"], "shock_vol_point_a_s": least["shockVolPointA"],
        "shock_vol_b": least["shockVolB"], "shock_vol_point_b_s": least["shockVolPointB"],
        "call_spot_price_shock": least["callSpotPriceShock"], "put_spot_price_shock": least["putSpotPriceShock"],
        "penalty_ratio": partial["penaltyRatio"], "liquidator_fee_ratio": partial["liquidatorFeeRatio"],
        "sm_fee_ratio": partial["smFeeRatio"], "min_liquidation_fee": partial["minLiquidationFee"],
    }  # fmt: skip


def held_by(market: Lyra, user: str) -> Account:
    """The user's positions from the option token's own views."""
    spot, legs = market.rates.call("rateAndInvalid", BASE_KEY)[0], []
    for held in market.option_token.call("getOwnerPositions", user):
        identifier, strike_id, kind, amount, collateral = held[:5]
        strike, board = market.market.call("getStrikeAndBoard", strike_id)
        end, ratio = (0, 0)
        if board[1] <= market.chain.block()["timestamp"]:
            _, end, ratio = market.market.call("getSettlementParameters", strike_id)
        scope = f"series:{board[1]}:{strike[1]}"
        terms = {
            "strike": strike[1], "strike_exp": 18, "expiry_s": board[1], "is_call": int(kind in (0, 2, 3)),
            f"{scope}:iv": board[2] * strike[2] // WAD, f"{scope}:frozen": int(board[3]),
        }  # fmt: skip
        if end:
            terms |= {f"{scope}:price_at_expiry": end, f"{scope}:base_returned_ratio": ratio}
        side = "long" if kind < 2 else "short"
        legs.append(Leg(BASE, side, amount, amount, 18, Fixed(spot, 18), terms, str(identifier)))
        if kind >= 2:
            asset = BASE if kind == 2 else QUOTE
            legs.append(Leg(asset, "margin", collateral, collateral, 18, None, {}, str(identifier)))
    time_s = market.chain.block()["timestamp"]
    return Account("eip155:10/lyra_v1/eth", user.lower(), RULE.name, tuple(legs), terms_of(market), {}, time_s)


@pytest.fixture(scope="module")
def pricer(devnet_tools: Toolchain) -> Iterator[Contract]:
    with Chain(devnet_tools, 10) as chain:
        library = chain.deploy(devnet_tools.artifact("lyra", "BlackScholes"))
        yield chain.deploy(
            devnet_tools.artifact("lyra", "TestBlackScholes"), libraries={"BlackScholes": library.address}
        )


def test_fixed_point_prices_are_the_librarys(pricer: Contract) -> None:
    rng = random.Random(11)
    for i in range(120):
        time_s = rng.choice([0, 1, rng.randint(60, DAY), rng.randint(DAY, 400 * DAY)])
        vol, spot = int(rng.choice([0.0, 10 ** rng.uniform(-3, 1)]) * WAD), int(10 ** rng.uniform(-2, 5) * WAD)
        strike = int(spot * rng.uniform(0.3, 3)) if i % 5 else int(10 ** rng.uniform(-2, 5) * WAD)
        rate = int(rng.uniform(-0.1, 0.2) * WAD)
        ours = prices(time_s, vol, spot, strike, rate)
        terms = (time_s, vol, spot, strike, rate)
        assert ours[:2] == tuple(pricer.call("optionPrices_pub", terms))
        assert ours == tuple(pricer.call("pricesDeltaStdVega_pub", terms))


def test_fixed_point_prices_are_near_the_closed_form() -> None:
    """Independent: erfc in double precision; the contract's normal distribution is good to about 1e-15."""
    rng = random.Random(2)
    for _ in range(300):
        S, K, vol, T, r = rng.uniform(500, 5000), rng.uniform(500, 5000), rng.uniform(0.2, 3), rng.randint(1, 300), 0.05
        spread = vol * sqrt(T / 365)
        d1 = (log(S / K) + (r + vol * vol / 2) * T / 365) / spread
        call = S * erfc(-d1 / sqrt(2)) / 2 - K * exp(-r * T / 365) * erfc(-(d1 - spread) / sqrt(2)) / 2
        ours = prices(T * DAY, int(vol * WAD), int(S * WAD), int(K * WAD), int(r * WAD))
        assert ours.call / WAD == pytest.approx(call, abs=1e-11 * S)


@pytest.mark.parametrize("spot", [1_400, 1_999.99, 2_050.5, 2_900])
def test_requirement_and_liquidatability_are_the_contracts(market: Lyra, spot: float) -> None:
    with market.chain.undone():
        market.rates.send("setRateAndInvalid", BASE_KEY, int(spot * WAD), False)
        market.chain.warp(random.Random(spot).randint(DAY, 20 * DAY))
        account = held_by(market, market.chain.accounts[3])
        kinds, rows = set(), []
        for position in RULE.positions(account):
            strike_id = market.position(int(position.ref)).strike_id
            theirs = (
                market.min_collateral(strike_id, OptionType(int(position.kind)), position.amount)
                if position.kind >= 2
                else 0
            )
            ours = RULE.min_collateral(account, position)
            assert ours == theirs
            assert RULE.can_liquidate(account, position) == market.can_be_liquidated(int(position.ref))
            kinds.add(position.kind)
            years = (position.expiry_s - account.time_s) / 31_536_000
            rows.append((int(position.kind), position.amount / WAD, position.strike / WAD, years, spot, ours / WAD))
        assert kinds == set(Kind)
        kind, amount, strike, t_yr, spots, exact = np.array(rows).T
        year = 31_536_000 / DAY
        shocks = Shocks(0.05, 200, 0.2, 2.5, 14 / year, 1.8, 56 / year, 1.2, 0.8)
        assert min_collateral(kind, amount, strike, t_yr, spots, shocks) == pytest.approx(exact, abs=1e-9 * spot)
        judged = RULE.judge(account)
        assert judged.liquidatable == any(market.can_be_liquidated(int(p.ref)) for p in RULE.positions(account))
        assert judged.liquidatable == (judged.health_factor is not None and judged.health_factor < WAD)


def test_requirement_at_any_size_is_the_contracts(market: Lyra) -> None:
    """From dust, where the static minimum rules, to sizes where the price does; full collateral caps what it can."""
    rng, rulers = random.Random(8), set()
    account = held_by(market, market.chain.accounts[3])
    static = {account.terms["min_static_quote_collateral"], account.terms["min_static_base_collateral"]}
    for position in RULE.positions(account):
        if position.kind < Kind.SHORT_CALL_BASE:
            continue
        strike_id, kind = market.position(int(position.ref)).strike_id, OptionType(int(position.kind))
        capped = position.kind == Kind.SHORT_CALL_BASE
        for places in (-17, -6, -2, -1, 0, 2, 5):
            amount = rng.randint(1, 10**places * WAD) if places >= 0 else rng.randint(1, WAD // 10**-places)
            ours = RULE.min_collateral(account, position._replace(amount=amount))
            assert ours == market.min_collateral(strike_id, kind, amount)
            full = amount if capped else amount * position.strike // WAD
            rulers.add((kind, "static" if ours in static else "full" if abs(ours - full) < 2 else "price"))
    assert rulers >= {(kind, "price") for kind in OptionType if kind >= Kind.SHORT_CALL_BASE}
    assert rulers >= {
        (OptionType.SHORT_CALL_BASE, "full"), (OptionType.SHORT_PUT_QUOTE, "full"),
        (OptionType.SHORT_CALL_BASE, "static"), (OptionType.SHORT_CALL_QUOTE, "static"),
    }  # fmt: skip


def test_fees_are_the_contracts(market: Lyra) -> None:
    account, rng = held_by(market, market.chain.accounts[3]), random.Random(4)
    for position in RULE.positions(account):
        if position.kind < Kind.SHORT_CALL_BASE:
            continue
        base, least = position.kind == Kind.SHORT_CALL_BASE, account.terms["min_liquidation_fee"]
        least, factor = (least * WAD // position.spot, position.spot) if base else (least, WAD)
        for held in (position.collateral, rng.randint(0, least * 2)):
            premium = rng.choice([0, held // 3, held, held * 2])
            fees = RULE.fees(account, position._replace(collateral=held), premium)
            theirs = market.option_token.read("getLiquidationFees", premium, held, least, factor)
            assert sorted(fees) == sorted(theirs.values())
            assert fees.returned == theirs["returnCollateral"]
            assert fees.insolvent == theirs["insolventAmount"]
            assert sum(fees[:5]) == held


def paid_in_base(premium: int, spot: int) -> int:
    """A covered call's premium in base: the exchange keeps the 0.75 % of the kit, and the last digit is rounded."""
    asked = premium * WAD // (WAD - 75 * 10**14)
    return (asked * WAD * 10 // spot + 5) // 10


@pytest.mark.parametrize(
    ("spot", "kind"), [(2_900, Kind.SHORT_CALL_QUOTE), (1_300, Kind.SHORT_PUT_QUOTE), (3_400, Kind.SHORT_CALL_BASE)]
)
def test_liquidation_divides_what_the_contract_divides(market: Lyra, spot: float, kind: Kind) -> None:
    done = 0
    with market.chain.undone():
        market.set_spot(spot)
        user, keeper = market.chain.accounts[3], market.chain.accounts[4]
        account = held_by(market, user)
        for position in RULE.positions(account):
            if position.kind != kind or not RULE.can_liquidate(account, position):
                continue
            with market.chain.undone():
                receipt = market.liquidate(int(position.ref), keeper)
            (trade,) = market.market.events(receipt, "Trade")
            event, premium = trade["liquidation"], trade["trade"][-1]
            if kind == Kind.SHORT_CALL_BASE:
                premium = paid_in_base(premium, position.spot)
            said = RULE.liquidate(account, position.asset, position.ref, premium)
            fees = RULE.fees(account, position, premium)
            assert list(event[2:]) == [*fees[:5], fees.insolvent]
            assert said.left_collateral == fees.returned
            assert said.to_liquidator == fees.liquidator_fee
            assert sum(said.bad_debt.values()) == fees.insolvent
            done += 1
        best = RULE.best_liquidation(account)
        assert best is not None
        assert best.left_collateral + best.seized == next(
            p.collateral for p in RULE.positions(account) if p.ref == best.debt
        )
        with pytest.raises(CannotJudgeError, match="premium"):
            RULE.liquidate(account, best.collateral, best.debt)
        with pytest.raises(WouldRevertError, match="no position"):
            RULE.liquidate(account, QUOTE, "999", 1)
    assert done


@pytest.mark.parametrize("frozen", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("spot", [1_300, 3_400])
def test_a_frozen_board_refuses_every_liquidation_as_the_contract_does(
    market: Lyra, spot: float, frozen: tuple[int, ...]
) -> None:
    with market.chain.undone():
        market.set_spot(spot)
        boards = [market.boards()[i] for i in frozen]
        for board in boards:
            market.market.send("setBoardFrozen", board, True)
        account, keeper = held_by(market, market.chain.accounts[3]), market.chain.accounts[4]
        closed = {strike for board in boards for strike in market.strikes(board)}
        weak = [p for p in RULE.positions(account) if RULE.can_liquidate(account, p)]
        open_refs = {p.ref for p in weak if market.position(int(p.ref)).strike_id not in closed}
        for position in weak:
            assert market.can_be_liquidated(int(position.ref)), "the view does not look at the board"
            if position.ref in open_refs:
                assert RULE.liquidate(account, position.asset, position.ref, 1)
                continue
            with pytest.raises(Reverted, match="0xea409ee4"):  # BoardIsFrozen(address,uint256)
                market.liquidate(int(position.ref), keeper)
            with pytest.raises(WouldRevertError, match="BoardIsFrozen"):
                RULE.liquidate(account, position.asset, position.ref, 1)
        best = RULE.best_liquidation(account)
        assert len(open_refs) < len(weak)
        assert (best.debt in open_refs) if best else not open_refs


@pytest.mark.parametrize("spot", [700, 2_700, 3_300])
def test_settlement_is_what_the_contract_pays(market: Lyra, spot: float) -> None:
    with market.chain.undone():
        board, user = market.boards()[0], market.chain.accounts[3]
        market.rates.send("setRateAndInvalid", BASE_KEY, int(spot * WAD), False)
        expiry = market.market.read("getOptionBoard", board)["expiry"]
        market.chain.warp(expiry - market.chain.block()["timestamp"] + 10)
        market.settle_board(board)
        account = held_by(market, user)
        ours = {p.ref: RULE.settle(p) for p in RULE.positions(account) if p.expiry_s == expiry}
        receipt = market.settle(*map(int, ours))
        events = market.short_collateral.events(receipt, "PositionSettled")
        assert len(events) == len(ours) > 5
        for event in events:
            assert ours[str(event["positionId"])] == (event["settlementAmount"], event["insolventAmount"])
        assert any(insolvent for _, insolvent in ours.values()) == (spot != 2_700)


def test_outside_the_domain() -> None:
    with pytest.raises(DomainError, match="domain"):
        prices(1, WAD, 0, WAD, 0)
