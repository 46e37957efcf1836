"""Whom a symbol means: what a market vouches for, and no stranger's token of that name, however large he says it is."""

from __future__ import annotations

import pytest

from aggregator.core.rows import Asset, Claim, Exposure, Index, Market, Price, Row
from aggregator.snapshot import Snapshot
from aggregator.snapshot.symbols import Meaning, meaning, standing, symbols_of
from tests.snapshot.world import ASSETS, POOL, POOL_ROWS, USDC, VAULT, WETH, freeze, price

FAKE, FAKE_USD, FAR = "eip155:1/erc20:0x" + "0" * 40, "eip155:1/erc20:0x" + "9" * 40, "eip155:10/erc20:0x" + "e" * 40
PAIR = "eip155:1/morpho_blue/blue/0x01"


def pair(collateral: str, loan: str, *, posted: int, owed: int, market: str = PAIR) -> list[Row]:
    """A market that anybody may open, its oracle his own; shares are amounts."""
    return [
        Market(market, "lending", "morpho_blue@1", "X"),
        Index(market, collateral, "collateral", 1, 1, "down"),
        Index(market, loan, "debt", 1, 1, "up"),
        price(market, collateral, 10**36, quote=loan, exp=30),
        Exposure(market, "0xthief", "", collateral, "collateral", posted),
        Exposure(market, "0xthief", "", loan, "debt", owed),
    ]


def of(snap: Snapshot, text: str) -> Meaning:
    return meaning(text, symbols_of(snap), standing(snap))


@pytest.mark.parametrize("symbol", ["WETH", "weth", "wEth"])
@pytest.mark.parametrize(
    "rows",
    [
        [],
        pair(FAKE, USDC, posted=10**30, owed=10**14),  # a hundred million of real money lent against it
        pair(FAKE, FAKE_USD, posted=10**60, owed=10**60),
        pair(WETH, FAKE, posted=1, owed=10**40),
        [price("eip155:10/aave_v3/core", FAKE, 10**20)],  # a market of another chain cannot know it
        [Claim(VAULT, FAKE, "vault", 1, 1, "")],
    ],
)
def test_a_strangers_token_is_never_what_a_symbol_means(symbol: str, rows: list[Row]) -> None:
    """In any market, at any size and price, before or behind the true one in the order of ids."""
    assets = [*ASSETS, Asset(FAKE, symbol, 18), Asset(FAKE_USD, "USDC", 6)]
    held: list[Row] = [
        Exposure(PAIR, "0xthief", "", FAKE, "supply", 10**60),
        Exposure(PAIR, "b", "", FAKE_USD, "debt", 1),
    ]
    snap = freeze([*POOL_ROWS, *rows, *held], assets=assets)
    for text in ("WETH", "weth", symbol):
        assert of(snap, text) == Meaning((WETH,), (FAKE,))
    assert of(snap, "usdc") == Meaning((USDC,), (FAKE_USD,))
    assert of(snap, FAKE.upper().replace("EIP155", "eip155")) == Meaning((FAKE,), ())  # by its id it can be had


def test_a_symbol_on_several_chains_means_all_that_are_vouched_for() -> None:
    assets = [*ASSETS, Asset(FAR, "WETH", 18), Asset(FAKE, "WETH", 18)]
    held: list[Row] = [Exposure(PAIR, "a", "", FAKE, "supply", 1), Exposure(PAIR, "a", "", FAR, "supply", 1)]
    far: list[Row] = [price("eip155:10/aave_v3/core", FAR, 2000 * 10**8)]
    assert of(freeze([*POOL_ROWS, *held], assets=assets), "WETH") == Meaning((WETH,), (FAKE, FAR))
    assert of(freeze([*POOL_ROWS, *held, *far], assets=assets), "WETH") == Meaning((WETH, FAR), (FAKE,))
    fed: list[Row] = [Price("", FAR, "eip155:10/slip44:60", 1, 0, "feed", 0, 0)]  # a configured feed, in any unit
    assert of(freeze([*POOL_ROWS, *held, *fed], assets=assets), "WETH") == Meaning((WETH, FAR), (FAKE,))


def test_where_nobody_vouches_the_one_against_which_money_is_lent_is_meant() -> None:
    """Money in a token that somebody vouches for: what a stranger lends himself in his own token is none."""
    other, symbol = "eip155:1/morpho_blue/blue/0x02", "NEW"
    assets = [*ASSETS, Asset(FAKE, symbol, 18), Asset(FAR.replace(":10/", ":1/"), symbol, 18), Asset(FAKE_USD, "U", 6)]
    real = FAR.replace(":10/", ":1/")
    rows = pair(FAKE, FAKE_USD, posted=10**60, owed=10**60) + pair(real, USDC, posted=10**18, owed=10**9, market=other)
    snap = freeze([*POOL_ROWS, *rows], assets=assets)
    assert of(snap, symbol) == Meaning((real,), (FAKE,))
    both = [*rows, *pair(FAKE, USDC, posted=1, owed=10**8, market="eip155:1/morpho_blue/blue/0x03")]
    assert of(freeze([*POOL_ROWS, *both], assets=assets), symbol) == Meaning((FAKE, real), ())  # a tenth of it: both


def test_a_spelling_that_fits_to_the_letter_goes_before_others_of_its_chain() -> None:
    assets = [*ASSETS, Asset(FAKE, "weth", 18), Asset(FAR, "Weth", 18)]
    rows: list[Row] = [price(POOL, FAKE, 1), price("eip155:10/aave_v3/core", FAR, 1)]
    snap = freeze([*POOL_ROWS, *rows], assets=assets)
    assert of(snap, "WETH") == Meaning((WETH, FAR), (FAKE,))
    assert of(snap, "weth") == Meaning((FAKE, FAR), (WETH,))
    assert of(snap, "wETH") == Meaning((FAKE, WETH, FAR), ())


def test_accents_composed_or_not_are_one_symbol_and_nothing_means_nothing() -> None:
    assets = [*ASSETS, Asset(FAKE, "CAFE\u0301", 18), Asset(FAR, "", 18)]
    snap = freeze([*POOL_ROWS, price(POOL, FAKE, 1), price("", FAR, 1)], assets=assets)
    assert of(snap, "caf\u00e9").assets == (FAKE,)
    assert of(snap, "") == of(snap, "NONE") == Meaning((), ())
