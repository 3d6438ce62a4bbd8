"""What was ordered of a sync of modules, what it saw, and what is on its way.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    for name in ("asked", "seen", "plan"):
        op.add_column("gateway_sync", sa.Column(name, sa.JSON(), server_default="{}", nullable=False))


def downgrade() -> None:
    """Undo."""
    for name in ("plan", "seen", "asked"):
        op.drop_column("gateway_sync", name)
