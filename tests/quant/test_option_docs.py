"""The published answers on the option, margin and hedging pages are what the library gives, and figures exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

METHODS = Path(__file__).parents[2] / "docs" / "methods"
PAGES = (
    "black_scholes",
    "inverse_options",
    "perpetual_options",
    "implied_volatility",
    "volatility_surface",
    "book_risk_surface",
    "option_margin",
    "perp_liquidation",
    "loss_waterfall",
    "hedging_costs",
    "dealer_gamma",
)


@pytest.mark.parametrize("page", PAGES)
def test_page_holds(page: str) -> None:
    text = (METHODS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        assert "assert" in block
        exec(compile(block, f"{page}.md", "exec"), {})
    figures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert figures
    assert all((METHODS / figure).is_file() for figure in figures)
    for heading in ("What it answers", "When not to trust it", "Published answer"):
        assert heading in text
