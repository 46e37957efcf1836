"""Entities by SQLModel, facts by bulk paths; SQLite and PostgreSQL."""

from aggregator.store.read import StoredCoverage, StoredCut
from aggregator.store.store import Store
from aggregator.store.write import RunWriter, TargetKey

__all__ = ["RunWriter", "Store", "StoredCoverage", "StoredCut", "TargetKey"]
