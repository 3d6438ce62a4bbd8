"""What everybody may change of his own account.

The e-mail address is not among it: a provider's people are recognized by it, so only MRAOs set it.
"""

from __future__ import annotations

from model.errors import Conflict, NotPermitted
from operations import lookup
from operations.administrators import checked_full_name
from operations.context import Context
from operations.identity import FAILURES_ALLOWED, LOCKED_FOR, forget_browsers, hash_password, locked, matches
from operations.lookup import identity
from operations.sessions import Ended, end_all_of

_ACTION = "administrator.password"


def rename(context: Context, full_name: str) -> None:
    """Change the name that others read. Raises `InvalidInput`."""
    with context.acting("administrator.edited", "administrator", context.actor.id) as session:
        row = lookup.administrator(session, context.actor, context.actor.id)
        row.full_name = checked_full_name(full_name)
        session.add(row)
        told = f"Administrator {row.login} edited his name."
        context.tell(session, "administrator.edited", "administrator", told, object_id=row.id)


def change_password(context: Context, current: str, new: str, keep_session: int | None = None) -> None:
    """Change one's own password; all sessions end but `keep_session`.

    A wrong current password counts like a failed sign-in: who found somebody's open browser can't try passwords here.
    Raises `InvalidInput` (too short), `NotPermitted` (the current one is wrong, or too many were), `Conflict` (signs in
    elsewhere).
    """
    hashed = hash_password(new)
    with context.database.read() as session:
        known = lookup.administrator(session, context.actor, context.actor.id).password_hash
    if known is None:
        raise Conflict("You have no password here: you sign in through the provider. An MRAO can set one.")
    right = matches(known, current)
    now = context.clock()
    refused = None
    with context.database.write() as session:
        row = lookup.administrator(session, context.actor, context.actor.id)
        if row.locked_until is not None and row.locked_until > now:
            refused = NotPermitted(locked(row.login, row.locked_until))
        elif not right or row.password_hash != known:
            row.failed_sign_ins += 1
            if row.failed_sign_ins >= FAILURES_ALLOWED:
                row.locked_until, row.failed_sign_ins = now + LOCKED_FOR, 0
            refused = NotPermitted("The current password is wrong.")
        else:
            row.password_hash = hashed
            row.locked_until, row.failed_sign_ins = None, 0
            end_all_of(session, identity(row), Ended.PASSWORD, now, keep=keep_session)
            forget_browsers(session, identity(row))
            told = f"{row.login} changed his password; his other sessions have ended."
            context.tell(session, _ACTION, "administrator", told, object_id=row.id)
        session.add(row)
    if refused is not None:
        with context.acting(_ACTION, "administrator", context.actor.id):
            raise refused
