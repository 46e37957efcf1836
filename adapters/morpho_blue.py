"""Morpho Blue: one market per market id, accounts from events, totals accrued to the cut as the contract would.

Interest is what `_accrueInterest` would book in a transaction at the cut's time: the rate model's `borrowRateView` over
the stored totals, three Taylor terms, fee shares minted to the recipient. Source: morpho-org/morpho-blue 1.0.0
(Morpho.sol, SharesMathLib.sol; `aggregator.core.solmath.morpho_accrue`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from aggregator.core.ids import erc20
from aggregator.core.rows import Asset, Exposure, Gap, Index, Market, PositionRow, Price, Row, Term, Total
from aggregator.core.solmath import VIRTUAL_ASSETS, VIRTUAL_SHARES, MorphoTotals, morpho_accrue
from aggregator.sdk.adapter import Adapter, Answer, Call, Got, Log, Revert, Target, View, Where
from aggregator.sdk.rows import ask, demand, gap, need, priced, questions
from aggregator.sdk.tokens import ZERO, assets

PARAMS = "(address,address,address,address,uint256)"  # loan, collateral, oracle, irm, lltv
STATE = "(uint128,uint128,uint128,uint128,uint128,uint128)"  # supply assets, shares, borrow assets, shares, time, fee
MARKET = {"params": f"idToMarketParams(bytes32){PARAMS}", "state": f"market(bytes32){STATE}"}
POSITION = "position(bytes32,address)(uint256,uint128,uint128)"  # supply shares, borrow shares, collateral
RECEIVED = "address indexed onBehalf,address indexed receiver"
# MorphoChainlinkOracleV2.sol: what its price is made of; other oracles answer price() alone
ORACLE_PARTS = ("BASE_VAULT", "BASE_FEED_1", "BASE_FEED_2", "QUOTE_FEED_1", "QUOTE_FEED_2")
SET_FEE_RECIPIENT = "SetFeeRecipient(address indexed newFeeRecipient)"
EVENTS = tuple(
    f"{name}(bytes32 indexed id,{arguments})"
    for name, arguments in {
        "CreateMarket": f"{PARAMS} marketParams",
        "Supply": "address indexed caller,address indexed onBehalf,uint256 assets,uint256 shares",
        "Withdraw": f"address caller,{RECEIVED},uint256 assets,uint256 shares",
        "Borrow": f"address caller,{RECEIVED},uint256 assets,uint256 shares",
        "Repay": "address indexed caller,address indexed onBehalf,uint256 assets,uint256 shares",
        "SupplyCollateral": "address indexed caller,address indexed onBehalf,uint256 assets",
        "WithdrawCollateral": f"address caller,{RECEIVED},uint256 assets",
        "Liquidate": "address indexed caller,address indexed borrower,uint256 repaidAssets,uint256 repaidShares,"
        "uint256 seizedAssets,uint256 badDebtAssets,uint256 badDebtShares",
        "AccrueInterest": "uint256 prevBorrowRate,uint256 interest,uint256 feeShares",
    }.items()
)


class MorphoBlue(Adapter):
    name = "morpho_blue"
    addresses = ("morpho",)
    required = (("morpho",),)

    async def discover(self, view: View, where: Where, since: int) -> AsyncIterator[Target]:
        accrued, changes = list[Log](), list[Log]()
        async for log in view.logs([where.address("morpho")], [*EVENTS, SET_FEE_RECIPIENT], since):
            if log.event == "SetFeeRecipient":
                changes.append(log)
                yield _recipient(where, log.args["newFeeRecipient"])
                continue
            market = _market(where, log)
            yield Target(market)  # not from CreateMarket alone: start_block may come after it
            match log.event:
                case "AccrueInterest":
                    accrued += [log] if log.args["feeShares"] else []
                case "Liquidate":
                    yield Target(market, log.args["borrower"])
                case event if event != "CreateMarket":
                    yield Target(market, log.args["onBehalf"])
        async for log, recipient in _fees(view, where, accrued, changes):
            yield Target(_market(where, log), recipient)

    async def terms(self, view: View, where: Where) -> AsyncIterator[Row]:
        morpho = where.address("morpho")
        if not where.markets:  # none made yet, or no Morpho at all
            await demand(view, where, [{"owner": Call(morpho, "owner()(address)")}])
        known = await demand(view, where, [questions(morpho, MARKET, _id(m)) for m in where.markets])
        named = await assets(view, [a for own in known for a in own["params"].values[:2] if a != ZERO])
        for row in named.rows:
            yield row
        asked = await ask(view, [_questions(**own) for own in known])
        for market, own, got in zip(where.markets, known, asked, strict=True):
            for row in _terms(view.at.time_s, market.market, **own, got=got, named=named):
                yield row

    async def read(self, view: View, where: Where, targets: Sequence[Target]) -> AsyncIterator[PositionRow | Gap]:
        morpho = where.address("morpho")
        accounts = [t for t in targets if t.holder and t.market != where.id]
        (tokens,) = await demand(view, where, [{t.market: Call(morpho, MARKET["params"], (_id(t),)) for t in accounts}])
        positions = await view.calls([Call(morpho, POSITION, (_id(t), t.holder)) for t in accounts])
        for t, position in zip(accounts, positions, strict=True):
            if isinstance(position, Revert):
                yield gap(position, t, "position")
                continue
            loan, collateral = tokens[t.market].values[:2]
            for word, (side, token) in enumerate((("supply", loan), ("debt", loan), ("collateral", collateral))):
                if shares := position.values[word]:
                    asset = erc20(where.chain, token)
                    yield Exposure(t.market, t.holder, "", asset, side, shares, position.src(word))


ADAPTER = MorphoBlue()


def _market(where: Where, log: Log) -> str:
    return where.market_id("0x" + log.args["id"].hex())


def _id(target: Target) -> bytes:
    return bytes.fromhex(target.key.removeprefix("0x"))


def _recipient(where: Where, address: str) -> Target:
    """A note that this account was the fee recipient once: discovery goes by ranges and must know earlier ones."""
    return Target(where.id, address)


async def _fees(
    view: View, where: Where, accrued: Sequence[Log], changes: Sequence[Log]
) -> AsyncIterator[tuple[Log, str]]:
    """Each accrual that minted fee shares, with who was the recipient then: an account that no other event names.

    Before the first change in this range it was one of those noted earlier; to name them all does no harm.
    """
    if not accrued:
        return
    earlier = {t.holder for t in where.targets if t.market == where.id} or {ZERO}
    if not changes:
        (now,) = await view.calls([Call(where.address("morpho"), "feeRecipient()(address)")])
        earlier.add(need(now, "feeRecipient", where).value)
    for log in accrued:
        before = [h.args["newFeeRecipient"] for h in changes if (h.block, h.log_index) < (log.block, log.log_index)]
        for recipient in before[-1:] or sorted(earlier):
            yield log, recipient


def _questions(params: Answer, state: Answer) -> dict[str, Call]:
    oracle, irm = params.values[2:4]
    asks = {} if params.values[1] == ZERO else {"price": Call(oracle, "price()(uint256)")}
    asks |= {part: Call(oracle, f"{part}()(address)") for part in ORACLE_PARTS if asks}
    if irm != ZERO:
        asks["rate"] = Call(irm, f"borrowRateView({PARAMS},{STATE})(uint256)", (params.values, state.values))
    return asks


def _terms(
    time_s: int, market: str, params: Answer, state: Answer, got: dict[str, Got], named: dict[str, Asset]
) -> Iterator[Row]:
    loan, collateral = (named.get(a) for a in params.values[:2])
    title = "/".join(a.symbol if a else "-" for a in (collateral, loan))
    yield Market(market, "lending", "morpho_blue@1", title, params.src())
    for word, key in ((2, "oracle"), (3, "irm")):
        yield Term(market, "", "", key, int(params.values[word], 16), 0, params.src(word))
    yield Term(market, "", "", "lltv_wad", params.values[4], 0, params.src(4))
    supply_assets, supply_shares, borrow_assets, borrow_shares, last_update_s, fee_wad = state.values
    yield Term(market, "", "", "last_update_s", last_update_s, 0, state.src(4))
    yield Term(market, "", "", "fee_wad", fee_wad, 0, state.src(5))
    if loan is None:  # anybody may open such a market; nothing can be in it
        yield Gap(market, "no_code", "the market lends the zero address", accounts=0, src=params.src(0))
        return
    yield Total(market, loan.id, "supply", supply_shares, state.src(1))
    yield Total(market, loan.id, "debt", borrow_shares, state.src(3))

    if collateral:
        yield Index(market, collateral.id, "collateral", 1, 1, "down", params.src(1))
        yield _price(market, collateral, loan, got)

    rate = got.get("rate")  # a market without a rate model earns nothing
    if isinstance(rate, Revert):
        yield gap(rate, market, "borrowRateView")
    if not isinstance(rate, Revert) or not borrow_assets:  # without debt there is no interest at any rate
        rate_wad, src = (rate.value or 0, rate.src()) if rate else (0, b"")
        totals = MorphoTotals(supply_assets, supply_shares, borrow_assets, borrow_shares)
        totals = morpho_accrue(totals, rate_wad, fee_wad, time_s - last_update_s)
        if max(totals) >= 2**128:
            yield Gap(market, "reverted", f"interest at {rate_wad} a second overflows uint128", src=src)
            return
        yield Term(market, "", "", "rate_wad", rate_wad, 0, src)
        for word, (key, raw) in enumerate(totals._asdict().items()):
            yield Term(market, "", "", f"total_{key}", raw, 0, state.src(word))
        num, den = totals.supply_assets + VIRTUAL_ASSETS, totals.supply_shares + VIRTUAL_SHARES
        yield Index(market, loan.id, "supply", num, den, "down", state.src(0))
        num, den = totals.borrow_assets + VIRTUAL_ASSETS, totals.borrow_shares + VIRTUAL_SHARES
        yield Index(market, loan.id, "debt", num, den, "up", state.src(2))


def _price(market: str, collateral: Asset, loan: Asset, got: dict[str, Got]) -> Row:
    if collateral.decimals < 0 or loan.decimals < 0:
        return Gap(collateral.id, "bad_decimals", f"price in {market} has no scale")
    exp = 36 + loan.decimals - collateral.decimals
    blank = Price(market, collateral.id, loan.id, 0, exp, _path(got), 0, 0)
    return priced(got["price"], blank, "price", zero_is_price=True)


def _path(got: dict[str, Got]) -> str:
    """constant: no feed at all, so no market price moves it; rate: the backing of a vault's share, not its market."""
    vault, *feeds = [got[part].value for part in ORACLE_PARTS]
    if None in (vault, *feeds):
        return "feed"
    if not any(feed != ZERO for feed in feeds):
        return "constant"
    return "feed" if vault == ZERO else "rate"
