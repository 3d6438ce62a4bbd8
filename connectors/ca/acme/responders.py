"""Who answers challenges, by the settings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from connectors.ca.acme.challenges.answers import Answers
from connectors.ca.acme.challenges.contract import Method, Responder
from connectors.ca.acme.challenges.dns01 import Dns01
from connectors.ca.acme.challenges.dns01_hook import HookPublisher
from connectors.ca.acme.challenges.dns01_lookup import Lookup
from connectors.ca.acme.challenges.dns01_update import TsigKey, UpdatePublisher
from connectors.ca.acme.challenges.http01 import OwnServer, WebRoot
from connectors.ca.acme.challenges.tlsalpn01 import OwnTlsServer
from connectors.ca.acme.settings import Settings
from connectors.folders import PrivateFolder
from connectors.registry import Surroundings


def responders(settings: Settings, surroundings: Surroundings, folder: Path) -> Mapping[Method, Responder]:
    """What answers for each method that is to be used, the preferred one first; answers of our own are in `folder`."""
    own = PrivateFolder(folder, "folder of answers")
    found: dict[Method, Responder] = {}
    if settings.http01_listen is not None:
        found[Method.HTTP_01] = OwnServer(settings.http01_listen, Answers(own, Method.HTTP_01))
    elif settings.http01_web_root is not None:
        found[Method.HTTP_01] = WebRoot(settings.http01_web_root)
    if Method.DNS_01 in settings.set_up:
        found[Method.DNS_01] = _dns01(settings, surroundings)
    if settings.tls_alpn01_listen is not None:
        found[Method.TLS_ALPN_01] = OwnTlsServer(settings.tls_alpn01_listen, Answers(own, Method.TLS_ALPN_01))
    return {method: found[method] for method in settings.methods}


def _dns01(settings: Settings, surroundings: Surroundings) -> Responder:
    lookup = Lookup(settings.dns01_resolvers, settings.dns01_timeout_seconds)
    if settings.dns01_program is not None:
        hook = HookPublisher(settings.dns01_program, timedelta(seconds=settings.dns01_program_seconds))
        return Dns01(hook, lookup, settings.dns01_check_servers)
    key = None
    if settings.dns01_key_name is not None and settings.dns01_key_secret is not None:
        key = TsigKey(settings.dns01_key_name, settings.dns01_key_secret, settings.dns01_key_algorithm)
    updates = UpdatePublisher(
        lookup, surroundings.secret, server=settings.dns01_server, key=key, ttl=settings.dns01_ttl_seconds
    )
    return Dns01(updates, lookup, settings.dns01_check_servers)
