"""First schema

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "asset",
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("valid_to", sa.BigInteger(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("decimals", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("src", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("asset", "valid_from"),
    )
    op.create_index("ix_asset_source", "asset", ["source"], unique=False)

    op.create_table(
        "block",
        sa.Column("cut_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("time_s", sa.BigInteger(), nullable=False),
        sa.Column("finality", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("cut_id", "source"),
    )
    op.create_table(
        "coverage",
        sa.Column("cut_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("deployment_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("accounts_read", sa.BigInteger(), nullable=False),
        sa.Column("accounts_known", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("cut_id", "deployment_id"),
    )
    op.create_table(
        "cursor",
        sa.Column("deployment_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("block", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", "block"),
    )
    op.create_table(
        "deployment",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("adapter", sa.Text(), nullable=False),
        sa.Column("config_digest", sa.Text(), nullable=False),
        sa.Column("first_block", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_index("ix_deployment_source", "deployment", ["source"], unique=False)

    op.create_table(
        "fact_account_term",
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_to", sa.BigInteger(), nullable=True),
        sa.Column("market", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Integer(), nullable=False),
        sa.Column("ref", sa.Integer(), nullable=False),
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("raw_approx", sa.Double(), nullable=False),
        sa.Column("src", sa.LargeBinary(), nullable=False),
    )
    op.create_index(
        "ix_fact_account_term_ref",
        "fact_account_term",
        ["deployment_id", "market", "ref"],
        unique=False,
        sqlite_where=sa.text("valid_to IS NULL AND ref <> 0"),
        postgresql_where=sa.text("valid_to IS NULL AND ref <> 0"),
    )
    op.create_index(
        "uq_fact_account_term_open",
        "fact_account_term",
        ["deployment_id", "market", "holder", "ref", "key"],
        unique=True,
        sqlite_where=sa.text("valid_to IS NULL"),
        postgresql_where=sa.text("valid_to IS NULL"),
    )

    op.create_table(
        "fact_backstop",
        sa.Column("cut_id", sa.Integer(), nullable=False),
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("market", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("asset", sa.Integer(), nullable=False),
        sa.Column("rank", sa.BigInteger(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("raw_approx", sa.Double(), nullable=False),
        sa.Column("src", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_fact_backstop_cut_id", "fact_backstop", ["cut_id"], unique=False)

    op.create_table(
        "fact_claim",
        sa.Column("cut_id", sa.Integer(), nullable=False),
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("asset", sa.Integer(), nullable=False),
        sa.Column("underlying", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("num", sa.LargeBinary(), nullable=False),
        sa.Column("num_approx", sa.Double(), nullable=False),
        sa.Column("den", sa.LargeBinary(), nullable=False),
        sa.Column("den_approx", sa.Double(), nullable=False),
        sa.Column("market", sa.Integer(), nullable=False),
        sa.Column("lower", sa.BigInteger(), nullable=False),
        sa.Column("upper", sa.BigInteger(), nullable=False),
        sa.Column("src", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_fact_claim_cut_id", "fact_claim", ["cut_id"], unique=False)

    op.create_table(
        "fact_depth",
        sa.Column("cut_id", sa.Integer(), nullable=False),
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("market", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("asset", sa.Integer(), nullable=False),
        sa.Column("point", sa.BigInteger(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("raw_approx", sa.Double(), nullable=False),
        sa.Column("src", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_fact_depth_cut_id", "fact_depth", ["cut_id"], unique=False)

    op.create_table(
        "fact_exposure",
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_to", sa.BigInteger(), nullable=True),
        sa.Column("market", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Integer(), nullable=False),
        sa.Column("ref", sa.Integer(), nullable=False),
        sa.Column("asset", sa.Integer(), nullable=False),
        sa.Column("side", sa.Integer(), nullable=False),
        sa.Column("shares", sa.LargeBinary(), nullable=False),
        sa.Column("shares_approx", sa.Double(), nullable=False),
        sa.Column("src", sa.LargeBinary(), nullable=False),
    )
    op.create_index(
        "ix_fact_exposure_ref",
        "fact_exposure",
        ["deployment_id", "market", "ref"],
        unique=False,
        sqlite_where=sa.text("valid_to IS NULL AND ref <> 0"),
        postgresql_where=sa.text("valid_to IS NULL AND ref <> 0"),
    )
    op.create_index(
        "uq_fact_exposure_open",
        "fact_exposure",
        ["deployment_id", "market", "holder", "ref", "asset", "side"],
        unique=True,
        sqlite_where=sa.text("valid_to IS NULL"),
        postgresql_where=sa.text("valid_to IS NULL"),
    )

    op.create_table(
        "fact_gap",
        sa.Column("cut_id", sa.Integer(), nullable=False),
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("accounts", sa.BigInteger(), nullable=False),
        sa.Column("value_usd", sa.Text(), nullable=False),
        sa.Column("src", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_fact_gap_cut_id", "fact_gap", ["cut_id"], unique=False)

    op.create_table(
        "fact_index",
        sa.Column("cut_id", sa.Integer(), nullable=False),
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("market", sa.Integer(), nullable=False),
        sa.Column("asset", sa.Integer(), nullable=False),
        sa.Column("side", sa.Integer(), nullable=False),
        sa.Column("num", sa.LargeBinary(), nullable=False),
        sa.Column("num_approx", sa.Double(), nullable=False),
        sa.Column("den", sa.LargeBinary(), nullable=False),
        sa.Column("den_approx", sa.Double(), nullable=False),
        sa.Column("rounding", sa.Integer(), nullable=False),
        sa.Column("src", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_fact_index_cut_id", "fact_index", ["cut_id"], unique=False)

    op.create_table(
        "fact_market",
        sa.Column("cut_id", sa.Integer(), nullable=False),
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("market", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("rule", sa.Integer(), nullable=False),
        sa.Column("name", sa.Integer(), nullable=False),
        sa.Column("src", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_fact_market_cut_id", "fact_market", ["cut_id"], unique=False)

    op.create_table(
        "fact_option",
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_to", sa.BigInteger(), nullable=True),
        sa.Column("market", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Integer(), nullable=False),
        sa.Column("ref", sa.Integer(), nullable=False),
        sa.Column("underlying", sa.Integer(), nullable=False),
        sa.Column("quote", sa.Integer(), nullable=False),
        sa.Column("right", sa.Integer(), nullable=False),
        sa.Column("style", sa.Integer(), nullable=False),
        sa.Column("settle", sa.Integer(), nullable=False),
        sa.Column("expiry_s", sa.BigInteger(), nullable=False),
        sa.Column("strike", sa.LargeBinary(), nullable=False),
        sa.Column("strike_approx", sa.Double(), nullable=False),
        sa.Column("size", sa.LargeBinary(), nullable=False),
        sa.Column("size_approx", sa.Double(), nullable=False),
        sa.Column("exp", sa.BigInteger(), nullable=False),
        sa.Column("src", sa.LargeBinary(), nullable=False),
    )
    op.create_index(
        "ix_fact_option_ref",
        "fact_option",
        ["deployment_id", "market", "ref"],
        unique=False,
        sqlite_where=sa.text("valid_to IS NULL AND ref <> 0"),
        postgresql_where=sa.text("valid_to IS NULL AND ref <> 0"),
    )
    op.create_index(
        "uq_fact_option_open",
        "fact_option",
        [
            "deployment_id",
            "market",
            "holder",
            "ref",
            "underlying",
            "quote",
            "right",
            "style",
            "settle",
            "expiry_s",
            "strike",
            "exp",
        ],
        unique=True,
        sqlite_where=sa.text("valid_to IS NULL"),
        postgresql_where=sa.text("valid_to IS NULL"),
    )

    op.create_table(
        "fact_perp",
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_to", sa.BigInteger(), nullable=True),
        sa.Column("market", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Integer(), nullable=False),
        sa.Column("ref", sa.Integer(), nullable=False),
        sa.Column("asset", sa.Integer(), nullable=False),
        sa.Column("size", sa.LargeBinary(), nullable=False),
        sa.Column("size_approx", sa.Double(), nullable=False),
        sa.Column("open_notional", sa.LargeBinary(), nullable=False),
        sa.Column("open_notional_approx", sa.Double(), nullable=False),
        sa.Column("exp", sa.BigInteger(), nullable=False),
        sa.Column("src", sa.LargeBinary(), nullable=False),
    )
    op.create_index(
        "ix_fact_perp_ref",
        "fact_perp",
        ["deployment_id", "market", "ref"],
        unique=False,
        sqlite_where=sa.text("valid_to IS NULL AND ref <> 0"),
        postgresql_where=sa.text("valid_to IS NULL AND ref <> 0"),
    )
    op.create_index(
        "uq_fact_perp_open",
        "fact_perp",
        ["deployment_id", "market", "holder", "ref", "asset"],
        unique=True,
        sqlite_where=sa.text("valid_to IS NULL"),
        postgresql_where=sa.text("valid_to IS NULL"),
    )

    op.create_table(
        "fact_price",
        sa.Column("cut_id", sa.Integer(), nullable=False),
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("market", sa.Integer(), nullable=False),
        sa.Column("asset", sa.Integer(), nullable=False),
        sa.Column("quote", sa.Integer(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("raw_approx", sa.Double(), nullable=False),
        sa.Column("exp", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Integer(), nullable=False),
        sa.Column("updated_s", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_s", sa.BigInteger(), nullable=False),
        sa.Column("src", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_fact_price_cut_id", "fact_price", ["cut_id"], unique=False)

    op.create_table(
        "fact_term",
        sa.Column("cut_id", sa.Integer(), nullable=False),
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("market", sa.Integer(), nullable=False),
        sa.Column("asset", sa.Integer(), nullable=False),
        sa.Column("scope", sa.Integer(), nullable=False),
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("raw_approx", sa.Double(), nullable=False),
        sa.Column("exp", sa.BigInteger(), nullable=False),
        sa.Column("src", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_fact_term_cut_id", "fact_term", ["cut_id"], unique=False)

    op.create_table(
        "fact_total",
        sa.Column("cut_id", sa.Integer(), nullable=False),
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("market", sa.Integer(), nullable=False),
        sa.Column("asset", sa.Integer(), nullable=False),
        sa.Column("side", sa.Integer(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("raw_approx", sa.Double(), nullable=False),
        sa.Column("src", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_fact_total_cut_id", "fact_total", ["cut_id"], unique=False)

    op.create_table(
        "name",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("text"),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("config_digest", sa.Text(), nullable=False),
        sa.Column("started_s", sa.BigInteger(), nullable=False),
        sa.Column("time_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "stress",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("cut_digest", sa.Text(), nullable=False),
        sa.Column("scenario_digest", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("job"),
    )
    op.create_index("ix_stress_cut_digest", "stress", ["cut_digest"], unique=False)

    op.create_table(
        "target",
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("market", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Integer(), nullable=False),
        sa.Column("ref", sa.Integer(), nullable=False),
        sa.Column("first_block", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("deployment_id", "market", "holder", "ref", name="uq_target"),
    )


def downgrade() -> None:
    for table in (
        "asset",
        "block",
        "coverage",
        "cursor",
        "deployment",
        "fact_account_term",
        "fact_backstop",
        "fact_claim",
        "fact_depth",
        "fact_exposure",
        "fact_gap",
        "fact_index",
        "fact_market",
        "fact_option",
        "fact_perp",
        "fact_price",
        "fact_term",
        "fact_total",
        "name",
        "run",
        "stress",
        "target",
    ):
        op.drop_table(table)
