"""The service over real HTTP on loopback: what is served decodes into the documented types and equals the command."""

from __future__ import annotations

import asyncio
import hashlib
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer

from aggregator import __version__
from aggregator.api import make_app, types
from aggregator.api.openapi import document
from aggregator.app import App
from aggregator.core.block import BlockRef, Cut
from aggregator.core.rows import Gap, Price
from aggregator.store import Store
from tests.devnet.worlds import World
from tests.line.fixtures import Opener, quiet

Client = TestClient[aiohttp.web.Request, aiohttp.web.Application]


def client_of(app: App) -> Client:
    return TestClient(TestServer(make_app(app, look_s=0.0)))


async def test_a_wallet_is_served_as_the_command_prints_it(collected: App, three_chains_world: World) -> None:
    async with client_of(collected) as client:
        for address in (three_chains_world.wallets[0], three_chains_world.wallets[0].lower()):
            answer = await client.get(f"/v1/wallets/{address}")
            body = await answer.read()
            assert answer.status == 200, body
            envelope = msgspec.json.decode(body, type=types.Envelope)
            wallet = msgspec.convert(envelope.data, types.WalletOut)
            printed = collected.wallet(address)
            assert [p.health_factor for p in wallet.positions] == [p["health_factor"] for p in printed["positions"]]
            assert envelope.meta.cut.digest == printed["cut"]["digest"]


async def test_cuts_coverage_health_and_document(collected: App) -> None:
    async with client_of(collected) as client:
        cuts = msgspec.json.decode(await (await client.get("/v1/cuts")).read(), type=types.Envelope)
        assert msgspec.convert(cuts.data, list[types.CutOut])[0].digest == collected.cuts()[0].digest
        coverage = msgspec.json.decode(await (await client.get("/v1/coverage")).read(), type=types.Envelope)
        answer = msgspec.convert(coverage.data, types.CoverageAnswer)
        assert answer.coverage
        assert all(line.equal for line in answer.reconciliation)
        health = msgspec.json.decode(await (await client.get("/healthz")).read(), type=types.Health)
        assert health.status == "ok"
        assert await (await client.get("/openapi.json")).json() == document()


async def test_every_documented_path_is_served_and_every_route_documented(collected: App) -> None:
    service = make_app(collected)
    served = {
        (r.method.lower(), r.resource.canonical) for r in service.router.routes() if r.resource and r.method != "HEAD"
    }
    documented = {(method, path) for path, item in document()["paths"].items() for method in item}
    assert served == documented


async def test_a_stress_is_computed_once_per_question(collected: App) -> None:
    async with client_of(collected) as client:
        scenario = {"name": "mild", "price": {"WETH": -0.1}}
        first = await (await client.post("/v1/stress", json=scenario)).json()
        again = await (await client.post("/v1/stress", json=scenario)).json()
        assert first["data"]["job"] == again["data"]["job"]
        assert first["data"] == again["data"]
        assert first["data"]["convergence"]["converged"] in (True, False)
        named = await client.get("/v1/stress", params={"scenario": "eth_down_30"})
        assert named.status == 200


async def test_a_stress_is_named_by_what_was_read_and_found_again_by_its_name(collected: App) -> None:
    snap, scenario = collected.snapshot(), collected.scenario("mild")
    parts = (snap.digest, "", scenario.digest, __version__)
    job = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    kept = collected.stress("mild", "", quiet, keep=True)
    assert kept["job"] == collected.job(snap, scenario) == job
    stored = orjson.dumps({**kept, "notes": ["as it was stored"]})
    collected.store.save_stress(job, snap.cut.digest, scenario.digest, __version__, stored)
    async with client_of(collected) as client:
        served = await (await client.get("/v1/stress?scenario=mild")).json()
        assert served["data"] == orjson.loads(stored)


async def test_one_tag_covers_answers_that_differ_in_their_age_alone(
    collected: App, three_chains_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is a weak one: RFC 9110 8.8.1 keeps strong tags for equal bytes."""
    paths = ["/v1/cuts", "/v1/coverage", f"/v1/wallets/{three_chains_world.wallets[0]}", "/v1/stress?scenario=mild"]
    seen: dict[str, list[tuple[str, bytes]]] = {path: [] for path in paths}
    now = time.time()
    async with client_of(collected) as client:
        for later_s in (1000.0, 2000.0):
            monkeypatch.setattr(time, "time", lambda later_s=later_s: now + later_s)
            for path in paths:
                answer = await client.get(path)
                seen[path].append((answer.headers["ETag"], await answer.read()))
    for (tag, body), (later_tag, later_body) in seen.values():
        assert tag == later_tag
        assert tag.startswith('W/"')
        assert body != later_body
    assert len({tags[0][0] for tags in seen.values()}) == len(paths)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/wallets/vitalik.eth", None, 422),
        ("GET", "/v1/wallets/0x12", None, 422),
        ("GET", "/v1/wallets/0x" + "g" * 40, None, 422),
        ("GET", "/v1/wallets/%2e%2e%2fetc", None, 422),
        ("GET", "/v1/nothing", None, 404),
        ("DELETE", "/v1/cuts", None, 405),
        ("GET", "/v1/stress", None, 422),
        ("GET", "/v1/stress?scenario=eth_down", None, 422),
        ("GET", "/v1/stress?scenari=eth_down_30", None, 422),
        ("GET", "/v1/cuts?at=5", None, 422),
        ("GET", "/v1/coverage?chain=1", None, 422),
        ("GET", "/healthz?verbose=1", None, 422),
        ("GET", "/v1/stress?scenario=../../config/default.toml", None, 422),
        ("POST", "/v1/stress", b"{", 422),
        ("POST", "/v1/stress", b"[]", 422),
        ("POST", "/v1/stress", b'{"name": "x", "price": {"WETH": -2}}', 422),
        ("POST", "/v1/stress", b'{"name": "x", "price": {"WETHH": -0.2}}', 422),
        ("POST", "/v1/stress", b'{"name": "x", "prices": {}}', 422),
        ("POST", "/v1/stress", b'{"name": "x", "price": {"WETH": NaN}}', 422),
        ("POST", "/v1/stress", b'{"name": "x", "price": {"WETH": 1' + b"0" * 400 + b"}}", 422),
        ("POST", "/v1/stress", b'{"name": "x", "price": {"WETH": 1e300}}', 422),
        ("POST", "/v1/stress", b'{"name": "x", "price": {"WETH": 1' + b"0" * 5000 + b"}}", 422),
        ("POST", "/v1/stress", b"[" * 5000 + b"]" * 5000, 422),
        ("POST", "/v1/stress", b'{"a":' * 5000 + b"1" + b"}" * 5000, 422),
        ("POST", "/v1/stress", b"\xff\xfe\x00", 422),
        ("POST", "/v1/stress", b" " * (300 * 1024), 413),
        ("GET", "/v1/stress?scenario=mild&scenario=eth_down_30", None, 422),
    ],
)
async def test_wrong_requests_get_one_problem_object(
    collected: App, method: str, path: str, body: bytes | None, status: int
) -> None:
    async with client_of(collected) as client:
        answer = await client.request(method, path, data=body)
        problem = await answer.json(content_type="application/problem+json")
        assert answer.status == status, problem
        assert {"title", "detail", "status", "code"} <= set(problem)
    asked = "/v1/wallets/{address}" if path.startswith("/v1/wallets/") else path.partition("?")[0]
    if operation := document()["paths"].get(asked, {}).get(method.lower()):
        assert str(status) in operation["responses"]


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"name": "x", "price": {"WETH": -0.2, "WETH": -0.5}}', "WETH"),
        (b'{"name": "x", "price": {"WETH": -0.2}, "price": {"WETH": -0.2}}', "price"),
        (b'{"name": "x", "conventions": {"rounds": "batch", "max_rounds": 9, "rounds": "batch"}}', "rounds"),
        (b'{"name": "x", "depth": {"*": 0.5, "\\u002a": 0.5}}', "*"),  # one key, written in two ways
    ],
)
async def test_a_body_that_says_one_key_twice_is_refused_by_its_name(collected: App, body: bytes, key: str) -> None:
    async with client_of(collected) as client:
        answer = await client.post("/v1/stress", data=body)
        problem = await answer.json(content_type="application/problem+json")
        assert answer.status == 422
        assert problem["found"] == f"key {key!r} is there twice"


@pytest.mark.parametrize(
    "body",
    [
        rb'{"name": "\ud800", "price": {"WETH": -0.2}}',
        rb'{"name": "x", "description": "a\udfffb", "price": {"WETH": -0.2}}',
        rb'{"name": "x", "price": {"\udc00": -0.2}}',
        rb'{"name": "x", "price": {"WETH": "\ud83d"}}',
        rb'{"name": "x", "price": ["\ud800\ud800"]}',
        rb'{"\udbff": 1}',
        rb'{"name": "x", "conventions": {"rounds": "\ude00\ud83d"}}',
    ],
)
async def test_half_a_surrogate_pair_is_refused_wherever_it_stands(collected: App, body: bytes) -> None:
    async with client_of(collected) as client:
        answer = await client.post("/v1/stress", data=body)
        problem = await answer.json(content_type="application/problem+json")
        assert answer.status == 422, problem
        assert "surrogates not allowed" in problem["found"]
        whole = await client.post("/v1/stress", data=rb'{"name": "\ud83d\ude00", "price": {"WETH": -0.2}}')
        assert (await whole.json())["data"]["scenario"]["name"] == "\U0001f600"


@pytest.mark.parametrize("header", [("Content-Encoding", "gzip"), ("Content-Type", "application/json; charset=utf-99")])
async def test_a_body_that_is_not_what_its_header_says_is_no_defect_of_ours(
    collected: App, header: tuple[str, str]
) -> None:
    async with client_of(collected) as client:
        answer = await client.post("/v1/stress", data=b'{"name": 5}', headers=[header])
        assert answer.status == 422, await answer.read()


async def test_an_empty_store_is_alive_and_says_so(three_chains_world: World, open_app: Opener) -> None:
    async with client_of(open_app(three_chains_world)) as client:
        said = msgspec.json.decode(await (await client.get("/healthz")).read(), type=types.Health)
        assert said.status == "empty"
        assert said.detail
        assert (await client.get("/v1/cuts")).status == 503


async def test_a_new_cut_is_swapped_in_whole_while_requests_run(world: World, open_app: Opener, tmp_path: Path) -> None:
    app = open_app(world)
    await asyncio.to_thread(app.collect, quiet)
    async with client_of(app) as client:
        digests: set[str] = set()
        done = asyncio.Event()

        async def ask() -> None:
            while not done.is_set():
                answer = await client.get(f"/v1/wallets/{world.wallets[1]}")
                assert answer.status == 200
                data = await answer.json()
                assert data["meta"]["cut"]["digest"] == data["data"]["cut"]["digest"]
                digests.add(data["meta"]["cut"]["digest"])

        readers = [asyncio.create_task(ask()) for _ in range(4)]
        world.aave[1].supply(world.wallets[1], "USDC", 10**9)
        await asyncio.to_thread(app.collect, quiet)
        await client.get("/v1/cuts")
        await ask_once(client, world, digests)
        done.set()
        await asyncio.gather(*readers)
        assert len(digests) == 2


async def test_the_same_blocks_read_again_replace_what_was_served(tmp_path: Path) -> None:
    """A run with a fault and the next one at the same blocks share their cut, and no name: no row, no stress stays."""
    cut = Cut.of([BlockRef("eip155:1", 7, "0x" + "07" * 32, 1_750_000_000, "latest")])
    pool, weth = "eip155:1/aave_v3/core", "eip155:1/erc20:0x" + "aa" * 20
    (tmp_path / "c.toml").write_text(f'[store]\nurl = "sqlite:///{tmp_path}/s.db"\n')
    with App.open(tmp_path / "c.toml") as app, Store.open(f"sqlite:///{tmp_path}/s.db") as writing:

        def run(level: str, *rows: Gap | Price) -> None:
            with writing.write_run(cut) as writer:
                writer.cut_rows(pool, rows)
                writer.coverage(pool, level)

        async with client_of(app) as client:

            async def ask() -> tuple[Any, ...]:
                covered, shocked = (
                    await client.get("/v1/coverage"),
                    await client.post("/v1/stress", data=b'{"name":"x"}'),
                )
                answer = await covered.json()
                degraded, result = answer["meta"]["degraded"], (await shocked.json())["data"]
                return degraded, result["snapshot_digest"], covered.headers["ETag"], result["job"]

            run("failed", Gap(pool, "adapter_failed", "disk on fire"))
            before = await ask()
            run("full", Price("", weth, "iso4217:USD", 2000 * 10**8, 8, "feed", 1_750_000_000, 3600))
            after = await ask()
    assert (before[0], after[0]) == (["1/aave_v3/core"], [])
    assert not set(before[1:]) & set(after[1:])  # neither of them under the other's name


async def test_what_is_held_answers_on_while_the_database_is_away(tmp_path: Path) -> None:
    url, file = f"sqlite:///{tmp_path}/s.db", tmp_path / "c.toml"
    file.write_text(f'[store]\nurl = "{url}"\n')

    def say(command: str) -> None:
        with sqlite3.connect(tmp_path / "s.db") as connection:
            connection.execute(command)

    with App.open(file) as app, Store.open(url) as writing:
        with writing.write_run(Cut.of([BlockRef("eip155:1", 7, "0x" + "07" * 32, 1_750_000_000, "latest")])):
            pass
        async with client_of(app) as client, client_of(app) as late:

            async def health(of: Client) -> tuple[str, bool]:
                said = msgspec.json.decode(await (await of.get("/healthz")).read(), type=types.Health)
                return said.status, bool(said.detail)

            assert await health(client) == ("ok", False)
            say("ALTER TABLE run RENAME TO away")
            assert (await client.get("/v1/coverage")).status == 200
            assert await health(client) == ("ok", True)
            assert await health(late) == ("unavailable", True)
            for refused in (await client.get("/v1/cuts"), await late.get("/v1/coverage")):
                assert refused.status == 503
                assert "run" not in (await refused.json())["found"]  # what the driver says is for the log
            say("ALTER TABLE away RENAME TO run")
            assert await health(client) == await health(late) == ("ok", False)


async def ask_once(client: Client, world: World, digests: set[str]) -> None:
    data = await (await client.get(f"/v1/wallets/{world.wallets[1]}")).json()
    digests.add(data["meta"]["cut"]["digest"])


async def test_refusals_say_what_can_be_asked(collected: App) -> None:
    async with client_of(collected) as client:
        absent = await (await client.get("/v1/nothing")).json(content_type="application/problem+json")
        assert "/v1/wallets/{address}" in absent["expected"]
        assert absent["found"] == "GET /v1/nothing"
        wrong = await client.delete("/v1/cuts")
        assert "GET" in wrong.headers["Allow"]
        checksum = await client.get("/v1/wallets/0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD")
        assert checksum.status == 422
        head = await client.head("/v1/cuts")
        assert (head.status, await head.read()) == (200, b"")


async def test_a_defect_is_a_problem_object_without_its_text(collected: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("http://host/v2/SECRET")

    monkeypatch.setattr(App, "gaps", lambda *_: broken(_))
    async with client_of(collected) as client:
        answer = await client.get("/v1/coverage")
        problem = await answer.json(content_type="application/problem+json")
    assert answer.status == 500
    assert "SECRET" not in str(problem)
    assert {"code", "expected", "found", "fix"} <= set(problem)


async def test_an_account_of_an_imported_book_is_served_by_its_name(tmp_path: Path) -> None:
    book = tmp_path / "book"
    book.mkdir()
    for name, rows in (
        ("markets", "market,rule\nmain,compound_v2@1\n"),
        ("collateral", "market,asset,liquidation_threshold\nmain,ETH,0.8\n"),
        ("prices", "asset,price_usd\nETH,2000\nUSDC,1\n"),
        ("positions", "market,account,asset,side,amount\nmain,al ice,ETH,collateral,10\nmain,al ice,USDC,debt,14000\n"),
    ):
        (book / f"{name}.csv").write_text(rows)
    (tmp_path / "c.toml").write_text(f'[store]\nurl = "sqlite:///{tmp_path / "x.db"}"\n')
    with App.open(tmp_path / "c.toml") as app:
        app.import_book(book)
        async with client_of(app) as client:
            answer = await (await client.get("/v1/wallets/al%20ice")).json()
            (position,) = answer["data"]["positions"]
            assert float(position["health_factor"]) == pytest.approx(10 * 2000 * 0.8 / 14000)
            assert (await client.get(answer["links"]["self"])).status == 200
            assert (await client.get("/v1/wallets/bob")).status == 422
            named = await (await client.get("/v1/stress?scenario=nope")).json(content_type="application/problem+json")
            assert named["expected"].startswith("one of")


ASKED = ("/v1/cuts", "/v1/coverage", "/v1/wallets/0x{0}1", "/v1/stress?scenario=mild", "/v1/stress?scenario=vol_spike")


@pytest.mark.parametrize("path", ASKED)
async def test_what_is_still_the_answer_is_not_sent_again(config: Path, path: str) -> None:
    with App.open(config) as app:
        async with client_of(app) as client:
            path = path.format("0" * 39)
            first = await client.get(path)
            tag = first.headers["ETag"]
            for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
                again = await client.get(path, headers={"If-None-Match": known})
                assert (again.status, again.headers["ETag"], await again.read()) == (304, tag, b"")
            assert (await client.head(path, headers={"If-None-Match": tag})).status == 304
            changed = await client.get(path, headers={"If-None-Match": f'"other", W/"{tag[3:-2]}"'})
            assert changed.status == 200
            body = {"name": "mild", "price": {}}
            assert (await client.post("/v1/stress", json=body, headers={"If-None-Match": "*"})).status == 200


@pytest.mark.parametrize("path", ASKED)
async def test_an_answer_links_to_itself(config: Path, path: str) -> None:
    with App.open(config) as app:
        async with client_of(app) as client:
            first = await (await client.get(path.format("0" * 39))).json()
            again = await (await client.get(first["links"]["self"])).json()
            for answer in (first, again):
                answer["meta"].pop("age_s")
                if isinstance(answer["data"], dict):
                    answer["data"].pop("age_s", None)
            assert first == again


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/wallets/0x12", "/v1/stress?scenario=nope", "/v1/cuts?at=5"])
async def test_titles_are_sentences_and_one_for_each_code(config: Path, path: str) -> None:
    with App.open(config) as app:
        async with client_of(app) as client:
            problem = await (await client.get(path)).json(content_type="application/problem+json")
    assert re.fullmatch(r"[A-Z][a-z]+( [a-z-]+)+\.", problem["title"])
    assert problem["type"] == f"urn:spillover:{problem['code']}"
