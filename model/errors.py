"""What can be wrong, as a person is told it.

CertgateError
├── InvalidInput      the words given are wrong; nothing was changed (command line: exit 2)
│   └── NotFound      what was named does not exist, or the asker may not see it
├── NotPermitted      who asks may not do this; the refusal is audited (command line: exit 3)
├── Conflict          the thing is no longer in a state that allows this (command line: exit 1)
└── Unavailable       a part that is needed does not answer: Temporal, the database, a gateway (command line: exit 1)

Every message is one sentence that says what happened, where, and what to do.
"""

from __future__ import annotations


class CertgateError(Exception):
    """Base of all errors that are told to a person as they stand."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInput(CertgateError):
    """The input breaks a rule; nothing was changed."""


class NotFound(InvalidInput):
    """Nothing of that name or number exists within what the asker may see."""


class NotPermitted(CertgateError):
    """The administrator may not do this."""


class Conflict(CertgateError):
    """The object's state does not allow the act any more (or not yet)."""


class Unavailable(CertgateError):
    """A needed part does not answer; the same act may succeed later."""
