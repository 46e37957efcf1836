"""Discovery under way

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "discovered",
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("market", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("deployment", "market", "holder", "ref"),
    )
    op.create_table(
        "discovery",
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("at_number", sa.BigInteger(), nullable=False),
        sa.Column("at_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("deployment"),
    )
    op.create_index("ix_discovery_source", "discovery", ["source"], unique=False)


def downgrade() -> None:
    op.drop_table("discovery")
    op.drop_table("discovered")
