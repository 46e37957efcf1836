"""A wallet's dollars: an option is worth its price, not its notional; its unknowns are null and named."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import exp
from pathlib import Path

import pytest

from aggregator.app import App
from aggregator.core.errors import ConfigError
from aggregator.core.ids import USD
from aggregator.core.rows import (
    AccountTerm,
    Asset,
    Backstop,
    Claim,
    Exposure,
    Gap,
    Index,
    Market,
    OptionLeg,
    PerpPosition,
    Price,
    Row,
    Term,
)
from aggregator.report.explain import explain_wallet
from aggregator.report.greeks import leg_greeks
from aggregator.report.wallet import leg_usd, wallet_accounts
from aggregator.report.wallet import wallet as wallet_view
from aggregator.snapshot import prices
from tests.devnet.worlds import World
from tests.snapshot.world import NOW_S, ODD, POOL, POOL_ROWS, USDC, VAULT, WAD, WETH, freeze, price

JUDGED: list[Row] = [
    *POOL_ROWS,
    Term(POOL, "", "emode:1", "collateral_bitmap", 0, 0),
    Term(POOL, WETH, "", "reserve_id", 0, 0),
]


def test_an_option_leg_is_worth_its_price_and_a_short_owes_it(config: Path) -> None:
    """On the demo's book, where Lyra's quote has a price."""
    seen = Counter[str]()
    with App.open(config) as app:
        snap = app.snapshot()
    for option in snap.rows("option"):
        for account in wallet_accounts(snap, option.holder):
            for leg in account.legs:
                if (account.market, leg.ref) != (option.market, option.ref) or leg.side not in ("long", "short"):
                    continue
                value, quote, greeks = (
                    leg_usd(snap, leg, account),
                    prices.usd(snap, option.quote),
                    leg_greeks(snap, option),
                )
                assert value is not None
                assert quote is not None
                assert isinstance(greeks, dict)
                assert float(value) == pytest.approx(greeks["value"] * float(quote[0]), abs=1e-7)
                assert (float(value) > 0) == (leg.side == "long")
                seen[leg.side] += 1
    assert set(seen) == {"long", "short"}


def test_totals_are_the_exact_sum_of_positions(collected: App, three_chains_world: World) -> None:
    for wallet in three_chains_world.wallets:
        answer = collected.wallet(wallet)
        for key in ("collateral_usd", "debt_usd"):
            known = [Fraction(p[key]) for p in answer["positions"] if p[key] is not None]
            total = Fraction(answer["totals"][key])
            assert 0 <= sum(known) - total < Fraction(1, 10**8)
        nulls = [p for p in answer["positions"] if p["collateral_usd"] is None and p["rule"]]
        assert not nulls or answer["gaps"]


def test_liquidation_prices_bring_the_account_to_its_threshold(collected: App, three_chains_world: World) -> None:
    """At the price named the account may be liquidated, one unit of the price on it may not, and health is near 1."""
    from aggregator import rules
    from aggregator.core.fixed import Fixed, parse_fixed

    snap, checked = collected.snapshot(), 0
    for wallet in three_chains_world.wallets[:10]:
        positions = {(p["market"], p["ref"]): p for p in collected.wallet(wallet)["positions"]}
        for account in wallet_accounts(snap, wallet.lower()):
            rule = rules.get(account.rule)
            ref = account.legs[0].ref if account.legs else ""
            for named in positions[account.market, ref]["liquidation"]["prices"]:
                assert rule is not None
                first = next(leg for leg in account.legs if leg.asset == named["asset"])
                assert first.price is not None
                at = Fixed(parse_fixed(named["price"], first.price.exp), first.price.exp)
                beside = [
                    rule.judge(
                        account._replace(
                            legs=tuple(
                                leg._replace(price=Fixed(raw, at.exp)) if leg.asset == named["asset"] else leg
                                for leg in account.legs
                            )
                        )
                    )
                    for raw in range(at.raw - 1, at.raw + 2)
                    if raw
                ]
                assert {moved.liquidatable for moved in beside} == {True, False}
                assert beside[-2].liquidatable
                health, debt = beside[-2].health_factor, rule.judge(account).debt
                assert health is not None
                if debt > 10**9 and at.raw > 10**6:  # dust rounds by more than it is worth
                    assert health / 10**18 == pytest.approx(1.0, abs=2e-3)
                    checked += 1
    assert checked > 10


def test_an_amount_of_unknown_decimals_is_unknown() -> None:
    held = [Exposure(POOL, "0xcc", "", ODD, "collateral", 123_456), Index(POOL, ODD, "collateral", 1, 1, "down")]
    answer = wallet_view(freeze([*POOL_ROWS, *held]), "0xcc", 0)
    (leg,) = answer["positions"][0]["legs"]
    assert (leg["raw"], leg["amount"], leg["value_usd"]) == ("123456", None, None)
    assert answer["gaps"]
    assert answer["totals"] == {"collateral_usd": None, "debt_usd": None, "positions": 1, "unpriced": 1}


def test_shares_that_no_index_counts_are_no_amount() -> None:
    """A Morpho market whose rate model reverts: 1e6 shares are about one unit, and nobody can say how many exactly."""
    morpho = "eip155:1/morpho_blue/blue/0x1"
    rows: list[Row] = [
        *POOL_ROWS,
        Market(morpho, "lending", "morpho_blue@1", "WETH/USDC"),
        Term(morpho, "", "", "lltv_wad", 86 * 10**16, 0),
        Index(morpho, WETH, "collateral", 1, 1, "down"),
        price(morpho, WETH, 2000 * 10**24, quote=USDC, exp=24),
        Exposure(morpho, "0xcc", "", WETH, "collateral", WAD),
        Exposure(morpho, "0xcc", "", USDC, "debt", 1000 * 10**12),
        Exposure(morpho, "0xdd", "", USDC, "supply", 5000 * 10**12),
    ]
    snap = freeze(rows)
    answer = wallet_view(snap, "0xcc", 0)
    (position,) = answer["positions"]
    debt = next(leg for leg in position["legs"] if leg["side"] == "debt")
    assert (debt["raw"], debt["amount"], debt["value_usd"]) == (None, None, None)
    assert (position["health_factor"], position["debt_usd"], position["liquidation"]["liquidatable"]) == (None,) * 3
    assert [g["reason"] for g in answer["gaps"] if g["subject"].endswith("#0xcc")] == ["unread"]
    assert answer["totals"]["unpriced"] == 1
    lender = wallet_view(snap, "0xdd", 0)
    assert lender["positions"][0]["legs"][0]["value_usd"] is None
    assert lender["totals"]["unpriced"] == 1
    assert "of unknown amount" in str(explain_wallet(snap, "0xdd", "USDC:supply"))


@pytest.mark.parametrize(
    ("right", "size", "margin", "held", "pays_usd"),
    [
        ("C", 2, "", 0, 600.0),  # 2 x (2,300 - 2,000)
        ("P", 2, "", 0, 0.0),
        ("C", -2, USDC, 1_000, -600.0),
        ("C", -2, USDC, 500, -500.0),  # no more than its collateral
        ("C", -2, WETH, 2, -0.26 * 2_500),  # 0.13 WETH a unit, at today's spot
        ("P", -2, USDC, 1_000, 0.0),
    ],
)
def test_an_option_on_a_settled_board_is_worth_what_it_pays(
    right: str, size: int, margin: str, held: int, pays_usd: float
) -> None:
    """ShortCollateral.settleOptions: worked by hand at 2,300 on expiry, strike 2,000; nobody has collected yet."""
    lyra, expiry_s, strike = "eip155:1/lyra_v1/x/0x01", 1_000, 2_000 * WAD
    series = Term(lyra, WETH, f"series:{expiry_s}:{strike}", "", 0, 18)
    rows: list[Row] = [
        Market(lyra, "option", "lyra_v1@1", "x"),
        price("", USDC, 10**8),
        price(lyra, WETH, 2_500 * WAD, quote=USDC, exp=18),
        *(series._replace(key=k, raw=v) for k, v in (("iv", WAD), ("price_at_expiry", 2_300 * WAD))),
        series._replace(key="base_returned_ratio", raw=13 * WAD // 100),
        OptionLeg(lyra, "0xaa", "7", WETH, USDC, right, "european", margin or USDC, expiry_s, strike, size * WAD, 18),
    ]
    if margin:
        rows.append(Exposure(lyra, "0xaa", "7", margin, "margin", held * WAD))
    snap = freeze(rows)
    (option,) = snap.rows("option")
    greeks = leg_greeks(snap, option)
    assert isinstance(greeks, dict)
    assert greeks["value"] == pytest.approx(pays_usd, abs=1e-9)
    assert greeks["delta"] == (pytest.approx(-0.26) if margin == WETH else 0.0)
    assert {greeks[name] for name in ("gamma", "vega", "theta")} == {0.0}


@pytest.mark.parametrize(("right", "value", "delta"), [("C", 0.0, 0.0), ("P", 2_000 * exp(-0.05 / 2), -1.0)])
@pytest.mark.parametrize("size", [1, -3])
def test_an_option_on_what_is_worth_nothing(right: str, value: float, delta: float, size: int) -> None:
    """At a spot of zero a call is worth nothing and a put its discounted strike; nothing else moves but time."""
    lyra, expiry_s, strike = "eip155:1/lyra_v1/x/0x01", NOW_S + 365 * 43_200, 2_000 * WAD
    rows: list[Row] = [
        Market(lyra, "option", "lyra_v1@1", "x"),
        price("", USDC, 10**8),
        price(lyra, WETH, 0, quote=USDC, exp=18),
        Term(lyra, "", "", "rate_and_carry", 5 * 10**16, 18),
        Term(lyra, WETH, f"series:{expiry_s}:{strike}", "iv", WAD, 18),
        OptionLeg(lyra, "0xaa", "7", WETH, USDC, right, "european", USDC, expiry_s, strike, size * WAD, 18),
    ]
    snap = freeze(rows)
    greeks = leg_greeks(snap, snap.rows("option")[0])
    assert isinstance(greeks, dict)
    expected = {"value": value * size, "delta": delta * size, "theta": 0.05 * value * size, "gamma": 0.0, "vega": 0.0}
    assert {name: greeks[name] for name in expected} == {k: pytest.approx(x, rel=1e-12) for k, x in expected.items()}


def test_the_age_of_a_price_below_a_share_is_told_to_its_holder() -> None:
    """A figure is as good as the oldest price below it: named in the wallet of who stands on it, and in no other."""
    vault, lending = "eip155:1/erc4626/v/0x01", "eip155:1/erc4626/v/0x02"
    rows: list[Row] = [
        *(Market(m, "vault", "", "v") for m in (vault, lending)),
        *(Index(m, a, "supply", 1, 1, "down") for m, a in ((vault, VAULT), (lending, USDC))),
        Claim(VAULT, WETH, "vault", 2, 1, vault),
        Price("", WETH, USDC, 2_000 * 10**8, 8, "feed", 1, 60),
        Price("", USDC, USD, 10**8, 8, "feed", NOW_S - 30, 60),
        Exposure(vault, "0xaa", "", VAULT, "supply", WAD),
        Exposure(lending, "0xbb", "", USDC, "supply", WAD),
    ]
    snap = freeze(rows)
    told = {
        who: [g["subject"] for g in wallet_view(snap, who, 0)["gaps"] if g["reason"] == "stale_price"]
        for who in ("0xaa", "0xbb")
    }
    assert told == {"0xaa": [WETH], "0xbb": []}


def test_who_owes_a_venue_without_a_position_is_seen() -> None:
    """Perp Curie, all closed: Vault.getAccountValue is the balance, realized loss and all; nothing is required."""
    perp = "eip155:10/perp_curie/curie"
    rows: list[Row] = [
        Market(perp, "perp", "perp_curie@1", "Curie"),
        Term(perp, "", "", "mm_ratio_pips", 62_500, 6),
        Term(perp, "", "", "settlement_decimals", 6, 0),
        price(perp, ODD, 10**18, exp=18, path="index"),
        AccountTerm(perp, "0xcc", "", "owed_realized_pnl", -7 * WAD),
    ]
    (position,) = wallet_view(freeze(rows), "0xcc", 0)["positions"]
    assert (float(position["collateral_usd"]), position["health_factor"], position["legs"]) == (-7.0, None, [])


CURIE = "eip155:10/perp_curie/curie"
TOKEN, VETH, ODD10 = (f"eip155:10/erc20:0x{n * 20}" for n in ("5e", "7e", "0d"))
VALUE = 759_673_927_713_356_351_580  # getAccountValue


def _tokens(places: int) -> list[Asset]:
    return [Asset(TOKEN, "SUSD", places), Asset(ODD10, "OTHER", 18), Asset(VETH, "vETH", 18)]


def _curie(told_by: str, places: int) -> list[Row]:
    """A clearing house that counts TOKEN, at 0.90, as one dollar. 0xcc has another collateral alone, 0xdd margin in
    TOKEN, 0xee a loss beyond it, 0xff a position on the other collateral."""
    collateral = 495_105_094_281_573_344
    counted = collateral * 2000 * 7 // 10
    rows: list[Row] = [
        Market(CURIE, "perp", "perp_curie@1", "Curie"),
        Term(CURIE, "", "", "mm_ratio_pips", 62_500, 6),
        Term(CURIE, "", "", "settlement_decimals", places, 0),
        Term(CURIE, ODD10, "", "collateral_ratio_pips", 700_000, 6),
        Price(CURIE, ODD10, USD, 2000 * 10**8, 8, "feed", 0, 0),
        Price(CURIE, VETH, USD, 2000 * WAD, 18, "mark", 0, 0),
        Price("", TOKEN, USD, 90_000_000, 8, "feed", NOW_S - 30, 60),
        *(Exposure(CURIE, who, "", ODD10, "margin", collateral) for who in ("0xcc", "0xff")),
        *(AccountTerm(CURIE, who, "", "owed_realized_pnl", VALUE - counted) for who in ("0xcc", "0xff")),
        AccountTerm(CURIE, "0xee", "", "owed_realized_pnl", -7 * WAD),
        PerpPosition(CURIE, "0xff", VETH, VETH, WAD, -2000 * WAD, 18),
    ]
    if told_by == "fund":
        return [*rows, Backstop(CURIE, "insurance_fund", TOKEN, 0, 0)]
    return [*rows, Exposure(CURIE, "0xdd", "", TOKEN, "margin", 100 * 10**places)]


@pytest.mark.parametrize("told_by", ["fund", "neighbour"])
@pytest.mark.parametrize("places", [18, 6])
def test_a_perp_market_prints_one_unit(told_by: str, places: int) -> None:
    """Who holds none of the settlement token is counted in it all the same: account value, requirement, what is
    negative, notional; and what the market requires is nobody's debt."""
    snap = freeze(_curie(told_by, places), assets=_tokens(places))
    found = {who: wallet_view(snap, who, 0) for who in ("0xcc", "0xee", "0xff")}
    (only,), (owing,), (open_,) = (found[who]["positions"] for who in found)
    step = 10 ** (18 - places)  # the vault floors to the token's decimals
    worth = Fraction(VALUE // step * step, 10**18) * Fraction(9, 10)
    assert only["collateral_usd"] == ("683.70653494" if places == 18 else "683.70653430")
    assert 0 <= worth - Fraction(only["collateral_usd"]) < Fraction(1, 10**8)
    assert owing["collateral_usd"] == "-6.30000000"
    assert [open_[key] for key in ("collateral_usd", "requirement_usd", "debt_usd")] == [
        only["collateral_usd"],
        "112.50000000",
        "0.00000000",  # 2000 x 6.25 % x 0.90
    ]
    (leg,) = (leg for leg in open_["legs"] if leg["side"] == "long")
    assert leg["value_usd"] == "1800.00000000"
    for who, view in found.items():
        for key in ("collateral_usd", "debt_usd"):
            assert view["totals"][key] == view["positions"][0][key], (who, key)
    (explained,) = explain_wallet(snap, "0xff", "vETH:long")["positions"]
    assert explained["value"].endswith("(USD 1800.00000000)")
    (value,) = explain_wallet(snap, "0xff", "requirement_usd")["positions"]
    assert value["value"] == "112.50000000"
    assert ("USD per SUSD", "0.9") in {(leaf["figure"], leaf["value"].rstrip("0")) for leaf in value["inputs"]}


def test_a_market_without_a_price_of_what_it_counts_in_prints_no_dollars() -> None:
    rows = [r for r in _curie("fund", 18) if not (isinstance(r, Price) and r.asset == TOKEN)]
    for who in ("0xcc", "0xee"):
        answer = wallet_view(freeze(rows, assets=_tokens(18)), who, 0)
        assert (answer["positions"][0]["collateral_usd"], answer["totals"]["unpriced"]) == (None, 1)


def test_a_vaults_holder_has_a_price_without_being_judged(config: Path) -> None:
    """Nobody is judged in a pool or a vault: no collateral there is not an unknown."""
    with App.open(config) as app:
        snap = app.snapshot()
        (holder, *_) = (r.holder for r in snap.rows("exposure", deployment="eip155:1/erc4626/vaults"))
        answer = wallet_view(snap, holder, 0)
    assert all(leg["value_usd"] for p in answer["positions"] for leg in p["legs"])
    assert answer["totals"]["unpriced"] == 0


@pytest.mark.parametrize(
    ("holder", "figure", "said"),
    [
        ("0xff", "health_factor", "has no position"),
        ("0xaa", "healthfactor", "did you mean 'health_factor'"),
        ("0xaa", "WETH:colateral", "did you mean 'WETH:collateral'"),
        ("0xbb", "health_factor", "ask for a leg"),
    ],
)
def test_a_figure_that_is_not_there_says_what_is(holder: str, figure: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        explain_wallet(freeze(POOL_ROWS), holder, figure)
    assert said in str(error.value)
    assert error.value.expected != figure


def test_an_account_that_a_gap_hides_in_part_is_not_judged() -> None:
    """Aave 3.0: debt at a stable rate is there and is not read; the rest alone would look three times safer."""
    hidden = Gap(f"{POOL}#0xaa", "unread", "1000 raw of USDC owed at a stable rate", 1)
    (before,) = wallet_view(freeze(JUDGED), "0xaa", 0)["positions"]
    assert before["health_factor"]
    answer = wallet_view(freeze([*JUDGED, hidden]), "0xaa", 0)
    (position,) = answer["positions"]
    assert [position[key] for key in ("collateral_usd", "debt_usd", "health_factor")] == [None] * 3
    assert position["liquidation"] == {"liquidatable": None, "prices": []}
    assert {leg["value_usd"] for leg in position["legs"]} == {leg["value_usd"] for leg in before["legs"]}
    assert [g["detail"] for g in answer["gaps"]] == [hidden.detail]
    with pytest.raises(ConfigError):
        explain_wallet(freeze([hidden]), "0xaa", "health_factor")


def test_an_account_of_which_nothing_could_be_read_is_told_of() -> None:
    hidden = Gap(f"{POOL}#0xdd", "reverted", "getUserConfiguration", 1)
    answer = wallet_view(freeze([*POOL_ROWS, hidden]), "0xdd", 0)
    assert (answer["positions"], [g["reason"] for g in answer["gaps"]]) == ([], ["reverted"])
    assert wallet_view(freeze([*POOL_ROWS, hidden]), "0xee", 0)["gaps"] == []


def test_a_position_in_a_market_that_the_cut_no_longer_describes_costs_no_other() -> None:
    """A vault taken out of the configuration: what was read of it stays in the store, and its terms are not read."""
    gone = "eip155:1/erc4626/vaults/0xdead"
    held = [Exposure(gone, holder, "", VAULT, "supply", 7) for holder in ("0xaa", "0xdd")]
    snap = freeze([*JUDGED, *held, price("", VAULT, 10**8)])
    answer = wallet_view(snap, "0xaa", 0)
    assert [(p["market"], p["kind"], bool(p["health_factor"])) for p in answer["positions"]] == [
        (POOL, "lending", True),
        (gone, "unknown", False),
    ]
    (leg,) = answer["positions"][1]["legs"]
    assert (leg["raw"], leg["value_usd"]) == (None, None)
    assert ("unread", f"{gone}#0xaa") in {(g["reason"], g["subject"]) for g in answer["gaps"]}
    assert answer["totals"]["unpriced"] == 1
    assert "of unknown amount" in str(explain_wallet(snap, "0xdd", "vETH:supply"))
