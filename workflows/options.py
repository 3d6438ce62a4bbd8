"""Timeouts and retries, chosen once for all workflows, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from temporalio.common import RetryPolicy

# A gateway that does not take its work in this time is told to be away; then we wait longer and longer, never in a loop
# that fills the history.
PICK_UP = (timedelta(minutes=1), timedelta(minutes=30), timedelta(hours=6))

# A process that dies is noticed after this; activities beat every two seconds.
HEARTBEAT = timedelta(seconds=10)

# The database may be away for a moment or an hour: keep trying, the request waits.
RECORDS_TIMEOUT = timedelta(seconds=30)
RECORDS_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=30)
)

# A CA or a gateway's disk may be away for days. Answers that no retry can mend come as failures that are not retried.
PATIENT = RetryPolicy(
    initial_interval=timedelta(seconds=1), backoff_coefficient=2.0, maximum_interval=timedelta(minutes=10)
)

# An install that fails for a passing reason is tried a few times, then a person decides.
INSTALL = RetryPolicy(
    initial_interval=timedelta(seconds=2),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(minutes=1),
    maximum_attempts=5,
)

# What is nice to have is tried for some minutes.
BRIEF = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=6,
)


@dataclass(frozen=True)
class StepOptions:
    """How long one run of a step may take, and how it is retried."""

    start_to_close: timedelta
    retry: RetryPolicy


# RSA-4096 may take half a minute on a small machine.
PREPARE = StepOptions(timedelta(minutes=3), PATIENT)
ORDER = StepOptions(timedelta(minutes=2), PATIENT)
# Snapshot, check, reload, handshakes and, if need be, putting back, on a slow endpoint.
INSTALLATION = StepOptions(timedelta(minutes=10), INSTALL)
# A batch of questions to a CA that may answer slowly; what is not answered is asked in the next round.
ASK = StepOptions(timedelta(minutes=15), BRIEF)
TIDY = StepOptions(timedelta(minutes=1), BRIEF)
LOOK = StepOptions(timedelta(minutes=2), BRIEF)
# A step of a network scan looks for half a minute; what is under way then is given up.
SCAN = StepOptions(timedelta(minutes=3), BRIEF)
# Places that do not answer are no failure of it, so what fails is the process that runs it.
FETCH = StepOptions(timedelta(minutes=1), BRIEF)
# Where an issuer's certificate could not be had just now it is looked for again, later and later.
FETCH_AGAIN = timedelta(minutes=10)
FETCH_AGAIN_AT_MOST = timedelta(days=1)
