"""What CAs say of their certificates, certificates that were issued elsewhere, and CAs that a requester chose.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from model.tables import UtcDateTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TIMES = (
    "found_revoked_at",
    "suggested_start",
    "suggested_end",
    "suggested_at",
    "standing_at",
    "ask_at",
    "ask_window_at",
)
_TEXTS = ("suggestion_url", "standing_note")


def upgrade() -> None:
    """Apply. A CA that is not the profile's was chosen; what is in use is asked about at once."""
    off = sa.false()
    op.add_column("certificate_authority", sa.Column("networks", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("certificate_authority", sa.Column("watch_problem", sa.Text(), nullable=True))
    op.add_column("certificate_authority", sa.Column("watch_problem_since", UtcDateTime(), nullable=True))
    for name in ("watch_faulty", "watch_told"):
        op.add_column("certificate_authority", sa.Column(name, sa.Boolean(), nullable=False, server_default=off))
    op.add_column("certificate_request", sa.Column("origin", sa.String(32), nullable=False, server_default="submitted"))
    op.add_column(
        "certificate_request", sa.Column("authority_chosen", sa.Boolean(), nullable=False, server_default=off)
    )
    op.execute(
        "UPDATE certificate_request SET authority_chosen = true WHERE authority_id <> "
        "(SELECT authority_id FROM certificate_profile WHERE certificate_profile.id = certificate_request.profile_id)"
    )
    for name in _TIMES:
        op.add_column("certificate", sa.Column(name, UtcDateTime(), nullable=True))
    for name in _TEXTS:
        op.add_column("certificate", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("certificate", sa.Column("standing_source", sa.String(8), nullable=True))
    op.add_column("certificate", sa.Column("revocation_told", sa.Boolean(), nullable=False, server_default=off))
    op.execute("UPDATE certificate SET ask_at = not_before WHERE active AND status = 'ISSUED'")
    op.create_index("ix_certificate_ask_at", "certificate", ["ask_at"])
    op.create_index("ix_certificate_found_revoked_at", "certificate", ["found_revoked_at"])
    op.create_table(
        "certificate_import",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("authority_id", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("department_id", sa.Integer(), nullable=True),
        sa.Column("gateway_id", sa.Integer(), nullable=False),
        sa.Column("profile_id", sa.Integer(), nullable=False),
        sa.Column("administrator_id", sa.Integer(), nullable=False),
        sa.Column("auto_renew", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
    )
    for name in ("authority_id", "organization_id"):
        op.create_index(f"ix_certificate_import_{name}", "certificate_import", [name])
    op.create_table(
        "listed_certificate",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("import_id", sa.Integer(), sa.ForeignKey("certificate_import.id"), nullable=False),
        sa.Column("order_number", sa.String(128), nullable=False),
        sa.Column("serial_number", sa.String(40), nullable=False),
        sa.Column("common_name", sa.String(253), nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(64), nullable=False),
        sa.Column("profile", sa.String(256), nullable=False),
        sa.Column("not_after", UtcDateTime(), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("certificate_id", sa.Integer(), nullable=True),
        sa.UniqueConstraint("import_id", "order_number", "serial_number"),
    )
    op.create_index("ix_listed_certificate_state", "listed_certificate", ["import_id", "state"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("listed_certificate")
    op.drop_table("certificate_import")
    for name in ("ix_certificate_found_revoked_at", "ix_certificate_ask_at"):
        op.drop_index(name, "certificate")
    for name in ("revocation_told", "standing_source", *_TEXTS, *_TIMES):
        op.drop_column("certificate", name)
    for name in ("authority_chosen", "origin"):
        op.drop_column("certificate_request", name)
    for name in ("watch_told", "watch_faulty", "watch_problem_since", "watch_problem", "networks"):
        op.drop_column("certificate_authority", name)
