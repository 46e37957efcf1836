"""Core tables of the facts, derived from `core.schema`, and SQL views of them with names resolved.

fact_<kind>: names are codes into `name`, 256-bit integers 32 bytes (`core.fixed`) with an approximate REAL beside
them. Rows of a cut carry cut_id; positions carry valid_from and valid_to, blocks of their deployment's source:
visible at block N iff valid_from <= N and (valid_to is null or valid_to > N).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)  # fmt: skip
from sqlalchemy.types import TypeEngine

from aggregator.core import schema
from aggregator.store.models import Run

METADATA: MetaData = Run.metadata
NO_REF = 0  # the code of the empty text
_TYPES: dict[str, type[TypeEngine[Any]]] = {
    "name": Integer, "text": Text, "u256": LargeBinary, "i256": LargeBinary, "int": BigInteger, "bytes": LargeBinary,
}  # fmt: skip

# What tells two open position rows of one deployment apart.
KEYS: dict[str, tuple[str, ...]] = {
    "exposure": ("market", "holder", "ref", "asset", "side"),
    "perp": ("market", "holder", "ref", "asset"),
    "option": (
        "market", "holder", "ref", "underlying", "quote", "right", "style", "settle", "expiry_s", "strike", "exp"
    ),
    "account_term": ("market", "holder", "ref", "key"),
}  # fmt: skip

NAME = Table(
    "name",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False, unique=True),
)
TARGET = Table(
    "target",
    METADATA,
    Column("deployment_id", Integer, nullable=False),
    Column("market", Integer, nullable=False),
    Column("holder", Integer, nullable=False),
    Column("ref", Integer, nullable=False),
    Column("first_block", BigInteger, nullable=False),
    UniqueConstraint("deployment_id", "market", "holder", "ref", name="uq_target"),
)


def fact_columns(kind: str) -> list[str]:
    """Column names of fact_<kind> after its leading keys, in schema order."""
    out: list[str] = []
    for column in schema.SCHEMA[kind]:
        out.append(column.name)
        if column.type in schema.PACK:
            out.append(f"{column.name}_approx")
    return out


def _fact(kind: str) -> Table:
    columns: list[Column[Any]] = []
    for column in schema.SCHEMA[kind]:
        columns.append(Column(column.name, _TYPES[column.type], nullable=False))
        if column.type in schema.PACK:
            columns.append(Column(f"{column.name}_approx", Double, nullable=False))
    if kind in schema.POSITIONS:
        life = [
            Column("deployment_id", Integer, nullable=False),
            Column("valid_from", BigInteger, nullable=False),
            Column("valid_to", BigInteger, nullable=True),
        ]
        table = Table(f"fact_{kind}", METADATA, *life, *columns)
        is_open = text("valid_to IS NULL")
        keys = [table.c[name] for name in ("deployment_id", *KEYS[kind])]
        Index(f"uq_fact_{kind}_open", *keys, unique=True, sqlite_where=is_open, postgresql_where=is_open)
        has_ref = text(f"valid_to IS NULL AND ref <> {NO_REF}")
        by_ref = (table.c.deployment_id, table.c.market, table.c.ref)
        Index(f"ix_fact_{kind}_ref", *by_ref, sqlite_where=has_ref, postgresql_where=has_ref)
        return table
    owner = [Column("cut_id", Integer, nullable=False, index=True), Column("deployment_id", Integer, nullable=False)]
    return Table(f"fact_{kind}", METADATA, *owner, *columns)


FACTS: dict[str, Table] = {kind: _fact(kind) for kind in schema.SCHEMA}


def drop_views(connection: Connection) -> None:
    for kind in FACTS:
        connection.execute(text(f"DROP VIEW IF EXISTS v_{kind}"))


def create_views(connection: Connection) -> None:
    """v_<kind>: names as text, the exact bytes beside the approximate number, no codes. Derived, so not versioned."""
    drop_views(connection)
    for kind, table in FACTS.items():
        picks, joins = ["d.name AS deployment"], ["JOIN deployment d ON d.id = f.deployment_id"]
        picks += [f"f.{c}" for c in ("cut_id", "valid_from", "valid_to") if c in table.c]
        for place, column in enumerate(schema.SCHEMA[kind]):
            if column.type == "name":
                picks.append(f'n{place}.text AS "{column.name}"')
                joins.append(f'JOIN name n{place} ON n{place}.id = f."{column.name}"')
            else:
                picks.append(f'f."{column.name}"')
                picks += [f'f."{column.name}_approx"'] * (column.type in schema.PACK)
        connection.execute(
            text(f"CREATE VIEW v_{kind} AS SELECT {', '.join(picks)} FROM fact_{kind} f {' '.join(joins)}")
        )
