"""Clearing and DebtRank against plain iteration at the same tolerance, answers compared first."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from aggregator.quant.clearing import System, clear, clear_by_picard, system
from aggregator.quant.debtrank import debtrank_by_iteration, leverage_matrix, linear_debtrank
from aggregator.quant.network import edges_to_matrix
from benchmarks._debtrank_125 import EDGES, NODES
from benchmarks._pairs import pair_seconds, require_close, row


def random_market(nodes: int, edges: int, leak: float, seed: int = 1) -> System:
    """Log-normal debts between random pairs; `leak` is the share of outside debts, cash a little less than that."""
    rng = np.random.default_rng(seed)
    i, j = rng.integers(0, nodes, edges), rng.integers(0, nodes, edges)
    apart = i != j
    debts = edges_to_matrix(i[apart], j[apart], rng.lognormal(0, 1, int(apart.sum())), nodes)
    total = debts.sum(axis=1)
    return system(debts, 0.9 * leak * total * rng.uniform(0.4, 1.4, nodes), leak * total)


def clearing_rows(quick: bool) -> list[dict[str, Any]]:
    rows = []
    sizes = [(10_000, 200_000)] if quick else [(10_000, 200_000), (10_000, 1_000_000)]
    for nodes, edges in sizes:
        for speed, leak, bar in (("fast", 0.3, 1.0), ("slow", 0.0015, 10.0)):
            net = random_market(nodes, edges, leak)
            for label, alpha, beta in (
                ("eisenberg_noe", 1.0, 1.0),
                ("rogers_veraart", 0.9, 0.95 if speed == "fast" else 1.0),
            ):
                ours, plain = clear(net, alpha, beta), clear_by_picard(net, alpha, beta)
                name = f"{label}.{edges}.{speed}"
                error = float(np.max(np.abs(ours.paid - plain.value) / np.maximum(net.owed, 1e-12)))
                require_close(name, error, 1e-9)
                if not (ours.converged and plain.converged):
                    raise AssertionError(f"{name}: not converged")
                first, second = pair_seconds(
                    lambda n=net, a=alpha, b=beta: clear(n, a, b),
                    lambda n=net, a=alpha, b=beta: clear_by_picard(n, a, b),
                    7,
                )  # fmt: skip
                what = f"{nodes} nodes, {edges} edges; plain Picard in scipy CSR needs {plain.rounds} rounds"
                rows.append(row(name, what, first, second, bar))
    return rows


def debtrank_row() -> dict[str, Any]:
    """All 125 single failures at 1e-10; the reference is the dense time-step iteration, one shock after another."""
    figures = np.array(NODES.split(), float).reshape(-1, 2)
    claims = np.zeros((125, 125))
    for edge in EDGES.split():
        creditor, debtor, amount = edge.split(",")
        claims[int(creditor), int(debtor)] += float(amount)
    leverage = leverage_matrix(claims, figures[:, 0])
    dense, shocks = leverage.toarray(), np.eye(125)

    def naive() -> np.ndarray:
        found = np.empty((125, 125))
        for s, shock in enumerate(shocks):
            h, before = shock.copy(), np.zeros(125)
            while True:
                following = np.minimum(1.0, h + dense @ (np.minimum(h, 1.0) - np.minimum(before, 1.0)))
                moved = float(np.max(np.abs(following - h)))
                before, h = h, following
                if moved < 1e-10:
                    break
            found[s] = h
        return found

    tight = np.array([1.0 - debtrank_by_iteration(leverage, shock, 1e-14).value for shock in shocks])
    ours = linear_debtrank(leverage, shocks, 1e-10)
    require_close("debtrank", float(np.max(np.abs(ours.stress - tight))), 1e-8)
    first, second = pair_seconds(lambda: linear_debtrank(leverage, shocks, 1e-10), naive, 7)
    return row("debtrank.125", "125 single shocks at 1e-10 against the naive iteration", first, second, 40.0)


def benchmarks(quick: bool = True) -> list[dict[str, Any]]:
    """Rows name, what, ours, reference (seconds), ratio, bar, holds."""
    return [*clearing_rows(quick), debtrank_row()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    print(json.dumps(benchmarks(quick=not parser.parse_args().full), indent=1))
