"""The page of a report: one file, no network, readable with scripts off (tables stay) and in print."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
from jinja2 import Environment, select_autoescape
from plotly.offline import get_plotlyjs

from aggregator.report.names import Cell


class Section(dict[str, Any]):
    """title, text (paragraphs), pre, figures [(id, caption, figure)], tables."""

    def __init__(self, title: str, *text: str, pre: str = "") -> None:
        super().__init__(title=title, text=list(text), pre=pre, figures=[], tables=[])

    def figure(self, name: str, caption: str, figure: go.Figure | None) -> Section:
        """A figure that is None has nothing to show and is left out."""
        if figure is not None:
            self["figures"].append({"id": name, "caption": caption, "figure": figure})
        return self

    def table(
        self, caption: str, columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()
    ) -> Section:
        """rows: texts or Cells. right: columns of numbers. A table without rows is left out."""
        if rows:
            cells = [[c if isinstance(c, Cell) else Cell(str(c)) for c in row] for row in rows]
            found = {"caption": caption, "columns": list(columns), "cells": cells, "right": list(right)}
            self["tables"].append(found)
        return self


def render(
    name: str, title: str, answer: Sequence[str], tiles: Sequence[dict[str, str]], sections: Sequence[Section]
) -> str:
    """Everything that is text is escaped; figures travel as JSON without a '<'. The same input gives the same bytes."""
    figures = {f["id"]: json.loads(pio.to_json(f["figure"])) for s in sections for f in s["figures"]}
    data = json.dumps(figures, sort_keys=True).replace("<", "\\u003c")
    environment = Environment(autoescape=select_autoescape(default=True, default_for_string=True), trim_blocks=True)
    safe = environment.filters["safe"]
    here = files("aggregator.report")
    return environment.from_string((here / "page.html").read_text(encoding="utf-8")).render(
        name=name,
        title=title,
        answer=answer,
        tiles=tiles,
        sections=sections,
        style=safe((here / "page.css").read_text(encoding="utf-8")),
        figures=safe(data),
        library=safe(_library()),
    )


@lru_cache(maxsize=1)
def _library() -> str:
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()
