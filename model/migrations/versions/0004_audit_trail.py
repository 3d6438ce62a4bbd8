"""The audit trail at a million entries: indexes for the newest first, entries only at its end, a head that only grows.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_INDEXED = (
    "time",
    "actor",
    "access_method",
    "action",
    "object",
    "gateway_id",
    "organization_id",
    "department_id",
    "outcome",
)
_AT_THE_END = "audit entries are added one after the other, at the end of the trail"
_FOLLOWS = "EXISTS (SELECT 1 FROM audit_head WHERE id = 1 AND sequence = NEW.sequence - 1 AND hash = NEW.previous_hash)"
_GOES_ON = (
    "NEW.id = OLD.id AND NEW.sequence = OLD.sequence + 1 "
    "AND EXISTS (SELECT 1 FROM audit_entry WHERE sequence = NEW.sequence AND hash = NEW.hash)"
)
_FORWARD = "the head of the audit trail only goes from one entry to the next"


def upgrade() -> None:
    """Apply."""
    for name in ("time", "actor", "action", "object", "gateway_id"):
        op.drop_index(f"ix_audit_entry_{name}", table_name="audit_entry")
    for name in _INDEXED:
        columns = ["object_type", "object_id"] if name == "object" else [name]
        op.create_index(f"ix_audit_entry_{name}", "audit_entry", [*columns, "sequence"])
    if op.get_bind().dialect.name == "sqlite":
        _guard_sqlite()
    else:
        _guard_postgresql()


def _guard_sqlite() -> None:
    """An `INSERT OR REPLACE` deletes without asking a trigger on deletion, so it is refused as an insertion."""
    new = "NOT EXISTS (SELECT 1 FROM audit_entry WHERE sequence = NEW.sequence OR once = NEW.once)"
    for name, event, unless, words in (
        ("audit_entry_in_order", "INSERT ON audit_entry", f"{_FOLLOWS} AND {new}", _AT_THE_END),
        ("audit_head_forward", "UPDATE ON audit_head", _GOES_ON, _FORWARD),
        ("audit_head_no_insert", "INSERT ON audit_head", "0", _FORWARD),
        ("audit_head_no_delete", "DELETE ON audit_head", "0", _FORWARD),
    ):
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {event} WHEN NOT ({unless}) BEGIN SELECT RAISE(ABORT, '{words}'); END"
        )


def _guard_postgresql() -> None:
    """The triggers fire in every session, also in one that applies a replication (`ENABLE ALWAYS`)."""
    for name, unless, words in (
        ("audit_entry_in_order", _FOLLOWS, _AT_THE_END),
        ("audit_head_forward", _GOES_ON, _FORWARD),
        ("audit_head_refuse", "false", _FORWARD),
    ):
        op.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN IF NOT ({unless}) THEN RAISE EXCEPTION '{words}'; END IF; RETURN NEW; END $$"
        )
    op.execute(
        "CREATE TRIGGER audit_entry_in_order BEFORE INSERT ON audit_entry "
        "FOR EACH ROW EXECUTE FUNCTION audit_entry_in_order()"
    )
    op.execute(
        "CREATE TRIGGER audit_head_forward BEFORE UPDATE ON audit_head "
        "FOR EACH ROW EXECUTE FUNCTION audit_head_forward()"
    )
    op.execute(
        "CREATE TRIGGER audit_head_no_other BEFORE INSERT OR DELETE OR TRUNCATE ON audit_head "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_head_refuse()"
    )
    for table, trigger in (
        ("audit_entry", "audit_entry_no_change"),
        ("audit_entry", "audit_entry_in_order"),
        ("audit_head", "audit_head_forward"),
        ("audit_head", "audit_head_no_other"),
    ):
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")


def downgrade() -> None:
    """Releases go forward: a database of this one can't be used by the one before."""
    raise RuntimeError("the third revision can't be taken back: restore a backup of the second")
