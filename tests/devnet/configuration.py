"""A world as our own configuration: what a user would write to read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aggregator.sdk.registry import load_adapters
from tests.devnet.worlds import World

ADAPTERS = load_adapters()
HEARTBEAT_S = 90_000


def deployments(world: World) -> list[dict[str, Any]]:
    """`[[deployments]]` rows of everything in the world, price feeds included."""
    rows: list[dict[str, Any]] = []
    vaults: dict[int, list[str]] = {}
    for d in world.deployments:
        if d.adapter == "erc4626":
            vaults.setdefault(d.chain, []).extend(d.addresses.values())
            continue
        read = {key: value for key, value in d.addresses.items() if key in ADAPTERS[d.adapter].addresses}
        row: dict[str, Any] = {"adapter": d.adapter, "chain": d.chain, "name": d.name, "addresses": read}
        if d.adapter == "uniswap_v3":
            row["tokens"] = sorted(a.address for a in world.assets[d.chain].values())
        rows.append(row)
    rows += [{"adapter": "erc4626", "chain": c, "name": "vaults", "vaults": v} for c, v in sorted(vaults.items())]
    for chain in sorted(world.chains):
        feeds = [{"asset": t, "feed": f, "heartbeat_s": HEARTBEAT_S} for t, f in sorted(world.feeds(chain).items())]
        if feeds:
            rows.append({"adapter": "chainlink", "chain": chain, "name": "feeds", "feeds": feeds})
    return rows


def toml(world: World, store_url: str = "", *, rpc: bool = True, **extra: dict[str, Any]) -> str:
    """A whole configuration file; without `rpc` (for replays) no endpoint is written."""
    parts = [f'[store]\nurl = "{store_url}"\n'] if store_url else []
    parts += [f"[{name}]\n" + "".join(f"{k} = {_value(v)}\n" for k, v in body.items()) for name, body in extra.items()]
    for number, chain in sorted(world.chains.items()):
        parts.append(f'[[chains]]\nid = {number}\nfinality = "latest"\nmax_per_s = 100000.0\n')
        if rpc:
            parts.append(f'rpc = ["{chain.url}"]\n')
    for row in deployments(world):
        parts.append("[[deployments]]\n" + "".join(f"{k} = {_value(v)}\n" for k, v in row.items()))
    return "\n".join(parts)


def write(world: World, file: Path, store_url: str, **extra: dict[str, Any]) -> Path:
    file.write_text(toml(world, store_url, **extra), encoding="utf-8")
    return file


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return json.dumps(value)
