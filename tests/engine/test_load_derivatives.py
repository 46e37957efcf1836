"""Option and perp rows of a cut: what the cascade starts from is what the exact rules say."""

from __future__ import annotations

import random

import pytest

from aggregator.core.fixed import WAD, Fixed
from aggregator.core.ids import USD
from aggregator.core.rows import (
    AccountTerm,
    Asset,
    Backstop,
    Claim,
    Exposure,
    Index,
    Market,
    OptionLeg,
    PerpPosition,
    Price,
    Row,
    Term,
)  # fmt: skip
from aggregator.engine.load import from_snapshot
from aggregator.quant.black import SECONDS_PER_YEAR
from aggregator.rules import WouldRevertError
from aggregator.rules.perp_curie import PerpCurie
from aggregator.snapshot.accounts import account
from tests.engine.test_load import run, snapshot
from tests.engine.test_oracles import unmoved
from tests.engine.test_worlds import near

ETH, SUSD, LP, VETH = (f"eip155:1/erc20:0x{n:040x}" for n in (11, 12, 13, 14))
LYRA, PERP = "eip155:1/lyra_v1/eth/0x1", "eip155:1/perp_curie/main"
NOW, EXPIRY, STRIKE = 1_750_000_000, 1_750_000_000 + SECONDS_PER_YEAR // 4, 2000 * WAD
SHOCKS = {
    "rate_and_carry": 0, "min_static_quote_collateral": 250, "min_static_base_collateral": 0.1, "shock_vol_a": 1.5,
    "shock_vol_b": 1.0, "call_spot_price_shock": 1.2, "put_spot_price_shock": 0.8, "nav": 20_000, "hedger_delta": 4,
    "penalty_ratio": 0.2, "liquidator_fee_ratio": 0.3, "sm_fee_ratio": 0.1, "min_liquidation_fee": 15,
}  # fmt: skip


def lyra(vol: float | None = 0.6) -> list[Row]:
    scope = f"series:{EXPIRY}:{STRIKE}"
    leg = OptionLeg(LYRA, "0xwriter", "1", ETH, SUSD, "C", "european", SUSD, EXPIRY, STRIKE, -10 * WAD, 18)
    return [
        Asset(ETH, "sETH", 18), Asset(SUSD, "sUSD", 18), Asset(LP, "LP", 18),
        Market(LYRA, "option", "lyra_v1@1", "ETH"),
        Price(LYRA, ETH, SUSD, 2000 * WAD, 18, "live", 0, 0), Price("", SUSD, USD, 10**8, 8, "feed", 0, 0),
        *(Term(LYRA, "", "", key, round(value * WAD), 18) for key, value in SHOCKS.items()),
        Term(LYRA, "", "", "shock_vol_point_a_s", SECONDS_PER_YEAR // 50, 0),
        Term(LYRA, "", "", "shock_vol_point_b_s", SECONDS_PER_YEAR // 5, 0),
        *([Term(LYRA, ETH, scope, "iv", round(vol * WAD), 18)] if vol else []),
        leg, leg._replace(holder="0xbuyer", ref="2", size=3 * WAD),
        Exposure(LYRA, "0xwriter", "1", SUSD, "margin", 8_000 * WAD), Index(LYRA, SUSD, "margin", 1, 1, "down"),
        Claim(LP, SUSD, "vault", 1, 1, LYRA), Exposure(LYRA, "0xprovider", "lp", LP, "supply", 1_000 * WAD),
        Index(LYRA, LP, "supply", 1, 1, "down"),
    ]  # fmt: skip


def test_legs_carry_the_volatility_of_their_series_and_their_margin() -> None:
    book = from_snapshot(snapshot(lyra()))
    o = book.options
    assert o.size.tolist() == [3.0, -10.0] or o.size.tolist() == [-10.0, 3.0]
    short = int(o.size.argmin())
    assert (float(o.vol[short]), float(o.strike[short]), float(o.expiry_yr[short])) == (0.6, 2000.0, 0.25)
    assert (float(o.margin_units[short]), book.assets[o.margin_asset[short]]) == (8_000.0, SUSD)
    assert (float(book.option_pools.nav_units[0]), float(book.option_pools.hedge_units[0])) == (20_000.0, 4.0)
    ((_, shocks),) = book.option_shocks
    assert shocks.call_spot == 1.2
    assert shocks.t_b_yr == pytest.approx(0.2)
    assert book.gaps == ()


def test_without_a_blow_options_and_their_pool_stand_still() -> None:
    """Whatever spot, quote and volatility: the next round would carry a last bit of profit into the pool's shares."""
    rng = random.Random(3)
    for _ in range(150):
        usd, spot = rng.randint(5 * 10**7, 2 * 10**8), rng.randint(10**20, 10**22)
        vol, size = rng.uniform(0.2, 2), rng.randint(1, 10**6)
        rows = [r._replace(raw=usd if r.asset == SUSD else spot) if isinstance(r, Price) else r for r in lyra(vol)]
        unmoved(snapshot([r._replace(size=r.size * size // 10**8) if isinstance(r, OptionLeg) else r for r in rows]))


def test_the_pool_of_a_written_option_book_shares_its_loss_among_its_providers() -> None:
    result = run(snapshot(lyra()), price={"sETH": 0.5})
    pnl = result.totals["option_pool_pnl_usd"]
    assert result.totals["option_shorts_bought_back"] == 1.0
    assert result.totals["option_shortfall_usd"] > 0.0
    haircut = max(0.0, -pnl) / 20_000
    assert result.rounds[-1].prices_usd[LP] == near(1 - haircut)
    wallets = {w.holder: w for w in result.wallets}
    assert wallets["0xprovider"].loss_usd == near(1_000 * haircut)
    assert wallets["0xbuyer"].loss_usd < 0.0  # he is long calls


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_board_closes_no_short(frozen: int) -> None:
    """OptionMarket._doTrade refuses the close (BoardIsFrozen); other series of the market trade on."""
    terms = [Term(LYRA, ETH, f"series:{EXPIRY}:{strike}", "frozen", frozen, 0) for strike in (STRIKE, STRIKE + 1)]
    result = run(snapshot([*lyra(), *terms]), price={"sETH": 0.5})
    assert result.totals["option_shorts_bought_back"] == 1.0 - frozen
    assert (result.totals["option_shortfall_usd"] > 0.0) == (not frozen)
    assert any("boards are frozen" in note for note in result.notes) == bool(frozen)
    other = run(snapshot([*lyra(), terms[1]]), price={"sETH": 0.5})
    assert other.totals["option_shorts_bought_back"] == 1.0


def test_a_series_without_volatility_is_a_gap() -> None:
    book = from_snapshot(snapshot(lyra(vol=None)))
    assert len(book.options.size) == 0
    assert [(g.reason, g.accounts) for g in book.gaps] == [("unpriced_options", 2)]


def perp(mark: bool = True) -> list[Row]:
    rows: list[Row] = [
        Asset(VETH, "vETH", 18), Asset(SUSD, "USDC", 6), Market(PERP, "perp", "perp_curie@1", "Curie"),
        Price("", SUSD, USD, 10**8, 8, "feed", 0, 0), Term(PERP, "", "", "mm_ratio_pips", 62_500, 0),
        Term(PERP, "", "", "liquidation_penalty_pips", 25_000, 0), Term(PERP, "", "", "settlement_decimals", 6, 0),
        Term(PERP, "", "", "insurance_fund_capacity", 50 * 10**6, 0), Index(PERP, SUSD, "margin", 1, 1, "down"),
        PerpPosition(PERP, "0xlong", VETH, VETH, 10 * WAD, -21_000 * WAD, 18),
        Exposure(PERP, "0xlong", "", SUSD, "margin", 3_000 * 10**6),
        AccountTerm(PERP, "0xlong", "", "owed_realized_pnl", -100 * WAD),
        AccountTerm(PERP, "0xlong", VETH, "pending_funding", 20 * WAD),
        PerpPosition(PERP, "0xshort", VETH, VETH, -10 * WAD, 20_500 * WAD, 18),
        Exposure(PERP, "0xshort", "", SUSD, "margin", 5_000 * 10**6),
    ]  # fmt: skip
    return [*rows, Price(PERP, VETH, USD, 2000 * WAD, 18, "mark", 0, 0)] if mark else rows


def test_equity_of_a_perp_account_is_the_contracts() -> None:
    """3,000 of margin, 1,000 lost on the position, 100 owed, 20 of funding."""
    snap = snapshot(perp())
    wallets = {w.holder: w for w in run(snap).wallets}
    assert wallets["0xlong"].equity_before_usd == near(1_880)
    assert wallets["0xshort"].equity_before_usd == near(5_500)
    assert PerpCurie().name == "perp_curie@1"
    assert account(snap, PERP, "0xlong").own["owed_realized_pnl"] == -100 * WAD


def test_collateral_that_moves_with_no_price_is_named_with_its_size() -> None:
    """2 WETH at 1,500 and a ratio of 0.7 count for 2,100 whatever the scenario does to WETH: said, not hidden."""
    weth = "eip155:10/erc20:0x" + "77" * 20
    more: list[Row] = [
        Asset(weth, "WETH", 18), Index(PERP, weth, "margin", 1, 1, "down"),
        Price(PERP, weth, USD, 1_500 * 10**8, 8, "feed", 0, 0),
        Term(PERP, weth, "", "collateral_ratio_pips", 700_000, 6),
        Exposure(PERP, "0xshort", "", weth, "margin", 2 * WAD),
    ]  # fmt: skip
    result = run(snapshot([*perp(), *more]), price={"WETH": -0.5})
    (gap,) = [g for g in result.gaps if g["reason"] == "fixed_collateral"]
    assert (gap["subject"], gap["accounts"], gap["value_usd"]) == (PERP, 1, "2100.00")
    assert not [g for g in run(snapshot(perp())).gaps if g["reason"] == "fixed_collateral"]


def test_the_fund_pays_what_a_closed_long_lacks() -> None:
    funded = [
        r._replace(raw=3_000 * 10**6) if getattr(r, "key", "") == "insurance_fund_capacity" else r for r in perp()
    ]
    result = run(snapshot(funded), price={"vETH": -0.2})
    assert result.totals["perp_accounts_closed"] == 1.0
    shortfall = result.totals["perp_shortfall_usd"]
    assert shortfall == near(4_000 - 1_880 + 0.025 * 16_000)  # what is gone, and the penalty on all of it
    paid = {x.layer: x.loss_usd for x in result.losses if x.kind == "market"}
    assert paid == {"insurance fund": near(shortfall)}
    assert result.conservation["sinks_error_usd"] <= 1e-9


def test_a_call_that_the_fund_cannot_cover_is_refused_as_the_clearing_house_does() -> None:
    """The exact rule says CH_IIC; the loss is there, but nobody has booked it."""
    snap = snapshot(perp())
    fallen = account(snap, PERP, "0xlong")
    legs = [x._replace(price=Fixed(1_600 * WAD, 18)) if x.side == "long" else x for x in fallen.legs]
    with pytest.raises(WouldRevertError, match="CH_IIC"):
        PerpCurie().liquidate(fallen._replace(legs=tuple(legs)), SUSD, VETH)
    result = run(snap, price={"vETH": -0.2})
    assert result.totals["perp_accounts_closed"] == result.totals["perp_shortfall_usd"] == 0.0
    assert result.totals["perp_accounts_refused"] == 1.0
    assert result.totals["perp_unrealised_shortfall_usd"] == near(4_000 - 1_880)
    assert any("refuses the call" in note for note in result.notes)


def test_a_halted_market_is_left_alone_as_the_clearing_house_does() -> None:
    rows = [*perp(), Term(PERP, VETH, "", "open", 0, 0)]
    snap = snapshot(rows)
    poor = account(snap, PERP, "0xlong")._replace(own={"settlement_balance": 0})
    with pytest.raises(WouldRevertError, match="CH_MNO"):
        PerpCurie().liquidate(poor, SUSD, VETH)
    assert PerpCurie().best_liquidation(poor) is None
    assert PerpCurie().judge(poor).liquidatable
    result = run(snap, price={"vETH": -0.9})
    assert result.totals["perp_accounts_closed"] == 0.0
    wallets = {w.holder: w for w in result.wallets}
    assert wallets["0xlong"].loss_usd == 0.0


def test_equity_is_worth_what_the_settlement_token_is() -> None:
    """The venue goes on counting one for one; whoever owns the account does not."""
    result = run(snapshot(perp()), price={"USDC": -0.1})
    wallets = {w.holder: w for w in result.wallets}
    assert wallets["0xshort"].equity_before_usd == near(5_500)
    assert wallets["0xshort"].equity_after_usd == near(0.9 * 5_500)
    assert result.totals["perp_accounts_closed"] == 0.0
    (gap,) = [g for g in result.gaps if g["reason"] == "settlement_price"]
    assert (gap["subject"], gap["value_usd"]) == (PERP, f"{0.1 * (5_500 + 1_880):.2f}")


@pytest.mark.parametrize("told_by", ["fund", "neighbour"])
def test_who_holds_none_of_the_settlement_token_is_counted_in_it_all_the_same(told_by: str) -> None:
    """2 WETH at 1,500 and a ratio of 0.7 are 2,100 of a token at 0.90: gains, losses and requirements with them."""
    weth = "eip155:10/erc20:0x" + "77" * 20
    rows = [r for r in perp() if not (isinstance(r, Exposure) and r.holder == "0xlong")]
    rows = [r._replace(raw=9 * 10**7) if isinstance(r, Price) and r.asset == SUSD else r for r in rows]
    rows += [
        Asset(weth, "WETH", 18),
        Index(PERP, weth, "margin", 1, 1, "down"),
        Price(PERP, weth, USD, 1_500 * 10**8, 8, "feed", 0, 0),
        Term(PERP, weth, "", "collateral_ratio_pips", 700_000, 6),
        Exposure(PERP, "0xlong", "", weth, "margin", 2 * WAD),
        AccountTerm(PERP, "0xowes", "", "owed_realized_pnl", -7 * WAD),
    ]
    short = 5_500.0
    if told_by == "fund":
        rows = [r for r in rows if not (isinstance(r, Exposure) and r.asset == SUSD)]
        rows, short = [*rows, Backstop(PERP, "insurance_fund", SUSD, 0, 10**12)], 500.0
    long = 2_100.0 - 1_000.0 - 100.0 - 20.0
    before = {w.holder: w.equity_before_usd for w in run(snapshot(rows)).wallets}
    assert before == {"0xlong": near(0.9 * long), "0xshort": near(0.9 * short), "0xowes": near(0.9 * -7.0)}
    funded = [r._replace(raw=10**12) if getattr(r, "key", "") == "insurance_fund_capacity" else r for r in rows]
    result = run(snapshot(funded), price={"vETH": -0.2})
    lacks = 4_000.0 - long + 0.025 * 16_000.0 + 7.0  # the fund pays what 0xowes does not, too
    assert result.totals["perp_shortfall_usd"] == near(0.9 * lacks)
    paid = {x.layer: x.loss_usd for x in result.losses if x.kind == "market"}
    assert paid == {"insurance fund": near(0.9 * lacks)}
    assert result.conservation["sinks_error_usd"] <= 1e-9
    (gap,) = [g for g in result.gaps if g["reason"] == "fixed_collateral"]
    assert gap["value_usd"] == f"{0.9 * 2_100:.2f}"


def test_a_settlement_token_without_a_price_is_a_gap() -> None:
    rows = [r for r in perp() if not (isinstance(r, Price) and r.asset == SUSD)]
    book = from_snapshot(snapshot(rows))
    assert [(g.subject, g.reason) for g in book.gaps] == [(PERP, "no_price")]
    assert book.perp_settlement == ()


@pytest.mark.parametrize(("gone", "words"), [("penalty_ratio", "without fees"), ("shock_vol_a", "not judged")])
def test_shorts_without_the_terms_of_their_market_are_a_gap(gone: str, words: str) -> None:
    book = from_snapshot(snapshot([r for r in lyra() if getattr(r, "key", "") != gone]))
    ((reason, accounts, detail),) = [(g.reason, g.accounts, g.detail) for g in book.gaps]
    assert (reason, accounts) == ("unread", 1)
    assert words in detail
    assert gone in detail


def test_perps_without_a_mark_are_a_gap() -> None:
    book = from_snapshot(snapshot(perp(mark=False)))
    assert len(book.perps.size) == 0
    assert [(g.subject, g.reason, g.accounts) for g in book.gaps] == [(PERP, "unjudged", 2)]
