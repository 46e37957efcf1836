"""Every figure of every wallet of the demo can be worked out again from the inputs that its explanation names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from aggregator.app import App
from aggregator.core.errors import ConfigError
from aggregator.core.rows import AccountTerm, Exposure, Index, Market, Row, Term
from aggregator.report.explain import explain_wallet, text
from aggregator.snapshot import Snapshot
from tests.snapshot.world import POOL, USDC, WETH, freeze, price

Node = dict[str, Any]


@pytest.fixture(scope="module")
def snap(config: Path) -> Iterator[Snapshot]:
    with App.open(config) as app:
        yield app.snapshot()


def _number(node: Node) -> Fraction:
    return Fraction(Decimal(node["value"].split(" ")[0]))


def _named(node: Node, *words: str) -> list[Node]:
    return [child for child in node["inputs"] if all(word in child["figure"] for word in words)]


def _places(node: Node) -> Fraction:
    return Fraction(10) ** int(node["figure"].rsplit("^", 1)[1])


def _dollars(node: Node) -> Fraction:
    """Worked out again: a price, a price in another asset, or what a claim stands for."""
    if node["formula"].startswith("price"):
        (price,) = _named(node, "price in")
        quote = [_dollars(child) for child in node["inputs"] if "inputs" in child]
        return _number(price) / _places(price) * (quote[0] if quote else 1)
    total = Fraction(0)
    for num, den, places, under in zip(*[iter(node["inputs"])] * 4, strict=True):
        total += _number(num) / _number(den) * Fraction(10) ** int(_number(places)) * _dollars(under)
    return total


def _parts(snap: Snapshot, figure: str, adapter: str) -> Iterator[Node]:
    for holder in sorted({row.holder for kind in ("exposure", "perp", "option") for row in snap.rows(kind)}):
        with suppress(ConfigError):  # he has no such figure
            tree = explain_wallet(snap, holder, figure)
            assert text(tree)
            yield from (part for part in tree["positions"] if f"/{adapter}/" in part["market"])


def test_a_perps_equity_and_requirement_come_out_of_their_own_inputs(snap: Snapshot) -> None:
    """Vault.getAccountValue and getMarginRequirementForLiquidation at 18 places, USDC at its feed's one dollar."""
    seen = 0
    for figure in ("collateral_usd", "requirement_usd"):
        for part in _parts(snap, figure, "perp_curie"):
            positions, equity, needed = Fraction(0), Fraction(0), Fraction(0)
            for leg in part["inputs"]:
                if "inputs" not in leg:
                    continue
                (shares,) = _named(leg, "shares")
                if leg["figure"].endswith("margin"):
                    equity += _number(shares) / 10**6
                    continue
                (price, (notional,)) = (_named(leg, "price in")[0], _named(leg, "open notional"))
                worth = _number(shares) / 10**18 * _number(price) / _places(price)
                positions, equity = positions + abs(worth), equity + worth + _number(notional) / 10**18
            for key, sign in (("pending_funding", -1), ("owed_realized_pnl", 1), ("pending_fee", 1)):
                equity += sum(sign * _number(term) / 10**18 for term in _named(part, "account", key))
            (ratio,) = _named(part, "mm_ratio_pips")
            needed = positions * _number(ratio) / 10**6
            expected = equity if figure == "collateral_usd" else needed
            assert _number(part) == pytest.approx(float(expected), abs=2e-6)
            assert "sum of leg values" not in part["formula"]
            seen += 1
    assert seen >= 20


@pytest.mark.parametrize(
    ("figure", "adapter"),
    [
        ("debt_usd", "perp_curie"),
        ("debt_usd", "lyra_v1"),
        ("requirement_usd", "aave_v3"),
        ("requirement_usd", "morpho_blue"),
    ],
)
def test_a_requirement_is_no_debt_and_a_debt_no_requirement(snap: Snapshot, figure: str, adapter: str) -> None:
    """The figure that is nought here says which one is not."""
    parts = list(_parts(snap, figure, adapter))
    assert len(parts) > 5
    other = {"debt_usd": "requirement_usd", "requirement_usd": "debt_usd"}[figure]
    assert all(Decimal(part["value"]) == 0 and other in part["formula"] and not part["inputs"] for part in parts)


def test_an_options_requirement_names_what_it_reads(snap: Snapshot) -> None:
    """OptionGreekCache.getMinCollateral: never below the static minimum, unless size or full collateral is less."""
    seen = 0
    for part in _parts(snap, "requirement_usd", "lyra_v1"):
        names = {child["figure"] for child in part["inputs"]}
        assert {"shock_vol_a", "shock_vol_b", "call_spot_price_shock", "put_spot_price_shock"} <= names
        for leg in (child for child in part["inputs"] if child["figure"].endswith("short")):
            (strike,), (iv,), (price,) = (_named(leg, word) for word in ("strike", "iv", "price in"))
            assert 0.1 < _number(iv) / 10**18 < 5
            (static,) = _named(part, "min_static_quote_collateral")
            full = _number(leg) * min(_number(strike) / _places(strike), _number(price) / _places(price))
            assert _number(part) >= min(_number(static) / 10**18, full) > 0
            seen += 1
    assert seen >= 5


@pytest.mark.parametrize(
    ("figure", "adapter"),
    [("USDC:debt", "aave_v3"), ("WETH:collateral", "aave_v3"), ("waUSDC:collateral", "morpho_blue"),
     ("svETH:collateral", "morpho_blue"), ("svETH:supply", "erc4626"), ("UNI-V3-POS:supply", "uniswap_v3"),
     ("LyraELPT:supply", "lyra_v1"), ("sUSD:margin", "lyra_v1"), ("vBTC:long", "perp_curie")],
)  # fmt: skip
def test_a_legs_dollars_are_its_amount_times_what_one_is_worth(snap: Snapshot, figure: str, adapter: str) -> None:
    parts = list(_parts(snap, figure, adapter))
    assert parts
    for leg in parts:
        (usd,) = _named(leg, "USD per")
        one = _dollars(usd)
        assert float(_number(usd)) == pytest.approx(float(one), rel=1e-15, abs=1e-36)
        shown = Fraction(Decimal(leg["value"].split("(USD ")[1].rstrip(")")))
        # a claim's price is floored at 36 places of a whole one, dollars at 8
        assert abs(shown - _number(leg) * one) <= Fraction(2, 10**8) + _number(leg) / 10**36


def test_an_emode_with_a_price_of_its_own_is_explained_by_that_price() -> None:
    """Aave 3.0, GenericLogic: the category's price source judges its assets; the others keep their own."""
    rows: list[Row] = [
        Market(POOL, "lending", "aave_v3@3.0", "Old"),
        Term(POOL, "", "", "base_unit_exp", 8, 0),
        *(Index(POOL, asset, side, 1, 1, "half_up") for asset in (WETH, USDC) for side in ("collateral", "debt")),
        price(POOL, WETH, 2000 * 10**8),
        price(POOL, USDC, 10**8),
        Term(POOL, WETH, "", "liquidation_threshold_bps", 8250, 4),
        Term(POOL, USDC, "", "liquidation_threshold_bps", 7800, 4),
        Term(POOL, WETH, "", "emode_category", 0, 0),
        Term(POOL, USDC, "", "emode_category", 7, 0),
        Term(POOL, "", "emode:7", "liquidation_threshold_bps", 9300, 4),
        Term(POOL, "", "emode:7", "price_source", 1, 0),
        Term(POOL, "", "emode:7", "price", 101 * 10**6, 8),
        Exposure(POOL, "0xee", "", WETH, "collateral", 10**18),
        Exposure(POOL, "0xee", "", USDC, "collateral", 10**9),
        Exposure(POOL, "0xee", "", USDC, "debt", 5 * 10**8),
        AccountTerm(POOL, "0xee", "", "emode", 7),
    ]
    snap = freeze(rows)

    def legs(figure: str) -> tuple[Fraction, list[tuple[Fraction, list[Node]]]]:
        (part,) = explain_wallet(snap, "0xee", figure)["positions"]
        opened = [leg for leg in part["inputs"] if "inputs" in leg]
        prices = [_named(leg, "emode:7 price") or _named(leg, "price in") for leg in opened]
        worth = [_number(leg) * _number(one) / 10**8 for leg, (one,) in zip(opened, prices, strict=True)]
        return _number(part), list(zip(worth, (_named(leg, "threshold") for leg in opened), strict=True))

    for figure, said in (("collateral_usd", 2000 + 1010), ("debt_usd", 505)):
        value, opened = legs(figure)
        assert value == sum(worth for worth, _ in opened) == said
    health, opened = legs("health_factor")
    weighed = sum(worth * _number(one) / 10**4 for worth, found in opened for one in found)
    assert weighed == 2000 * Fraction(825, 1000) + 1010 * Fraction(93, 100)
    average = Fraction(int(weighed / 3010 * 10**4), 10**4)  # 3.0 judges by the average in whole basis points
    assert health == pytest.approx(float(average * 3010 / 505), rel=1e-12)
