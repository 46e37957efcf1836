"""The page in a real Chromium: it draws every figure, says nothing to the console, asks nobody for anything."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aggregator.app.demo import Demo
from aggregator.core.result import WalletOutcome
from aggregator.report import plots
from aggregator.report.page import Section, render

DRAWN = "document.documentElement.dataset.drawn || ''"
OFFLINE = ("file:", "data:", "blob:")


@contextmanager
def browser(profile: Path, *flags: str) -> Iterator[int]:
    """A Chromium of its own; gives the port of its DevTools."""
    found = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    if found is None:
        pytest.skip("no Chromium on PATH: install chromium to see the report drawn")
    command = [
        found,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--remote-debugging-port=0",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-quic",
        *flags,
        f"--user-data-dir={profile}",
        "about:blank",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port_file = profile / "DevToolsActivePort"
        for _ in range(240):
            if port_file.is_file() and port_file.read_text().count("\n"):
                break
            time.sleep(0.25)
        yield int(port_file.read_text().splitlines()[0])
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with browser(tmp_path_factory.mktemp("profile")) as port:
        yield port


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

    async def open(self, page: Path, *, width: int, scripts: bool = True, before: str = "") -> None:
        """before: a script to run ahead of the page's own."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.ask(f"{domain}.enable")
        await self.ask("Page.addScriptToEvaluateOnNewDocument", source=before)
        await self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                       mobile=width < 600)  # fmt: skip
        await self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        await self.ask("Page.navigate", url=page.as_uri())
        for _ in range(240):
            await asyncio.sleep(0.25)
            if not scripts or await self.value(DRAWN):
                break
        await asyncio.sleep(0.25)

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
async def tab(port: int) -> AsyncIterator[Tab]:
    """A new tab of a browser."""
    at = f"http://127.0.0.1:{port}/json"
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{at}/new?about:blank") as answer:
            found = await answer.json(content_type=None)
        async with session.ws_connect(found["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            yield Tab(socket)
        async with session.get(f"{at}/close/{found['id']}"):
            pass


@pytest.mark.parametrize("width", [1200, 390])
async def test_every_figure_is_drawn_without_a_word_to_console_or_network(
    demo: Demo, chromium: int, width: int
) -> None:
    async with tab(chromium) as page:
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
        assert await page.value("document.querySelectorAll('.undrawn').length") == 0


PAPERS = (718, 740, 1046, 390)  # A4, Letter, A4 on its side, a pocket printer; at 96 dpi, less the usual margins


@pytest.mark.parametrize("screen", [1280, 390])
async def test_figures_drawn_on_a_screen_are_whole_on_paper(demo: Demo, chromium: int, screen: int) -> None:
    """The page is laid out anew for the paper, and no script runs then: what was drawn must fit by itself."""
    async with tab(chromium) as page:
        await page.open(demo.report, width=screen)
        await page.ask("Emulation.setEmulatedMedia", media="print")
        for paper in PAPERS:
            await page.value(f"document.body.style.width = '{paper}px'")
            for box in ("svg.main-svg", ".xtick", ".legendtext", ".xtitle", ".bars .point"):
                boxes = f"[...document.querySelectorAll('figure {box}')].map(e => e.getBoundingClientRect())"
                rights = await page.value(f"{boxes}.map(b => b.right)")
                assert rights, box
                assert max(rights) <= paper, (paper, box)
            ratio = "[...document.querySelectorAll('figure .svg-container')].map(e => (b => b.width / b.height / "
            ratio += "getComputedStyle(e).getPropertyValue('--shape'))(e.getBoundingClientRect()))"
            assert await page.value(ratio) == pytest.approx([1.0] * 6, rel=0.01)
        rounds = "[...document.querySelectorAll('#rounds .xtick')].map(e => +e.textContent)"
        assert await page.value(f"Math.max(...{rounds})") == len(demo.summary["rounds"])


RGB = """(text => text.match(/[\\d.]+/g).map(Number))"""
LIGHT = """((r, g, b) => [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
.reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0))"""
CONTRAST = f"""(() => {{
const light = text => {LIGHT}(...{RGB}(text)), ground = light(getComputedStyle(document.body).backgroundColor);
const against = (selector, key) => [...document.querySelectorAll(selector)].map(e => {{
  const own = light(getComputedStyle(e)[key]);
  return (Math.max(own, ground) + 0.05) / (Math.min(own, ground) + 0.05)}});
return {{ground, clear: [...document.querySelectorAll('.main-svg')].every(e => !e.style.background
    || getComputedStyle(e).backgroundColor == 'rgba(0, 0, 0, 0)'),
  texts: [...against('.xtick text, .ytick text, .y2tick text, .xtitle, .ytitle, .y2title, .legendtext', 'fill'),
    ...against('p, h1, h2, figcaption, td, th, .soft', 'color')],
  marks: [...against('.bars .point path', 'fill'), ...against('.lines path.js-line', 'stroke')]}}}})()"""


GROUNDS: dict[str, tuple[dict[str, str], bool]] = {
    "light": ({}, False),
    "dark": ({"prefers-color-scheme": "dark"}, True),
    "forced colours": ({"forced-colors": "active", "prefers-color-scheme": "dark"}, True),
}


async def stands_out(page: Tab, *, dark: bool) -> None:
    """WCAG: 4.5:1 for text, 3:1 for marks."""
    seen = await page.value(CONTRAST)
    assert (seen["ground"] < 0.05) == dark
    assert seen["clear"]
    assert len(seen["texts"]) > 300
    assert min(seen["texts"]) >= 4.5
    assert len(seen["marks"]) > 30
    assert min(seen["marks"]) >= 3.0


async def test_text_and_marks_stand_out_whatever_the_ground(demo: Demo, chromium: int) -> None:
    async with tab(chromium) as page:
        await page.open(demo.report, width=1280)
        for features, dark in GROUNDS.values():
            asked = [{"name": name, "value": value} for name, value in features.items()]
            await page.ask("Emulation.setEmulatedMedia", features=asked)
            await stands_out(page, dark=dark)
        dark_reader = [{"name": "prefers-color-scheme", "value": "dark"}]
        await page.ask("Emulation.setEmulatedMedia", media="print", features=dark_reader)
        await stands_out(page, dark=False)


@pytest.mark.parametrize("system", ["dark", "light"])
async def test_a_browser_that_forces_the_dark_draws_no_black_on_black(demo: Demo, tmp_path: Path, system: str) -> None:
    """On a dark system the page brings its own dark; on a light one the browser turns all but what pictures say."""
    flags = ["--enable-features=WebContentsForceDark", *["--force-dark-mode"] * (system == "dark")]
    with browser(tmp_path, *flags) as port:
        async with tab(port) as page:
            await page.open(demo.report, width=1280)
            assert await page.value("'darkened' in document.documentElement.dataset") == (system == "light")
            if system == "dark":
                await stands_out(page, dark=True)
                assert await page.value("getComputedStyle(document.documentElement).colorScheme") == "light dark"
            else:
                words = ".xtick text, .ytick text, .y2tick text, .xtitle, .ytitle, .y2title, .legendtext"
                inks = await page.value(
                    f"[...new Set([...document.querySelectorAll('{words}')].map(e => getComputedStyle(e).fill))]"
                )
                assert inks == ["rgb(230, 237, 243)"]  # on the 18, 18, 18 that such a browser paints: 16:1
                await page.ask("Emulation.setEmulatedMedia", media="print")
                assert await page.value("getComputedStyle(document.querySelector('.xtitle')).fill") == "rgb(27, 31, 36)"


async def test_a_browser_that_cannot_unpack_the_library_says_so_at_every_figure(demo: Demo, chromium: int) -> None:
    async with tab(chromium) as page:
        await page.open(demo.report, width=800, before="delete window.DecompressionStream")
        assert page.complaints() == []
        assert "DecompressionStream" in await page.value(DRAWN)
        said = "[...document.querySelectorAll('figure')].map(f => f.innerText.split('\\n').pop())"
        sentences = await page.value(said)
        assert len(sentences) == 6
        assert all("needs a browser" in sentence for sentence in sentences)
        assert await page.value("document.querySelectorAll('tbody tr').length") > 50


LONG = (
    "TheDeskWithAVeryLongNameWithoutAnySpace1",
    "A desk with a name of exactly forty char",
    "<b>" + "WM" * 19,
    "長" * 40,
)


@pytest.fixture(scope="module")
def long_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every figure that shows names, and tables, of names of forty characters; two of them are equal once cut."""
    names = [*LONG, *(f"{'x' * 30}{i}{'y' * 18}" for i in range(2))]
    wallets = [WalletOutcome(name, 9.0, 8.0, 1.0, 0.0, 1.0 + i / 9, 0.9) for i, name in enumerate(names)]
    paths = [plots.PricePath(name, f"{name} · Ethereum", [1.0, 0.7, 0.6 - i / 99]) for i, name in enumerate(names)]
    section = (
        Section("Long names", " ".join(names))
        .figure("prices", names[0], plots.price_paths(paths, ["cut", "blow", "1"]))
        .figure("losers", names[1], plots.losers([(name, 9.0 - i) for i, name in enumerate(names)], "loss, USD"))
        .figure("health", names[2], plots.health(wallets))
        .table("Losers", ["who", "layer", "loss"], [[name, "suppliers", "2,407,414.90"] for name in names], ["loss"])
    )
    page = tmp_path_factory.mktemp("long") / "long.html"
    page.write_text(render(LONG[0], LONG[1], list(LONG), [], [section]), encoding="utf-8")
    return page


async def test_long_names_leave_the_figures_on_the_screen(long_names: Path, chromium: int) -> None:
    """A plot keeps 40 % of its figure, every mark is on it, a number in a table of three columns needs no scrolling."""
    async with tab(chromium) as page:
        for width in (1280, 390, 360):
            await page.open(long_names, width=width)
            assert page.complaints() == []
            assert await page.value("document.documentElement.scrollWidth") <= width
            plotted = "f.querySelector('.nsewdrag').getBoundingClientRect()"
            shares = f"[...document.querySelectorAll('figure')].map(f => {plotted}.width / f.clientWidth)"
            assert min(await page.value(shares)) >= 0.4
            heights = f"[...document.querySelectorAll('figure')].map(f => {plotted}.height)"
            assert min(await page.value(heights)) >= 110
            for box in (".legendtext", ".ytick", ".point", "td.n", "li", "p"):
                boxes = f"[...document.querySelectorAll('{box}')].map(e => e.getBoundingClientRect())"
                assert max(await page.value(f"{boxes}.map(b => b.right)")) <= width, (width, box)
                assert min(await page.value(f"{boxes}.map(b => b.left)")) >= 0, (width, box)
            for figure in ("losers", "health"):  # one row each, also for names that are shown alike
                assert await page.value(f"document.querySelectorAll('#{figure} .ytick').length") == 6
            assert await page.value("document.querySelectorAll('#losers .point').length") == 6


async def test_nothing_is_cut_off_on_paper(demo: Demo, chromium: int) -> None:
    async with tab(chromium) as page:
        await page.open(demo.report, width=718)  # A4 less the usual margins, at 96 dpi
        await page.ask("Emulation.setEmulatedMedia", media="print")
        assert await page.value("document.documentElement.scrollWidth") <= 718
        inside = "[...document.querySelectorAll('table,pre,figure')].every(e => e.scrollWidth <= e.clientWidth + 1)"
        assert await page.value(inside)


async def test_tables_stay_with_scripts_off(demo: Demo, chromium: int) -> None:
    async with tab(chromium) as page:
        await page.open(demo.report, width=800, scripts=False)
        document = await page.ask("DOM.getDocument")
        found = await page.ask("DOM.querySelectorAll", nodeId=document["root"]["nodeId"], selector="table tbody tr")
        assert len(found["nodeIds"]) > 50
        said = await page.ask("DOM.querySelectorAll", nodeId=document["root"]["nodeId"], selector="figure p.undrawn")
        assert len(said["nodeIds"]) == 6
        assert page.requests() == []
