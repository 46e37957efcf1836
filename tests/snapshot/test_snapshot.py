"""Frozen columns: the same digest for the same rows, another for others; every exact row found again."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import DomainError
from aggregator.core.rows import (
    AccountTerm,
    Asset,
    Depth,
    Exposure,
    Gap,
    Index,
    Market,
    OptionLeg,
    PerpPosition,
    Price,
    Row,
    Term,
)  # fmt: skip
from aggregator.core.schema import KIND_OF, SCHEMA
from aggregator.core.table import raw_tables
from aggregator.snapshot import build
from aggregator.snapshot.coverage import coverage
from tests.snapshot.world import ASSETS, CUT, POOL, POOL_ROWS, USDC, WETH, freeze, price

_name = st.sampled_from(["", "a", "b", "ab", "é", "\U0001f3e6"])
_u256, _i256 = st.integers(0, 2**256 - 1), st.integers(-(2**255), 2**255 - 1)
_i64, _src = st.integers(-(2**63), 2**63 - 1), st.binary(max_size=4)
_row = st.one_of(
    st.builds(Exposure, _name, _name, _name, _name, st.sampled_from(["supply", "debt"]), _u256, _src),
    st.builds(Depth, _name, _name, _name, _i64, _i256, _src),
    st.builds(PerpPosition, _name, _name, _name, _name, _i256, _i256, st.integers(0, 36), _src),
    st.builds(OptionLeg, *[_name] * 8, _i64, _i256, _i256, st.integers(0, 36), _src),
    st.builds(AccountTerm, _name, _name, _name, _name, _i256, _src),
    st.builds(Term, _name, _name, _name, _name, _i256, st.integers(0, 36), _src),
)


@given(st.lists(_row, max_size=12), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_rows_come_back(rows: list[Row], rng: random.Random) -> None:
    shuffled = rng.sample(rows, len(rows))
    snap, other = freeze(rows), freeze(shuffled)
    assert snap.digest == other.digest
    for kind in SCHEMA:
        wanted = [row for row in rows if KIND_OF[type(row)] == kind]  # type: ignore[index]
        found = [row for row in snap.rows(kind) if kind != "gap"]
        assert sorted(found) == sorted(wanted)
        assert found == other.rows(kind) or kind == "gap"


@given(st.lists(_row, min_size=1, max_size=6), st.data())
def test_any_change_changes_the_digest(rows: list[Row], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    row: Row = data.draw(_row)
    changed = [*rows[:place], row, *rows[place + 1 :]]
    assert (freeze(changed).digest == freeze(rows).digest) == (sorted(map(repr, changed)) == sorted(map(repr, rows)))


def test_the_digest_knows_cut_assets_and_deployment() -> None:
    raw = raw_tables((POOL, row) for row in POOL_ROWS)
    digests = [
        freeze(POOL_ROWS).digest,
        build(raw, Cut.of([BlockRef("eip155:1", 101, "0x1", 0, "safe")]), ASSETS).digest,
        freeze(POOL_ROWS, assets=[Asset(WETH, "OTHER", 18), *ASSETS[1:]]).digest,
        build(raw_tables(("eip155:1/aave_v3/fork", row) for row in POOL_ROWS), CUT, ASSETS).digest,
        freeze(POOL_ROWS, levels={POOL: "partial"}).digest,  # its coverage says so, and every result carries that
    ]
    assert len(set(digests)) == len(digests)
    assert freeze(POOL_ROWS, levels={POOL: "full"}).digest == digests[0]
    unused = Asset("eip155:1/erc20:0x" + "9" * 40, "X", 18)
    assert freeze(POOL_ROWS, assets=[*ASSETS, unused]).digest == digests[0]


def test_find_equals_looking_at_every_row() -> None:
    rng = random.Random(4)
    rows: list[Row] = [
        Exposure(f"m{rng.randrange(5)}", f"h{rng.randrange(9)}", "", rng.choice("xyz"), "debt", rng.randrange(3))
        for _ in range(400)
    ]
    snap = freeze(rows)
    asked: list[dict[str, str | int]] = [
        {}, {"market": "m1"}, {"holder": "h3"}, {"market": "m1", "holder": "h3"}, {"asset": "x", "shares": 2},
        {"holder": "nobody"}, {"deployment": POOL, "market": "m2"}, {"deployment": "m2"},
    ]  # fmt: skip
    for equals in asked:
        fields = {k: v for k, v in equals.items() if k != "deployment"}
        wanted = [r for r in rows if all(getattr(r, k) == v for k, v in fields.items())]
        wanted = wanted if equals.get("deployment", POOL) == POOL else []
        assert snap.rows("exposure", **equals) == sorted(wanted), equals


def test_columns_are_frozen_and_typed() -> None:
    snap = freeze(POOL_ROWS)
    table = snap.tables["exposure"]
    assert table["market"].dtype == np.int32
    assert table["shares"].shape == (3, 32)
    assert table["shares_f"].dtype == np.float64
    for columns in snap.tables.values():
        for values in columns.columns.values():
            assert not values.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        table["shares_f"][0] = 1.0
    assert [snap.names[code] for code in table["holder"]] == ["0xaa", "0xaa", "0xbb"]
    assert list(snap.names) == sorted(snap.names)
    assert (snap.code("no such"), snap.deployment_of(POOL), snap.deployment_of("x")) == (-1, POOL, "")


def test_floats_carry_the_scale_of_their_row() -> None:
    snap = freeze([price("", WETH, -5 * 10**17, exp=18), price("", USDC, 7, exp=-2)])
    assert sorted(snap.tables["price"]["raw_f"].tolist()) == [-0.5, 700.0]
    with pytest.raises(DomainError, match="exp is out of range"):
        freeze([price("", WETH, 1, exp=10_000)])


def test_time_is_the_sources_own() -> None:
    snap = freeze(POOL_ROWS)
    assert snap.time_s("eip155:1/x") == CUT.blocks[0].time_s
    assert snap.time_s("eip155:10/x") == CUT.blocks[1].time_s
    assert snap.time_s("iso4217:USD") == CUT.time_s


def test_coverage_says_what_is_full_partial_and_aggregate() -> None:
    def level(*gaps: Row, said: str = "full") -> tuple[str, int, str, int]:
        (line,) = coverage(freeze([*POOL_ROWS, *gaps], levels={POOL: said}))
        assert (line.chain, line.protocol, line.deployment) == (1, "aave_v3", "core")
        return line.level, line.accounts, line.value_usd, line.gaps

    # (10^18 + 1 + 5) * 4/3 WETH at 2,000 USD; debt is not owned
    assert level() == ("full", 2, "2666.67", 0)
    assert level(Gap("", "stale_price", "")) == ("full", 2, "2666.67", 1)
    assert level(Gap("", "unlisted_accounts", "")) == ("partial", 2, "2666.67", 1)
    assert level(Gap("", "aggregate_only", "")) == ("aggregate", 2, "2666.67", 1)
    assert level(said="failed")[::2] == ("partial", None)
    assert [
        (c.chain, c.protocol, c.deployment, c.accounts)
        for c in coverage(freeze([], levels={"venue:deribit/deribit/main": "aggregate"}))
    ] == [("venue:deribit", "deribit", "main", 0)]


@pytest.mark.parametrize("subject", [POOL, f"{POOL}/BTC"])
def test_a_deployment_that_fails_in_part_while_its_source_is_read_is_one_line(subject: str) -> None:
    (line,) = coverage(freeze([Gap(subject, "source_failed", "refused")], levels={POOL: "failed"}))
    assert (line.deployment, line.level, line.value_usd, line.gaps) == ("core", "partial", None, 1)


def test_a_source_that_gave_nothing_is_worth_something_unknown_and_not_zero() -> None:
    gap = Gap("eip155:7/aave_v3/core", "source_failed", "refused", 12)
    (_, gone) = coverage(freeze([*POOL_ROWS, gap], levels={POOL: "full"}))
    assert (gone.chain, gone.level, gone.accounts, gone.value_usd, gone.gaps) == (7, "partial", 0, None, 1)


def test_perps_and_options_count_as_accounts() -> None:
    rows: list[Row] = [
        Market(POOL, "perp", "perp_curie@1", ""),
        PerpPosition(POOL, "a", "", WETH, 1, -1, 18),
        OptionLeg(POOL, "b", "1", WETH, USDC, "C", "european", USDC, 1, 1, 1, 18),
        Exposure(POOL, "b", "1", USDC, "margin", 10**6),
        Index(POOL, USDC, "margin", 1, 1, "down"),
        Price("", USDC, "iso4217:USD", 10**8, 8, "feed", 0, 0),
    ]
    (line,) = coverage(freeze(rows))
    assert (line.accounts, line.value_usd) == (2, "1.00")
