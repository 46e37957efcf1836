"""A stress as plain data. Missing keys change nothing; unknown keys are an error that names the nearest right one."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from aggregator.core.errors import ScenarioError, near_miss, shown

_FIX, _SHIPPED = "docs/engine.md has the conventions and their values", "see config/scenarios/"
# (least, most, what the number is): beyond them a number is a slip of its unit, a percent where a fraction is asked for
_RANGES = {
    "price": (-1.0, 10.0, "a move as a fraction: -0.3 is -30 %"),
    "vol": (-3.0, 3.0, "a move of volatility: 0.2 is 20 points"),
    "depth": (0.0, 1.0, "the share of the depth that is gone: 0.5 is half of it"),
    "depeg": (0.0, 2.0, "a price relative to the backing: 0.94 is 6 % below it"),
}


@dataclass(frozen=True, slots=True)
class Conventions:
    """What an engine has to declare to be comparable.

    rounds            batch (all accounts at the round's opening price) | sequential (by rising health, each at its own)
    profit_test       liquidators act only where the call pays after impact
    capacity_accounts accounts liquidated per round, 0 = no limit
    recovery_frac     share of the depth used so far that comes back between rounds, in [0, 1]
    """

    rounds: str = "batch"
    profit_test: bool = True
    capacity_accounts: int = 0
    max_rounds: int = 200
    recovery_frac: float = 0.0

    def __post_init__(self) -> None:
        if self.rounds not in ("batch", "sequential"):
            raise ScenarioError(
                "unknown kind of round", expected="batch or sequential", found=shown(self.rounds), fix=_FIX
            )
        if self.max_rounds < 1:
            raise ScenarioError("max_rounds must be positive", expected=">= 1", found=str(self.max_rounds), fix=_FIX)
        if self.capacity_accounts < 0:
            found = str(self.capacity_accounts)
            raise ScenarioError("capacity_accounts is negative", expected=">= 0", found=found, fix="0 is no limit")
        if not 0.0 <= self.recovery_frac <= 1.0:
            found = str(self.recovery_frac)
            raise ScenarioError("recovery_frac is out of range", expected="[0, 1]", found=found, fix="0.25 is 25 %")
        object.__setattr__(self, "recovery_frac", float(self.recovery_frac))


@dataclass(frozen=True, slots=True)
class Scenario:
    """Initial blow, by asset id or symbol (in any case; what it means: `snapshot.symbols`).

    price  relative move of the market price, in [-1, 10]
    vol    absolute move of implied volatility of an underlying (0.2 = +20 points), in [-3, 3]
    depth  share of sell depth that is gone, in [0, 1]; key '*' means every asset
    depeg  price of a claim relative to its backing (0.94 = trades 6 % below), in [0, 2]
    """

    name: str
    description: str = ""
    price: Mapping[str, float] = field(default_factory=dict)
    vol: Mapping[str, float] = field(default_factory=dict)
    depth: Mapping[str, float] = field(default_factory=dict)
    depeg: Mapping[str, float] = field(default_factory=dict)
    conventions: Conventions = field(default_factory=Conventions)

    def __post_init__(self) -> None:
        for table in _RANGES:
            for key, value in getattr(self, table).items():
                _check_move(table, key, value)
            # 1 and 1.0, 0 and -0.0 are one move, of one name and in one result
            object.__setattr__(self, table, {key: float(value) + 0.0 for key, value in getattr(self, table).items()})

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def digest(self) -> str:
        """sha-256 of what differs from the defaults: a key that a later version adds renames no scenario of today."""
        return hashlib.sha256(json.dumps(_differing(self), sort_keys=True).encode()).hexdigest()


def _check_move(table: str, key: str, value: Any) -> None:
    low, high, unit = _RANGES[table]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and low <= value <= high:
        return
    fix = f"write {unit}"
    percent = value / 100 if number and 1 < abs(value) < 1e6 else math.nan
    if low <= percent <= high and not (table == "depeg" and percent < 0.5):  # 6 may be meant as 0.94
        fix = f"did you mean {percent:.6g}? It is {unit}"
    raise ScenarioError(
        f"{table}.{key} is out of range" if number else f"{table}.{key} is no number",
        expected=f"a number from {low:g} to {high:g}",
        found=shown(value),
        fix=fix,
    )


def _differing(of: Any) -> dict[str, Any]:
    """Fields of a dataclass that are not at their default, of those in it too; nothing for one that has none."""
    out: dict[str, Any] = {}
    for f in fields(of):
        value = getattr(of, f.name)
        default = f.default if f.default_factory is MISSING else f.default_factory()
        if value != default:
            out[f.name] = _differing(value) if is_dataclass(value) else value
    return out


def load_scenario(path: Path) -> Scenario:
    """Read a scenario TOML; ScenarioError names the key, what was expected and the nearest right key."""
    try:
        data = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError, as a long number is
        raise ScenarioError(
            f"cannot read scenario {path.name}", expected="a TOML file", found=str(error), fix=_SHIPPED
        ) from error
    return parse_scenario(data)


def parse_scenario(data: Mapping[str, Any]) -> Scenario:
    """Plain mapping (TOML or JSON) -> Scenario; ScenarioError on unknown keys, wrong types and numbers out of range."""
    _known("scenario", data, [f.name for f in fields(Scenario)])
    inner = data.get("conventions", {})
    if not isinstance(inner, Mapping):
        raise ScenarioError("conventions is not a table", expected="[conventions]", found=shown(inner), fix=_FIX)
    _known("conventions", inner, [f.name for f in fields(Conventions)])
    for f in fields(Conventions):
        value = inner.get(f.name, f.default)
        kind = {"str": str, "bool": bool, "int": int, "float": (int, float)}[str(f.type)]
        if not isinstance(value, kind) or (isinstance(value, bool) and f.type != "bool"):  # type: ignore[arg-type]
            what = f"conventions.{f.name} has the wrong type"
            raise ScenarioError(what, expected=str(f.type), found=shown(value), fix=_FIX)
    if not isinstance(data.get("name"), str) or not data["name"]:
        raise ScenarioError(
            "scenario has no name", expected="name = '...'", found=shown(data.get("name")), fix="add one"
        )
    if not isinstance(data.get("description", ""), str):
        found = shown(data["description"])
        raise ScenarioError(
            "description is no text", expected="description = '...'", found=found, fix="put it in quotes"
        )
    for table in _RANGES:
        if not isinstance(data.get(table, {}), Mapping):
            found = shown(data[table])
            raise ScenarioError(
                f"{table} is not a table", expected=f"[{table}] asset = move", found=found, fix=_SHIPPED
            )
    return Scenario(**{**data, "conventions": Conventions(**inner)})


def _known(where: str, data: Mapping[str, Any], names: list[str]) -> None:
    for key in data:
        if key not in names:
            raise ScenarioError(
                f"unknown key {key!r} in {where}",
                expected=", ".join(names),
                found=key,
                fix=near_miss(key, names, _SHIPPED),
            )
