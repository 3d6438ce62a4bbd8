"""Writes docs/reference/command-line.md from the command line's own help: ``python tools/cli_reference.py``.

With ``--check`` nothing is written; it ends 1 if the page is not what the help says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "command-line.md"
_WIDTH = 110
_HEAD = """# Command line

Made from `certgate --help` by `tools/cli_reference.py`; a test keeps it so.

Data go to stdout, as a table or with `--json` as one JSON value; all else goes to stderr. Questions are asked on a
terminal only; `--yes` answers them. Secrets are asked for or read from files, never taken from arguments. Times are
UTC. Exit codes: 0 done, or nothing to do · 1 failed · 2 wrong usage · 3 not permitted. Who acts: the token in
`CERTGATE_TOKEN` or of `certgate login`, else the owner of the home.
"""


def page() -> str:
    """The whole page."""
    from cli.main import app

    parts = [_HEAD]
    for path, text in _helps(typer.main.get_command(app), ["certgate"]):
        parts.append(f"{'#' * min(len(path) + 1, 3)} {' '.join(path)}\n\n```\n{text}\n```\n")
    return "\n".join(parts)


def _helps(command: Any, path: list[str], parent: Any = None) -> Iterator[tuple[list[str], str]]:
    context = command.context_class(command, info_name=path[-1], parent=parent, terminal_width=_WIDTH)
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield path, text
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        yield from _helps(command.get_command(context, name), [*path, name], context)


def main() -> int:
    """Write the page, or check it."""
    wanted = page()
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == wanted else 1
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.exit(main())
