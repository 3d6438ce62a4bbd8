"""Forms made of a connector's own settings: a field for each, with its description, default and whether it is needed.

`draw` shows the fields, `words` reads what was typed as operations take it: a word for each setting, lists and numbers
as JSON, an empty word for the default. What a field accepts is decided by the settings' own model, not here.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import streamlit as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from connectors.secrets import is_reference

_REFERENCE_HELP = (
    "Where the secret is, for the process that uses it: `file:/absolute/path` (mode 0600), `env:NAME`, or "
    "`vault:PATH#FIELD` in its Vault-compatible server. Never the secret itself."
)


_ABBREVIATIONS = (
    *("alpn01", "ca", "crl", "dn", "dns01", "eab", "hmac", "http01", "id", "ip"),
    *("ocsp", "pem", "ssh", "tls", "ttl", "url"),
)


class Kind(StrEnum):
    """What a field is typed into."""

    TEXT = "text"
    REFERENCE = "reference"
    NUMBER = "number"
    WHOLE = "whole number"
    FLAG = "flag"
    LIST = "list"
    CHOICE = "choice"
    JSON = "json"


@dataclass(frozen=True)
class Field:
    """A setting as a form shows it. `default` is a word; `options` are the words of a choice."""

    name: str
    label: str
    kind: Kind
    needed: bool
    default: str
    help: str
    options: tuple[str, ...] = ()


def fields(model: type[BaseModel]) -> list[Field]:
    """The fields of a settings model: the needed ones first, its own before those that it shares with other models."""
    own = inspect.get_annotations(model)
    found = [_field(name, info) for name, info in model.model_fields.items()]
    return sorted(found, key=lambda field: (not field.needed, field.name not in own))


def draw(model: type[BaseModel], key: str, values: Mapping[str, Any] | None = None) -> None:
    """Show the fields, filled with `values`. `key` begins the keys of their widgets."""
    found = fields(model)
    if not found:
        st.caption("It has no settings.")
    columns = st.columns(2) if len(found) > 1 else [st.container()]
    for number, field in enumerate(found):
        with columns[number % len(columns)]:
            _widget(field, f"{key}-{field.name}", (values or {}).get(field.name))


def words(model: type[BaseModel], key: str, *, cleared: bool = False) -> dict[str, str]:
    """What was typed into the fields that `draw` showed. With `cleared` an empty field is given as an empty word, which
    takes a setting that was set back to its default."""
    found: dict[str, str] = {}
    for field in fields(model):
        word = _word(field, st.session_state.get(f"{key}-{field.name}"))
        if word or cleared:
            found[field.name] = word
    return found


def _field(name: str, info: FieldInfo) -> Field:
    annotation = _bare(info.annotation)
    needed = info.is_required()
    default = "" if needed else _default(info)
    kind, options = _kind(info, annotation)
    text = (info.description or "").strip()
    if kind == Kind.REFERENCE:
        text = f"{text} {_REFERENCE_HELP}".strip()
    label = _label(name)
    for unit in ("seconds", "minutes", "days", "bytes"):
        if name.endswith(f"_{unit}"):
            label = f"{label.removesuffix(unit).strip()} ({unit})"
    return Field(name, label, kind, needed, default, text, options)


def _label(name: str) -> str:
    first, *rest = (word.upper() if word in _ABBREVIATIONS else word for word in name.split("_"))
    return " ".join([first[0].upper() + first[1:], *rest])


def _bare(annotation: Any) -> Any:
    """The type without ``| None`` and without annotations."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        kept = [one for one in get_args(annotation) if one is not type(None)]
        return _bare(kept[0]) if len(kept) == 1 else annotation
    return annotation


def _kind(info: FieldInfo, annotation: Any) -> tuple[Kind, tuple[str, ...]]:
    if is_reference(info):
        return Kind.REFERENCE, ()
    if annotation is bool:
        return Kind.FLAG, ()
    if annotation is int:
        return Kind.WHOLE, ()
    if annotation is float:
        return Kind.NUMBER, ()
    if get_origin(annotation) is Literal:
        return Kind.CHOICE, tuple(str(one) for one in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return Kind.CHOICE, tuple(str(one.value) for one in annotation)
    if get_origin(annotation) in (list, tuple) and _bare(get_args(annotation)[0]) is str:
        return Kind.LIST, ()
    if annotation in (str, Path):
        return Kind.TEXT, ()
    return Kind.JSON, ()


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True, validated_data={})
    if value in (None, PydanticUndefined):
        return ""
    if isinstance(value, Enum):
        return str(value.value)
    return _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, str | Path):
        return str(value)
    return json.dumps(to_jsonable_python(value), ensure_ascii=False)


def shown(value: Any) -> str:
    """A setting that is set, for people."""
    return ", ".join(map(str, value)) if isinstance(value, list) else _shown(value)


def _widget(field: Field, key: str, value: Any) -> None:
    label = f"{field.label} (needed)" if field.needed else field.label
    shown = f"Default: {field.default}" if field.default else "Optional" if not field.needed else ""
    match field.kind:
        case Kind.FLAG:
            options = {"": f"Default ({'yes' if field.default == 'true' else 'no'})", "true": "Yes", "false": "No"}
            now = "" if value is None else "true" if value else "false"
            st.selectbox(
                label, list(options), index=list(options).index(now), format_func=options.__getitem__,
                key=key, help=field.help or None,
            )  # fmt: skip
        case Kind.CHOICE:
            at = field.options.index(str(value)) if value is not None and str(value) in field.options else None
            st.selectbox(label, field.options, index=at, key=key, placeholder=shown, help=field.help or None)
        case Kind.WHOLE | Kind.NUMBER:
            whole = field.kind == Kind.WHOLE
            number = None if value is None else int(value) if whole else float(value)
            st.number_input(
                label, value=number, step=1 if whole else 0.5, key=key, placeholder=shown, help=field.help or None
            )  # fmt: skip
        case Kind.LIST:
            text = "\n".join(value) if isinstance(value, list) else ""
            st.text_area(
                label, value=text, key=key, height=76, placeholder=shown,
                help=f"{field.help} One word a line.".strip(),
            )  # fmt: skip
        case Kind.JSON:
            text = "" if value is None else _shown(value)
            st.text_area(
                label, value=text, key=key, height=76, placeholder=shown, help=f"{field.help} As JSON.".strip()
            )  # fmt: skip
        case _:
            hint = shown
            if field.kind == Kind.REFERENCE:
                hint = "file:/etc/certgate/passphrase, env:NAME or vault:PATH#FIELD"
            st.text_input(
                label, value="" if value is None else str(value), key=key, max_chars=1024, autocomplete="off",
                placeholder=hint, help=field.help or None,
            )  # fmt: skip


def _word(field: Field, value: Any) -> str:
    if value is None:
        return ""
    if field.kind == Kind.LIST:
        lines = [line.strip() for line in str(value).splitlines() if line.strip()]
        return json.dumps(lines, ensure_ascii=False) if lines else ""
    if field.kind in (Kind.WHOLE, Kind.NUMBER):
        return json.dumps(value)
    return str(value).strip()
