"""What a script takes, read from its own ``param(…)`` by tree-sitter's grammar of PowerShell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import tree_sitter
import tree_sitter_powershell

_PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))


def parse(text: str) -> tree_sitter.Node:
    """The syntax tree of a script."""
    return _PARSER.parse(text.encode()).root_node


def walk(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    """A node and all below it, in the order of the text."""
    yield node
    for child in node.children:
        yield from walk(child)


def words(node: tree_sitter.Node) -> str:
    """A node's text."""
    return (node.text or b"").decode()


class Secure(str):
    """A string that came as a SecureString."""

    __slots__ = ()


TYPES: Mapping[str, type[Any]] = {
    "string": str,
    "string[]": list,
    "byte[]": bytes,
    "int": int,
    "bool": bool,
    "securestring": Secure,
}


@dataclass
class Parameter:
    """One parameter with what PowerShell would check."""

    name: str
    kind: str = "object"
    mandatory: bool = False
    empty: bool = False
    pattern: str | None = None
    allowed: list[str] = field(default_factory=list)
    bounds: tuple[int, int] | None = None

    def complaint(self, value: Any) -> str | None:
        """What PowerShell would say against a value."""
        if not _is(TYPES[self.kind], value):
            return f"Cannot process argument transformation on parameter '{self.name}'."
        if self.mandatory and value == "" and not self.empty:
            return f"Cannot bind argument to parameter '{self.name}' because it is an empty string."
        if self.pattern is not None and not re.search(self.pattern, value, re.IGNORECASE):
            return f"Cannot validate argument on parameter '{self.name}'. It does not match the pattern."
        if self.allowed and value.lower() not in [one.lower() for one in self.allowed]:
            return f"Cannot validate argument on parameter '{self.name}'. It does not belong to the set."
        if self.bounds is not None and not self.bounds[0] <= value <= self.bounds[1]:
            return f"Cannot validate argument on parameter '{self.name}'. It is out of range."
        return None


def _is(kind: type[Any], value: Any) -> bool:
    return type(value) is kind and (kind is not list or all(type(one) is str for one in value))


def parameters_of(text: str) -> dict[str, Parameter]:
    """The parameters of a script, by name."""
    block = next(node for node in walk(parse(text)) if node.type == "param_block")
    found = [_parameter(node) for node in walk(block) if node.type == "script_parameter"]
    return {parameter.name: parameter for parameter in found}


def _parameter(node: tree_sitter.Node) -> Parameter:
    name = next(words(child) for child in node.children if child.type == "variable").removeprefix("$")
    parameter = Parameter(name)
    for attribute in (one for one in walk(node) if one.type == "attribute"):
        text = words(attribute)
        given = [words(one).strip("'") for one in walk(attribute) if one.type == "attribute_argument"]
        if attribute.child(0) is not None and attribute.named_children[0].type == "type_literal":
            parameter.kind = text.strip("[]").lower() + ("[]" if text.endswith("[]]") else "")
        elif text.startswith("[Parameter("):
            parameter.mandatory = "Mandatory" in given
        elif text.startswith("[AllowEmptyString("):
            parameter.empty = True
        elif text.startswith("[ValidatePattern("):
            parameter.pattern = given[0]
        elif text.startswith("[ValidateSet("):
            parameter.allowed = given
        elif text.startswith("[ValidateRange("):
            parameter.bounds = (int(given[0]), int(given[1]))
        else:
            raise AssertionError(f"the simulator does not know the attribute {text}")
    return parameter


def bind(text: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given values as PowerShell would bind them; raises `ValueError` with its words."""
    known = parameters_of(text)
    for name in given:
        if name not in known:
            raise ValueError(f"A parameter cannot be found that matches parameter name '{name}'.")
    for name, parameter in known.items():
        if name not in given:
            if parameter.mandatory:
                raise ValueError(f"Cannot process command because of one or more missing mandatory parameters: {name}.")
        elif complaint := parameter.complaint(given[name]):
            raise ValueError(complaint)
    return dict(given)
