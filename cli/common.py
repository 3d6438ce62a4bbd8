"""What all commands share: who acts, what is printed where, questions, secrets.

Data go to stdout, as a table for people or with ``--json`` as one JSON value; all else goes to stderr.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from model.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from connectors.registry import Surroundings
    from operations.context import Context
    from worker.door import Door
    from worker.settings import Settings

ResultT = TypeVar("ResultT")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value on stdout.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]
Comment = Annotated[str, typer.Option(help="A word for the others who read this.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many rows.")]
Offset = Annotated[int, typer.Option(min=0, help="Skip so many rows.")]

WIDTH_WITHOUT_TERMINAL = 100
_DURATION = re.compile(r"(\d{1,9})([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


@dataclasses.dataclass
class Globals:
    """The options that stand before the command."""

    home: Path | None = None
    debug: bool = False


GLOBALS = Globals()


# --- who acts ---------------------------------------------------------------------------------------------------------


def settings(*, make: bool = False) -> Settings:
    """The settings of the home that was named. Raises `Unavailable` when there is no such home, unless `make`."""
    from worker.settings import load

    named = GLOBALS.home or Path(os.environ.get("CERTGATE_HOME") or Path.home() / ".certgate")
    elsewhere = any(os.environ.get(name) for name in ("CERTGATE_DATABASE_URL", "CERTGATE_DATABASE_URL_FILE"))
    if not (make or elsewhere or named.expanduser().is_dir()):
        raise Unavailable(f"There is no certgate home {named}: start one with `certgate up`, or name it with --home.")
    return load(GLOBALS.home)


@contextmanager
def opened(*, make: bool = False) -> Iterator[Door]:
    """The home's database and Temporal, for the life of a command."""
    from worker.door import Door

    door = Door(settings(make=make))
    try:
        yield door
    finally:
        door.close()


@contextmanager
def acting() -> Iterator[Context]:
    """The context of whoever uses the command line."""
    from model.states import AccessMethod

    with opened() as door:
        yield door.context(door.command_line_actor(), AccessMethod.COMMAND_LINE)


def surroundings(home: Path) -> Surroundings:
    """What connectors that are opened here may know."""
    from connectors.registry import Surroundings
    from worker.credentials import resolver
    from worker.settings import load

    return Surroundings(home, resolver(load(home).vault))


def run(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine to its end."""
    import asyncio

    from temporalio.runtime import Runtime, TelemetryConfig

    # The engine's library writes its log on stdout, where only data belong. What matters comes as an error, too.
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=None)), error_if_already_set=False)
    return asyncio.run(work)


# --- output -----------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """A sentence for people, on stderr."""
    print(clean(text), file=sys.stderr, flush=True)


def plain(value: Any) -> Any:
    """A value as JSON knows it: dataclasses as objects, times as UTC in ISO 8601, enumerations as their words."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    return value


def emit_json(value: Any) -> None:
    """One JSON value on stdout."""
    json.dump(plain(value), sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


def emit_rows(rows: Sequence[Any], as_json: bool, columns: Mapping[str, Callable[[Any], Any]], empty: str) -> None:
    """Rows as JSON, or as a table with these columns; `empty` is said where there are none."""
    if as_json:
        emit_json(rows)
    elif not rows:
        say(empty)
    else:
        table(list(columns), [[shown(column(row)) for column in columns.values()] for row in rows])


def emit_fields(value: Any, as_json: bool, fields: Mapping[str, Any]) -> None:
    """One thing as JSON, or as lines of name and value; empty ones are left out."""
    if as_json:
        emit_json(value)
        return
    kept = {name: shown(one) for name, one in fields.items() if one not in (None, "", [], {})}
    width = max((len(name) for name in kept), default=0)
    for name, text in kept.items():
        first, *rest = text.splitlines() or [""]
        print(f"{name:<{width}}  {first}")
        for line in rest:
            print(f"{'':<{width}}  {line}")


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout, folded to the width of the terminal (100 columns without one), never cut."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 1))
    for title in titles:
        drawn.add_column(title, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    Console(width=width, highlight=False).print(drawn)


def shown(value: Any) -> str:
    """A value for people."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, Mapping):
        return "\n".join(f"{key}={shown(one)}" for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(one) for one in value)
    return clean(str(value))


def clean(text: str) -> str:
    """Text without control characters, so that nothing that others typed commands this terminal."""
    return "".join(one if one.isprintable() or one == "\n" else "\N{REPLACEMENT CHARACTER}" for one in text)


def more(shown_rows: int, offset: int, total: int) -> None:
    """Say that there are more rows than were printed."""
    if offset + shown_rows < total:
        say(f"{shown_rows} of {total}; the next with --offset {offset + shown_rows}.")


# --- questions and secrets --------------------------------------------------------------------------------------------


def confirm(question: str, yes: bool) -> None:
    """Ask before something is destroyed. Raises `InvalidInput` where nobody can be asked, `typer.Abort` on a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput(f"{question} Nobody can be asked here: say --yes if so.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise typer.Abort


def secret(what: str, file: Path | None, *, twice: bool = False) -> str:
    """A secret from a file (``-``: stdin), else asked for on the terminal. Never from an argument.

    Raises `InvalidInput` where there is neither, or the two answers differ.
    """
    if file is not None:
        return first_line(file)
    if not sys.stdin.isatty():
        raise InvalidInput(f"{what}: name a file that holds it (- for stdin), there is no terminal to ask on.")
    given = getpass.getpass(f"{what}: ")
    if twice and getpass.getpass(f"{what}, again: ") != given:
        raise InvalidInput("The two answers differ.")
    return given


def first_line(file: Path) -> str:
    """The first line of a file, or of stdin (``-``). Raises `InvalidInput`."""
    text = read_text(file)
    lines = text.splitlines()
    if not lines or not lines[0].strip():
        raise InvalidInput(f"The file {file} is empty.")
    return lines[0]


def read_text(file: Path) -> str:
    """The text of a file, or of stdin (``-``). Raises `InvalidInput`."""
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"The file {file} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"The file {file} is not UTF-8 text.") from None


def read_bytes(file: Path) -> bytes:
    """The content of a file, or of stdin (``-``). Raises `InvalidInput`."""
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"The file {file} can't be read: {error.strerror}.") from None


def write_new(file: Path, text: str, mode: int = 0o600) -> None:
    """Write a file that must not exist yet. Raises `InvalidInput`."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise InvalidInput(f"The file {file} exists already: name another one.") from None
    except OSError as error:
        raise InvalidInput(f"The file {file} can't be written: {error.strerror}.") from None


# --- words on the command line ----------------------------------------------------------------------------------------


def pairs(words: Sequence[str] | None) -> dict[str, str]:
    """``KEY=VALUE`` words. Raises `InvalidInput`."""
    found: dict[str, str] = {}
    for word in words or []:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InvalidInput(f"A setting is given as KEY=VALUE, not {word!r}.")
        found[key.strip()] = value
    return found


def duration(word: str) -> timedelta:
    """``90s``, ``15m``, ``12h``, ``30d``, ``4w``. Raises `InvalidInput`."""
    match = _DURATION.fullmatch(word.strip().lower())
    if match is None:
        raise InvalidInput(f"{word!r} is not a duration such as 15m, 12h or 30d.")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def seconds(word: str | None) -> int | None:
    """A duration in whole seconds; None stays None. Raises `InvalidInput`."""
    return None if word is None else int(duration(word).total_seconds())


def moment(word: str | None) -> datetime | None:
    """A time in ISO 8601; without a zone it is UTC. Raises `InvalidInput`."""
    if word is None:
        return None
    try:
        found = datetime.fromisoformat(word)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(f"{word!r} is not a time such as 2026-11-23 or 2026-11-23T17:00:00Z.") from None
