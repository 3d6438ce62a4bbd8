"""Discovery and installation, on the gateway: what an endpoint serves, and making it serve the new certificate."""

from __future__ import annotations

from temporalio import activity

from activities.failures import as_failures, heartbeating, steps
from activities.keys import open_keystore
from connectors import registry
from connectors.cures import cure
from connectors.endpoints import handshake, procedure
from connectors.endpoints.contract import Binding, Endpoint, Material, Verification
from connectors.endpoints.journal import Journal
from connectors.errors import ConnectorError, Permanent
from connectors.keystores.contract import ExportsKeys
from connectors.registry import Surroundings
from model.messages import (
    DiscoveredBinding,
    DiscoverEndpoint,
    Discovery,
    EndpointAccess,
    InstallCertificate,
    Installed,
)


class Installations:
    """Runs on a gateway. The journal lives in the gateway's home and outlives a killed process."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._journal = Journal(surroundings.home / "journal")

    @activity.defn(name="installation.install")
    async def install(self, wanted: InstallCertificate) -> Installed:
        """Install on one binding and prove by handshake that it is served; else put everything back.

        The key goes from the gateway's keystore to the endpoint's file and nowhere else.
        """
        doing = [f"installing on {wanted.endpoint.name} {wanted.binding}"]

        def progress(text: str) -> None:
            doing[0] = text

        with as_failures():
            async with heartbeating(lambda: doing[0]):
                keystore = open_keystore(wanted.keystore, self._surroundings)
                await keystore.store_certificate(wanted.alias, wanted.certificate_pem, wanted.chain_pem)
                if not isinstance(keystore, ExportsKeys):
                    raise Permanent(f"The keystore of key {wanted.alias} does not hand keys to {wanted.endpoint.name}.")
                material = Material(
                    certificate_pem=wanted.certificate_pem,
                    chain_pem=wanted.chain_pem,
                    private_key_pem=await keystore.private_key(wanted.alias),
                )
                report = await procedure.install(
                    open_endpoint(wanted.endpoint, self._surroundings),
                    wanted.binding,
                    material,
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

    @activity.defn(name="installation.discover")
    async def discover(self, wanted: DiscoverEndpoint) -> Discovery:
        """All bindings of an endpoint and what each serves now."""
        with as_failures():
            async with heartbeating(lambda: f"looking at {wanted.endpoint.name}"):
                try:
                    bindings = await open_endpoint(wanted.endpoint, self._surroundings).discover()
                except ConnectorError as error:
                    return Discovery([], problem=error.message, cure=cure(error.message, type(error)))
                return Discovery([await look(binding) for binding in bindings])


def open_endpoint(access: EndpointAccess, surroundings: Surroundings) -> Endpoint:
    """Open an endpoint over its host; raises `Permanent` for settings that are wrong."""
    endpoint: Endpoint = registry.open_endpoint(
        access.type, access.settings, access.connection, access.connection_settings, surroundings
    )
    return endpoint


async def look(binding: Binding) -> DiscoveredBinding:
    """What a binding serves now, by the handshakes that prove it."""
    served = await handshake.verify_all(binding.probes, handshake.Expected(None)) if binding.probes else []
    shown = next((one for one in served if one.fingerprint), None)
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
    )
