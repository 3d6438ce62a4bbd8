"""What lets a test hold a request at one step, and what has to be there exactly once when it has come to its end."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlmodel import col, select
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.service import RPCError

from connectors.ca.private import CONNECTOR, PrivateAuthority
from connectors.endpoints import handshake
from connectors.endpoints.contract import Listener, Probe
from model import access, audit, naming
from model import x509 as certificates
from model.states import CertificateStatus, InstallState
from model.tables import AuditEntry, Certificate, CertificateAuthority
from operations.bootstrap import trust_anchors
from tests.support.installing import hidden_files
from tests.support.running import until
from tests.support.world import World
from worker.playground import DisposableNginx, Site

USUAL_ACTS = [
    "request.submitted",
    "key.ready",
    "request.approved",
    "order.placed",
    "certificate.issued",
    "certificate.installed",
]
_WAIT = """#!/bin/sh
# Waits while the test holds it here; half a minute and more is a test that died.
n=0
while [ -e {hold} ] && {condition} && [ $n -lt 2500 ]; do
  : > {here}
  sleep 0.02
  n=$((n + 1))
done
exec {program}
"""


class HeldNginx(DisposableNginx):
    """An nginx at which an install can be held: while the new files are checked, or while it is told to reload."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        super().__init__(folder, names)
        written = f"ls {folder}/certificates/.*.certgate-* >/dev/null 2>&1"
        conf = f"{self.program} -p {folder}/ -e {self.error_log} -c {self.configuration} -s reload"
        self._script("check", written, f'{self.program} "$@"')
        self._script("reload", "true", conf)

    def _script(self, name: str, condition: str, program: str) -> None:
        path = self.folder / f"{name}.sh"
        hold, here = self.folder / f"hold-{name}", self.folder / f"at-{name}"
        path.write_text(_WAIT.format(hold=hold, here=here, condition=condition, program=program))
        path.chmod(0o755)

    @property
    def settings(self) -> dict[str, object]:
        """The same nginx, over the scripts."""
        check, reload = str(self.folder / "check.sh"), str(self.folder / "reload.sh")
        return {**super().settings, "command": [check], "reload_command": [reload]}

    def __enter__(self) -> HeldNginx:
        self.start()
        return self

    def hold(self, step: str) -> None:
        """From now on `check` or `reload` waits."""
        (self.folder / f"hold-{step}").touch()

    def release(self) -> None:
        """Nothing waits any more."""
        for path in self.folder.glob("hold-*"):
            path.unlink()

    def reached(self, step: str) -> bool:
        """Whether an install has come to that step."""
        return (self.folder / f"at-{step}").exists()


class Held:
    """A lock that a test has and gives back."""

    def __init__(self, release: Any) -> None:
        self._release = release

    def release(self) -> None:
        """Give it back; the second time does nothing."""
        release, self._release = self._release, None
        if release is not None:
            release()


def hold_keystore(world: World) -> Held:
    """No key and no certificate is written into the gateway's keystore as long as this is held."""
    folder = world.gateway_surroundings.home / "keys"
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return Held(lambda: os.close(descriptor))


def hold_ledger(folder: Path) -> Held:
    """A private CA takes and issues nothing as long as this is held."""
    connection = sqlite3.connect(folder / "orders.db", isolation_level=None, timeout=60)
    connection.execute("BEGIN IMMEDIATE")
    return Held(connection.close)


async def private_authority(
    world: World, name: str, folder: Path, *, reached_from: str = "manager", **settings: object
) -> PrivateAuthority:
    """A private CA of its own, known to certgate; opened as its owner opens it."""
    row = CertificateAuthority(
        name=name, type="private", settings={"folder": str(folder), **settings}, reached_from=reached_from
    )
    anchors = await trust_anchors(row, world.surroundings)
    with world.database.write() as session:
        session.add_all([row, *anchors])
    authority = CONNECTOR.open(CONNECTOR.configure(row.settings), world.surroundings)
    assert isinstance(authority, PrivateAuthority)
    await authority.records()
    return authority


async def pending(world: World, number: int, step: str) -> tuple[int, bool]:
    """The attempt of a step that a request waits for, and whether a process is at it; (0, False) if there is none."""
    try:
        description = await world.workflow(number).describe()
    except RPCError:  # the server is just starting again
        return 0, False
    for one in description.raw_description.pending_activities:
        if one.activity_type.name == step:
            return one.attempt, one.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    return 0, False


async def at_work(world: World, number: int, step: str, *, after: int = 0) -> int:
    """Wait until a process is at that step of a request, in a later attempt than `after`; gives the attempt."""
    seen = (0, False)

    async def reached() -> bool:
        nonlocal seen
        seen = await pending(world, number, step)
        return seen[1] and seen[0] > after

    await until(reached)
    return seen[0]


def reference(world: World, number: int) -> str:
    """A request's reference at its CA."""
    with world.database.read() as session:
        return naming.order_reference(access.installation(session), number)


def orders(folder: Path) -> list[tuple[str, str, str, str | None]]:
    """Reference, common name, state and certificate of all that a private CA was ever asked for."""
    connection = sqlite3.connect(folder / "orders.db", timeout=60)
    try:
        return connection.execute("SELECT reference, common_name, state, certificate FROM orders").fetchall()
    finally:
        connection.close()


def acts(world: World, number: int) -> list[AuditEntry]:
    """What the audit tells of a request."""
    with world.database.read() as session:
        statement = select(AuditEntry).where(AuditEntry.object_type == "request", AuditEntry.object_id == number)
        return list(session.exec(statement.order_by(col(AuditEntry.sequence))))


def site_of(nginx: DisposableNginx, name: str) -> Site:
    """The virtual host of a name."""
    return next(site for site in nginx.sites if site.name == name)


async def served(site: Site) -> str | None:
    """The fingerprint that a handshake with a virtual host shows; None if it shows none."""
    shown = await handshake.shake_hands(Probe(Listener("127.0.0.1", site.port), site.name))
    return handshake.fingerprint(shown.certificates[0]) if shown.certificates else None


async def assert_exactly_one_of_everything(world: World, number: int, nginx: DisposableNginx, ca: Path) -> None:
    """One order, one key, one certificate, served; each act told once, one run of the workflow."""
    detail = world.show(number)
    assert detail.closed, detail
    assert (detail.status, detail.install_state) == (CertificateStatus.ISSUED, InstallState.COMPLETED), detail
    wanted, name = reference(world, number), detail.common_name
    mine = [one for one in orders(ca) if wanted == one[0] or name == one[1]]
    assert [(one[0], one[1], one[2]) for one in mine] == [(wanted, name, "issued")]
    with world.database.read() as session:
        (row,) = session.exec(select(Certificate).where(Certificate.request_id == number)).all()
    assert row.active
    assert mine[0][3] is not None
    assert certificates.fingerprint(certificates.load_certificate(mine[0][3])) == row.fingerprint
    leaf = x509.load_pem_x509_certificate(row.pem.encode())
    site = site_of(nginx, name)
    assert await served(site) == row.fingerprint == detail.issued_fingerprint == detail.served_fingerprint
    keystore = world.gateway_surroundings.home / "keys"
    alias = naming.key_alias(number)
    assert sorted(path.name for path in keystore.glob(f"{alias}.*")) == [f"{alias}.key", f"{alias}.pem"]
    for path in (keystore / f"{alias}.key", site.key):
        assert load_pem_private_key(path.read_bytes(), None).public_key() == leaf.public_key()
    # A word that was said again because its answer was lost is refused, and each refusal is an act of its own.
    told = [(entry.action, entry.outcome) for entry in acts(world, number) if entry.action != "decision.refused"]
    assert [action for action, count in Counter(told).items() if count > 1] == []
    assert [action for action, _ in told if action in USUAL_ACTS] == USUAL_ACTS
    # Two runs of one workflow would be two executions of one id.
    handle = world.workflow(number)
    await handle.result()
    assert [one.run_id async for one in world.client.list_workflows(f'WorkflowId = "{handle.id}"')] == [
        (await handle.describe()).run_id
    ]


def assert_nothing_left(world: World, *servers: DisposableNginx) -> None:
    """No journal, no half-written file; and the whole audit trail holds together."""
    gateway = world.gateway_surroundings.home
    assert [path.name for path in (gateway / "journal").iterdir() if path.suffix != ".lock"] == []
    assert list((gateway / "keys").glob(".unfinished-*")) == []
    for server in servers:
        assert hidden_files(server.folder) == []
    with world.database.snapshot() as session:
        assert audit.verify(session).finding is None
