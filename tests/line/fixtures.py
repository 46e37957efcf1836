"""Pytest plugin: one collected world for the whole session, and a way to read worlds anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aggregator.app import App
from tests.devnet import configuration
from tests.devnet.worlds import World

Opener = Callable[..., App]


def quiet(name: str, done: int, total: int) -> None:
    """No progress."""


@pytest.fixture
def open_app(tmp_path: Path) -> Iterator[Opener]:
    """open_app(world, name='a', **sections) -> an App of its own configuration and empty store."""
    opened: list[App] = []

    def opener(world: World, name: str = "a", **sections: dict[str, object]) -> App:
        store = tmp_path / f"{name}.db"
        file = configuration.write(world, tmp_path / f"{name}.toml", f"sqlite:///{store}", **sections)
        opened.append(App.open(file))
        return opened[-1]

    yield opener
    for app in opened:
        app.store.close()


@pytest.fixture(scope="session")
def collected(three_chains_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The world as it came up, read once and recorded (`world.jsonl.gz` beside its configuration). Read only."""
    folder = tmp_path_factory.mktemp("collected")
    file = configuration.write(three_chains_world, folder / "config.toml", f"sqlite:///{folder / 'spillover.db'}")
    with App.open(file) as app:
        app.collect(quiet, record=folder / "world.jsonl.gz")
        yield app
