"""The import of certificates from a CA's own list."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from model.messages.requests import AuthorityAccess


@dataclass(frozen=True)
class ImportStart:
    """Carry on with an import as its record says: read the CA's list, or take what was chosen."""

    import_id: int


@dataclass(frozen=True)
class ImportAdmission:
    """`refused` says why nothing is done; `step` is ``listing`` or ``taking``. `queue` is where the CA is reached, None
    for the manager itself."""

    refused: str | None
    step: str = ""
    ca: str = ""
    gateway: str = ""
    authority: AuthorityAccess | None = None
    queue: str | None = None


@dataclass(frozen=True)
class ListPage:
    """Read a part of a page of the CA's list: from line `offset` of page `page` (the CA's own word, None the first)."""

    authority: AuthorityAccess
    page: str | None = None
    offset: int = 0


@dataclass(frozen=True)
class ListPageHere:
    """The same from the manager, and keep it."""

    import_id: int
    page: str | None = None
    offset: int = 0


@dataclass(frozen=True)
class ListedLine:
    """A line of the list (`ListedCertificate` of `connectors/ca/contract.py`)."""

    order_number: str
    common_name: str
    serial_number: str = ""
    names: list[str] = field(default_factory=list)
    status: str = ""
    profile: str = ""
    not_after: datetime | None = None


@dataclass(frozen=True)
class ListedPage:
    """A part of the list, and where the next one begins; `over`: there is none. `total` if the CA tells it."""

    lines: list[ListedLine]
    page: str | None
    offset: int
    over: bool
    total: int | None = None


@dataclass(frozen=True)
class KeepPage:
    """Keep a part of the list that a gateway has read."""

    import_id: int
    page: ListedPage


@dataclass(frozen=True)
class PageKept:
    """Where the next part begins; `over`: there is none, or the list is longer than an import takes."""

    page: str | None
    offset: int
    over: bool


@dataclass(frozen=True)
class ChosenCertificate:
    """A line that is to be taken."""

    line_id: int
    order_number: str


@dataclass(frozen=True)
class Chosen:
    """The next lines that are to be taken; none: the import is over."""

    lines: list[ChosenCertificate]


@dataclass(frozen=True)
class FetchChosen:
    """Fetch the certificates of these lines from the CA."""

    authority: AuthorityAccess
    lines: list[ChosenCertificate]


@dataclass(frozen=True)
class FetchHere:
    """The same from the manager, and keep them."""

    import_id: int
    lines: list[ChosenCertificate]


@dataclass(frozen=True)
class FetchedCertificate:
    """A certificate as the CA gave it, or why it did not."""

    line_id: int
    certificate_pem: str = ""
    chain_pem: list[str] = field(default_factory=list)
    problem: str | None = None


@dataclass(frozen=True)
class KeepFetched:
    """Take these certificates into the inventory."""

    import_id: int
    fetched: list[FetchedCertificate]


@dataclass(frozen=True)
class Taken:
    """What was taken, and which of them are to be renewed by themselves."""

    taken: int
    watch: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class EndImport:
    """An import has come to an end, or to `problem`."""

    import_id: int
    step: str
    problem: str | None = None


@dataclass(frozen=True)
class ImportResult:
    """How it ended."""

    import_id: int
    state: str
    message: str
