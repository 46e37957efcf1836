"""Pytest plugin: the toolchain and the worlds, each started once per session, which is once a worker.

Without the packages the tests that need them are skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest

from tests.devnet.anvil import Chain
from tests.devnet.toolchain import Toolchain, ToolchainUnavailable, default_root, toolchain
from tests.devnet.worlds import World, three_chains

_late = pytest.StashKey[bool]()
_tools = pytest.StashKey[Future[Toolchain]]()


def _needs_tools(item: pytest.Item) -> bool:
    return "devnet_tools" in getattr(item, "fixturenames", ())


def pytest_configure(config: pytest.Config) -> None:
    """Whether there is something to install is asked once a run: all workers must collect in one order."""
    told = getattr(config, "workerinput", {})
    config.stash[_late] = told["tools_late"] if told else not Toolchain(default_root()).complete()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["tools_late"] = node.config.stash[_late]


def pytest_sessionstart(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")  # a worker has none
    if reporter and session.config.stash[_late]:
        reporter.write_line(f"devnet: the first run brings packages and contracts to {default_root()}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Install and compile beside the tests that need neither: those that do come last, the first time."""
    if config.stash[_late]:
        items.sort(key=_needs_tools)


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly or not any(map(_needs_tools, session.items)):
        return
    pool = ThreadPoolExecutor(1)
    session.config.stash[_tools] = pool.submit(toolchain)  # of two workers one installs, the other waits for its lock
    pool.shutdown(wait=False)


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


@pytest.fixture(scope="session")
def new_chain(devnet_tools: Toolchain) -> Iterator[Chain]:
    """A chain with id 1 and Multicall3; take `chain`."""
    with Chain(devnet_tools) as new:
        yield new


@pytest.fixture
def chain(new_chain: Chain) -> Iterator[Chain]:
    """A chain as new, with id 1 and Multicall3, put back as it was after the test."""
    with new_chain.undone():
        yield new_chain


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
