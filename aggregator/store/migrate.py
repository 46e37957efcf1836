"""Schema versions: where a database stands, and the way to head. A database of a newer version is not touched."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

import aggregator
from aggregator.core.errors import DatabaseError, StoreError

_PACKAGE = Path(aggregator.__file__).parent


def alembic_config(connection: Connection | None = None) -> Config:
    """Configuration for `alembic.command`, from a checkout or an installed wheel."""
    installed = _PACKAGE / "_data" / "migrations"
    config = Config()
    config.set_main_option("script_location", str(installed if installed.is_dir() else _PACKAGE.parent / "migrations"))
    config.set_main_option("path_separator", "os")
    if connection is not None:
        config.attributes["connection"] = connection
    return config


@cache
def head() -> str:
    return str(ScriptDirectory.from_config(alembic_config()).get_current_head())


def current(connection: Connection) -> str | None:
    """Revision of this database, None if it is empty; StoreError if we do not know that revision."""
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in {
        s.revision for s in ScriptDirectory.from_config(alembic_config()).walk_revisions()
    }:
        raise StoreError(
            "the database was written by a newer version of spillover",
            expected=f"schema {head()} or older",
            found=f"schema {found}",
            fix="upgrade spillover, or point [store] url at another database; nothing was changed",
        )
    return found


def upgrade(connection: Connection) -> None:
    """To head inside the caller's transaction."""
    current(connection)
    command.upgrade(alembic_config(connection), "head")


def check_file(path: Path) -> None:
    """Refuse a SQLite file that is no database or of a newer version, through a read-only connection."""
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        tables = _tables(path, "ro")
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise _store_error(error) from error
        raise StoreError(
            f"cannot read {path.name} as a database", expected="an SQLite file", found=str(error), fix="restore it"
        ) from error
    if tables and ("alembic_version",) not in tables:
        raise StoreError(
            f"{path.name} is a database of something else",
            expected="a spillover database or an empty file",
            found=", ".join(sorted(name for (name,) in tables)[:5]),
            fix="set [store] url to a file of its own",
        )


def _tables(path: Path, mode: str) -> list[tuple[str]]:
    """Names of tables. A writer that was killed may have left a journal: only who may write can roll it back."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True)
    try:
        return connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    except sqlite3.OperationalError as error:
        if mode == "rw" or error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
    finally:
        connection.close()
    return _tables(path, "rw")


def for_want_of_writing(error: DatabaseError) -> bool:
    """Whether SQLite refused because it cannot write, as in a folder of others or on a full disk."""
    cause = getattr(error.__cause__, "orig", None) or error.__cause__
    codes = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)
    return getattr(cause, "sqlite_errorcode", -1) & 0xFF in codes


_TO_MEND = (
    (("locked", "lock timeout"), "another process may be writing; try again when it is done"),
    (("malformed", "not a database"), "restore a copy of the database, or collect again into a new one"),
    (("is full", "disk I/O", "No space left"), "see that the disk works and has space, and run again"),
    (("readonly", "unable to open"), "let this user write the file and its folder, or set [store] url to another"),
)


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Driver errors -> DatabaseError."""
    driver = engine.dialect.loaded_dbapi.Error
    try:
        yield
    except DBAPIError as error:
        raise _store_error(error.orig or error) from error
    except PoolTimeout as error:
        raise _store_error(error) from error
    except driver as error:
        raise _store_error(error) from error


def _store_error(error: BaseException) -> DatabaseError:
    found = " ".join(f"{type(error).__name__}: {error}".split())
    fix = next((fix for said, fix in _TO_MEND if any(words in found for words in said)), "`spillover doctor` says more")
    return DatabaseError("the database refused", found=found, fix=fix)
