"""A discovery of many windows, killed, cancelled or overtaken by a reorg: the next run goes on and reads the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from aggregator.app import App
from aggregator.chain import endpoint
from aggregator.ingest import discover
from aggregator.store import Store
from tests.devnet.toolchain import REPOSITORY as ROOT
from tests.devnet.worlds import World
from tests.line.fixtures import Opener, quiet

WINDOW = 50


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Discovery in windows of a few blocks, each with its checkpoint."""
    monkeypatch.setattr(discover, "WINDOW_BLOCKS", WINDOW)
    monkeypatch.setattr(discover, "QUICK_S", 0.0)
    monkeypatch.setattr(discover, "CHECKPOINT_S", 0.0)


@pytest.fixture
def log_ranges(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], int]]:
    """(addresses, first block) of every eth_getLogs that left this process."""
    asked: list[tuple[list[str], int]] = []
    send = endpoint.send

    async def noted(session: Any, method: str, url: str, body: bytes | None, *rest: Any) -> Any:
        items = json.loads(body or b"[]")
        for item in items if isinstance(items, list) else [items]:
            if item["method"] == "eth_getLogs":
                addresses = item["params"][0].get("address", [])
                first = int(item["params"][0]["fromBlock"], 16)
                asked.append(([addresses] if isinstance(addresses, str) else addresses, first))
        return await send(session, method, url, body, *rest)

    monkeypatch.setattr(endpoint, "send", noted)
    return asked


def deployments(app: App) -> list[str]:
    return [f"{d.source}/{d.adapter}/{d.name}" for d in app.config.deployments]


def checkpoints(app: App) -> list[str]:
    return [name for name in deployments(app) if app.store.discovery(name) is not None]


def aave(app: App) -> str:
    """The deployment of Aave on chain 1."""
    (where,) = (name for name in deployments(app) if name.startswith("eip155:1/aave_v3/"))
    return where


def signal_in_discovery(where: str, number: signal.Signals) -> None:
    """From now on this process gets that signal at the second checkpoint of a deployment."""
    left, save = 2, Store.save_discovery

    def saving(store: Store, deployment: str, *rest: Any) -> None:
        nonlocal left
        save(store, deployment, *rest)
        left -= deployment == where
        if not left:
            os.kill(os.getpid(), number)

    Store.save_discovery = saving  # type: ignore[method-assign]


def kill_in_discovery(app: App) -> str:
    """A collect that gets SIGKILL in a fork; the deployment that it was discovering."""
    child = os.fork()
    if child == 0:
        try:
            signal_in_discovery(aave(app), signal.SIGKILL)
            with App.open(app.config.path) as mine:
                mine.collect(quiet)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return aave(app)


def test_windows_find_what_one_range_finds(world: World, open_app: Opener, windows: None) -> None:
    """Every adapter of the world, fee recipients of Morpho that change between and within windows included."""
    morpho, chain = world.morpho, world.chains[1]
    assert morpho is not None
    for recipient in chain.accounts[6:9]:
        chain.warp(86_400)
        morpho.accrue(morpho.markets["wstETH/WETH"])  # shares for the one set a window ago
        morpho.contract.send("setFeeRecipient", recipient)
        chain.mine(WINDOW)
    app = open_app(world)
    app.collect(quiet)
    with pytest.MonkeyPatch.context() as whole:
        whole.setattr(discover, "WINDOW_BLOCKS", 10**9)
        fresh = open_app(world, "fresh")
        fresh.collect(quiet)
    assert app.snapshot().digest == fresh.snapshot().digest
    assert not [line for line in app.reconciliation(app.snapshot()) if not line["equal"]]
    assert checkpoints(app) == []


def test_sigkill_in_discovery_costs_a_window(
    world: World, open_app: Opener, windows: None, log_ranges: list[tuple[list[str], int]]
) -> None:
    app = open_app(world)
    where = kill_in_discovery(app)
    kept = app.store.discovery(where)
    assert kept is not None
    assert app.cuts() == []
    assert app.store.known_targets(where) == []
    assert app.store.cursor(where) is None

    app.collect(quiet)
    resumed = log_ranges.copy()
    log_ranges.clear()
    fresh = open_app(world, "fresh")
    fresh.collect(quiet)
    pool = world.aave[1].pool.address.lower()
    assert min(first for addresses, first in resumed if pool in addresses) == kept.block + 1
    assert min(first for addresses, first in log_ranges if pool in addresses) == 0
    assert len(resumed) < len(log_ranges)
    assert app.snapshot().digest == fresh.snapshot().digest
    assert app.store.known_targets(where) == fresh.store.known_targets(where)
    assert checkpoints(app) == []


def test_a_reorg_drops_what_was_seen_above_it(world: World, open_app: Opener, windows: None) -> None:
    app, aave = open_app(world), world.aave[1]
    stranger = "0x" + "5a" * 20
    world.chains[1].fund(stranger)
    world.chains[1].mine(4)  # the reorg must not reach below the fixture's mark
    aave.supply(stranger, "USDC", 10**9)
    where = kill_in_discovery(app)
    world.chains[1].reorg(4)
    app.collect(quiet)
    fresh = open_app(world, "fresh")
    fresh.collect(quiet)
    assert app.snapshot().digest == fresh.snapshot().digest
    assert app.store.known_targets(where) == fresh.store.known_targets(where)
    assert stranger not in {holder for _, holder, _ in app.store.known_targets(where)}


def test_cancelling_leaves_the_previous_run_and_the_discovery(world: World, open_app: Opener, collected: App) -> None:
    app = open_app(world, like=collected)
    first, where = app.snapshot().digest, aave(app)
    world.aave[1].supply(world.wallets[1], "USDC", 10**9)
    world.chains[1].mine(4 * WINDOW)
    program = f"""
import signal, sys
from aggregator.ingest import discover
from tests.line.test_resume import signal_in_discovery
discover.WINDOW_BLOCKS, discover.QUICK_S, discover.CHECKPOINT_S = {WINDOW}, 0.0, 0.0
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it
signal_in_discovery({where!r}, signal.SIGINT)
from aggregator.cli import main
sys.argv = ["spillover", "collect", "--config", {str(app.config.path)!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "cancelled" in done.stderr) == (130, True), (done.stdout, done.stderr)
    assert len(app.cuts()) == 1
    assert app.snapshot().digest == first
    assert app.store.discovery(where) is not None
    app.collect(quiet)
    fresh = open_app(world, "fresh")
    fresh.collect(quiet)
    assert app.snapshot().digest == fresh.snapshot().digest
    assert checkpoints(app) == []


def test_a_failed_run_keeps_the_discovery_for_the_next(
    world: World, open_app: Opener, windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapters.aave_v3 import AaveV3

    async def broken(*_: Any) -> Any:
        raise RuntimeError("a defect of the adapter")
        yield

    app = open_app(world)
    with monkeypatch.context() as patch:
        patch.setattr(AaveV3, "read", broken)
        app.collect(quiet)
    assert {name.split("/")[1] for name in checkpoints(app)} == {"aave_v3"}
    app.collect(quiet)
    assert checkpoints(app) == []
    fresh = open_app(world, "fresh")
    fresh.collect(quiet)
    assert app.snapshot().digest == fresh.snapshot().digest
