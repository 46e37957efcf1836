"""Pytest plugin: one demo for the whole session, made by the code that `spillover demo` runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from aggregator.app.demo import Demo, run_demo


def quiet(name: str, done: int, total: int) -> None:
    """No progress."""


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return run_demo(tmp_path_factory.mktemp("demo"), quiet)


@pytest.fixture(scope="session")
def config(demo: Demo) -> Path:
    """The configuration that the demo leaves behind."""
    return demo.config
