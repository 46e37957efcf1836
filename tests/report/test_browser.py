"""The page in a real Chromium: it draws every figure, says nothing to the console, asks nobody for anything."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aggregator.app.demo import Demo

DRAWN = "document.documentElement.dataset.drawn || ''"
OFFLINE = ("file:", "data:", "blob:")


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    if found is None:
        pytest.skip("no Chromium on PATH: install chromium to see the report drawn")
    return found


class Tab:
    """One page over the DevTools protocol: answers by id, events kept."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._asked = socket, 0
        self.events: list[dict[str, Any]] = []

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._asked += 1
        await self._socket.send_json({"id": self._asked, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json(timeout=60)
            if message.get("id") == self._asked:
                assert "error" not in message, message
                answer: dict[str, Any] = message["result"]
                return answer
            self.events.append(message)

    async def value(self, expression: str) -> Any:
        return (await self.ask("Runtime.evaluate", expression=expression, returnByValue=True))["result"].get("value")

    async def open(self, page: Path, *, width: int, scripts: bool = True) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.ask(f"{domain}.enable")
        await self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                       mobile=width < 600)  # fmt: skip
        await self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        await self.ask("Page.navigate", url=page.as_uri())
        for _ in range(240):
            await asyncio.sleep(0.25)
            if not scripts or await self.value(DRAWN) == "yes":
                break
        await asyncio.sleep(0.5)

    def complaints(self) -> list[str]:
        bad = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown" or (
                method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert")
            ) or (method == "Log.entryAdded" and params["entry"]["level"] == "error"):  # fmt: skip
                bad.append(json.dumps(params)[:400])
        return bad

    def requests(self) -> list[str]:
        sent = (e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent")
        return [url for url in sent if not url.startswith(OFFLINE)]


@asynccontextmanager
async def tab(chromium: str, profile: Path) -> AsyncIterator[Tab]:
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0",
               "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
               f"--user-data-dir={profile}", "about:blank"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
    try:
        port_file = profile / "DevToolsActivePort"
        for _ in range(240):
            if port_file.is_file() and port_file.read_text().count("\n"):
                break
            await asyncio.sleep(0.25)
        port = port_file.read_text().splitlines()[0]
        async with aiohttp.ClientSession() as session:
            async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
                found = await answer.json(content_type=None)
            async with session.ws_connect(found["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                yield Tab(socket)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("width", [1200, 390])
async def test_every_figure_is_drawn_without_a_word_to_console_or_network(
    demo: Demo, chromium: str, tmp_path: Path, width: int
) -> None:
    async with tab(chromium, tmp_path / "profile") as page:
        await page.open(demo.report, width=width)
        assert page.complaints() == []
        assert page.requests() == []
        assert await page.value(DRAWN) == "yes"
        figures = "[...document.querySelectorAll('figure div[role=img]')]"
        assert await page.value(f"{figures}.length") == 6
        assert await page.value(f"{figures}.every(f => f.querySelector('svg.main-svg'))")
        assert await page.value("document.documentElement.scrollWidth") <= width
        assert await page.value(f"{figures}.every(f => f.firstChild.getBoundingClientRect().right <= innerWidth)")
        assert await page.value("[...document.querySelectorAll('.xtitle')].length") >= 5
        inside = "[...document.querySelectorAll('.xtitle')].every(t => t.getBoundingClientRect().right <= innerWidth)"
        assert await page.value(inside)


async def test_nothing_is_cut_off_on_paper(demo: Demo, chromium: str, tmp_path: Path) -> None:
    async with tab(chromium, tmp_path / "profile") as page:
        await page.open(demo.report, width=718)  # A4 less the usual margins, at 96 dpi
        await page.ask("Emulation.setEmulatedMedia", media="print")
        assert await page.value("document.documentElement.scrollWidth") <= 718
        inside = "[...document.querySelectorAll('table,pre,figure')].every(e => e.scrollWidth <= e.clientWidth + 1)"
        assert await page.value(inside)


async def test_tables_stay_with_scripts_off(demo: Demo, chromium: str, tmp_path: Path) -> None:
    async with tab(chromium, tmp_path / "profile") as page:
        await page.open(demo.report, width=800, scripts=False)
        document = await page.ask("DOM.getDocument")
        found = await page.ask("DOM.querySelectorAll", nodeId=document["root"]["nodeId"], selector="table tbody tr")
        assert len(found["nodeIds"]) > 50
        assert page.requests() == []
