"""The store: what all runs have read, on SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from sqlalchemy import Connection, Engine
from sqlmodel import Session, select

from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import DatabaseError, StoreError
from aggregator.core.rows import Asset
from aggregator.core.table import RawTable
from aggregator.store import discovery, migrate, models, read, rewind
from aggregator.store.database import (
    BUSY_TIMEOUT_S,
    Raw,
    file_of,
    frozen_engine,
    one_writer,
    open_engine,
    parse_url,
    unchanged,
    write_ahead,
)
from aggregator.store.discovery import StoredDiscovery
from aggregator.store.read import StoredCoverage, StoredCut
from aggregator.store.write import RunWriter, TargetKey

_WRITERS_LOCK = 0x5350494C4C  # any number that only we use: PostgreSQL's advisory lock of the one writer


class Store:
    """Synchronous; one writer at a time, any number of readers. Every method is one transaction.

    Driver failures are StoreError. A database of a newer version is refused before anything is written to it. One that
    is not there yet, or holds no table, reads as an empty store and is made by the first writer. One whose file or disk
    takes no writing can still be read (`database.frozen_engine`).
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = self._reads = engine
        self._revision: str | None = None  # None: nothing is there yet
        self._unwritable: DatabaseError | None = None

    @classmethod
    def open(cls, url: str) -> Store:
        """sqlite:///relative/path, sqlite:////absolute/path, sqlite:// (in memory), postgresql://..."""
        store = cls(open_engine(parse_url(url)))
        try:
            store._look()
        except BaseException:
            store.close()
            raise
        return store

    @property
    def unwritable(self) -> str:
        """Why it can be read alone, '' where nothing is known against writing."""
        return "" if self._unwritable is None else self._unwritable.found

    def migrate(self, *, writing: bool = True) -> None:
        """Bring the schema to head, atomically.

        writing: for one who will write. A database that is empty is then created, and one that cannot be written is
        refused; for others the one stays as it is, and the other is only refused where its schema is older.
        """
        if writing and self._unwritable is not None:
            raise self._unwritable
        if self._revision == migrate.head() or (self._revision is None and not writing):
            return
        with migrate.translated(self._engine):
            write_ahead(self._engine)
        with self._lock() as connection:
            migrate.upgrade(connection)
        self._revision = migrate.head()

    def _look(self) -> None:
        """Which schema is there; for a file that cannot be opened as usual, whether it can be read without writing."""
        file = file_of(self._engine.url)
        if file is not None and (not file.exists() or file.stat().st_size == 0):
            self._revision = None
            return
        try:
            if file is not None:
                migrate.check_file(file)
            with self._connect() as connection:
                self._revision = migrate.current(connection)
        except DatabaseError as error:
            if file is None or not migrate.for_want_of_writing(error):
                raise
            self._reads, self._unwritable = frozen_engine(file), error
            try:
                with self._connect() as connection:
                    self._revision = migrate.current(connection)
            except DatabaseError:
                raise error from None

    def close(self) -> None:
        for engine in {self._engine, self._reads}:
            engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- writing

    @contextmanager
    def write_run(
        self, cut: Cut, *, version: str = "", config_digest: str = "", started_s: int = 0
    ) -> Iterator[RunWriter]:
        """One run, one transaction; an exception inside leaves the previous run whole. The same cut again replaces it.

        StoreError if the cut is older than what is stored, or another branch of it (rewind first).
        """
        if not cut.blocks or len({block.source for block in cut.blocks}) < len(cut.blocks):
            raise StoreError(
                "a cut is one block of each source",
                expected="at least one source, none twice",
                found=", ".join(block.source for block in cut.blocks) or "no block",
            )
        with self._writer() as connection:
            raw = Raw(connection)
            self._check_follows(raw, cut)
            used = "SELECT id FROM run UNION SELECT cut_id FROM block"  # those replaced too: readers tell them apart
            cut_id = 1 + int(raw.fetch(f"SELECT coalesce(max(id), 0) FROM ({used}) AS used")[0][0])
            replaced = [known for (known,) in raw.fetch("SELECT id FROM run WHERE digest = ?", (cut.digest,))]
            for known in replaced:  # its rows go at the end: the writer may keep some
                raw.execute("DELETE FROM run WHERE id = ?", (known,))
                raw.execute("DELETE FROM block WHERE cut_id = ?", (known,))
                raw.execute("DELETE FROM stress WHERE cut_digest = ?", (cut.digest,))
            run = models.Run(
                id=cut_id, digest=cut.digest, version=version, config_digest=config_digest,
                started_s=started_s, time_s=cut.time_s,
            )  # fmt: skip
            with Session(connection) as session:
                session.add_all([run, *(models.Block(cut_id=cut_id, **block._asdict()) for block in cut.blocks)])
                session.flush()
            writer = RunWriter(raw, cut, cut_id, config_digest, replaced)
            yield writer
            for known in replaced:
                rewind.drop_cut(raw, known)
            writer.finish()

    def rewind(self, source: str, fork_number: int) -> list[int]:
        """Forget every block of source above fork_number; numbers of the cuts dropped."""
        with self._writer() as connection:
            return rewind.rewind(Raw(connection), source, fork_number)

    def save_discovery(self, deployment: str, at: BlockRef, block: int, targets: Iterable[TargetKey]) -> None:
        """Logs up to block are read, seen from `at`; targets: what was found since the last call. A run clears it."""
        with self._writer() as connection:
            discovery.save(Raw(connection), deployment, at, block, targets)

    def drop_discovery(self, deployment: str) -> None:
        with self._writer() as connection:
            discovery.drop(Raw(connection), deployment)

    def save_stress(self, job: str, cut_digest: str, scenario_digest: str, version: str, result: bytes) -> None:
        """Keep the JSON bytes of a StressResult under its job digest; the same job again replaces it."""
        stress = models.Stress(
            job=job, cut_digest=cut_digest, scenario_digest=scenario_digest, version=version, result=result
        )
        with self._writer() as connection, Session(connection) as session:
            session.merge(stress)
            session.flush()

    # -- reading

    def cuts(self) -> list[StoredCut]:
        """Newest first."""
        with self._reader() as raw:
            return read.cuts(raw)

    def latest_cut(self) -> StoredCut | None:
        return next(iter(self.cuts()), None)

    def cut(self, at: str | int) -> StoredCut:
        """By number, digest or an unambiguous start of a digest; StoreError otherwise."""
        cuts = self.cuts()
        found = [c for c in cuts if (c.number == at if isinstance(at, int) else c.cut.digest.startswith(at) and at)]
        if len(found) != 1:
            raise StoreError(
                "no such cut" if not found else "several cuts begin so",
                expected="a cut's number or digest: " + ", ".join(f"{c.number} {c.cut.digest[:12]}" for c in cuts[:5]),
                found=str(at),
                fix="`spillover collect` makes one" if not cuts else "give more of the digest",
            )
        return found[0]

    def blocks(self, source: str) -> list[BlockRef]:
        """Every block of the source that something stored was read at, newest first: where to look for a fork."""
        sql = "SELECT DISTINCT source, number, hash, time_s, finality FROM block WHERE source = ? ORDER BY number DESC"
        with self._reader() as raw:
            return [BlockRef(*row) for row in raw.fetch(sql, (source,))]

    def read(self, cut: Cut) -> dict[str, RawTable]:
        """Every kind of `core.schema` as columns; feed to `snapshot.build`."""
        with self._reader() as raw:
            return read.tables(raw, _number(raw, cut), cut)

    def assets(self, cut: Cut) -> list[Asset]:
        with self._reader() as raw:
            return read.assets(raw, cut)

    def coverage(self, cut: Cut) -> list[StoredCoverage]:
        with self._reader() as raw:
            return read.coverage(raw, _number(raw, cut))

    def load(self, cut: Cut) -> tuple[dict[str, RawTable], list[Asset], list[StoredCoverage]]:
        """`read`, `assets` and `coverage` of one moment: a run at the same cut may replace them at any time."""
        with self._reader() as raw:
            number = _number(raw, cut)
            return read.tables(raw, number, cut), read.assets(raw, cut), read.coverage(raw, number)

    def cursor(self, deployment: str) -> int | None:
        """Block up to which discovery is complete, None if it never was."""
        with self._reader() as raw:
            sql = "SELECT max(block) FROM cursor JOIN deployment d ON d.id = deployment_id WHERE d.name = ?"
            found: int | None = raw.fetch(sql, (deployment,))[0][0]
            return found

    def discovery(self, deployment: str) -> StoredDiscovery | None:
        """Where a discovery that no run has finished can go on."""
        with self._reader() as raw:
            return discovery.load(raw, deployment)

    def discoveries(self, source: str) -> dict[str, tuple[int, BlockRef]]:
        """Unfinished ones of a source: deployment -> (block reached, block it was seen from)."""
        with self._reader() as raw:
            return discovery.under_way(raw, source)

    def known_targets(self, deployment: str, upto_block: int | None = None) -> list[TargetKey]:
        """Sorted (market, holder, ref) first seen at or below upto_block."""
        sql = (
            "SELECT m.text, h.text, r.text FROM target t JOIN deployment d ON d.id = t.deployment_id"
            " JOIN name m ON m.id = t.market JOIN name h ON h.id = t.holder JOIN name r ON r.id = t.ref"
            " WHERE d.name = ? AND t.first_block <= ?"
        )
        with self._reader() as raw:
            rows = raw.fetch(sql, (deployment, 2**63 - 1 if upto_block is None else upto_block))
        return sorted((market, holder, ref) for market, holder, ref in rows)

    def hidden(self, deployment: str) -> set[str]:
        """Accounts and positions that a Gap of the last run hid, as it names them (`Target.subject`)."""
        sql = (
            "SELECT n.text FROM fact_gap g JOIN name n ON n.id = g.subject JOIN deployment d ON d.id = g.deployment_id"
            " WHERE d.name = ? AND g.cut_id = (SELECT max(c.cut_id) FROM coverage c"
            " WHERE c.deployment_id = d.id AND c.level <> 'failed')"
        )
        with self._reader() as raw:
            return {subject for (subject,) in raw.fetch(sql, (deployment,)) if "#" in subject}

    def stress(self, job: str) -> bytes | None:
        with self._reader() as raw, Session(raw.connection) as session:
            found = session.get(models.Stress, job)
            return found.result if found else None

    # -- transactions

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        with migrate.translated(self._reads), unchanged(self._reads), self._reads.connect() as connection:
            yield connection

    @contextmanager
    def _reader(self) -> Iterator[Raw]:
        if self._revision != migrate.head():
            self._look()  # somebody else may have made it meanwhile
        if self._revision is None:
            with _nothing()._reader() as raw:
                yield raw
            return
        if self._revision != migrate.head():
            raise StoreError(
                "the database has no current schema", expected=migrate.head(), found="older", fix="Store.migrate()"
            )
        with self._connect() as connection, connection.begin():
            yield Raw(connection)

    @contextmanager
    def _writer(self) -> Iterator[Connection]:
        self.migrate()
        with self._lock() as connection:
            yield connection

    @contextmanager
    def _lock(self) -> Iterator[Connection]:
        """A transaction that no other writer is in."""
        options: dict[str, Any] = {"spillover_write": True}
        if self._engine.dialect.name == "postgresql":
            options["isolation_level"] = "READ COMMITTED"  # to see what the writer before us committed while we waited
        engine = self._engine.execution_options(**options)
        with one_writer(engine), migrate.translated(engine), engine.connect() as connection, connection.begin():
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{int(BUSY_TIMEOUT_S * 1000)}ms'")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS_LOCK})")
            yield connection

    @staticmethod
    def _check_follows(raw: Raw, cut: Cut) -> None:
        for block in cut.blocks:
            newer = raw.fetch(
                "SELECT number, hash FROM block WHERE source = ?"
                " AND (number > ? OR (number = ? AND hash <> ?)) ORDER BY number DESC LIMIT 1",
                (block.source, block.number, block.number, block.hash),
            )
            if newer:
                raise StoreError(
                    f"{block.source} has been read at a later block, or at another block of this number",
                    expected=f"after {newer[0][0]} {newer[0][1]}",
                    found=f"{block.number} {block.hash}",
                    fix="another run was faster, or the chain was reorganised meanwhile: run again",
                )


@cache
def _nothing() -> Store:
    """What a database without a table holds."""
    store = Store(open_engine(parse_url("sqlite://")))
    store.migrate()
    return store


def _number(raw: Raw, cut: Cut) -> int:
    with Session(raw.connection) as session:
        found = session.exec(select(models.Run.id).where(models.Run.digest == cut.digest)).first()
    if found is None:
        raise StoreError("no such cut", expected="a cut of Store.cuts()", found=cut.digest, fix="`spillover collect`")
    return found
