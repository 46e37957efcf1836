"""Plugins that every test may use."""

pytest_plugins = ("tests.devnet.fixtures", "tests.line.fixtures", "tests.store.fixtures")
