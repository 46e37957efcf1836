"""`bench` without what its benchmarks compare with: a reason in the place of a figure, and the rest is measured."""

from __future__ import annotations

import json
import sys

import pytest

from tests.cli.calling import call
from tests.devnet import toolchain

LOADED = ("benchmarks.ingest", "benchmarks.quant_options")


@pytest.fixture(autouse=True)
def as_for_the_first_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LOADED:
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_what_is_not_installed_is_skipped_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in an installed wheel: no test kit, none of the libraries that only tests need."""
    for name in ("tests.devnet.toolchain", "vollib", "vollib.black"):
        monkeypatch.setitem(sys.modules, name, None)
    names = ["decode", "ingest", "quant_options"]
    said = call(capsys, "bench", *names, "--json")
    assert said.code == 0, said
    rows = json.loads(said.out)
    assert {row["name"].partition(".")[0] for row in rows} == set(names)
    skipped = {row["name"]: row["skipped"] for row in rows if "skipped" in row}
    assert set(skipped) == {"ingest", "quant_options"}
    assert "local chains" in skipped["ingest"]
    assert "vollib" in skipped["quant_options"]
    assert all(row["ratio"] > 0 for row in rows if row["name"] not in skipped)
    shown = call(capsys, "bench", "ingest").out
    assert "skipped ingest: needs the local chains" in shown


def test_a_kit_that_cannot_be_had_is_a_reason_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unavailable() -> None:
        raise toolchain.ToolchainUnavailable("no network")

    monkeypatch.setattr(toolchain, "toolchain", unavailable)
    assert "no network" in call(capsys, "bench", "ingest").out


def test_a_benchmark_that_is_broken_is_no_skip(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "aggregator.ingest.collect", None)
    said = call(capsys, "bench", "ingest")
    assert said.code == 1
    assert "SPL-000" in said.err
