"""Plugins that every test may use."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long one example takes says nothing about a law: a kernel may compile, and machines are busy.
settings.register_profile("spillover", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("spillover")

PLUGINS = ("promises", "devnet.fixtures", "line.fixtures", "report.fixtures", "store.fixtures")
pytest_plugins = tuple(f"tests.{name}" for name in PLUGINS)
