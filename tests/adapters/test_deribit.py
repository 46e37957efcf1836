"""Deribit through the real venue view, against a local server that speaks its documented protocol.

The payloads are written here in the documented shape; option marks are Black-76 by the error function of `math`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import erfc, log, sqrt
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from adapters.deribit import ADAPTER
from aggregator.app.config import VenueConfig
from aggregator.chain.recording import Recording
from aggregator.chain.venue import Venue
from aggregator.core.block import Cut
from aggregator.core.errors import ConfigError, MalformedAnswerError, RateLimitedError, RecordingError
from aggregator.core.ids import USD
from aggregator.core.rows import Asset, Gap, Market, Price, Row, Term
from aggregator.core.source import HttpSource, read_source
from aggregator.core.table import raw_tables
from aggregator.quant import black
from aggregator.sdk.adapter import Where
from aggregator.sdk.testing import assert_slices_agree, collect_rows
from aggregator.sdk.view import ReplayView, VenueView
from aggregator.snapshot.coverage import coverage
from aggregator.snapshot.snapshot import build

NOW_MS, DAY_MS, YEAR_MS = 1_750_000_000_123, 86_400_000, 31_536_000_000
SUMMARY, INSTRUMENTS = "public/get_book_summary_by_currency", "public/get_instruments"
FORWARD, IV = 64_250.5, 61.27


def black76(forward: float, strike: float, years: float, vol: float, call: bool) -> float:
    spread = vol * sqrt(years)
    d1 = log(forward / strike) / spread + spread / 2
    sign = 1 if call else -1
    return sign * (forward * erfc(-sign * d1 / sqrt(2)) - strike * erfc(-sign * (d1 - spread) / sqrt(2))) / 2


def instrument(name: str, kind: str, days: float, **more: Any) -> dict[str, Any]:
    body = {
        "instrument_name": name, "kind": kind, "expiration_timestamp": NOW_MS + round(days * DAY_MS),
        "creation_timestamp": NOW_MS - DAY_MS, "is_active": True, "instrument_type": "reversed",
        "base_currency": "BTC", "quote_currency": "BTC" if kind == "option" else "USD", "counter_currency": "USD",
        "settlement_currency": "BTC", "price_index": "btc_usd", "contract_size": 1.0, "tick_size": 0.0005,
    }  # fmt: skip
    return body | more


def option(name: str, days: float, strike: float, call: bool, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Listing and summary; marked at IV on FORWARD, in coin with eight places."""
    mark = black76(FORWARD, strike, days * DAY_MS / YEAR_MS, IV / 100, call) / FORWARD
    listing = instrument(name, "option", days, option_type="call" if call else "put", strike=strike)
    quote = {
        "instrument_name": name, "underlying_index": "SYN.BTC-X", "underlying_price": FORWARD, "interest_rate": 0.0,
        "mark_price": round(mark, 8), "mark_iv": IV, "bid_price": round(mark - 0.001, 4),
        "ask_price": round(mark + 0.001, 4), "mid_price": None, "last": None, "open_interest": 364.1, "volume": 0.1,
        "estimated_delivery_price": 64_101.2, "creation_timestamp": NOW_MS, "base_currency": "BTC",
    }  # fmt: skip
    return listing, quote | more


class Stand:
    """The venue: listings and summaries by kind, `faults` answered first."""

    def __init__(self) -> None:
        self.listings: dict[str, list[dict[str, Any]]] = {"option": [], "future": []}
        self.quotes: dict[str, list[dict[str, Any]]] = {"option": [], "future": []}
        self.index: object = 64_101.27
        self.now_ms, self.late_ms = NOW_MS, 0
        self.faults: list[web.Response] = []
        self.texts: dict[str, str] = {}
        self.asked: list[str] = []
        for name, days, strike, call in (("BTC-X-60000-C", 30, 60_000.0, True), ("BTC-X-70000-P", 90, 70_000.0, False)):
            self.add("option", *option(name, days, strike, call))
        perpetual = instrument("BTC-PERPETUAL", "future", 300_000, settlement_period="perpetual")
        self.add("future", perpetual, {
            "instrument_name": "BTC-PERPETUAL", "bid_price": 64_100.0, "ask_price": 64_100.5, "mark_price": 64_100.31,
            "open_interest": 997_891_260, "current_funding": 0.00012966, "funding_8h": -0.00081069, "last": 64_099.0,
        })  # fmt: skip

    def add(self, kind: str, listing: dict[str, Any], quote: dict[str, Any]) -> None:
        self.listings[kind].append(listing)
        self.quotes[kind].append(quote)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path, query = request.path.removeprefix("/api/v2/"), request.query
        self.asked.append(path)
        if path == "public/get_time":
            return web.json_response({"jsonrpc": "2.0", "result": self.now_ms, "usOut": self.now_ms * 1000})
        if self.faults:
            return self.faults.pop(0)
        if path in self.texts:
            return web.Response(text=self.texts[path], content_type="application/json")
        result: object
        if path == "public/get_index_price":
            assert query["index_name"] == "btc_usd"
            result = {"index_price": self.index, "estimated_delivery_price": self.index}
        else:
            assert query["currency"] == "BTC"
            result = (self.listings if path == INSTRUMENTS else self.quotes)[query["kind"]]
        sent_us = (self.now_ms - self.late_ms) * 1000
        body = {"jsonrpc": "2.0", "result": result, "usIn": sent_us, "usOut": sent_us + 155, "usDiff": 155}
        return web.Response(text=json.dumps(body), content_type="application/json")


WHERE = Where("deribit", "venue:deribit", "main", {}, 0, {"currencies": ["BTC"]})
MARKET = "venue:deribit/deribit/main/BTC"


@asynccontextmanager
async def viewing(stand: Stand, recorder: Recording | None = None, deadline_s: float = 3) -> AsyncIterator[VenueView]:
    """The view at the time that the venue itself gives, as configured by default."""
    config, app = VenueConfig("deribit"), web.Application()
    app.router.add_get("/{tail:.*}", stand.handle)
    server = TestServer(app)
    await server.start_server()
    try:
        url = f"http://127.0.0.1:{server.port}/api/v2"
        async with Venue("deribit", url, timeout_s=2, deadline_s=deadline_s, rounds=3) as venue:
            at = await venue.pin(config.time_path, config.time_pointer, config.time_unit)
            yield VenueView(venue, at, recorder)
    finally:
        await server.close()


async def read(stand: Stand, deadline_s: float = 3) -> list[Row]:
    async with viewing(stand, deadline_s=deadline_s) as view:
        return await collect_rows(ADAPTER, view, WHERE)


def terms(rows: list[Row], name: str) -> dict[str, float]:
    return {r.key: r.raw / 10**r.exp for r in rows if isinstance(r, Term) and r.scope == name}


def gaps(rows: list[Row], reason: str) -> list[str]:
    return [r.detail for r in rows if isinstance(r, Gap) and r.reason == reason]


async def test_the_surface_reprices_the_venues_marks() -> None:
    """Black-76 on iv, forward, strike and expiry of our rows gives the mark price that the venue states in coin."""
    rows = await read(Stand())
    for name, sign in (("BTC-X-60000-C", 1), ("BTC-X-70000-P", -1)):
        t = terms(rows, name)
        assert t["iv"] == pytest.approx(0.6127, rel=1e-15)
        years = (t["expiry_s"] - NOW_MS // 1000) / black.SECONDS_PER_YEAR
        price = float(black.black76_price(sign, t["underlying_price"], t["strike"], years, t["iv"], 0.0))
        assert t["mark_price"] == pytest.approx(price / FORWARD, abs=6e-9)  # the venue's eight places
        assert t["mark_price_usd"] == pytest.approx(price, abs=4e-4)
        assert t["bid"] < t["mark_price"] < t["ask"]
        assert (t["is_call"], t["coin_settled"], t["open_interest"]) == (sign == 1, 1, 364.1)
    assert not gaps(rows, "bad_price")


async def test_rows_of_the_market() -> None:
    rows = await read(Stand())
    (market,) = [r for r in rows if isinstance(r, Market)]
    assert (market.market, market.kind, market.rule) == (MARKET, "surface", "")
    (price,) = [r for r in rows if isinstance(r, Price)]
    assert (price.asset, price.quote, price.raw, price.exp, price.path) == (
        "venue:deribit/BTC", USD, 64_101_27 * 10**16, 18, "index",
    )  # fmt: skip
    assert price.updated_s == NOW_MS // 1000
    assert [r.id for r in rows if isinstance(r, Asset)] == ["venue:deribit/BTC"]
    # exact: what is written in decimal is stored in decimal
    raw = {r.key: r.raw for r in rows if isinstance(r, Term) and r.scope == "BTC-PERPETUAL"}
    assert raw["funding_8h"] == -81_069 * 10**10
    assert raw["open_interest"] == 997_891_260 * 10**18
    for row in rows:
        if isinstance(row, Term):
            source = read_source(row.src)
            assert isinstance(source, HttpSource)
            assert source.path.startswith(f"GET /{SUMMARY}?currency=BTC&kind=")
            assert "#/result/" in source.path


async def test_open_interest_is_the_size_of_what_we_cannot_see() -> None:
    """Options: coins at their forward; coin-settled futures: dollars already; linear futures: coins at their mark."""
    stand = Stand()
    linear = instrument("BTC_USDC-PERPETUAL", "future", 9_999, settlement_currency="USDC", quote_currency="USDC")
    quote = {"instrument_name": "BTC_USDC-PERPETUAL", "mark_price": 64_000.0, "open_interest": 12.5}
    stand.add("future", linear, quote)
    rows = await read(stand)
    (gap,) = [r for r in rows if isinstance(r, Gap)]
    size = 2 * 364.1 * FORWARD + 997_891_260 + 12.5 * 64_000
    assert (gap.subject, gap.reason, gap.accounts) == (MARKET, "aggregate_only", -1)
    assert float(gap.value_usd) == pytest.approx(size, abs=0.01)
    facts = [(WHERE.id, row) for row in rows]
    snap = build(raw_tables(facts), Cut.of([(await _at(stand))]), [r for r in rows if isinstance(r, Asset)])
    assert [c.level for c in coverage(snap)] == ["aggregate"]


async def _at(stand: Stand) -> Any:
    async with viewing(stand) as view:
        return view.at


async def test_what_is_wrong_with_an_instrument_is_said_and_costs_no_other() -> None:
    stand = Stand()
    wrong: dict[str, dict[str, Any]] = {
        "IV-TEXT": {"mark_iv": "61.27"},
        "IV-ZERO": {"mark_iv": 0},
        "OI-NEGATIVE": {"open_interest": -1.0},
        "MARK-NULL": {"mark_price": None},
        "MARK-HUGE": {"mark_price": 1e40},
        "BOOL": {"underlying_price": True},
        "CROSSED": {"bid_price": 0.2, "ask_price": 0.1},
    }
    for name, fault in wrong.items():
        stand.add("option", *option(name, 30, 60_000.0, True, **fault))
    stand.add("option", *option("NO-QUOTES", 30, 60_000.0, True, bid_price=None, ask_price=None))
    stand.add("option", *expired())
    unlisted = option("UNLISTED", 30, 60_000.0, True)[1]
    stand.quotes["option"].append(unlisted)
    rows = await read(stand)
    found = {detail.split(":")[0]: detail for detail in gaps(rows, "bad_price")}
    assert found.keys() == wrong.keys()
    assert "crossed" in found["CROSSED"]
    assert not {"bid", "ask"} & terms(rows, "CROSSED").keys()
    for name, key in (
        ("IV-TEXT", "iv"),
        ("IV-ZERO", "iv"),
        ("OI-NEGATIVE", "open_interest"),
        ("MARK-HUGE", "mark_price"),
    ):
        assert key not in terms(rows, name)
    assert "iv" in terms(rows, "MARK-NULL"), "what is right of an instrument stays"
    assert not {"bid", "ask"} & terms(rows, "NO-QUOTES").keys()
    assert terms(rows, "EXPIRED") == {"expiry_s": (NOW_MS - DAY_MS) // 1000, "expired": 1}
    assert [d.split()[0] for d in gaps(rows, "unread")] == ["UNLISTED"]
    assert terms(rows, "BTC-X-60000-C")["iv"] == pytest.approx(0.6127)


async def test_a_listing_and_its_quotes_must_be_one_to_one() -> None:
    """Twice in one list counts once; what is missing from either list is said, and the open interest is not whole."""
    stand = Stand()
    whole = [r.value_usd for r in await read(stand) if isinstance(r, Gap) and r.reason == "aggregate_only"]
    stand.quotes["option"].append({**stand.quotes["option"][0], "open_interest": 1e6, "mark_iv": 10.0})
    twice = await read(stand)
    assert gaps(twice, "unread") == ["BTC-X-60000-C is quoted twice: the first counts"]
    assert [r.value_usd for r in twice if isinstance(r, Gap) and r.reason == "aggregate_only"] == whole
    assert terms(twice, "BTC-X-60000-C")["iv"] == pytest.approx(0.6127)
    stand.quotes["option"] = []
    silent = await read(stand)
    assert gaps(silent, "unread") == ["2 options are listed and not quoted, BTC-X-60000-C among them"]
    assert [r.value_usd for r in silent if isinstance(r, Gap) and r.reason == "aggregate_only"] == [""]


@pytest.mark.parametrize("key", ["option_type", "base_currency", "settlement_currency", "price_index"])
async def test_an_instrument_is_never_guessed_to_be_a_put_or_linear(key: str) -> None:
    stand = Stand()
    listing, quote = option("ODD", 30, 60_000.0, True)
    stand.add("option", {k: v for k, v in listing.items() if k != key}, quote)
    rows = await read(stand)
    assert gaps(rows, "unread") == [f"ODD is listed without {key}"]
    assert not terms(rows, "ODD")
    assert terms(rows, "BTC-X-60000-C")["iv"] == pytest.approx(0.6127)
    stand.listings["option"][-1] = {**listing, "option_type": "straddle"}
    assert gaps(await read(stand), "bad_price") == ["ODD: option_type is straddle"]


async def test_quotes_of_another_hour_are_said_to_be_so() -> None:
    stand = Stand()
    stand.late_ms = 3_600_000
    assert gaps(await read(stand), "stale_price") == [
        f"{kind}s were quoted 3600 s before the cut" for kind in ("option", "future")
    ]


def expired() -> tuple[dict[str, Any], dict[str, Any]]:
    listing, quote = option("EXPIRED", 30, 60_000.0, True)
    return {**listing, "expiration_timestamp": NOW_MS - DAY_MS, "is_active": False}, quote


async def test_instruments_as_the_venue_lists_them() -> None:
    """Figures of get_time, get_instruments, get_instrument and get_order_book as the venue answered them.

    Source: nautechsystems/nautilus_trader @a95c8042b0, crates/adapters/deribit/test_data/http_*.json.
    """
    common = {
        "price_index": "btc_usd", "instrument_type": "reversed", "is_active": True, "settlement_currency": "BTC",
        "base_currency": "BTC", "counter_currency": "USD", "maker_commission": 0.0, "tick_size_steps": [],
    }  # fmt: skip
    option = common | {
        "kind": "option", "instrument_name": "BTC-27DEC24-100000-C", "option_type": "call", "strike": 100000.0,
        "expiration_timestamp": 1735300800000, "creation_timestamp": 1719561600000, "contract_size": 1.0,
        "quote_currency": "BTC", "settlement_period": "month", "tick_size": 0.0005, "instrument_id": 345678,
    }  # fmt: skip
    perpetual = common | {
        "kind": "future", "instrument_name": "BTC-PERPETUAL", "future_type": "reversed", "max_leverage": 50,
        "expiration_timestamp": 32503708800000, "creation_timestamp": 1534167754000, "contract_size": 10.0,
        "quote_currency": "USD", "settlement_period": "perpetual", "tick_size": 0.5, "instrument_id": 124972,
    }  # fmt: skip
    stand = Stand()
    stand.now_ms, stand.index = 1733338800000, 86992.82
    stand.listings = {"option": [option], "future": [perpetual]}
    stand.quotes = {
        "option": [{"instrument_name": "BTC-27DEC24-100000-C", "open_interest": 0.0, "mark_price": 0.0416,
                    "mark_iv": 61.5, "underlying_price": 100123.25, "interest_rate": 0.0,
                    "bid_price": None, "ask_price": None}],
        "future": [{"instrument_name": "BTC-PERPETUAL", "open_interest": 1139551440, "mark_price": 87006.21,
                    "bid_price": 87002.5, "ask_price": 87003.0, "current_funding": 0.0, "funding_8h": 6.55e-06}],
    }  # fmt: skip
    async with viewing(stand) as view:
        assert (view.at.number, view.at.time_s) == (1733338800000000, 1733338800)
        rows = await collect_rows(ADAPTER, view, WHERE)
    exact = {(r.scope, r.key): r.raw for r in rows if isinstance(r, Term)}
    call, perp = "BTC-27DEC24-100000-C", "BTC-PERPETUAL"
    assert (exact[call, "expiry_s"], exact[call, "strike"], exact[call, "is_call"]) == (1735300800, 10**23, 1)
    assert (exact[call, "coin_settled"], exact[call, "iv"]) == (1, 615 * 10**15)
    assert not {(call, "bid"), (call, "ask")} & exact.keys()
    assert (exact[perp, "expiry_s"], exact[perp, "coin_settled"]) == (32503708800, 1)
    assert (exact[perp, "mark_price"], exact[perp, "funding_8h"]) == (8700621 * 10**16, 655 * 10**10)
    assert (exact[perp, "bid"], exact[perp, "ask"]) == (870025 * 10**17, 870030 * 10**17)
    assert [r.raw for r in rows if isinstance(r, Price)] == [8699282 * 10**16]
    (hidden,) = [r for r in rows if isinstance(r, Gap)]
    assert (hidden.reason, hidden.value_usd) == ("aggregate_only", "1139551440.00")


async def test_an_index_that_is_no_number_is_no_price() -> None:
    stand = Stand()
    stand.index = None
    rows = await read(stand)
    assert not [r for r in rows if isinstance(r, Price)]
    assert gaps(rows, "no_price") == ["index btc_usd is None"]
    stand.texts["public/get_index_price"] = '{"jsonrpc": "2.0", "result": []}'
    rows = await read(stand)
    assert gaps(rows, "no_price") == ["index btc_usd is None"]
    assert terms(rows, "BTC-X-60000-C")["iv"] == pytest.approx(0.6127)


async def test_a_rate_limit_is_waited_for_and_a_refusal_is_named() -> None:
    stand = Stand()
    stand.faults = [web.Response(status=429, headers={"Retry-After": "0.01"})] * 2
    assert (await read(stand)) == (await read(Stand()))
    # the venue may refuse with any status: that answer is lost, the others are not
    error = {"jsonrpc": "2.0", "error": {"code": 10028, "message": "too_many_requests"}, "usOut": NOW_MS * 1000}
    for status in (200, 400):
        stand.faults = [web.json_response(error, status=status)]
        rows = await read(stand)
        assert [d.rpartition(": ")[2] for d in gaps(rows, "source_failed")] == ["10028 too_many_requests"]
        assert not terms(rows, "BTC-X-60000-C")
        assert [r.value_usd for r in rows if isinstance(r, Gap) and r.reason == "aggregate_only"] == [""]
        assert terms(rows, "BTC-PERPETUAL")
    stand.faults = [web.Response(status=429, headers={"Retry-After": "0.4"}) for _ in range(9)]
    with pytest.raises(RateLimitedError):
        await read(stand, deadline_s=1)


@pytest.mark.parametrize("text", ['{"result": 5}', '{"result": ["BTC"]}', "[]", '{"jsonrpc": "2.0"}'])
async def test_what_is_no_answer_of_the_venue_is_refused(text: str) -> None:
    stand = Stand()
    stand.texts[SUMMARY] = text
    with pytest.raises(MalformedAnswerError, match="config"):
        await read(stand)


async def test_replays_offline_the_same(tmp_path: Path) -> None:
    recording, stand = Recording(), Stand()
    async with viewing(stand, recording) as view:
        live = await collect_rows(ADAPTER, view, WHERE)
        asked = len(stand.asked)
        assert await collect_rows(ADAPTER, view, WHERE) == live
        assert len(stand.asked) == asked, "a view stands still: nothing is asked twice"
    recording.save(tmp_path / "deribit.json.gz")
    loaded = Recording.load(tmp_path / "deribit.json.gz")
    replay = ReplayView(loaded, loaded.at("venue:deribit"))
    assert await assert_slices_agree(ADAPTER, replay, WHERE) == live
    with pytest.raises(RecordingError):
        await collect_rows(ADAPTER, replay, WHERE._replace(options={"currencies": ["ETH"]}))


async def test_currencies_must_be_listed() -> None:
    async with viewing(Stand()) as view:
        for options in ({}, {"currencies": "BTC"}):
            with pytest.raises(ConfigError, match=r"deribit\.toml"):
                await collect_rows(ADAPTER, view, WHERE._replace(options=options))
