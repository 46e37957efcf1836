"""The whole line on real bytecode: what a user reads is what the contracts answer, whatever happens on the way."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from aggregator.app import App
from aggregator.chain import endpoint
from aggregator.core.errors import WrongChainError
from aggregator.store.database import Raw
from tests.cli.calling import call
from tests.devnet import configuration
from tests.devnet.tokens import UINT256_MAX
from tests.devnet.worlds import World
from tests.line.fixtures import Opener, quiet


def _raw(text: str) -> int:
    return int(text.replace(".", ""))


def assert_wallets_read_as_the_pools_answer(app: App, world: World) -> None:
    """Every Aave account at the blocks of the last cut."""
    at = {int(block.source.split(":")[1]): block.hash for block in app.cuts()[0].blocks}
    seen = 0
    for wallet in world.wallets:
        for position in app.wallet(wallet)["positions"]:
            if position["protocol"] != "aave_v3":
                continue
            theirs = world.aave[position["chain"]].account(wallet, at[position["chain"]])
            assert _raw(position["collateral_usd"]) == theirs.collateral_usd_e8
            assert _raw(position["debt_usd"]) == theirs.debt_usd_e8
            health = position["health_factor"]
            assert (UINT256_MAX if health is None else _raw(health)) == theirs.health_e18
            seen += 1
    assert seen >= len(world.wallets)


def test_every_wallet_reads_as_the_pools_answer(collected: App, three_chains_world: World) -> None:
    assert_wallets_read_as_the_pools_answer(collected, three_chains_world)


def test_a_chain_that_moves_while_it_is_read_is_read_at_one_block(
    world: World, open_app: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another price and another supply between any two requests."""
    app, aave, chain, prices = open_app(world), world.aave[1], world.chains[1], itertools.count(1_000)
    aave.supply(chain.accounts[4], "USDC", 10**12)
    send = endpoint.send

    async def moving(session: Any, method: str, url: str, *rest: Any) -> Any:
        if url == chain.url:
            world.assets[1]["WETH"].set_price(next(prices))
            to = world.wallets[next(prices) % len(world.wallets)]
            aave.a_token("USDC").send("transfer", to, 10**6, sender=chain.accounts[4])
        return await send(session, method, url, *rest)

    monkeypatch.setattr(endpoint, "send", moving)
    app.collect(quiet)
    cut = app.cuts()[0].at("eip155:1")
    assert cut is not None
    assert chain.block()["number"] > cut.number + 10
    assert_wallets_read_as_the_pools_answer(app, world)
    assert not [line for line in app.reconciliation(app.snapshot()) if not line["equal"]]


def test_all_totals_reconcile(collected: App) -> None:
    lines = collected.reconciliation(collected.snapshot())
    assert len(lines) > 20
    assert [line for line in lines if not line["equal"]] == []


def test_the_json_of_collect_and_wallet_keep_their_contract(
    collected: App, three_chains_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration.write(three_chains_world, tmp_path / "c.toml", f"sqlite:///{tmp_path / 'x.db'}")
    done = call(capsys, "collect", "--config", str(config), "--json")
    holder = three_chains_world.wallets[0]
    wallet = call(capsys, "wallet", holder, "--config", str(collected.config.path), "--json")
    assert done.code in (0, 3), done.err
    assert wallet.code == 0, wallet.err
    data = json.loads(done.out)
    assert set(data) == {"run", "cut", "age_s", "coverage", "reconciliation"}
    assert set(data["cut"]) == {"digest", "skew_s", "blocks"}
    assert {b["chain"] for b in data["cut"]["blocks"]} == set(three_chains_world.chains)
    assert all(set(b) == {"chain", "number", "hash", "timestamp", "finality"} for b in data["cut"]["blocks"])
    assert all({"chain", "protocol", "level", "accounts", "value_usd", "gaps"} <= set(c) for c in data["coverage"])
    answer = json.loads(wallet.out)
    assert set(answer) == {"address", "cut", "age_s", "coverage", "positions", "totals", "greeks", "gaps"}
    keys = {"chain", "protocol", "deployment", "market", "kind", "legs", "collateral_usd", "debt_usd", "health_factor"}
    assert all(keys | {"liquidation"} <= set(p) for p in answer["positions"])
    legs = [leg for p in answer["positions"] for leg in p["legs"]]
    assert all(set(leg) == {"asset", "symbol", "side", "raw", "amount", "value_usd"} for leg in legs)


@pytest.mark.parametrize("instead", ["empty blocks", "other transactions"])
def test_a_reorg_leaves_the_store_as_if_the_dropped_blocks_had_never_been(
    world: World, open_app: Opener, collected: App, instead: str
) -> None:
    app, chain, aave = open_app(world, like=collected), world.chains[1], world.aave[1]
    first = app.snapshot()
    before = chain.block()["number"]
    stranger = "0x" + "5a" * 20
    chain.fund(stranger)
    for user in (*world.wallets[:4], stranger):
        aave.supply(user, "USDC", 5_000 * 10**6)
    world.assets[1]["WETH"].set_price(2_345)
    second = app.collect(quiet).data["cut"]
    assert second["digest"] != first.cut.digest
    head = chain.block()["number"]
    if instead == "empty blocks":
        chain.reorg(head - before)
    else:  # at heights that the store has read already
        chain.rpc("anvil_rollback", head - before)
        aave.supply(world.wallets[5], "USDC", 7_000 * 10**6)
        assert chain.block()["number"] < head
        chain.mine(head - chain.block()["number"])
    chain.mine(3)
    app.collect(quiet)
    fresh = open_app(world, "fresh")
    fresh.collect(quiet)
    assert app.snapshot().digest == fresh.snapshot().digest
    assert second["digest"] not in {cut.digest for cut in app.cuts()}
    for where in (d for d in app.config.deployments if d.source == "eip155:1"):
        name = f"{where.source}/{where.adapter}/{where.name}"
        assert app.store.known_targets(name) == fresh.store.known_targets(name)
    assert app.snapshot(first.cut.digest).digest == first.digest


def test_an_incremental_run_equals_a_full_one(world: World, open_app: Opener, collected: App) -> None:
    app, aave = open_app(world, like=collected), world.aave[1]
    aave.withdraw(world.chains[1].accounts[1], "USDC", 10**6)  # in the very next block, and nothing else of his
    for user in world.wallets[:3]:
        aave.supply(user, "DAI", 10**20)
    world.chains[1].warp(3_600)
    app.collect(quiet)
    fresh = open_app(world, "fresh")
    fresh.collect(quiet)
    assert app.snapshot().digest == fresh.snapshot().digest


def test_an_account_that_could_not_be_read_is_asked_again_though_it_does_nothing(
    world: World, open_app: Opener
) -> None:
    """Aave 3.0: debt at a stable rate is a gap, at this cut and at every later one until it is repaid."""
    aave, chain, app = world.aave[42161], world.chains[42161], open_app(world)
    user, usdc = chain.accounts[8], aave.asset("USDC")
    aave.configurator.send("setReserveStableRateBorrowing", usdc.address, True)
    aave.supply(user, "WETH", 10**18)
    aave.borrow(user, "USDC", usdc.raw(10))
    aave.pool.send("borrow", usdc.address, usdc.raw(100), 1, 0, user, sender=user)
    seen = []
    for _ in range(3):
        app.collect(quiet)
        answer = app.wallet(user)
        (position,) = [p for p in answer["positions"] if p["chain"] == 42161]
        told = [g for g in answer["gaps"] if g["subject"].endswith(f"#{user.lower()}")]
        seen.append((position["health_factor"], [g["reason"] for g in told]))
        chain.warp(86_400)
    assert seen == [(None, ["unread"])] * 3
    usdc.provide(user, aave.pool, usdc.raw(200))
    aave.pool.send("repay", usdc.address, UINT256_MAX, 1, user, sender=user)
    app.collect(quiet)
    (position,) = [p for p in app.wallet(user)["positions"] if p["chain"] == 42161]
    assert _raw(position["health_factor"]) == aave.account(user).health_e18


def collect_until(file: Path, point: str, count: int) -> None:
    """A collect that kills itself: before its nth request, after its nth change of the database, at its commit."""
    changed, passed = False, 0

    def here(where: str) -> None:
        nonlocal passed
        passed += where == point
        if passed == count:
            os.kill(os.getpid(), signal.SIGKILL)

    async def send(*arguments: Any, do: Callable[..., Any] = endpoint.send) -> Any:
        here("request")
        return await do(*arguments)

    def change(name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def done(raw: Raw, sql: str, *rest: Any) -> Any:
            nonlocal changed
            answer = do(raw, sql, *rest)
            if name != "execute" or sql.lstrip().startswith(("INSERT", "UPDATE", "DELETE")):
                changed = True
                here("change")
            return answer

        return done

    endpoint.send = send
    for name in ("execute", "executemany", "insert"):
        setattr(Raw, name, change(name, getattr(Raw, name)))
    event.listen(Engine, "commit", lambda _: here("commit") if changed else None)
    with App.open(file) as app:
        app.collect(quiet)


@pytest.mark.parametrize(
    ("point", "counts"),
    [("request", (1, 9, 30)), ("change", (1, 6, 25, 80)), ("commit", (1,))],
    ids=["request", "change", "commit"],
)
def test_sigkill_at_any_point_leaves_the_previous_run_whole(
    world: World, open_app: Opener, collected: App, point: str, counts: tuple[int, ...]
) -> None:
    app = open_app(world, like=collected)
    first = app.snapshot()
    world.aave[1].supply(world.wallets[1], "USDC", 10**9)
    world.chains[10].mine()
    app.store.close()
    for count in counts:
        child = os.fork()
        if child == 0:
            try:
                collect_until(app.config.path, point, count)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, f"it never came to {count}"
        with App.open(app.config.path) as again:
            assert [cut.digest for cut in again.cuts()] == [first.cut.digest]
            assert again.snapshot().digest == first.digest
    with App.open(app.config.path) as again:
        again.collect(quiet)
        fresh = open_app(world, "fresh")
        fresh.collect(quiet)
        assert again.snapshot().digest == fresh.snapshot().digest


@pytest.mark.parametrize("slice_size", [1, 7, 500])
def test_a_recording_replays_to_the_same_snapshot_in_any_slices(
    collected: App, three_chains_world: World, tmp_path: Path, slice_size: int
) -> None:
    recording = collected.config.path.with_name("world.jsonl.gz")
    text = configuration.toml(
        three_chains_world, f"sqlite:///{tmp_path / 'r.db'}", rpc=False,
        replay={"recording": str(recording)}, collect={"slice_size": slice_size, "concurrency": 1 + slice_size % 3},
    )  # fmt: skip
    (tmp_path / "r.toml").write_text(text)
    with App.open(tmp_path / "r.toml") as app:
        app.collect(quiet)
        assert app.snapshot().digest == collected.snapshot().digest
        assert app.store.cuts()[0].cut == collected.store.cuts()[0].cut


def test_explained_lines_answer_with_the_stored_integers(collected: App, three_chains_world: World) -> None:
    """`cast call` lines run as plain eth_call at that block."""
    checked = Counter[str]()
    for wallet in three_chains_world.wallets[:8]:
        for figure in ("health_factor", "collateral_usd", "debt_usd", "requirement_usd"):
            if all(p[figure] is None for p in collected.wallet(wallet)["positions"]):
                continue
            tree = collected.explain_wallet(wallet, figure)
            for part in tree["positions"]:
                for leaf in _leaves(part):
                    source = leaf["source"]
                    if "call" not in source or "derived" in source:  # bits of the word, or worked out from it
                        continue
                    words = source["call"].split()
                    chain = three_chains_world.chains[int(re.findall(r"SPILLOVER_RPC_(\d+)", words[-1])[0])]
                    answer = chain.rpc("eth_call", {"to": words[2], "data": words[3]}, hex(int(words[5])))
                    word = answer[2 + 64 * source["word"] : 66 + 64 * source["word"]]
                    assert int(word, 16) == int(leaf["value"]) % 2**256, leaf
                    checked[leaf["figure"].split(" ")[0]] += 1
    assert {"shares", "index", "price", "lltv_wad", "account"} <= set(checked)
    assert checked.total() > 100


def _leaves(node: dict) -> list[dict]:
    return [leaf for child in node["inputs"] for leaf in _leaves(child)] if "inputs" in node else [node]


def test_a_source_that_fails_costs_its_own_rows(three_chains_world: World, tmp_path: Path) -> None:
    text = configuration.toml(three_chains_world, f"sqlite:///{tmp_path / 'x.db'}")
    text = text.replace(three_chains_world.chains[10].url, "http://127.0.0.1:9").replace(
        'id = 10\nfinality = "latest"\n', 'id = 10\nfinality = "latest"\ntimeout_s = 1.0\ndeadline_s = 2.0\n'
    )
    (tmp_path / "c.toml").write_text(text)
    with App.open(tmp_path / "c.toml") as app:
        answer = app.collect(quiet)
        assert answer.too_many_gaps
        assert {b["chain"] for b in answer.data["cut"]["blocks"]} == {1, 42161}
        lost = [c for c in answer.data["coverage"] if c["chain"] == 10]
        assert {c["level"] for c in lost} == {"partial"}
        assert {c["accounts"] for c in lost} == {0}
        assert all(c["level"] == "full" for c in answer.data["coverage"] if c["protocol"] == "aave_v3")
        assert {g.reason for g in app.snapshot().gaps if g.subject.startswith("eip155:10/")} == {"source_failed"}


def test_a_deployment_that_begins_above_the_cut_is_not_read_as_empty(three_chains_world: World, tmp_path: Path) -> None:
    text = configuration.toml(three_chains_world, f"sqlite:///{tmp_path / 'x.db'}")
    text = text.replace('adapter = "morpho_blue"\n', 'adapter = "morpho_blue"\nstart_block = 123456\n')
    (tmp_path / "c.toml").write_text(text)
    with App.open(tmp_path / "c.toml") as app:
        answer = app.collect(quiet)
        (line,) = [c for c in answer.data["coverage"] if c["protocol"] == "morpho_blue"]
        assert (line["level"], line["accounts"], line["value_usd"]) == ("partial", 0, None)
        assert any("123456" in g.detail for g in app.snapshot().gaps if g.subject.endswith("/morpho_blue/blue"))


def test_a_wrong_chain_behind_a_url_stores_nothing(three_chains_world: World, tmp_path: Path) -> None:
    text = configuration.toml(three_chains_world, f"sqlite:///{tmp_path / 'x.db'}")
    text = text.replace(three_chains_world.chains[10].url, three_chains_world.chains[1].url)
    (tmp_path / "c.toml").write_text(text)
    with App.open(tmp_path / "c.toml") as app:
        with pytest.raises(WrongChainError) as error:
            app.collect(quiet)
        assert "10" in error.value.expected + error.value.message
        assert app.cuts() == []


def test_dry_run_counts_and_writes_nothing(three_chains_world: World, open_app: Opener) -> None:
    app = open_app(three_chains_world)
    rows = app.dry_run(quiet)
    assert app.cuts() == []
    assert {r["deployment"].split("/")[1] for r in rows} == {d.adapter for d in app.config.deployments}
    assert all(r["calls"] > 0 and r["requests"] > 0 for r in rows if r["targets"])
