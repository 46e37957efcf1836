"""Engines, and the raw driver below them for facts: executemany on SQLite, binary COPY on PostgreSQL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Connection, Engine, StaticPool, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import NullPool, QueuePool

from aggregator.core.errors import ConfigError, StoreError

try:
    import fcntl
except ImportError:  # no such locks on Windows: BEGIN IMMEDIATE alone keeps writers apart
    fcntl = None  # type: ignore[assignment]

BUSY_TIMEOUT_S = 30.0
_SQLITE_VARIABLES = 500  # of one statement; every build of SQLite allows 999
_PG_TYPES = {"INTEGER": "int4", "BIGINT": "int8", "TEXT": "text", "BYTEA": "bytea", "DOUBLE PRECISION": "float8"}
# Behind a pooler such as PgBouncer in transaction mode the next transaction may run on another server connection, which
# does not know what was prepared on this one. SQL_ASCII stores bytes as they come, so it holds UTF-8 as we send it.
_PG_ARGUMENTS = {"prepare_threshold": None, "client_encoding": "utf8"}
_PG_ENCODINGS = ("UTF8", "SQL_ASCII")


def parse_url(url: str) -> URL:
    """sqlite:///file, sqlite:// (in memory) or postgresql://...; ConfigError for anything else."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(
            "cannot use this database",
            expected="sqlite:///path or postgresql://user@host/database",
            found=parsed.render_as_string(hide_password=True) if parsed else "not a URL",
            fix="set [store] url",
        )
    return parsed.set(drivername="postgresql+psycopg" if parsed.get_backend_name() == "postgresql" else "sqlite")


def open_engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        try:
            engine = create_engine(
                url, isolation_level="REPEATABLE READ", pool_size=2, pool_pre_ping=True, connect_args=_PG_ARGUMENTS
            )
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise StoreError(
                "PostgreSQL needs its driver",
                expected="psycopg",
                found=str(error),
                fix="pip install 'spillover[postgres]'",
            ) from error
        event.listen(engine, "connect", _check_encoding)
        return engine
    file = file_of(url)
    if file is not None and not file.resolve().parent.is_dir():
        raise StoreError(
            "the folder of the database does not exist",
            expected="an existing folder",
            found=str(file.resolve().parent),
            fix="create it or set [store] url",
        )
    engine = create_engine(
        url,
        poolclass=StaticPool if file is None else QueuePool,  # opening and, above all, closing the last one costs files
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        # The driver would begin transactions by itself, and not before DDL: we begin them, below.
        connection.isolation_level = None
        # Up to SQLite 3.51.2 two connections that commit and checkpoint one log at once can lose a commit
        # (sqlite.org/changes.html, 3.51.3): SQLite checkpoints at a commit, so it may under `one_writer`'s lock alone.
        if fcntl is None:
            connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA temp_store=MEMORY")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("spillover_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _check_encoding(connection: Any, _record: object) -> None:
    """Token names come from anybody, in any script: StoreError for a database that cannot hold them."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in _PG_ENCODINGS:
        name = connection.info.dbname
        raise StoreError(
            "the database cannot hold every text",
            expected="a database in UTF8",
            found=f"{name} is in {encoding}",
            fix=f"createdb --encoding=UTF8 --template=template0 {name}_utf8, and name it in [store] url",
        )


def frozen_engine(file: Path) -> Engine:
    """Reads a SQLite file and nothing beside it: SQLite makes an index beside a write-ahead log to read as usual.

    That takes a folder that can be written and space on the disk. `unchanged` finds out a writer who comes meanwhile.
    """
    frozen = f"{file.resolve().as_uri()}?mode=ro&immutable=1"
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(frozen, uri=True, check_same_thread=False),
        poolclass=NullPool,  # what one connection has read it would answer for ever
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None

    return engine.execution_options(spillover_frozen=file)


@contextmanager
def unchanged(engine: Engine) -> Iterator[None]:
    """StoreError if the file of a frozen engine was not left alone meanwhile, or is not all there is to read."""
    file: Path | None = engine.get_execution_options().get("spillover_frozen")
    if file is None:
        yield
        return
    log = file.with_name(f"{file.name}-wal")

    def state() -> tuple[int, int, int]:
        now = file.stat()
        return now.st_mtime_ns, now.st_size, log.stat().st_size if log.exists() else 0

    before = state()
    if before[2]:
        raise StoreError(
            "the last run into this database can be read by one who can write alone",
            expected=f"a folder that can be written, on a disk with space, or no {log.name}",
            found=f"{log.name} of {before[2]} bytes",
            fix=f"make room, or copy {file.name} and {log.name} to another folder and name it in [store] url",
        )
    yield
    if state() != before:
        raise StoreError(
            "the database changed while it was read",
            expected="nobody who writes it, as this user cannot lock it",
            found=f"{file.name} of another time",
            fix="run again",
        )


def file_of(url: URL) -> Path | None:
    """The file of a SQLite database, None for one in memory and for a server."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))


@contextmanager
def one_writer(engine: Engine) -> Iterator[None]:
    """Keeps other writers of this database out, processes and threads, until the block ends; StoreError if one stays.

    SQLite: a lock on the file `<database>-writer`. PostgreSQL locks inside the transaction (`Store._writer`).
    """
    path = file_of(engine.url)
    if path is None or fcntl is None:
        yield
        return
    with _lock_file(f"{path}-writer") as file:
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(
                        "another process is writing to this database",
                        expected=f"the end of its run within {BUSY_TIMEOUT_S:.0f} s",
                        found=f"{path}-writer is locked",
                        fix="try again when it is done",
                    ) from None
                time.sleep(0.02)
        yield


def _lock_file(path: str) -> BinaryIO:
    try:
        return Path(path).open("ab")
    except OSError as error:
        raise StoreError(
            "cannot write beside the database",
            expected=f"to open {path}",
            found=str(error),
            fix="make the folder writable, or set [store] url to a file in one that is",
        ) from error


def write_ahead(engine: Engine) -> None:
    """Readers beside the writer: SQLite's write-ahead log. The setting stays with the file."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            Raw(connection).execute("PRAGMA journal_mode=WAL").close()  # not inside a transaction


class Raw:
    """The driver's own connection inside an SQLAlchemy transaction. Parameters are written `?` in every dialect."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.driver: Any = connection.connection.driver_connection
        self.postgres = connection.dialect.name == "postgresql"

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        if self.postgres:
            return self.driver.cursor(binary=True).execute(sql.replace("?", "%s"), parameters)
        return self.driver.execute(sql, parameters)

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        cursor = self.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        cursor.close()
        return rows

    def chunks(self, sql: str, parameters: Sequence[Any] = (), size: int = 20_000) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a query, a cache full at a time: a million tuples alive at once cost more than the query."""
        cursor = self.execute(sql, parameters)
        while rows := cursor.fetchmany(size):
            yield rows
        cursor.close()

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        if self.postgres:
            with self.driver.cursor() as cursor:
                cursor.executemany(sql.replace("?", "%s"), rows)
        else:
            self.driver.executemany(sql, rows)

    def _insert_together(self, sql: str, width: int, rows: Iterator[Sequence[Any]]) -> None:
        """Several rows a statement: a third less time than one by one."""
        marks, most = f"({', '.join('?' * width)})", max(1, _SQLITE_VARIABLES // width)
        left: list[Sequence[Any]] = []

        def full() -> Iterator[list[Any]]:
            while len(part := list(islice(rows, most))) == most:
                yield list(chain.from_iterable(part))
            left.extend(part)

        self.driver.executemany(sql + ", ".join([marks] * most), full())
        if left:
            self.driver.execute(sql + ", ".join([marks] * len(left)), list(chain.from_iterable(left)))

    def insert(self, table: str, columns: Sequence[str], types: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Bulk insert; types are the SQL types of the columns on PostgreSQL."""
        names = ", ".join(f'"{name}"' for name in columns)
        if not self.postgres:
            self._insert_together(f"INSERT INTO {table} ({names}) VALUES ", len(columns), iter(rows))
            return
        with self.driver.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN WITH BINARY") as copy:
            copy.set_types([_PG_TYPES[name] for name in types])
            for row in rows:
                copy.write_row(row)
