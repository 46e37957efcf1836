"""Lyra v1 read from its own bytecode: every position, margin by our rules, the pool's Greeks by our formulas."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest

from adapters.lyra_v1 import ADAPTER
from aggregator.core.account import Account
from aggregator.core.errors import SourceError
from aggregator.core.ids import erc20
from aggregator.core.rows import (
    AccountTerm,
    Claim,
    Exposure,
    Gap,
    Index,
    Market,
    OptionLeg,
    Price,
    Row,
    Term,
    Total,
)
from aggregator.quant import black
from aggregator.rules.lyra_v1 import Kind, LyraV1
from aggregator.sdk.testing import FakeView, collect_rows
from tests.adapters.reading import (
    Reading,
    assert_incremental,
    at_address,
    read,
    where_is,
)
from tests.devnet.lyra import BASE_KEY, Lyra, OptionType
from tests.devnet.tokens import ZERO_ADDRESS
from tests.devnet.worlds import World

RULE, WAD, DAY = LyraV1(), 10**18, 86_400


def the(world: World) -> Lyra:
    assert world.lyra
    return world.lyra


async def reading_of(world: World) -> Reading:
    return await read(ADAPTER, world.chains[10], where_is(world, "lyra_v1", 10))


def terms_of(rows: Iterable[Term]) -> dict[str, dict[str, int]]:
    """scope -> key -> raw."""
    out: dict[str, dict[str, int]] = defaultdict(dict)
    for term in rows:
        out[term.scope][term.key] = term.raw
    return out


def options(reading: Reading) -> list[tuple[Account, str]]:
    return [(a, leg.ref) for a in reading.accounts for leg in a.legs if leg.side in ("long", "short")]


async def test_every_position_is_the_option_tokens_own(three_chains_world: World) -> None:
    lyra, reading = the(three_chains_world), await reading_of(three_chains_world)
    at, token = reading.at.hash, lyra.option_token
    base, quote = erc20(10, lyra.base.address), erc20(10, lyra.quote.address)
    states: Counter[int] = Counter()
    for number in range(1, token.call("nextId", block=at)):
        _, strike_id, kind, amount, collateral, state = token.call("getOptionPosition", number, block=at)
        legs = reading.of(OptionLeg, ref=str(number))
        margin = reading.of(Exposure, ref=str(number))
        states[state] += 1
        if state != 1:
            assert not legs
            assert not margin
            continue
        (leg,) = legs
        strike, expiry_s = lyra.market.call("getStrikeAndExpiry", strike_id, block=at)
        assert leg.holder == token.call("ownerOf", number, block=at).lower()
        assert (leg.underlying, leg.quote, leg.strike, leg.expiry_s) == (base, quote, strike, expiry_s)
        assert leg.size == (amount if kind <= OptionType.LONG_PUT else -amount)
        assert leg.right == ("P" if kind in (OptionType.LONG_PUT, OptionType.SHORT_PUT_QUOTE) else "C")
        assert reading.one(AccountTerm, ref=str(number), key="strike_id").raw == strike_id
        held = base if kind == OptionType.SHORT_CALL_BASE else quote
        expected = [(leg.holder, held, "margin", collateral)] if kind >= OptionType.SHORT_CALL_BASE else []
        assert [(m.holder, m.asset, m.side, m.shares) for m in margin] == expected
    assert {1, 2, 3, 4} <= set(states), "active, closed, liquidated and settled"
    assert len({(leg.right, leg.size > 0, leg.settle == base) for leg in reading.of(OptionLeg)}) == 5


async def test_positions_add_up_to_the_open_interest_of_every_live_strike(three_chains_world: World) -> None:
    lyra, reading = the(three_chains_world), await reading_of(three_chains_world)
    sums: Counter[tuple[int, int]] = Counter()
    for account, ref in options(reading):
        (position,) = [p for p in RULE.positions(account) if p.ref == ref]
        sums[account.own[f"{ref}:strike_id"], int(position.kind)] += position.amount
    fields = ("longCall", "longPut", "shortCallBase", "shortCallQuote", "shortPut")
    strikes = [s for board in lyra.boards(reading.at.hash) for s in lyra.strikes(board)]
    for strike in strikes:
        theirs = lyra.market.read("getStrike", strike, block=reading.at.hash)
        assert [sums[strike, kind] for kind in range(5)] == [theirs[field] for field in fields]
        scope = f"series:{lyra.market.call('getStrikeAndExpiry', strike)[1]}:{theirs['strikePrice']}"
        term = terms_of(reading.of(Term))[scope]
        assert term["call_exposure"] == theirs["longCall"] - theirs["shortCallBase"] - theirs["shortCallQuote"]
        assert term["put_exposure"] == theirs["longPut"] - theirs["shortPut"]
    assert sum(1 for s in strikes if any(sums[s, k] for k in range(5))) > 5


@pytest.mark.parametrize(("usd", "later_s"), [(1_721.5, 0), (1_450.25, 2 * DAY), (2_600, 9 * DAY)])
async def test_margin_and_liquidation_by_our_rows_are_the_contracts(world: World, usd: float, later_s: int) -> None:
    lyra = the(world)
    lyra.rates.send("setRateAndInvalid", BASE_KEY, int(usd * WAD), False)
    world.chains[10].warp(later_s + 1)
    reading = await reading_of(world)
    verdicts: Counter[bool] = Counter()
    for account, ref in options(reading):
        (position,) = [p for p in RULE.positions(account) if p.ref == ref]
        raw = lyra.option_token.call("getOptionPosition", int(ref), block=reading.at.hash)
        if position.expiry_s <= reading.at.time_s:
            continue
        assert position.spot == int(usd * WAD)
        if position.kind >= Kind.SHORT_CALL_BASE:
            theirs = lyra.greek_cache.call(
                "getMinCollateral",
                int(position.kind),
                position.strike,
                position.expiry_s,
                position.spot,
                position.amount,
                block=reading.at.hash,
            )
            assert RULE.min_collateral(account, position) == theirs
        ours = RULE.can_liquidate(account, position)
        terms = (position.expiry_s, position.strike, position.spot)
        assert ours == lyra.option_token.call("canLiquidate", tuple(raw), *terms, block=reading.at.hash)
        verdicts[ours] += 1
    assert verdicts[True]
    assert verdicts[False] > 10


async def test_pool_figures_are_the_contracts(three_chains_world: World) -> None:
    lyra, reading = the(three_chains_world), await reading_of(three_chains_world)
    at, terms = reading.at.hash, terms_of(reading.of(Term, asset=""))[""]
    cache = lyra.greek_cache.read("getGlobalCache", block=at)
    greeks = list(cache["netGreeks"].values())
    assert [terms[k] for k in ("net_delta", "net_std_vega", "net_option_value")] == greeks
    assert terms["hedger_delta"] == lyra.pool_hedger.call("getCurrentHedgedNetDelta", block=at)
    assert terms["nav"] == lyra.pool.call("getTotalPoolValueQuote", block=at)
    assert terms["free_liquidity"] == lyra.pool.read("getCurrentLiquidity", block=at)["freeLiquidity"]
    assert reading.one(Price).raw == lyra.adapter.call("getSpotPriceForMarket", lyra.market.address, block=at)
    # pool shares: all of them, and what one is worth
    share = erc20(10, lyra.pool_token.address)
    assert sum(r.shares for r in reading.of(Exposure, asset=share)) == reading.one(Total, asset=share).raw
    claim = reading.one(Claim, asset=share)
    assert claim.num * WAD == lyra.pool.call("getTokenPrice", block=at) * claim.den
    assert claim.market == reading.one(Market).market
    (queued,) = reading.of(Gap)
    assert (queued.reason, queued.subject) == ("unlisted_accounts", claim.market)
    assert queued.detail.startswith("25000.000000000000000000 of queued deposits")


async def test_greeks_of_our_formulas_are_the_pools(world: World) -> None:
    """Black-Scholes on the time-weighted volatility, the pool's spot and time; its fixed point is good to 1e-15."""
    lyra = the(world)
    lyra.refresh()
    reading = await reading_of(world)
    rate = reading.one(Term, key="rate_and_carry").raw / WAD
    net: dict[str, float] = defaultdict(float)
    live = [(s, t) for s, t in terms_of(reading.of(Term)).items() if "nav_iv" in t]
    assert len(live) == 12
    for scope, term in live:
        _, expiry_s, strike = scope.split(":")
        days = (int(expiry_s) - term["cache_updated_s"]) / DAY
        spot, k = term["cache_price"] / WAD, int(strike) / WAD
        for sign, side in ((1, "call"), (-1, "put")):
            ours = black.greeks(sign, spot, k, days / 365, term["nav_iv"] / WAD, rate)
            assert term[f"{side}_price"] / WAD == pytest.approx(float(ours.price), abs=1e-12 * spot)
            assert term[f"{side}_delta"] / WAD == pytest.approx(float(ours.delta), abs=1e-14)
            standard = float(ours.vega) / 100 * (30 / int(max(days, 7))) ** 0.5
            assert term["std_vega"] / WAD == pytest.approx(standard, rel=1e-13)
            exposure = term[f"{side}_exposure"] / WAD
            net["net_delta"] += exposure * float(ours.delta)
            net["net_std_vega"] += exposure * standard
            net["net_option_value"] += exposure * float(ours.price)
    for key, value in net.items():
        assert reading.one(Term, key=key).raw / WAD == pytest.approx(value, rel=1e-11)


async def test_settlement_by_our_rows_pays_what_the_contract_pays(world: World) -> None:
    """Positions of an expired board: unknown until it is settled, then worth what `settleOptions` sends."""
    lyra = the(world)
    expiry_s, board = min((lyra.market.read("getOptionBoard", b)["expiry"], b) for b in lyra.boards())
    lyra.rates.send("setRateAndInvalid", BASE_KEY, 2_300 * WAD, False)
    world.chains[10].warp(expiry_s - world.chains[10].block()["timestamp"] + 7)
    waiting = await reading_of(world)
    held = Counter(leg.strike for leg in waiting.of(OptionLeg, expiry_s=expiry_s))
    gaps = {g.detail.split()[0].split(":")[2]: g.accounts for g in waiting.of(Gap, reason="no_price")}
    assert {int(k): n for k, n in gaps.items() if n} == dict(held)
    assert not any("price_at_expiry" in t for s, t in terms_of(waiting.of(Term)).items() if str(expiry_s) in s)

    lyra.settle_board(board)
    reading = await reading_of(world)
    assert not reading.of(Gap, reason="no_price")
    ours = {p.ref: RULE.settle(p) for a in reading.accounts for p in RULE.positions(a) if p.expiry_s <= expiry_s}
    receipt = lyra.settle(*map(int, ours))
    events = lyra.short_collateral.events(receipt, "PositionSettled")
    assert len(events) == len(ours) > 8
    for event in events:
        assert ours[str(event["positionId"])] == (event["settlementAmount"], event["insolventAmount"])
    assert sum(paid for paid, _ in ours.values()) > 0


async def test_incremental_read_equals_full_read(world: World) -> None:
    lyra, chain = the(world), world.chains[10]
    before = await reading_of(world)
    user, other = chain.accounts[7:9]
    live = {s: lyra.greeks(s) for board in lyra.boards() for s in lyra.strikes(board)}
    strike = min(live, key=lambda s: abs(live[s].call_delta - WAD // 2))
    moved = lyra.open(user, strike, OptionType.LONG_CALL, 1.5)
    whole = lyra.open(user, strike, OptionType.SHORT_CALL_QUOTE, 2, 3_000)
    lyra.option_token.send("split", whole, WAD // 2, 900 * WAD, other, sender=user)
    twins = [lyra.open(user, strike, OptionType.LONG_PUT, size) for size in (1, 2)]
    lyra.option_token.send("merge", twins, sender=user)
    lyra.option_token.send("transferFrom", user, other, moved, sender=user)
    lyra.market.send("addCollateral", whole, 111 * WAD, sender=user)
    gone = next(leg for leg in before.of(OptionLeg) if leg.expiry_s < before.at.time_s)
    lyra.settle(int(gone.ref))
    lyra.pool_token.send("transfer", other, 1_000 * WAD, sender=chain.owner)
    full = await assert_incremental(ADAPTER, chain, before)
    assert full.one(OptionLeg, ref=str(moved)).holder == other.lower()
    assert full.one(Exposure, ref=str(whole)).shares == 2_211 * WAD
    assert full.one(OptionLeg, ref=str(twins[0])).size == 3 * WAD
    assert not full.of(OptionLeg, ref=str(twins[1]))
    assert not full.of(OptionLeg, ref=gone.ref)
    assert full.one(Exposure, ref="lp", holder=other.lower()).shares == 1_000 * WAD


async def test_a_spot_that_nobody_vouches_for_is_no_price(world: World) -> None:
    the(world).rates.send("setRateAndInvalid", BASE_KEY, 1_700 * WAD, True)
    reading = await reading_of(world)
    assert not reading.of(Price)
    assert [g.subject for g in reading.of(Gap, reason="no_price")] == [erc20(10, the(world).base.address)]
    assert reading.of(OptionLeg)
    assert not any(t.key in ("nav", "free_liquidity") for t in reading.of(Term))


async def test_old_greeks_of_a_live_market_are_a_gap(world: World) -> None:
    world.chains[10].warp(4 * 3_600)
    reading = await reading_of(world)
    assert [g.subject for g in reading.of(Gap, reason="stale_price")] == [reading.one(Market).market]


async def test_an_address_that_is_no_viewer_says_what_to_do(three_chains_world: World) -> None:
    wrong = at_address("lyra_v1", 10, {"option_market_viewer": the(three_chains_world).base.address})
    with pytest.raises(SourceError, match=r"(?s)config/deployments/lyra_v1\.toml"):
        await read(ADAPTER, three_chains_world.chains[10], wrong)


def newport() -> FakeView:
    """One Newport market (derivexyz/v1-core): 6-decimal quote, an expired and settled board, one short call."""
    names = ("pool", "shares", "cache", "market", "pricer", "token", "short", "hedger", "quote", "base")
    at = {name: f"0x{number:040x}" for number, name in enumerate((*names, "viewer", "adapter", "owner"), 1)}
    view = FakeView()
    listed = f"getMarketAddresses()(({','.join(['address'] * 10)})[])"
    view.answer(at["viewer"], listed, (), ([tuple(at[n] for n in names)],))
    view.answer(at["viewer"], "exchangeAdapter()(address)", (), (at["adapter"],))
    for name, decimals in (("base", 18), ("quote", 6), ("shares", 18)):
        view.token(at[name], name, decimals)

    def put(name: str, sig: str, *values: object, args: tuple[object, ...] = ()) -> None:
        view.answer(at[name], sig, args, values)

    def words(n: int) -> str:
        return f"({','.join(['uint256'] * n)})"

    put("market", "getLiveBoards()(uint256[])", [])
    put("cache", f"getGreekCacheParams(){words(9)}", *range(9))
    put("cache", f"getMinCollatParams(){words(8)}", *range(8))
    put("cache", "getGlobalCache()(uint256,uint256,uint256,uint256,uint256,int256,int256,int256)", *[0] * 5, -1, -2, 3)
    put("adapter", "rateAndCarry(address)(int256)", -(10**16), args=(at["market"],))
    put("adapter", "getSpotPriceForMarket(address,uint8)(uint256)", 1_850 * WAD, args=(at["market"], 2))
    put("token", f"getPartialCollatParams(){words(4)}", 1, 2, 3, 4)
    put("pool", f"getLiquidity(){words(7)}", 10, 11, 12, 13, 14, 15, WAD)
    put("pool", "getTotalPoolValueQuote()(uint256)", 15)
    put("pool", "getTokenPriceWithCheck()(uint256,bool,uint256)", 11 * WAD // 10, True, 0)
    put("hedger", "getCurrentHedgedNetDelta()(int256)", -7)
    put("shares", "totalSupply()(uint256)", 5 * WAD)
    put("shares", "balanceOf(address)(uint256)", 5 * WAD, args=(at["owner"],))
    for queue in ("Deposits", "Withdrawals"):
        put("pool", f"totalQueued{queue}()(uint256)", 0)
    position = (9, 4, 3, 2 * WAD, 1234567891 * 10**9, 1)
    put("token", "getOptionPosition(uint256)(uint256,uint256,uint8,uint256,uint256,uint8)", *position, args=(9,))
    held = "getOptionPositions(uint256[])((uint256,uint256,uint8,uint256,uint256,uint8)[])"
    put("token", held, [position], args=([9],))
    put("token", "ownerOf(uint256)(address)", at["owner"], args=(9,))
    put("market", "getStrikeAndExpiry(uint256)(uint256,uint256)", 1_800 * WAD, 1_690_000_000, args=(4,))
    put("market", f"getStrike(uint256){words(9)}", 4, 1_800 * WAD, 11 * WAD // 10, 0, 0, 2 * WAD, 0, 0, 1, args=(4,))
    board = (1, 1_690_000_000, WAD // 2, False, [4])
    put("market", "getOptionBoard(uint256)((uint256,uint256,uint256,bool,uint256[]))", board, args=(1,))
    put("market", f"getSettlementParameters(uint256){words(4)}", 1_800 * WAD, 1_900 * WAD, 0, WAD, args=(4,))
    view.log(
        at["token"],
        "PositionUpdated(uint256 indexed positionId,address indexed owner,uint8 indexed updatedType,"
        "(uint256,uint256,uint8,uint256,uint256,uint8) position,uint256 timestamp)",
        {"positionId": 9, "owner": at["owner"], "updatedType": 0, "position": position, "timestamp": 1},
        5,
    )
    view.log(
        at["shares"],
        "Transfer(address indexed from,address indexed to,uint256 value)",
        {"from": ZERO_ADDRESS, "to": at["owner"], "value": 5 * WAD},
        6,
    )
    return view


async def test_newport_is_told_by_its_viewer() -> None:
    where = at_address("lyra_v1", 1, {"option_market_viewer": f"0x{11:040x}"})
    rows: list[Row] = await collect_rows(ADAPTER, newport(), where)
    terms = terms_of(r for r in rows if isinstance(r, Term))
    assert terms[""]["rate_and_carry"] == -(10**16)
    assert (terms[""]["free_liquidity"], terms[""]["nav"]) == (10, 15)
    assert terms[f"series:1690000000:{1_800 * WAD}"] == {
        "strike_id": 4,
        "iv": 55 * WAD // 100,
        "frozen": 0,
        "price_at_expiry": 1_900 * WAD,
        "base_returned_ratio": 0,
        "long_scale_factor": WAD,
    }
    (price,) = [r for r in rows if isinstance(r, Price)]
    assert price.raw == 1_850 * WAD
    # collateral is kept at 18 places and counted in the token's 6
    quote = erc20(1, f"0x{9:040x}")
    (index,) = [r for r in rows if isinstance(r, Index) and r.asset == quote]
    assert (index.num, index.den) == (1, 10**12)
    (margin,) = [r for r in rows if isinstance(r, Exposure) and r.side == "margin"]
    assert margin.shares * index.num // index.den == 1_234_567
    (claim,) = [r for r in rows if isinstance(r, Claim)]
    assert 5 * WAD * claim.num // claim.den == 5_500_000
    assert not [r for r in rows if isinstance(r, Gap)], "no board is live: nobody needs the old Greeks"
