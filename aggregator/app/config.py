"""Configuration: TOML plus environment overrides, checked whole before anything runs.

    --config FILE, else ./config/default.toml, else the file that ships with the package
    SPILLOVER_RPC_<chain id>   comma-separated endpoints, replaces the chain's `rpc`
    SPILLOVER_STORE_URL        replaces store.url

`deployments_dir` (relative to the file) adds one file per adapter, each with its own [[deployments]].
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from aggregator.app.address import typed_address
from aggregator.core.errors import ConfigError, near_miss, shown
from aggregator.core.ids import chain_source, venue_source

_TOML_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "str": ((str,), "a text in quotes"),
    "str | int": ((str, int), "a text in quotes or a whole number"),
    "tuple[str, ...]": ((list, tuple), "a list of texts: ['...']"),
}
_SECRET = ("rpc", "url")  # may carry a key: never shown
_LEAST: dict[str, float] = {"id": 1, "slice_size": 1, "concurrency": 1, "interval_s": 1, "start_block": 0,
                            "max_per_s": 0, "timeout_s": 0, "deadline_s": 0, "allowed_gap_frac": 0}  # fmt: skip
_ABOVE = ("max_per_s", "timeout_s", "deadline_s")  # zero would wait for ever or never
HERE = "%(here)s"  # in store.url: the folder of the configuration, as in Alembic's
MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11"


@dataclass(frozen=True, slots=True)
class StoreConfig:
    url: str = "sqlite:///spillover.db"


@dataclass(frozen=True, slots=True)
class ChainConfig:
    """finality: finalized | safe | latest | number of blocks behind the head. multicall '' = none on this chain."""

    id: int
    rpc: tuple[str, ...] = ()
    name: str = ""
    finality: str | int = "finalized"
    multicall: str = MULTICALL3
    max_per_s: float = 50.0
    timeout_s: float = 30.0
    deadline_s: float = 600.0

    @property
    def source(self) -> str:
        return chain_source(self.id)


@dataclass(frozen=True, slots=True)
class VenueConfig:
    """A source that is not a chain, read by public HTTP; its own time is at time_pointer of GET time_path."""

    name: str
    url: str = ""
    max_per_s: float = 5.0
    timeout_s: float = 30.0
    time_path: str = "public/get_time"
    time_pointer: str = "/result"
    time_unit: str = "ms"

    @property
    def source(self) -> str:
        return venue_source(self.name)


@dataclass(frozen=True, slots=True)
class DeploymentConfig:
    """options: everything else in the row, handed to the adapter as it stands. file: where the row stands."""

    adapter: str
    name: str
    source: str
    start_block: int = 0
    addresses: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""


@dataclass(frozen=True, slots=True)
class CollectConfig:
    """slice_size: targets per `read`.

    allowed_gap_frac: share of unread accounts above which `collect` and `stress` exit with 3.
    """

    slice_size: int = 500
    concurrency: int = 4
    allowed_gap_frac: float = 0.05


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """interval_s between runs; scenarios: names or files stressed after each."""

    interval_s: int = 3600
    scenarios: tuple[str, ...] = ("eth_down_30",)


@dataclass(frozen=True, slots=True)
class ReplayConfig:
    """recording: file whose answers stand in for every endpoint."""

    recording: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    store: StoreConfig = field(default_factory=StoreConfig)
    chains: tuple[ChainConfig, ...] = ()
    venues: tuple[VenueConfig, ...] = ()
    deployments: tuple[DeploymentConfig, ...] = ()
    collect: CollectConfig = field(default_factory=CollectConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    path: Path = field(default_factory=Path)

    def chain(self, chain: int) -> ChainConfig:
        for c in self.chains:
            if c.id == chain:
                return c
        raise ConfigError(
            f"chain {chain} is not configured",
            expected=", ".join(str(c.id) for c in self.chains) or "[[chains]]",
            found=str(chain),
            fix=f"add [[chains]] id = {chain} to {self.path.name}",
        )

    def readable(self) -> Config:
        """Only the sources that have an endpoint, and their deployments."""
        if self.replay.recording:
            return self
        chains = tuple(c for c in self.chains if c.rpc)
        sources = {c.source for c in chains} | {v.source for v in self.venues if v.url}
        return replace(self, chains=chains, deployments=tuple(d for d in self.deployments if d.source in sources))


def data_dir(name: str) -> Path:
    """`config`, `migrations` or `benchmarks`, from the installed package or, where it has none, from the checkout."""
    root = Path(__file__).resolve().parents[2]
    checkout, packaged = root / name, Path(__file__).resolve().parents[1] / "_data" / name
    return packaged if packaged.is_dir() else checkout


def find_config(path: Path | None) -> Path:
    if path is not None:
        if not path.is_file():
            raise ConfigError(
                "configuration file not found", expected="a readable TOML file", found=str(path), fix="check --config"
            )
        return path
    local = Path("config/default.toml")
    return local if local.is_file() else data_dir("config") / "default.toml"


def load_config(path: Path | None = None, env: Mapping[str, str] = os.environ) -> Config:
    """Read and check; ConfigError says what was expected, found and to be done."""
    file = find_config(path)
    data = _read_toml(file)
    rows = [(row, file) for row in _table_list(data, "deployments", file)]
    if directory := data.pop("deployments_dir", ""):
        folder = file.parent / str(directory)
        if not folder.is_dir():
            raise ConfigError(
                "deployments_dir is not a folder", expected="a folder of TOML files", found=str(directory)
            )
        for part in sorted(folder.glob("*.toml")):
            rows += [(row, part) for row in _table_list(_read_toml(part), "deployments", part)]
    return _build(data, rows, file, env)


def parse_config(data: Mapping[str, Any], env: Mapping[str, str] | None = None) -> Config:
    """The same from a plain mapping."""
    file = Path("config.toml")
    rows = [(row, file) for row in _table_list(data, "deployments", file)]
    return _build(dict(data), rows, file, env or {})


def _build(
    data: dict[str, Any], rows: Sequence[tuple[Mapping[str, Any], Path]], file: Path, env: Mapping[str, str]
) -> Config:
    """rows: of [[deployments]], each with the file that it stands in."""
    known = ("store", "chains", "venues", "deployments", "collect", "schedule", "replay")
    _check_keys(file.name, data, known)
    chains = tuple(_chain(row, file, env) for row in _table_list(data, "chains", file))
    _unique([str(c.id) for c in chains], "chain id")
    venues = tuple(_section(VenueConfig, row, f"{file.name} [[venues]]") for row in _table_list(data, "venues", file))
    deployments = tuple(_deployment(row, part) for row, part in rows)
    _unique([f"{d.adapter} {d.name} on {d.source}" for d in deployments], "deployment")
    asked = [d for d in deployments if d.addresses]
    _unique([f"{d.adapter} on {d.source} with {_told(d)}" for d in asked], "what a deployment reads")
    store = _section(StoreConfig, data.get("store", {}), f"{file.name} [store]")
    store = StoreConfig(store.url.replace(HERE, str(file.parent.resolve())))
    if url := env.get("SPILLOVER_STORE_URL"):
        store = StoreConfig(url)
    config = Config(
        store=store,
        chains=chains,
        venues=venues,
        deployments=deployments,
        collect=_section(CollectConfig, data.get("collect", {}), f"{file.name} [collect]"),
        schedule=_section(ScheduleConfig, data.get("schedule", {}), f"{file.name} [schedule]"),
        replay=_section(ReplayConfig, data.get("replay", {}), f"{file.name} [replay]"),
        path=file,
    )
    sources = {c.source for c in chains} | {v.source for v in venues}
    for d in deployments:
        if d.source not in sources:
            raise ConfigError(
                f"deployment {d.adapter}/{d.name} of {d.file} names a source that is not configured",
                expected=", ".join(sorted(sources)) or "a [[chains]] entry",
                found=d.source,
                fix=f"add {_section_of(d.source)} to {file.name}",
            )
    return config


def _section_of(source: str) -> str:
    """What a configuration says of a chain or venue, at least."""
    kind, _, name = source.partition(":")
    return f"[[chains]] id = {name}" if kind == "eip155" else f'[[venues]] name = "{name}"'


def _chain(row: Mapping[str, Any], file: Path, env: Mapping[str, str]) -> ChainConfig:
    chain: ChainConfig = _section(ChainConfig, row, f"{file.name} [[chains]]")
    urls = [u.strip() for u in env.get(f"SPILLOVER_RPC_{chain.id}", "").split(",") if u.strip()]
    if urls:
        chain = replace(chain, rpc=tuple(urls))
    if isinstance(chain.finality, str) and chain.finality not in ("finalized", "safe", "latest"):
        raise ConfigError(
            f"chain {chain.id} has an unknown finality",
            expected="finalized, safe, latest or a number of blocks behind the head",
            found=shown(chain.finality),
        )
    if isinstance(chain.finality, int) and chain.finality < 0:
        raise ConfigError("finality counts blocks behind the head", expected=">= 0", found=str(chain.finality))
    for url in chain.rpc:
        if not url.startswith(("http://", "https://")):
            scheme, is_url, _ = url.partition("://")
            raise ConfigError(
                f"chain {chain.id} has an endpoint that is not HTTP",
                expected="http://... or https://...",
                found=f"{scheme}://***" if is_url else "no scheme",
                fix=f"check rpc and SPILLOVER_RPC_{chain.id}",
            )
    if chain.multicall:
        _address(chain.multicall, f"{file.name} [[chains]] {chain.id}: multicall")
    return chain


def _deployment(row: Mapping[str, Any], file: Path) -> DeploymentConfig:
    where = f"{file.name} [[deployments]]"
    row = dict(row)
    for key in ("adapter", "name"):
        if not isinstance(row.get(key), str) or not row[key]:
            raise ConfigError(f"{where}: {key} is missing", expected=f"{key} = '...'", found=shown(row.get(key)))
        if "/" in row[key] or "#" in row[key]:  # they part the ids that are made of it
            raise ConfigError(f"{where}: {key} has a / or #", expected="a plain word", found=row[key])
    chain, venue = row.pop("chain", None), row.pop("venue", None)
    if isinstance(chain, int) and not isinstance(chain, bool):
        source = chain_source(chain)
    elif isinstance(venue, str):
        source = venue_source(venue)
    else:
        raise ConfigError(
            f"{where}: {row['adapter']}/{row['name']} says neither chain nor venue",
            expected="chain = <EIP-155 id> or venue = '<name>'",
            found=shown(chain if venue is None else venue),
        )
    addresses = row.pop("addresses", {})
    if not isinstance(addresses, Mapping):
        raise ConfigError(
            f"{where}: addresses is not a table", expected="addresses = { key = '0x...' }", found=shown(addresses)
        )
    start = row.pop("start_block", 0)
    if not isinstance(start, int) or isinstance(start, bool) or start < 0:
        raise ConfigError(f"{where}: start_block is not a block number", expected=">= 0", found=shown(start))
    name = row.pop("name")
    return DeploymentConfig(
        adapter=row.pop("adapter"),
        name=name,
        source=source,
        start_block=start,
        addresses={k: _address(str(v), f"{where} {name}: addresses.{k}") for k, v in addresses.items()},
        options=row,
        file=str(file),
    )


def _section(kind: type[Any], row: Any, where: str) -> Any:
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where} is not a table", expected="key = value", found=type(row).__name__)
    _check_keys(where, row, [f.name for f in fields(kind)])
    values: dict[str, Any] = {}
    for f in fields(kind):
        if f.name not in row:
            continue
        value = row[f.name]
        allowed, words = _TOML_TYPES[str(f.type)]
        texts = not isinstance(value, list) or all(isinstance(part, str) for part in value)
        if not isinstance(value, allowed) or isinstance(value, bool) or not texts:
            found = type(value).__name__ if f.name in _SECRET else shown(value)
            raise ConfigError(f"{where}: {f.name} has the wrong type", expected=words, found=found)
        _check_number(where, f.name, value)
        values[f.name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**values)
    except TypeError:
        missing = [f.name for f in fields(kind) if f.name not in values]
        raise ConfigError(f"{where} lacks a key", expected=", ".join(missing), found=", ".join(row)) from None


def _check_number(where: str, name: str, value: Any) -> None:
    if (least := _LEAST.get(name)) is None:
        return
    if not math.isfinite(value) or value < least or (name in _ABOVE and value == 0):
        wanted = f"a number above {least}" if name in _ABOVE else f"a number from {least}"
        raise ConfigError(f"{where}: {name} is out of range", expected=wanted, found=shown(value))


def _address(text: str, where: str) -> str:
    try:
        return typed_address(text)
    except ConfigError as error:
        raise ConfigError(f"{where} is {error.message}", expected=error.expected, found=text, fix=error.fix) from None


def _check_keys(where: str, row: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in row:
        if key not in known:
            raise ConfigError(
                f"unknown key {key!r} in {where}",
                expected=", ".join(known),
                found=key,
                fix=near_miss(key, known, "remove it"),
            )


def _table_list(data: Mapping[str, Any], key: str, file: Path) -> list[Mapping[str, Any]]:
    rows = data.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(r, Mapping) for r in rows):
        found = f"[{key}]" if isinstance(rows, Mapping) else type(rows).__name__
        raise ConfigError(f"{key} in {file.name} is not a list of tables", expected=f"[[{key}]]", found=found)
    return rows


def _told(deployment: DeploymentConfig) -> str:
    """Its addresses and options, the same text for the same ones."""
    told = {**deployment.addresses, **deployment.options}
    return ", ".join(f"{key} = {told[key]}" for key in sorted(told))


def _unique(names: Sequence[str], what: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{what} is configured twice", expected="once", found=name)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError, as a long number is
        raise ConfigError(
            f"cannot read {file.name}", expected="a TOML file", found=str(error), fix="see config/default.toml"
        ) from error
