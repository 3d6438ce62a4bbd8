"""A product that certificates are installed on, as tests need it: what the conformance suite of endpoints
(`tests/connectors/endpoints/conformance.py`) and the end-to-end tests ask of a rig, and what they share.

A rig runs the real product (or a simulator of it) in a folder of its own on 127.0.0.1, with a self-signed certificate
at first. It is a type's only part in the suite.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

from connectors.endpoints.contract import Binding, Endpoint, InstallReport, Material
from connectors.endpoints.journal import Journal
from connectors.endpoints.procedure import install, look
from connectors.hosts.contract import Host, RunsScripts
from connectors.registry import Surroundings, find
from connectors.secrets import resolve
from tests.support.installing import FaultyHost, Trace, hidden_files, local_host, trace

ROOT = Path(__file__).resolve().parents[2]


class Product(Protocol):
    """What a rig offers; plain attributes are as good as properties."""

    @property
    def type(self) -> str:
        """The registered endpoint type."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the endpoint; what is secret in them is a reference, such as ``file:/…``."""
        ...

    @property
    def binding(self) -> str:
        """Id of the binding that is installed on."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """What its certificate must cover; the first is its common name."""
        ...

    def start(self) -> None:
        """Start it and wait until it serves; nothing happens where there is no process."""
        ...

    def stop(self) -> None:
        """End every process that it started. It can be started again, and then serves what is in place."""
        ...

    def running(self) -> bool:
        """Whether its process is there."""
        ...

    def break_next(self) -> None:
        """From now on an install of a good certificate fails: the product refuses to take it into use, or takes the
        order and serves the old one. It keeps running."""
        ...

    def mend(self) -> None:
        """The end of that. Called again it does nothing."""
        ...

    def files(self) -> Sequence[Path]:
        """The files whose content, owner, mode, time and inode must be back after an install that failed; empty where
        the certificate is not in files (a device)."""
        ...


@runtime_checkable
class SharesPlaces(Protocol):
    """A product in which two bindings can use one certificate."""

    def share(self, name: str) -> AbstractContextManager[str]:
        """For so long a second binding, which answers to `name`, uses what the first one uses; gives its id. A product
        that runs has taken it over."""
        ...


@runtime_checkable
class Connected(Protocol):
    """A product whose host is not this machine: the registered name of the connection, and its settings."""

    connection: str
    connection_settings: dict[str, Any]


@dataclass(frozen=True)
class State:
    """What must be back after an install that failed: each file, and what each handshake of the binding shows."""

    files: Sequence[Trace]
    served: Sequence[str | None]


def shown(port: int, name: str | None) -> str | None:
    """Fingerprint of the certificate that a handshake on 127.0.0.1 shows, None if none comes. It blocks."""
    # Reading the system's roots would take longer than a hundred handshakes.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
            context.wrap_socket(connection, server_hostname=name) as tls,
        ):
            return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()
    except OSError:
        return None


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait, for at most 20 s, until something is so. It blocks."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"{what}: this did not happen"
        time.sleep(0.005)


class Fault:
    """Goes off once, at the call of number `at` (from 1; 0: never) of those that change something.

    `before` is done then: raise, cancel, kill. `calls` tells afterwards what was called, in order.
    """

    def __init__(self, at: int = 0, before: Callable[[str], None] = lambda _: None) -> None:
        self.calls: list[str] = []
        self._at = at
        self._before = before

    def call(self, name: str) -> None:
        """A call begins (or, of a device, has ended)."""
        self.calls.append(name)
        if len(self.calls) == self._at:
            self._before(name)


class FaultyEndpoint:
    """An endpoint in which something goes wrong before or after one of the verbs that change something. This is for
    products that are not reached through a host's files and commands, where `FaultyHost` looks closer."""

    def __init__(self, endpoint: Endpoint, fault: Fault) -> None:
        self._endpoint = endpoint
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._endpoint, name)
        if name not in {"snapshot", "write", "activate", "restore", "discard"}:
            return found

        async def verb(*arguments: Any) -> Any:
            self._fault.call(name)
            result = await found(*arguments)
            self._fault.call(f"{name}, done")
            return result

        return verb


class _FaultyHost(FaultyHost):
    """Counts into a `Fault`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(0, lambda _: None)
        self._fault = fault

    def _call(self, name: str) -> None:
        self._fault.call(name)


@dataclass
class Installation:
    """A product, its endpoint, and a journal below `home`. An endpoint object is made for each call, as in a gateway:
    nothing may be kept on it."""

    product: Product
    home: Path
    progress: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = Journal(self.journal_folder)

    @property
    def journal_folder(self) -> Path:
        """Where the journal is."""
        return self.home / "journal"

    @property
    def endpoint(self) -> Endpoint:
        """A new endpoint object."""
        return self.opened()

    def opened(self, fault: Fault | None = None, **settings: Any) -> Endpoint:
        """A new endpoint object, with some settings changed; with a fault in its host or, where it has none, in it."""
        surroundings = Surroundings(home=self.home, secret=resolve)
        surroundings = replace(surroundings, host=self._host(fault, surroundings))
        kind = find("endpoints", self.product.type)
        endpoint: Endpoint = kind.open(kind.configure({**self.product.settings, **settings}), surroundings)
        if fault is not None and not self.on_host:
            return FaultyEndpoint(endpoint, fault)
        return endpoint

    def _host(self, fault: Fault | None, surroundings: Surroundings) -> Host | RunsScripts:
        product = self.product
        if isinstance(product, Connected) and product.connection != "local":
            kind = find("hosts", product.connection)
            host: RunsScripts = kind.open(kind.configure(product.connection_settings), surroundings)
            return host
        return local_host() if fault is None or not self.on_host else _FaultyHost(fault)

    @property
    def on_host(self) -> bool:
        """Whether the certificate is in files."""
        return bool(self.product.files())

    async def install(
        self,
        material: Material,
        binding: str | None = None,
        *,
        fault: Fault | None = None,
        verify_seconds: float = 10,
        **settings: Any,
    ) -> InstallReport:
        """Install at the product's binding, or another; `settings` are changes to the endpoint's."""
        return await install(
            self.opened(fault, **settings),
            binding or self.product.binding,
            material,
            journal=self.journal,
            progress=self.progress.append,
            verify_timeout=timedelta(seconds=verify_seconds),
        )

    async def binding(self, binding: str | None = None) -> Binding:
        """The product's binding as it is discovered, or another."""
        wanted = binding or self.product.binding
        found = {one.id: one for one in await self.endpoint.discover()}
        assert wanted in found, f"{wanted!r} is not among the bindings {list(found)}"
        return found[wanted]

    async def served(self, binding: str | None = None) -> list[str | None]:
        """Fingerprints that the binding's handshakes show; of one that nothing shakes hands with, the one in place."""
        found = await self.binding(binding)
        if found.probes:
            return [one.fingerprint for one in await look(self.endpoint, found.id)]
        return [(await self.endpoint.in_place(found.places[0])).certificate]

    async def state(self) -> State:
        """What must be back after an install that failed."""
        return State(tuple(trace(path) for path in self.product.files()), tuple(await self.served()))

    def leftovers(self) -> list[str]:
        """Hidden files beside those of the product, and journal entries."""
        folders = sorted({path.resolve().parent for path in self.product.files()})
        entries = [path.name for path in self.journal_folder.glob("*.json")]
        return [name for folder in folders for name in hidden_files(folder)] + entries


class KilledInstalls:
    """A process that carries out installs in children of its own, which die at a step: what a power cut leaves, without
    a Python that starts anew for each. A context manager."""

    def __enter__(self) -> KilledInstalls:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.killed"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def run(self, installation: Installation, material: Material, at: int) -> int:
        """Install and die at the change of number `at`. Gives the exit status: -9, or 0 where it came to its end."""
        product = installation.product
        assert material.private_key_pem is not None
        job = {
            "at": at,
            "type": product.type,
            "settings": product.settings,
            "binding": product.binding,
            "files": [str(path) for path in product.files()],
            "home": str(installation.home),
            "connection": product.connection if isinstance(product, Connected) else "local",
            "connection_settings": product.connection_settings if isinstance(product, Connected) else {},
            "certificate": material.certificate_pem,
            "chain": list(material.chain_pem),
            "key": material.private_key_pem.decode(),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@dataclass
class Described:
    """A product of which only the description is at hand: in another process than the one that runs it."""

    type: str
    settings: dict[str, Any]
    binding: str
    paths: Sequence[Path]
    connection: str = "local"
    connection_settings: dict[str, Any] = field(default_factory=dict)
    names: Sequence[str] = ()

    def start(self) -> None:
        """Somebody else does."""

    def stop(self) -> None:
        """Somebody else does."""

    def running(self) -> bool:
        """Somebody else knows."""
        raise NotImplementedError

    def break_next(self) -> None:
        """Somebody else does."""

    def mend(self) -> None:
        """Somebody else does."""

    def files(self) -> Sequence[Path]:
        """As described."""
        return self.paths


async def carry_out(job: dict[str, Any], fault: Fault) -> None:
    """A job of `KilledInstalls`."""
    product = Described(
        type=job["type"],
        settings=job["settings"],
        binding=job["binding"],
        paths=[Path(path) for path in job["files"]],
        connection=job["connection"],
        connection_settings=job["connection_settings"],
    )
    material = Material(job["certificate"], job["chain"], job["key"].encode())
    await Installation(product, Path(job["home"])).install(material, fault=fault)


def keyless(material: Material) -> Material:
    """The same as what an endpoint gets whose key stays where it is."""
    return replace(material, private_key_pem=None)
