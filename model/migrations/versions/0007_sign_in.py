"""Where a session is and why it ended; browsers that administrators signed in with before.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("dashboard_session", sa.Column("address", sa.String(64), nullable=False, server_default=""))
    op.add_column("dashboard_session", sa.Column("agent", sa.String(256), nullable=False, server_default=""))
    op.add_column("dashboard_session", sa.Column("ended", sa.String(16), nullable=True))
    op.create_table(
        "known_browser",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("administrator_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("failed_sign_ins", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["administrator_id"], ["administrator.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("administrator_id", "digest"),
    )
    op.create_index("ix_known_browser_administrator_id", "known_browser", ["administrator_id"])
    op.create_index("ix_known_browser_expires_at", "known_browser", ["expires_at"])


def downgrade() -> None:
    """Releases go forward: a database of this one can't be used by the one before."""
    raise RuntimeError("the sixth revision can't be taken back: restore a backup of the one before")
