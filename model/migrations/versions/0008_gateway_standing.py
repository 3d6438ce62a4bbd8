"""What open requests were told of their gateway last.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("gateway", sa.Column("told_standing", sa.String(64), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("gateway", "told_standing")
