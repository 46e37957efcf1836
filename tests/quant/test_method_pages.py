"""The published answers on the method pages are what the library gives, figures exist, and the index names them all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

METHODS = Path(__file__).parents[2] / "docs" / "methods"
PAGES = sorted(path.stem for path in METHODS.glob("*.md") if path.stem != "README")
MODULES = sorted(p.stem for p in (METHODS.parents[1] / "aggregator" / "quant").glob("*.py"))


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


def test_index_names_every_page_and_every_model_has_one() -> None:
    index = (METHODS / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\((\w+)\.md\)", index)) == PAGES
    named = set(re.findall(r"`(\w+)`", index))
    helpers = {"__init__", "jit", "normal", "network"}
    models = {m for m in MODULES if not m.startswith("_") and not m.endswith("_reference")} - helpers
    assert models <= named, models - named
