"""Discovery and installation, on the gateway: what an endpoint serves, and making it serve the new certificate."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from datetime import timedelta

from temporalio import activity

from activities.failures import as_failures, heartbeating, steps
from activities.keys import open_endpoint, open_keystore
from connectors.cures import cure
from connectors.endpoints import handshake, procedure
from connectors.endpoints.contract import Binding, Material, Probe, Served, Verification
from connectors.endpoints.journal import Journal
from connectors.errors import ConnectorError
from connectors.keystores.contract import ExportsKeys
from connectors.registry import Surroundings
from model import x509
from model.messages import (
    DiscoveredBinding,
    DiscoverEndpoint,
    Discovery,
    InstallCertificate,
    Installed,
    ProbePlace,
    Sighting,
    TargetSeen,
    TargetsSeen,
    VerifyTarget,
    VerifyTargets,
)
from model.states import KeyPlace

# An endpoint that never answers holds up the others of its batch no longer than this.
LONGEST_LOOK = timedelta(seconds=30)
LOOKS_AT_ONCE = 8

# So much (characters of JSON) goes into one answer; Temporal takes 2 MB.
_MOST_SAID = 1_000_000


class Installations:
    """Runs on a gateway. The journal lives in the gateway's home and outlives a killed process."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._journal = Journal(surroundings.home / "journal")

    @activity.defn(name="installation.install")
    async def install(self, wanted: InstallCertificate) -> Installed:
        """Install on one binding and prove by handshake that it is served; else put everything back.

        The key goes from the gateway's keystore to the endpoint's file and nowhere else. One that was made at the
        endpoint, or that its keystore does not give away, does not go anywhere.
        """
        doing = [f"installing on {wanted.endpoint.name} {wanted.binding}"]

        def progress(text: str) -> None:
            doing[0] = text

        with as_failures():
            async with heartbeating(lambda: doing[0]):
                report = await procedure.install(
                    open_endpoint(wanted.endpoint, self._surroundings),
                    wanted.binding,
                    await self._material(wanted),
                    journal=self._journal,
                    progress=progress,
                )
                return Installed(
                    already=report.already,
                    served_before=report.served_before,
                    served_after=report.served_after,
                    verification=report.verification,
                    steps=steps(list(report.steps)),
                )

    async def _material(self, wanted: InstallCertificate) -> Material:
        material = Material(wanted.certificate_pem, wanted.chain_pem, None)
        if wanted.key_place == KeyPlace.ENDPOINT:
            return dataclasses.replace(material, key_alias=wanted.alias)
        keystore = open_keystore(wanted.keystore, self._surroundings)
        await keystore.store_certificate(wanted.alias, wanted.certificate_pem, wanted.chain_pem)
        if not isinstance(keystore, ExportsKeys):
            return material
        return dataclasses.replace(material, private_key_pem=await keystore.private_key(wanted.alias))

    @activity.defn(name="installation.verify")
    async def verify(self, wanted: VerifyTargets) -> TargetsSeen:
        """Look what some bindings serve, and compare it with what they should. Only looks."""
        doing = ["looking"]
        with as_failures():
            async with heartbeating(lambda: doing[0]):
                gate = asyncio.Semaphore(LOOKS_AT_ONCE)

                async def one(target: VerifyTarget) -> TargetSeen:
                    async with gate:
                        doing[0] = f"looking at {target.binding} of {target.endpoint.name}"
                        return await self._seen(target)

                return TargetsSeen(list(await asyncio.gather(*(one(target) for target in wanted.targets))))

    async def _seen(self, target: VerifyTarget) -> TargetSeen:
        try:
            async with asyncio.timeout(LONGEST_LOOK.total_seconds()):
                endpoint = open_endpoint(target.endpoint, self._surroundings)
                expected = Material(target.certificate_pem, target.chain_pem, None)
                served = await procedure.look(endpoint, target.binding, expected=expected, previous=target.previous)
        except ConnectorError as error:
            return TargetSeen(target.installation_id, [], [], error.message)
        except TimeoutError:
            seconds = LONGEST_LOOK.total_seconds()
            return TargetSeen(
                target.installation_id, [], [], f"{target.endpoint.name} did not answer in {seconds:g} s."
            )
        return TargetSeen(
            target.installation_id,
            [sighting("gateway", one) for one in served],
            [probe_place(Probe(one.listener, one.server_name)) for one in served if one.listener.port],
        )

    @activity.defn(name="installation.discover")
    async def discover(self, wanted: DiscoverEndpoint) -> Discovery:
        """All bindings of an endpoint, from a number on, and what each serves now; as many as one answer may hold."""
        with as_failures():
            async with heartbeating(lambda: f"looking at {wanted.endpoint.name}"):
                try:
                    bindings = await open_endpoint(wanted.endpoint, self._surroundings).discover()
                except ConnectorError as error:
                    return Discovery([], problem=error.message, cure=cure(error.message, type(error)))
                said, size, known = list[DiscoveredBinding](), 0, set(wanted.known)
                for number, binding in enumerate(bindings[wanted.first :], wanted.first):
                    one = without_known(await look(binding), known)
                    size += len(json.dumps(dataclasses.asdict(one)))
                    if size > _MOST_SAID and said:
                        return Discovery(said, next=number)
                    said.append(one)
                return Discovery(said)


def sighting(seen_from: str, served: Served) -> Sighting:
    """A handshake's result as the message that carries it."""
    where = str(served.listener) if served.listener.port else served.listener.address
    where = f"{where} ({served.server_name})" if served.server_name else where
    return Sighting(seen_from, where, served.verification, served.fingerprint, served.message)


def probe_place(probe: Probe) -> ProbePlace:
    """A probe as the message that carries it."""
    listener = probe.listener
    return ProbePlace(listener.address, listener.port, probe.server_name, listener.proxy_protocol, listener.starttls)


async def look(binding: Binding) -> DiscoveredBinding:
    """What a binding serves now, by the handshakes that prove it."""
    seen = await handshake.observe_all(binding.probes)
    served = [handshake.classify(*one, handshake.Expected(None)) for one in zip(binding.probes, seen, strict=True)]
    shown = next((one for one in served if one.fingerprint), None)
    leaf = next((one.certificates[0] for one in seen if one.certificates), None)
    trouble = next((one for one in served if one.verification != Verification.UNKNOWN_CERTIFICATE), None)
    return DiscoveredBinding(
        binding=binding.id,
        names=list(binding.names),
        listeners=[str(listener) for listener in binding.listeners],
        certificate_path=binding.certificate_path,
        shared_with=list(binding.shared_with),
        obstacle=binding.obstacle,
        served_fingerprint=shown.fingerprint if shown else None,
        message=trouble.message if trouble else "",
        certificate_pem=x509.to_pem(leaf) if leaf else None,
    )


def without_known(binding: DiscoveredBinding, known: set[str]) -> DiscoveredBinding:
    """The same without its certificate where that is known, else with it; then it is known from now on."""
    if binding.served_fingerprint in known:
        return dataclasses.replace(binding, certificate_pem=None)
    if binding.served_fingerprint is not None:
        known.add(binding.served_fingerprint)
    return binding
