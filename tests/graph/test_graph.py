"""The dependency graph: edges in USD, look-through that keeps every dollar, exports."""

from __future__ import annotations

import json
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from aggregator import graph
from aggregator.core.errors import ConfigError
from aggregator.core.rows import Asset, Claim, Exposure, Index, Market, Row
from tests.engine.test_load import DOLLAR, MORPHO, POOL, SHARE, X, ladder, snapshot

BASKET = "eip155:1/erc20:0x" + f"{4:040x}"


def wrapped() -> list[Row]:
    """A basket of half vault share and half X, held by one wallet, on top of the ladder."""
    box = "eip155:1/erc4626/v/0x4"
    return [
        *ladder(), Asset(BASKET, "BOX", 18), Market(box, "vault", "", "b"), Index(box, BASKET, "supply", 1, 1, "down"),
        Claim(BASKET, SHARE, "vault", 1000, 1, ""), Claim(BASKET, X, "vault", 1, 2, ""),
        Exposure(box, "0xboxer", "", BASKET, "supply", 3 * 10**18),
    ]  # fmt: skip


def edges(g: graph.RiskGraph, kind: str) -> dict[tuple[str, str], float]:
    chosen = np.flatnonzero(g.edge_kind == graph.EDGE_KINDS.index(kind))
    return {(g.names[g.src[e]], g.names[g.dst[e]]): float(g.weight_usd[e]) for e in chosen}


def test_edges_are_usd_by_kind() -> None:
    g = graph.build(snapshot(wrapped()))
    assert edges(g, "owes")["0xm1", MORPHO] == pytest.approx(80_152)
    assert edges(g, "holds")["0xm1", X] == pytest.approx(80_000)
    assert edges(g, "supplies")["0x" + f"{3:040x}", MORPHO] == pytest.approx(2_000_000)
    assert edges(g, "provides_depth") == {(POOL, X): pytest.approx(1e7), (POOL, DOLLAR): pytest.approx(1e7)}
    assert edges(g, "backs")[DOLLAR, SHARE] == pytest.approx(500_000)
    assert edges(g, "backs")[X, BASKET] == pytest.approx(3000)
    assert edges(g, "runs")["eip155:1/morpho_blue", MORPHO] == pytest.approx(2_000_000 + 810 * 2000)
    assert (np.diff(g.src) >= 0).all()


def test_the_graph_is_the_same_for_the_same_cut() -> None:
    a, b = (graph.build(snapshot(rows)) for rows in (wrapped(), wrapped()[::-1]))
    assert graph.to_json(a) == graph.to_json(b)


def test_look_through_keeps_every_dollar() -> None:
    g = graph.build(snapshot(wrapped()))
    seen = graph.look_through(g)
    at = {g.names[a]: i for i, a in enumerate(seen.assets)}
    share = seen.share.toarray()
    assert share[at[BASKET], at[X]] == pytest.approx(0.5)
    assert share[at[BASKET], at[DOLLAR]] == pytest.approx(0.5)
    np.testing.assert_allclose(share.sum(axis=1), 1.0, rtol=1e-12)
    assert seen.unbacked == ()


def test_exposure_reaches_through_two_claims() -> None:
    found = {h.holder: h for h in graph.exposure(graph.build(snapshot(wrapped())), DOLLAR)}
    assert found["0xboxer"].through_usd == pytest.approx(3000)
    assert found["0xsaver"].through_usd == pytest.approx(500_000)
    assert found["0x" + f"{3:040x}"].direct_usd == pytest.approx(2_000_000)
    with pytest.raises(ConfigError, match="no such asset"):
        graph.exposure(graph.build(snapshot(wrapped())), "nothing")


def test_claims_that_only_stand_on_each_other_are_named() -> None:
    rows = [*ladder(), Claim(X, BASKET, "lst", 1, 1, ""), Claim(BASKET, X, "lst", 1, 1, ""), Asset(BASKET, "B", 18)]
    seen = graph.look_through(graph.build(snapshot(rows)))
    assert set(seen.unbacked) == {X, BASKET}


def test_condensed_view_keeps_the_weights() -> None:
    g = graph.build(snapshot(wrapped()))
    whole, small = graph.to_networkx(g, condensed=False), graph.to_networkx(g)
    assert small.number_of_nodes() < whole.number_of_nodes()
    for kind in graph.EDGE_KINDS:
        sums = [sum(d["weight_usd"] for *_, d in n.edges(data=True) if d["kind"] == kind) for n in (whole, small)]
        assert sums[0] == pytest.approx(sums[1])
    wallets = small.edges[f"holder:wallets of market:{MORPHO}", f"market:{MORPHO}", "owes"]
    assert wallets["wallets"] == 7


def test_files_can_be_read_back(tmp_path: Path) -> None:
    g = graph.build(snapshot(wrapped()))
    graph.write(g, tmp_path / "g.graphml")
    graph.write(g, tmp_path / "g.json")
    assert nx.read_graphml(tmp_path / "g.graphml").number_of_nodes() == len(g.names)
    body = json.loads((tmp_path / "g.json").read_bytes())
    assert (body["digest"], len(body["edges"])) == (g.digest, len(g.src))
    with pytest.raises(ConfigError, match=r"\.graphml"):
        graph.write(g, tmp_path / "g.xls")


def test_an_empty_cut_has_an_empty_graph() -> None:
    g = graph.build(snapshot([]))
    assert (len(g.names), len(g.src)) == (0, 0)
    assert graph.to_networkx(g).number_of_nodes() == 0
