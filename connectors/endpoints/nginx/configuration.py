"""nginx's configuration as a tree of directives, read through the host, with includes in their places.

The tokens come from crossplane's lexer (which also knows Lua blocks). Files are read through the host and not from the
gateway's own disk, and only what a certificate needs is understood: nginx itself says whether the rest is sound.
"""

from __future__ import annotations

import os
import posixpath
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import crossplane
from crossplane.errors import NgxParserBaseException

from connectors.errors import Permanent
from connectors.hosts.contract import Host

# nginx itself has no bound but the number of open files; a file that includes itself would never end.
DEEPEST_INCLUDE = 32
GLOB_CHARACTERS = frozenset("*?[")


@dataclass(frozen=True)
class Directive:
    """One directive: its name, arguments without quotes, where it stands, what is in its braces (None: no braces)."""

    name: str
    arguments: tuple[str, ...]
    file: str
    line: int
    block: tuple[Directive, ...] | None = None


def named(directives: Sequence[Directive], name: str) -> list[Directive]:
    """Those directives of one level that have this name, in order."""
    return [directive for directive in directives if directive.name == name]


def value_of(directives: Sequence[Directive], name: str) -> str | None:
    """The first argument of the last directive of that name on one level."""
    found = [directive.arguments[0] for directive in named(directives, name) if directive.arguments]
    return found[-1] if found else None


async def load(host: Host, path: str) -> tuple[Directive, ...]:
    """The whole configuration that begins at `path` (absolute). Relative includes start in its folder, as nginx has it.

    Raises `Permanent` with file and line where a file is missing or its braces don't match.
    """
    return await _load(host, path, posixpath.dirname(path), 0)


async def _load(host: Host, path: str, folder: str, depth: int) -> tuple[Directive, ...]:
    if depth > DEEPEST_INCLUDE:
        raise Permanent(f"The nginx configuration includes {path} again and again; take one of the includes out.")
    return await _expand(host, _parse(path, await host.read(path)), folder, depth)


async def _expand(host: Host, directives: Sequence[Directive], folder: str, depth: int) -> tuple[Directive, ...]:
    """Put what is included in the place of each include."""
    expanded: list[Directive] = []
    for directive in directives:
        if directive.name == "include" and directive.block is None and directive.arguments:
            for file in await _included(host, posixpath.join(folder, directive.arguments[0])):
                expanded.extend(await _load(host, file, folder, depth + 1))
        elif directive.block is not None:
            expanded.append(replace(directive, block=await _expand(host, directive.block, folder, depth)))
        else:
            expanded.append(directive)
    return tuple(expanded)


async def _included(host: Host, pattern: str) -> Sequence[str]:
    """A pattern may stand for nothing; a plain name must be there, which reading it will say."""
    return await host.glob(pattern) if GLOB_CHARACTERS & set(pattern) else [pattern]


@lru_cache(maxsize=4096)
def _parse(path: str, content: bytes) -> tuple[Directive, ...]:
    """One file, includes not yet followed. The same content is parsed once: the lexer goes character by character."""
    try:
        with _as_file(content) as descriptor:
            tokens = iter(list(crossplane.lex(descriptor)))
        return tuple(_block(tokens, path))
    except NgxParserBaseException as error:
        raise Permanent(f"The nginx configuration can't be read: {error.strerror} in {path}:{error.lineno}.") from None


def _block(tokens: Iterator[tuple[str, int, bool]], path: str) -> Iterator[Directive]:
    """The directives up to the closing brace (or the end of the file)."""
    words: list[str] = []
    start = 0
    for token, line, quoted in tokens:
        if not words:
            start = line
        if quoted:
            words.append(token)
        elif token.startswith("#"):
            continue
        elif token in (";", "{"):
            block = tuple(_block(tokens, path)) if token == "{" else None  # noqa: S105 (no password)
            if words:
                yield Directive(words[0], tuple(words[1:]), path, start, block)
            words = []
        elif token == "}":  # noqa: S105
            return
        else:
            words.append(token)


@contextmanager
def _as_file(content: bytes) -> Iterator[int]:
    """A descriptor that crossplane can open (and close): in memory where it can be, so a full disk does not matter."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("nginx-configuration")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    with os.fdopen(os.dup(descriptor), "wb") as writer:
        writer.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    yield descriptor
