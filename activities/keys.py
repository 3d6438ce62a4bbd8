"""Keys, on the gateway or at the endpoint: made there, used there, deleted there."""

from __future__ import annotations

from temporalio import activity

from activities.failures import as_failures, heartbeating
from connectors import registry
from connectors.endpoints.contract import Endpoint, MakesKeys
from connectors.errors import Permanent
from connectors.keystores.contract import ExportsKeys, Keystore, SigningRequest
from connectors.registry import Surroundings, find
from model.messages import DiscardKey, EndpointAccess, KeystoreAccess, PreparedKey, PrepareKey
from model.states import KeyPlace


class Keys:
    """Runs on a gateway. `surroundings` is the gateway's home and its resolver of secrets."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    @activity.defn(name="keys.prepare")
    async def prepare(self, wanted: PrepareKey) -> PreparedKey:
        """Make the key if its alias has none yet, and return a CSR signed with it."""
        with as_failures():
            async with heartbeating(lambda: f"making key {wanted.alias} ({wanted.algorithm})"):
                request = SigningRequest(wanted.alias, wanted.algorithm, wanted.common_name, wanted.names)
                if wanted.endpoint is not None and wanted.binding is not None:
                    there = _maker(wanted.endpoint, self._surroundings)
                    return PreparedKey(await there.make_key(wanted.binding, request), KeyPlace.ENDPOINT)
                keystore = open_keystore(wanted.keystore, self._surroundings)
                place = KeyPlace.GATEWAY if isinstance(keystore, ExportsKeys) else KeyPlace.HSM
                return PreparedKey(await keystore.sign_request(request), place)

    @activity.defn(name="keys.discard")
    async def discard(self, unwanted: DiscardKey) -> None:
        """Delete the key of a request that came to nothing."""
        with as_failures():
            async with heartbeating():
                if unwanted.endpoint is not None and unwanted.binding is not None:
                    there = _maker(unwanted.endpoint, self._surroundings)
                    await there.discard_key(unwanted.binding, unwanted.alias)
                else:
                    await open_keystore(unwanted.keystore, self._surroundings).remove(unwanted.alias)


def _maker(access: EndpointAccess, surroundings: Surroundings) -> MakesKeys:
    endpoint = open_endpoint(access, surroundings)
    if not isinstance(endpoint, MakesKeys):
        raise Permanent(f"At {endpoint.title} no keys can be made: let the gateway make them.")
    return endpoint


def open_endpoint(access: EndpointAccess, surroundings: Surroundings) -> Endpoint:
    """Open an endpoint over its host; raises `Permanent` for settings that are wrong."""
    endpoint: Endpoint = registry.open_endpoint(
        access.type, access.settings, access.connection, access.connection_settings, surroundings
    )
    return endpoint


def open_keystore(access: KeystoreAccess, surroundings: Surroundings) -> Keystore:
    """Open a keystore from what the manager says of it; raises `Permanent` for settings that are wrong."""
    kind = find("keystores", access.type)
    keystore: Keystore = kind.open(kind.configure(access.settings), surroundings)
    return keystore
