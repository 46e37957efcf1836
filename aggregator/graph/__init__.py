"""The dependency graph of one cut as sorted arrays, its look-through of claims, and its exports."""

from aggregator.graph.export import to_json, to_networkx, write
from aggregator.graph.lookthrough import LookThrough, look_through
from aggregator.graph.model import EDGE_KINDS, NODE_KINDS, RiskGraph, build

__all__ = [
    "EDGE_KINDS",
    "NODE_KINDS",
    "LookThrough",
    "RiskGraph",
    "build",
    "look_through",
    "to_json",
    "to_networkx",
    "write",
]
