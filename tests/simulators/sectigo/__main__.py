"""``python -m tests.simulators.sectigo``: see `command`."""

from __future__ import annotations

import argparse

from tests.simulators.sectigo import command


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(prog="tests.simulators.sectigo")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", default="1")
    parser.add_argument("--until-stdin-ends", action="store_true")
    given = parser.parse_args()
    command.run(given.port, given.faults, until_stdin_ends=given.until_stdin_ends)


main()
