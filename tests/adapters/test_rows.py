"""From answers to rows: what does not fit, or did not answer, is a gap that says so."""

from __future__ import annotations

import pytest

from aggregator.core.errors import SourceError
from aggregator.core.fixed import I256_MAX
from aggregator.core.rows import Gap, Index, Price, Term, Total
from aggregator.core.source import CallSource, read_source
from aggregator.sdk.adapter import Answer, Call, Revert, Target, Where
from aggregator.sdk.rows import ask, demand, fill, gap, need, priced, questions
from aggregator.sdk.testing import FakeView
from aggregator.sdk.tokens import assets

TO = "0x" + "1a" * 20
HERE = Where("aave_v3", "eip155:1", "core", {}, 0, {})
TERM, TOTAL = Term("m", "a", "", "k", 0, 0), Total("m", "a", "supply", 0)


def test_a_row_is_filled_with_the_word_and_where_it_came_from() -> None:
    answer = Answer((7, -9, True), TO, b"\x01\x02\x03\x04")
    row = fill(answer, TERM, 1)
    assert isinstance(row, Term)
    assert row.raw == -9
    assert read_source(row.src) == CallSource(TO, b"\x01\x02\x03\x04", 1)
    assert fill(answer, TERM, 2)[4] == 1
    index = fill(answer, Index("m", "a", "debt", 0, 10, "up"))
    assert (index[3], index[4]) == (7, 10)


@pytest.mark.parametrize("row", [TERM, Price("m", "a", "q", 0, 8, "feed", 0, 0)])
def test_a_number_beyond_int256_is_a_gap_and_not_an_overflow(row: Term | Price) -> None:
    found = fill(Answer((I256_MAX + 1,), TO, b""), row, what="price")
    assert isinstance(found, Gap)
    assert found.reason == "unread"
    assert str(I256_MAX + 1) in found.detail
    assert not isinstance(fill(Answer((I256_MAX,), TO, b""), row), Gap)


def test_a_total_takes_all_of_uint256() -> None:
    assert fill(Answer((2**256 - 1,), TO, b""), TOTAL) == TOTAL._replace(
        raw=2**256 - 1, src=b"\x01\x00" + bytes.fromhex(TO[2:])
    )


@pytest.mark.parametrize(("revert", "reason"), [(Revert("paused"), "reverted"), (Revert("", True), "no_code")])
def test_a_failed_call_is_a_gap(revert: Revert, reason: str) -> None:
    assert fill(revert, TERM, what="deficit") == gap(revert, "a", "deficit")
    found = gap(revert, "a", "deficit")
    assert (found.subject, found.reason) == ("a", reason)
    assert found.detail.startswith("deficit: ")


def test_what_cannot_be_done_without_is_an_error_that_says_what_to_do() -> None:
    fix = r"check addresses and chain of core in config/deployments/aave_v3\.toml"
    with pytest.raises(SourceError, match=rf"(?s)factory does not answer.*no code there.*{fix}"):
        need(Revert("", no_code=True), "factory", HERE)


async def test_what_is_demanded_answers_or_is_named() -> None:
    view, wanted = FakeView().answer(TO, "a()(uint256)", (), (1,)), {"a": "a()(uint256)", "b": "b()(uint256)"}
    (found,) = await demand(view, HERE, [questions(TO, {"a": wanted["a"]})])
    assert found["a"].value == 1
    with pytest.raises(SourceError, match=rf"b\(\)\(uint256\) of {TO} does not answer"):
        await demand(view, HERE, [questions(TO, wanted)])


def test_a_gap_says_what_failed_and_whom_it_hides() -> None:
    revert, place = Revert(""), Term("m", "", "emode:1", "ltv_bps", 0, 0)
    assert fill(revert, place) == gap(revert, "m", "ltv_bps of emode:1")
    assert fill(revert, TERM, subject="m") == gap(revert, "m", "k")
    assert gap(revert, Target("m", "0xholder"), "balance") == gap(revert, "m#0xholder", "balance", accounts=1)
    assert gap(revert, Target("m", ref="7"), "position") == gap(revert, "m#7", "position", accounts=1)


def test_a_target_gives_back_what_its_market_was_made_of() -> None:
    assert HERE.market_id(TO) == f"eip155:1/aave_v3/core/{TO}"
    assert Target(HERE.market_id(TO)).key == TO


async def test_questions_travel_together_and_answers_keep_their_names() -> None:
    one, two, three = (Call(TO, f"{name}()(uint256)") for name in "abc")
    view = FakeView().answer(TO, one.sig, (), (1,)).answer(TO, two.sig, (), (2,))
    asked = await ask(view, [{"x": one}, {}, {"y": two, "z": three}])
    assert [list(answers) for answers in asked] == [["x"], [], ["y", "z"]]
    assert [a.value for answers in asked for a in answers.values() if isinstance(a, Answer)] == [1, 2]
    assert isinstance(asked[2]["z"], Revert)


async def test_metadata_is_given_once_with_its_gap_beside_it() -> None:
    other = "0x" + "2b" * 20
    view = FakeView().token(TO, "TKN", 6)
    found = await assets(view, [TO, other, TO])
    assert list(found) == [TO, other]
    assert found.rows[:2] == [found[TO], found[other]]
    assert [type(row).__name__ for row in found.rows] == ["Asset", "Asset", "Gap"]
    assert (found[TO].symbol, found[TO].decimals, found[other].decimals) == ("TKN", 6, -1)


@pytest.mark.parametrize("zero", [True, False])
def test_a_price_is_a_number_or_a_gap_that_says_why(zero: bool) -> None:
    """Zero is one where the protocol reckons with it, which its adapter states."""
    blank, answer = Price("m", "a", "q", 0, 8, "feed", 0, 0), Answer((7,), TO, b"\1\2\3\4")
    assert priced(answer, blank, "price", zero_is_price=zero) == blank._replace(raw=7, src=answer.src())
    nought = answer._replace(values=(0,))
    if zero:
        assert priced(nought, blank, "price", zero_is_price=True) == blank._replace(raw=0, src=answer.src())
    for found, why in (
        *([] if zero else [(nought, "price answers 0 in m")]),
        (Revert("stale"), "price: stale in m"),
        (answer._replace(values=(2**255,)), "which does not fit int256 in m"),
    ):
        row = priced(found, blank, "price", zero_is_price=zero)
        assert isinstance(row, Gap)
        assert (row.subject, row.reason) == ("a", "no_price")
        assert row.detail.endswith(why)


def test_a_revert_has_no_value_and_no_source() -> None:
    assert (Revert("").value, Revert("").src(3)) == (None, b"")
