"""What belongs to an adapter is there: its deployments, its test, its line in the README; and it keeps the rules."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from aggregator.app.config import Config, load_config
from aggregator.core.ids import parse_address
from aggregator.sdk.registry import load_adapters

ROOT = Path(__file__).parents[2]
ADAPTERS = load_adapters()
ONE_FILE_LINES = 300


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(ROOT / "config" / "default.toml", {})


@pytest.mark.parametrize("name", ADAPTERS)
def test_it_has_real_deployments_with_their_source(name: str, config: Config) -> None:
    rows = [d for d in config.deployments if d.adapter == name]
    assert rows
    text = (ROOT / "config" / "deployments" / f"{name}.toml").read_text()
    assert re.search(r"^# .*(Source|address)", text, re.MULTILINE), "no comment says where the addresses come from"
    for row in rows:
        assert row.source.startswith("venue:" if ADAPTERS[name].kind == "venue" else "eip155:")


@pytest.mark.parametrize("name", ADAPTERS)
def test_it_has_its_test(name: str) -> None:
    assert "async def test_" in (ROOT / "tests" / "adapters" / f"test_{name}.py").read_text()


@pytest.mark.parametrize("name", ADAPTERS)
def test_it_has_its_row_in_the_readme(name: str) -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|")]
    assert any(f"`{name}`" in row for row in rows), f"README.md has no table row with `{name}`"


@pytest.mark.parametrize("name", ADAPTERS)
def test_it_is_one_short_file_without_floats(name: str) -> None:
    text = (ROOT / "adapters" / f"{name}.py").read_text()
    assert len(text.splitlines()) <= ONE_FILE_LINES
    inexact = [
        node
        for node in ast.walk(ast.parse(text))
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.Name) and node.id == "float")
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div))
    ]
    assert [ast.unparse(node) for node in inexact] == []


@pytest.mark.parametrize("name", ADAPTERS)
def test_it_knows_no_clock_task_socket_or_file(name: str) -> None:
    """What it may import: text and containers of the standard library, the sdk and core."""
    tree = ast.parse((ROOT / "adapters" / f"{name}.py").read_text())
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    modules |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    pure = {"__future__", "collections", "collections.abc", "decimal", "itertools", "typing", "urllib.parse"}
    assert {m for m in modules - pure if not str(m).startswith(("aggregator.sdk.", "aggregator.core."))} == set()
    assert not {"open", "eval", "exec", "__import__"} & {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


@pytest.mark.parametrize("file", sorted((ROOT / "config" / "deployments").glob("*.toml")), ids=lambda file: file.stem)
def test_every_deployment_file_has_its_adapter(file: Path, config: Config) -> None:
    assert file.stem in ADAPTERS
    assert {d.adapter for d in config.deployments if d.adapter == file.stem}


def test_ethereum_arbitrum_optimism_and_base_are_read_by_what_stands_there(config: Config) -> None:
    everywhere = {"aave_v3", "chainlink", "erc4626", "morpho_blue", "uniswap_v3"}
    for chain in (1, 10, 8453, 42161):
        assert everywhere <= {d.adapter for d in config.deployments if d.source == f"eip155:{chain}"}
    assert {"lyra_v1", "perp_curie"} <= {d.adapter for d in config.deployments if d.source == "eip155:10"}


def test_all_addresses_are_checksummed_as_their_source_gave_them() -> None:
    """EIP-55: one wrong digit in a copied address would show."""
    from eth_utils.address import to_checksum_address

    files = sorted((ROOT / "config" / "deployments").glob("*.toml"))
    found = [a for file in files for a in re.findall(r"0x[0-9a-fA-F]{40}\b", file.read_text())]
    assert len(found) > 200
    assert [a for a in found if to_checksum_address(parse_address(a)) != a] == []
