"""Keystores are looked into, endpoints are tested: what their gateway saw there. Never a key."""

from __future__ import annotations

from dataclasses import dataclass, field

from model.messages.gateways import DiscoveredBinding
from model.messages.requests import EndpointAccess, KeystoreAccess


@dataclass(frozen=True)
class LookStart:
    """Look into one keystore, or test one endpoint; `asked_by` is for the audit."""

    id: int
    asked_by: str


@dataclass(frozen=True)
class LookAdmission:
    """The keystore to look into, whose gateway does it, and the task queue that the gateway listens on now."""

    gateway: str
    queue: str
    keystore: KeystoreAccess
    known: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LookIntoKeystore:
    """Tell what is in a keystore, the first `most` entries of it. Certificates with the fingerprints `known` need not
    come along."""

    keystore: KeystoreAccess
    most: int = 1000
    known: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class KeystoreEntry:
    """An entry as it is kept and shown. `kind` is ``key pair``, ``trusted certificate`` or ``other``; `not_after` is
    ISO 8601 in UTC; `key_algorithm` is empty for a key that certgate would not make. `certificate_pem` comes along
    where it may not be known yet, and is not kept here."""

    alias: str
    kind: str
    key_algorithm: str = ""
    subject: str | None = None
    names: list[str] = field(default_factory=list)
    issuer: str | None = None
    serial_number: str | None = None
    fingerprint: str | None = None
    not_after: str | None = None
    problem: str | None = None
    certificate_pem: str | None = None


@dataclass(frozen=True)
class KeystoreContents:
    """What is in a keystore; `omitted` counts what is not among the entries. `problem` is the sentence where it could
    not be opened."""

    entries: list[KeystoreEntry]
    omitted: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class RecordLook:
    """What was seen in a keystore, to be kept."""

    id: int
    asked_by: str
    contents: KeystoreContents


@dataclass(frozen=True)
class TestAdmission:
    """The endpoint to test, whose gateway does it, and the task queue that the gateway listens on now."""

    __test__ = False  # it is no test of ours

    gateway: str
    queue: str
    endpoint: EndpointAccess


@dataclass(frozen=True)
class TestEndpoint:
    """Test the connection to an endpoint; nothing there is changed."""

    __test__ = False

    endpoint: EndpointAccess


@dataclass(frozen=True)
class TestStep:
    """One thing that was tried, in order; after the first that failed nothing more is."""

    __test__ = False

    name: str
    passed: bool
    told: str


@dataclass(frozen=True)
class EndpointReport:
    """What a test found. `problem` is what failed, `cure` what to do about it; both None where all is well."""

    steps: list[TestStep]
    bindings: list[DiscoveredBinding]
    problem: str | None = None
    cure: str | None = None


@dataclass(frozen=True)
class RecordTest:
    """What a test found, to be kept beside the endpoint. Its bindings stay as they were discovered."""

    id: int
    asked_by: str
    report: EndpointReport
