"""A request and a reply, apart from how they travel."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.simulators.sectigo.problems import Problem


@dataclass(frozen=True)
class Request:
    """`headers` have lower-case names; `certified`: the client showed a certificate of our client CA."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    certified: bool = False

    def json(self) -> Any:
        """The body. Raises `Problem`."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Problem(-1601, "The request body is not JSON.") from None


@dataclass(frozen=True)
class Reply:
    """`body` as it goes out; a 204 has none."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """JSON."""
        return cls(status, json.dumps(value).encode(), headers=headers or {})

    @classmethod
    def nothing(cls) -> Reply:
        """204 without a body."""
        return cls(204, content_type="")

    @classmethod
    def refusing(cls, problem: Problem) -> Reply:
        """A problem."""
        headers = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else {}
        return cls.of({"code": problem.code, "description": problem.description}, problem.status, headers)
