"""How orders, certificate profiles and validations are shown, and which of them a list lets through. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from tests.simulators.sectigo.accounts import KEY_TYPES, CertificateType
from tests.simulators.sectigo.orders import Order, Status, Validation
from tests.simulators.sectigo.reading import csr_names, plain_serial


def describe(order: Order, profile: CertificateType | None, now: datetime) -> dict[str, Any]:
    """The details of an order; what is not yet so is left out."""
    times = {
        "requested": order.requested,
        "approved": order.approved,
        "declined": order.declined,
        "issued": order.issued_at,
        "replaced": order.replaced,
        "revoked": order.revoked,
        "renewedDate": order.renewed,
    }
    value: dict[str, Any] = {
        "id": order.id,
        "sslId": order.id,
        "orderNumber": order.order_number,
        "backendCertId": str(order.order_number),
        "orgId": order.org_id,
        "commonName": order.common_name,
        "subjectAlternativeNames": order.names,
        "status": order.status_at(now).value,
        "vendor": "Sectigo",
        "term": order.term,
        "comments": order.comments,
        "externalRequester": order.external_requester,
        "requester": order.requester,
        "requestedVia": "REST API",
        "renewed": order.renewed is not None,
        "customFields": [{"name": name, "value": text} for name, text in order.custom_fields.items()],
        "suspendNotifications": order.suspend_notifications,
        **describe_key(order.key),
        **{name: at.strftime("%Y-%m-%dT%H:%M:%S.000Z") for name, at in times.items() if at is not None},
    }
    if profile is not None:
        value["certType"] = describe_type(profile)
    if order.reason_code is not None:
        value["reasonCode"] = order.reason_code
    if order.issued is not None:
        value |= _certificate(order.issued.leaf, order.serial_number)
    return value


def describe_type(one: CertificateType) -> dict[str, Any]:
    """A certificate profile."""
    return {
        "id": one.id,
        "name": one.name,
        "description": one.description,
        "terms": list(one.terms),
        "keyTypes": KEY_TYPES,
        "useSecondaryOrgName": False,
    }


def describe_key(key: CertificatePublicKeyTypes) -> dict[str, Any]:
    """Kind and size of a key; nothing for a kind that is unknown here."""
    if isinstance(key, rsa.RSAPublicKey):
        return {"keyAlgorithm": "RSA", "keySize": key.key_size, "keyType": f"RSA - {key.key_size}"}
    if isinstance(key, ec.EllipticCurvePublicKey):
        curve = {"secp256r1": "P-256", "secp384r1": "P-384"}.get(key.curve.name, key.curve.name)
        return {"keyAlgorithm": "EC", "keySize": key.key_size, "keyType": f"EC - {curve}"}
    return {}


def _certificate(leaf: x509.Certificate, serial: str) -> dict[str, Any]:
    return {
        "serialNumber": serial,
        "signatureAlg": "ECDSA",
        "expires": leaf.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "keyUsages": ["Digital Signature"],
        "extendedKeyUsages": ["Server Authentication", "Client Authentication"],
        "certificateDetails": {
            "issuer": leaf.issuer.rfc4514_string(),
            "subject": leaf.subject.rfc4514_string(),
            "subjectAltNames": ", ".join(csr_names(leaf)),
            "md5Hash": leaf.fingerprint(hashes.MD5()).hex(),
            "sha1Hash": leaf.fingerprint(hashes.SHA1()).hex(),
            "sha256Hash": leaf.fingerprint(hashes.SHA256()).hex(),
        },
    }


def describe_validation(one: Validation) -> dict[str, Any]:
    """Domain control validation of one name, and what has to be done for it."""
    domain = one.name.removeprefix("*.")
    mark = hashlib.sha256(one.name.encode()).hexdigest()[:32]
    instruction: dict[str, Any] = {"dcvMode": one.mode, "domainName": one.name}
    if one.mode in ("CNAME", "TXT", "AUTO"):
        instruction |= {"host": f"_{mark[:16]}.{domain}", "point": f"{mark}.dcv.simulator.example"}
    elif one.mode in ("HTTP", "HTTPS"):
        path = f".well-known/pki-validation/{mark.upper()}.txt"
        instruction |= {"url": f"{one.mode.lower()}://{domain}/{path}", "file": f"{mark} simulator.example"}
    else:
        instruction |= {"dcvEmail": f"admin@{domain}"}
    log = {
        "domainName": one.name,
        "dcvStatus": "Validated" if one.done else "Not Validated",
        "lastCheck": one.last_check.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    }
    return {"instructions": [] if one.done else [instruction], "dcvLog": {"log": [log]}}


def chosen_by(query: Mapping[str, str], order: Order, status: Status, *, exact: bool) -> bool:
    """Whether the filters of a list let an order through. Unless `exact`, texts need only be contained."""
    leaf = order.issued.leaf if order.issued else None
    texts = {
        "commonName": order.common_name,
        "externalRequester": order.external_requester,
        "requester": order.requester,
        "vendor": "Sectigo",
        "issuer": leaf.issuer.rfc4514_string() if leaf else "",
        "keyAlgorithm": str(describe_key(order.key).get("keyAlgorithm")),
        "signatureAlgorithm": "ECDSA" if leaf else "",
    }
    values = {
        "status": status.value,
        "sslTypeId": str(order.type_id),
        "orgId": str(order.org_id),
        "requestedVia": "REST API",
        "sha256Hash": leaf.fingerprint(hashes.SHA256()).hex() if leaf else "",
        "sha1Hash": leaf.fingerprint(hashes.SHA1()).hex() if leaf else "",
    }
    for name, text in query.items():
        if name in texts and not _fits(text, [texts[name]], exact):
            return False
        if name in values and text.lower() != values[name].lower():
            return False
        if name == "serialNumber" and plain_serial(text) != plain_serial(order.serial_number):
            return False
        if name == "subjectAlternativeName" and not _fits(text, order.names, exact):
            return False
    return True


def _fits(text: str, candidates: Iterable[str], exact: bool) -> bool:
    wanted = text.lower()
    return any(wanted == one.lower() if exact else wanted in one.lower() for one in candidates)
