"""The inventory: certificates that were seen, where, and the network scans that look for them.

Revision ID: 0015
Revises: 0014
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from model.tables import UtcDateTime

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("gateway", sa.Column("discovery", sa.JSON(), nullable=True))
    op.create_table(
        "seen_certificate",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False, unique=True),
        sa.Column("pem", sa.Text(), nullable=False),
        sa.Column("common_name", sa.String(253), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.Column("names_total", sa.Integer(), nullable=False),
        sa.Column("serial_number", sa.String(80), nullable=False),
        sa.Column("key_algorithm", sa.String(32), nullable=False),
        sa.Column("not_before", UtcDateTime(), nullable=False),
        sa.Column("not_after", UtcDateTime(), nullable=False),
        sa.Column("authority", sa.Boolean(), nullable=False),
        sa.Column("self_signed", sa.Boolean(), nullable=False),
        sa.Column("first_seen", UtcDateTime(), nullable=False),
        sa.Column("last_seen", UtcDateTime(), nullable=False),
        sa.Column("ignored_by", sa.String(128), nullable=True),
        sa.Column("ignored_why", sa.String(1024), nullable=True),
        sa.Column("ignored_at", UtcDateTime(), nullable=True),
    )
    op.create_index("ix_seen_certificate_end", "seen_certificate", ["not_after", "id"])
    op.create_table(
        "sighting",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("certificate_id", sa.Integer(), sa.ForeignKey("seen_certificate.id"), nullable=False),
        sa.Column("gateway_id", sa.Integer(), sa.ForeignKey("gateway.id"), nullable=False),
        sa.Column("way", sa.String(32), nullable=False),
        sa.Column("place", sa.String(64), nullable=False),
        sa.Column("endpoint_id", sa.Integer(), sa.ForeignKey("endpoint.id", ondelete="CASCADE"), nullable=True),
        sa.Column("binding", sa.String(512), nullable=False),
        sa.Column("keystore_id", sa.Integer(), sa.ForeignKey("keystore.id", ondelete="CASCADE"), nullable=True),
        sa.Column("alias", sa.String(512), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("server_name", sa.String(253), nullable=False),
        sa.Column("starttls", sa.String(16), nullable=False),
        sa.Column("first_seen", UtcDateTime(), nullable=False),
        sa.Column("last_seen", UtcDateTime(), nullable=False),
        sa.Column("gone_at", UtcDateTime(), nullable=True),
        sa.Column("told_step", sa.Integer(), nullable=True),
        sa.UniqueConstraint("place", "certificate_id"),
    )
    op.create_index("ix_sighting_certificate", "sighting", ["certificate_id", "gone_at", "gateway_id", "way"])
    op.create_index("ix_sighting_gateway", "sighting", ["gateway_id", "way", "gone_at"])
    op.create_index("ix_sighting_endpoint_id", "sighting", ["endpoint_id"])
    op.create_index("ix_sighting_keystore_id", "sighting", ["keystore_id"])
    op.create_table(
        "network_scan",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("gateway_id", sa.Integer(), sa.ForeignKey("gateway.id"), nullable=False),
        sa.Column("networks", sa.JSON(), nullable=False),
        sa.Column("services", sa.JSON(), nullable=False),
        sa.Column("server_names", sa.JSON(), nullable=False),
        sa.Column("rate", sa.Integer(), nullable=False),
        sa.Column("at_once", sa.Integer(), nullable=False),
        sa.Column("timeout_seconds", sa.Integer(), nullable=False),
        sa.Column("most_seconds", sa.Integer(), nullable=False),
        sa.Column("every_seconds", sa.Integer(), nullable=True),
        sa.Column("asked_by", sa.String(128), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.Column("found", sa.Integer(), nullable=False),
        sa.Column("unread", sa.Integer(), nullable=False),
        sa.Column("fresh", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("next_at", UtcDateTime(), nullable=True),
    )
    op.create_index("ix_network_scan_gateway_id", "network_scan", ["gateway_id"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("network_scan")
    op.drop_table("sighting")
    op.drop_table("seen_certificate")
    op.drop_column("gateway", "discovery")
