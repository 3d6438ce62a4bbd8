"""Requests that wait for an issuer of their chain, and profiles whose servers send the root as well.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_WAITS = sa.text("missing_issuer IS NOT NULL")


def upgrade() -> None:
    """Apply."""
    op.add_column("certificate_request", sa.Column("missing_issuer", sa.Text(), nullable=True))
    op.add_column("certificate_request", sa.Column("awaited_issuers", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("certificate_request", sa.Column("trust_told", sa.String(64), nullable=True))
    op.create_index(
        "ix_certificate_request_incomplete",
        "certificate_request",
        ["id"],
        sqlite_where=_WAITS,
        postgresql_where=_WAITS,
    )
    op.add_column(
        "certificate_profile", sa.Column("include_root", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    """Take back."""
    op.drop_column("certificate_profile", "include_root")
    op.drop_index("ix_certificate_request_incomplete", "certificate_request")
    for name in ("trust_told", "awaited_issuers", "missing_issuer"):
        op.drop_column("certificate_request", name)
