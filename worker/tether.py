"""Runs a command that ends when whoever started it dies: `python tether.py PARENT -- COMMAND…`

A supervisor that is killed with SIGKILL cannot tell its children. On Linux the kernel does: the child gets SIGTERM, so
that it still drains. The command replaces this program, so its process id is the one that the supervisor knows.
Elsewhere (there is no such call) the command runs untethered, and the next supervisor ends what it finds on record.

The kernel looks at the *thread* that started the child: start tethered children from the thread that lives longest.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def main() -> None:
    """Ties itself to its parent, then becomes the command."""
    parent, separator, *command = sys.argv[1:]
    if separator != "--" or not command:
        sys.exit("usage: tether.py PARENT -- COMMAND…")
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
            sys.exit(f"tether: {os.strerror(ctypes.get_errno())}")
    # It may have died before the tie was made.
    if os.getppid() != int(parent):
        sys.exit(0)
    try:
        os.execvp(command[0], command)  # noqa: S606  (no shell is the point)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
