"""The published answers on the market, network and tail pages are what the library gives, and figures exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

METHODS = Path(__file__).parents[2] / "docs" / "methods"
PAGES = (
    "uniswap_v3", "merged_depth", "stableswap", "curve_crypto", "balancer_weighted", "price_impact", "clearing",
    "furfine", "debtrank", "neva", "fire_sales", "deleveraging", "reconstruction", "network_measures", "tail_risk",
    "risk_backtests", "systemic_risk", "volatility_models", "forecast_scores", "compound_loss",
)  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_page_holds(page: str) -> None:
    text = (METHODS / f"{page}.md").read_text(encoding="utf-8")
    for heading in ("What it answers", "When not to trust it", "Published answer", "Checked by"):
        assert heading in text
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        assert "assert" in block
        exec(compile(block, f"{page}.md", "exec"), {})
    figures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert figures
    assert all((METHODS / figure).is_file() for figure in figures)
