"""Rows of one cut -> frozen columns, exact rows, coverage, digest. Pure."""

from aggregator.snapshot.snapshot import Snapshot, build

__all__ = ["Snapshot", "build"]
