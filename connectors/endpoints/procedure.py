"""The one way a certificate is installed, the same for every endpoint type.

::

    lock, first come first served
    leftover of a killed install?   it is finished if its certificate is served, else put back
    look                            served and in place already: done
    check                           a configuration that is broken before is left alone
    journal · snapshot · write · check · activate · handshake on every listener and name
    discard the snapshot            from here on the install stands

Whatever fails after the journal was written (an error, a full disk, a cancellation) leads to: restore, check, activate,
handshake until what was served before is served again. A process that is killed leaves the journal, and the next
install on this endpoint does the same first.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NoReturn

from connectors.endpoints import certificates
from connectors.endpoints.contract import (
    Activation,
    Binding,
    Endpoint,
    InPlace,
    InstallReport,
    Listener,
    Material,
    Probe,
    Served,
    Verification,
)
from connectors.endpoints.handshake import DEFAULT_TIMEOUT, Expected, verify_all
from connectors.endpoints.journal import Entry, Journal
from connectors.errors import ActionRequired, ConnectorError, Permanent, RestoreFailed, Retryable, RolledBack, Step
from connectors.registry import utc_now

DEFAULT_VERIFY_TIMEOUT = timedelta(seconds=15)
FIRST_POLL_SECONDS = 0.005
LONGEST_POLL_SECONDS = 0.1
# Where an endpoint can't say that the old certificate is gone: this many matching rounds, this far apart. A server that
# still has processes with the old one would have to be missed by all of them.
ROUNDS_IN_A_ROW = 10
ROUND_SECONDS = 0.05
NOT_LOOKED_AT = "nothing is known that would serve it; the files were looked at"


async def install(
    endpoint: Endpoint,
    binding_id: str,
    material: Material,
    *,
    journal: Journal,
    progress: Callable[[str], None],
    known: Mapping[str, str] | None = None,
    verify_timeout: timedelta = DEFAULT_VERIFY_TIMEOUT,
    clock: Callable[[], datetime] = utc_now,
) -> InstallReport:
    """Install `material` at a binding and come back when it is served everywhere that binding is reached.

    `progress` is told each step as it begins, and what is waited for. `known` maps fingerprints of other certificates
    to what they are called in sentences. `verify_timeout` bounds each of the two proofs (that the new one is served, or
    the old one again).

    Raises `Permanent` when nothing was changed, `ActionRequired` when the certificate is in place and a person must
    start the product, `RolledBack` when it failed and everything is as before, `RestoreFailed` when that failed too.
    A cancellation after the first change puts back as well and then goes on as `asyncio.CancelledError`.
    """
    contents = certificates.read(material)
    certificates.require_validity(contents, clock())
    async with journal.exclusive(endpoint.identity, endpoint.title, progress):
        job = _Install(endpoint, binding_id, material, contents, journal, progress, known or {}, verify_timeout)
        await job.recover()
        return await job.carry_out()


async def look(
    endpoint: Endpoint,
    binding_id: str,
    *,
    expected: Material | None = None,
    previous: Sequence[str] = (),
    known: Mapping[str, str] | None = None,
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> list[Served]:
    """What a binding serves now, one entry a listener and name; changes nothing and takes no lock. Where nothing is
    known that would serve it the place itself is looked at, as a listener without a port.

    `expected` may come without its key. `previous` and `known` are fingerprints, see `handshake.Expected`.
    """
    binding = _find(endpoint, await endpoint.discover(), binding_id)
    if expected is None:
        return await verify_all(binding.probes, Expected(None, previous=previous, known=known or {}), timeout=timeout)
    contents = certificates.read(expected)
    wanted = contents.wanted()
    if not binding.probes:
        return [await _look_into(endpoint, binding, expected, wanted, previous)]
    authentication = contents.authentication if len(binding.places) > 1 else None
    return await verify_all(
        binding.probes,
        Expected(wanted.certificate, wanted.chain, previous, known or {}),
        timeout=timeout,
        authentication=authentication,
    )


async def _look_into(
    endpoint: Endpoint, binding: Binding, expected: Material, wanted: InPlace, previous: Sequence[str]
) -> Served:
    """What a place holds that nothing is known to serve, in the words of a handshake."""
    place = await endpoint.choose(binding, expected)
    found = await endpoint.in_place(place)
    nowhere = Listener(place.certificate, 0)
    if _complete(found, wanted):
        return Served(nowhere, Verification.IN_PLACE, found.certificate, f"{place.certificate} holds the certificate.")
    if found.certificate is None:
        told = f"{place.certificate} holds no certificate that can be read."
        return Served(nowhere, Verification.NO_CERTIFICATE, None, told)
    if found.certificate == wanted.certificate:
        told = f"{place.certificate} holds the certificate without its whole chain or its key."
        return Served(nowhere, Verification.INCOMPLETE_CHAIN, found.certificate, told)
    kind = Verification.PREVIOUS_CERTIFICATE if found.certificate in previous else Verification.UNKNOWN_CERTIFICATE
    told = f"{place.certificate} holds another certificate ({found.certificate[:16]}…)."
    return Served(nowhere, kind, found.certificate, told)


class _Install:
    """One run of the procedure; lives as long as the lock is held."""

    def __init__(
        self,
        endpoint: Endpoint,
        binding_id: str,
        material: Material,
        contents: certificates.Contents,
        journal: Journal,
        progress: Callable[[str], None],
        known: Mapping[str, str],
        verify_timeout: timedelta,
    ) -> None:
        self._endpoint = endpoint
        self._binding_id = binding_id
        self._material = material
        self._contents = contents
        self._journal = journal
        self._progress = progress
        self._known = known
        self._verify_timeout = verify_timeout
        self._steps: list[Step] = []
        self._activated = False
        self._activation = Activation.REQUESTED

    # What an earlier process left.

    async def recover(self) -> None:
        """Finish or put back an install that was killed; nothing to do in nearly every case."""
        entry = self._journal.leftover(self._endpoint.identity)
        if entry is None:
            return
        self._progress("an earlier install was interrupted")
        in_place = await self._endpoint.in_place(entry.snapshot.place)
        if in_place.certificate not in (None, entry.before.certificate, entry.wanted.certificate):
            # Somebody has put another certificate there since. What we kept is older than what they did.
            await self._forget(entry, "the files were changed by somebody else since and were left as they are")
        elif _complete(in_place, entry.wanted) and await self._is_in_effect(entry):
            await self._forget(entry, "its certificate is served; it was finished")
        else:
            self._activated = True  # nobody knows how far it came; so what is put back is activated again
            try:
                await self._put_back(entry, must_run=False)
            except (Permanent, Retryable) as error:
                raise RestoreFailed(
                    f"An earlier install at {entry.binding_id} of {self._endpoint.title} was interrupted, and putting "
                    f"back what was there before failed: {error.message} The next install tries again.",
                    self._steps,
                ) from error
            self._activated = False
            self._note("recover", "an interrupted install was put back")

    async def _is_in_effect(self, entry: Entry) -> bool:
        """Whether what the killed install wanted is served. It is activated once more: the other process may have died
        while the product was still changing over, and some of it would serve the old one a moment yet."""
        if not await self._all_match(entry):
            return False
        await self._endpoint.activate(entry.snapshot.place)
        return await self._all_match(entry)

    async def _all_match(self, entry: Entry) -> bool:
        served = await self._handshakes(entry.probes, _expected(entry.wanted, entry), entry.authentication)
        return all(one.verification is Verification.MATCH for one in served)

    async def _forget(self, entry: Entry, outcome: str) -> None:
        await self._endpoint.discard(entry.snapshot)
        self._journal.forget(self._endpoint.identity)
        self._note("recover", outcome)

    # The install itself.

    async def carry_out(self) -> InstallReport:
        """Look, and install if there is something to do."""
        endpoint, wanted = self._endpoint, self._contents.wanted()
        self._progress("looking at what is configured and served")
        bindings = await endpoint.discover()
        binding = _find(endpoint, bindings, self._binding_id)
        if binding.obstacle is not None:
            raise Permanent(f"Can't install at {binding.id} of {endpoint.title}: {binding.obstacle}")
        affected = [binding, *(other for other in bindings if other.id in binding.shared_with)]
        place = await endpoint.choose(binding, self._material)
        certificates.require_coverage(self._contents, affected, place)
        in_place = await endpoint.in_place(place)
        key_stays = self._material.private_key_pem is None and self._material.key_alias is None
        if key_stays and in_place.public_key not in (None, wanted.public_key):
            raise Permanent(f"The private key at {place.key} does not belong to the certificate; nothing was changed.")
        running = await endpoint.running()
        probes = tuple(dict.fromkeys(probe for one in affected for probe in one.probes))
        authentication = self._contents.authentication if any(len(one.places) > 1 for one in affected) else None
        expected = Expected(wanted.certificate, wanted.chain, known=self._known)
        before: list[Served] = []
        if _complete(in_place, wanted):
            before = await self._handshakes(probes, expected, authentication) if running else []
            if (before or not probes) and all(one.verification is Verification.MATCH for one in before):
                return self._report(already=True, served_before=wanted.certificate, served=before)
            await endpoint.check()
            if not running:
                raise self._start_it()
        elif running:
            before = await self._look_while_checking(probes, expected, authentication)
        else:
            await endpoint.check()
        entry = Entry(
            binding_id=binding.id,
            wanted=wanted,
            before=in_place,
            probes=probes,
            served_before=tuple(one.fingerprint for one in before) or (None,) * len(probes),
            authentication=authentication,
            running=running,
            snapshot=await endpoint.plan(place, secrets.token_hex(6)),
        )
        self._note(
            "look", before[0].message if before else NOT_LOOKED_AT if running else f"{endpoint.title} is not running."
        )
        return await self._change(entry)

    async def _look_while_checking(
        self, probes: Sequence[Probe], expected: Expected, authentication: str | None
    ) -> list[Served]:
        """Handshakes and `check` side by side: they don't touch each other, and each takes its milliseconds."""
        looking = asyncio.create_task(self._handshakes(probes, expected, authentication))
        try:
            await self._endpoint.check()
            return await looking
        finally:
            looking.cancel()

    async def _change(self, entry: Entry) -> InstallReport:
        endpoint = self._endpoint
        served: list[Served] = []
        self._journal.record(endpoint.identity, entry)
        try:
            await self._step("snapshot", endpoint.snapshot(entry.snapshot))
            await self._step("write", endpoint.write(entry.snapshot.place, self._material))
            await self._step("check", endpoint.check(entry.snapshot.place))
            if entry.running:
                await self._activate(entry)
                self._progress("waiting until the new certificate is served")
                served = await self._prove(entry)
                self._note("verify", served[0].message if served else NOT_LOOKED_AT)
        except (Exception, asyncio.CancelledError) as cause:
            await self._undo(entry, cause)
        await self._endpoint.discard(entry.snapshot)
        self._journal.forget(endpoint.identity)
        if not entry.running:
            raise self._start_it()
        served_before = entry.served_before[0] if entry.probes else entry.before.certificate
        return self._report(already=False, served_before=served_before, served=served)

    async def _activate(self, entry: Entry) -> None:
        self._progress("activate")
        self._activated = True
        activated = await self._endpoint.activate(entry.snapshot.place)
        self._activation = activated.proof
        told = "done" if self._activation is Activation.IN_EFFECT else "requested"
        self._note("activate", f"{told}: {activated.told}" if activated.told else told)

    async def _prove(self, entry: Entry) -> list[Served]:
        """Handshake until every probe has shown the new certificate; raises `Permanent` with what was seen instead."""
        expected = _expected(entry.wanted, entry, self._known)
        if not entry.probes and not _complete(await self._endpoint.in_place(entry.snapshot.place), entry.wanted):
            raise Permanent(
                f"Nothing is known that would serve {entry.snapshot.place.certificate}, and when it was read again it "
                "did not hold the new certificate with its chain and key."
            )
        return await self._until(entry, expected, lambda _, one: one.verification is Verification.MATCH)

    async def _until(self, entry: Entry, expected: Expected, good: Callable[[int, Served], bool]) -> list[Served]:
        """Handshake until `good` for all probes, in one round or, where that is no proof, in many."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._verify_timeout.total_seconds()
        rounds = 1 if not entry.probes or self._activation is Activation.IN_EFFECT else ROUNDS_IN_A_ROW
        in_a_row, pause = 0, FIRST_POLL_SECONDS
        while True:
            served = await self._handshakes(entry.probes, expected, entry.authentication)
            bad = [one for index, one in enumerate(served) if not good(index, one)]
            in_a_row = 0 if bad else in_a_row + 1
            if in_a_row >= rounds:
                return served
            if any(one.verification is Verification.CONNECTION_FAILED for one in bad) and not await self._runs():
                raise Permanent(f"{self._endpoint.title} ended during the reload: {bad[0].message}")
            if bad and loop.time() >= deadline:
                seconds = self._verify_timeout.total_seconds()
                raise Permanent(f"The expected certificate was not served within {seconds:g} s: {bad[0].message}")
            await asyncio.sleep(pause if bad else ROUND_SECONDS)
            pause = min(pause * 2, LONGEST_POLL_SECONDS)

    async def _handshakes(
        self, probes: Sequence[Probe], expected: Expected, authentication: str | None
    ) -> list[Served]:
        timeout = min(DEFAULT_TIMEOUT, self._verify_timeout)
        return await verify_all(probes, expected, timeout=timeout, authentication=authentication)

    # Putting back.

    async def _undo(self, entry: Entry, cause: BaseException) -> NoReturn:
        """Put back whatever happens to this task meanwhile, then raise what the install ends with."""
        words = _words(cause)
        self._steps.append(Step("failed", words))
        self._progress("putting back what was there before")
        task = asyncio.create_task(self._put_back(entry, must_run=entry.running))
        while not task.done():
            try:
                await asyncio.wait({task})  # which, unlike awaiting it, does not cancel the task with us
            except asyncio.CancelledError as error:
                cause = error
        failure = task.exception()
        if failure is not None:
            raise RestoreFailed(
                f"{words} Putting back failed too: {_words(failure)} What was there before is kept beside it under a "
                f"name that ends in {entry.snapshot.name}; the next install on {self._endpoint.title} tries again.",
                self._steps,
            ) from failure
        if isinstance(cause, asyncio.CancelledError):
            raise cause
        served = next((one for one in task.result() if one is not None), None)
        now = "nothing is served, as before"
        if served:
            now = f"{served[:16]}… is {'served' if entry.probes else 'in place'}"
        raise RolledBack(f"{words} Everything was put back; {now}.", self._steps, served) from cause

    async def _put_back(self, entry: Entry, *, must_run: bool) -> list[str | None]:
        """Restore and prove it; gives the fingerprints served then, or in place where nothing is known to serve them.
        Raises and keeps the journal if it can't."""
        endpoint = self._endpoint
        await self._step("restore", endpoint.restore(entry.snapshot))
        served: list[Served] = []
        if await endpoint.running():
            await self._step("check what was restored", endpoint.check())
            served = await self._prove_restored(entry)
        elif must_run:
            raise Permanent(f"{endpoint.title} does not run any more; its files are as they were before: start it.")
        await endpoint.discard(entry.snapshot)
        self._journal.forget(endpoint.identity)
        return [one.fingerprint for one in served] if entry.probes else [entry.before.certificate]

    async def _runs(self) -> bool:
        """Whether the product still runs. One that was not running before, or that can't tell, is waited for."""
        return not self._activated or await self._endpoint.running()

    async def _prove_restored(self, entry: Entry) -> list[Served]:
        """Handshake until each probe shows what it showed before, or what was in place before: a product may have
        served something older than its own files. Where nothing came before, the new certificate must not come."""

        def as_before(index: int, one: Served) -> bool:
            if entry.served_before[index] is None:
                return one.fingerprint != entry.wanted.certificate or one.fingerprint == entry.before.certificate
            return one.fingerprint in (entry.served_before[index], entry.before.certificate)

        expected = Expected(entry.before.certificate, entry.before.chain, known=self._known)
        served: list[Served] = []
        if not self._activated:
            served = await self._handshakes(entry.probes, expected, entry.authentication)
        if self._activated or not all(as_before(index, one) for index, one in enumerate(served)):
            # We activated the new certificate, or somebody else did while it was in place.
            try:
                await self._activate(entry)
            except (Permanent, Retryable) as error:
                # What stopped the new certificate may stop this too, while the old one is served all the time: the
                # order was given, and whether it is as before is for the handshakes to say, many of them.
                self._activation = Activation.REQUESTED
                self._note("activate", f"failed: {error.message}")
            served = await self._until(entry, expected, as_before)
        self._note("verify what was restored", served[0].message if served else NOT_LOOKED_AT)
        return served

    # Telling.

    async def _step(self, name: str, work: Awaitable[None]) -> None:
        self._progress(name)
        await work
        self._note(name, "done")

    def _note(self, name: str, outcome: str) -> None:
        self._steps.append(Step(name, outcome))

    def _report(self, *, already: bool, served_before: str | None, served: Sequence[Served]) -> InstallReport:
        return InstallReport(
            binding_id=self._binding_id,
            already=already,
            served_before=served_before,
            served_after=self._contents.fingerprint,
            verification=served[0].verification if served else Verification.IN_PLACE,
            steps=tuple(self._steps),
        )

    def _start_it(self) -> ActionRequired:
        return ActionRequired(
            f"{self._endpoint.title} is not running: the certificate for {self._binding_id} is in place, "
            "start it and retry."
        )


def _find(endpoint: Endpoint, bindings: Sequence[Binding], binding_id: str) -> Binding:
    for binding in bindings:
        if binding.id == binding_id:
            return binding
    there = ", ".join(binding.id for binding in bindings) or "none"
    raise Permanent(f"{endpoint.title} has no binding {binding_id!r}; there is: {there}.")


def _complete(in_place: InPlace, wanted: InPlace) -> bool:
    """Certificate, chain and key are the wanted ones; a key that can't be looked at is believed."""
    return (
        in_place.certificate == wanted.certificate
        and tuple(in_place.chain) == tuple(wanted.chain)
        and in_place.public_key in (None, wanted.public_key)
    )


def _expected(wanted: InPlace, entry: Entry, known: Mapping[str, str] | None = None) -> Expected:
    previous = {entry.before.certificate, *entry.served_before} - {None, wanted.certificate}
    return Expected(wanted.certificate, wanted.chain, tuple(one for one in previous if one), known or {})


def _words(error: BaseException) -> str:
    if isinstance(error, ConnectorError):
        return error.message
    if isinstance(error, asyncio.CancelledError):
        return "The install was cancelled."
    return f"{type(error).__name__}: {error}."
