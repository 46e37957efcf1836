"""The one place where parts meet: configuration -> store, sources, adapters, snapshot, graph, engine, report."""

from aggregator.app.wiring import App, CollectAnswer

__all__ = ["App", "CollectAnswer"]
