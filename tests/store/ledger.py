"""A toy chain with positions, a collector that reads it as ingest does, and the logical content of a store."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from aggregator.core.block import BlockRef, Cut
from aggregator.core.rows import AccountTerm, Asset, Exposure, Index, Market, Price, Row
from aggregator.core.schema import SCHEMA
from aggregator.store import Store

Key = tuple[str, str, str]


@dataclass
class Chain:
    """Events by block; a reorg forgets those above the fork and mines other ones."""

    source: str
    branch: int = 0
    events: list[tuple[int, Key, int]] = field(default_factory=list)  # block, target, new value (0 closes)
    hashes: dict[int, str] = field(default_factory=dict)
    head: int = 0

    @property
    def deployment(self) -> str:
        return f"{self.source}/aave_v3/core"

    def mine(self, rng: random.Random, blocks: int) -> None:
        for number in range(self.head + 1, self.head + blocks + 1):
            self.hashes[number] = f"{self.branch}:{number}"
            for _ in range(rng.randrange(3)):
                holder, ref = rng.choice([("a", ""), ("b", ""), ("c", ""), ("", "7"), ("", "8")])
                self.events.append((number, (self.deployment, holder, ref), rng.randrange(4)))
        self.head += blocks

    def reorg(self, fork: int) -> None:
        self.branch += 1
        self.head = fork
        self.events = [event for event in self.events if event[0] <= fork]

    def at(self, number: int) -> BlockRef:
        return BlockRef(self.source, number, self.hashes[number], 1000 + number, "latest")

    def rows(self, target: Key, upto: int) -> list[Row]:
        value = next((e[2] for e in reversed(self.events) if e[1] == target and e[0] <= upto), 0)
        if not value:
            return []
        market, holder, ref = target
        holder = holder or f"owner{value}"
        rows: list[Row] = [Exposure(market, holder, ref, f"{self.source}/x", "debt", value)]
        if value > 1:
            rows.append(Exposure(market, holder, ref, f"{self.source}/x", "supply", value - 1, bytes((value,))))
        if value == 3:
            rows.append(AccountTerm(market, holder, ref, "emode", -value))
        return rows


def collect(store: Store, chains: dict[str, Chain], at: dict[str, int], broken: set[str]) -> None:
    """One run at these blocks. A chain in `broken` fails after its discovery: its cursor stays."""
    cut = Cut.of([chains[source].at(number) for source, number in at.items()])
    with store.write_run(cut, version="1") as run:
        for source, number in sorted(at.items()):
            chain, name = chains[source], chains[source].deployment
            since = store_cursor(run, name)
            touched = sorted({e[1] for e in chain.events if since < e[0] <= number})
            changes = len([e for e in chain.events if e[0] <= number])
            run.cut_rows(
                name,
                [
                    Market(name, "lending", "r@1", ""),
                    Index(name, f"{source}/x", "debt", 10 + changes, 10, "up"),
                    Price("", f"{source}/x", "iso4217:USD", changes + 1, 8, "feed", 0, 0),
                    Asset(f"{source}/x", f"X{changes % 3}", 6),
                ],
            )
            if source in broken:
                run.coverage(name, "failed")
                continue
            run.targets(name, touched)
            run.positions(name, touched, [row for target in touched for row in chain.rows(target, number)])
            run.cursor(name, number)


def store_cursor(run: Any, deployment: str) -> int:
    sql = "SELECT max(block) FROM cursor JOIN deployment d ON d.id = deployment_id WHERE d.name = ?"
    found = run._raw.fetch(sql, (deployment,))[0][0]
    return -1 if found is None else int(found)


def content(store: Store, *, of_cuts: bool = True) -> dict[str, list[Any]]:
    """All that a store says, codes resolved; without what belongs to single cuts if not of_cuts."""
    with store._reader() as raw:
        runs = dict(raw.fetch("SELECT id, digest FROM run"))
        out: dict[str, list[Any]] = {}
        for kind, columns in SCHEMA.items():
            names = ", ".join(f'"{c.name}"' for c in columns)
            life = "valid_from, valid_to" if kind in ("exposure", "perp", "option", "account_term") else "cut_id"
            rows = raw.fetch(f"SELECT {life}, deployment, {names} FROM v_{kind}")
            if life != "cut_id":
                out[kind] = rows
            elif of_cuts:
                out[kind] = [(runs[row[0]], *row[1:]) for row in rows]
        tables = {
            "asset": "asset, valid_from, valid_to, source, symbol, decimals, name, src FROM asset",
            "deployment": "name, source, adapter, config_digest, first_block FROM deployment",
            "cursor": "d.name, block FROM cursor JOIN deployment d ON d.id = deployment_id",
            "target": "d.name, m.text, h.text, r.text, t.first_block FROM target t"
            " JOIN deployment d ON d.id = t.deployment_id"
            " JOIN name m ON m.id = t.market JOIN name h ON h.id = t.holder JOIN name r ON r.id = t.ref",
        }
        of_a_cut = {
            "run": "digest, version, config_digest, started_s, time_s FROM run",
            "block": "run.digest, source, number, hash, b.time_s, finality FROM block b JOIN run ON run.id = b.cut_id",
            "coverage": "run.digest, d.name, level, accounts_read, accounts_known FROM coverage c"
            " JOIN run ON run.id = c.cut_id JOIN deployment d ON d.id = c.deployment_id",
            "stress": "job, cut_digest, result FROM stress",
        }
        for name, query in (tables | of_a_cut if of_cuts else tables).items():
            out[name] = raw.fetch(f"SELECT {query}")
    return {name: sorted(rows, key=repr) for name, rows in out.items()}
