"""`doctor` on real chains and broken ones: each finding says how to mend it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aggregator.app.demo import Demo
from aggregator.app.doctor import examine
from tests.devnet.anvil import Chain
from tests.devnet.toolchain import Toolchain


def _config(tmp_path: Path, chain: int, urls: list[str], more: str = "") -> Path:
    file = tmp_path / "c.toml"
    store = f'[store]\nurl = "sqlite:///{tmp_path / "x.db"}"\n'
    listed = ", ".join(f'"{u}"' for u in urls)
    file.write_text(f"{store}[[chains]]\nid = {chain}\nrpc = [{listed}]\ntimeout_s = 2.0\n{more}")
    return file


def _by_check(findings: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    return {f["check"]: f for f in findings}


def test_a_healthy_chain_has_nothing_to_mend(tmp_path: Path, chain: Chain) -> None:
    chain.mine(70)  # anvil's finalized block is 64 behind the head
    feed = (
        '{ asset = "0x00000000000000000000000000000000000000aa", feed = "0x00000000000000000000000000000000000000bb" }'
    )
    read = f'[[deployments]]\nadapter = "chainlink"\nchain = 1\nname = "feeds"\nfeeds = [{feed}]\n'
    found = _by_check(examine(_config(tmp_path, 1, [chain.url], read)))
    assert {f["status"] for f in found.values()} == {"ok"}, found
    assert {"chain 1 endpoint 1", "chain 1 endpoint 1 multicall", "chain 1 agreement", "database"} <= set(found)


def test_wrong_chain_dead_endpoint_and_missing_multicall_are_named(tmp_path: Path, devnet_tools: Toolchain) -> None:
    with Chain(devnet_tools, 10, False) as bare:
        wrong = _by_check(examine(_config(tmp_path, 1, [bare.url])))
        assert wrong["chain 1 endpoint 1"]["status"] == "fail"
        assert "serves chain 10" in wrong["chain 1 endpoint 1"]["detail"]
        assert "SPILLOVER_RPC_10" in wrong["chain 1 endpoint 1"]["fix"]
        dead = _by_check(
            examine(_config(tmp_path, 10, ["http://127.0.0.1:9/SECRET", bare.url], 'finality = "latest"\n'))
        )
        assert dead["chain 10 endpoint 1"]["status"] == "fail"
        assert "SECRET" not in str(dead)
        assert dead["chain 10 endpoint 2"]["status"] == "ok"
        assert dead["chain 10 endpoint 2 multicall"]["status"] == "warn"
        assert 'multicall = ""' in dead["chain 10 endpoint 2 multicall"]["fix"]


def test_an_endpoint_that_stands_still_is_named(tmp_path: Path, devnet_tools: Toolchain, chain: Chain) -> None:
    chain.warp(3_600)
    with Chain(devnet_tools, 1) as still:
        file = _config(tmp_path, 1, [still.url, chain.url], 'finality = "latest"\n')
        found = _by_check(examine(file))
        assert [(name, f["status"]) for name, f in found.items() if name.endswith("head")] == [
            ("chain 1 endpoint 1 head", "warn")
        ]
        assert "behind another endpoint's" in found["chain 1 endpoint 1 head"]["detail"]


def test_a_chain_without_endpoint_is_a_warning(tmp_path: Path) -> None:
    found = _by_check(examine(_config(tmp_path, 8453, [])))
    assert found["chain 8453"]["status"] == "warn"
    assert "SPILLOVER_RPC_8453" in found["chain 8453"]["fix"]


def test_a_database_that_cannot_be_opened_fails(tmp_path: Path) -> None:
    file = _config(tmp_path, 1, [])
    (tmp_path / "x.db").write_bytes(b"this is no database" * 100)
    assert _by_check(examine(file))["database"]["status"] == "fail"


def test_a_recording_stands_in_for_endpoints_and_a_torn_one_fails(demo: Demo, tmp_path: Path) -> None:
    found = _by_check(examine(demo.config))
    assert {f["status"] for f in found.values()} == {"ok"}, found
    assert "eip155:42161" in found["recording"]["detail"]
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes((demo.config.parent / "recording.jsonl.gz").read_bytes()[:1000])
    file = _config(tmp_path, 1, [])
    file.write_text(f'[replay]\nrecording = "{torn.name}"\n' + file.read_text())
    assert _by_check(examine(file))["recording"]["status"] == "fail"


def test_an_endpoint_of_a_chain_that_is_not_configured_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SPILLOVER_RPC_5000", "SPILLOVER_RPC_ETH"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/SECRET")
    found = _by_check(examine(_config(tmp_path, 1, [])))
    assert "id = 5000" in found["SPILLOVER_RPC_5000"]["fix"]
    assert "SPILLOVER_RPC_1" in found["SPILLOVER_RPC_ETH"]["fix"]
    assert "SECRET" not in str(found)


def test_a_database_that_refuses_is_told_by_what_it_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLOVER_STORE_URL", "postgresql://u:secret@127.0.0.1:1/y")
    found = _by_check(examine(_config(tmp_path, 1, [])))["database"]
    assert found["status"] == "fail"
    assert "refused" in found["detail"].removeprefix("the database refused")
    assert "\n" not in found["detail"]
    assert "SPILLOVER_STORE_URL" in found["fix"]  # and not: ask the doctor
    assert "secret" not in str(found)


def test_a_configuration_without_deployments_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text(f'[store]\nurl = "sqlite:///{tmp_path / "x.db"}"\n')
    assert _by_check(examine(tmp_path / "empty.toml"))["configuration"]["status"] == "warn"
