"""Pytest plugin: the toolchain and the worlds, each started once per session.

Without the packages the tests that need them are skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from tests.devnet.anvil import Chain
from tests.devnet.toolchain import Toolchain, ToolchainUnavailable, toolchain
from tests.devnet.worlds import World, three_chains

READY_S = 5.0  # what is installed already is looked at in less
_tools = pytest.StashKey[Future[Toolchain]]()


def _needs_tools(item: pytest.Item) -> bool:
    return "devnet_tools" in getattr(item, "fixturenames", ())


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install and compile beside the tests that need neither: those that do come last, the first time."""
    if session.config.option.collectonly or not any(map(_needs_tools, session.items)):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    pool = ThreadPoolExecutor(1)
    tools = pool.submit(toolchain, lambda words: reporter.write_line(f"devnet: {words}") if reporter else None)
    pool.shutdown(wait=False)
    session.config.stash[_tools] = tools
    wait([tools], timeout=READY_S)
    if not tools.done():
        session.items.sort(key=_needs_tools)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Wait before the test's clock starts."""
    if _needs_tools(item):
        wait([item.config.stash[_tools]])


@pytest.fixture(scope="session")
def devnet_tools(request: pytest.FixtureRequest) -> Toolchain:
    """Packages, compiled contracts and anvil."""
    try:
        return request.config.stash[_tools].result()
    except ToolchainUnavailable as error:
        pytest.skip(f"devnet toolchain unavailable: {error}")


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
