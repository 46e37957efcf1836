"""Draw the figures of the market, network and tail pages from the library: python docs/methods/draw_markets.py."""

from __future__ import annotations

import numpy as np
from draw_options import line_figure

from aggregator.quant import compound_loss, neva
from aggregator.quant.backtests import kupiec
from aggregator.quant.balancer import weighted_sale
from aggregator.quant.clearing import clear, system
from aggregator.quant.crypto_curve import crypto_sale
from aggregator.quant.debtrank import nonlinear_debtrank
from aggregator.quant.deleveraging import deleverage
from aggregator.quant.depth import constant_product_depth, merge, steps_depth, uniswap_v3_depth
from aggregator.quant.fire_sales import cifuentes_ferrucci_shin
from aggregator.quant.forecast_scores import qlike, squared_error
from aggregator.quant.furfine import furfine_cascade
from aggregator.quant.impact import exponential_impact, linear_impact, square_root_impact
from aggregator.quant.network_measures import amplification_bound
from aggregator.quant.reconstruct import maximum_entropy
from aggregator.quant.stable_curve import stable_sale
from aggregator.quant.systemic_risk import lrmes, srisk
from aggregator.quant.tail_risk import historical
from aggregator.quant.uniswap_v3 import Pool
from aggregator.quant.volatility import har


def markets() -> None:
    units = 10**18
    edges = (-6000, -1200, -60, 60, 1200, 6000)
    nets = (100 * units, 900 * units, 4000 * units, -4000 * units, -900 * units, -100 * units)
    book = uniswap_v3_depth(Pool(2**96, 0, 5000 * units, 3000, 60, edges, nets), sell_token0=True).scaled(1e-18, 1e-18)
    q = np.linspace(0, 130, 400)
    line_figure(
        "uniswap_v3", "Three nested ranges", "token0 sold", "marginal price", {"after fee": (q, book.walk(q).price)}
    )
    v2, v3 = constant_product_depth(100, 100, 0.003), steps_depth([1.0, 0.97, 0.8], [900, 60])
    series = {"constant product": v2, "ranges": v3, "merged": merge([v2, v3])}
    q = np.linspace(0, 40, 300)
    line_figure(
        "merged_depth",
        "Two pools and both",
        "sold",
        "marginal price",
        {k: (q, b.walk(q).price) for k, b in series.items()},
    )
    q = np.linspace(0, 2, 300)
    line_figure(
        "stableswap", "Price after a sale, two coins of 1", "sold", "price",
        {f"A = {a}": (q, stable_sale(q, [1.0, 1.0], float(a), 0, 1).price) for a in (10, 100, 2000)},
    )  # fmt: skip
    line_figure(
        "curve_crypto", "Price after a sale, balanced pool of 1", "sold", "price",
        {"crypto": (q, crypto_sale(q, 1.0, 1.0, 1.0, 540.0, 2e-5).price), "constant product": (q, 1 / (1 + q) ** 2)},
    )  # fmt: skip
    line_figure(
        "balancer_weighted", "Proceeds by weight of the asset sold", "sold / reserve", "paid / reserve",
        {f"{w}/{100 - w}": (q, weighted_sale(q, 1.0, 1.0, w / (100 - w)).out) for w in (20, 50, 80)},
    )  # fmt: skip
    q = np.linspace(0, 2, 200)
    line_figure(
        "price_impact", "Share of the price lost", "sold / depth", "impact",
        {"linear": (q, linear_impact(q, 1.0)), "exponential": (q, exponential_impact(q, 1.0)),
         "floor 1/2": (q, exponential_impact(q, 1.0, 0.5)), "square root": (q, square_root_impact(q, 1.0, 0.4))},
    )  # fmt: skip


def networks() -> None:
    debts, cash, outside = [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], np.array([1.7, 0.7, 0.7]), [1.5, 0.5, 0.5]
    cut = np.linspace(0, 1, 200)

    def paid(alpha: float, beta: float) -> np.ndarray:
        runs = [clear(system(debts, cash * (1 - x), outside), alpha, beta) for x in cut]
        return np.array([r.paid.sum() / r.owed.sum() for r in runs])

    line_figure(
        "clearing", "Share of all debts paid", "share of cash lost", "paid",
        {"no costs": (cut, paid(1, 1)), "alpha 0.8, beta 0.9": (cut, paid(0.8, 0.9))},
    )  # fmt: skip
    rng = np.random.default_rng(7)
    n = 40
    claims = rng.pareto(1.5, (n, n)) * (rng.random((n, n)) < 0.1)
    np.fill_diagonal(claims, 0)
    equity = 0.6 * claims.sum(axis=1) + 0.3
    shock = np.where(np.arange(n) == int(claims.sum(axis=0).argmax()), equity, 0.0)
    recovery = np.linspace(0, 1, 101)
    failed = np.array([furfine_cascade(claims, equity, shock, r).failed.sum() for r in recovery], float)
    line_figure(
        "furfine",
        "Failures after the largest debtor, 40 nodes",
        "recovery",
        "failures",
        {"failures": (recovery, failed)},
    )
    leverage, size = claims / equity[:, None], np.linspace(0, 1, 81)
    models = {"linear": 0.0, "alpha 2": 2.0, "threshold": np.inf}
    line_figure(
        "debtrank", "Mean stress, one node shocked", "shock", "mean stress",
        {k: (size, np.array([nonlinear_debtrank(leverage, shock / equity * x, a).stress.mean() for x in size]))
         for k, a in models.items()},
    )  # fmt: skip
    e = np.linspace(-1, 4, 300)
    line_figure(
        "neva", "Value of one unit of claim, debts 8, assets 8 + equity", "equity of the debtor", "value",
        {"Eisenberg-Noe": (e, neva.recovery_of(8.0)(e)), "linear, book 4": (e, neva.linear(4.0)(e)),
         "Merton, 20 %": (e, neva.merton(8.0 + e, 0.2)(e)), "Black-Cox, 20 %": (e, neva.black_cox(8.0 + e, 0.2)(e))},
    )  # fmt: skip
    alpha = np.linspace(1e-4, 0.012, 300)
    price = np.array([cifuentes_ferrucci_shin([2, 1, 3], [10, 12, 8], [10, 11.5, 10.4], 0.08, a).price for a in alpha])
    line_figure("fire_sales", "Greatest price, three banks", "impact per unit", "price", {"price": (alpha, price)})
    pi, theta = rng.random((8, 3)) * 40, rng.random(8) * 60
    capital = (pi.sum(axis=1) + theta) / 28
    losses = {}
    for depth in (3000.0, 1500.0):
        found = deleverage(pi, theta, capital, np.full(3, depth), capital * 0.25, 33.0, 31.35)
        total = np.cumsum(np.r_[0.0, found.loss_by_round.sum(axis=1)])
        losses[f"depth {depth:g}"] = (np.arange(len(total), dtype=float), total)
    line_figure("deleveraging", "Fire-sale losses", "round", "cumulated loss", losses)
    rounds = np.arange(1, 25)
    lent, borrowed = [7, 5, 3, 1, 3, 0, 1], [4, 5, 5, 0, 0, 2, 4]
    error = np.array([np.log10(maximum_entropy(lent, borrowed, max_rounds=int(r)).residual) for r in rounds])
    line_figure(
        "reconstruction",
        "Error of the totals",
        "rounds",
        "log10 of the error",
        {"seven banks": (rounds.astype(float), error)},
    )
    beta = np.linspace(0, 0.9, 100)
    line_figure(
        "network_measures", "What a network can add to expected losses", "largest inside share of debts", "bound",
        {f"{p:.0%} default": (beta, np.array([amplification_bound([p], [1.0], [b]) for b in beta]))
         for p in (0.01, 0.05)},
    )  # fmt: skip


def tails() -> None:
    rng = np.random.default_rng(3)
    sizes = np.array([1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000])
    runs = [historical(rng.standard_t(4, n), 0.99) for n in sizes]
    line_figure(
        "tail_risk", "Student t, 4 degrees, 99 %", "log10 of outcomes", "standard error",
        {"VaR": (np.log10(sizes), np.array([r.var_error for r in runs])),
         "ES": (np.log10(sizes), np.array([r.es_error for r in runs]))},
    )  # fmt: skip
    count = np.arange(0, 13)
    line_figure(
        "risk_backtests", "Kupiec, 250 days at 99 %", "violations", "p-value",
        {"p-value": (count.astype(float), np.array([kupiec(int(k), 250, 0.99).p_value for k in count]))},
    )  # fmt: skip
    beta = np.linspace(0, 2.5, 100)
    line_figure(
        "systemic_risk", "SRISK, equity 100", "beta", "capital missing",
        {f"debt {d}": (beta, srisk(d, 100.0, lrmes(beta))) for d in (500, 900, 1300)},
    )  # fmt: skip
    level = np.empty(900)
    level[0] = 1.0
    for t in range(1, 900):
        level[t] = 0.03 + 0.97 * level[t - 1] + 0.05 * level[t - 1] * rng.standard_normal()
    rv = level * rng.chisquare(20, 900) / 20
    days = np.arange(700, 900)
    line_figure(
        "volatility_models", "HAR, one day ahead", "day", "variance",
        {"realised": (days.astype(float), rv[days]),
         "forecast": (days.astype(float), np.array([har(rv[:t]).forecast for t in days]))},
    )  # fmt: skip
    h = np.linspace(0.3, 3, 200)
    line_figure(
        "forecast_scores", "Loss when the truth is 1", "forecast", "loss",
        {"QLIKE": (h, qlike(1.0, h)), "squared error": (h, squared_error(1.0, h))},
    )  # fmt: skip
    law = compound_loss.panjer_poisson(2.5, [0, 0.4, 0.3, 0.2, 0, 0, 0, 0, 0, 0, 0.1], 60)
    s = np.arange(40)
    line_figure("compound_loss", "Total loss", "units", "probability", {"pmf": (s.astype(float), law.pmf[:40])})


if __name__ == "__main__":
    markets()
    networks()
    tails()
