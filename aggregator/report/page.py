"""The page of a report: one file, no network, readable with scripts off (tables stay) and in print."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
from jinja2 import Environment, select_autoescape
from plotly.offline import get_plotlyjs

STYLE = """
:root{--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--wash:#f6f8fa;--mark:#0072B2}
*{box-sizing:border-box}body{margin:0;color:var(--ink);background:#fff;font:16px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif}
main{max-width:1080px;margin:0 auto;padding:24px 20px 64px}h1{font-size:28px;line-height:1.25;margin:8px 0}
h2{font-size:20px;margin:40px 0 8px;padding-top:12px;border-top:1px solid var(--line)}
.lead{font-size:18px;max-width:70ch}.soft,figcaption,caption{color:var(--soft)}figure{margin:16px 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:12px;margin:20px 0;padding:0;list-style:none}
.tiles li{border:1px solid var(--line);border-radius:6px;padding:12px}.tiles b{display:block;font-size:22px;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:6px 0}th,td{text-align:left;padding:5px 10px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft)}td.n,th.n{text-align:right;white-space:nowrap}code,pre{font:13px/1.45 ui-monospace,Menlo,Consolas,monospace}
pre{background:var(--wash);padding:12px;overflow-x:auto;border-radius:6px}td code{overflow-wrap:anywhere}
@media print{main{max-width:none;padding:0}h2{break-after:avoid}figure,table{break-inside:avoid}}
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{{ title }}</title><style>{{ style }}</style></head><body><main>
<p class="soft">Spillover contagion stress report</p><h1>{{ title }}</h1>
{% for line in answer %}<p class="lead">{{ line }}</p>{% endfor %}
<ul class="tiles">{% for t in tiles %}<li><b>{{ t.value }}</b>{{ t.label }}<br><span class="soft">{{ t.note }}</span></li>{% endfor %}</ul>
{% for s in sections %}<section><h2>{{ s.title }}</h2>{% for p in s.text %}<p>{{ p }}</p>{% endfor %}
{% if s.pre %}<pre>{{ s.pre }}</pre>{% endif %}
{% for f in s.figures %}<figure><div id="{{ f.id }}" role="img" aria-label="{{ f.caption }}"></div>
<figcaption>{{ f.caption }}</figcaption></figure>{% endfor %}
{% for t in s.tables %}<div class="scroll" tabindex="0"><table><caption>{{ t.caption }}</caption><thead><tr>
{% for c in t.columns %}<th scope="col"{% if c in t.right %} class="n"{% endif %}>{{ c }}</th>{% endfor %}</tr></thead><tbody>
{% for r in t.rows %}<tr>{% for v in r %}<td{% if t.columns[loop.index0] in t.right %} class="n"{% endif %}>{{ v }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>{% endfor %}</section>{% endfor %}
</main>
<script type="application/json" id="figures">{{ figures }}</script>
<script type="text/plain" id="plotly">{{ library }}</script>
<script>
(async()=>{const bytes=Uint8Array.from(atob(document.getElementById("plotly").textContent),c=>c.charCodeAt(0));
const text=await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
const s=document.createElement("script");s.textContent=text;document.head.append(s);
const figures=JSON.parse(document.getElementById("figures").textContent);
for(const [id,f] of Object.entries(figures))Plotly.newPlot(id,f.data,f.layout,{responsive:true,displaylogo:false});
document.documentElement.dataset.drawn="yes"})();
</script></body></html>
"""


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
        self, caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
    ) -> Section:
        self["tables"].append({"caption": caption, "columns": list(columns), "rows": rows, "right": list(right)})
        return self


def render(title: str, answer: Sequence[str], tiles: Sequence[dict[str, str]], sections: Sequence[Section]) -> str:
    """Everything that is text is escaped; figures travel as JSON without a '<'."""
    figures = {f["id"]: json.loads(pio.to_json(f["figure"])) for s in sections for f in s["figures"]}
    data = json.dumps(figures, sort_keys=True).replace("<", "\\u003c")
    environment = Environment(autoescape=select_autoescape(default=True, default_for_string=True), trim_blocks=True)
    safe = environment.filters["safe"]
    return environment.from_string(PAGE).render(
        title=title,
        answer=answer,
        tiles=tiles,
        sections=sections,
        style=safe(STYLE),
        figures=safe(data),
        library=safe(_library()),
    )


@lru_cache(maxsize=1)
def _library() -> str:
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()
