"""Adapters by name: modules of a package found at run time, so that nothing here imports one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

from aggregator.core.errors import ConfigError, near_miss, shown
from aggregator.sdk.adapter import Adapter


def load_adapters(names: Iterable[str] | None = None, package: str = "adapters") -> dict[str, Adapter]:
    """The named adapters, all of `package` by default (modules beginning with _ aside), by name, sorted.

    Only what is named is imported: a broken adapter costs those who use it. ConfigError for an unknown name (the
    nearest is suggested), a module without ADAPTER, and an adapter whose name is not its module's.
    """
    try:
        root = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ConfigError(f"no package {package!r}", expected="a package of adapters", found="nothing") from None
    there = sorted(m.name for m in pkgutil.iter_modules(root.__path__) if not m.name.startswith("_"))
    out: dict[str, Adapter] = {}
    for name in there if names is None else sorted(set(names)):
        if name not in there:
            raise ConfigError(
                f"no adapter called {name!r}", expected=", ".join(there), found=name, fix=near_miss(name, there)
            )
        found = getattr(importlib.import_module(f"{package}.{name}"), "ADAPTER", None)
        if not isinstance(found, Adapter):
            raise ConfigError(f"{package}.{name} has no ADAPTER", expected="ADAPTER = MyAdapter()", found=shown(found))
        if found.name != name:
            raise ConfigError(f"{package}.{name} is misnamed", expected=f"name = {name!r}", found=shown(found.name))
        out[name] = found
    return out
