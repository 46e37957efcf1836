"""Adapters by name: modules of a package found at run time, so that nothing here imports one."""

from __future__ import annotations

import importlib
import pkgutil

from aggregator.core.errors import ConfigError
from aggregator.sdk.adapter import Adapter


def load_adapters(package: str = "adapters") -> dict[str, Adapter]:
    """Every module of `package` (names beginning with _ aside) by its `ADAPTER.name`, sorted.

    ConfigError for a module without ADAPTER, and for a name that is not its module's.
    """
    try:
        root = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ConfigError(f"no package {package!r}", expected="a package of adapters", found="nothing") from None
    out: dict[str, Adapter] = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(root.__path__)):
        if name.startswith("_"):
            continue
        found = getattr(importlib.import_module(f"{package}.{name}"), "ADAPTER", None)
        if not isinstance(found, Adapter):
            raise ConfigError(f"{package}.{name} has no ADAPTER", expected="ADAPTER = MyAdapter()", found=repr(found))
        if found.name != name:
            raise ConfigError(f"{package}.{name} is misnamed", expected=f"name = {name!r}", found=repr(found.name))
        out[name] = found
    return out
