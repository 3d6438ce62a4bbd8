"""``openapi.json``: requests are checked against the very description that the conformance tests read.

Only the words of JSON Schema that stand in that file are understood; another one is an error at the start and not a
check that silently is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.simulators.sectigo.problems import invalid_field, missing
from tests.simulators.sectigo.wire import Request

FILE = Path(__file__).with_name("openapi.json")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
_CHECKED = {"type", "enum", "minLength", "maxLength", "minimum", "maximum", "properties", "required", "items", "$ref"}
_REMARKS = {"description", "format", "default", "deprecated", "additionalProperties"}


class Document:
    """The description, by operation."""

    def __init__(self) -> None:
        self._whole: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
        self._operations: dict[str, tuple[list[dict[str, Any]], dict[str, Any] | None]] = {}
        for item in self._whole["paths"].values():
            shared = item.get("parameters", [])
            for operation in (one for one in item.values() if isinstance(one, dict)):
                parameters = [self._resolved(one) for one in [*shared, *operation.get("parameters", [])]]
                self._operations[operation["operationId"]] = (parameters, operation.get("requestBody"))
        for schema in self._whole["components"]["schemas"].values():
            self._understood(schema)

    def check(self, operation: str, parts: Mapping[str, str], request: Request) -> None:
        """Raises `Problem` for a request that is not as described."""
        parameters, described = self._operations[operation]
        for one in parameters:
            given = (parts if one["in"] == "path" else request.query).get(one["name"])
            if given is not None:
                self._check_text(given, one["schema"], one["name"])
        if described is None or (not request.body and not described["required"]):
            return
        if not request.body:
            raise missing("The request body")
        self._check(request.json(), described["content"]["application/json"]["schema"], "body")

    def _check_text(self, given: str, schema: Mapping[str, Any], name: str) -> None:
        value: Any = given
        if schema["type"] == "integer":
            if not _INTEGER.fullmatch(given):
                raise invalid_field(name)
            value = int(given)
        self._check(value, schema, name)

    def _check(self, value: Any, schema: Mapping[str, Any], name: str) -> None:
        schema = self._resolved(schema)
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(_TYPES[kind](value) for kind in kinds) or ("enum" in schema and value not in schema["enum"]):
            raise invalid_field(name)
        if isinstance(value, str) and not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 2**31):
            raise invalid_field(name)
        if isinstance(value, int) and not schema.get("minimum", -(2**31)) <= value <= schema.get("maximum", 2**31 - 1):
            raise invalid_field(name)
        if isinstance(value, list):
            for one in value:
                self._check(one, schema["items"], name)
        if isinstance(value, dict):
            self._check_object(value, schema)

    def _check_object(self, value: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
        for name in schema.get("required", []):
            if name not in value:
                raise missing(name)
        for name, one in value.items():
            # Others are let through, as the real interface does.
            if name in schema["properties"]:
                self._check(one, schema["properties"][name], name)

    def _resolved(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        if "$ref" not in schema:
            return dict(schema)
        found: Any = self._whole
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return dict(found)

    def _understood(self, schema: Mapping[str, Any]) -> None:
        strange = set(schema) - _CHECKED - _REMARKS
        if strange:
            raise ValueError(f"openapi.json has words that are not checked: {', '.join(sorted(strange))}")
        for one in schema.get("properties", {}).values():
            self._understood(one)
        if "items" in schema:
            self._understood(schema["items"])
