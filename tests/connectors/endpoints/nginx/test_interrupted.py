"""An install that is stopped at every one of its steps in turn: by an error, a full disk, a cancellation, kill -9."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from connectors.endpoints.journal import Journal
from connectors.errors import Permanent, RolledBack
from tests.support.disks import small_disk
from tests.support.installing import (
    FaultyHost,
    Rig,
    ThrowawayAuthority,
    Trace,
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
