"""An index for the open requests of a gateway: few of very many.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_NAME = "ix_certificate_request_gateway_open"


def upgrade() -> None:
    """Apply."""
    op.create_index(_NAME, "certificate_request", ["gateway_id", "closed", "organization_id", "department_id"])


def downgrade() -> None:
    """Take back."""
    op.drop_index(_NAME, "certificate_request")
