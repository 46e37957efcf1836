"""Every verb on a store that holds a chain and a venue, as the shipped configuration reads them.

A chain is called by its number and a venue by its name: whatever sorts, compares or joins them meets both here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from aggregator import cli
from aggregator.app.demo import RECORDING, Demo
from tests.cli.calling import call
from tests.report.fixtures import Venued
from tests.store.unwritable import STATES, full_disk, read_only_folder, remove

COMMANDS = sorted(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
HOLDER = "0x79d55e13c647319f21bdd3092fa0e99010f1258b"
BOOK = {
    "markets": "market,rule\nmain,compound_v2@1\n",
    "collateral": "market,asset,liquidation_threshold\nmain,ETH,0.8\n",
    "prices": "asset,price_usd\nETH,2000\nUSDC,1\n",
    "positions": "market,account,asset,side,amount\nmain,alice,ETH,collateral,10\nmain,alice,USDC,debt,14000\n",
}
WORDS: dict[str, list[list[str]]] = {
    "bench": [["decode"], ["decode", "--json"]],
    "collect": [[], ["--json"], ["--dry-run"], ["--dry-run", "--json"]],
    "demo": [["--dir", "demo"]],
    "doctor": [[], ["--json"]],
    "explain": [["wallet", HOLDER, "health_factor"], ["wallet", HOLDER, "debt_usd", "--json"], ["SPL-300"]],
    "exposure": [["WETH"], ["btc"], ["venue:deribit/BTC", "--json"]],
    "graph": [["-o", "graph.json"], ["-o", "graph.graphml"]],
    "import": [["book"], ["book", "--json"]],
    "record": [["again.jsonl.gz"]],
    "schedule": [["--once"]],
    "serve": [["--port", "PORT"]],
    "stress": [["eth_down_30"], ["vol_spike", "--json"], ["mild", "--report", "mild.html"]],
    "wallet": [[HOLDER], [HOLDER, "--json"], ["0x" + "0" * 39 + "1"]],
}
OF_NO_STORE = ("bench", "demo")
REFUSED = {"record": 2}  # a replay asks nobody, so there is nothing to record


PATHS = ("healthz", "openapi.json", "v1/cuts", "v1/coverage", f"v1/wallets/{HOLDER}", "v1/stress?scenario=vol_spike")


class Asked:
    """Asks a service that is about to start in this process for everything, and stops it as Ctrl-C does."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.thread: threading.Thread | None = None

    def begin(self) -> str:
        """The port that it should listen on."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.thread = threading.Thread(target=self._ask, args=(f"http://127.0.0.1:{port}",))
        self.thread.start()
        return str(port)

    def _ask(self, base: str) -> None:
        try:
            self.answers = [_get(f"{base}/{path}") for path in PATHS]
        finally:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def asked_over_http() -> Iterator[Asked]:
    asked = Asked()
    yield asked
    if asked.thread:
        asked.thread.join()
        assert len(asked.answers) == len(PATHS)


def _get(url: str) -> bytes:
    until = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError:
            raise
        except (ConnectionError, urllib.error.URLError):
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def test_every_verb_is_here() -> None:
    assert sorted(WORDS) == COMMANDS


@pytest.mark.parametrize(("verb", "words"), [(verb, words) for verb in WORDS for words in WORDS[verb]])
def test_a_verb_on_a_chain_and_a_venue(
    verb: str,
    words: list[str],
    with_venue: Venued,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked_over_http: Asked,
) -> None:
    monkeypatch.chdir(tmp_path)
    config = ["--config", str(with_venue.config)] if verb not in OF_NO_STORE else []
    if verb == "import":  # its cut would be the last one of the shared store
        (tmp_path / "book").mkdir()
        for name, text in BOOK.items():
            (tmp_path / "book" / f"{name}.csv").write_text(text)
        monkeypatch.setenv("SPILLOVER_STORE_URL", f"sqlite:///{tmp_path}/of_books.db")
    words = [asked_over_http.begin() if word == "PORT" else word for word in words]
    said = call(capsys, verb, *words, *config)
    assert said.code == REFUSED.get(verb, 0), said
    assert "SPL-000" not in said.out + said.err
    if "--json" in words:
        json.loads(said.out)
    if words == ["eth_down_30"]:  # chains by their number, then the others by name
        named = [said.out.index(f"\n{chain}") for chain in ("Ethereum ", "Optimism ", "Arbitrum ", "venue:deribit")]
        assert named == sorted(named)


READING = (
    ["wallet", HOLDER],
    ["stress", "vol_spike"],
    ["exposure", "WETH"],
    ["explain", "wallet", HOLDER, "health_factor"],
    ["doctor"],
    ["collect", "--dry-run"],
    ["serve", "--port", "PORT"],
)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_what_only_reads_answers_where_nothing_can_be_written(
    state: str,
    words: list[str],
    with_venue: Venued,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked_over_http: Asked,
) -> None:
    """Once as whoever may write, so that what is imported on the way is there; then the same words, and answer."""
    folder = read_only_folder(with_venue.config, with_venue.store, with_venue.config.parent / RECORDING)
    monkeypatch.setenv("SPILLOVER_STORE_URL", f"sqlite:///{folder / with_venue.store.name}")
    monkeypatch.chdir(folder)
    words = [*words, "--config", str(folder / "config.toml")]
    try:
        if words[0] != "serve":
            first = call(capsys, *words)
        with STATES[state]():
            said = call(capsys, *[asked_over_http.begin() if word == "PORT" else word for word in words])
        assert said.code == 0, said
        if words[0] in ("wallet", "stress", "exposure", "explain"):
            assert said == first
        assert sorted(file.name for file in folder.iterdir() if file.stat().st_size) == sorted(
            [with_venue.config.name, with_venue.store.name, RECORDING]
        )
    finally:
        remove(folder)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("words", [["collect"], ["schedule", "--once"], ["import", "."]], ids=" ".join)
def test_what_writes_says_at_once_that_it_cannot(
    state: str,
    words: list[str],
    with_venue: Venued,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    book = [tmp_path / f"{name}.csv" for name in BOOK]
    for file, text in zip(book, BOOK.values(), strict=True):
        file.write_text(text)
    folder = read_only_folder(with_venue.config, with_venue.store, with_venue.config.parent / RECORDING, *book)
    monkeypatch.setenv("SPILLOVER_STORE_URL", f"sqlite:///{folder / with_venue.store.name}")
    monkeypatch.chdir(folder)
    try:
        with STATES[state]():
            said = call(capsys, *words, "--config", str(folder / "config.toml"))
        assert said.code == 1, said
        assert "SPL-300" in said.err
        assert "to mend" in said.err
    finally:
        remove(folder)


@pytest.mark.parametrize(
    "words", [*READING[:-1], ["graph", "-o", "g.json"], ["wallet", "0x12"], ["stress", "mild", "--report", "r.html"]]
)
def test_who_only_asks_leaves_nothing_behind(
    words: list[str], demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nothing was collected yet: no database, no lock, no report."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPILLOVER_STORE_URL", "sqlite:///spillover.db")
    said = call(capsys, *words, "--config", str(demo.config))
    if words[0] not in ("doctor", "collect"):
        assert said.code != 0
    if words[0] not in ("doctor", "collect") and "0x12" not in words:
        assert "the store holds no cut yet" in said.err
        assert "spillover.db" in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [["collect"], ["record", "r.jsonl.gz"], ["import", "absent"], ["collect", "--dry-run"]]
)
def test_who_cannot_begin_leaves_nothing_behind(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the shipped configuration as it stands: no chain has an endpoint, and there is no such folder."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SPILLOVER_")]:
        monkeypatch.delenv(name)
    assert call(capsys, *words).code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_finds_no_room_is_named(
    with_venue: Venued, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with full_disk():
        said = call(capsys, "stress", "mild", "--config", str(with_venue.config), "--report", "r.html")
    assert said.code == 1
    assert "r.html" in said.err
