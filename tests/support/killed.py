"""The process behind `tests.support.products.KilledInstalls`: a job a line in, an exit status a line out.

Everything is imported before the first job, and each job is carried out in a fork, which is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from tests.support.installing import kill_this_process
from tests.support.products import Fault, carry_out


def main() -> None:
    """Until the input ends."""
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                asyncio.run(carry_out(job, Fault(job["at"], kill_this_process)))
                status = 0
            except Exception as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
            finally:
                os._exit(status)
        _, found = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(found), flush=True)


if __name__ == "__main__":
    main()
