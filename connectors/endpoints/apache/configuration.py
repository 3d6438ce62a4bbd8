"""Apache's configuration as a tree of directives, read through the host, with includes in their places, variables
replaced, macros used and conditions decided.

Only what a certificate needs is understood; Apache itself says whether the rest is sound. How lines, words and sections
are read is told in "Syntax of the Configuration Files"
(https://httpd.apache.org/docs/2.4/configuring.html#syntax) and, for what is only in the source, ``ap_build_config`` in
``server/config.c`` and ``ap_getword_conf`` in ``server/util.c``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from connectors.endpoints.files import escaped
from connectors.errors import Permanent
from connectors.hosts.contract import Host

# Apache's own bound is AP_MAX_INCLUDE_DEPTH, 20.
DEEPEST_INCLUDE = 20
GLOB_CHARACTERS = frozenset("*?[")
_VARIABLE = re.compile(r"\$\{([^{}$:]+)\}")
# Modules that every Apache is built with, as ``-l`` lists them.
_COMPILED_IN = ("core.c", "mod_so.c", "http_core.c", "so_module", "core_module", "http_module")
_CONDITIONS = ("ifmodule", "ifdefine", "ifversion", "iffile", "ifdirective", "ifsection")
# Sections whose content is never about a virtual host's certificate.
_LEFT_OUT = frozenset(
    {"directory", "directorymatch", "files", "filesmatch", "location", "locationmatch", "limit", "proxy"}
)


@dataclass(frozen=True)
class Directive:
    """One directive: its name in lower case, its words without quotes, where it stands, and what is in its section
    (None: it is no section)."""

    name: str
    arguments: tuple[str, ...]
    file: str
    line: int
    block: tuple[Directive, ...] | None = None


def named(directives: Sequence[Directive], name: str) -> list[Directive]:
    """Those directives of one level that have this name (lower case), in order."""
    return [directive for directive in directives if directive.name == name]


def value_of(directives: Sequence[Directive], name: str) -> str | None:
    """The first word of the last directive of that name on one level."""
    found = [directive.arguments[0] for directive in named(directives, name) if directive.arguments]
    return found[-1] if found else None


@dataclass(frozen=True)
class Configuration:
    """The whole tree, and where relative paths start."""

    directives: tuple[Directive, ...]
    server_root: str

    def path(self, value: str) -> str:
        """An absolute path of what a directive names."""
        return posixpath.normpath(posixpath.join(self.server_root, value))


@dataclass(frozen=True)
class _Line:
    text: str
    file: str
    number: int


@dataclass
class _Reader:
    """The state that reading goes through: what is said earlier counts for what comes later."""

    host: Host
    server_root: str
    variables: dict[str, str]
    modules: set[str]
    macros: dict[str, tuple[list[str], list[_Line]]] = field(default_factory=dict)


async def load(
    host: Host, path: str, *, server_root: str, variables: Mapping[str, str], defines: Sequence[str] = ()
) -> Configuration:
    """The configuration that begins at `path` (absolute). `server_root` counts until a ServerRoot is said; `variables`
    are those of Apache's environment, `defines` names given by ``-D``.

    Raises `Permanent` with file and line where a file is missing or sections don't match.
    """
    known = {**variables, **dict.fromkeys(defines, "")}
    reader = _Reader(host, server_root, known, set(_COMPILED_IN))
    directives = await _file(reader, path, 0)
    return Configuration(tuple(directives), reader.server_root)


async def _file(reader: _Reader, path: str, depth: int) -> list[Directive]:
    if depth > DEEPEST_INCLUDE:
        raise Permanent(f"The Apache configuration includes {path} again and again; take one of the includes out.")
    content = await reader.host.read(path)
    lines = iter(list(_lines(content.decode("utf-8", "surrogateescape"), path)))
    return await _block(reader, lines, None, depth)


def _lines(text: str, path: str) -> Iterator[_Line]:
    """Lines with something in them; one that ends with a backslash goes on in the next."""
    pending, start = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        start = start or number
        if raw.endswith("\\"):
            pending += raw[:-1]
            continue
        line, first = (pending + raw).strip(), start
        pending, start = "", 0
        if line and not line.startswith("#"):
            yield _Line(line, path, first)
    if pending.strip():
        yield _Line(pending.strip(), path, start)


async def _block(reader: _Reader, lines: Iterator[_Line], section: _Line | None, depth: int) -> list[Directive]:
    """The directives up to the end of the section that `section` opens (None: of the file)."""
    closing = None if section is None else _opened(section)[0]
    found: list[Directive] = []
    for line in lines:
        if line.text.startswith("</"):
            name = line.text[2:].rstrip(">").strip().lower()
            if name != closing:
                raise _misplaced(line, f"</{name}> closes what is not open")
            return found
        if line.text.startswith("<"):
            found += await _section(reader, line, lines, depth)
        else:
            found += await _directive(reader, line, depth)
    if section is not None:
        raise _misplaced(section, f"<{closing}> is never closed")
    return found


async def _section(reader: _Reader, line: _Line, lines: Iterator[_Line], depth: int) -> list[Directive]:
    name, words = _opened(line, reader.variables)
    if name == "macro":
        reader.macros[words[0].lower() if words else ""] = (words[1:], list(_skipped(line, lines)))
        return []
    if name in _LEFT_OUT or (name in _CONDITIONS and not await _holds(reader, name, words)):
        for _ in _skipped(line, lines):
            pass
        return []
    block = await _block(reader, lines, line, depth)
    if name in _CONDITIONS:
        return block
    return [Directive(name, tuple(words), line.file, line.number, tuple(block))]


def _opened(line: _Line, variables: Mapping[str, str] | None = None) -> tuple[str, list[str]]:
    """Name and words of ``<Name words>``."""
    inside = line.text[1:].rstrip()
    if not inside.endswith(">"):
        raise _misplaced(line, "a section's line ends without >")
    name, *rest = inside[:-1].split(None, 1) or [""]
    return name.lower(), _words(_replaced(rest[0] if rest else "", variables or {}))


def _skipped(section: _Line, lines: Iterator[_Line]) -> Iterator[_Line]:
    """The lines of a section as they are, without its end; sections of the same name inside belong to it."""
    name, _ = _opened(section)
    depth = 1
    for line in lines:
        lowered = line.text.lower()
        if re.match(rf"</{re.escape(name)}\s*>", lowered):
            depth -= 1
            if depth == 0:
                return
        elif re.match(rf"<{re.escape(name)}[\s>]", lowered):
            depth += 1
        yield line
    raise _misplaced(section, f"<{name}> is never closed")


async def _holds(reader: _Reader, name: str, words: Sequence[str]) -> bool:
    """Whether a condition's content counts. One that only a build of Apache could tell counts."""
    argument = words[0] if words else ""
    negated, plain = argument.startswith("!"), argument.removeprefix("!")
    if name == "ifmodule":
        return (plain in reader.modules) is not negated
    if name == "ifdefine":
        return (plain in reader.variables) is not negated
    if name == "iffile":
        path = posixpath.join(reader.server_root, plain)
        return (await reader.host.state(path) is not None) is not negated
    return True


async def _directive(reader: _Reader, line: _Line, depth: int) -> list[Directive]:
    first, *rest = line.text.split(None, 1)
    name, words = first.lower(), _words(_replaced(rest[0] if rest else "", reader.variables))
    if name == "define" and words:
        reader.variables[words[0]] = words[1] if len(words) > 1 else ""
    elif name == "undefine" and words:
        reader.variables.pop(words[0], None)
    elif name == "loadmodule" and words:
        reader.modules |= _module_names(words)
    elif name == "serverroot" and words:
        reader.server_root = words[0]
    elif name in ("include", "includeoptional") and words:
        return [one for file in await _included(reader, name, words[0]) for one in await _file(reader, file, depth + 1)]
    elif name == "use" and words and words[0].lower() in reader.macros:
        return await _used(reader, line, words, depth)
    return [Directive(name, tuple(words), line.file, line.number)]


def _module_names(words: Sequence[str]) -> set[str]:
    """What IfModule may call a module: its own name, or its source file's, which is known from that of the library."""
    file = posixpath.basename(words[-1]).removesuffix(".so")
    return {words[0], f"{file}.c", f"{file.removeprefix('mod_mpm_')}.c"}


async def _used(reader: _Reader, line: _Line, words: Sequence[str], depth: int) -> list[Directive]:
    """A macro's lines with its parameters replaced, the longest first (mod_macro)."""
    if depth > DEEPEST_INCLUDE:
        raise _misplaced(line, f"the macro {words[0]} uses itself again and again")
    parameters, body = reader.macros[words[0].lower()]
    values = dict(zip(parameters, words[1:], strict=False))

    def filled(text: str) -> str:
        for parameter in sorted(values, key=len, reverse=True):
            text = text.replace(parameter, values[parameter])
        return text

    lines = iter([_Line(filled(one.text), one.file, one.number) for one in body])
    return await _block(reader, lines, None, depth + 1)


async def _included(reader: _Reader, name: str, value: str) -> list[str]:
    """The files of an Include, in Apache's order: a folder stands for all that is below it, a pattern may stand for
    folders too. A plain name must be there unless it is optional, which reading it will say."""
    path = posixpath.normpath(posixpath.join(reader.server_root, value))
    if not GLOB_CHARACTERS.isdisjoint(value):
        return [file for one in await reader.host.glob(path) for file in await _below(reader.host, one)]
    if name == "includeoptional" and await reader.host.state(path) is None:
        return []
    return await _below(reader.host, path)


async def _below(host: Host, path: str) -> list[str]:
    """The file itself, or the files of a folder and of the folders in it, in byte order."""
    inside = sorted({*await host.glob(f"{escaped(path)}/*"), *await host.glob(f"{escaped(path)}/.[!.]*")})
    if not inside:
        # An empty folder has nothing; what is no folder is a file, or reading it says what it is.
        return [] if await host.glob(f"{escaped(path)}/") else [path]
    return [file for one in inside for file in await _below(host, one)]


def _replaced(text: str, variables: Mapping[str, str]) -> str:
    """With ``${NAME}`` replaced where it is known, as often as it takes."""
    for _ in range(DEEPEST_INCLUDE):
        changed = _VARIABLE.sub(lambda found: variables.get(found[1], found[0]), text)
        if changed == text:
            break
        text = changed
    return text


def _words(text: str) -> list[str]:
    """Words as ``ap_getword_conf`` cuts them: in quotes a backslash stands before the quote or another backslash."""
    words: list[str] = []
    rest = text.strip()
    while rest:
        quote = rest[0] if rest[0] in "\"'" else ""
        if quote:
            end = 1
            while end < len(rest) and rest[end] != quote:
                end += 2 if rest[end] == "\\" and rest[end + 1 : end + 2] in ("\\", quote) else 1
            word, rest = rest[1:end], rest[end + 1 :]
            words.append(re.sub(rf"\\([\\{quote}])", r"\1", word))
        else:
            word, *others = rest.split(None, 1)
            words.append(word)
            rest = others[0] if others else ""
        rest = rest.lstrip()
    return words


def environment_in(text: str) -> dict[str, str]:
    """The variables of a file such as Debian's envvars: ``export NAME=VALUE``, with what it refers to replaced (by
    nothing where that is not known, as in a shell). Anything else in it is not looked at."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$", line)
        if match is None:
            match = re.match(r"\s*:\s+\"?\$\{([A-Za-z_][A-Za-z0-9_]*):?=([^}]*)\}\"?\s*$", line)
        if match is not None:
            value = match[2].split(" #")[0].strip().strip("\"'")
            found[match[1]] = re.sub(
                r"\$(?:\{([A-Za-z_]\w*)[^}]*\}|([A-Za-z_]\w*))", lambda name: found.get(name[1] or name[2], ""), value
            )
    return found


def _misplaced(line: _Line, what: str) -> Permanent:
    return Permanent(f"The Apache configuration can't be read: {what} in {line.file}:{line.number}.")
