"""What goes wrong is one sentence on the page, never a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import streamlit as st
import structlog

from dashboard import components, session
from model.errors import CertgateError, Unavailable

log = structlog.get_logger(__name__)

UNEXPECTED = "Something went wrong here that we did not expect; the dashboard's log has the details. Please try again."


def sentence(error: Exception) -> str:
    """What a person is told about an error. One that is not ours is logged, and told without its words."""
    if isinstance(error, CertgateError):
        return error.message
    log.error("unexpected error in the dashboard", exc_info=error)
    return UNEXPECTED


@contextmanager
def guarded(show: Callable[[str], None] | None = None) -> Iterator[None]:
    """Around everything that a page does: an error becomes its sentence, shown in place or by `show`; a session that
    has ended leads to the sign-in page. Streamlit's own rerun and stop are no `Exception` and pass."""
    try:
        yield
    except session.SessionEnded as ended:
        session.end(ended.message)
        st.rerun()
    except Unavailable as error:
        (show or components.warning)(sentence(error))
    except Exception as error:
        (show or components.error)(sentence(error))
