"""What goes wrong, how often, and for which request: all from one seed.

A fault of one request is drawn from the seed, the route, the subject (the order's id, or the common name that is
ordered) and how many requests of that kind came before: requests of other subjects change nothing, so that a run with
many at a time can be repeated. The same subject and route meet at most `Faults.most_in_a_row` faults one after the
other: whoever tries again gets through.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from tests.simulators import fate


class Fault(StrEnum):
    """What may happen to one request."""

    RATE_LIMITED = "rate_limited"  # 429 with Retry-After, nothing done
    SERVER_ERROR = "server_error"  # 500 with a JSON body, nothing done
    HTML_ERROR = "html_error"  # 502 with a web page of a proxy, nothing done
    GATEWAY_TIMEOUT = "gateway_timeout"  # 504 with a web page, although the work was done
    CA_UNAVAILABLE = "ca_unavailable"  # 400 with code -195, nothing done
    CUT_BEFORE = "cut_before"  # the connection is reset before anything was done
    CUT_AFTER = "cut_after"  # the work is done, and the connection is reset in place of the reply
    CUT_WITHIN = "cut_within"  # the work is done, and the connection is reset in the middle of the reply
    UNAUTHORIZED = "unauthorized"  # 401 with code -16, nothing done
    EMPTY = "empty"  # the work is done, and the body of the 200 is empty
    HTML = "html"  # the work is done, and the body of the 200 is a web page
    STALLED = "stalled"  # the work is done, and no reply comes until the client hangs up, or for a minute
    HUGE = "huge"  # the work is done, and the body of the 200 has 50 MB
    REDIRECT = "redirect"  # 302 to a private address, nothing done


AFTER_THE_WORK = frozenset(
    {
        *(Fault.GATEWAY_TIMEOUT, Fault.CUT_AFTER, Fault.CUT_WITHIN, Fault.STALLED),
        *(Fault.EMPTY, Fault.HTML, Fault.HUGE),
    }
)


class Wrong(StrEnum):
    """What may be wrong with a certificate, or with the chain that comes with it."""

    OTHER_KEY = "other_key"
    OTHER_NAMES = "other_names"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    UNKNOWN_ISSUER = "unknown_issuer"
    UNORDERED_CHAIN = "unordered_chain"
    STRANGER_IN_CHAIN = "stranger_in_chain"


class Approval(StrEnum):
    """Who approves an order at the CA's side."""

    NONE = "none"  # nobody: it goes straight to Applied
    POLLS = "polls"  # after a number of polls, by itself
    MANUAL = "manual"  # somebody has to call approve


@dataclass(frozen=True)
class Faults:
    """How likely each thing is, from 0 to 1, for each request or order.

    `Faults.off()`: nothing goes wrong and the first poll finds the certificate. `Faults.usual(seed)`: everything that
    a client has to survive without a person. `Faults.hostile(seed)`: besides, what only a person can judge.

    Polls are requests for the details of an order or its certificate. `approval_polls` and `issue_polls` are the
    smallest and largest number of polls that find it not approved, or not issued; `issue_seconds` the shortest time in
    Applied by the simulator's clock.
    """

    seed: int = 0
    most_in_a_row: int = 2
    retry_after: int = 1

    rate_limited: float = 0.0
    server_error: float = 0.0
    html_error: float = 0.0
    gateway_timeout: float = 0.0
    ca_unavailable: float = 0.0
    cut_before: float = 0.0
    cut_after: float = 0.0
    cut_within: float = 0.0
    stalled: float = 0.0
    unauthorized: float = 0.0
    empty: float = 0.0
    html: float = 0.0
    huge: float = 0.0
    redirect: float = 0.0

    approval: Approval = Approval.NONE
    approval_polls: tuple[int, int] = (0, 0)
    issue_polls: tuple[int, int] = (0, 0)
    issue_seconds: float = 0.0
    hangs: float = 0.0
    rejects: float = 0.0
    shows_old: float = 0.0
    """While a replacement is in work: hand out the old certificate in place of "being processed"."""

    other_key: float = 0.0
    other_names: float = 0.0
    expired: float = 0.0
    not_yet_valid: float = 0.0
    unknown_issuer: float = 0.0
    unordered_chain: float = 0.0
    stranger_in_chain: float = 0.0

    @classmethod
    def off(cls) -> Faults:
        """Fair weather."""
        return cls()

    @classmethod
    def usual(cls, seed: int) -> Faults:
        """About every fourth request fails in a way that passes by itself; orders take a few polls."""
        return cls(
            seed=seed,
            rate_limited=0.03,
            server_error=0.03,
            html_error=0.03,
            gateway_timeout=0.03,
            ca_unavailable=0.02,
            cut_before=0.03,
            cut_after=0.05,
            cut_within=0.04,
            approval=Approval.POLLS,
            approval_polls=(0, 1),
            issue_polls=(0, 2),
            shows_old=0.5,
            unordered_chain=0.2,
            stranger_in_chain=0.1,
        )

    @classmethod
    def hostile(cls, seed: int) -> Faults:
        """Everything at once: also answers and certificates that no CA should give. Only `stalled` has to be asked for:
        it takes as long as the client's patience."""
        return replace(
            cls.usual(seed),
            unauthorized=0.01,
            empty=0.02,
            html=0.02,
            huge=0.005,
            redirect=0.01,
            hangs=0.05,
            rejects=0.05,
            other_key=0.05,
            other_names=0.05,
            expired=0.05,
            not_yet_valid=0.05,
            unknown_issuer=0.05,
        )

    def __post_init__(self) -> None:
        """Raises `ValueError` for a probability that is none."""
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, float) and one.name != "issue_seconds" and not 0 <= value <= 1:
                raise ValueError(f"{one.name} has to be from 0 to 1")


@dataclass(frozen=True)
class Plan:
    """What will become of one order, or of one reissue."""

    approval_polls: int | None
    """None: somebody has to approve."""
    issue_polls: int
    issue_seconds: float
    hangs: bool
    rejects: bool
    shows_old: bool
    wrong: Wrong | None

    @classmethod
    def fair(cls) -> Plan:
        """Nothing goes wrong, and nothing takes time."""
        return cls(0, 0, 0.0, hangs=False, rejects=False, shows_old=False, wrong=None)


class Fate(fate.Fate[Fault]):
    """Decides. Faults that a test ordered with `inject` come before those that are drawn."""

    faults: Faults

    def __init__(self, faults: Faults) -> None:
        super().__init__(Fault, faults)
        self._wrong: list[Wrong] = []

    def issue_wrongly(self, wrong: Wrong, times: int) -> None:
        """The next `times` certificates are wrong in that way."""
        with self._lock:
            self._wrong += [wrong] * times

    def forget(self) -> None:
        """Drop what was ordered and not met yet."""
        super().forget()
        with self._lock:
            self._wrong.clear()

    def of_request(self, route: str, subject: str) -> Fault | None:
        """What happens to this request; an order means a route, or all (``*``)."""
        return self.meets(f"{route}/{subject}", lambda on: on in ("*", route))

    def of_order(self, subject: str) -> Plan:
        """What will become of this order; `subject` has to be another one for each."""
        faults = self.faults
        dice = random.Random(f"{faults.seed}/order/{subject}")
        approval: int | None = dice.randint(*faults.approval_polls)
        if faults.approval is Approval.MANUAL:
            approval = None
        elif faults.approval is Approval.NONE:
            approval = 0
        with self._lock:
            wrong = self._wrong.pop(0) if self._wrong else None
        return Plan(
            approval_polls=approval,
            issue_polls=dice.randint(*faults.issue_polls),
            issue_seconds=faults.issue_seconds,
            hangs=dice.random() < faults.hangs,
            rejects=dice.random() < faults.rejects,
            shows_old=dice.random() < faults.shows_old,
            wrong=wrong or self.draw(Wrong, f"wrong/{subject}"),
        )
