"""Real protocol bytecode on a local chain: the answer key for adapters, rules and recordings.

`toolchain` brings the packages, `anvil` runs chains, one module per protocol deploys it, `worlds` populates
whole chains, `fixtures` is the pytest plugin.
"""
