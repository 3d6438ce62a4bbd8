"""What goes wrong, how often, and for which request: all from one seed.

A fault of one request is drawn from the seed, its method and path, and how many of that kind came before, so that a run
can be repeated. At most `Faults.most_in_a_row` requests of a kind fail one after the other: whoever tries again gets
through.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

from tests.simulators import fate
from tests.simulators.sectigo.faults import Fault as Cut


class Fault(StrEnum):
    """What may happen to one request."""

    BUSY = "busy"  # 503 with JSON, nothing done
    UNAVAILABLE = "unavailable"  # 503 with a web page: the REST framework is starting; nothing done
    TOKEN_ENDED = "token_ended"  # the token ends before its time: 401, nothing done
    CUT_BEFORE = "cut_before"  # the connection is reset before anything was done
    CUT_AFTER = "cut_after"  # the work is done, and the connection is reset in place of the reply
    CUT_WITHIN = "cut_within"  # the work is done, and the connection is reset in the middle of the reply
    TRANSACTIONS_ENDED = "transactions_ended"  # those that are open are gone, as after 120 s; then the work is done
    FAILOVER = "failover"  # the other unit takes over before this request, which meets the other one
    STALLED = "stalled"  # the work is done, and no reply comes until the client hangs up, or for a minute
    HTML = "html"  # the work is done, and the body of the 200 is a web page
    HUGE = "huge"  # the work is done, and the reply has 50 MB


# How the server cuts the connection, or else what it does to the reply.
TRANSPORT = {
    Fault.CUT_AFTER: Cut.CUT_AFTER,
    Fault.CUT_WITHIN: Cut.CUT_WITHIN,
    Fault.STALLED: Cut.STALLED,
    Fault.HUGE: Cut.HUGE,
}


@dataclass(frozen=True)
class Faults:
    """How likely each thing is, from 0 to 1, for each request.

    `Faults.off()`: nothing goes wrong. `Faults.usual(seed)`: everything that a client has to survive without a person.
    `sync_polls` is how often a client sees "Not All Devices Synced" after a synchronization, at most.
    """

    seed: int = 0
    most_in_a_row: int = 2
    sync_polls: int = 0

    busy: float = 0.0
    unavailable: float = 0.0
    token_ended: float = 0.0
    cut_before: float = 0.0
    cut_after: float = 0.0
    cut_within: float = 0.0
    transactions_ended: float = 0.0
    failover: float = 0.0
    stalled: float = 0.0
    html: float = 0.0
    huge: float = 0.0

    @classmethod
    def off(cls) -> Faults:
        """Fair weather."""
        return cls()

    @classmethod
    def usual(cls, seed: int) -> Faults:
        """About every sixth request fails in a way that passes by itself."""
        return cls(
            seed=seed,
            sync_polls=2,
            busy=0.03,
            unavailable=0.02,
            token_ended=0.03,
            cut_before=0.02,
            cut_after=0.03,
            cut_within=0.02,
            transactions_ended=0.02,
        )

    def __post_init__(self) -> None:
        """Raises `ValueError` for a probability that is none."""
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, float) and not 0 <= value <= 1:
                raise ValueError(f"{one.name} has to be from 0 to 1")


class Fate(fate.Fate[Fault]):
    """Decides. An order means the requests whose method and path have its word in them."""

    faults: Faults

    def __init__(self, faults: Faults) -> None:
        super().__init__(Fault, faults)

    def of_request(self, what: str) -> Fault | None:
        """What happens to this request; `what` is its method and path."""
        return self.meets(what, lambda on: on in what)
