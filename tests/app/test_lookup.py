"""What a person types to name a cut or an account: every way that works, and what is said where none does."""

from __future__ import annotations

import asyncio
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from aggregator.api import make_app
from aggregator.app.demo import RECORDING, Demo
from aggregator.app.doctor import examine
from aggregator.app.running import run
from aggregator.app.wiring import App
from aggregator.cli import show
from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import ConfigError, ImportDataError
from tests.report.fixtures import quiet

BOOK = {
    "markets": "market,rule\nmain,compound_v2@1\n",
    "collateral": "market,asset,liquidation_threshold\nmain,ETH,0.8\n",
    "prices": "asset,price_usd\nETH,2000\nUSDC,1\n",
    "positions": "market,account,asset,side,amount\nmain,alice,ETH,collateral,10\nmain,alice,USDC,debt,14000\n",
}


def test_a_cut_is_found_by_digest_block_and_time(demo: Demo) -> None:
    with App.open(demo.config) as app:
        (cut,) = app.cuts()
        names = [cut.digest, cut.digest[:4], cut.digest[:12].upper(), str(cut.time_s), str(cut.time_s + 86_400)]
        for at in ["", *names, *(str(block.number) for block in cut.blocks)]:
            assert app.snapshot(at).cut.digest == cut.digest


WRITTEN = ("{0:%Y-%m-%d %H:%M:%S}", "{0:%Y-%m-%dT%H:%M:%SZ}", "{0:%Y-%m-%d %H:%M:%S} UTC", "{0}", "{1}")


@pytest.mark.parametrize("written", WRITTEN)
def test_a_cut_is_found_by_every_time_that_a_report_prints_of_it(tmp_path: Path, written: str) -> None:
    """Those of its older blocks too, beside a cut between them; and any later one, until the next cut begins."""
    old = BlockRef("eip155:1", 7, "0x07", 1_750_000_000, "safe")
    new, newest = (
        old._replace(number=9, hash="0x09", time_s=1_750_000_030),
        BlockRef("eip155:10", 8, "0x08", 1_750_000_090, "safe"),
    )
    first, second = Cut.of([old]), Cut.of([new, newest])
    named = {
        first: [1_750_000_000, 1_750_000_029, 1_750_000_089],
        second: [1_750_000_030, 1_750_000_090, 1_760_000_000],
    }
    (tmp_path / "c.toml").write_text(f'[store]\nurl = "sqlite:///{tmp_path}/s.db"\n')
    with App.open(tmp_path / "c.toml") as app:
        for cut in named:
            with app.store.write_run(cut):
                pass
        for cut, times in named.items():
            for time_s in times:
                at = written.format(datetime.fromtimestamp(time_s, UTC), time_s)
                assert app.snapshot(at).cut.digest == cut.digest, at
        with pytest.raises(ConfigError, match="no such cut"):
            app.snapshot("2025-06-15 15:06:39")


def test_an_unknown_cut_is_told_every_way_to_name_one(demo: Demo) -> None:
    with App.open(demo.config) as app:
        (cut,) = app.cuts()
        assert "2025-06-22 " in f"{datetime.fromtimestamp(cut.time_s, UTC)}"
        for at in ("foo", "2025-06-22", "7", str(cut.time_s - 86_400)):
            with pytest.raises(ConfigError, match="no such cut") as raised:
                app.snapshot(at)
            assert raised.value.found == at
            told = raised.value.expected
            assert all(str(word) in told for word in (cut.digest[:12], cut.time_s, *(b.number for b in cut.blocks)))


def book_app(folder: Path, **tables: str) -> App:
    config, book = folder / "config.toml", folder / "book"
    config.write_text(f'[store]\nurl = "sqlite:///{folder / "store.db"}"\n')
    book.mkdir()
    for name, text in (BOOK | tables).items():
        (book / f"{name}.csv").write_text(text, encoding="utf-8")
    app = App.open(config)
    app.import_book(book)
    return app


def test_what_is_stored_later_renames_no_earlier_cut(demo: Demo, tmp_path: Path) -> None:
    for file in (demo.config, demo.config.with_name("demo.db")):
        shutil.copy(file, tmp_path)
    with App.open(tmp_path / demo.config.name) as app:
        (cut,), mild = app.cuts(), app.scenario("mild")
        before = app.job(app.snapshot(), mild)
        for name, symbol in (("one", "WETH"), ("two", "USD")):
            (tmp_path / name).mkdir()
            for table, text in BOOK.items():
                (tmp_path / name / f"{table}.csv").write_text(text.replace("ETH", symbol))
            app.import_book(tmp_path / name)
            assert app.job(app.snapshot(cut.digest), mild) == before


def test_an_account_of_a_book_is_named_with_the_nearest(tmp_path: Path) -> None:
    with book_app(tmp_path) as app:
        assert app.wallet("alice")["positions"][0]["health_factor"].startswith("1.142857")
        with pytest.raises(ConfigError, match="did you mean 'alice'"):
            app.wallet("alic")


LONG, MIXED = (
    "0x" + "Ab" * 32,
    "0xAbababababababababababababababababababAb",
)  # the second is an address, its checksum wrong
COMPOSED, SPLIT = "Caf\u00e9 \u00c5", "Cafe\u0301 A\u030a"


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("0xMyDesk", ["0xMyDesk", " 0xMyDesk "]),
        ("0x", ["0x"]),
        ("0X12", ["0x12", "0X12"]),
        (LONG, [LONG, LONG.lower(), "0x" + LONG[2:].upper()]),
        (MIXED, [MIXED, MIXED.lower()]),
        (COMPOSED, [COMPOSED, SPLIT]),
        (SPLIT, [COMPOSED, SPLIT]),
        ("desk 7/a?b#c", ["desk 7/a?b#c"]),
    ],
)
def test_an_account_of_a_book_is_found_before_anybody_calls_it_no_address(
    tmp_path: Path, written: str, asked: list[str]
) -> None:
    async def serve(app: App) -> list[int]:
        async with TestClient(TestServer(make_app(app))) as client:
            paths = [URL(f"/v1/wallets/{quote(text, safe='')}", encoded=True) for text in asked]
            return [(await client.get(path)).status for path in paths]

    with book_app(tmp_path, positions=BOOK["positions"].replace("alice", written)) as app:
        for text in asked:
            assert app.wallet(text)["positions"][0]["health_factor"].startswith("1.142857")
            assert app.explain_wallet(text, "health_factor")["positions"][0]["value"].startswith("1.142857")
        assert asyncio.run(serve(app)) == [200] * len(asked)


def test_what_is_no_account_of_the_book_is_told_by_its_form(tmp_path: Path) -> None:
    with book_app(tmp_path, positions=BOOK["positions"].replace("alice", "0xMyDesk")) as app:
        for text, said in (
            ("0xMyDesc", "did you mean '0xMyDesk'"),
            ("0x12", "not an EVM address"),
            (LONG, "not an EVM address"),
            (MIXED, "checksum"),
            ("bob", "holds nothing at this cut"),
        ):
            with pytest.raises(ConfigError, match=said):
                app.wallet(text)
        for text in (MIXED.lower(), MIXED.upper()):
            assert app.wallet(text)["address"] == MIXED.lower()


@pytest.mark.parametrize("forms", [(COMPOSED, SPLIT), (SPLIT, COMPOSED)])
def test_two_forms_of_one_name_are_one_account_and_one_asset(tmp_path: Path, forms: tuple[str, str]) -> None:
    one, other = forms
    apart = BOOK["positions"].replace("alice,ETH", f"{one},ETH").replace("alice,USDC", f"{other},USDC")
    with book_app(tmp_path, positions=apart) as app:
        assert app.wallet(one)["positions"][0]["health_factor"].startswith("1.142857")
    twice = BOOK["positions"].replace("alice", one) + f"main,{other},ETH,collateral,1\n"
    (tmp_path / "twice").mkdir()
    with pytest.raises(ImportDataError, match="position is there twice"):
        book_app(tmp_path / "twice", positions=twice)
    named = {name: text.replace("ETH", other if name == "positions" else one) for name, text in BOOK.items()}
    (tmp_path / "asset").mkdir()
    with book_app(tmp_path / "asset", **named) as app:
        assert [row["value_usd"] for row in app.exposure(other)["rows"]] == ["20000.00000000"]


@pytest.mark.parametrize(("ahead_s", "said"), [(3 * 86_400 + 60, "3 days"), (7_260, "2 hours"), (230, "3 minutes")])
def test_a_table_that_is_dated_in_the_future_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ahead_s: int, said: str
) -> None:
    at = int(time.time()) + ahead_s
    with book_app(tmp_path, prices=f"asset,price_usd,time_s\nETH,2000,{at}\nUSDC,1,{at}\n") as app:
        for age_s in (app.wallet("alice")["age_s"], app.exposure("ETH")["age_s"]):
            assert -ahead_s <= age_s < -ahead_s + 60
        show.wallet(app.wallet("alice"))
        show.exposure(app.exposure("ETH"))
        show.stress(app.stress("mild", "", lambda *_: None), app.age_s())
        show.collect(app.import_book(tmp_path / "book").data, [])
    assert capsys.readouterr().out.count(f"dated {said} AFTER this machine's clock") == 4


async def test_a_notebook_can_collect_and_ask_the_doctor(demo: Demo, tmp_path: Path) -> None:
    """A loop runs already there, as in this test."""
    for file in (demo.config, demo.config.parent / RECORDING):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = (tmp_path / "config.toml").read_text().split("[store]")[0]
    (tmp_path / "config.toml").write_text(f'{text}[store]\nurl = "sqlite:///{tmp_path}/x.db"\n')
    asyncio.get_running_loop()
    with App.open(tmp_path / "config.toml") as app:
        assert sum(row["calls"] for row in app.dry_run(quiet)) > 0
        answer = app.collect(quiet)
        assert answer.data["cut"]["digest"] == demo.summary["cut_digest"]
    (tmp_path / "dead.toml").write_text(f'[store]\nurl = "sqlite:///{tmp_path}/x.db"\n[[chains]]\nid = 1\n')
    assert {f["check"] for f in examine(tmp_path / "dead.toml")} >= {"chain 1", "database"}


async def test_what_fails_in_a_running_loop_fails_as_itself() -> None:
    async def broken() -> None:
        raise ConfigError("as it is")

    with pytest.raises(ConfigError, match="as it is"):
        run(broken())
