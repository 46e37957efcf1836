"""Pytest plugin: what the suite promises of itself. Two workers for the whole of it; in CI a skip is a failure."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """One process where `-p no:xdist` asks for it: what pyproject.toml says of workers is then read by nobody."""
    if pluginmanager.is_blocked("xdist"):
        for name in ("--numprocesses", "--dist"):
            parser.addoption(name, help="of pytest-xdist, which is off")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two, and none for files named one by one: starting two takes longer than most files do."""
    named = [Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args]
    return 0 if all(path.is_file() for path in named) else 2


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _failed_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _failed_in_ci((yield))


def _failed_in_ci(report: Any) -> Any:
    if report.skipped and os.environ.get("CI", "").lower() == "true":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"in CI nothing is skipped: {reason}"
    return report
