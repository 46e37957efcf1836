"""A stranger's token called like another, in every place of an imported book: nothing of him moves or counts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from aggregator.api import make_app
from aggregator.app.wiring import App

REAL, FAKE = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2", "0x00000000000000000000000000000000000000bd"
BOOK = {
    "markets": "market,rule,loan_asset\nmain,compound_v2@1,\npair,morpho_blue@1,USDC\n",
    "collateral": f"market,asset,liquidation_threshold\nmain,{REAL},0.8\npair,{REAL},0.86\n",
    "prices": f"asset,price_usd,decimals,symbol\n{REAL},2000,18,WETH\nUSDC,1,6,USDC\n",
    "positions": "market,account,asset,side,amount\n"
    f"main,alice,{REAL},collateral,10\nmain,alice,USDC,debt,14000\nmain,carol,USDC,supply,60000\n"
    f"pair,bob,{REAL},collateral,5\npair,bob,USDC,debt,8000\n",
    "depth": f"asset,base_reserve,usd_reserve\n{REAL},1000,2000000\n",
}
PLACES = {  # what the stranger adds, by table
    "lent beside it": {"positions": f"main,thief,{FAKE},supply,1000000\n"},
    "in a market of his own": {
        "markets": "his,morpho_blue@1,USDC\n",
        "collateral": f"his,{FAKE},0.98\n",
        "positions": f"his,thief,{FAKE},collateral,1000000000\nhis,thief,USDC,debt,500\n",
    },
    "lent to himself": {
        "markets": f"his,morpho_blue@1,{FAKE}\n",
        "collateral": "his,USDC,0.98\n",
        "positions": f"his,thief,{FAKE},debt,100000000\nhis,thief,USDC,collateral,1000000000000\n",
    },
    "in a pool": {"depth": f"{FAKE},1000000000,1\n"},
    "priced alone": {},
}
SHIPPED = ("eth_down_30", "eth_down_60", "depth_half", "mild", "steth_depeg", "usdc_depeg", "vol_spike")


def imported(folder: Path, **more: str) -> App:
    (folder / "book").mkdir(parents=True)
    config = folder / "c.toml"
    config.write_text(f'[store]\nurl = "sqlite:///{folder / "s.db"}"\n')
    for name, text in BOOK.items():
        (folder / "book" / f"{name}.csv").write_text(text + more.get(name, ""))
    app = App.open(config)
    app.import_book(folder / "book")
    return app


def figures(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the markets that both books have; ids hold the book's digest."""
    both = [m for m in result["markets"] if m["market"].endswith(("/main", "/pair"))]
    return [{key: value for key, value in m.items() if key not in ("market", "chain")} for m in both]


@pytest.mark.parametrize("place", PLACES)
def test_a_strangers_token_in_a_book(tmp_path: Path, place: str) -> None:
    whole = place == "in a market of his own"
    more = PLACES[place] | {"prices": f"{FAKE},2000,18,{'weth' if whole else 'WETH'}\n"}
    with imported(tmp_path / "without") as honest, imported(tmp_path / "with", **more) as app:
        assert app.scenario_names() == sorted(SHIPPED)
        for name in SHIPPED if whole else SHIPPED[:1]:
            one, other = (a.stress(name, "", lambda *_: None) for a in (honest, app))
            assert figures(one) == figures(other)
            noted = any(FAKE in note and "not moved" in note for note in other["notes"])
            assert noted == ("WETH" in str(other["scenario"]["price"]) + str(other["scenario"]["vol"]))
        (real,) = app.exposure("weth")["assets"]
        assert real.endswith(f"asset:{REAL}")
        assert [a.rpartition(":")[2] for a in app.exposure("WETH")["namesakes"]] == [FAKE]
        wanted = sum(float(r["value_usd"]) for r in honest.exposure("WETH")["rows"])
        assert sum(float(r["value_usd"]) for r in app.exposure("WETH")["rows"]) == pytest.approx(wanted)
        assert app.exposure(f"{real.partition('/')[0]}/asset:{FAKE}")["assets"] != [real]


def test_the_service_takes_symbols_in_any_case_and_names_what_it_leaves_out(tmp_path: Path) -> None:
    async def ask(app: App, scenario: dict[str, Any]) -> dict[str, Any]:
        async with TestClient(TestServer(make_app(app))) as client:
            answer = await client.post("/v1/stress", data=json.dumps(scenario))
            found: dict[str, Any] = await answer.json()
            return found

    with imported(tmp_path, prices=f"{FAKE},2000,18,WETH\n", **PLACES["in a market of his own"]) as app:
        found = asyncio.run(ask(app, {"name": "x", "price": {"weth": -0.3}}))
        assert any(FAKE in note for note in found["data"]["notes"])
        assert found["data"]["totals"]["liquidated_accounts"] == 2.0
        tree = app.explain_wallet("alice", "weth:collateral")
        assert [part["value"] for part in tree["positions"]] == ["10.000000000000000000 WETH (USD 20000.00000000)"]
