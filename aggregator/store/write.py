"""One run, one transaction. Facts go in by the driver's bulk path, positions only where they changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any

from sqlmodel import Session

from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import DomainError, StoreError
from aggregator.core.fixed import column as packed_column
from aggregator.core.fixed import to_float
from aggregator.core.ids import adapter_of, source_of
from aggregator.core.rows import Asset, Row
from aggregator.core.schema import PACK, POSITIONS, SCHEMA
from aggregator.core.table import encode
from aggregator.store import discovery, models
from aggregator.store.asset_versions import AssetVersions
from aggregator.store.checks import by_kind, check_distinct, check_owners
from aggregator.store.database import Raw
from aggregator.store.facts import FACTS, NO_REF, fact_columns
from aggregator.store.names import StoredNames
from aggregator.store.positions import Columns, close_changed, has_open

TargetKey = tuple[str, str, str]  # (market, holder, ref), as sdk.adapter.Target
LEVELS = ("full", "partial", "aggregate", "failed")


class RunWriter:
    """What `Store.write_run` yields; committed as a whole when its block ends, or not at all.

    A deployment that is written to takes part in the cut. Every method checks its input before it writes, so a caller
    may catch DomainError, record a Gap and go on.
    """

    def __init__(self, raw: Raw, cut: Cut, cut_id: int, config_digest: str, replaced: Sequence[int] = ()) -> None:
        self._raw, self._cut, self._cut_id, self._config_digest = raw, cut, cut_id, config_digest
        self._replaced = replaced
        self._names = StoredNames(raw)
        if self._names.codes([""]) != [NO_REF]:
            raise StoreError("the code book does not begin with the empty text", found="a damaged table 'name'")
        self._deployments: dict[str, int] = dict(raw.fetch("SELECT name, id FROM deployment"))
        self._levels: dict[int, tuple[str, int, int]] = {}
        self._assets = AssetVersions(raw, cut)

    @property
    def number(self) -> int:
        """Of the run, and of its cut."""
        return self._cut_id

    # -- who takes part

    def at(self, deployment: str) -> BlockRef:
        """The cut's block of the deployment's source; StoreError if the cut does not hold that source."""
        block = self._cut.at(source_of(deployment))
        if block is None:
            raise StoreError(
                "deployment is not on a source of this cut",
                expected=", ".join(b.source for b in self._cut.blocks),
                found=deployment,
            )
        return block

    def _deployment(self, name: str) -> int:
        block = self.at(name)
        if name not in self._deployments:
            found = max(self._deployments.values(), default=0) + 1
            entity = models.Deployment(
                id=found, name=name, source=block.source, adapter=adapter_of(name),
                config_digest=self._config_digest, first_block=block.number,
            )  # fmt: skip
            with Session(self._raw.connection) as session:
                session.add(entity)
                session.flush()
            self._deployments[name] = found
        code = self._deployments[name]
        self._levels.setdefault(code, ("full", -1, -1))
        return code

    def coverage(self, deployment: str, level: str, accounts_read: int = -1, accounts_known: int = -1) -> None:
        """level full | partial | aggregate | failed (its positions are not part of this cut); -1 = not counted."""
        if level not in LEVELS:
            raise DomainError("unknown coverage level", expected=", ".join(LEVELS), found=level)
        self._levels[self._deployment(deployment)] = (level, accounts_read, accounts_known)

    def keep(self, deployment: str) -> bool:
        """Take over what an earlier run read of a deployment at the very blocks of this cut; False if it failed too."""
        code = self._deployments.get(deployment, 0)
        for known in self._replaced:
            sql = "SELECT level, accounts_read, accounts_known FROM coverage WHERE cut_id = ? AND deployment_id = ?"
            for level, read, total in self._raw.fetch(f"{sql} AND level <> 'failed'", (known, code)):
                for kind in SCHEMA.keys() - POSITIONS:
                    sql = f"UPDATE fact_{kind} SET cut_id = ? WHERE cut_id = ? AND deployment_id = ?"
                    self._raw.execute(sql, (self._cut_id, known, code))
                self._levels[code] = level, read, total
                return True
        return False

    def cursor(self, deployment: str, block: int) -> None:
        """Discovery is complete up to and including block."""
        code = self._deployment(deployment)
        if block > self.at(deployment).number:
            raise DomainError("cursor beyond the cut", expected=f"<= {self.at(deployment).number}", found=str(block))
        self._raw.execute(
            "INSERT INTO cursor (deployment_id, block) VALUES (?, ?) ON CONFLICT DO NOTHING", (code, block)
        )
        discovery.drop(self._raw, deployment)

    # -- rows

    def cut_rows(self, deployment: str, rows: Iterable[Row]) -> None:
        """Rows that hold for this cut alone; assets among them go where `assets` puts them."""
        grouped = by_kind(rows)
        assets: Any = grouped.pop("asset", [])
        for kind in grouped:
            if kind in POSITIONS:
                raise DomainError("a position among the rows of a cut", expected="market rows", found=kind)
        encoded = {kind: encode(kind, found, self._names.codes) for kind, found in grouped.items()}
        code = self._deployment(deployment)
        self.assets(assets)
        for kind, columns in encoded.items():
            self._bulk(kind, {"cut_id": repeat(self._cut_id), "deployment_id": repeat(code)}, columns)

    def positions(self, deployment: str, targets: Iterable[TargetKey], rows: Iterable[Row]) -> None:
        """All rows of the targets that were read. What is unchanged stays, the rest is closed at the cut's block.

        DomainError for a row that belongs to no target read, or two rows for one position. A target without holder and
        ref names a market and owns no position.
        """
        grouped = by_kind(rows)
        encoded: dict[str, Columns] = {}
        read: set[TargetKey] = {target for target in targets if target[1] or target[2]}
        for kind, found in grouped.items():
            if kind not in POSITIONS:
                raise DomainError("not a position", expected=", ".join(POSITIONS), found=kind)
            encoded[kind] = encode(kind, found, self._names.codes)
            check_owners(encoded[kind], found, read, self._names)
            check_distinct(kind, encoded[kind], found)
        code, block = self._deployment(deployment), self.at(deployment).number
        if read and has_open(self._raw, code):
            encoded = close_changed(self._raw, code, block, self._coded(sorted(read)), encoded)
        for kind, columns in encoded.items():
            self._bulk(kind, {"deployment_id": repeat(code), "valid_from": repeat(block)}, columns)

    def targets(self, deployment: str, targets: Iterable[TargetKey], block: int | None = None) -> None:
        """Remember targets; known ones keep their first block. block: the cut's, unless a rebuild says otherwise."""
        code, number = self._deployment(deployment), self.at(deployment).number if block is None else block
        if not (wanted := self._coded(targets)):
            return
        known = set(self._raw.fetch("SELECT market, holder, ref FROM target WHERE deployment_id = ?", (code,)))
        fresh = [row for row in wanted if row not in known]
        columns = ("deployment_id", "market", "holder", "ref", "first_block")
        types = ("INTEGER",) * 4 + ("BIGINT",)
        self._raw.insert("target", columns, types, [(code, *row, number) for row in dict.fromkeys(fresh)])

    def assets(self, assets: Iterable[Asset]) -> None:
        """Token metadata; a change of symbol or decimals closes the old version.

        DomainError for a change of an asset whose source is not in this cut: other cuts read their amounts by it.
        """
        self._assets.write(assets)

    # -- how

    def finish(self) -> None:
        """Write what is known only at the end: who took part, and new names."""
        self._flush_names()
        with Session(self._raw.connection) as session:
            session.add_all(
                models.Coverage(
                    cut_id=self._cut_id, deployment_id=code, level=level, accounts_read=read, accounts_known=known
                )
                for code, (level, read, known) in sorted(self._levels.items())
            )
            session.flush()

    def _flush_names(self) -> None:
        if self._names.added:
            self._raw.insert("name", ("id", "text"), ("INTEGER", "TEXT"), self._names.added)
            self._names.added = []

    def _coded(self, targets: Iterable[TargetKey]) -> list[tuple[int, ...]]:
        ordered = list(targets)
        return list(zip(*(self._names.codes(map(itemgetter(place), ordered)) for place in range(3)), strict=True))

    def _bulk(self, kind: str, leading: dict[str, Any], columns: dict[str, list[Any]]) -> None:
        if not next(iter(columns.values())):
            return
        self._flush_names()
        values: list[Any] = list(leading.values())
        for column in SCHEMA[kind]:
            values.append(columns[column.name])
            if column.type in PACK:
                exact = packed_column(columns[column.name])
                values.append(to_float(exact, signed=column.type == "i256").tolist())
        order = [*leading, *fact_columns(kind)]
        table = FACTS[kind]
        types = [table.c[name].type.compile(dialect=self._raw.connection.dialect) for name in order]
        self._raw.insert(table.name, order, types, zip(*values, strict=False))
