"""The same line into SQLite and into a real PostgreSQL: one snapshot, one answer."""

from __future__ import annotations

from pathlib import Path

from aggregator.app import App
from tests.devnet import configuration
from tests.devnet.worlds import World
from tests.line.fixtures import quiet


def test_a_replay_gives_the_same_snapshot_and_wallet_in_both_databases(
    collected: App, three_chains_world: World, tmp_path: Path, url: str
) -> None:
    replay = {"recording": str(collected.config.path.with_name("world.jsonl.gz"))}
    (tmp_path / "c.toml").write_text(configuration.toml(three_chains_world, url, rpc=False, replay=replay))
    with App.open(tmp_path / "c.toml") as app:
        app.collect(quiet)
        app.collect(quiet)  # the same cut again replaces itself
        assert len(app.cuts()) == 1
        assert app.snapshot().digest == collected.snapshot().digest
        for wallet in three_chains_world.wallets[:3]:
            ours, theirs = app.wallet(wallet), collected.wallet(wallet)
            assert {k: v for k, v in ours.items() if k != "age_s"} == {k: v for k, v in theirs.items() if k != "age_s"}
        kept = app.stress("mild", "", quiet, keep=True)
        assert kept == collected.stress("mild", "", quiet)
