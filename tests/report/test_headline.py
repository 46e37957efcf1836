"""No face claims more than was read: the command, its JSON, the page and the service say one headline."""

from __future__ import annotations

import html
import json
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from aggregator.api import make_app
from aggregator.app import App
from aggregator.app.demo import Demo
from aggregator.core.block import BlockRef, Cut
from aggregator.core.result import Convergence, Coverage, MarketOutcome, RoundRecord, StressResult, becomes
from aggregator.core.rows import Gap, Price
from aggregator.store import Store
from tests.cli.calling import Said, call

POOL, WETH = "eip155:1/aave_v3/core", "eip155:1/erc20:0x" + "aa" * 20
CALM = 'name = "calm"\n[price]\n"WETH?" = 0.0\n'
SHORT = 'name = "short"\n[price]\n"WETH?" = -0.3\n"wstETH?" = -0.3\n[conventions]\nmax_rounds = 2\n'
FALL = 'name = "fall"\n[price]\n"WETH?" = -0.3\n"wstETH?" = -0.3\n'


def _store(folder: Path, state: str, demo: Demo) -> Path:
    """A configuration whose store was read as `state` says."""
    url = f"sqlite:///{folder}/s.db"
    (folder / "c.toml").write_text(f'[store]\nurl = "{url}"\n')
    if state in ("whole", "partial", "aggregate"):
        shutil.copyfile(demo.store, folder / "s.db")
        with closing(sqlite3.connect(folder / "s.db")) as connection:
            named = "SELECT id FROM deployment WHERE name = 'eip155:1/morpho_blue/blue'"
            level = "full" if state == "whole" else state
            connection.execute(f"UPDATE coverage SET level = ? WHERE deployment_id IN ({named})", (level,))
            connection.commit()
        return folder / "c.toml"
    cut = Cut.of([BlockRef("eip155:1", 7, "0x" + "07" * 32, 1_750_000_000, "latest")])
    with Store.open(url) as store:
        store.migrate()
        with store.write_run(cut) as writer:
            row = Gap(POOL, "source_failed", "no answer") if state == "failed" else _price()
            writer.cut_rows(POOL, [row])
            writer.coverage(POOL, state)
    return folder / "c.toml"


def _price() -> Price:
    return Price("", WETH, "iso4217:USD", 2000 * 10**8, 8, "feed", 1_750_000_000, 3600)


# state of the store, scenario -> how the headline begins, what it names, exit code, what is degraded
CASES = [
    ("whole", FALL, r"USD \d", [], 0, []),
    ("whole", CALM, "No debt is left uncovered$", [], 0, []),
    ("partial", FALL, r"At least USD \d", ["1/morpho_blue/blue"], 0, ["1/morpho_blue/blue"]),
    ("partial", CALM, "At least USD 0 ", ["1/morpho_blue/blue"], 0, ["1/morpho_blue/blue"]),
    ("aggregate", CALM, "At least USD 0 ", ["1/morpho_blue/blue"], 0, ["1/morpho_blue/blue"]),
    ("whole", SHORT, r"At least USD \d", ["did not settle"], 3, ["the cascade did not settle"]),
    (
        "partial",
        SHORT,
        r"At least USD \d",
        ["1/morpho_blue/blue", "did not settle"],
        3,
        ["1/morpho_blue/blue", "the cascade did not settle"],
    ),
    ("failed", FALL, "Nothing was read", ["1/aave_v3/core"], 3, ["1/aave_v3/core", "nothing was read"]),
    ("full", FALL, "Nothing was read: no account", [], 3, ["nothing was read"]),
]


@pytest.mark.parametrize(("state", "scenario", "begins", "names", "code", "degraded"), CASES)
async def test_every_face_says_the_same_headline_and_no_more(
    tmp_path: Path,
    demo: Demo,
    capsys: pytest.CaptureFixture[str],
    state: str,
    scenario: str,
    begins: str,
    names: list[str],
    code: int,
    degraded: list[str],
) -> None:
    config, file, page = _store(tmp_path, state, demo), tmp_path / "s.toml", tmp_path / "r.html"
    file.write_text(scenario)
    words = ("stress", str(file), "--config", str(config))
    printed: Said = call(capsys, *words, "--report", str(page))
    told = call(capsys, *words, "--json")
    assert (printed.code, told.code) == (code, code)
    result = json.loads(told.out)
    headline = result["headline"]
    assert re.match(begins, headline), headline
    assert all(name in headline for name in names)
    assert headline in printed.out
    assert f"<h1>{html.escape(headline)}</h1>" in page.read_text(encoding="utf-8")
    with App.open(config) as app:
        async with TestClient(TestServer(make_app(app, look_s=0.0))) as client:
            asked = await client.post("/v1/stress", json=app.scenario(str(file)).plain())
            served = await asked.json()
    assert served["data"] == result
    assert served["meta"]["degraded"] == result["degraded"]
    assert len(result["degraded"]) == len(degraded)
    assert all(found.startswith(wanted) for found, wanted in zip(result["degraded"], degraded, strict=True))
    if state in ("failed", "full"):
        for face in (printed.out, page.read_text(encoding="utf-8").split("<footer")[0]):
            assert not re.search(r"No debt|USD 0\b|of debt is written off|1\.00×", face)


def test_two_runs_of_one_cut_that_read_different_things_print_and_store_under_two_names(
    tmp_path: Path, demo: Demo, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for state in ("whole", "partial"):
        (tmp_path / state).mkdir()
        config = _store(tmp_path / state, state, demo)
        (tmp_path / "s.toml").write_text(FALL)
        result = json.loads(call(capsys, "stress", str(tmp_path / "s.toml"), "--config", str(config), "--json").out)
        printed = call(capsys, "stress", str(tmp_path / "s.toml"), "--config", str(config)).out
        said.append((result["cut_digest"], result["scenario_digest"], result["job"], printed.splitlines()[0]))
        assert result["job"][:12] in said[-1][3]
    assert said[0][:2] == said[1][:2]
    assert said[0][2] != said[1][2]
    assert said[0][3] != said[1][3]


def _result(**of: Any) -> StressResult:
    market = MarketOutcome("1/m", "m", 1, 0.0, 0.0, 0.0, 0.0, 0, 0)
    record = RoundRecord(1, {}, 0, *[0.0] * 9)
    blank = StressResult(
        "1",
        "c",
        "s",
        "d",
        {"name": "x"},
        {},
        Convergence(1, 0.0, True),
        [record],
        [],
        [market],
        [],
        {},
        1.0,
        {},
        [Coverage(1, "a", "b", "full", 4, "9.00", 0)],
        [],
    )
    return replace(blank, **of)


def _hidden(reason: str, *subjects: str) -> list[dict[str, object]]:
    return [{"subject": s, "reason": reason, "detail": "", "accounts": 3, "value_usd": None} for s in subjects]


def _read(*levels: str, accounts: int = 4) -> list[Coverage]:
    return [Coverage(1, "a", str(i), level, accounts, None, 1) for i, level in enumerate(levels)]


def _lost(bad: float, unbooked: float) -> list[MarketOutcome]:
    return [MarketOutcome("1/m", "m", 1, 9.0, 8.0, bad, unbooked, 1, 0)]


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ({}, "No debt is left uncovered"),
        ({"markets": _lost(1.5, 2.0)}, "USD 3.50 of debt is left uncovered"),
        (
            {
                "markets": _lost(1500.4, 0.0),
                "amplification": 2.04,
                "totals": {"credit_loss_first_round_usd": 735.5},
            },
            "USD 1,500 of debt is left uncovered, 2.0 times the first round alone",
        ),
        (  # then amplification is of losses at market value
            {"markets": _lost(1500.4, 0.0), "amplification": 2.04, "totals": {"credit_loss_first_round_usd": 0.0}},
            "USD 1,500 of debt is left uncovered",
        ),
        (
            {"markets": _lost(1500.0, 0.0), "totals": {"perp_shortfall_usd": 14.9}},
            "USD 1,500 of debt is left uncovered",
        ),
        ({"totals": {"perp_shortfall_usd": 0.004}}, "No debt is left uncovered"),
        (
            {"totals": {"perp_shortfall_usd": 5.0, "option_shortfall_usd": 1.0, "perp_unrealised_shortfall_usd": 2.0}},
            "No loan is left uncovered, but traders of options and perps leave USD 8.00 unpaid",
        ),
        (
            {
                "markets": _lost(1.5, 2.0),
                "totals": {"perp_unrealised_shortfall_usd": 7.0},
                "coverage": _read("partial"),
            },
            "At least USD 3.50 of debt is left uncovered; traders of options and perps leave USD 7.00 more unpaid "
            "(not read in full: 1/a/0)",
        ),
        ({"coverage": _read("full", "partial")}, "At least USD 0 of debt is left uncovered (not read in full: 1/a/1)"),
        (
            {"coverage": _read(*["partial"] * 5), "markets": _lost(2.0, 0.0)},
            "At least USD 2.00 of debt is left uncovered (not read in full: 1/a/0, 1/a/1, 1/a/2 and 2 more)",
        ),
        ({"gaps": _hidden("unjudged", "m", "m")}, "At least USD 0 of debt is left uncovered (not judged: m)"),
        (
            {"gaps": _hidden("unknown_version", "n"), "coverage": _read("partial")},
            "At least USD 0 of debt is left uncovered (not read in full: 1/a/0; not judged: n)",
        ),
        ({"gaps": _hidden("unjudged", "m"), "markets": []}, "No account could be judged in m: nothing is said of debt"),
        ({"gaps": _hidden("no_depth", "m")}, "No debt is left uncovered"),
        (
            {"totals": {"liquidated_usd": 1e6, "sold_without_known_depth_usd": 9_999.0}, "markets": _lost(1.5, 2.0)},
            "USD 3.50 of debt is left uncovered",
        ),
        (
            {"totals": {"liquidated_usd": 1e6, "sold_without_known_depth_usd": 10_001.0}},
            "At least USD 0 of debt is left uncovered (USD 10,001 was sold at its price, for its depth is not known)",
        ),
        (
            {"convergence": Convergence(9, 1.0, False, "why")},
            "At least USD 0 of debt is left uncovered (the cascade did not settle)",
        ),
        (
            {
                "convergence": Convergence(9, 1.0, False, "why"),
                "coverage": _read("partial"),
                "markets": _lost(2.0, 1.0),
            },
            "At least USD 3.00 of debt is left uncovered (not read in full: 1/a/0; the cascade did not settle)",
        ),
        ({"coverage": []}, "Nothing was read: no account, and nothing is said of debt"),
        (
            {"coverage": _read("partial", accounts=0)},
            "Nothing was read of 1/a/0: no account, and nothing is said of debt",
        ),
    ],
)
def test_a_headline_is_gated_on_what_was_read(of: dict[str, Any], said: str) -> None:
    result = _result(**of)
    assert result.headline == said
    assert json.loads(result.json())["headline"] == said
    assert bool(result.degraded) == (not said.startswith(("USD", "No debt is left", "No loan is left")))


@pytest.mark.parametrize(
    ("bad", "owed", "latent", "said"),
    [
        (0.0, 0.0, 0.0, ""),
        (0.0, 0.001, 0.001, ""),
        (7.0, 0.0, 0.0, "all of the uncovered debt is written off"),
        (7.0, 7.0, 0.0, "all of the uncovered debt stays owed by emptied accounts"),
        (0.0, 0.0, 7.0, "all of the uncovered debt is above its collateral and not booked"),
        (7.0, 3.0, 0.0, "of the uncovered debt, USD 4.00 is written off, USD 3.00 stays owed by emptied accounts"),
        (
            9e6,
            1e6,
            2e3,
            "of the uncovered debt, USD 8,000,000 is written off, USD 1,000,000 stays owed by emptied accounts, "
            "USD 2,000 is above its collateral and not booked",
        ),
    ],
)
def test_what_becomes_of_uncovered_debt_is_said_part_by_part(bad: float, owed: float, latent: float, said: str) -> None:
    totals = {"bad_debt_usd": bad, "bad_debt_owed_usd": owed, "unrealised_shortfall_usd": latent}
    assert becomes(totals) == said


def test_no_face_writes_off_what_a_note_says_is_owed(demo: Demo) -> None:
    """Aave 3.0 on one chain keeps its bad debt, Aave 3.6 and Morpho on another do not."""
    totals = demo.summary["totals"]
    kept = sum(m["bad_debt_usd"] for m in demo.summary["markets"] if m["market"].endswith("aave_v3/v3.0"))
    assert 0.0 < kept < totals["bad_debt_usd"]
    assert totals["bad_debt_owed_usd"] == pytest.approx(kept, rel=1e-12)
    assert any(f"{kept:,.2f} USD, stays owed" in note for note in demo.summary["notes"])
    page = demo.report.read_text(encoding="utf-8")
    for figure in (totals["bad_debt_usd"] - kept, kept):
        assert f"USD {figure:,.0f}" in page.split("<section")[0]
    assert "all is written off" not in page
