"""Perpetual Protocol v2 "Curie": every trader's positions, makers' ranges included, margin, profit and funding owed.

One market per clearing house. Positions are the contracts' own views at the cut: a maker's size moves with everybody's
trades and funding with time, so whoever has a position is read anew in every run. Balances of the vault may be
negative: then the account has a term `settlement_balance` and no margin row. The Price of a perpetual is what accounts
are judged by: the mark; once trading is halted, the price it was halted at (path constant). The index is the term
`index_price`. The clearing house counts its settlement token as one dollar, and so do these prices.
Source: @perp/curie-contract 2.8.4 (ClearingHouse, AccountBalance, Exchange, Vault, CollateralManager, InsuranceFund).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

from aggregator.core.ids import USD, erc20

from aggregator.core.rows import (  # isort: skip
    AccountTerm, Asset, Backstop, Exposure, Gap, Market, PerpPosition, PositionRow, Price, Row, Term,
)  # fmt: skip
from aggregator.sdk.adapter import Adapter, Answer, Call, Got, Revert, Target, View, Where
from aggregator.sdk.rows import ask, demand, fill, gap, need, once, priced, questions
from aggregator.sdk.tokens import ZERO, assets

COLLATERAL_TWAP_S = 900  # Vault._COLLATERAL_TWAP_INTERVAL
EVENTS = {
    "house": (
        "PositionChanged(address indexed trader,address indexed baseToken,int256 size,int256 notional,uint256 fee,"
        "int256 openNotional,int256 realizedPnl,uint256 sqrtPriceAfterX96)",
        "PositionClosed(address indexed trader,address indexed baseToken,int256 size,int256 notional,"
        "int256 openNotional,int256 realizedPnl,uint256 closedPrice)",
        "PositionLiquidated(address indexed trader,address indexed baseToken,uint256 notional,uint256 size,uint256 fee,"
        "address liquidator)",
        "LiquidityChanged(address indexed trader,address indexed baseToken,address indexed quoteToken,int24 lower,"
        "int24 upper,int256 base,int256 quote,int128 liquidity,uint256 quoteFee)",
        "FundingPaymentSettled(address indexed trader,address indexed baseToken,int256 fundingPayment)",
    ),
    "balance": ("PnlRealized(address indexed trader,int256 amount)",),
    "vault": (
        "Deposited(address indexed token,address indexed trader,uint256 amount)",
        "Withdrawn(address indexed token,address indexed trader,uint256 amount)",
        "CollateralLiquidated(address indexed trader,address indexed token,address indexed liquidator,"
        "uint256 collateral,uint256 repaid,uint256 fee,uint24 discountRatio)",
        "BadDebtSettled(address indexed trader,uint256 amount)",
    ),
}
POOL_ADDED = "PoolAdded(address indexed token,uint24 indexed feeRatio,address indexed pool)"
COLLATERAL_ADDED = (
    "CollateralAdded(address indexed token,address feed,uint24 collateralRatio,uint24 discountRatio,uint256 depositCap)"
)
# a contract that is known -> those that it names
PARTS = {
    "house": {
        "vault": "getVault()(address)",
        "balance": "getAccountBalance()(address)",
        "exchange": "getExchange()(address)",
        "config": "getClearingHouseConfig()(address)",
        "fund": "getInsuranceFund()(address)",
    },
    "exchange": {"registry": "getMarketRegistry()(address)"},
    "vault": {"token": "getSettlementToken()(address)", "manager": "getCollateralManager()(address)"},
}
# term -> part, call
TERMS = {
    "im_ratio_pips": ("config", "getImRatio()(uint24)"),
    "mm_ratio_pips": ("config", "getMmRatio()(uint24)"),
    "liquidation_penalty_pips": ("config", "getLiquidationPenaltyRatio()(uint24)"),
    "partial_close_ratio_pips": ("config", "getPartialCloseRatio()(uint24)"),
    "max_funding_rate_pips": ("config", "getMaxFundingRate()(uint24)"),
    "index_twap_s": ("config", "getTwapInterval()(uint32)"),
    "collateral_mm_ratio_pips": ("vault", "getCollateralMmRatio()(uint24)"),
    "settlement_decimals": ("vault", "decimals()(uint8)"),
    "insurance_fund_capacity": ("fund", "getInsuranceFundCapacity()(int256)"),
}
# what is asked of every account, and of every perpetual it is in: (part, call)
ACCOUNT = {
    "bases": ("balance", "getBaseTokens(address)(address[])"),
    "collaterals": ("vault", "getCollateralTokens(address)(address[])"),
    "settlement": ("vault", "getBalance(address)(int256)"),
    "pnl": ("balance", "getPnlAndPendingFee(address)(int256,int256,uint256)"),
    "has_order": ("balance", "hasOrder(address)(bool)"),
}
POSITION = {
    "size": ("balance", "getTotalPositionSize(address,address)(int256)"),
    "notional": ("balance", "getTotalOpenNotional(address,address)(int256)"),
    "funding": ("exchange", "getPendingFundingPayment(address,address)(int256)"),
}
HELD = "getBalanceByToken(address,address)(int256)"


class PerpCurie(Adapter):
    name = "perp_curie"
    addresses = ("clearing_house",)
    required = (("clearing_house",),)

    async def discover(self, view: View, where: Where, since: int) -> AsyncIterator[Target]:
        parts = await _parts(view, where)
        found, traders = set[Target](), {parts["fund"]}  # the fund pays bad debt without an event of its own
        for contract, event in ((parts["registry"], POOL_ADDED), (parts["manager"], COLLATERAL_ADDED)):
            async for log in view.logs([contract], [event], since):
                found.add(Target(where.market_id(log.args["token"])))  # remembered for the market's rows
        for part, events in EVENTS.items():
            async for log in view.logs([parts[part]], events, since):
                traders |= {log.args[who] for who in ("trader", "liquidator") if who in log.args}
        # the state is the cut's in every window: to ask those known from before once, at the end, is enough
        known = sorted({t.holder for t in where.targets} - traders) if view.last == view.at.number else []
        (inside,) = await ask(view, [{who: Call(parts["balance"], ACCOUNT["bases"][1], (who,)) for who in known}])
        traders |= {who for who, bases in inside.items() if isinstance(bases, Revert) or bases.value}
        for target in sorted(found | {Target(where.id, who) for who in traders}):
            yield target

    async def terms(self, view: View, where: Where) -> AsyncIterator[Row]:
        parts = await _parts(view, where)
        tokens = [m.key for m in where.markets]
        named = await assets(view, [parts["token"], *tokens])
        for row in named.rows:
            yield row
        (got,) = await ask(view, [_of(parts, TERMS)])
        settlement, fund = named[parts["token"]], got["insurance_fund_capacity"]
        src = need(got["mm_ratio_pips"], "getMmRatio", where).src()
        yield Market(where.id, "perp", "perp_curie@1", f"Curie in {settlement.symbol}", src)
        for key, answer in got.items():
            exp = settlement.decimals if key == "insurance_fund_capacity" else 6 if key.endswith("_pips") else 0
            yield fill(answer, Term(where.id, "", "", key, 0, exp))
        if isinstance(fund, Answer):  # a fund that owes has nothing to pay with
            yield Backstop(where.id, "insurance_fund", settlement.id, 0, max(fund.value, 0), fund.src())
        interval_s = got["index_twap_s"].value or 0
        asked = await ask(view, [_questions(parts, token, interval_s) for token in tokens])
        for token, answers in zip(tokens, asked, strict=True):
            rows_of = _collateral_rows if answers["pool"].value in (None, ZERO) else _base_rows
            for row in rows_of(where.id, named[token], answers):
                yield row

    async def read(self, view: View, where: Where, targets: Sequence[Target]) -> AsyncIterator[PositionRow | Gap]:
        parts, traders = await _parts(view, where), [t.holder for t in targets if t.holder]
        accounts = await ask(view, [_of(parts, ACCOUNT, who) for who in traders])
        asked = [_holdings(parts, who, got) for who, got in zip(traders, accounts, strict=True)]
        for who, got, more in zip(traders, accounts, await ask(view, asked), strict=True):
            for row in _account(where, who, erc20(where.chain, parts["token"]), got | more):
                yield row


ADAPTER = PerpCurie()


@once
async def _parts(view: View, where: Where) -> dict[str, str]:
    out = {"house": where.address("clearing_house")}
    for part, named in PARTS.items():
        (got,) = await demand(view, where, [questions(out[part], named)])
        out |= {name: answer.value for name, answer in got.items()}
    return out


def _of(parts: Mapping[str, str], table: Mapping[str, tuple[str, str]], *args: str) -> dict[str, Call]:
    return {key: Call(parts[part], sig, args) for key, (part, sig) in table.items()}


def _holdings(parts: Mapping[str, str], who: str, got: Mapping[str, Got]) -> dict[str, Call]:
    """What to ask of every perpetual and every collateral that the account is in."""
    asks = dict[str, Call]()
    for base in got["bases"].value or ():
        asks |= {f"{key} {base}": call for key, call in _of(parts, POSITION, who, base).items()}
    return asks | {f"held {t}": Call(parts["vault"], HELD, (who, t)) for t in got["collaterals"].value or ()}


def _questions(parts: Mapping[str, str], token: str, interval_s: int) -> dict[str, Call]:
    """Of a token that may be a perpetual or a collateral: what is not asked rightly reverts."""
    return {
        "pool": Call(parts["registry"], "getMarketInfo(address)(address,uint24,uint24,uint24,uint24)", (token,)),
        "open": Call(token, "isOpen()(bool)"),
        "closed": Call(token, "isClosed()(bool)"),
        "mark": Call(parts["balance"], "getMarkPrice(address)(uint256)", (token,)),
        "paused_price": Call(token, "getPausedIndexPrice()(uint256)"),
        "closed_price": Call(token, "getClosedPrice()(uint256)"),
        "index": Call(token, "getIndexPrice(uint256)(uint256)", (interval_s,)),
        "config": Call(parts["manager"], "getCollateralConfig(address)(address,uint24,uint24,uint256)", (token,)),
        "price": Call(parts["manager"], "getPrice(address,uint256)(uint256)", (token, COLLATERAL_TWAP_S)),
        "places": Call(parts["manager"], "getPriceFeedDecimals(address)(uint8)", (token,)),
    }


def _base_rows(market: str, base: Asset, got: Mapping[str, Got]) -> Iterator[Row]:
    """AccountBalance._getReferencePrice; a token older than pausing has no isOpen() and trades.

    A market may be closed at 0. Elsewhere a feed refuses 0 (ChainlinkPriceFeedV3), and answers it before its first.
    """
    halted = got["open"].value is False
    price = got["closed_price" if got["closed"].value else "paused_price" if halted else "mark"]
    path = "constant" if halted else "mark"
    blank = Price(market, base.id, USD, 0, 18, path, 0, 0)
    yield priced(price, blank, "the price accounts are judged by", zero_is_price=bool(got["closed"].value))
    yield fill(got["index"], Term(market, base.id, "", "index_price", 0, 18), what="getIndexPrice")
    for word, key in ((1, "exchange_fee_pips"), (3, "insurance_fund_fee_pips")):
        yield fill(got["pool"], Term(market, base.id, "", key, 0, 6), word, what="getMarketInfo")
    yield Term(market, base.id, "", "open", int(not halted), 0, got["open"].src())


def _collateral_rows(market: str, token: Asset, got: Mapping[str, Got]) -> Iterator[Row]:
    for word, key in ((1, "collateral_ratio_pips"), (2, "discount_ratio_pips")):
        yield fill(got["config"], Term(market, token.id, "", key, 0, 6), word, what="getCollateralConfig")
    places = got["places"]
    price = places if isinstance(places, Revert) else got["price"]  # without its places the number says nothing
    exp = places.value if isinstance(places, Answer) else 18
    blank = Price(market, token.id, USD, 0, exp, "feed", 0, 0)
    yield priced(price, blank, "getPrice of the collateral manager", zero_is_price=False)


def _account(where: Where, who: str, settlement: str, got: Mapping[str, Got]) -> Iterator[PositionRow | Gap]:
    known = {key: answer for key, answer in got.items() if isinstance(answer, Answer)}
    for key, answer in got.items():
        if isinstance(answer, Revert):
            yield gap(answer, Target(where.id, who), key)
    if len(known) < len(got):
        return  # half an account would be judged as a whole one
    for key in ("settlement", *(key for key in got if key.startswith("held "))):
        raw, src = known[key].value, known[key].src()
        asset = settlement if key == "settlement" else erc20(where.chain, key.removeprefix("held "))
        if raw > 0:
            yield Exposure(where.id, who, "", asset, "margin", raw, src)
        elif raw < 0:
            yield AccountTerm(where.id, who, "", "settlement_balance", raw, src)
    for key, name, word in (("pnl", "owed_realized_pnl", 0), ("pnl", "pending_fee", 2), ("has_order", "has_order", 0)):
        if raw := int(known[key].values[word]):
            yield AccountTerm(where.id, who, "", name, raw, known[key].src(word))
    for base in known["bases"].value:
        asset = erc20(where.chain, base)
        size, notional, funding = (known[f"{key} {base}"] for key in POSITION)
        if size.value or notional.value:
            yield PerpPosition(where.id, who, "", asset, size.value, notional.value, 18, size.src())
        if funding.value:
            yield AccountTerm(where.id, who, asset, "pending_funding", funding.value, funding.src())
