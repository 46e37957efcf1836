"""The graph for other programs: networkx, GraphML, JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aggregator.core.errors import ConfigError
from aggregator.graph.model import EDGE_KINDS, NODE_KINDS, RiskGraph

if TYPE_CHECKING:
    import networkx as nx

_WALLETS = "wallets of "
_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_networkx(graph: RiskGraph, condensed: bool = True) -> nx.MultiDiGraph:
    """Nodes (kind, name) as 'kind:name' with kind and label, edges keyed by kind with weight_usd, partial and wallets.

    condensed: the holders of one market or asset are one node, `wallets` on its edge counts them.
    """
    import networkx as nx

    out: nx.MultiDiGraph = nx.MultiDiGraph()
    for key, attributes in _nodes(graph, condensed):
        out.add_node(key, **attributes)
    for (src, dst, kind), attributes in _edges(graph, condensed).items():
        out.add_edge(src, dst, key=kind, kind=kind, **attributes)
    return out


def to_json(graph: RiskGraph, condensed: bool = False) -> bytes:
    """{"digest", "nodes": [{id, kind, name, label}], "edges": [{src, dst, kind, weight_usd, partial, wallets}]}."""
    nodes = [{"id": key, **attributes} for key, attributes in _nodes(graph, condensed)]
    edges = [
        {"src": src, "dst": dst, "kind": kind, **attributes}
        for (src, dst, kind), attributes in _edges(graph, condensed).items()
    ]
    body = {"digest": graph.digest, "nodes": nodes, "edges": edges}
    return json.dumps(body, sort_keys=True, indent=1, allow_nan=False).encode()


def write(graph: RiskGraph, path: Path, condensed: bool = False) -> None:
    """By suffix: .json or .graphml. ConfigError for another suffix."""
    if path.suffix == ".json":
        path.write_bytes(to_json(graph, condensed))
    elif path.suffix == ".graphml":
        import networkx as nx

        nx.write_graphml(_printable(to_networkx(graph, condensed)), path)
    else:
        raise ConfigError(
            "unknown graph format", expected="a file name ending in .json or .graphml", found=path.name, fix="rename it"
        )


def _printable(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """Characters that XML cannot hold, of which token symbols may be full, as their escapes."""
    import networkx as nx

    for _, attributes in graph.nodes(data=True):
        attributes |= {key: _escaped(text) for key, text in attributes.items()}
    return nx.relabel_nodes(graph, {node: _escaped(node) for node in graph})


def _escaped(text: str) -> str:
    return _NOT_XML.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _key(graph: RiskGraph, node: int) -> str:
    return f"{NODE_KINDS[graph.kind[node]]}:{graph.names[node]}"


def _nodes(graph: RiskGraph, condensed: bool) -> list[tuple[str, dict[str, Any]]]:
    out = []
    for i, name in enumerate(graph.names):
        kind = NODE_KINDS[graph.kind[i]]
        if not (condensed and kind == "holder"):
            out.append((_key(graph, i), {"kind": kind, "name": name, "label": graph.labels[i]}))
    if condensed:
        targets = {int(d) for s, d in zip(graph.src, graph.dst, strict=True) if _is_holder(graph, int(s))}
        for target in sorted(targets):
            label = _WALLETS + graph.labels[target]
            out.append((_wallets(graph, target), {"kind": "holder", "name": label, "label": label}))
    return out


def _edges(graph: RiskGraph, condensed: bool) -> dict[tuple[str, str, str], dict[str, Any]]:
    out: dict[tuple[str, str, str], dict[str, Any]] = {}
    for s, d, k, w, p in zip(
        graph.src.tolist(), graph.dst.tolist(), graph.edge_kind.tolist(), graph.weight_usd.tolist(),
        graph.partial.tolist(), strict=True,
    ):  # fmt: skip
        holder = _is_holder(graph, s)
        src = _wallets(graph, d) if condensed and holder else _key(graph, s)
        found = out.setdefault(
            (src, _key(graph, d), EDGE_KINDS[k]), {"weight_usd": 0.0, "partial": False, "wallets": 0}
        )
        found["weight_usd"] += w
        found["partial"] |= p
        found["wallets"] += int(holder)
    return dict(sorted(out.items()))


def _is_holder(graph: RiskGraph, node: int) -> bool:
    return NODE_KINDS[graph.kind[node]] == "holder"


def _wallets(graph: RiskGraph, target: int) -> str:
    return f"holder:{_WALLETS}{_key(graph, target)}"
