"""What a request is to its CA (new, renewal, replacement), why, and when it was ordered.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from model.tables import UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. What was renewed until now was ordered as a renewal."""
    op.add_column("certificate_request", sa.Column("order_way", sa.String(32), nullable=False, server_default="new"))
    op.add_column("certificate_request", sa.Column("order_reason", sa.String(256), nullable=False, server_default=""))
    op.add_column("certificate_request", sa.Column("ordered_at", UtcDateTime(), nullable=True))
    op.execute("UPDATE certificate_request SET order_way = 'renew' WHERE renews_certificate_id IS NOT NULL")
    op.execute(
        "UPDATE certificate_request SET ordered_at = updated_at WHERE order_number IS NOT NULL AND status = 'APPLIED'"
    )


def downgrade() -> None:
    """Take back."""
    for name in ("ordered_at", "order_reason", "order_way"):
        op.drop_column("certificate_request", name)
