"""Provenance bytes, column types and the block references that everything carries."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core import ids, rows
from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import ConfigError, DomainError
from aggregator.core.schema import KIND_OF, KINDS, PACK, POSITIONS, SCHEMA, UNPACK
from aggregator.core.source import (
    CallSource,
    HttpSource,
    LogSource,
    call_source,
    http_source,
    log_source,
    read_source,
)  # fmt: skip
from aggregator.core.table import clean_text

address = st.binary(min_size=20, max_size=20).map(lambda data: "0x" + data.hex())


@given(address, st.binary(max_size=100), st.integers(0, 255))
def test_calls_come_back(to: str, data: bytes, word: int) -> None:
    assert read_source(call_source(to, data, word)) == CallSource(to, data, word)


@given(address, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_logs_come_back(emitter: str, block: int, index: int) -> None:
    assert read_source(log_source(block, index, emitter)) == LogSource(block, index, emitter)


@given(st.text(max_size=50))
def test_paths_come_back(path: str) -> None:
    assert read_source(http_source(path)) == HttpSource(path)


def test_nothing_and_the_unknown() -> None:
    assert read_source(b"") is None
    with pytest.raises(DomainError, match="unknown kind"):
        read_source(b"\x09")


def test_every_amount_is_exact_and_every_kind_ends_in_its_source() -> None:
    for kind, columns in SCHEMA.items():
        assert columns[-1] == ("src", "bytes"), kind
        for column in columns:
            if column.name in ("raw", "shares", "num", "den", "size", "open_notional", "strike"):
                assert column.type in PACK, (kind, column)
            assert column.type in ("name", "text", "int", "bytes", *PACK)
    assert set(PACK) == set(UNPACK)
    assert set(KIND_OF.values()) == set(KINDS)
    assert {KINDS[k] for k in POSITIONS} == set(rows.POSITION_KINDS)
    assert set(rows.CUT_KINDS) | set(rows.POSITION_KINDS) == set(KIND_OF)


def test_signs_are_as_the_rows_say() -> None:
    types = {(kind, c.name): c.type for kind, columns in SCHEMA.items() for c in columns}
    assert types["price", "raw"] == types["term", "raw"] == types["perp", "size"] == types["depth", "raw"] == "i256"
    assert types["exposure", "shares"] == types["index", "num"] == types["total", "raw"] == "u256"
    assert types["gap", "detail"] == "text"


@given(st.text(max_size=3000))
def test_cleaned_text_is_storable_and_clean(text: str) -> None:
    clean = clean_text(text)
    assert "\0" not in clean
    assert len(clean.encode()) <= 2000
    assert clean_text(clean) == clean
    assert clean == text or "\0" in text or len(text.encode()) > 2000


def test_long_texts_stay_apart() -> None:
    assert clean_text("x" * 5000) != clean_text("x" * 5001)


_block = st.builds(
    BlockRef,
    st.sampled_from(["eip155:1", "venue:deribit"]),
    st.integers(0, 9),
    st.text(max_size=3),
    st.integers(0, 9),
    st.just("safe"),
)


@given(st.lists(_block, max_size=4, unique_by=lambda b: b.source))
def test_a_cut_is_its_blocks_in_any_order(blocks: list[BlockRef]) -> None:
    cut = Cut.of(blocks)
    assert cut == Cut.of(blocks[::-1])
    assert cut.digest == Cut.of(tuple(blocks)).digest
    assert cut.skew_s == (max(b.time_s for b in blocks) - min(b.time_s for b in blocks) if blocks else 0)
    assert json.loads(json.dumps(cut.digest)) == cut.digest
    for block in blocks:
        assert cut.at(block.source) == block
    assert cut.at("eip155:5") is None


def test_ids() -> None:
    token = ids.erc20(10, "0x" + "AB" * 20)
    assert token == "eip155:10/erc20:0x" + "ab" * 20
    assert (ids.chain_of(token), ids.source_of(token), ids.address_of(token)) == (10, "eip155:10", "0x" + "ab" * 20)
    assert ids.chain_of("venue:deribit/BTC") is None
    assert ids.adapter_of("eip155:1/aave_v3/core") == "aave_v3"
    assert ids.parse_address(" 0x" + "Ab" * 20 + "\n") == "0x" + "ab" * 20
    for bad in ("vitalik.eth", "0x12", "0x" + "g" * 40, "0x" + "1" * 41):
        with pytest.raises(ConfigError, match="not an EVM address"):
            ids.parse_address(bad)
    with pytest.raises(ConfigError, match="no contract address"):
        ids.address_of(ids.USD)
