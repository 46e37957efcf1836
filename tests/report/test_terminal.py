"""What the terminal shows: answers a person can read, and nothing of a stranger's that acts there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from aggregator.app import App
from aggregator.app.demo import Demo
from aggregator.cli import output, show
from aggregator.core.ids import parse_address


@pytest.mark.parametrize(
    ("exact", "shown"),
    [
        ("1605012.935230290670620", "1,605,012.93523"),
        ("0.007650", "0.00765"),
        ("0.000000000123456", "0.000000000123"),
        ("0.000000000000000000", "0"),
        ("115792089237316195423570985008687907853269984665640564039457584007913129639935", None),
        ("-12.50", "-12.5"),
        ("7", "7"),
    ],
)
def test_amounts_are_exact_to_six_places_and_never_a_false_zero(exact: str, shown: str | None) -> None:
    found = output.amount(exact)
    assert found == shown if shown is not None else found.replace(",", "") == exact


def test_the_demo_answers_first_and_fits_a_screen(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _shown(lambda: show.stress(demo.summary), monkeypatch, width=100)
    assert demo.summary["cut_digest"][:12] in lines[0]
    assert lines[1] == demo.summary["headline"]
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 100


def test_a_wallet_says_what_takes_it_down(demo: Demo, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = show.fragile(demo.summary["wallets"])[0]["holder"]
    with App.open(config) as app:
        found = app.wallet(parse_address(address))
    lines = _shown(lambda: show.wallet(found), monkeypatch, width=100)
    assert any("health factor 1.004" in line for line in lines)
    assert any(line.startswith("liquidated if waUSDC alone falls") for line in lines)
    assert any(line.startswith("liquidated if WETH alone falls") and line.endswith(" USD") for line in lines)
    assert any(line.startswith("liquidated if waUSDC alone falls") and line.endswith(" DAI") for line in lines)


def test_what_a_margin_market_requires_is_printed_beside_debt_and_not_in_it(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trader who borrows nowhere owes nothing, whatever his maintenance and his options' minimum collateral are."""
    seen = 0
    with App.open(config) as app:
        snap = app.snapshot()
        traders = {row.holder for kind in ("perp", "option") for row in snap.rows(kind)}
        for holder in sorted(traders - {row.holder for row in snap.rows("exposure", side="debt")}):
            found = app.wallet(holder)
            required = sum(float(p["requirement_usd"] or 0.0) for p in found["positions"])
            text = "\n".join(_shown(lambda found=found: show.wallet(found), monkeypatch, width=100))
            assert "debt 0.00" in text
            assert (f"margin required, USD: {required:,.2f}" in text) == (required > 0.0)
            seen += required > 0.0
    assert seen


def test_a_strangers_symbol_moves_no_cursor(demo: Demo, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with App.open(config) as app:
        found = app.wallet(parse_address(demo.summary["wallets"][0]["holder"]))
    for position in found["positions"]:
        for leg in position["legs"]:
            leg["symbol"] = "\x1b[2J[bold]\u202ex[/bold]"
    text = "\n".join(_shown(lambda: show.wallet(found), monkeypatch, width=200))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold]" in text


def test_no_figure_is_folded_in_a_pipe(config: Path) -> None:
    command = [sys.executable, "-m", "aggregator", "stress", "eth_down_30", "--config", str(config)]
    env = os.environ | {"COLUMNS": "40"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True, env=env)
    assert any(
        line.startswith("Ethereum") and "aave_v3" in line and "full" in line for line in done.stdout.splitlines()
    )


FIGURE = re.compile(r"(?<![\w.,])-?\d{1,3}(?:,\d{3})*\.\d+(?![\w.,])|(?<![\w.,])-?\d{1,3}(?:,\d{3})+(?![\w.,])")


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_a_narrow_terminal_cuts_no_figure(
    demo: Demo, config: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Every figure of a wide terminal stands whole in a narrow one, as often."""
    with App.open(config) as app:
        wallets = [app.wallet(parse_address(w["holder"])) for w in demo.summary["wallets"][:4]]
        exposures = [app.exposure(symbol) for symbol in ("WETH", "USDC")]
        coverage = app.wallet(wallets[0]["address"])["coverage"]

    def show_all() -> None:
        show.stress(demo.summary)
        show.coverage(coverage)
        for found in wallets:
            show.wallet(found)
        for found in exposures:
            show.exposure(found)
        output.table(
            "t",
            ["what", "USD"],
            [["all of it", "2,407,414.90"], ["\u6bd4\u7279\u5e01" * 9, "1.50"]],
            right=frozenset({1}),
        )

    wide = Counter(FIGURE.findall("\n".join(_shown(show_all, monkeypatch, width=400))))
    narrow = Counter(FIGURE.findall("\n".join(_shown(show_all, monkeypatch, width=width))))
    assert wide.total() > 100
    assert narrow == wide


def _shown(act: Callable[[], None], monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    """Lines that are not empty."""
    console = Console(soft_wrap=True, highlight=False, width=width, record=True, file=StringIO())
    monkeypatch.setattr(output, "out", console)
    monkeypatch.setattr(show, "out", console)
    act()
    return [line.rstrip() for line in console.export_text().splitlines() if line.strip()]


def test_greeks_stand_under_symbols_and_supply_beside_collateral(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with App.open(config) as app:
        snap = app.snapshot()
        writer = next(leg.holder for leg in snap.rows("option") if leg.size < 0)
        (vaulted, *_) = (r.holder for r in snap.rows("exposure", deployment="eip155:1/erc4626/vaults"))
        lines = _shown(lambda: show.wallet(app.wallet(writer)), monkeypatch, width=100)
        assert any(line.startswith("sETH ") for line in lines[-3:])
        assert max(map(len, lines)) <= 80
        assert any("per 1.00 of volatility" in line for line in lines)
        worth = sum(float(leg["value_usd"]) for p in app.wallet(vaulted)["positions"] for leg in p["legs"])
        lines = _shown(lambda: show.wallet(app.wallet(vaulted)), monkeypatch, width=100)
    assert any(line.endswith(f", supplied {worth:,.2f}") for line in lines)


def test_an_exposure_names_the_vault_and_warns_of_adding_up(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with App.open(config) as app:
        lines = _shown(lambda: show.exposure(app.exposure("USDC")), monkeypatch, width=100)
        plain = _shown(lambda: show.exposure(app.exposure("CRV")), monkeypatch, width=100)
        shares = _shown(lambda: show.exposure(app.exposure("svETH")), monkeypatch, width=100)
    assert max(map(len, lines)) <= 80
    assert any(" waUSDC " in line for line in lines)
    assert "do not add up" in lines[-2]
    assert "do not add up" in shares[-2]  # some of them stand in Morpho's market and at Morpho's contract
    assert "add up" not in "".join(plain)
    assert lines[-1] == "11 of 11 deployments were read in full"
    assert " days old" in lines[0]
