"""A deployment that is configured wrongly is named, with what was expected; none is read as an empty protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from aggregator.app import App
from aggregator.app.doctor import examine
from aggregator.core.errors import ConfigError, SourceError
from aggregator.core.rows import Gap, Row
from aggregator.sdk.adapter import Where
from aggregator.sdk.registry import load_adapters
from aggregator.sdk.testing import FakeView, collect_rows
from tests.report.fixtures import quiet

ADAPTERS, HERE, THERE = load_adapters(), "0x" + "11" * 20, "0x" + "22" * 20
FEED = {"asset": HERE, "feed": THERE, "heartbeat_s": 60}


async def rows_of(adapter: str, addresses: Mapping[str, str], **options: Any) -> list[Row]:
    return await collect_rows(
        ADAPTERS[adapter], FakeView(), Where(adapter, "eip155:1", "x", addresses, 0, dict(options))
    )


@pytest.mark.parametrize("listed", ["0x", 5, [5], ["x"], {"asset": HERE}])
@pytest.mark.parametrize(("adapter", "key"), [("erc4626", "vaults"), ("uniswap_v3", "pools"), ("uniswap_v3", "tokens"),
                                              ("chainlink", "feeds")])  # fmt: skip
async def test_a_list_that_is_none_is_named(adapter: str, key: str, listed: object) -> None:
    with pytest.raises(ConfigError, match=rf"(?s)eip155:1/{adapter}/x.*{key}.*config/deployments/{adapter}\.toml"):
        await rows_of(adapter, {"factory": HERE}, **{key: listed})


@pytest.mark.parametrize(
    "change", [{"feed": 5}, {"asset": 5}, {"asset": "WETH"}, {"quote": "usd"}, {"heartbeat_s": "soon"},
               {"heartbeat_s": -5}, {"heartbeat_s": None}, {"feed": "0x12"}],
)  # fmt: skip
async def test_a_feed_that_is_not_complete_is_named(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"(?s)eip155:1/chainlink/x has a feed.*expected: .*found: .*chainlink\.toml"):
        await rows_of("chainlink", {}, feeds=[FEED | change])


@pytest.mark.parametrize(("adapter", "key", "options"), [
    ("aave_v3", "pool_addresses_provider", {}), ("morpho_blue", "morpho", {}), ("perp_curie", "clearing_house", {}),
    ("lyra_v1", "option_market_viewer", {}), ("uniswap_v3", "factory", {}),
    ("uniswap_v3", "factory", {"tokens": [HERE]}),
    ("uniswap_v3", "factory", {"tokens": [HERE, THERE]}), ("uniswap_v3", "factory", {"pools": [HERE]}),
])  # fmt: skip
async def test_an_address_where_nothing_lives_is_no_empty_protocol(adapter: str, key: str, options: Any) -> None:
    with pytest.raises(SourceError, match=rf"(?s)no code there.*config/deployments/{adapter}\.toml"):
        await rows_of(adapter, {key: HERE}, **options)
    with pytest.raises(ConfigError, match=rf"(?s)addresses\.{key}.*config/deployments/{adapter}\.toml"):
        await rows_of(adapter, {}, **{k: v for k, v in options.items() if k != "pools"})


async def test_a_vault_or_feed_where_nothing_lives_is_a_gap() -> None:
    assert [r.reason for r in await rows_of("erc4626", {}, vaults=[HERE]) if isinstance(r, Gap)] == ["no_code"]
    gaps = [r.reason for r in await rows_of("chainlink", {}, feeds=[FEED]) if isinstance(r, Gap)]
    assert gaps == ["no_code", "no_price"]
    with pytest.raises(ConfigError, match="names no vault"):
        await rows_of("erc4626", {})


KEYS = [(name, key) for name in ADAPTERS for key in (*ADAPTERS[name].addresses, *ADAPTERS[name].options)]


@pytest.mark.parametrize(("name", "key"), KEYS)
@pytest.mark.parametrize("slip", [lambda key: key[:-1], lambda key: key[1] + key[0] + key[2:], str.upper])
def test_a_misspelt_key_is_found_before_anything_is_asked(
    name: str, key: str, slip: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the doctor, by a run and by its estimate, each with the file that it stands in and the right word."""
    monkeypatch.chdir(tmp_path)
    adapter, written = ADAPTERS[name], slip(key)
    addresses = {other: HERE for other in adapter.addresses if other != key}
    options = {other: [HERE] for other in adapter.options if other != key}
    (addresses if key in adapter.addresses else options)[written] = HERE  # type: ignore[index]
    place = 'venue = "v"' if adapter.kind == "venue" else "chain = 1"
    row = f'[[deployments]]\nadapter = "{name}"\nname = "x"\n{place}\n'
    row += "".join(f"{other} = {json.dumps(value)}\n" for other, value in options.items())
    row += f"addresses = {{ {', '.join(f'{other} = {json.dumps(value)}' for other, value in addresses.items())} }}\n"
    Path("parts").mkdir()
    Path("parts/odd.toml").write_text(row)
    dead = 'rpc = ["http://127.0.0.1:9"]\ntimeout_s = 0.01\ndeadline_s = 0.01\n'
    venue = '[[venues]]\nname = "v"\nurl = "http://127.0.0.1:9"\n'
    Path("c.toml").write_text(f'deployments_dir = "parts"\n[[chains]]\nid = 1\n{dead}{venue}')
    found = [f for f in examine(Path("c.toml")) if f["check"] == "deployment"]
    assert [f["status"] for f in found] == ["fail"]
    with App.open(Path("c.toml")) as app:
        for ask in (lambda: app.collect(quiet), lambda: app.dry_run(quiet)):
            with pytest.raises(ConfigError, match=f"unknown key .*{written}") as raised:
                ask()
    for fix in (found[0]["fix"], raised.value.fix):
        assert str(Path("parts/odd.toml")) in fix
        assert f"did you mean {key!r}?" in fix


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_row_without_what_it_needs_is_found_as_early(name: str) -> None:
    adapter = ADAPTERS[name]
    with pytest.raises(ConfigError, match=r"(?s)lacks a key.*here\.toml") as raised:
        adapter.check(Where(name, "eip155:1", "x", {}, 0, {}, file="here.toml"))
    assert all(key in raised.value.expected for key in adapter.required[0])
