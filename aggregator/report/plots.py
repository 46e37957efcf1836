"""The figures of a report, built once here for page, dashboard and notebook. Colours hold 3:1 on white; order, dash
and label say the same as colour does. No title inside a plot: the caption is the finding."""

from __future__ import annotations

import html
from typing import Any

import plotly.graph_objects as go

from aggregator.core.result import NodeLoss, RoundRecord, WalletOutcome

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#C58800", "#4B9DCB")
OTHER = "#767676"
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
FONT = {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 13, "color": "#1b1f24"}


def layout(figure: go.Figure, x: str, y: str, height: int = 360) -> go.Figure:
    """The house style; x and y name the axes with their units."""
    figure.update_layout(
        template="plotly_white",
        font=FONT,
        height=height,
        margin={"l": 70, "r": 20, "t": 20, "b": 50},
        colorway=PALETTE,
        xaxis={"title": x, "automargin": True},
        yaxis={"title": y, "automargin": True},
        hoverlabel={"font": FONT},
        legend={"orientation": "h", "y": 1.08},
        bargap=0.35,
    )
    return figure


def label(text: str) -> str:
    """Names come from anybody: no tag of theirs reaches a plot."""
    return html.escape(text if len(text) <= 34 else f"{text[:20]}…{text[-10:]}")


def price_paths(rounds: list[RoundRecord], names: dict[str, str], most: int = 6) -> go.Figure | None:
    """Market price by round, as a share of the price before the cascade's first round; the assets that moved most."""
    if not rounds:
        return None
    first = rounds[0].prices_usd
    move = {a: abs(rounds[-1].prices_usd.get(a, p) / p - 1) for a, p in first.items() if p > 0}
    figure = go.Figure()
    for i, asset in enumerate(sorted(move, key=lambda a: (-move[a], a))[:most]):
        figure.add_scatter(
            x=[r.number for r in rounds],
            y=[100 * r.prices_usd[asset] / first[asset] for r in rounds],
            name=label(names.get(asset, asset)),
            mode="lines+markers",
            line={"dash": DASHES[i % 6]},
            hovertemplate="round %{x}: %{y:.3f} %<extra></extra>",
        )
    return layout(figure, "round", "price, % of the first round's")


def rounds_bars(rounds: list[RoundRecord]) -> go.Figure | None:
    """Flows of each round, USD."""
    if not rounds:
        return None
    figure = go.Figure()
    series = (
        ("liquidated_usd", "collateral seized"),
        ("repaid_usd", "debt repaid"),
        ("bad_debt_usd", "bad debt"),
        ("write_down_usd", "supplier write-down"),
    )
    for key, name in series:
        figure.add_bar(
            x=[r.number for r in rounds],
            y=[getattr(r, key) for r in rounds],
            name=name,
            hovertemplate="round %{x}: USD %{y:,.2f}<extra></extra>",
        )
    return layout(figure, "round", "USD")


def losers(losses: list[NodeLoss], names: dict[str, str], most: int = 15) -> go.Figure | None:
    """Who pays, largest first, one bar a node."""
    by_node: dict[str, float] = {}
    for loss in losses:
        by_node[loss.node] = by_node.get(loss.node, 0.0) + loss.loss_usd
    worst = [n for n in sorted(by_node, key=lambda n: (-by_node[n], n)) if by_node[n] > 0][:most]
    if not worst:
        return None
    worst.reverse()
    figure = go.Figure(
        go.Bar(
            x=[by_node[n] for n in worst],
            y=[label(names.get(n, n)) for n in worst],
            orientation="h",
            hovertemplate="%{y}: USD %{x:,.2f}<extra></extra>",
        )
    )
    return layout(figure, "loss, USD", "", 120 + 24 * len(worst))


def waterfall(losses: list[NodeLoss]) -> go.Figure | None:
    """Loss by the layer that bears it; the last bar is their sum."""
    layers: dict[str, float] = {}
    for loss in losses:
        layers[loss.layer] = layers.get(loss.layer, 0.0) + loss.loss_usd
    layers = {k: v for k, v in sorted(layers.items(), key=lambda kv: (-kv[1], kv[0])) if v != 0}
    if not layers:
        return None
    figure = go.Figure(
        go.Waterfall(
            x=[*map(label, layers), "all"],
            y=[*layers.values(), 0.0],
            measure=[*["relative"] * len(layers), "total"],
            connector={"line": {"color": OTHER}},
            increasing={"marker": {"color": PALETTE[0]}},
            decreasing={"marker": {"color": PALETTE[5]}},
            totals={"marker": {"color": OTHER}},
            hovertemplate="%{x}: USD %{y:,.2f}<extra></extra>",
        )
    )
    return layout(figure, "", "USD")


def health(wallets: list[WalletOutcome], most: int = 15) -> go.Figure | None:
    """Health factor before and after, the most fragile wallets; the line at 1 is where liquidation begins."""
    shown = [w for w in wallets if w.health_before is not None][:most]
    if not shown:
        return None
    shown.reverse()
    y = [label(w.holder) for w in shown]
    figure = go.Figure()
    for key, name, symbol in (("health_before", "before", "circle"), ("health_after", "after", "diamond")):
        figure.add_scatter(
            x=[getattr(w, key) for w in shown],
            y=y,
            mode="markers",
            name=name,
            marker={"symbol": symbol, "size": 10},
            hovertemplate="%{y}: %{x:.4f}<extra></extra>",
        )
    figure.add_vline(x=1.0, line={"color": OTHER, "dash": "dash"})
    return layout(figure, "health factor", "", 120 + 24 * len(shown))


def plain(figure: go.Figure) -> Any:
    """JSON-ready figure."""
    return figure.to_plotly_json()
