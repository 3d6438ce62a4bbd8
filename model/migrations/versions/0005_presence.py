"""Since when gateways are connected or not, and how wrong their clocks are; who has seen notifications, and their way.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "notification_seen",
        sa.Column("administrator_id", sa.Integer(), nullable=False),
        sa.Column("notification_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["administrator_id"], ["administrator.id"]),
        sa.ForeignKeyConstraint(["notification_id"], ["notification.id"]),
        sa.PrimaryKeyConstraint("administrator_id", "notification_id"),
    )
    op.create_index("ix_notification_seen_notification_id", "notification_seen", ["notification_id"])
    op.create_table(
        "notification_delivery",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("notification_id", sa.Integer(), nullable=False),
        sa.Column("way", sa.String(16), nullable=False),
        sa.Column("address", sa.String(320), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["notification_id"], ["notification.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("notification_id", "way", "address"),
    )
    op.create_index("ix_notification_delivery_due_at", "notification_delivery", ["due_at"])

    op.add_column("gateway", sa.Column("status_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("gateway", sa.Column("clock_offset", sa.Float(), nullable=True))


def downgrade() -> None:
    """Releases go forward: a database of this one can't be used by the one before."""
    raise RuntimeError("the fifth revision can't be taken back: restore a backup of the one before")
