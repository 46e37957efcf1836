"""The demo: recorded answers of real protocol bytecode on three local chains, through the code path of a live run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from aggregator.app.config import data_dir
from aggregator.app.wiring import App
from aggregator.core.errors import ConfigError

SCENARIO = "eth_down_30"
RECORDING = "recording.jsonl.gz"


class Demo(NamedTuple):
    """summary: the StressResult as plain data."""

    summary: dict[str, Any]
    report: Path
    store: Path
    config: Path


def run_demo(directory: Path, tick: Callable[[str, int, int], None]) -> Demo:
    """Leaves report.html, report.json, config.toml, recording and store in `directory`; the same report each time."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        source = data_dir("config") / "demo"
        shutil.copyfile(source / RECORDING, directory / RECORDING)
        store = directory.resolve() / "spillover.db"
        head = (source / "demo.toml").read_text(encoding="utf-8")
        (directory / "config.toml").write_text(f'{head}\n[store]\nurl = "sqlite:///{store}"\n', encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            "cannot write the demo",
            expected="a folder that can be written",
            found=f"{directory}: {error.strerror}",
            fix="name another one with --dir",
        ) from error
    config, report = directory / "config.toml", directory / "report.html"
    with App.open(config) as app:
        app.collect(tick)
        summary = app.stress(SCENARIO, "", tick, report, keep=True)
    return Demo(summary, report, store, config)
