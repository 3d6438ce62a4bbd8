"""When an administrator signed in last; indexes that cover the counts of the overview.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("administrator", sa.Column("last_sign_in", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_certificate_request_counts",
        "certificate_request",
        ["closed", "organization_id", "department_id", "status", "install_state"],
    )
    op.create_index("ix_certificate_counts", "certificate", ["status", "not_after", "organization_id", "department_id"])
    op.create_index("ix_certificate_organizations", "certificate", ["organization_id", "department_id", "status"])
    op.create_index("ix_certificate_departments", "certificate", ["department_id", "status"])
    # What its successor begins with as well.
    op.drop_index("ix_certificate_organization_id", "certificate")


def downgrade() -> None:
    """Take back."""
    op.create_index("ix_certificate_organization_id", "certificate", ["organization_id"])
    op.drop_index("ix_certificate_departments", "certificate")
    op.drop_index("ix_certificate_organizations", "certificate")
    op.drop_index("ix_certificate_counts", "certificate")
    op.drop_index("ix_certificate_request_counts", "certificate_request")
    op.drop_column("administrator", "last_sign_in")
