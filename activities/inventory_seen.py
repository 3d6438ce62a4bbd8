"""What endpoints serve and keystores keep is written into the inventory, each time they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from model import seen
from model.messages import DiscoveredBinding, KeystoreContents
from model.states import SightingWay
from model.tables import Certificate, Endpoint, EndpointBinding, Keystore, SeenCertificate, Sighting

_MOST_KNOWN = 5000


def known_at(session: Session, where: Any) -> list[str]:
    """The fingerprints of the certificates that are there, as far as is known; their texts need not be sent again."""
    statement = (
        select(SeenCertificate.fingerprint)
        .join(Sighting, col(Sighting.certificate_id) == col(SeenCertificate.id))
        .where(where, col(Sighting.gone_at).is_(None))
        .distinct()
        .order_by(SeenCertificate.fingerprint)
        .limit(_MOST_KNOWN)
    )
    return list(session.exec(statement).all())


def keep_served(session: Session, endpoint: Endpoint, bindings: Sequence[DiscoveredBinding], now: datetime) -> None:
    """What the bindings of an endpoint serve; those are all its bindings."""
    found = {
        _at_binding(endpoint, binding.binding): binding.served_fingerprint
        for binding in bindings
        if binding.served_fingerprint is not None
    }
    seen.keep(session, found, [one.certificate_pem for one in bindings if one.certificate_pem], now)
    seen.vanish(session, col(Sighting.endpoint_id) == endpoint.id, {spot.key for spot in found}, now)


def keep_kept(session: Session, keystore: Keystore, contents: KeystoreContents, now: datetime) -> None:
    """What is in a keystore; what was left out of the answer is not gone."""
    found = {
        seen.Spot(
            gateway_id=keystore.gateway_id, way=SightingWay.KEYSTORE, keystore_id=keystore.id, alias=entry.alias[:512]
        ): entry.fingerprint
        for entry in contents.entries
        if entry.fingerprint is not None
    }
    seen.keep(session, found, [one.certificate_pem for one in contents.entries if one.certificate_pem], now)
    if not contents.omitted:
        seen.vanish(session, col(Sighting.keystore_id) == keystore.id, {spot.key for spot in found}, now)


def note_installed(session: Session, endpoint: Endpoint, binding: EndpointBinding, now: datetime) -> None:
    """A certificate of ours was installed and is served: the inventory need not wait for the next discovery."""
    if binding.served_fingerprint is None:
        return
    statement = select(Certificate.pem).where(Certificate.fingerprint == binding.served_fingerprint)
    spot = _at_binding(endpoint, binding.binding)
    seen.keep(session, {spot: binding.served_fingerprint}, session.exec(statement).all(), now)


def _at_binding(endpoint: Endpoint, binding: str) -> seen.Spot:
    return seen.Spot(
        gateway_id=endpoint.gateway_id, way=SightingWay.ENDPOINT, endpoint_id=endpoint.id, binding=binding[:512]
    )
