"""Pytest plugin: the toolchain and the worlds, each started once per session.

Without the packages the tests that need them are skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.devnet.anvil import Chain
from tests.devnet.toolchain import Toolchain, ToolchainUnavailable, toolchain
from tests.devnet.worlds import World, three_chains

_unavailable = pytest.StashKey[str]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install and compile before the first test's clock starts, if any collected test needs it."""
    if session.config.option.collectonly:
        return
    if not any("devnet_tools" in getattr(item, "fixturenames", ()) for item in session.items):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    try:
        toolchain(lambda words: reporter.write_line(f"devnet: {words}") if reporter else None)
    except ToolchainUnavailable as error:
        session.config.stash[_unavailable] = str(error)


@pytest.fixture(scope="session")
def devnet_tools(request: pytest.FixtureRequest) -> Toolchain:
    """Packages, compiled contracts and anvil."""
    reason = request.config.stash.get(_unavailable, None)
    if reason is None:
        return toolchain()
    pytest.skip(f"devnet toolchain unavailable: {reason}")


@pytest.fixture
def chain(devnet_tools: Toolchain) -> Iterator[Chain]:
    """A fresh chain with id 1 and Multicall3."""
    with Chain(devnet_tools) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def three_chains_world(devnet_tools: Toolchain) -> Iterator[World]:
    """The populated world; read it, or take `world`, which undoes what a test does to it."""
    world = three_chains(devnet_tools)
    yield world
    world.stop()


@pytest.fixture
def world(three_chains_world: World) -> Iterator[World]:
    """The populated world, put back as it was after the test."""
    marks = three_chains_world.snapshot()
    yield three_chains_world
    three_chains_world.revert(marks)
