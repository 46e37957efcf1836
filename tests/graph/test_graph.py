"""The dependency graph: edges in USD, look-through that keeps every dollar, exports."""

from __future__ import annotations

import json
import random
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from aggregator import graph
from aggregator.core.errors import ConfigError
from aggregator.core.ids import USD
from aggregator.core.rows import Asset, Claim, Exposure, Index, Market, Price, Row
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


def test_what_is_unknown_adds_nothing_and_says_so() -> None:
    odd = TOKENS[0]
    rows = [*ladder(), Asset(odd, "ODD", 18), Exposure(MORPHO, "0xm1", "", odd, "supply", 5)]
    before, after = (graph.build(snapshot(r)) for r in (ladder(), rows))

    def flags(g: graph.RiskGraph, kind: str) -> dict[tuple[str, str], bool]:
        return dict(zip(edges(g, kind), g.partial[g.edge_kind == graph.EDGE_KINDS.index(kind)].tolist(), strict=True))

    market = ("eip155:1/morpho_blue", MORPHO)
    assert edges(after, "runs")[market] == pytest.approx(edges(before, "runs")[market])
    assert (flags(before, "runs")[market], flags(after, "runs")[market]) == (False, True)
    assert (edges(after, "holds")["0xm1", odd], flags(after, "holds")["0xm1", odd]) == (0.0, True)
    assert flags(after, "holds")["0xm1", X] is False


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
    assert share[at[BASKET], at[SHARE]] == pytest.approx(0.5)  # what is a claim itself is reached as well
    np.testing.assert_allclose(share[:, seen.base].sum(axis=1), 1.0, rtol=1e-12)
    assert seen.unbacked == ()


TOKENS = [f"eip155:1/erc20:0x{i + 100:040x}" for i in range(12)]


def claims_only(claims: list[tuple[int, int, int]], priced: list[int]) -> graph.LookThrough:
    """claims: (claim, backing, units of backing per million), all tokens worth one dollar where priced."""
    rows: list[Row] = [Price("", TOKENS[i], USD, 1, 0, "feed", 0, 0) for i in priced]
    rows += [Claim(TOKENS[c], TOKENS[u], "vault", num, 10**6, "") for c, u, num in claims]
    return graph.look_through(graph.build(snapshot([*(Asset(t, "", 18) for t in TOKENS), *rows])))


def test_look_through_equals_walking_from_claim_to_claim() -> None:
    """An independent count: simulate the dollars, 1/N of them at a time, by powers of the fractions."""
    rng = random.Random(5)
    claims = [(c, rng.randrange(12), rng.randrange(1, 9)) for c in range(3, 12) for _ in range(2)]
    claims += [(c, rng.randrange(3), 1) for c in range(3, 12)]  # three bases below everything, circles above
    units: dict[tuple[int, int], int] = {}
    for c, u, num in claims:
        units[c, u] = units.get((c, u), 0) + num
    step = np.zeros((12, 12))
    for (c, u), num in units.items():
        step[c, u] = num / sum(n for (d, _), n in units.items() if d == c)
    seen = claims_only([(c, u, num) for (c, u), num in units.items()], list(range(12)))
    share = seen.share.toarray()
    for a in range(12):
        stop = step.copy()
        stop[a] = 0.0
        reached = np.linalg.matrix_power(stop + np.diag(np.eye(12)[a]), 4096)[:, a]  # absorbed where it stands on a
        np.testing.assert_allclose(share[:, a], reached, atol=1e-12)
    assert (nx.number_strongly_connected_components(nx.DiGraph(step)) < 12, seen.unbacked) == (True, ())


def test_circles_are_solved_however_slowly_they_turn() -> None:
    seen = claims_only([(1, 1, 999_999), (1, 0, 1), (2, 3, 10**6), (3, 2, 999_999), (3, 0, 1)], [0, 1, 2, 3])
    np.testing.assert_allclose(seen.share.toarray()[:4, 0], 1.0, rtol=1e-9)
    assert seen.unbacked == ()


@pytest.mark.parametrize("priced", [[0, 1, 2, 3], [0]])
def test_a_claim_on_itself_stands_on_nothing(priced: list[int]) -> None:
    """With a market price or without: B on B, and C half on B, half on X."""
    seen = claims_only([(1, 1, 10**6), (2, 1, 500_000), (2, 0, 500_000)], priced)
    assert set(seen.unbacked) == {TOKENS[1], TOKENS[2]}
    assert seen.share.toarray()[2, 0] == pytest.approx(0.5 if len(priced) > 1 else 0.0)


def test_a_claim_on_what_has_no_price_is_named_and_keeps_its_value() -> None:
    seen = claims_only([(1, 0, 500_000), (1, 2, 500_000)], [0, 1])
    assert seen.unbacked == (TOKENS[1],)
    assert (seen.base[1], seen.share.toarray()[1, 1]) == (True, 1.0)


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


def test_hostile_symbols_do_not_break_a_file(tmp_path: Path) -> None:
    symbols = ["\x1b[31m\x01", "<script>&", "\u202e\ufffe", 'a"b\r\n']
    rows: list[Row] = [Asset(t, s, 18) for t, s in zip(TOKENS, symbols, strict=False)]
    g = graph.build(snapshot([*rows, *(Claim(t, X, "vault", 1, 1, "") for t in TOKENS[:4]), *ladder()]))
    graph.write(g, tmp_path / "g.graphml")
    graph.write(g, tmp_path / "g.json")
    read = nx.read_graphml(tmp_path / "g.graphml")
    assert read.number_of_nodes() == len(g.names)
    assert sorted(d["weight_usd"] for *_, d in read.edges(data=True)) == sorted(g.weight_usd.tolist())
    assert {"<script>&", "\\u001b[31m\\u0001"} <= {d["label"] for _, d in read.nodes(data=True)}
    assert set(symbols) <= {node["label"] for node in json.loads((tmp_path / "g.json").read_bytes())["nodes"]}


def test_an_empty_cut_has_an_empty_graph() -> None:
    g = graph.build(snapshot([]))
    assert (len(g.names), len(g.src)) == (0, 0)
    assert graph.to_networkx(g).number_of_nodes() == 0
