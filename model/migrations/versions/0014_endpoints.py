"""Keys made at endpoints, groups of bindings, rollbacks, and verification that can be redone.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def _columns() -> dict[str, list[sa.Column[object]]]:
    return {
        "endpoint": [
            sa.Column("key_at_endpoint", sa.Boolean(), nullable=False, server_default=sa.false()),
            sa.Column("verify_from_manager", sa.Boolean(), nullable=False, server_default=sa.false()),
        ],
        "certificate_request": [
            sa.Column("key_place", sa.String(32), nullable=False, server_default="gateway"),
            sa.Column("group_id", sa.Integer(), nullable=True),
            sa.Column("reinstalls_certificate_id", sa.Integer(), nullable=True),
        ],
        "installation": [
            sa.Column("sightings", sa.JSON(), nullable=False, server_default="[]"),
            sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
            sa.Column("installed_at", sa.DateTime(timezone=True), nullable=True),
            sa.Column("unserved_since", sa.DateTime(timezone=True), nullable=True),
        ],
    }


def upgrade() -> None:
    """Apply."""
    for table, columns in _columns().items():
        for column in columns:
            op.add_column(table, column)
    op.execute("UPDATE installation SET installed_at = updated_at WHERE state = 'COMPLETED'")
    op.create_index("ix_certificate_request_group_id", "certificate_request", ["group_id"])
    op.create_index("ix_installation_place", "installation", ["endpoint_id", "binding"])
    op.create_index("ix_installation_unserved_since", "installation", ["unserved_since"])
    op.create_table(
        "endpoint_group",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("gateway_id", sa.Integer(), sa.ForeignKey("gateway.id"), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("canaries", sa.Integer(), nullable=False),
        sa.Column("at_once", sa.Integer(), nullable=False),
        sa.Column("soak_seconds", sa.Integer(), nullable=False),
        sa.UniqueConstraint("gateway_id", "name"),
    )
    op.create_index("ix_endpoint_group_gateway_id", "endpoint_group", ["gateway_id"])
    op.create_table(
        "endpoint_group_member",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("group_id", sa.Integer(), sa.ForeignKey("endpoint_group.id"), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("endpoint_id", sa.Integer(), sa.ForeignKey("endpoint.id"), nullable=False),
        sa.Column("binding", sa.String(512), nullable=False),
        sa.UniqueConstraint("group_id", "endpoint_id", "binding"),
    )
    op.create_index("ix_endpoint_group_member_group_id", "endpoint_group_member", ["group_id"])
    op.create_index("ix_endpoint_group_member_endpoint_id", "endpoint_group_member", ["endpoint_id"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("endpoint_group_member")
    op.drop_table("endpoint_group")
    op.drop_index("ix_installation_unserved_since", "installation")
    op.drop_index("ix_installation_place", "installation")
    op.drop_index("ix_certificate_request_group_id", "certificate_request")
    for table, columns in _columns().items():
        for column in columns:
            op.drop_column(table, column.name)
