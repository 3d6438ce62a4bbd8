"""An install that is stopped at every one of its steps in turn: by an error, a full disk, a cancellation, kill -9."""

# ruff: noqa: ASYNC221 (the loop has nothing else to do in these tests)

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from connectors.endpoints.journal import Journal
from connectors.errors import Permanent, RestoreFailed, Retryable, RolledBack
from tests.support.disks import small_disk
from tests.support.installing import (
    FaultyHost,
    Rig,
    ThrowawayAuthority,
    Trace,
    fingerprint_of,
    fingerprint_of_file,
    trace,
)

# What an install does to its host, in order; the tests below fail if this changes, and then want a second look.
CALLS = ["run -q", "keep", "keep", "replace", "replace", "run -q", "run reload", "delete", "delete"]


@dataclass(frozen=True)
class Before:
    """What must be back after an install that failed."""

    certificate: Trace
    key: Trace
    served: str | None


async def state_of(rig: Rig) -> Before:
    site = rig.nginx.sites[0]
    return Before(trace(site.certificate), trace(site.key), await rig.served())


def faulty(rig: Rig, host: FaultyHost) -> Rig:
    return Rig(rig.nginx, rig.home, host)


async def test_the_steps_are_known(rig: Rig, authority: ThrowawayAuthority) -> None:
    host = FaultyHost(0, lambda _: None)
    await faulty(rig, host).install(authority.issue("a.example"))
    assert host.calls == CALLS


@pytest.mark.parametrize("at", range(1, 8))
@pytest.mark.parametrize("kind", [Permanent, Retryable, RuntimeError])
async def test_an_error_at_each_step_is_put_back(
    rig: Rig, authority: ThrowawayAuthority, at: int, kind: type[Exception]
) -> None:
    def fail(_: str) -> None:
        raise kind("Can't write /x on this host: the disk is full.")

    before = await state_of(rig)
    with pytest.raises((kind, RolledBack), match="the disk is full") as caught:
        await faulty(rig, FaultyHost(at, fail)).install(authority.issue("a.example"))
    assert isinstance(caught.value, RolledBack) is (at > 1)
    if isinstance(caught.value, RolledBack):
        assert caught.value.served == before.served
    assert await state_of(rig) == before
    assert rig.leftovers() == []


@pytest.mark.parametrize("at", [8, 9])
async def test_an_error_while_tidying_up_leaves_the_new_one_served(
    rig: Rig, authority: ThrowawayAuthority, at: int
) -> None:
    def fail(_: str) -> None:
        raise Permanent("Can't delete.")

    material = authority.issue("a.example")
    with pytest.raises(Permanent, match="Can't delete"):
        await faulty(rig, FaultyHost(at, fail)).install(material)
    assert await rig.served() == fingerprint_of(material)
    report = await rig.install(material)
    assert (report.already, report.steps[0].name) == (True, "recover")
    assert rig.leftovers() == []


async def test_putting_back_that_fails_is_told_and_tried_again(rig: Rig, authority: ThrowawayAuthority) -> None:
    before, full = await state_of(rig), "Can't do that: the disk is full."

    class Broken(FaultyHost):
        async def put_back(self, backup: str, path: str) -> None:
            raise Permanent(full)

    def fail(_: str) -> None:
        raise Permanent(full)

    with pytest.raises(RestoreFailed, match=r"Putting back failed too: .*tries again") as caught:
        await faulty(rig, Broken(6, fail)).install(authority.issue("a.example"))
    assert [step.name for step in caught.value.steps] == ["look", "snapshot", "write", "failed"]
    assert rig.leftovers() != []
    with pytest.raises(RestoreFailed, match="An earlier install at"):
        await faulty(rig, Broken(0, fail)).install(authority.issue("a.example"))
    with pytest.raises(Permanent, match="does not cover"):
        await rig.install(authority.issue("b.example"))
    assert await state_of(rig) == before
    assert rig.leftovers() == []


@pytest.mark.parametrize("at", range(1, 8))
async def test_a_cancellation_at_each_step_is_put_back(rig: Rig, authority: ThrowawayAuthority, at: int) -> None:
    before = await state_of(rig)
    task: asyncio.Task[object]

    def cancel(_: str) -> None:
        task.cancel()

    task = asyncio.create_task(faulty(rig, FaultyHost(at, cancel)).install(authority.issue("a.example")))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await state_of(rig) == before
    assert rig.leftovers() == []


async def test_a_second_cancellation_does_not_stop_putting_back(rig: Rig, authority: ThrowawayAuthority) -> None:
    before = await state_of(rig)
    task: asyncio.Task[object]

    class Twice(FaultyHost):
        async def put_back(self, backup: str, path: str) -> None:
            task.cancel()
            await asyncio.sleep(0)
            await super().put_back(backup, path)

    def cancel(_: str) -> None:
        task.cancel()

    task = asyncio.create_task(faulty(rig, Twice(6, cancel)).install(authority.issue("a.example")))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await state_of(rig) == before
    assert rig.leftovers() == []


KILLED = """
import asyncio, json, sys
from pathlib import Path
from connectors.endpoints.contract import Material
from connectors.endpoints.journal import Journal
from connectors.endpoints.nginx import CONNECTOR
from connectors.endpoints.procedure import install
from connectors.registry import Surroundings
from tests.support.installing import FaultyHost, kill_this_process, no_secrets

job = json.load(sys.stdin)
host = FaultyHost(job["at"], kill_this_process)
endpoint = CONNECTOR.open(CONNECTOR.configure(job["settings"]), Surroundings(Path("/"), no_secrets, host))
material = Material(job["certificate"], job["chain"], job["key"].encode())
journal = Journal(Path(job["journal"]))
asyncio.run(install(endpoint, job["binding"], material, journal=journal, progress=lambda _: None))
"""


@pytest.mark.parametrize("at", range(1, 10))
async def test_killed_at_each_step(rig: Rig, authority: ThrowawayAuthority, at: int) -> None:
    """The next install, of the same or of another certificate, finds order whatever the killed one left."""
    before, material = await state_of(rig), authority.issue("a.example")
    assert material.private_key_pem is not None
    job = {
        "at": at,
        "settings": rig.nginx.settings | {"reload_command": [*reload_command(rig)]},
        "certificate": material.certificate_pem,
        "chain": list(material.chain_pem),
        "key": material.private_key_pem.decode(),
        "journal": str(rig.journal_folder),
        "binding": rig.nginx.sites[0].binding_id,
    }
    killed = subprocess.run([sys.executable, "-c", KILLED], input=json.dumps(job), text=True, check=False)
    assert killed.returncode == -9
    for path in rig.journal_folder.iterdir():
        assert "PRIVATE KEY" not in path.read_text()
        assert path.stat().st_mode & 0o077 == 0
    # One that is refused shows what recovery alone does.
    with pytest.raises(Permanent, match="does not cover"):
        await rig.install(authority.issue("b.example"))
    assert rig.leftovers() == []
    if at <= 7:
        assert await state_of(rig) == before
    else:
        assert await rig.served() == fingerprint_of(material)
    report = await rig.install(material)
    assert report.already is (at > 7)
    assert await rig.served() == fingerprint_of(material) == fingerprint_of_file(rig.nginx.sites[0].certificate)
    assert rig.leftovers() == []


def reload_command(rig: Rig) -> list[str]:
    return [rig.nginx.program, "-c", str(rig.nginx.configuration), "-s", "reload"]


async def test_killed_while_nginx_is_stopped(stopped_rig: Rig, authority: ThrowawayAuthority) -> None:
    rig, material = stopped_rig, authority.issue("a.example")
    before = trace(rig.nginx.sites[0].certificate)
    await leave_half_done(rig, authority, 6)
    with pytest.raises(Permanent, match="does not cover"):
        await rig.install(authority.issue("b.example"))
    assert trace(rig.nginx.sites[0].certificate) == before
    rig.nginx.start()
    assert not (await rig.install(material)).already


async def leave_half_done(rig: Rig, authority: ThrowawayAuthority, at: int) -> None:
    """What a killed install leaves, made without a process: the fault is one that nothing is done about."""

    class Gone(BaseException):
        pass

    def vanish(_: str) -> None:
        raise Gone

    with pytest.raises(Gone):
        await faulty(rig, FaultyHost(at, vanish)).install(authority.issue("a.example"))
    assert rig.leftovers() != []


async def test_what_somebody_put_there_since_is_not_overwritten(rig: Rig, authority: ThrowawayAuthority) -> None:
    await leave_half_done(rig, authority, 6)
    site, own = rig.nginx.sites[0], authority.issue("a.example")
    assert own.private_key_pem is not None
    site.certificate.write_text(own.certificate_pem)
    site.key.write_bytes(own.private_key_pem)
    with pytest.raises(Permanent, match="does not cover"):
        await rig.install(authority.issue("b.example"))
    assert site.certificate.read_text() == own.certificate_pem
    assert rig.leftovers() == []


async def test_a_damaged_journal_is_told(rig: Rig, authority: ThrowawayAuthority) -> None:
    await leave_half_done(rig, authority, 4)
    (path,) = rig.journal_folder.glob("*.json")
    path.write_text("{")
    with pytest.raises(Permanent, match=f"{path}.*it is damaged.*delete it"):
        await rig.install(authority.issue("a.example"))


async def test_a_journal_that_can_not_be_written_changes_nothing(
    rig: Rig, authority: ThrowawayAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await state_of(rig)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("connectors.endpoints.journal.os.fsync", full)
        with pytest.raises(Permanent, match="No space left on device; nothing was changed"):
            await rig.install(authority.issue("a.example"))
    assert await state_of(rig) == before
    assert rig.leftovers() == []


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Permanent, match="can't be kept"):
        Journal(tmp_path / "file" / "journal")


async def test_the_disk_runs_full_in_the_middle(
    rig: Rig, authority: ThrowawayAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificates are on a small disk, which is full after the snapshot."""
    folder = rig.nginx.folder / "certificates"
    pairs = {path: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patched, small_disk(folder, "32k", patched) as fill:
        for path, content in pairs.items():
            path.write_bytes(content)
        before = await state_of(rig)

        class Filling(FaultyHost):
            async def replace(
                self, path: str, content: bytes, *, owner: int | None, group: int | None, mode: int
            ) -> None:
                fill()
                await super().replace(path, content, owner=owner, group=group, mode=mode)

        with pytest.raises(RolledBack, match=f"Can't write {rig.nginx.sites[0].key} on this host: the disk is full"):
            await faulty(rig, Filling(0, lambda _: None)).install(authority.issue("a.example"))
        assert await state_of(rig) == before
        assert rig.leftovers() == []
        (folder / "filler").unlink(missing_ok=True)
        patched.undo()
        assert (await rig.install(authority.issue("a.example"))).served_after == await rig.served()
        rig.nginx.stop()
