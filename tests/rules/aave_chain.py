"""An account as the core type, read from a real Aave market's own views by hand (no adapter in between), and the
liquidation of it, prediction against deed.
"""

from __future__ import annotations

import pytest

from aggregator.core.account import Account, Leg, Liquidation, mul_div
from aggregator.core.fixed import RAY, Fixed
from aggregator.rules import WouldRevertError
from aggregator.rules.aave_v3 import AaveV3
from tests.devnet.aave import Aave
from tests.devnet.contract import Reverted
from tests.devnet.tokens import ZERO_ADDRESS

MAX = 2**256 - 1


def rule_for(market: Aave) -> AaveV3:
    major, minor = market.version.split(".")
    return AaveV3((int(major), int(minor)))


def account_on(market: Aave, user: str) -> Account:
    """User's account at the latest block; assets go by symbol."""
    pool, directional = market.pool, market.version == "3.6"
    flags = pool.call("getUserConfiguration", user)[0]
    legs: list[Leg] = []
    for symbol, reserve in market.reserves.items():
        where = reserve.asset.address
        config = pool.call("getConfiguration", where)[0]
        data = pool.read("getReserveData", where)
        terms = {
            "ltv_bps": config & 0xFFFF, "liquidation_threshold_bps": config >> 16 & 0xFFFF,
            "liquidation_bonus_bps": config >> 32 & 0xFFFF, "active": config >> 56 & 1, "paused": config >> 60 & 1,
            "liquidation_protocol_fee_bps": config >> 152 & 0xFFFF, "emode_category": config >> 168 & 0xFF,
            "reserve_id": data["id"],
        }  # fmt: skip
        price = Fixed(market.oracle.call("getAssetPrice", where), 8)
        pledged, borrowed = flags >> 2 * data["id"] + 1 & 1, flags >> 2 * data["id"] & 1
        for side, token, view, flag in (
            ("collateral" if pledged else "supply", market.a_token(symbol), "getReserveNormalizedIncome", True),
            ("debt", market.debt_token(symbol), "getReserveNormalizedVariableDebt", borrowed),
        ):
            shares = token.call("scaledBalanceOf", user)
            if shares and flag:
                index = pool.call(view, where)
                rounding = "half_up" if not directional else "up" if side == "debt" else "down"
                amount = mul_div(shares, index, RAY, rounding)
                assert amount == token.call("balanceOf", user)
                legs.append(Leg(symbol, side, shares, amount, config >> 48 & 0xFF, price, terms, num=index, den=RAY))
    emode = pool.call("getUserEMode", user)
    terms = {"base_unit_exp": 8, **(_emode_terms(market, emode) if emode else {})}
    time_s = market.chain.block()["timestamp"]
    return Account(
        "eip155:1/aave_v3/x", user.lower(), f"aave_v3@{market.version}", tuple(legs), terms, {"emode": emode}, time_s
    )


def _emode_terms(market: Aave, emode: int) -> dict[str, int]:
    if market.version == "3.0":
        ltv, threshold, bonus, source, _ = market.pool.call("getEModeCategoryData", emode)[:5]
        price = market.oracle.call("getAssetPrice", source) if source != ZERO_ADDRESS else 0
        extra = {"price_source": int(source, 16), "price": price}
    else:
        ltv, threshold, bonus = market.pool.call("getEModeCategoryCollateralConfig", emode)
        extra = {
            "collateral_bitmap": market.pool.call("getEModeCategoryCollateralBitmap", emode),
            "ltvzero_bitmap": market.pool.call("getEModeCategoryLtvzeroBitmap", emode),
        }
    terms = {"ltv_bps": ltv, "liquidation_threshold_bps": threshold, "liquidation_bonus_bps": bonus, **extra}
    return {f"emode:{emode}:{key}": value for key, value in terms.items()}


def at_time(market: Aave, time_s: int, user: str) -> Account:
    """The account as the pool will see it in a block at time_s."""
    with market.chain.undone():
        market.chain.rpc("evm_setNextBlockTimestamp", time_s)
        market.chain.rpc("evm_mine")
        return account_on(market, user)


def call_pool(
    market: Aave, time_s: int, account: Account, pair: tuple[str, str], cover: int, said: Liquidation | None
) -> None:
    """Send the liquidation and compare all that it moved; said None: it must revert."""
    collateral, debt = (market.asset(symbol) for symbol in pair)
    liquidator = market.chain.accounts[2]
    held, treasury = collateral.token.call("balanceOf", liquidator), market.a_token(pair[0])
    stored = 0 if market.version == "3.0" else sum(market.deficit(s) for s in market.reserves)
    market.chain.rpc("evm_setNextBlockTimestamp", time_s)
    arguments = (collateral.address, debt.address, account.holder, cover, False)
    if said is None:
        with pytest.raises(Reverted):
            market.pool.send("liquidationCall", *arguments, sender=liquidator)
        return
    receipt = market.pool.send("liquidationCall", *arguments, sender=liquidator)
    (event,) = market.pool.events(receipt, "LiquidationCall")
    assert event["debtToCover"] == said.repaid
    assert event["liquidatedCollateralAmount"] == said.to_liquidator
    spent = said.repaid if pair[0] == pair[1] else 0
    assert collateral.token.call("balanceOf", liquidator) - held == said.to_liquidator - spent
    sent = [e["value"] for e in treasury.events(receipt, "Transfer") if e["to"] == market.treasury]
    assert sum(sent) == said.protocol_fee
    assert market.supplied(account.holder, pair[0]) == said.left_collateral
    assert market.owed(account.holder, pair[1]) == said.left_debt
    if market.version == "3.0":
        assert said.bad_debt == {}
        return
    created = {e["debtAsset"]: e["amountCreated"] for e in market.pool.events(receipt, "DeficitCreated")}
    assert created == {market.asset(s).address: raw for s, raw in said.bad_debt.items()}
    assert sum(market.deficit(s) for s in market.reserves) - stored == sum(said.bad_debt.values())
    for symbol in said.bad_debt:
        assert market.owed(account.holder, symbol) == 0


def outcome(rule: AaveV3, account: Account, pair: tuple[str, str], cover: int) -> Liquidation | None:
    try:
        return rule.liquidate(account, *pair, cover)
    except WouldRevertError:
        return None
