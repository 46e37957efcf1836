"""Pytest plugin: one demo for the whole session, made by the code that `spillover demo` runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import pytest

from adapters.deribit import ADAPTER as DERIBIT
from aggregator.app import App
from aggregator.app.demo import RECORDING, Demo, run_demo
from aggregator.chain.recording import Recording
from aggregator.sdk.testing import collect_rows
from tests.adapters.test_deribit import WHERE as DERIBIT_MAIN
from tests.adapters.test_deribit import Stand, viewing


def quiet(name: str, done: int, total: int) -> None:
    """No progress."""


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return run_demo(tmp_path_factory.mktemp("demo"), quiet)


@pytest.fixture(scope="session")
def config(demo: Demo) -> Path:
    """The configuration that the demo leaves behind."""
    return demo.config


class Venued(NamedTuple):
    """store: of `config`, collected once; read it, or collect the same again."""

    config: Path
    store: Path


@pytest.fixture(scope="session")
def with_venue(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Venued:
    """The demo's chains and a venue in one store, as the shipped configuration has them; a replay, too."""
    folder = tmp_path_factory.mktemp("with_venue")
    recording = Recording.load(demo.config.parent / RECORDING)

    async def record_the_venue() -> None:
        stand = Stand()
        stand.now_ms = 1000 * max(block.time_s for block in recording.blocks())
        async with viewing(stand, recording) as view:
            recording.add_block(view.at)
            await collect_rows(DERIBIT, view, DERIBIT_MAIN)

    asyncio.run(record_the_venue())
    recording.save(folder / RECORDING)
    text = demo.config.read_text(encoding="utf-8").split("[store]")[0]
    venue = '[[venues]]\nname = "deribit"\n[[deployments]]\nadapter = "deribit"\nvenue = "deribit"\nname = "main"\n'
    (folder / "config.toml").write_text(
        f'{text}{venue}currencies = ["BTC"]\n[store]\nurl = "sqlite:///{folder / "both.db"}"\n', encoding="utf-8"
    )
    with App.open(folder / "config.toml") as app:
        app.collect(quiet)
    return Venued(folder / "config.toml", folder / "both.db")
