"""The answers on the method pages name their source and are what the library gives; the index names all pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

METHODS = Path(__file__).parents[2] / "docs" / "methods"
PAGES = sorted(path.stem for path in METHODS.glob("*.md") if path.stem != "README")
MODULES = sorted(p.stem for p in (METHODS.parents[1] / "aggregator" / "quant").glob("*.py"))

# who published the answer of a page, in the words of the page; the others say that no published figure is known
SOURCES = {
    "balancer_weighted": "WeightedMath tests",
    "black_scholes": "Haug (1998)",
    "clearing": "systemicrisk example",
    "curve_crypto": "The authors' simulation",
    "debtrank": "NetworkRiskMeasures",
    "deleveraging": "ox-inet-resilience/firesale_stresstest, dd861c6",
    "forecast_scores": "scoringrules",
    "hedging_costs": "pfhedge's Whalley-Wilmott example",
    "merged_depth": "UniswapV2Library",
    "network_measures": "NetworkRiskMeasures",
    "neva": "neva three-bank cycle",
    "option_margin": "derivexyz/v2-core (7736900)",
    "perp_funding": "Deribit, *Funding Specifications*",
    "perpetual_options": "White et al. (2021)",
    "reconstruction": "Anand, Craig and von Peter 2015",
    "risk_backtests": "Basel table",
    "stableswap": "curve-contract simulation",
    "uniswap_v3": "v3-core's swap snapshot",
    "volatility_models": "Fiorentini, Calzolari and Panattoni",
    "volatility_surface": "Gatheral and Jacquier (2014), sec. 5.1",
}


@pytest.mark.parametrize("page", PAGES)
def test_page_names_who_published_its_answer_or_says_that_none_is_known(page: str) -> None:
    text = (METHODS / f"{page}.md").read_text(encoding="utf-8")
    answers = dict(re.findall(r"\*\*(Published|Worked) answer\.\*\* (.*?)\n\n", text, re.DOTALL))
    assert answers
    assert ("Published" in answers) == (page in SOURCES)
    assert SOURCES.get(page, "") in answers.get("Published", "")
    assert answers.get("Worked", "No published figure is known").startswith("No published figure is known")


@pytest.mark.parametrize("page", PAGES)
def test_page_holds(page: str) -> None:
    text = (METHODS / f"{page}.md").read_text(encoding="utf-8")
    for heading in ("What it answers", "When not to trust it", "Checked by"):
        assert heading in text
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        assert "assert" in block
        exec(compile(block, f"{page}.md", "exec"), {})
    figures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert figures
    assert all((METHODS / figure).is_file() for figure in figures)


def test_index_names_every_page_and_every_model_has_one() -> None:
    index = (METHODS / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\((\w+)\.md\)", index)) == PAGES
    named = set(re.findall(r"`(\w+)`", index))
    helpers = {"__init__", "jit", "normal", "network"}
    models = {m for m in MODULES if not m.startswith("_") and not m.endswith("_reference")} - helpers
    assert models <= named, models - named
