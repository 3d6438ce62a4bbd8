"""Sessions, preferences, channels, syncs of modules, notifications, and what gateways say of themselves.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "notification",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("once", sa.String(192), nullable=False),
        sa.Column("gateway_id", sa.Integer(), nullable=True),
        sa.Column("organization_id", sa.Integer(), nullable=True),
        sa.Column("department_id", sa.Integer(), nullable=True),
        sa.Column("subject", sa.String(256), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("once"),
    )
    op.create_index("ix_notification_created_at", "notification", ["created_at"])
    op.create_index("ix_notification_gateway_id", "notification", ["gateway_id"])

    op.create_table(
        "dashboard_session",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("administrator_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("way", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["administrator_id"],
            ["administrator.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index("ix_dashboard_session_administrator_id", "dashboard_session", ["administrator_id"])
    op.create_index("ix_dashboard_session_expires_at", "dashboard_session", ["expires_at"])

    op.create_table(
        "gateway_channel",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("gateway_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("public_key", sa.String(64), nullable=True),
        sa.Column("host", sa.String(255), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["gateway_id"],
            ["gateway.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("gateway_id", "number"),
    )
    op.create_index("ix_gateway_channel_gateway_id", "gateway_channel", ["gateway_id"])

    op.create_table(
        "gateway_sync",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("gateway_id", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("agreed", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("direction", sa.String(16), nullable=False),
        sa.Column("difference", sa.JSON(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("asked_by", sa.String(128), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["gateway_id"],
            ["gateway.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("gateway_id"),
    )
    op.create_table(
        "preference",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("administrator_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["administrator_id"],
            ["administrator.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("administrator_id", "name"),
    )
    op.create_index("ix_preference_administrator_id", "preference", ["administrator_id"])

    # Added column by column: rebuilding a table, as a batch does on SQLite, is refused while other tables refer to it.
    op.add_column("administrator", sa.Column("oidc_issuer", sa.String(512), nullable=True))
    op.add_column("administrator", sa.Column("oidc_subject", sa.String(255), nullable=True))
    op.create_index("ix_administrator_oidc", "administrator", ["oidc_issuer", "oidc_subject"], unique=True)
    op.add_column("certificate_request", sa.Column("keystore_id", sa.Integer(), nullable=True))
    op.add_column("endpoint", sa.Column("last_cure", sa.Text(), nullable=True))
    op.add_column("endpoint", sa.Column("tested_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("gateway", sa.Column("revision", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("gateway", sa.Column("host", sa.String(255), nullable=True))
    op.add_column("gateway", sa.Column("modules", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("gateway", sa.Column("modules_revision", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("gateway", sa.Column("last_activity", sa.DateTime(timezone=True), nullable=True))
    op.add_column("gateway", sa.Column("told_status", sa.String(32), nullable=True))
    op.add_column("gateway", sa.Column("channel", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("keystore", sa.Column("contents", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("keystore", sa.Column("last_error", sa.Text(), nullable=True))
    op.add_column("keystore", sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Releases go forward: a database of this one can't be used by the one before."""
    raise RuntimeError("the second revision can't be taken back: restore a backup of the first")
