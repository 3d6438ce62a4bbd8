"""Keys, on the gateway: made there, used there, deleted there."""

from __future__ import annotations

from temporalio import activity

from activities.failures import as_failures, heartbeating
from connectors.keystores.contract import Keystore, SigningRequest
from connectors.registry import Surroundings, find
from model.messages import DiscardKey, KeystoreAccess, PreparedKey, PrepareKey


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
                return PreparedKey(await open_keystore(wanted.keystore, self._surroundings).sign_request(request))

    @activity.defn(name="keys.discard")
    async def discard(self, unwanted: DiscardKey) -> None:
        """Delete the key of a request that came to nothing."""
        with as_failures():
            async with heartbeating():
                await open_keystore(unwanted.keystore, self._surroundings).remove(unwanted.alias)


def open_keystore(access: KeystoreAccess, surroundings: Surroundings) -> Keystore:
    """Open a keystore from what the manager says of it; raises `Permanent` for settings that are wrong."""
    kind = find("keystores", access.type)
    keystore: Keystore = kind.open(kind.configure(access.settings), surroundings)
    return keystore
