"""Scheduled rounds write cuts and stresses into the store that the service answers from."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import orjson
import pytest

from aggregator.app import App
from aggregator.core.errors import ConfigError
from aggregator.jobs import run_round, schedule
from tests.devnet import configuration
from tests.devnet.worlds import World
from tests.line.fixtures import Opener


def test_a_round_collects_and_stresses(three_chains_world: World, open_app: Opener) -> None:
    app = open_app(three_chains_world, schedule={"scenarios": ["mild"], "interval_s": 1})
    assert schedule(app, once=True)
    assert len(app.cuts()) == 1
    kept = app.stress("mild", "", lambda name, done, total: None)
    assert orjson.loads(app.store.stress(app.job(app.snapshot(), app.scenario("mild"))) or b"{}") == kept


def test_a_round_that_fails_says_so_and_leaves_the_store_whole(three_chains_world: World, tmp_path: Path) -> None:
    text = configuration.toml(three_chains_world, f"sqlite:///{tmp_path / 'x.db'}")
    for chain in three_chains_world.chains.values():
        text = text.replace(chain.url, "http://127.0.0.1:9")
    text = text.replace('finality = "latest"\n', 'finality = "latest"\ntimeout_s = 1.0\ndeadline_s = 1.0\n')
    (tmp_path / "c.toml").write_text(text)
    with App.open(tmp_path / "c.toml") as app:
        assert not run_round(app)
        assert app.cuts() == []


def test_a_scenario_that_is_not_there_is_found_out_before_the_first_round(
    three_chains_world: World, open_app: Opener
) -> None:
    app = open_app(three_chains_world, schedule={"scenarios": ["mild", "mld"]})
    with pytest.raises(ConfigError, match="mld"):
        schedule(app, once=True)
    assert app.cuts() == []


def test_one_stress_that_fails_does_not_keep_the_next_from_running(
    three_chains_world: World, open_app: Opener, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text('name = "broken"\n[price]\nNOPE = -0.1\n')
    app = open_app(three_chains_world, schedule={"scenarios": [str(broken), "mild"]})
    assert not schedule(app, once=True)
    assert app.store.stress(app.job(app.snapshot(), app.scenario("mild")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_schedule_stops_at_a_signal_where_the_event_loop_takes_no_handlers(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, whose loops refuse them with the base class's NotImplementedError."""
    refusing = asyncio.AbstractEventLoop.add_signal_handler
    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", refusing)
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    (tmp_path / "c.toml").write_text(f'[store]\nurl = "sqlite:///{tmp_path}/s.db"\n')
    timer = threading.Timer(1.0, os.kill, (os.getpid(), number))
    try:
        with App.open(tmp_path / "c.toml") as app:
            timer.start()
            assert schedule(app)
    finally:
        timer.cancel()
        for n, handler in before.items():
            signal.signal(n, handler)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_the_service_answers_while_the_schedule_runs(world: World, open_app: Opener, port: int) -> None:
    app = open_app(world, schedule={"scenarios": ["mild"], "interval_s": 1})
    command = [sys.executable, "-m", "aggregator"]
    config = ["--config", str(app.config.path)]
    scheduler = subprocess.Popen([*command, "schedule", *config], stderr=subprocess.PIPE, text=True)
    server = subprocess.Popen([*command, "serve", *config, "--port", str(port)])
    try:
        digests: set[str] = set()
        until = time.monotonic() + 120
        while len(digests) < 2 and time.monotonic() < until:
            health = _get(port, "/healthz")
            if health and health.get("cut"):
                digests.add(health["cut"])
                assert _get(port, f"/v1/wallets/{world.wallets[0]}")
            world.chains[1].mine(1)
            time.sleep(0.3)
        assert len(digests) >= 2
    finally:
        for process in (scheduler, server):
            process.send_signal(signal.SIGTERM)
        told = scheduler.communicate(timeout=60)[1]
        codes = [process.wait(timeout=60) for process in (scheduler, server)]
    assert codes == [0, 0], told
    assert told.count("round done: cut ") >= 2
    assert "Traceback" not in told  # stopped in the middle of a round, more often than not


def _get(port: int, path: str) -> dict[str, str] | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            found: dict[str, str] = orjson.loads(answer.read())
            return found
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None
