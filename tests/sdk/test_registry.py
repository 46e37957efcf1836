"""Adapters are found by name."""

import sys

import pytest

from aggregator.core.errors import ConfigError
from aggregator.sdk import Adapter
from aggregator.sdk.registry import load_adapters

GOOD = "from aggregator.sdk import Adapter\nclass A(Adapter):\n    name = {name!r}\nADAPTER = A()\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    def make(name, **modules):
        root = tmp_path / name
        root.mkdir()
        (root / "__init__.py").write_text("")
        for module, text in modules.items():
            (root / f"{module}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        for loaded in [m for m in sys.modules if m.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)
        return name

    return make


def test_modules_are_found_in_order_and_private_ones_left_out(package):
    name = package("some_adapters", zed=GOOD.format(name="zed"), alpha=GOOD.format(name="alpha"), _shared="X = 1")
    found = load_adapters(package=name)
    assert list(found) == ["alpha", "zed"]
    assert all(isinstance(adapter, Adapter) for adapter in found.values())


@pytest.mark.parametrize(("text", "message"), [("X = 1", "no ADAPTER"), (GOOD.format(name="other"), "misnamed")])
def test_a_module_that_breaks_the_rule_is_named(package, text, message):
    name = package(f"bad_{message.replace(' ', '_').lower()}", broken=text)
    with pytest.raises(ConfigError, match=message):
        load_adapters(package=name)


def test_a_missing_package_and_a_missing_import_are_told_apart(package):
    with pytest.raises(ConfigError, match="no package"):
        load_adapters(package="no_such_adapters")
    name = package("torn_adapters", torn="import no_such_module_anywhere\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        load_adapters(package=name)


def test_our_own_adapters_load():
    assert all(adapter.name == name for name, adapter in load_adapters().items())


def test_a_broken_adapter_costs_only_those_who_name_it(package):
    name = package("half_adapters", alpha=GOOD.format(name="alpha"), broken="X = 1")
    assert list(load_adapters(["alpha"], name)) == ["alpha"]
    with pytest.raises(ConfigError) as error:
        load_adapters(["alhpa"], name)
    assert error.value.fix == "did you mean 'alpha'?"
