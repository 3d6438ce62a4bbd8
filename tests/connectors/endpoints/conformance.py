"""What every endpoint type must do, ours or a stranger's, on the real product. A type runs it with these lines::

    class TestConformance(EndpointConformance):
        @classmethod
        def product_in(cls, folder: Path) -> AbstractContextManager[Product]:
            return DisposableThing(folder)

The product is the same one for all tests: each leaves it running and whole, with whatever certificate. A type whose
product is shared with other tests overrides the fixture `product` in place of `product_in`. Where a step
fails, is cancelled or is killed, this is done at *every* step in turn, until an install comes through. A step is a
change to the host (`FaultyHost`), or for products without files what comes before and after each verb of the contract.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from connectors.endpoints.contract import Endpoint, InstallReport, Material, Verification
from connectors.endpoints.journal import Journal
from connectors.endpoints.procedure import install, look
from connectors.errors import ActionRequired, ConnectorError, Permanent, RestoreFailed, Retryable, RolledBack
from tests.support.installing import ThrowawayAuthority, fingerprint_of
from tests.support.products import Fault, Installation, KilledInstalls, Product, SharesPlaces, State, keyless

# Steps after which the new certificate stands: what was kept for putting back is forgotten.
TIDYING = ("delete", "discard", "discard, done")
DISK_FULL = "Can't do that: the disk is full."


class EndpointConformance:
    """Subclass it, and give it a `product` that is started."""

    # Whether it is a process on the host: stopped it is told to be started, with the certificate in place. Others are
    # away when they are stopped (devices), or have nothing to stop (files).
    is_process = True
    # What goes wrong at each step in turn; fewer for a product that takes long or is run by the suite more than once.
    failures: Sequence[type[Exception]] = (Permanent, Retryable, RuntimeError)
    # What its folder is called; with a blank and a quote where the rig's own configuration can have that.
    folder = "product"

    @classmethod
    def product_in(cls, folder: Path) -> AbstractContextManager[Product]:
        """A product that keeps all it needs in `folder`; it runs from enter to exit."""
        raise NotImplementedError("a subclass says which product, or gives the fixture `product`")

    @pytest.fixture(scope="class")
    @classmethod
    def product(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
        with cls.product_in(tmp_path_factory.mktemp(cls.folder)) as product:
            yield product

    @pytest.fixture
    def place(self, product: Product, tmp_path: Path) -> Installation:
        return Installation(product, tmp_path / "home")

    @pytest.fixture
    def names(self, product: Product) -> list[str]:
        return list(product.names)

    @pytest.fixture(scope="class")
    @classmethod
    def killed(cls) -> Iterator[KilledInstalls]:
        with KilledInstalls() as process:
            yield process

    # What must work.

    def test_it_keeps_the_contract(self, place: Installation) -> None:
        endpoint = place.endpoint
        assert isinstance(endpoint, Endpoint)
        assert endpoint.identity == place.endpoint.identity
        assert endpoint.title.strip()

    async def test_discovery_finds_the_binding(self, place: Installation, names: list[str]) -> None:
        bindings = await place.endpoint.discover()
        assert len({one.id for one in bindings}) == len(bindings)
        binding = await place.binding()
        assert binding.obstacle is None
        assert set(binding.names) <= set(names)
        assert binding.places
        await place.endpoint.check()
        assert await place.endpoint.running()

    async def test_install_serves_and_keeps_owner_and_mode(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str]
    ) -> None:
        before, material = await place.state(), authority.issue(*names)
        (old, *_), new = before.served, fingerprint_of(material)
        report = await place.install(material)
        probes = (await place.binding()).probes
        assert (report.already, report.served_before, report.served_after) == (False, old, new)
        assert report.verification == (Verification.MATCH if probes else Verification.IN_PLACE)
        assert [step.name for step in report.steps] == ["look", "snapshot", "write", "check", "activate", "verify"]
        after = await place.state()
        assert set(after.served) == {new}
        for was, now in zip(before.files, after.files, strict=True):
            assert (now.owner, now.group, now.mode) == (was.owner, was.group, was.mode)
        assert place.leftovers() == []

    async def test_install_twice_does_nothing_the_second_time(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str]
    ) -> None:
        material = authority.issue(*names)
        await place.install(material)
        before, fault = await place.state(), Fault()
        report = await place.install(material, fault=fault)
        assert (report.already, report.served_before, report.steps) == (True, fingerprint_of(material), ())
        assert await place.state() == before
        assert not {"keep", "replace", "write", "activate"}.intersection(fault.calls)

    async def test_what_is_served_can_be_verified_at_any_time(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str]
    ) -> None:
        material, binding = authority.issue(*names), await place.binding()
        old = (await place.served())[0]
        assert old is not None

        async def seen(
            expected: Material | None = None, previous: Sequence[str] = (), known: Mapping[str, str] | None = None
        ) -> set[Verification]:
            served = await look(place.endpoint, binding.id, expected=expected, previous=previous, known=known)
            return {one.verification for one in served}

        if binding.probes:
            assert await seen(expected=material, previous=[old]) == {Verification.PREVIOUS_CERTIFICATE}
            assert await seen(expected=material) == {Verification.UNKNOWN_CERTIFICATE}
        await place.install(material)
        match = Verification.MATCH if binding.probes else Verification.IN_PLACE
        assert await seen(expected=keyless(material)) == {match}
        if binding.probes:
            known = {fingerprint_of(material): "request 7"}
            assert await seen(known=known) == {Verification.OTHER_KNOWN_CERTIFICATE}

    async def test_it_serves_on_after_a_restart(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str]
    ) -> None:
        """What is served stands on the disk too, and the next install finds it there."""
        material = authority.issue(*names)
        await place.install(material)
        place.product.stop()
        place.product.start()
        assert set(await place.served()) == {fingerprint_of(material)}
        assert (await place.install(material)).already

    async def test_a_product_that_is_stopped(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str]
    ) -> None:
        material = authority.issue(*names)
        place.product.stop()
        try:
            for _ in range(2 if self.is_process else 0):
                with pytest.raises(ActionRequired, match=r"is not running: .* in place, start it and retry"):
                    await place.install(material)
                assert not await place.endpoint.running()
            if not self.is_process:
                with suppress(Retryable):
                    await place.install(material)
        finally:
            place.product.start()
        assert place.leftovers() == []
        report = await place.install(material)
        assert report.already or not self.is_process
        assert set(await place.served()) == {fingerprint_of(material)}

    # Several at once.

    async def test_installs_at_once_wait_for_each_other(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str]
    ) -> None:
        first, second, third = (authority.issue(*names) for _ in range(3))
        reports = await asyncio.gather(*(place.install(one) for one in (first, second, third)))
        assert [report.served_before for report in reports[1:]] == [fingerprint_of(first), fingerprint_of(second)]
        assert set(await place.served()) == {fingerprint_of(third)}
        assert len([line for line in place.progress if line.startswith("waiting for another install")]) == 2

    async def test_another_process_is_waited_for(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str]
    ) -> None:
        told, material = asyncio.Event(), authority.issue(*names)

        def progress(text: str) -> None:
            if "by another process" in text:
                told.set()

        # A journal object's locks are its own, as in another process.
        async with Journal(place.journal_folder).exclusive(place.endpoint.identity, "it", lambda _: None):
            task = asyncio.create_task(
                install(place.endpoint, place.product.binding, material, journal=place.journal, progress=progress)
            )
            await asyncio.wait_for(told.wait(), 10)
        assert (await task).served_after == fingerprint_of(material)

    async def test_two_bindings_that_share_a_certificate(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str]
    ) -> None:
        if not isinstance(place.product, SharesPlaces):
            # Then none may be said to share this one's.
            assert list((await place.binding()).shared_with) == []
            return
        material = authority.issue(*names, "shared.example")
        with place.product.share("shared.example") as other:
            assert other in (await place.binding()).shared_with
            before = await place.state()
            with pytest.raises(Permanent, match=f"{other} uses the same certificate .* would be broken"):
                await place.install(authority.issue(*names))
            assert await place.state() == before
            await place.install(material)
            assert set(await place.served()) == set(await place.served(other)) == {fingerprint_of(material)}
            again = authority.issue(*names, "shared.example")
            await place.install(again, other)
            assert set(await place.served()) == set(await place.served(other)) == {fingerprint_of(again)}

    # What is refused.

    async def test_what_is_refused_before_anything_is_changed(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str]
    ) -> None:
        before, material = await place.state(), authority.issue(*names)
        wrong_key = replace(material, private_key_pem=authority.issue(*names).private_key_pem)
        with pytest.raises(Permanent, match="does not belong"):
            await place.install(wrong_key)
        with pytest.raises(Permanent):
            await place.install(keyless(material))  # whose key is not the one in place
        with pytest.raises(Permanent, match="no binding 'nowhere'; there is: "):
            await place.install(material, "nowhere")
        if covered := (await place.binding()).names:
            with pytest.raises(Permanent, match="does not cover") as caught:
                await place.install(authority.issue("other.invalid"))
            assert covered[0] in caught.value.message
        assert await place.state() == before
        assert place.leftovers() == []

    # What fails.

    async def test_a_certificate_that_is_not_taken_into_use_is_put_back(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str]
    ) -> None:
        """The same material is good when the product is well again: no new order is needed."""
        before, material = await place.state(), authority.issue(*names)
        place.product.break_next()
        try:
            with pytest.raises(RolledBack, match="put back") as caught:
                await place.install(material)
        finally:
            place.product.mend()
        assert caught.value.served == before.served[0]
        assert [step.name for step in caught.value.steps][:2] == ["look", "snapshot"]
        assert await place.state() == before
        assert place.leftovers() == []
        assert (await place.install(material)).served_after == fingerprint_of(material)

    async def test_an_error_at_each_step_is_put_back(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str]
    ) -> None:
        for kind in self.failures:
            await self._failing_at_each_step(place, authority, names, kind)

    async def _failing_at_each_step(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str], kind: type[Exception]
    ) -> None:
        def fail(_: str) -> None:
            raise kind(DISK_FULL)

        put_back = tidied = 0
        before = await place.state()
        for at in _steps(1):
            material, fault = authority.issue(*names), Fault(at, fail)
            failure = await _failure(place.install(material, fault=fault), kind, RolledBack)
            if failure is None:
                assert len(fault.calls) < at
                break
            assert "the disk is full" in str(failure)
            if await self._stands(place, fault, before, material):
                tidied += 1
                before = await place.state()
            elif isinstance(failure, RolledBack):
                put_back += 1
                assert failure.served == before.served[0]
        assert put_back >= 1
        assert put_back + tidied >= _fewest(place.product)

    async def test_a_cancellation_at_each_step_is_put_back(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str]
    ) -> None:
        before, put_back, done = await place.state(), 0, False
        for at in _steps(2):
            material, task = authority.issue(*names), Doomed()
            fault = Fault(at, task.cancel)
            with suppress(asyncio.CancelledError):
                await task.run(place.install(material, fault=fault))
                # A last step may have nothing to wait for, where a cancellation would be seen.
                done = len(fault.calls) < at
            if done:
                break
            if task.cancelled and not await self._stands(place, fault, before, material):
                put_back += 1
            else:
                before = await place.state()
        assert put_back >= 1

    async def test_killed_at_each_step(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str], killed: KilledInstalls
    ) -> None:
        """The next install, of the same or of another certificate, finds order whatever the killed one left."""
        put_back = finished = 0
        before = await place.state()
        for at in count(1):
            material = authority.issue(*names)
            status = killed.run(place, material, at)
            if status == 0:
                break
            assert status == -9
            for path in place.journal_folder.iterdir():
                assert b"PRIVATE KEY" not in path.read_bytes()
                assert path.stat().st_mode & 0o077 == 0
            # One that is refused shows what recovery alone does.
            with pytest.raises(Permanent, match="no binding 'nowhere'"):
                await place.install(material, "nowhere")
            assert place.leftovers() == []
            if set(await place.served()) == {fingerprint_of(material)}:
                finished += 1
                assert (await place.install(material)).already
                before = await place.state()
            else:
                put_back += 1
                assert await place.state() == before
        assert put_back >= _fewest(place.product)
        assert finished >= 1
        assert set(await place.served()) == {fingerprint_of(material)}

    async def test_putting_back_that_fails_is_told_and_tried_again(
        self, place: Installation, authority: ThrowawayAuthority, names: list[str]
    ) -> None:
        before = await place.state()

        class Broken(Fault):
            """Fails whenever one of these is called."""

            def __init__(self, *deeds: str) -> None:
                super().__init__()
                self._deeds = deeds

            def call(self, name: str) -> None:
                if name in self._deeds:
                    raise Permanent(DISK_FULL)

        writing = ("replace", "assemble", "write")
        with pytest.raises(RestoreFailed, match=r"Putting back failed too: .*tries again") as caught:
            await place.install(authority.issue(*names), fault=Broken(*writing, "put_back", "restore"))
        assert [step.name for step in caught.value.steps] == ["look", "snapshot", "failed"]
        assert place.leftovers() != []
        with pytest.raises(RestoreFailed, match="An earlier install at"):
            await place.install(authority.issue(*names), fault=Broken("put_back", "restore"))
        with pytest.raises(Permanent, match="no binding 'nowhere'"):
            await place.install(authority.issue(*names), "nowhere")
        assert await place.state() == before
        assert place.leftovers() == []

    async def _stands(self, place: Installation, fault: Fault, before: State, material: Material) -> bool:
        """Whether the failed install had come so far that its certificate stands; else everything is as before. Leaves
        order either way."""
        now = await place.state()
        if now == before:
            assert place.leftovers() == []
            return False
        assert fault.calls[-1] in TIDYING
        assert set(now.served) == {fingerprint_of(material)}
        with suppress(ConnectorError):
            await place.install(material, "nowhere")
        assert await place.state() == now
        assert place.leftovers() == []
        return True


class Doomed:
    """Work that is cancelled from its own inside."""

    _task: asyncio.Task[InstallReport]

    def cancel(self, _: str) -> None:
        """For a `Fault`."""
        self._task.cancel()

    async def run(self, work: Coroutine[Any, Any, InstallReport]) -> InstallReport:
        """Until it ends, in whatever way."""
        self._task = asyncio.create_task(work)
        return await self._task

    @property
    def cancelled(self) -> bool:
        """Whether it ended so."""
        return self._task.cancelled()


def _steps(first: int) -> Iterator[int]:
    """Which step fails: every second one from `first` on, so that errors and cancellations share them between them;
    every one with ``CERTGATE_DRILL``. A process is killed at each."""
    return count(1) if os.environ.get("CERTGATE_DRILL") else count(first, 2)


async def _failure(work: Awaitable[InstallReport], *kinds: type[Exception]) -> Exception | None:
    """How it failed, if it did, in one of these ways."""
    try:
        await work
    except kinds as error:
        return error
    return None


def _fewest(product: Product) -> int:
    """In how many steps an install changes something before it stands, at least: each file is kept and replaced."""
    return min(3, 2 * len(product.files())) or 3
