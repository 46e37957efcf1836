"""The demo: recorded answers of real protocol bytecode on three local chains, through the code path of a live run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from aggregator.app.config import HERE, data_dir
from aggregator.app.wiring import App
from aggregator.core.errors import ConfigError

SCENARIO = "eth_down_30"
RECORDING = "recording.jsonl.gz"
STORE = "demo.db"  # not spillover.db: `collect` in the same folder must not put real chains beside invented ones


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
        head = (source / "demo.toml").read_text(encoding="utf-8")
        recording = (source / RECORDING).read_bytes()
        _spare(directory, head.splitlines()[0], recording)
        (directory / RECORDING).write_bytes(recording)
        store = f'[store]\nurl = "sqlite:///{HERE}/{STORE}"\n'  # the folder can be moved
        (directory / "config.toml").write_text(f"{head}\n{store}", encoding="utf-8")
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
    return Demo(summary, report, directory.resolve() / STORE, config)


def _spare(directory: Path, config_head: str, recording: bytes) -> None:
    """Leaves alone what no demo wrote, and the store of another recording: its people would be taken for these."""
    config, recorded = directory / "config.toml", directory / RECORDING
    if config.exists() and not config.read_text(encoding="utf-8", errors="replace").startswith(config_head):
        what, found = "the folder has a config.toml that is not the demo's", config
    elif (directory / STORE).exists() and (not recorded.exists() or recorded.read_bytes() != recording):
        what, found = "the folder has the store of another version's demo", directory / STORE
    else:
        return
    fix = "name another folder with --dir, or remove the file"
    raise ConfigError(what, expected="a folder without one", found=str(found), fix=fix)
