"""The service in small: wallet lookups, coverage and stress over HTTP, from the last cut."""

from aggregator.api.server import make_app, serve

__all__ = ["make_app", "serve"]
