"""Replacement campaigns, and by whom a certificate was signed.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from model import x509
from model.tables import UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_AT_ONCE = 1000


def upgrade() -> None:
    """Apply. What was issued until now tells its issuer by itself."""
    op.add_column("certificate", sa.Column("issuer", sa.Text(), nullable=False, server_default=""))
    _fill_issuers()
    op.create_index("ix_certificate_issuers", "certificate", ["active", "issuer", "organization_id", "department_id"])
    op.create_table(
        "campaign",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("created_by_id", sa.Integer(), sa.ForeignKey("administrator.id"), nullable=False),
        sa.Column("started_by_id", sa.Integer(), sa.ForeignKey("administrator.id"), nullable=True),
        sa.Column("organization_id", sa.Integer(), nullable=True),
        sa.Column("department_id", sa.Integer(), nullable=True),
        sa.Column("criteria", sa.JSON(), nullable=False),
        sa.Column("way", sa.String(32), nullable=False),
        sa.Column("reason", sa.String(256), nullable=False),
        sa.Column("profile_id", sa.Integer(), nullable=True),
        sa.Column("new_key", sa.Boolean(), nullable=False),
        sa.Column("revocation_reason", sa.String(32), nullable=True),
        sa.Column("rate_per_hour", sa.Integer(), nullable=False),
        sa.Column("at_once", sa.Integer(), nullable=False),
        sa.Column("canaries", sa.Integer(), nullable=False),
        sa.Column("pause_after", sa.Integer(), nullable=False),
        sa.Column("pause_share", sa.Integer(), nullable=False),
        sa.Column("deadline_seconds", sa.Integer(), nullable=True),
        sa.Column("deadline_at", UtcDateTime(), nullable=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failures_before", sa.Integer(), nullable=False),
        sa.Column("ends", sa.Integer(), nullable=False),
        sa.Column("ends_before", sa.Integer(), nullable=False),
        sa.Column("next_at", UtcDateTime(), nullable=True),
        sa.Column("looked_at", UtcDateTime(), nullable=True),
        sa.Column("expected_at", UtcDateTime(), nullable=True),
        sa.Column("late_told", sa.Boolean(), nullable=False),
        sa.Column("news", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
    )
    op.create_index("ix_campaign_state", "campaign", ["state"])
    op.create_table(
        "campaign_item",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("campaign_id", sa.Integer(), sa.ForeignKey("campaign.id"), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("canary", sa.Boolean(), nullable=False),
        sa.Column("certificate_id", sa.Integer(), sa.ForeignKey("certificate.id"), nullable=False),
        sa.Column("organization_id", sa.Integer(), sa.ForeignKey("organization.id"), nullable=False),
        sa.Column("department_id", sa.Integer(), sa.ForeignKey("department.id"), nullable=True),
        sa.Column("gateway_id", sa.Integer(), sa.ForeignKey("gateway.id"), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("request_id", sa.Integer(), nullable=True),
        sa.Column("after_request_id", sa.Integer(), nullable=False),
        sa.Column("picked_at", UtcDateTime(), nullable=True),
        sa.Column("handed_at", UtcDateTime(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.UniqueConstraint("campaign_id", "certificate_id"),
    )
    op.create_index("ix_campaign_item_turn", "campaign_item", ["campaign_id", "state", "position"])
    op.create_index("ix_campaign_item_scope", "campaign_item", ["campaign_id", "organization_id", "department_id"])
    op.create_index("ix_campaign_item_certificate_id", "campaign_item", ["certificate_id"])
    op.create_index("ix_campaign_item_request_id", "campaign_item", ["request_id"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("campaign_item")
    op.drop_table("campaign")
    op.drop_index("ix_certificate_issuers", "certificate")
    op.drop_column("certificate", "issuer")


def _fill_issuers() -> None:
    certificates = sa.table(
        "certificate", sa.column("id", sa.Integer), sa.column("pem", sa.Text), sa.column("issuer", sa.Text)
    )
    connection, last = op.get_bind(), 0
    while True:
        some = sa.select(certificates.c.id, certificates.c.pem).where(certificates.c.id > last)
        rows = connection.execute(some.order_by(certificates.c.id).limit(_AT_ONCE)).all()
        if not rows:
            return
        for number, pem in rows:
            issuer = x509.distinguished_name(x509.load_certificate(pem).issuer)
            connection.execute(certificates.update().where(certificates.c.id == number).values(issuer=issuer))
        last = rows[-1][0]
