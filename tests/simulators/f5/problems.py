"""What the device answers when it refuses: an HTTP status, and a message that begins with eight hexadecimal digits."""

from __future__ import annotations

from typing import Any


class Problem(Exception):
    """An answer that is a refusal."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status

    def body(self) -> dict[str, Any]:
        """As iControl REST writes it."""
        return {"code": self.status, "message": self.message, "errorStack": [], "apiError": 3}


def not_found(kind: str, path: str) -> Problem:
    """Nothing is called so."""
    return Problem(f"01020036:3: The requested {kind} ({path}) was not found.", 404)


def exists(kind: str, path: str) -> Problem:
    """Something is called so already."""
    partition = path.split("/")[1]
    return Problem(f"01020066:3: The requested {kind} ({path}) already exists in partition {partition}.", 409)


def unknown_reference(kind: str, path: str) -> Problem:
    """A profile names something that is not there."""
    return Problem(f"01070277:3: The requested {kind} ({path}) was not found.")


def mismatch(profile: str) -> Problem:
    """Key and certificate that a profile names."""
    return Problem(f"01070317:3: profile {profile}'s key and certificate do not match")


def in_use(path: str) -> Problem:
    """A file object that a profile names."""
    return Problem(f"01071349:3: File object by name ({path}) is in use.")


def referenced(what: str, path: str) -> Problem:
    """Anything else that something names."""
    return Problem(f"01070320:3: {what} {path} is still referenced by a virtual server.")


def wrong(words: str) -> Problem:
    """A configuration that makes no sense."""
    return Problem(f"01070734:3: Configuration error: {words}")


def bad_file(path: str, words: str) -> Problem:
    """A file that is not what it should be."""
    return Problem(f"01070712:3: unable to validate {path}: {words}")
