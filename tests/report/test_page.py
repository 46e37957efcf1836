"""The page as text: order, figures, and nothing of a stranger's that acts on a reader."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from aggregator import engine, graph
from aggregator.app.demo import Demo
from aggregator.cli.output import printable
from aggregator.core.rows import Asset, Market
from aggregator.core.scenario import Scenario
from aggregator.report.names import chain_name, clean, short
from aggregator.report.plots import ASSET_COLOURS, DARK_ORANGE, OTHER, PricePath, colour_of, compact, price_paths
from aggregator.report.stress import html
from tests.snapshot.world import POOL, POOL_ROWS, USDC, WETH, freeze

SECTIONS = ["As of", "Scenario", "Round by round", "Who pays", "Markets", "Most fragile wallets", "Options and perps",
            "What we do not know", "Method"]  # fmt: skip
HOSTILE = [
    "</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "<b>x</b><a href='//evil'>y</a>",
    "\u202eDSU\u202c", "\x1b[31mred\x1b]8;;http://evil\x07", "{{ 7 * 7 }}", "x" * 65_536, "[red]markup[/]",
]  # fmt: skip


class Reader(HTMLParser):
    """Elements with their attributes, headings, and all visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.text: list[str] = []
        self._in: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._in and self._in.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "script" not in self._in and "style" not in self._in:
            self.text.append(data)
            if self._in and self._in[-1] == "h2":
                self.headings.append(data)


def test_sections_stand_in_their_order_and_every_figure_has_its_table(demo: Demo) -> None:
    page = Reader(demo.report.read_text(encoding="utf-8"))
    assert page.headings == SECTIONS
    ids = [attrs["id"] for tag, attrs in page.elements if tag == "div" and attrs.get("role") == "img"]
    assert ids == ["rounds", "prices", "waterfall", "direct", "losers", "health"]
    assert sum(tag == "table" for tag, _ in page.elements) >= 10
    assert sum(attrs.get("class") == "soft undrawn" for _, attrs in page.elements) == len(ids)


def test_figures_carry_the_results_own_numbers(demo: Demo) -> None:
    page = demo.report.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)
    figures = json.loads(data)
    rounds = demo.summary["rounds"]
    assert figures["rounds"]["data"][0]["y"] == [r["liquidated_usd"] for r in rounds]
    bars = figures["waterfall"]["data"][0]
    assert sum(y for y, kind in zip(bars["y"], bars["measure"], strict=True) if kind != "total") == pytest.approx(
        0, abs=1
    )
    highest = max(abs(y) for y in bars["y"])
    thin = [text for text, y, kind in zip(bars["text"], bars["y"], bars["measure"], strict=True)
            if kind != "total" and abs(y) < 0.02 * highest]  # fmt: skip
    assert thin
    assert not any(thin)
    after = next(line for line in figures["health"]["data"] if line.get("name") == "after")
    assert max(h for h in after["x"] if h is not None) == 3.0
    assert set(after["customdata"]) <= {w["health_after"] for w in demo.summary["wallets"]}
    assert "above 3" in figures["health"]["layout"]["xaxis"]["title"]["text"]
    low, high = figures["prices"]["layout"]["yaxis"]["range"]
    shown = [y for line in figures["prices"]["data"] for y in line["y"] if y is not None]
    assert low <= min(shown)
    assert high >= max(shown)
    assert high - low >= 2


def test_every_price_path_can_be_told_from_the_others_and_starts_at_the_cut(demo: Demo) -> None:
    page = demo.report.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)
    lines = [line["y"] for line in json.loads(data)["prices"]["data"]]
    assert all(line[0] == 100 for line in lines)
    ends = [tuple(round(y) for y in line[2:]) for line in lines]
    assert len(set(ends)) == len(ends) > 3


def test_an_asset_has_one_colour_whatever_its_rank_and_whatever_else_is_drawn() -> None:
    """Each alone, all in one order and in the other, and in another version of an imported book."""
    ids = [f"eip155:{chain}/erc20:0x{n:040x}" for chain in (1, 10) for n in range(1, 4)]
    ids += [f"book:{'ab' * 16}/asset:{name}" for name in ("ETH", "a name of forty characters, for the colour")]
    drawn: dict[str, set[str]] = {asset: set() for asset in ids}
    for order in (ids, ids[::-1], *([asset] for asset in ids)):
        figure = price_paths([PricePath(asset, asset[-9:], [1.0, 0.5]) for asset in order], ["cut", "1"])
        assert figure is not None
        for asset, line in zip(order, figure.data, strict=True):
            drawn[asset] |= {line.line.color, line.marker.color}
    assert all(len(colours) == 1 for colours in drawn.values())
    assert {colour for colours in drawn.values() for colour in colours} <= set(ASSET_COLOURS)
    assert colour_of(f"book:{'cd' * 16}/asset:ETH") == colour_of(f"book:{'ab' * 16}/asset:ETH")
    many = [colour_of(f"eip155:1/erc20:0x{n:040x}") for n in range(1_000)]
    assert min(map(many.count, ASSET_COLOURS)) > 60  # evenly, so that few lines of a figure share one


@pytest.mark.parametrize("ground", ["#ffffff", "#0d1117"])
def test_colours_stand_out_on_both_grounds(ground: str) -> None:
    """WCAG 2 contrast of at least 3:1; the dark ground is the page's own."""

    def light(colour: str) -> float:
        parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(c * w for c, w in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))

    assert ground == "#ffffff" or ground in html_style()
    for colour in (*ASSET_COLOURS, OTHER, DARK_ORANGE):
        low, high = sorted((light(colour), light(ground)))
        assert (high + 0.05) / (low + 0.05) >= 3.0, colour


def html_style() -> str:
    return (files("aggregator.report") / "page.css").read_text(encoding="utf-8")


def test_captions_are_findings_of_this_run(demo: Demo) -> None:
    captions = [a["aria-label"] or "" for t, a in Reader(demo.report.read_text()).elements if a.get("role") == "img"]
    indebted = [w["health_after"] for w in demo.summary["wallets"] if w["health_before"] is not None]
    below, closed = sum(h is not None and h < 1 for h in indebted), sum(h is None for h in indebted)
    assert captions[5] == f"Of {len(indebted)} wallets with debt, {below} end below 1 and {closed} without any debt."
    assert captions[1].endswith("the blow alone leaves 70.0%.")


@pytest.mark.parametrize(
    ("usd", "label"),
    [(0.0, "0"), (12.54, "12.5"), (-1127.0, "1.13k"), (999_499.0, "999k"), (999_500.0, "1.00M"), (100_000.0, "100k"),
     (1_422_571.0, "1.42M"), (42_591_827.0, "42.6M"), (2.5e12, "2.50T")],
)  # fmt: skip
def test_labels_keep_three_digits(usd: float, label: str) -> None:
    assert compact(usd) == label


def test_the_whole_id_is_under_every_short_one(demo: Demo) -> None:
    page = Reader(demo.report.read_text(encoding="utf-8"))
    titles = {attrs["title"] for tag, attrs in page.elements if tag == "td" and attrs.get("title")}
    assert demo.summary["cut_digest"] in titles
    assert {w["holder"] for w in demo.summary["wallets"]} & titles


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_symbols_and_names_of_strangers_stay_text(word: str) -> None:
    rows = [row for row in POOL_ROWS if not isinstance(row, Market)] + [Market(POOL, "lending", "aave_v3@3.6", word)]
    snap = freeze(rows, assets=[Asset(WETH, word, 18), Asset(USDC, f"{word}2", 6)])
    scenario = Scenario(word[:200] or "x", description=word[:2_000], price={WETH: -0.6})
    page = html(engine.stress(snap, graph.build(snap), scenario), snap)
    plain = Reader(page)
    assert sum(tag == "script" for tag, _ in plain.elements) == 3
    assert not {tag for tag, _ in plain.elements} & {"img", "a", "iframe", "object"}
    assert all(not name.startswith("on") for _, attrs in plain.elements for name in attrs)
    seen = "".join(plain.text)
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069\x1b\x07]", page.split("<script", 1)[0])
    if "{{" in word:
        assert word in seen
    assert len(page.split("<script", 1)[0]) < 60_000


def test_bold_tags_of_a_stranger_are_not_bold() -> None:
    snap = freeze([*POOL_ROWS], assets=[Asset(WETH, "<b>WETH</b>", 18), Asset(USDC, "USDC", 6)])
    page = html(engine.stress(snap, graph.build(snap), Scenario("s", price={WETH: -0.6})), snap)
    assert "<b>WETH" not in page
    assert "&lt;b&gt;WETH" in page


def test_cleaning_keeps_what_can_be_read_and_cuts_the_middle() -> None:
    assert clean("wstETH · Ξ") == "wstETH · Ξ"
    assert clean("a\u202eb\x00c\n") == "a\ufffdb\ufffdc\ufffd"
    assert len(clean("x" * 65_536)) == 48
    assert short("0x" + "ab" * 20) == "0xababab…abab"
    assert printable("\x1b[2J") == "\ufffd[2J"
    assert chain_name(f"book:0123abcd{'ef' * 12}/asset:ETH") == "book 0123abcd"


def test_a_quiet_stress_has_a_page_too() -> None:
    snap = freeze([*POOL_ROWS])
    page = html(engine.stress(snap, graph.build(snap), Scenario("quiet")), snap)
    assert "No account could be judged" in page  # for want of a term
    assert Reader(page).headings == SECTIONS
