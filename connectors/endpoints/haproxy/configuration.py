"""HAProxy's configuration as sections of lines, read through the host.

Only what a certificate needs is understood; HAProxy itself says whether the rest is sound. Words, quotes and variables
are read as the Configuration Manual has it in "2.2. Quoting and escaping" and "2.3. Environment variables".
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from connectors.endpoints.files import escaped
from connectors.errors import Permanent
from connectors.hosts.contract import Host

_SECTIONS = frozenset(
    """
    global defaults frontend backend listen peers userlist resolvers mailers program http-errors ring log-forward cache
    fcgi-app crt-store traces log-profile acme
    """.split()  # noqa: SIM905 (as it stands in the manual)
)
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?:\[\*\])?\}|([A-Za-z_]\w*))")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True)
class Line:
    """One line: its words without quotes, and where it stands."""

    words: tuple[str, ...]
    file: str
    number: int


@dataclass
class Section:
    """A section: its kind (``frontend``), its name (may be empty), its lines."""

    kind: str
    name: str
    lines: list[Line] = field(default_factory=list)

    def named(self, *words: str) -> list[Line]:
        """Those lines that begin with these words."""
        return [line for line in self.lines if line.words[: len(words)] == words]


def value_in(sections: Sequence[Section], *words: str) -> str | None:
    """The word after these, in the last line of a global section that begins so."""
    found = [
        line.words[len(words)]
        for section in sections
        if section.kind == "global"
        for line in section.named(*words)
        if len(line.words) > len(words)
    ]
    return found[-1] if found else None


async def load(host: Host, paths: Sequence[str]) -> list[Section]:
    """All sections of these files, and of the files ``*.cfg`` of a folder, in order.

    Raises `Permanent` with file and line where a file is missing or a quote is not closed.
    """
    sections: list[Section] = []
    variables: dict[str, str] = {}
    for path in paths:
        inside = sorted(await host.glob(f"{escaped(path.rstrip('/'))}/*.cfg"))
        for file in inside or [path]:
            content = (await host.read(file)).decode("utf-8", "surrogateescape")
            _read(content, file, sections, variables)
    return sections


def _read(content: str, file: str, sections: list[Section], variables: dict[str, str]) -> None:
    for number, text in enumerate(content.splitlines(), 1):
        words = words_of(text, variables, f"{file}:{number}")
        if not words or words[0].startswith("."):
            continue  # conditions: what is in them counts, and handshakes tell whether it did
        if words[0] in _SECTIONS:
            sections.append(Section(words[0], words[1] if len(words) > 1 else ""))
        elif sections:
            sections[-1].lines.append(Line(tuple(words), file, number))
            if words[0] in ("setenv", "presetenv") and len(words) > 2:
                variables[words[1]] = words[2]


def words_of(text: str, variables: Mapping[str, str], where: str) -> list[str]:
    """The words of a line. Variables count within double quotes only; one that is not known stays as it is."""
    words: list[str] = []
    word, started, quote, position = "", False, "", 0
    while position < len(text):
        character = text[position]
        if quote == "'":
            quote, word = ("", word) if character == "'" else (quote, word + character)
        elif character == "\\" and position + 1 < len(text):
            position += 1
            following = text[position]
            literal = f"\\{following}" if quote and following not in '\\"$#' else following
            word, started = word + (literal if quote else _ESCAPES.get(following, following)), True
        elif character == '"':
            quote, started = ("" if quote else '"'), True
        elif quote:
            match = _VARIABLE.match(text, position) if character == "$" else None
            if match is not None:
                word += variables.get(match[1] or match[2], match[0])
                position = match.end() - 1
            else:
                word += character
        elif character == "'":
            quote, started = "'", True
        elif character == "#":
            break
        elif character.isspace():
            if started:
                words.append(word)
            word, started = "", False
        else:
            word, started = word + character, True
        position += 1
    if quote:
        raise Permanent(f"The HAProxy configuration can't be read: a quote is not closed in {where}.")
    return [*words, word] if started else words


def under(folder: str | None, path: str) -> str:
    """A path as HAProxy makes it from ``crt-base``: joined with one slash, otherwise as it is written."""
    return path if path.startswith("/") or folder is None else posixpath.join(folder, path)
