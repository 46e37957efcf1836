"""Token metadata as bad tokens give it, straight from bytes and through a view."""

import pytest
from eth_abi.abi import encode

from aggregator.chain.answers import Failure
from aggregator.core.ids import erc20
from aggregator.sdk._token import display, text, token
from aggregator.sdk.testing import FakeView

TOKEN = "0x" + "ab" * 20


def word(n: int) -> bytes:
    return n.to_bytes(32, "big")


def string(value: str) -> bytes:
    return encode(["string"], [value])


@pytest.mark.parametrize("count", [0, 6, 18, 36])
def test_ordinary_decimals(count):
    asset, gap = token(1, TOKEN, string("USDC"), word(count), string("USD Coin"))
    assert (asset.id, asset.symbol, asset.decimals, asset.name, gap) == (
        erc20(1, TOKEN),
        "USDC",
        count,
        "USD Coin",
        None,
    )


@pytest.mark.parametrize(
    ("answer", "reason", "said"),
    [
        (word(77), "bad_decimals", "77"),
        (word(255), "bad_decimals", "255"),
        (word(2**255), "bad_decimals", "2^64"),
        (b"", "bad_decimals", "0 bytes"),
        (bytes(31), "bad_decimals", "31 bytes"),
        (bytes(64), "bad_decimals", "64 bytes"),
        (Failure("paused"), "bad_decimals", "paused"),
        (Failure("", no_code=True), "no_code", "decimals"),
    ],
)
def test_decimals_that_cannot_be_used_are_a_gap_and_never_a_default(answer, reason, said):
    asset, gap = token(1, TOKEN, string("X"), answer, string("X"))
    assert asset.decimals == -1
    assert gap is not None
    assert (gap.subject, gap.reason) == (asset.id, reason)
    assert said in gap.detail


def test_symbols_as_string_bytes32_or_nonsense():
    assert text(string("MKR")) == text(b"MKR".ljust(32, b"\0")) == "MKR"
    assert text(Failure("no")) == text(b"") == text(b"\x01\x02") == ""
    assert text(word(32) + word(2**255) + b"ab") == "ab"
    assert text(word(32) + word(3) + b"\xff\xfeA" + bytes(29)) == "\\xff\\xfeA"


@pytest.mark.parametrize(
    ("symbol", "shown"),
    [
        ("USD\u202eC", "USD\\u202eC"),
        ("A\u200bB", "A\\u200bB"),
        ("\x00\x1b[31m", "\\x00\\x1b[31m"),
        ("a\nb", "a\\nb"),
        ("ETH", "ETH"),
        ("тест", "тест"),
    ],
)
def test_characters_that_act_are_shown_and_do_not_act(symbol, shown):
    assert display(symbol) == shown
    assert display(symbol).isprintable()


def test_long_symbols_are_cut_visibly():
    assert display("x" * 32) == "x" * 32
    assert display("x" * 33) == "x" * 31 + "…"
    assert len(display("\u202e" * 100_000)) == 32


async def test_a_view_asks_once_and_keeps_the_answer():
    view = FakeView().token(TOKEN, "WBTC", 8)
    first = await view.asset(TOKEN.upper().replace("0X", "0x"))
    assert first == await view.asset(TOKEN)
    assert len(view.asked) == 3
    _, gap = await view.asset("0x" + "cd" * 20)
    assert gap is not None
    assert gap.reason == "no_code"
