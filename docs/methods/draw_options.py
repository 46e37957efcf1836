"""Draw the figures of the option, margin and hedging pages from the library: python docs/methods/draw_options.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aggregator.quant import black, implied_vol, ssvi, svi
from aggregator.quant.dealer_gamma import gamma_feedback
from aggregator.quant.hedging_simulation import simulate
from aggregator.quant.inverse import inverse_greeks
from aggregator.quant.margin import Market, margin_book
from aggregator.quant.margin_derive import DerivePortfolio, DeriveStandard
from aggregator.quant.perp_funding import funding_rate
from aggregator.quant.perpetual_options import everlasting
from aggregator.quant.perps import joint_liquidation_move
from aggregator.quant.risk_surface import book, risk_surface
from aggregator.quant.waterfall import Layer, waterfall

OUT = Path(__file__).parent / "figures"
COLOURS = ("#0b6e99", "#d1495b", "#66a182", "#edae49", "#6c567b")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 70, 20, 46, 50
Series = dict[str, tuple[np.ndarray, np.ndarray]]


def _ticks(low: float, high: float) -> np.ndarray:
    raw = (high - low) / 5
    unit = 10.0 ** np.floor(np.log10(raw))
    step = unit * min((m for m in (1, 2, 5, 10) if m * unit >= raw), default=10)
    return np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step + 0.0


def line_figure(name: str, title: str, x_label: str, y_label: str, series: Series) -> None:
    """Write one SVG line chart; NaN breaks a line."""
    xs = np.concatenate([x for x, _ in series.values()])
    ys = np.concatenate([y[np.isfinite(y)] for _, y in series.values()])
    (x0, x1), (y0, y1) = (xs.min(), xs.max()), (ys.min(), ys.max())
    pad = 0.05 * (y1 - y0) or 1.0
    y0, y1 = y0 - pad, y1 + pad

    def px(x: np.ndarray | float) -> np.ndarray:
        return LEFT + (np.asarray(x) - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)

    def py(y: np.ndarray | float) -> np.ndarray:
        return HEIGHT - BOTTOM - (np.asarray(y) - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{title}</text>',
    ]
    for tick in _ticks(float(x0), float(x1)):
        parts.append(f'<line x1="{px(tick):.1f}" x2="{px(tick):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        parts.append(f'<text x="{px(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    for tick in _ticks(float(y0), float(y1)):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(tick):.1f}" y2="{py(tick):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{py(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts.append(f'<text x="{(WIDTH + LEFT) / 2:.0f}" y="{HEIGHT - 12}" text-anchor="middle">{x_label}</text>')
    middle = f"{HEIGHT / 2:.0f}"
    parts.append(f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">{y_label}</text>')
    legend = LEFT
    for i, (label, (x, y)) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        good = np.isfinite(y)
        for piece in np.split(np.arange(x.size), np.flatnonzero(~good)):
            piece = piece[good[piece]]
            if piece.size:
                points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(px(x[piece]), py(y[piece]), strict=True))
                parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{legend}" y="{TOP - 4}" fill="{colour}">{label}</text>')
        legend += 7 * len(label) + 20
    OUT.mkdir(exist_ok=True)
    (OUT / f"{name}.svg").write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")


def options() -> None:
    S = np.linspace(1500.0, 4500.0, 121)
    line_figure(
        "black_gamma", "Gamma of a 3,000 call at 70 % volatility", "spot, USD", "gamma per USD",
        {f"{days} days": (S, black.greeks("c", S, 3000.0, days / 365, 0.7).gamma) for days in (3, 14, 60)},
    )  # fmt: skip
    coin = inverse_greeks("c", S, 3000.0, 30 / 365, 0.7)
    line_figure(
        "inverse_delta", "A coin-settled 3,000 call, 30 days: delta and net delta", "forward, USD", "coin",
        {"delta": (S, coin.black_delta), "net delta": (S, coin.net_delta), "premium": (S, coin.price)},
    )  # fmt: skip
    line_figure(
        "everlasting", "Everlasting 3,000 call, 70 % volatility, by funding period", "spot, USD", "mark, USD",
        {f"{days} days": (S, everlasting("c", S, 3000.0, 0.7, days / 365).price) for days in (1, 7, 30)},
    )  # fmt: skip
    tenth = np.linspace(-8.0, 1.0, 91)
    line_figure(
        "implied_vol", "Implied volatility of tiny time values, 3,000 underlying, 30 days", "log10 of time value, USD",
        "volatility",
        {f"strike {K:,}": (tenth, implied_vol.implied_vol("c", 10.0**tenth, 3000.0, float(K), 30 / 365).sigma)
         for K in (3300, 4500, 6000)},
    )  # fmt: skip


def surfaces() -> None:
    k = np.linspace(-1.5, 1.5, 121)
    vogt = svi.Svi(-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)
    fitted = svi.fit(k, vol=np.sqrt(svi.total_variance(vogt, k)), T_yr=1.0).params
    line_figure(
        "svi_butterfly", "g(k) of the Vogt smile and of our nearest smile free of arbitrage", "log-moneyness k", "g(k)",
        {"Vogt": (k, svi.butterfly(vogt, k)), "repaired": (k, svi.butterfly(fitted, k))},
    )  # fmt: skip
    surface = ssvi.SsviSurface(np.array([7, 30, 90, 365]) / 365, np.array([0.012, 0.045, 0.12, 0.42]), -0.25, 1.2, 0.4)
    line_figure(
        "ssvi", "An SSVI surface", "log-moneyness k", "volatility",
        {f"{round(T * 365)} days": (k, surface.vol(k, T)) for T in surface.T_yr},
    )  # fmt: skip
    legs = book(["c", "p"], 3000.0, [3300.0, 2700.0], 30 / 365, 0.7, amount=[-10.0, -10.0])
    moves = np.linspace(-0.4, 0.4, 81)
    lines = {
        f"vol {shift:+.0%}": (100 * moves, risk_surface(legs, moves, shift).pnl[:, 0, 0]) for shift in (-0.25, 0.0, 0.5)
    }
    line_figure("risk_surface", "A short strangle: profit by spot and volatility", "spot move, %", "profit, USD", lines)


def margins() -> None:
    K = np.linspace(1200.0, 3200.0, 81)
    n = K.size
    shorts = margin_book(
        n, account=np.arange(n), kind="p", K=K, seconds=30 * 86_400, forward_variable=2000.0, amount=-1.0, sigma=0.7
    )
    line_figure(
        "option_margin", "Initial margin of one short 30-day put, spot 2,000", "strike, USD", "requirement, USD",
        {"Derive standard": (K, DeriveStandard().margin(shorts, Market(2000.0)).initial),
         "Derive PMRM": (K, DerivePortfolio().margin(shorts, Market(2000.0)).initial)},
    )  # fmt: skip
    angle = np.linspace(0.0, 2 * np.pi, 181)
    move = np.array([
        joint_liquidation_move([0, 0], [0, 1], [2.0, -30.0], [60_000.0, 3_000.0], [0.0125, 0.02], [20_000.0], d)[0]
        for d in np.column_stack([np.cos(angle), np.sin(angle)])
    ])  # fmt: skip
    line_figure(
        "perp_liquidation", "2 BTC long against 30 ETH short: joint move that liquidates",
        "direction, degrees (0 = BTC up, 90 = ETH up)", "size of the move",
        {"size": (np.degrees(angle), np.where(move < 1.5, move, np.nan))},
    )  # fmt: skip
    premium = np.linspace(-0.002, 0.002, 201)
    terms = {"interest_frac": 1e-4, "cap_frac": np.inf, "premium_hours": 8, "interval_hours": 8}
    line_figure(
        "perp_funding",
        "Funding of eight hours by premium",
        "premium, %",
        "rate, %",
        {
            "damped by 0.05 %": (100 * premium, 100 * funding_rate(premium, damp_frac=5e-4, **terms)),
            "undamped": (100 * premium, 100 * funding_rate(premium, damp_frac=None, **terms)),
        },
    )
    loss = np.linspace(0.0, 1.6e6, 161)
    layers = (Layer("reserve", 2e5), Layer("fund", 3e5), Layer("stake", 5e5, 0.6))
    paid = waterfall(loss, layers, 1e7)
    line_figure(
        "waterfall", "Who pays a loss", "loss, USD", "paid, USD",
        {**{layer.name: (loss, paid.paid[:, i]) for i, layer in enumerate(layers)},
         "suppliers": (loss, paid.socialised)},
    )  # fmt: skip


def hedges() -> None:
    aversion = np.geomspace(1e-3, 1.0, 10)
    series: Series = {}
    for rule in ("whalley_wilmott", "zakamouline"):
        runs = [
            simulate(rule, kind="c", S=100.0, K=100.0, T_yr=0.25, sigma=0.5, cost_frac=0.002, steps=250, paths=2000,
                     seed=1, risk_aversion=float(a)) for a in aversion
        ]  # fmt: skip
        series[rule] = (np.array([run.deviation for run in runs]), np.array([run.cost for run in runs]))
    intervals = [
        simulate(
            "delta", kind="c", S=100.0, K=100.0, T_yr=0.25, sigma=0.5, cost_frac=0.002, steps=n, paths=2000, seed=1
        )
        for n in (4, 8, 15, 30, 60, 120, 250)
    ]
    series["delta, fixed dates"] = (np.array([r.deviation for r in intervals]), np.array([r.cost for r in intervals]))
    line_figure(
        "hedging", "Hedging a short call: cost against risk", "standard deviation of wealth", "mean cost", series
    )
    g = np.linspace(-1.5, 2.0, 351)
    found = gamma_feedback(-0.05, g / (2e-9 * 2000.0**2), 2000.0, 2e-9)
    shown = np.where(np.abs(found.return_frac) < 0.6, 100 * found.return_frac, np.nan)
    line_figure(
        "dealer_gamma",
        "Response to a 5 % fall; none is drawn where g is -1 or less",
        "g",
        "return, %",
        {"response": (g, shown)},
    )


if __name__ == "__main__":
    options()
    surfaces()
    margins()
    hedges()
