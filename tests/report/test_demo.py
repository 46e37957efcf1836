"""The demo tells a true story, the same one every time: figures below are what its world was built to show."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aggregator.app.config import StoreConfig, data_dir
from aggregator.app.demo import RECORDING, STORE, Demo, run_demo
from aggregator.core.errors import ConfigError
from aggregator.store import Store
from tests.report.fixtures import quiet


def test_two_runs_at_different_times_are_byte_identical(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10 * 365 * 86_400)
    again = run_demo(tmp_path / "elsewhere", quiet)
    for suffix in (".json", ".html"):
        assert again.report.with_suffix(suffix).read_bytes() == demo.report.with_suffix(suffix).read_bytes()


def test_a_second_run_in_the_same_folder_says_the_same(tmp_path: Path) -> None:
    first = run_demo(tmp_path, quiet).report.with_suffix(".json").read_bytes()
    again = run_demo(tmp_path, quiet)
    assert again.report.with_suffix(".json").read_bytes() == first
    with Store.open(f"sqlite:///{again.store}") as store:
        assert len(store.cuts()) == 1


def test_the_demo_spares_a_configuration_and_a_store_that_are_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("# mine\n")
    with pytest.raises(ConfigError, match=r"config\.toml"):
        run_demo(tmp_path, quiet)
    assert [f.name for f in tmp_path.iterdir()] == ["config.toml"]
    (tmp_path / "config.toml").unlink()
    (tmp_path / STORE).write_bytes(b"of another recording")
    with pytest.raises(ConfigError, match="another version"):
        run_demo(tmp_path, quiet)
    assert [f.name for f in tmp_path.iterdir()] == [STORE]
    assert Path(StoreConfig().url).name != STORE  # real chains, collected in the same folder, go elsewhere


def test_everything_is_read_in_full_and_the_one_gap_is_the_feed_left_stale(demo: Demo) -> None:
    found = demo.summary
    assert {c["level"] for c in found["coverage"]} == {"full"}
    assumed = {"assumed_depth": 1, "followed_quote": 2}  # by the cascade, of dollars and of tokens quoted in ether
    assert Counter(g["reason"] for g in found["gaps"]) == {"stale_price": 1} | assumed
    protocols = {(c["chain"], c["protocol"]) for c in found["coverage"]}
    assert {(1, "aave_v3"), (42161, "aave_v3"), (1, "morpho_blue"), (1, "uniswap_v3"), (1, "erc4626")} <= protocols


def test_the_cascade_takes_rounds_moves_prices_and_amplifies(demo: Demo) -> None:
    found = demo.summary
    assert found["convergence"]["converged"]
    assert sum(r["liquidations"] > 0 for r in found["rounds"]) >= 4
    assert 1.2 < found["amplification"] < 5
    assert found["conservation"]["liquidators"] > 0.0  # they act only where it pays
    for chain in (1, 42161):
        bad = sum(m["bad_debt_usd"] for m in found["markets"] if m["protocol"] == "aave_v3" and m["chain"] == chain)
        assert bad > 1e5
    falling = [
        a for a, p in found["rounds"][0]["prices_usd"].items() if found["rounds"][-1]["prices_usd"][a] < 0.95 * p
    ]
    assert len(falling) >= 2


def test_without_a_blow_nothing_of_it_moves(config: Path) -> None:
    """Every oracle, health, value and worth of the demo's book, to the last bit."""
    from aggregator.app import App
    from tests.engine.test_oracles import unmoved

    with App.open(config) as app:
        run = unmoved(app.snapshot())
    assert run.book.accounts
    assert not run.state.calls.any()


def test_a_vault_share_carries_the_loss_of_one_market_into_another(demo: Demo, config: Path) -> None:
    """waUSDC is worth less for Aave's bad debt; loops against it stand, for no index and so no rate oracle falls."""
    from aggregator.app import App

    with App.open(config) as app:
        snap = app.snapshot()
    (loops,) = (m.market for m in snap.rows("market") if m.name == "waUSDC/DAI")
    (share,) = (a.id for a in snap.assets.values() if a.symbol == "waUSDC")
    outcome = next(m for m in demo.summary["markets"] if m["market"] == loops)
    assert outcome["liquidated_accounts"] == 0
    path = [r["prices_usd"][share] for r in demo.summary["rounds"]]
    assert path[-1] < 0.995 * path[0]
    loopers = {e.holder for e in snap.rows("exposure") if e.market == loops and e.side == "debt"}
    tightest = min((w for w in demo.summary["wallets"] if w["holder"] in loopers), key=lambda w: w["health_before"])
    assert tightest["health_before"] < 1.005  # at the share's worth it would have been called
    assert tightest["health_after"] == pytest.approx(tightest["health_before"], rel=1e-9)


def test_sizes_are_those_of_people(demo: Demo) -> None:
    values = [float(c["value_usd"]) for c in demo.summary["coverage"]]
    assert max(values) < 5e8
    assert (data_dir("config") / "demo" / RECORDING).stat().st_size < 400_000


def test_the_json_keys_that_scripts_rely_on(demo: Demo, config: Path) -> None:
    from aggregator.app import App

    assert set(demo.summary) == {
        "version", "cut_digest", "snapshot_digest", "scenario_digest", "scenario", "conventions", "convergence",
        "rounds", "losses", "markets", "wallets", "totals", "amplification", "conservation", "coverage", "gaps",
        "notes", "job", "headline", "degraded", "edges", "edge_counts",
    }  # fmt: skip
    holder = demo.summary["wallets"][0]["holder"]
    indebted = next(w["holder"] for w in demo.summary["wallets"] if w["health_before"] is not None)
    with App.open(config) as app:
        for address in (holder, indebted):
            _assert_wallet(app.wallet(address), address)


def _assert_wallet(found: dict[str, Any], address: str) -> None:
    keys = {"address", "cut", "age_s", "coverage", "positions", "totals", "greeks", "gaps"}
    assert set(found) == keys
    assert found["address"] == address
    assert set(found["cut"]) == {"digest", "skew_s", "blocks"}
    assert set(found["cut"]["blocks"][0]) == {"chain", "number", "hash", "timestamp", "finality"}
    assert {"chain", "protocol", "level", "accounts", "value_usd", "gaps"} <= set(found["coverage"][0])
    for position in found["positions"]:
        assert {"chain", "protocol", "deployment", "market", "kind", "legs", "collateral_usd", "debt_usd",
                "health_factor", "liquidation"} <= set(position)  # fmt: skip
        for leg in position["legs"]:
            assert set(leg) == {"asset", "symbol", "side", "raw", "amount", "value_usd"}
            assert leg["side"] in ("supply", "collateral", "debt", "margin", "long", "short")
            assert leg["raw"].lstrip("-").isdigit()
