"""What the real interface answers when it refuses: an HTTP status and ``{"code": …, "description": …}``."""

from __future__ import annotations


class Problem(Exception):
    """An answer that is a refusal. `code` is the vendor's number (zero or negative)."""

    def __init__(self, code: int, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.status = status


def unknown_user() -> Problem:
    """No such login, a wrong password, another customer, a token that has ended."""
    return Problem(-16, "Unknown user", 401)


def not_found(ssl_id: int) -> Problem:
    """Reading, deleting and validating answer 404 for an id that is none."""
    return Problem(-124, f"Wrong SSL certificate id {ssl_id}.", 404)


def wrong_id(ssl_id: int) -> Problem:
    """What changes a certificate answers 400 for an id that is none."""
    return Problem(-124, f"Wrong SSL certificate id {ssl_id}.")


def invalid_field(name: str) -> Problem:
    """A field with a value of the wrong type, length or range."""
    return Problem(-1601, f"Field '{name}' has invalid value.")


def missing(name: str) -> Problem:
    """A field that has to be there."""
    return Problem(-7, f"{name} is required but missing.")
