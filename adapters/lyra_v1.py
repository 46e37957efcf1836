"""Lyra v1 (Avalon and Newport): every option position with its collateral, series terms, and the pool behind them.

One market per option market that the viewer lists, `<deployment>/0x<OptionMarket>`. A position is an ERC-721 of the
OptionToken and stands alone: OptionLeg and margin Exposure carry its id in `ref`; pool shares carry ref `lp`. Positions
have 18 places whatever the token has; the Index of side margin turns collateral into the token's units.
Series (scope `series:<expiry_s>:<strike raw>`): `iv` = board iv * strike skew, by which trades are priced; `nav_iv` the
time-weighted one, by which the pool marks its book and computes its Greeks (at `cache_price`, `cache_updated_s`).
Source: @lyrafinance/protocol 0.1.3-alpha (Avalon), derivexyz/v1-core @ea9e36a (Newport: spot at the reference price and
rate come from the exchange adapter, which refuses a spot of 0: RateIsInvalid).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import NamedTuple

from aggregator.core.fixed import WAD, plain
from aggregator.core.ids import erc20, erc721

from aggregator.core.rows import (  # isort: skip
    AccountTerm, Asset, Claim, Exposure, Gap, Index, Market, OptionLeg, PositionRow, Price, Row, Term, Total,
)  # fmt: skip
from aggregator.core.solmath import wad_mul_down
from aggregator.sdk.adapter import Adapter, Answer, Call, Got, Revert, Target, View, Where
from aggregator.sdk.rows import ask, demand, fill, gap, need, once, priced
from aggregator.sdk.tokens import BALANCE_OF, OWNER_OF, TOTAL_SUPPLY, TRANSFER, ZERO, assets

LP, CHUNK = "lp", 200
REFERENCE, ACTIVE = 2, 1  # BaseExchangeAdapter.PriceType: what liquidations go by; OptionToken.PositionState
LONG_PUT, SHORT_CALL_BASE, SHORT_PUT_QUOTE = 1, 2, 4  # OptionMarket.OptionType; 0 is a long call, 3 a call on quote
POSITION = "(uint256,uint256,uint8,uint256,uint256,uint8)"  # id, strike, type, amount, collateral, state
INDEXED = "uint256 indexed positionId,address indexed owner,uint8 indexed updatedType"
UPDATED = f"PositionUpdated({INDEXED},{POSITION} position,uint256 timestamp)"


def _words(kinds: str) -> str:
    """'uui' -> two unsigned words and a signed one, as outputs."""
    return ",".join({"u": "uint256", "i": "int256", "a": "address"}[kind] for kind in kinds)


BOARD = "getOptionBoard(uint256)((uint256,uint256,uint256,bool,uint256[]))"  # id, expiry, iv, frozen, strikes
# id, strikes, expiry, iv, net delta, vega, value, updated at, at price, variances
BOARD_CACHE = f"getOptionBoardCache(uint256)((uint256,uint256[],{_words('uuiiiuuuu')}))"
STRIKE_AND_EXPIRY = "getStrikeAndExpiry(uint256)(uint256,uint256)"
STRIKE = f"getStrike(uint256)({_words('u' * 9)})"  # id, price, skew, five open interests, board
STRIKE_CACHE = f"getStrikeCache(uint256)({_words('uuuuiiuuuiiu')})"  # id, board, price, skew, CACHED, variance
CACHED = ("call_delta", "put_delta", "std_vega", "call_price", "put_price", "call_exposure", "put_exposure")
SETTLED = ("price_at_expiry", "base_returned_ratio", "long_scale_factor")  # the last in Newport alone
FEES = ("penalty_ratio", "liquidator_fee_ratio", "sm_fee_ratio", "min_liquidation_fee")
# question -> contract (a field of Parts), call, and the market terms in its answer from the given word on
MARKET: dict[str, tuple[str, str, int, tuple[str, ...]]] = {
    "boards": ("contract", "getLiveBoards()(uint256[])", 0, ()),
    "price": ("pool", "getTokenPriceWithCheck()(uint256,bool,uint256)", 0, ()),
    "supply": ("shares", TOTAL_SUPPLY, 0, ()),
    "collateral": ("cache", f"getMinCollatParams()({_words('u' * 8)})", 0, (
        "min_static_quote_collateral", "min_static_base_collateral", "shock_vol_a", "shock_vol_point_a_s",
        "shock_vol_b", "shock_vol_point_b_s", "call_spot_price_shock", "put_spot_price_shock",
    )),
    "fees": ("token", f"getPartialCollatParams()({_words('uuuu')})", 0, FEES),
    "net": ("cache", f"getGlobalCache()({_words('uuuuuiii')})", 5, ("net_delta", "net_std_vega", "net_option_value")),
    "hedge": ("hedger", "getCurrentHedgedNetDelta()(int256)", 0, ("hedger_delta",)),
    "nav": ("pool", "getTotalPoolValueQuote()(uint256)", 0, ("nav",)),
    "deposits": ("pool", "totalQueuedDeposits()(uint256)", 0, ("queued_deposits",)),
    "withdrawals": ("pool", "totalQueuedWithdrawals()(uint256)", 0, ("queued_withdrawals",)),
}  # fmt: skip


class Parts(NamedTuple):
    """One option market and its contracts; `adapter` gives the spot, in Newport the rate too."""

    market: str
    adapter: str
    newport: bool
    pool: str
    shares: str
    cache: str
    contract: str
    token: str
    hedger: str
    quote: str
    base: str


class LyraV1(Adapter):
    name = "lyra_v1"
    addresses = ("option_market_viewer",)
    required = (("option_market_viewer",),)

    async def discover(self, view: View, where: Where, since: int) -> AsyncIterator[Target]:
        for parts in (await _markets(view, where)).values():
            found = {Target(parts.market)}
            begin = since if found & set(where.markets) else where.start_block  # a market may be older than its listing
            async for log in view.logs([parts.token], [UPDATED], begin):  # transfers included
                found.add(Target(parts.market, ref=str(log.args["positionId"])))
            async for log in view.logs([parts.shares], [TRANSFER], begin):
                found |= {Target(parts.market, who, LP) for who in (log.args["from"], log.args["to"]) if who != ZERO}
            for target in sorted(found):
                yield target

    async def terms(self, view: View, where: Where) -> AsyncIterator[Row]:
        markets = await _markets(view, where)
        for gone in sorted({t.market for t in where.markets} - markets.keys()):
            yield Gap(gone, "unread", "the viewer no longer lists this market")
        known = list(markets.values())
        named = await assets(view, [a for p in known for a in (p.base, p.quote, p.shares)])
        for row in named.rows:
            yield row
        for parts, got in zip(known, await ask(view, [_questions(p) for p in known]), strict=True):
            boards = need(got["boards"], f"getLiveBoards of {parts.market}", where)
            for row in _market_rows(parts, boards, got, named):
                yield row
            async for row in _series(view, where, parts, boards, got["params"]):
                yield row

    async def read(self, view: View, where: Where, targets: Sequence[Target]) -> AsyncIterator[PositionRow | Gap]:
        markets = await _markets(view, where)
        wanted = [(t, markets[t.market]) for t in targets if t.ref and t.market in markets]
        answers = await ask(view, [_holding(t, parts) for t, parts in wanted])
        live = {(p.contract, a.values[1]) for (_, p), got in zip(wanted, answers, strict=True) if (a := _active(got))}
        (series,) = await ask(view, [{(to, i): Call(to, STRIKE_AND_EXPIRY, (i,)) for to, i in sorted(live)}])
        for (target, parts), got in zip(wanted, answers, strict=True):
            if position := _active(got):
                terms = series[parts.contract, position.values[1]]
                for row in _position(where.chain, parts, position, got["owner"], terms):
                    yield row
            elif isinstance(state := got["state"], Revert):
                yield gap(state, target, "balanceOf or position")
            elif target.ref == LP and state.value:
                asset = erc20(where.chain, parts.shares)
                yield Exposure(target.market, target.holder, LP, asset, "supply", state.value, state.src())


ADAPTER = LyraV1()


@once
async def _markets(view: View, where: Where) -> dict[str, Parts]:
    """Market id -> its contracts, by id. Both versions list them in one order; the name of the adapter tells which."""
    viewer = where.address("option_market_viewer")
    listed, avalon, newport = await view.calls([
        Call(viewer, f"getMarketAddresses()(({_words('a' * 10)})[])"),
        Call(viewer, "synthetixAdapter()(address)"),
        Call(viewer, "exchangeAdapter()(address)"),
    ])  # fmt: skip
    new = isinstance(newport, Answer)
    adapter = need(newport if new else avalon, "the viewer's exchange adapter", where).value
    out = {}
    rows = need(listed, "getMarketAddresses", where).value
    for pool, shares, cache, market, _, token, _, hedger, quote, base in rows:
        name = where.market_id(market)
        out[name] = Parts(name, adapter, new, pool, shares, cache, market, token, hedger, quote, base)
    return dict(sorted(out.items()))


def _questions(p: Parts) -> dict[str, Call]:
    asks = {name: Call(getattr(p, contract), sig) for name, (contract, sig, _, _) in MARKET.items()}
    params = Call(p.cache, f"getGreekCacheParams()({_words('u' * 9 + ('' if p.newport else 'i'))})")
    if p.newport:
        spot = Call(p.adapter, "getSpotPriceForMarket(address,uint8)(uint256)", (p.contract, REFERENCE))
        rate = Call(p.adapter, "rateAndCarry(address)(int256)", (p.contract,))
        liquidity = Call(p.pool, f"getLiquidity()({_words('u' * 7)})")
    else:
        spot = Call(p.adapter, "getSpotPriceForMarket(address)(uint256)", (p.contract,))
        rate, liquidity = params, Call(p.pool, f"getCurrentLiquidity()({_words('u' * 6)})")
    return asks | {"params": params, "rate": rate, "spot": spot, "liquidity": liquidity}


def _market_rows(p: Parts, boards: Answer, got: Mapping[str, Got], named: Mapping[str, Asset]) -> Iterator[Row]:
    base, quote, shares = named[p.base], named[p.quote], named[p.shares]
    yield Market(p.market, "option", "lyra_v1@1", f"{base.symbol}/{quote.symbol}", boards.src())
    blank = Term(p.market, "", "", "", 0, 18)
    yield fill(got["rate"], blank._replace(key="rate_and_carry"), 0 if p.newport else 9, what="rateAndCarry")
    yield fill(got["liquidity"], blank._replace(key="free_liquidity"), what="the pool's liquidity")
    for name, (_, _, first, keys) in MARKET.items():
        for word, key in enumerate(keys, first):
            yield fill(got[name], blank._replace(key=key, exp=0 if key.endswith("_s") else 18), word)
    yield priced(got["spot"], Price(p.market, base.id, quote.id, 0, 18, "live", 0, 0), "spot", zero_is_price=False)
    for asset in (base, quote):
        if asset.decimals >= 0:
            more = asset.decimals - 18
            yield Index(p.market, asset.id, "margin", 10 ** max(more, 0), 10 ** max(-more, 0), "down")
    yield Index(p.market, shares.id, "supply", 1, 1, "down")
    yield fill(got["supply"], Total(p.market, shares.id, "supply", 0), what="totalSupply")
    price = got["price"]
    if isinstance(price, Revert):
        yield gap(price, shares.id, "getTokenPriceWithCheck")
    elif quote.decimals >= 0:
        num = price.value * 10**quote.decimals
        yield Claim(shares.id, quote.id, "vault", num, WAD * WAD, p.market, src=price.src())
    if isinstance(price, Answer) and price.values[1] and boards.value:
        yield Gap(p.market, "stale_price", "the pool's Greeks and value are older than it allows", src=price.src(1))
    for key in ("deposits", "withdrawals"):
        if queued := got[key].value:
            detail = f"{plain(queued, 18)} of queued {key}: their owners are not read"
            yield Gap(p.market, "unlisted_accounts", detail, src=got[key].src())


async def _series(view: View, where: Where, p: Parts, listed: Answer, params: Got) -> AsyncIterator[Row]:
    """Every strike of a live board, and of older ones those in which a position is still open."""
    held, live = await _held(view, where, p), listed.value
    boards = await _each(view, where, p, BOARD, live)
    wanted = {i for board in boards.values() for i in board.value[4]} | held.keys()
    strikes = await _each(view, where, p, STRIKE, sorted(wanted))
    older = {strike.values[8] for strike in strikes.values()} - boards.keys()
    boards |= await _each(view, where, p, BOARD, sorted(older))
    periods = params.values[5:7] if isinstance(params, Answer) else (0, 0)
    asked = [_strike_questions(p, i, a.values[8], a.values[8] in live, periods) for i, a in strikes.items()]
    seen = set[str]()
    for (number, strike), answers in zip(strikes.items(), await ask(view, asked), strict=True):
        board = boards[strike.values[8]]
        _, expiry_s, board_iv, frozen, _ = board.value
        blank = Term(p.market, erc20(where.chain, p.base), f"series:{expiry_s}:{strike.values[1]}", "", 0, 18)
        if blank.scope in seen:
            yield Gap(p.market, "unread", f"strike {number} repeats {blank.scope}", accounts=held[number])
            continue
        seen.add(blank.scope)
        yield blank._replace(key="strike_id", raw=number, exp=0, src=strike.src())
        yield blank._replace(key="iv", raw=wad_mul_down(board_iv, strike.values[2]), src=strike.src(2))
        yield blank._replace(key="frozen", raw=int(frozen), exp=0, src=board.src(4))
        for row in _strike_rows(answers, blank):
            yield row
        settled = answers["settled"]
        if isinstance(settled, Answer) and not settled.values[1] and expiry_s <= view.at.time_s:
            yield Gap(p.market, "no_price", f"{blank.scope} has expired and awaits settlement", accounts=held[number])


async def _held(view: View, where: Where, p: Parts) -> Counter[int]:
    """Strike -> open positions, of all known ones."""
    ids = [int(t.ref) for t in where.targets if t.market == p.market and t.ref != LP]
    sig = f"getOptionPositions(uint256[])({POSITION}[])"
    asks = {i: Call(p.token, sig, (ids[i : i + CHUNK],)) for i in range(0, len(ids), CHUNK)}
    (answers,) = await demand(view, where, [asks])
    positions = [one for answer in answers.values() for one in answer.value]
    return Counter(strike for _, strike, _, _, _, state in positions if state == ACTIVE)


async def _each(view: View, where: Where, p: Parts, sig: str, ids: Sequence[int]) -> dict[int, Answer]:
    (found,) = await demand(view, where, [{i: Call(p.contract, sig, (i,)) for i in ids}])
    return found


def _strike_questions(p: Parts, strike: int, board: int, live: bool, periods: Sequence[int]) -> dict[str, Call]:
    sig = f"getSettlementParameters(uint256)({_words('u' * (4 if p.newport else 3))})"
    asks = {"settled": Call(p.contract, sig, (strike,))}
    if live:
        asks["cache"] = Call(p.cache, STRIKE_CACHE, (strike,))
        asks["board"] = Call(p.cache, BOARD_CACHE, (board,))
        asks["board_iv"] = Call(p.cache, "getIvGWAV(uint256,uint256)(uint256)", (board, periods[0]))
        asks["skew"] = Call(p.cache, "getSkewGWAV(uint256,uint256)(uint256)", (strike, periods[1]))
    return asks


def _strike_rows(got: Mapping[str, Got], blank: Term) -> Iterator[Row]:
    for name, answer in got.items():
        if isinstance(answer, Revert):
            yield gap(answer, blank.market, f"{name} of {blank.scope}")
    settled, cache, board, board_iv, skew = map(got.get, ("settled", "cache", "board", "board_iv", "skew"))
    if isinstance(settled, Answer) and settled.values[1]:
        for word, (key, raw) in enumerate(zip(SETTLED, settled.values[1:], strict=False), 1):
            yield blank._replace(key=key, raw=raw, src=settled.src(word))
    if isinstance(cache, Answer):
        for word, key in enumerate(CACHED, 4):
            yield blank._replace(key=key, raw=cache.values[word], src=cache.src(word))
    if isinstance(board, Answer):
        yield blank._replace(key="cache_updated_s", raw=board.value[7], exp=0, src=board.src(8))
        yield blank._replace(key="cache_price", raw=board.value[8], src=board.src(9))
    if isinstance(board_iv, Answer) and isinstance(skew, Answer):
        yield blank._replace(key="nav_iv", raw=wad_mul_down(board_iv.value, skew.value), src=skew.src())


def _holding(target: Target, p: Parts) -> dict[str, Call]:
    if target.ref == LP:
        return {"state": Call(p.shares, BALANCE_OF, (target.holder,))}
    state = Call(p.token, f"getOptionPosition(uint256){POSITION}", (int(target.ref),))
    return {"state": state, "owner": Call(p.token, OWNER_OF, (int(target.ref),))}


def _active(got: Mapping[str, Got]) -> Answer | None:
    state = got["state"]
    return state if "owner" in got and isinstance(state, Answer) and state.values[5] == ACTIVE else None


def _position(chain: int, p: Parts, state: Answer, owner: Got, terms: Got) -> Iterator[PositionRow | Gap]:
    number, strike_id, kind, amount, collateral, _ = state.values
    for failed in (owner, terms):
        if isinstance(failed, Revert):
            yield gap(failed, erc721(chain, p.token, number), "its owner and its series", accounts=1)
    if isinstance(owner, Revert) or isinstance(terms, Revert):
        return
    strike, expiry_s = terms.values
    base, quote = erc20(chain, p.base), erc20(chain, p.quote)
    held = base if kind == SHORT_CALL_BASE else quote
    right = "P" if kind in (LONG_PUT, SHORT_PUT_QUOTE) else "C"
    size = amount if kind <= LONG_PUT else -amount
    ref, who, src = str(number), owner.value, state.src(3)
    yield OptionLeg(p.market, who, ref, base, quote, right, "european", held, expiry_s, strike, size, 18, src)
    yield AccountTerm(p.market, who, ref, "strike_id", strike_id, state.src(1))
    if kind > LONG_PUT:
        yield Exposure(p.market, who, ref, held, "margin", collateral, state.src(4))
