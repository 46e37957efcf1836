"""SQLModel entities: what there are few of. Facts, of which there are many, are Core tables (`store.facts`).

A run owns everything that carries its cut_id. What outlives a run is valid from a block until a block of its source.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, LargeBinary, Text
from sqlmodel import Field, SQLModel


def _text(*, index: bool = False) -> Column[str]:
    return Column(Text, nullable=False, index=index)


class Run(SQLModel, table=True):
    """One finished run and its cut; id is the cut_id of every row it wrote. Times are unix seconds."""

    __tablename__ = "run"
    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    digest: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    version: str = Field(sa_column=_text())
    config_digest: str = Field(sa_column=_text())
    started_s: int = Field(sa_type=BigInteger)
    time_s: int = Field(sa_type=BigInteger)


class Block(SQLModel, table=True):
    """The cut's point in one source (`core.block.BlockRef`).

    Outlives its run where that was dropped for a reorg of another source: its positions do too.
    """

    __tablename__ = "block"
    cut_id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    source: str = Field(sa_column=Column(Text, primary_key=True))
    number: int = Field(sa_type=BigInteger)
    hash: str = Field(sa_column=_text())
    time_s: int = Field(sa_type=BigInteger)
    finality: str = Field(sa_column=_text())


class Deployment(SQLModel, table=True):
    """first_block: the cut's block when it was first written."""

    __tablename__ = "deployment"
    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    name: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    source: str = Field(sa_column=_text(index=True))
    adapter: str = Field(sa_column=_text())
    config_digest: str = Field(sa_column=_text())
    first_block: int = Field(sa_type=BigInteger)


class Cursor(SQLModel, table=True):
    """Discovery is complete up to block. A history, so that a rewind finds the cursor of the last surviving run."""

    __tablename__ = "cursor"
    deployment_id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    block: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))


class Discovery(SQLModel, table=True):
    """A discovery under way: done up to `block`, seen from the block `at_number`. Gone once its run is written."""

    __tablename__ = "discovery"
    deployment: str = Field(sa_column=Column(Text, primary_key=True))
    source: str = Field(sa_column=_text(index=True))
    block: int = Field(sa_type=BigInteger)
    at_number: int = Field(sa_type=BigInteger)
    at_hash: str = Field(sa_column=_text())


class Discovered(SQLModel, table=True):
    """A target that a discovery under way has found; texts, for the code book belongs to runs."""

    __tablename__ = "discovered"
    deployment: str = Field(sa_column=Column(Text, primary_key=True))
    market: str = Field(sa_column=Column(Text, primary_key=True))
    holder: str = Field(sa_column=Column(Text, primary_key=True))
    ref: str = Field(sa_column=Column(Text, primary_key=True))


class Asset(SQLModel, table=True):
    """`core.rows.Asset`, valid from a block until a block of `source` (0 where the source has no blocks, e.g. fiat)."""

    __tablename__ = "asset"
    asset: str = Field(sa_column=Column(Text, primary_key=True))
    valid_from: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    valid_to: int | None = Field(default=None, sa_type=BigInteger)
    source: str = Field(sa_column=_text(index=True))
    symbol: str = Field(sa_column=_text())
    decimals: int = Field()
    name: str = Field(sa_column=_text())
    src: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Coverage(SQLModel, table=True):
    """A deployment's part in a run; level full | partial | aggregate | failed; accounts_known -1 if unknown."""

    __tablename__ = "coverage"
    cut_id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    deployment_id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    level: str = Field(sa_column=_text())
    accounts_read: int = Field(sa_type=BigInteger)
    accounts_known: int = Field(sa_type=BigInteger)


class Stress(SQLModel, table=True):
    """A stored `core.result.StressResult` (its JSON bytes) under its job digest (`core.result.job`)."""

    __tablename__ = "stress"
    job: str = Field(sa_column=Column(Text, primary_key=True))
    cut_digest: str = Field(sa_column=_text(index=True))
    scenario_digest: str = Field(sa_column=_text())
    version: str = Field(sa_column=_text())
    result: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
