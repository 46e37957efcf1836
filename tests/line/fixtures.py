"""Pytest plugin: one collected world for the whole session, and a way to read worlds anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
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
    """open_app(world, name='a', like=None, **sections) -> an App of its own configuration and empty store.

    like: an App of the same world, whose store is copied: as if this one had collected what that one has.
    """
    opened: list[App] = []

    def opener(world: World, name: str = "a", like: App | None = None, **sections: dict[str, object]) -> App:
        store = tmp_path / f"{name}.db"
        if like is not None:
            original = like.config.store.url.removeprefix("sqlite:///")
            with closing(sqlite3.connect(original)) as read, closing(sqlite3.connect(store)) as copy:
                read.backup(copy)
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
