"""Where connector errors become Temporal failures: here, and nowhere else.

The failure's `type` is the name of the connector error's class; workflows tell them apart by it. Causes and stack
traces of foreign code are cut off: they would end up in histories, and nobody knows what they quote.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from connectors.errors import (
    ConnectorError,
    NameValidation,
    Pending,
    Permanent,
    RestoreFailed,
    Retryable,
    RolledBack,
    Step,
)
from model.errors import CertgateError, Unavailable
from model.messages import InstallStep, InstallTrouble, OrderValidation

log = structlog.get_logger(__name__)

# A CA that gives no hint is asked after 2 s, 4 s, 8 s … at most every ten minutes.
_FIRST_POLL = timedelta(seconds=2)
_LONGEST_POLL = timedelta(minutes=10)
# An answer that asks for less would make a busy loop of the queue.
_SHORTEST_HINT = timedelta(milliseconds=200)
_BEAT = timedelta(seconds=2)


@contextmanager
def as_failures() -> Iterator[None]:
    """Turn the outcomes of `connectors/errors.py` and our own errors into `ApplicationError`s of the same name."""
    try:
        yield
    except Pending as error:
        # The details are what `operations/orders.py` reads of a step that is under way.
        raise ApplicationError(
            error.message,
            [validation(one) for one in error.validations],
            type="Pending",
            next_retry_delay=_poll_delay(error.after),
            category=ApplicationErrorCategory.BENIGN,
        ) from None
    except Retryable as error:
        raise ApplicationError(error.message, type="Retryable", next_retry_delay=error.after) from None
    except RolledBack as error:
        trouble = InstallTrouble(error.served, steps(error.steps))
        raise ApplicationError(error.message, trouble, type="RolledBack", non_retryable=True) from None
    except RestoreFailed as error:
        trouble = InstallTrouble(None, steps(error.steps))
        raise ApplicationError(error.message, trouble, type="RestoreFailed", non_retryable=True) from None
    except Permanent as error:
        raise ApplicationError(error.message, type=type(error).__name__, non_retryable=True) from None
    except ConnectorError as error:
        raise ApplicationError(error.message, type=type(error).__name__, non_retryable=True) from None
    except Unavailable as error:
        raise ApplicationError(error.message, type="Retryable") from None
    except CertgateError as error:
        raise ApplicationError(error.message, type=type(error).__name__, non_retryable=True) from None
    except ApplicationError:
        raise
    except Exception as error:
        log.exception("unexpected error in an activity", activity=activity.info().activity_type)
        raise ApplicationError(
            f"An unexpected {type(error).__name__} came up; details are in the log of the process that ran this step.",
            type="Unexpected",
        ) from None


@asynccontextmanager
async def heartbeating(state: Callable[[], object] = str) -> AsyncIterator[None]:
    """Heartbeat while the block runs, so that a dead process is noticed and a cancellation arrives.

    `state` gives the heartbeat's details: a text for the Temporal UI, or what the step goes on with if it dies.
    """

    async def beat() -> None:
        while True:
            # Asleep first: most steps are over before one beat, and a beat is a call to the server.
            await asyncio.sleep(_BEAT.total_seconds())
            activity.heartbeat(state())

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()


def validation(seen: NameValidation) -> OrderValidation:
    """Where the CA stands with a name, as the message that carries it."""
    return OrderValidation(seen.name, seen.state, seen.method, seen.missing, seen.error, seen.until)


def steps(done: list[Step]) -> list[InstallStep]:
    """A connector's steps as the message that carries them."""
    return [InstallStep(step.name, step.outcome) for step in done]


def _poll_delay(hint: timedelta | None) -> timedelta:
    if hint is not None:
        return max(hint, _SHORTEST_HINT)
    doublings: int = min(activity.info().attempt - 1, 12)
    return min(_FIRST_POLL * (1 << doublings), _LONGEST_POLL)
