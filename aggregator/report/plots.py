"""The figures of a report, built once here for page, dashboard and notebook. Colours hold 3:1 on white and on the dark
page; order, dash, symbol and label say the same as colour does. An asset has one colour, which follows from its id: it
is the same in every figure of every report. No title inside a plot: the caption is the finding. Axes of shares and
prices never zoom into rounding noise, axes of amounts begin at zero."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from hashlib import sha256
from textwrap import wrap
from typing import NamedTuple
from unicodedata import east_asian_width

import plotly.graph_objects as go

from aggregator.core.ids import source_of
from aggregator.core.result import NodeLoss, RoundRecord, WalletOutcome
from aggregator.report.names import clean, short

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#C58800", "#4B9DCB")
ASSET_COLOURS = (*PALETTE, "#7A5CD1", "#D81B60", "#9A6324", "#6B8E23")
OTHER = "#767676"
DARK_ORANGE = "#B34700"  # 4.5:1 under white text
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x")
FONT = {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 13, "color": "#1b1f24"}
LEAST_SPAN_PCT = 2.0  # of a price axis
MOST_HEALTH = 3.0  # beyond it nobody is fragile
LEAST_LABELLED = 0.04  # of the highest bar
# from the first to pay to the last
LAYERS = ("reserves", "insurance fund", "socialised to winners", "suppliers", "suppliers unknown", "uncovered")
LABEL_LINE = 15  # small letters: a longer name goes on in a second line, so that it leaves room for the plot


class PricePath(NamedTuple):
    """Share of an asset's price at the cut at each step, None where it is not known."""

    asset: str
    name: str
    shares: Sequence[float | None]


def colour_of(asset: str) -> str:
    """The asset's own colour. The digest of an imported book is no part of it: its next version has the same."""
    source = source_of(asset)
    name = asset.removeprefix(f"{source}/") if source.startswith("book:") else asset
    # These bytes of the digest part most of the assets that are drawn most (WETH, wstETH, WBTC, USDC, USDT, DAI).
    return ASSET_COLOURS[int.from_bytes(sha256(name.encode()).digest()[1:5]) % len(ASSET_COLOURS)]


def layout(figure: go.Figure, x: str, y: str, height: int = 360) -> go.Figure:
    """The house style; x and y name the axes with their units."""
    figure.update_layout(
        template="plotly_white",
        font=FONT,
        height=height,
        margin={"l": 10, "r": 16, "t": 30, "b": 48},
        colorway=PALETTE,
        hoverlabel={"font": {"family": FONT["family"], "size": FONT["size"]}},  # black or white, as the mark asks for
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        bargap=0.35,
        hovermode="closest",
    )
    figure.update_xaxes(automargin=True, zeroline=False)
    figure.update_yaxes(automargin=True, zeroline=False)
    figure.update_layout(xaxis={"title": x}, yaxis={"title": y})
    return figure


def label(text: str, line: int = LABEL_LINE) -> str:
    """A name in lines as wide as `line` small letters. Names come from anybody: no tag of theirs reaches a plot."""
    shown = clean(text).replace(" · ", " ·\u00a0")  # a chain begins a line with its dot
    lines = wrap(shown, max(1, int(line * len(shown) / max(1.0, sum(map(_width, shown))))))
    return "<br>".join(html.escape(part) for part in lines) or " "


def _width(character: str) -> float:
    """About how many small letters wide."""
    if character in "MWmw@%" or east_asian_width(character) in "WF":
        return 1.8
    return 1.2 if character.isupper() else 1.0


def _rows(figure: go.Figure, labels: Sequence[str], fixed: int) -> go.Figure:
    """One row for each label from the bottom up, of names that may be equal; `fixed` pixels are not of rows."""
    most_lines = max(text.count("<br>") for text in labels)
    figure.update_layout(
        height=fixed + (24 + 14 * most_lines) * len(labels),
        yaxis={"tickvals": list(range(len(labels))), "ticktext": list(labels), "range": [-0.7, len(labels) - 0.3]},
    )
    return figure


def compact(usd: float) -> str:
    """Three digits of an amount for a label that has no room: 1.42M, 799k, 12.5. The sign is the bar's direction."""
    size = abs(usd)
    for least, unit in ((999.5e9, "T"), (999.5e6, "B"), (999.5e3, "M"), (999.5, "k")):
        if size >= least:
            return f"{size / (least / 0.9995):#.3g}".rstrip(".") + unit
    return f"{size:.3g}"


def rounds_bars(rounds: Sequence[RoundRecord]) -> go.Figure | None:
    """Above: collateral seized in each round; below, on its own scale: debt that stands uncovered at its end, by
    whether it is booked. USD."""
    if not rounds:
        return None
    figure = go.Figure()
    seized, open_ = ([getattr(r, k) for r in rounds] for k in ("liquidated_usd", "unrealised_shortfall_usd"))
    booked = [r.credit_loss_usd - r.unrealised_shortfall_usd for r in rounds]
    for axis, values, name in (
        ("y", seized, "collateral seized"),
        ("y2", booked, "bad debt so far"),
        ("y2", open_, "debt not booked"),
    ):
        figure.add_bar(
            x=[r.number for r in rounds],
            y=values,
            name=name,
            yaxis=axis,
            hovertemplate=f"round %{{x}}: USD %{{y:,.0f}} {name}<extra></extra>",
        )
    layout(figure, "round", "seized, USD", 420)
    figure.update_layout(
        barmode="stack",
        legend={"traceorder": "normal"},
        xaxis={"dtick": max(1, len(rounds) // 12), "anchor": "y2"},
        yaxis={"domain": [0.56, 1.0], "rangemode": "tozero"},
        yaxis2={"domain": [0.0, 0.44], "rangemode": "tozero", "title": "uncovered, USD", "automargin": True},
    )
    return figure


def price_paths(paths: Sequence[PricePath], steps: Sequence[str]) -> go.Figure | None:
    """Lines in the order given; the legend says which is which by colour, dash and symbol."""
    if not paths:
        return None
    figure = go.Figure()
    for i, path in enumerate(paths):
        figure.add_scatter(
            x=list(steps),
            y=[None if s is None else 100 * s for s in path.shares],
            name=label(path.name, 30),
            mode="lines+markers",
            connectgaps=True,
            marker={"symbol": SYMBOLS[i % 6], "size": 7, "color": colour_of(path.asset)},
            line={"dash": DASHES[i % 6], "color": colour_of(path.asset)},
            hovertemplate="%{x}: %{y:.2f} % of the price at the cut<extra>%{fullData.name}</extra>",
        )
    known = [100 * s for path in paths for s in path.shares if s is not None]
    low, high = min(known), max(known)
    spare = max(0.05 * (high - low), (LEAST_SPAN_PCT - (high - low)) / 2)
    lines = sum(1 + trace.name.count("<br>") for trace in figure.data)  # of the legend, one name a row, as on a phone
    layout(figure, "after round", "price, % of the price at the cut", 270 + 19 * lines)
    figure.update_layout(
        xaxis={"type": "category"}, yaxis={"range": [max(0.0, low - spare), high + spare], "ticksuffix": " %"}
    )
    return figure


def credit_waterfall(first_usd: float, all_usd: float, unrealised_usd: float, losses: Sequence[NodeLoss]) -> go.Figure:
    """How the loss grows from the first round to the fixed point, and which layer takes how much of it. USD."""
    layers = {layer: sum(x.loss_usd for x in losses if x.layer == layer) for layer in LAYERS}
    paid = {layer: value for layer, value in layers.items() if value > 0.0}
    other = max(sum(paid.values()) + unrealised_usd - all_usd, 0.0)  # perps' shortfalls are no lender's bad debt
    steps = [("after round 1", "absolute", first_usd), ("later rounds", "relative", all_usd - first_usd)]
    steps += [("perps", "relative", other)] if other > 0.005 else []
    steps += [("in all", "total", 0.0)]
    steps += [(f"paid by {layer}" if layer != "uncovered" else layer, "relative", -usd) for layer, usd in paid.items()]
    steps += [("not yet booked", "relative", -unrealised_usd)] if unrealised_usd > 0.005 else []
    figure = go.Figure(
        go.Waterfall(
            x=[name for name, _, _ in steps],
            measure=[kind for _, kind, _ in steps],
            y=[usd for _, _, usd in steps],
            text=[_bar_label(all_usd + other if kind == "total" else usd, all_usd + other) for _, kind, usd in steps],
            customdata=[all_usd + other if kind == "total" else abs(usd) for _, kind, usd in steps],
            constraintext="none",
            textposition=["inside" if usd < 0 else "outside" for _, _, usd in steps],
            insidetextfont={"color": "#fff"},
            insidetextanchor="middle",
            cliponaxis=False,
            connector={"line": {"color": OTHER, "width": 1}},
            increasing={"marker": {"color": PALETTE[1]}},
            decreasing={"marker": {"color": PALETTE[0]}},
            totals={"marker": {"color": OTHER}},
            hovertemplate="%{x}: USD %{customdata:,.0f}<extra></extra>",
        )
    )
    layout(figure, "", "USD", 380)
    figure.update_layout(yaxis={"rangemode": "tozero"}, showlegend=False)
    return figure


def _bar_label(usd: float, highest_usd: float) -> str:
    """None on a bar too thin to carry it: it would lie on its neighbours'. The tables have the figure."""
    return compact(usd) if abs(usd) >= LEAST_LABELLED * highest_usd else ""


def direct_and_contagion(parts: Mapping[str, tuple[float, float]]) -> go.Figure | None:
    """parts: kind of loss -> (USD after the first round, USD in all). Shares of each kind, so that all can be read."""
    shown = {name: (first, rest - first) for name, (first, rest) in parts.items() if first >= 0.0 and rest > first}
    if not shown:
        return None
    figure = go.Figure()
    for place, name in enumerate(("first round: the blow itself", "later rounds: contagion")):
        values = [pair[place] for pair in shown.values()]
        figure.add_bar(
            y=list(shown),
            x=[100 * v / sum(pair) for v, pair in zip(values, shown.values(), strict=True)],
            name=name,
            orientation="h",
            text=[compact(v) for v in values],
            customdata=values,
            textposition="inside",
            insidetextanchor="middle",
            constraintext="none",
            marker={"color": (PALETTE[0], DARK_ORANGE)[place]},
            insidetextfont={"color": "#fff"},
            hovertemplate="%{y}: USD %{customdata:,.0f} (%{x:.1f} %)<extra></extra>",
        )
    layout(figure, "share of the loss", "", 140 + 50 * len(shown))
    figure.update_layout(
        barmode="stack", legend={"traceorder": "normal"}, xaxis={"range": [0, 100], "ticksuffix": " %"},
        margin_r=32,  # half of the label "100 %", which is not drawn where it would not fit
    )  # fmt: skip
    return figure


def losers(nodes: Sequence[tuple[str, float]], what: str) -> go.Figure | None:
    """(name, USD), largest first, one bar each."""
    if not nodes:
        return None
    worst = list(reversed(nodes))
    names = [label(name) for name, _ in worst]
    figure = go.Figure(
        go.Bar(
            x=[value for _, value in worst],
            y=list(range(len(worst))),
            customdata=names,
            orientation="h",
            marker={"color": PALETTE[0]},
            hovertemplate="%{customdata}: USD %{x:,.0f}<extra></extra>",
        )
    )
    return _rows(layout(figure, what, ""), names, 110)


def health(wallets: Sequence[WalletOutcome], most: int = 20) -> go.Figure | None:
    """Dumbbells of health before and after; the line at 1 is where liquidation begins; closed accounts have no end."""
    shown = [w for w in wallets if w.health_before is not None and w.health_before <= MOST_HEALTH][:most]
    if not shown:
        return None
    shown.reverse()
    names = [label(short(w.holder)) for w in shown]
    ends = [None if w.health_after is None else min(w.health_after, MOST_HEALTH) for w in shown]
    figure = go.Figure()
    rails_x: list[float | None] = []
    rails_y: list[int | None] = []
    for row, (wallet, end) in enumerate(zip(shown, ends, strict=True)):
        if end is not None:
            rails_x += [wallet.health_before, end, None]
            rails_y += [row, row, None]
    figure.add_scatter(
        x=rails_x, y=rails_y, mode="lines", line={"color": OTHER, "width": 1}, showlegend=False, hoverinfo="skip"
    )
    before, after = [w.health_before for w in shown], [w.health_after for w in shown]
    for column, whole, name, symbol, colour in (
        (before, before, "before", "circle-open", PALETTE[0]),
        (ends, after, "after", "diamond", PALETTE[1]),
    ):
        figure.add_scatter(
            x=column,
            y=list(range(len(names))),
            mode="markers",
            name=name,
            cliponaxis=False,
            marker={"symbol": symbol, "size": 10, "color": colour, "line": {"width": 2, "color": colour}},
            customdata=whole,
            hovertext=names,
            hovertemplate=f"%{{hovertext}} {name}: %{{customdata:.4f}}<extra></extra>",
        )
    figure.add_vline(x=1.0, line={"color": OTHER, "dash": "dash"})
    beyond = any(h is not None and h > MOST_HEALTH for h in after)
    above = f",<br>above {MOST_HEALTH:.0f} drawn at {MOST_HEALTH:.0f}" if beyond else ""
    layout(figure, f"health factor<br>(liquidation below 1{above})", "")
    figure.update_layout(yaxis={"ticklabelstandoff": 10}, xaxis={"rangemode": "tozero"})
    return _rows(figure, names, 130)
