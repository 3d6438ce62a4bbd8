"""The gateway's own file of its modules, ``modules.toml`` in its home: read, checked, and edited so that whoever keeps
it with an editor finds his comments again.

```toml
revision = 7                      # written by a sync; leave it as it is

[properties]
comments = "Rack 12"

[keystores.default]
type = "pem"

[endpoints."shop"]
type = "nginx"
install = "manual"                # "auto" is the default
settings = { configuration = "/etc/nginx/nginx.conf" }
window = { cron = "0 2 * * 6", zone = "Europe/Berlin", minutes = 90 }
```

Credentials are references (``file:/…``, ``env:NAME``, ``vault:PATH#FIELD``). An entry that breaks a rule is told with
its line and never leaves the host: a secret that was typed in place of a reference must not travel.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import secrets
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import TypeAdapter, ValidationError
from tomlkit.exceptions import TOMLKitError

from connectors import registry
from connectors.errors import Permanent
from connectors.registry import Kind, find
from connectors.secrets import FORMS, Reference
from model.rules import modules

FILE_NAME = "modules.toml"
BACKUP_NAME = "modules.toml.bak"
_TABLES = {"properties": modules.PROPERTY, "endpoints": modules.ENDPOINT, "keystores": modules.KEYSTORE}
_TABLE_OF = {kind: table for table, kind in _TABLES.items()}
_LAST_REVISION = 2**31 - 1
_REFERENCE: TypeAdapter[str] = TypeAdapter(Reference)
_HEADING = re.compile(r"\s*\[\[?(.+?)\]\]?\s*(#.*)?")
_NEW = """\
# What this gateway works with: its endpoints and keystores. Edit it as you like, check it with
# `certgate gateway modules`, and bring it together with the manager's records by `certgate gateway sync`.
# Passphrases and other secrets are references: file:/absolute/path, env:NAME or vault:PATH#FIELD.
"""


@dataclass(frozen=True)
class Found:
    """What is in the file. `revision` is None where there is no file. `unusable` says of keys what is wrong, where."""

    revision: int | None
    document: dict[str, Any] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The same for files that say the same."""
        return modules.digest(self.document, self.unusable)


def read(home: Path) -> Found:
    """Read and check the file. Raises `Permanent` with file and line where it is no usable file at all."""
    return _parsed(home / FILE_NAME, _text(home / FILE_NAME))


@dataclass(frozen=True)
class Edited:
    """What came of an edit, and the file's digest now. `refused` says of keys why they can't be written here; all
    others were."""

    written: bool
    digest: str
    refused: dict[str, str] = field(default_factory=dict)


def edit(home: Path, *, expected: str, revision: int, changes: Mapping[str, Any]) -> Edited:
    """Set `changes` (None takes a key out) and `revision`, and keep the file of before as ``modules.toml.bak``.

    Nothing is written when the file no longer says what it said when `expected` was its digest. When the edit was made
    before, by a process that was killed after it, all is well. The whole new file is there, or the old one. Raises
    `Permanent` where the file can't be written.
    """
    path = home / FILE_NAME
    refused = {
        key: f"The gateway refuses it: {wrong[1].rstrip('.')}."
        for key, value in changes.items()
        if value is not None and (wrong := obstacle(key, value)) is not None
    }
    wanted = {key: value for key, value in changes.items() if key not in refused}
    with _one_at_a_time(home):
        before = _text(path)
        found = _parsed(path, before)
        if found.revision == revision and all(found.document.get(key) == value for key, value in wanted.items()):
            return Edited(True, found.digest, refused)
        if found.digest != expected:
            return Edited(False, found.digest)
        target = {key: value for key, value in {**found.document, **wanted}.items() if value is not None}
        digest = modules.digest(target, found.unusable.keys() - wanted.keys())
        after = _edited(before or "", wanted, revision)
        if not _says(path, after, digest, revision):
            # A way of writing that can't be edited in place: the same content, written anew, without its comments.
            after = _rewritten(before or "", wanted, revision)
        if len(after.encode()) > modules.LARGEST:
            raise Permanent(f"{path} would be longer than {modules.LARGEST // 1024} KiB: take something out of it.")
        if not _says(path, after, digest, revision):
            raise Permanent(f"{path} can't hold what the manager wants to write; nothing was changed.")
        # Whoever saves the file with an editor at this very moment is found out, up to the rename itself.
        if _text(path) != before:
            return Edited(False, found.digest)
        if before is not None:
            _put(home / BACKUP_NAME, path.read_bytes(), path)
        _put(path, after.encode(), path)
    return Edited(True, digest, refused)


def obstacle(key: str, value: Any) -> tuple[str, str] | None:
    """What is wrong with a value, in its form or for the connectors that this process has; as `modules.obstacle`."""
    return modules.obstacle(key, value) or _connector_obstacle(key, value)


def settled(key: str, value: Any) -> Any:
    """A sound value in normal form, with settings as their connector writes them."""
    kind, _ = modules.split(key)
    if kind == modules.PROPERTY:
        return value
    made = dict(value)
    for word, connectors, type_name in _settings_of(kind, value):
        given = value.get(word, {})
        settings = find(connectors, type_name).configure(given)
        made[word] = settings.model_dump(mode="json", include=set(given))
    return modules.normal(made)


def connectors_here() -> list[modules.Connector]:
    """The connectors of this process, each with the version of the package that it came in."""
    return [modules.Connector(one.kind, one.name, one.title, one.version) for one in registry.modules()]


def _connector_obstacle(key: str, value: Any) -> tuple[str, str] | None:
    kind, _ = modules.split(key)
    if kind == modules.PROPERTY:
        return None
    credential = value.get("credential")
    if credential is not None:
        try:
            _REFERENCE.validate_python(credential)
        except ValidationError:
            return "credential", f"must be a reference ({FORMS}), not the secret itself"
    if kind == modules.ENDPOINT and (wrong := _connection_obstacle(value)) is not None:
        return wrong
    for word, connectors, type_name in _settings_of(kind, value):
        try:
            find(connectors, type_name).configure(value.get(word, {}))
        except Permanent as error:
            named = re.search(r"setting ([^:]+):", error.message)
            return (f"{word}.{named[1]}" if named else word), error.message
    return None


def _connection_obstacle(value: Mapping[str, Any]) -> tuple[str, str] | None:
    try:
        kind = find("endpoints", value["type"])
    except Permanent as error:
        return "type", error.message
    connection, possible = value.get("connection", "local"), registry.connections(kind)
    if connection in possible:
        if connection == registry.OWN_INTERFACE and value.get("connection_settings"):
            return "connection_settings", f"{kind.title} is reached by its own interface and has none"
        return None
    if connection in registry.installed("hosts"):
        return "connection", f"{kind.title} can't be connected by {connection}; choose {' or '.join(possible)}"
    return None  # told by the settings


def _settings_of(kind: str, value: Mapping[str, Any]) -> list[tuple[str, Kind, str]]:
    if kind == modules.KEYSTORE:
        return [("settings", "keystores", value["type"])]
    found: list[tuple[str, Kind, str]] = [("settings", "endpoints", value["type"])]
    if (connection := value.get("connection", "local")) != registry.OWN_INTERFACE:
        found.append(("connection_settings", "hosts", connection))
    return found


# --- reading ----------------------------------------------------------------------------------------------------------


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            content = file.read(modules.LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Permanent(f"{path} can't be read: {error.strerror or type(error).__name__}.") from None
    if len(content) > modules.LARGEST:
        raise Permanent(f"{path} is longer than {modules.LARGEST // 1024} KiB: take something out of it.")
    try:
        # Universal line ends, as whoever edits on another system leaves them.
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Permanent(f"{path}, line {line}: this is not UTF-8 text.") from None


def _parsed(path: Path, text: str | None) -> Found:
    if text is None:
        return Found(None)
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        # The words of the parser quote no values, only places.
        why = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it is nested too deeply"
        raise Permanent(f"{path} is not a TOML file: {why}.") from None
    for word in values:
        if word not in ("revision", *_TABLES):
            known = ", ".join(["revision", *_TABLES])
            raise Permanent(f"{path}, line {_line(text, [word])}: there is no such key {word!r}; known are {known}.")
    revision = values.get("revision", 0)
    if not isinstance(revision, int) or isinstance(revision, bool) or not 0 <= revision <= _LAST_REVISION:
        raise Permanent(f"{path}, line {_line(text, ['revision'])}: revision is a whole number; a sync writes it.")
    document: dict[str, Any] = {}
    unusable: dict[str, str] = {}
    for table, kind in _TABLES.items():
        entries = values.get(table, {})
        if not isinstance(entries, dict):
            raise Permanent(f"{path}, line {_line(text, [table])}: {table} must be a table.")
        for name, value in entries.items():
            key = f"{kind}:{name}"
            if kind == modules.PROPERTY and value == "":
                continue
            wrong = obstacle(key, value)
            if wrong is None:
                document[key] = modules.normal(value)
            else:
                where = [table, name, *wrong[0].split(".")] if wrong[0] else [table, name]
                unusable[key] = f"{path}, line {_line(text, where)}, {'.'.join(where)}: {wrong[1].rstrip('.')}."
    return Found(revision, document, unusable)


def _says(path: Path, text: str, digest: str, revision: int) -> bool:
    try:
        found = _parsed(path, text)
    except Permanent:
        return False
    return (found.digest, found.revision) == (digest, revision)


def _line(text: str, path: list[str]) -> int:
    """The line where the deepest part of `path` that can be found stands; 1 where nothing of it can."""
    best, depth, heading = 1, 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        match = _HEADING.fullmatch(line)
        if match is not None:
            named = _words(f"[{match[1]}]")
            if named is None:
                continue
            heading = here = named
        else:
            word = _words(line.partition("=")[0] + "=0") if "=" in line else None
            if word is None:
                continue
            here = heading + word
        shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(here, path, strict=False)))
        if shared > depth:
            best, depth = number, shared
    return best


def _words(line: str) -> list[str] | None:
    """The names that a line of TOML goes down by, such as ``[endpoints."a.b"]``."""
    try:
        values: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    names = []
    while isinstance(values, dict) and values:
        name, values = next(iter(values.items()))
        names.append(name)
    return names


# --- writing ----------------------------------------------------------------------------------------------------------


def _edited(text: str, changes: Mapping[str, Any], revision: int) -> str:
    """The text with the changes in it and everything else as it was."""
    try:
        content = tomlkit.parse(text or _NEW)
        if "revision" in content:
            content["revision"] = revision
        else:
            top = tomlkit.document()
            for line in _NEW.splitlines() if not text else ():
                top.add(tomlkit.comment(line.removeprefix("# ")))
            top.add("revision", tomlkit.item(revision))
            content = tomlkit.parse(top.as_string() + ("\n" + text if text else ""))
        for key, value in changes.items():
            kind, name = modules.split(key)
            table = _TABLE_OF[kind]
            if value is None:
                if name in content.get(table, {}):
                    del content[table][name]
                continue
            if table not in content:
                content.add(table, tomlkit.table(is_super_table=kind != modules.PROPERTY))
            entries: Any = content[table]
            if isinstance(value, Mapping) and isinstance(entries.get(name), Mapping):
                _lay_over(entries[name], value)
            else:
                entries[name] = _item(value)
        return tomlkit.dumps(content)
    except (TOMLKitError, KeyError, ValueError, TypeError):
        return ""


def _lay_over(before: Any, value: Mapping[str, Any]) -> None:
    """Make a table hold `value`, and touch only what is different."""
    for name in [name for name in before if name not in value]:
        if not (name in ("settings", "connection_settings", "window") and not before[name]):
            del before[name]
    for name, one in value.items():
        there = before.get(name)
        if isinstance(one, Mapping) and isinstance(there, Mapping):
            _lay_over(there, one)
        elif name not in before or (there.unwrap() if hasattr(there, "unwrap") else there) != one:
            before[name] = _inline(one)


def _item(value: Any) -> Any:
    """A new entry: a table of its own, with settings and window on one line each."""
    if not isinstance(value, Mapping):
        return tomlkit.item(value)
    made = tomlkit.table()
    for name, one in value.items():
        made.add(name, _inline(one))
    return made


def _inline(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return tomlkit.item(value)
    made = tomlkit.inline_table()
    for name, one in value.items():
        made.append(name, _inline(one))
    return made


def _rewritten(text: str, changes: Mapping[str, Any], revision: int) -> str:
    values = tomllib.loads(text)
    values["revision"] = revision
    for key, value in changes.items():
        kind, name = modules.split(key)
        entries = values.setdefault(_TABLE_OF[kind], {})
        if value is None:
            entries.pop(name, None)
        else:
            entries[name] = value
    top = {"revision": values.pop("revision")}
    return _NEW + tomlkit.dumps({**top, **values})


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    try:
        descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Permanent(f"The gateway's home {home} can't be used: {error.strerror}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _put(path: Path, content: bytes, like: Path) -> None:
    """Put a file at `path` (or where a link there leads), with the mode of `like`, so that it outlives a power cut."""
    try:
        real = path.resolve()
        mode = like.stat().st_mode & 0o777 if like.exists() else 0o600
        unfinished = real.with_name(f".{real.name}.{secrets.token_hex(6)}")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(real)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        folder = os.open(real.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise Permanent(f"{path} can't be written: {error.strerror or type(error).__name__}.") from None
