"""An HTTP venue over loopback: exact numbers, its own time, retries, refusals, no secrets."""

import asyncio
import gzip
from decimal import Decimal

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from aggregator.chain.recording import Recording
from aggregator.chain.venue import Venue, parse_json, question
from aggregator.core.errors import ConfigError, MalformedAnswerError, RateLimitedError, RecordingError, SourceError
from aggregator.sdk.view import ReplayView, VenueView

KEY = "sk_venue_0123456789"


class Stand:
    """A venue: pages by path; `faults` are answered first, one by one."""

    def __init__(self) -> None:
        self.faults: list[web.Response] = []
        self.seen: list[str] = []
        self.count = 0

    async def __aenter__(self):
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self.handle)
        self.server = TestServer(app)
        await self.server.start_server()
        return self

    async def __aexit__(self, *_):
        await self.server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/api/{KEY}/v2/"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path_qs.removeprefix(f"/api/{KEY}/v2")
        self.seen.append(f"{request.method} {path}")
        if self.faults:
            return self.faults.pop(0)
        self.count += 1
        if path == "/public/get_time":
            return web.json_response({"jsonrpc": "2.0", "result": 1_577_836_800_123, "usOut": 1_577_836_800_123_456})
        if path.startswith("/public/ticker"):
            return web.Response(text=f'{{"result": {{"mark_price": 0.10000000000000000555, "n": {self.count}}}}}')
        if request.method == "POST":
            return web.Response(text='{"echo": ' + await request.text() + "}")
        return web.Response(status=404, text=f"no {KEY} here")


def venue(stand: Stand, **options) -> Venue:
    return Venue("test", stand.url, **{"timeout_s": 0.5, "deadline_s": 2.0, "rounds": 3} | options)


async def test_numbers_are_exact_and_the_view_stands_still():
    async with Stand() as stand, venue(stand) as v:
        at = await v.pin("/public/get_time", "/result")
        assert at == ("venue:test", 1_577_836_800_123_000, "", 1_577_836_800, "venue")
        view = VenueView(v, at)
        first = await view.get("/public/ticker", {"instrument_name": "BTC-PERPETUAL", "all": True})
        assert first["result"]["mark_price"] == Decimal("0.10000000000000000555")
        again = await asyncio.gather(
            *(view.get("public/ticker", {"all": True, "instrument_name": "BTC-PERPETUAL"}) for _ in range(3))
        )
        assert again == [first] * 3
        assert stand.seen.count("GET /public/ticker?all=true&instrument_name=BTC-PERPETUAL") == 1
        assert (await view.post("/rpc", {"b": 1, "a": [2.5]}))["echo"] == {"b": 1, "a": [Decimal("2.5")]}


async def test_a_recorded_venue_answers_alike_without_the_network(tmp_path):
    recorder = Recording()
    async with Stand() as stand, venue(stand) as v:
        at = await v.pin("/public/get_time", "/result")
        view = VenueView(v, at, recorder)
        live = [await view.get("/public/ticker", {"i": i}) for i in range(3)] + [await view.post("/rpc", {"a": 1})]
    recorder.save(tmp_path / "v.gz")
    assert KEY not in (tmp_path / "v.gz").read_bytes().decode("latin1")
    replay = ReplayView(Recording.load(tmp_path / "v.gz"), at)
    assert [await replay.get("/public/ticker", {"i": i}) for i in (0, 1, 2)] + [
        await replay.post("/rpc", {"a": 1})
    ] == live
    assert view.digest == Recording.load(tmp_path / "v.gz").http_digest(at)
    with pytest.raises(RecordingError, match="ticker"):
        await replay.get("/public/ticker", {"i": 9})
    with pytest.raises(RecordingError):
        await replay.post("/rpc", {"a": 2})


async def test_a_key_that_an_answer_repeats_is_neither_recorded_nor_read(tmp_path):
    recorder = Recording()
    async with Stand() as stand, venue(stand) as v:
        at = await v.pin("/public/get_time", "/result")
        asked = f'{{"asked": "{stand.url.replace("/", chr(92) + "/")}", "size": 1.50}}'
        stand.faults = [web.Response(text=asked), web.Response(text='{"time": "' + KEY + '"}')]
        view = VenueView(v, at, recorder)
        live = await view.get("/public/ticker")
        with pytest.raises(MalformedAnswerError, match="gives no time") as caught:
            await v.pin("/public/get_time", "/time")
    recorder.save(tmp_path / "v.gz")
    assert KEY not in gzip.decompress((tmp_path / "v.gz").read_bytes()).decode() + str(live) + str(caught.value)
    assert live["size"] == Decimal("1.50")
    assert "/***/v2/" in live["asked"]
    assert await ReplayView(Recording.load(tmp_path / "v.gz"), at).get("/public/ticker") == live


async def test_transient_faults_are_retried_and_retry_after_is_kept():
    async with Stand() as stand, venue(stand) as v:
        stand.faults = [
            web.Response(status=503),
            web.Response(text='{"result": 1'),
            web.Response(status=429, headers={"Retry-After": "0.2"}),
        ]
        assert "mark_price" in await v.fetch("GET", "/public/ticker", {}, None)
        assert len(stand.seen) == 4


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (lambda: web.Response(status=503), SourceError),
        (lambda: web.Response(text="<html>"), SourceError),
        (lambda: web.Response(text='{"a": NaN}'), SourceError),
        (lambda: web.Response(body=b"\xff\xfe"), SourceError),
        (lambda: web.Response(status=302, headers={"Location": "file:///etc/passwd"}), SourceError),
        (lambda: web.Response(status=429, headers={"Retry-After": "1"}), RateLimitedError),
    ],
)
async def test_lasting_faults_are_named_without_the_key(fault, error):
    async with Stand() as stand, venue(stand) as v:
        stand.faults = [fault() for _ in range(20)]
        with pytest.raises(error) as caught:
            await v.fetch("GET", "/public/ticker", {}, None)
        assert KEY not in str(caught.value) + repr(v)


async def test_a_refusal_is_not_asked_again():
    async with Stand() as stand, venue(stand) as v:
        with pytest.raises(SourceError, match="HTTP 404") as caught:
            await v.fetch("GET", "/nothing", {}, None)
        assert KEY not in str(caught.value)
        assert len(stand.seen) == 1


async def test_a_venue_without_time_cannot_be_pinned():
    async with Stand() as stand, venue(stand) as v:
        with pytest.raises(MalformedAnswerError, match="no time"):
            await v.pin("/public/ticker", "/result/when")


async def test_a_chain_call_on_a_venue_is_a_configuration_error():
    async with Stand() as stand, venue(stand) as v:
        view = VenueView(v, await v.pin("/public/get_time", "/result"))
        with pytest.raises(ConfigError, match="no chain"):
            await view.asset("0x" + "11" * 20)
        with pytest.raises(ConfigError, match="no chain"):
            async for _ in view.logs([], ["E(uint256 x)"], 0):
                pass


def test_json_is_exact_or_refused():
    assert parse_json("[1, 123456789012345678901234567890, 1.10]", "x") == [
        1,
        123456789012345678901234567890,
        Decimal("1.10"),
    ]
    for broken in ("", "{", "[NaN]", "[Infinity]", "[1e400]", "[" * 100_000, '{"a": 1} x'):
        with pytest.raises(MalformedAnswerError):
            parse_json(broken, "x")


def test_a_key_that_an_answer_holds_twice_is_named():
    for twice in ('{"index_price": 1, "index_price": 2}', '{"result": [{"index_price": 1.5, "index_price": 1.5}]}'):
        with pytest.raises(MalformedAnswerError, match="'index_price' is there twice"):
            parse_json(twice, "x")


def test_questions_are_canonical():
    assert (
        question("GET", "a/b", {"z": 1, "a": False})
        == question("GET", "/a/b", {"a": False, "z": 1})
        == "GET /a/b?a=false&z=1"
    )
