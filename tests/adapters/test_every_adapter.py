"""What belongs to an adapter is there: its deployments, its test, its line in the README; and it keeps the rules.

What it reads of real contracts keeps the laws of all adapters, which are written here once: a new adapter stands in
`tests.devnet.worlds` (or is a venue's, with a server of its own) and is held to them.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aggregator import rules
from aggregator.app.config import Config, load_config, parse_config
from aggregator.app.sources import where_of
from aggregator.core.ids import parse_address, source_of
from aggregator.core.rows import POSITION_KINDS, Asset, Market
from aggregator.core.table import raw_tables
from aggregator.sdk.adapter import Where
from aggregator.sdk.registry import load_adapters
from aggregator.sdk.testing import discover
from tests.adapters.reading import assert_incremental, assert_replays, assert_sources, read, viewing
from tests.devnet import configuration
from tests.devnet.anvil import Chain
from tests.devnet.worlds import World

ROOT = Path(__file__).parents[2]
ADAPTERS = load_adapters()
ON_CHAIN = [name for name, adapter in ADAPTERS.items() if adapter.kind != "venue"]
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
    text = (ROOT / "tests" / "adapters" / f"test_{name}.py").read_text()
    assert "async def test_" in text
    # what stands on a chain is read below; a venue has a server of its own, and replays from it in any slices
    assert name in ON_CHAIN or "assert_slices_agree(ADAPTER, replay" in text


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


@pytest.mark.parametrize("name", ADAPTERS)
def test_it_names_every_key_that_it_reads_and_no_other(name: str) -> None:
    """What its source asks of a row, what it declares, what its deployments give and what the documentation lists."""
    adapter = ADAPTERS[name]
    source = (ROOT / "adapters" / f"{name}.py").read_text()
    asked = set(re.findall(r'where\.address\("(\w+)"\)|"(\w+)" in where\.addresses', source))
    assert {key for pair in asked for key in pair if key} == set(adapter.addresses)
    assert set(re.findall(r'where\.(?:listed|options\.get)\("(\w+)"', source)) == set(adapter.options)
    assert {key for group in adapter.required for key in group} <= {*adapter.addresses, *adapter.options}
    documented = (ROOT / "docs" / "configuration.md").read_text()
    (row,) = (line for line in documented.splitlines() if line.startswith(f"| `{name}` |"))
    assert all(f"`{key}`" in row or f"`{key} = " in row for key in (*adapter.addresses, *adapter.options))


@pytest.mark.parametrize("name", ADAPTERS)
def test_its_deployments_have_no_key_that_nobody_reads(name: str, config: Config) -> None:
    demo = load_config(ROOT / "config" / "demo" / "demo.toml", {})
    for row in (*config.deployments, *demo.deployments):
        if row.adapter == name:
            ADAPTERS[name].check(where_of(row))


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


# -- what it reads ----------------------------------------------------------------------------------------
def places(world: World, name: str) -> Iterator[tuple[Where, Chain]]:
    """Where the adapter is configured in the world, as a user would write it."""
    found = [d for d in parse_config(tomllib.loads(configuration.toml(world))).deployments if d.adapter == name]
    assert found, f"nothing that {name} reads stands in tests.devnet.worlds.three_chains"
    for d in found:
        where = Where(d.adapter, d.source, d.name, d.addresses, d.start_block, d.options)
        yield where, world.chains[int(d.source.removeprefix("eip155:"))]


@pytest.mark.parametrize("name", ON_CHAIN)
async def test_it_replays_the_same_in_any_slices(name: str, three_chains_world: World, tmp_path: Path) -> None:
    for i, (where, chain) in enumerate(places(three_chains_world, name)):
        await assert_replays(ADAPTERS[name], chain, where, tmp_path / f"{i}.json.gz")


@pytest.mark.parametrize("windows", [2, 7])
@pytest.mark.parametrize("name", ON_CHAIN)
async def test_windows_of_blocks_find_what_the_whole_finds(name: str, windows: int, three_chains_world: World) -> None:
    """Discovery in windows, as a long first one runs."""
    adapter, known = ADAPTERS[name], 0
    for where, chain in places(three_chains_world, name):
        async with viewing(chain) as view:
            whole, parts, last = await discover(adapter, view, where), where, view.at.number
            for low, high in pairwise(last * i // windows for i in range(windows + 1)):
                part = view if high == last else view.until(high)
                parts = await discover(adapter, part, parts, low and low + 1)
        assert parts.markets == whole.markets
        assert set(whole.targets) <= set(parts.targets), f"{where.id} lost targets"
        # who was Morpho's fee recipient before the first change in a window is not known: all who ever were are named
        assert set(whole.targets) == set(parts.targets) or name == "morpho_blue"
        known += len(whole.targets)
    assert known or name == "chainlink"  # which is told its feeds


@pytest.mark.parametrize("name", ON_CHAIN)
async def test_its_rows_say_where_they_come_from_and_belong_together(name: str, three_chains_world: World) -> None:
    """Its own deployment, markets and source; tokens that have their row; rules that exist; calls that answer again."""
    asked = 0
    for where, chain in places(three_chains_world, name):
        reading = await read(ADAPTERS[name], chain, where)
        assert raw_tables([(where.id, row) for row in reading.rows if not isinstance(row, Asset)])
        markets, assets = {m.market: m for m in reading.of(Market)}, {a.id for a in reading.of(Asset)}
        assert all(m == where.id or m.startswith(f"{where.id}/") for m in markets)
        assert all(not m.rule or rules.get(m.rule) for m in markets.values())
        for row in reading.rows:
            fields: dict[str, Any] = row._asdict()
            assert fields.get("market", "") in ("", *markets), row
            if isinstance(row, POSITION_KINDS):
                assert row.market in markets, row
                assert row.holder, row
            for column in ("asset", "underlying", "quote", "settle"):
                value = fields.get(column, "")
                if source_of(value).startswith("eip155:"):
                    assert source_of(value) == where.source, row
                    assert value in assets or column == "quote" or "/erc20:" not in value, row
        asked += assert_sources(reading, chain)
    assert asked > 3


@pytest.mark.parametrize("name", ON_CHAIN)
async def test_where_nothing_happens_nobody_is_read_again(name: str, world: World) -> None:
    for where, chain in places(world, name):
        before = await read(ADAPTERS[name], chain, where)
        chain.mine(3)
        await assert_incremental(ADAPTERS[name], chain, before)
