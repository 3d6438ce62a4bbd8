"""Telling that certificates are revoked: the CRL (RFC 5280 section 5) and OCSP responses (RFC 6960). Pure.

Both are signed with the intermediate's key, which issued the certificates: no responder certificate is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from cryptography import x509 as crypto
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from connectors.ca.private.ledger import OrderRecord, OrderState
from connectors.ca.private.material import Material, authority_key_identifier

OCSP_VALIDITY = timedelta(hours=12)
# A revoked certificate stays listed beyond its end, so that no clock that is behind misses it (RFC 5280 section 3.3).
KEPT_AFTER_EXPIRY = timedelta(days=1)
MAX_NONCE_BYTES = 128  # RFC 9654 section 2.1


def revocation_list(
    material: Material, revoked: Iterable[OrderRecord], number: int, now: datetime, validity: timedelta
) -> bytes:
    """A full CRL, DER, with authority key identifier and CRL number (RFC 5280 sections 5.2.1 and 5.2.3)."""
    now = now.replace(microsecond=0)
    builder = (
        crypto.CertificateRevocationListBuilder()
        .issuer_name(material.intermediate.subject)
        .last_update(now)
        .next_update(now + validity)
        .add_extension(authority_key_identifier(material.intermediate), critical=False)
        .add_extension(crypto.CRLNumber(number), critical=False)
    )
    for record in revoked:
        assert record.serial_number is not None
        assert record.revoked is not None
        assert record.not_after is not None
        if record.not_after + KEPT_AFTER_EXPIRY < now:
            continue
        entry = crypto.RevokedCertificateBuilder().serial_number(int(record.serial_number, 16))
        entry = entry.revocation_date(record.revoked.replace(microsecond=0))
        reason = _reason(record)
        if reason is not None:
            entry = entry.add_extension(crypto.CRLReason(reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(material.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def answer(material: Material, request_der: bytes, find: Callable[[str], OrderRecord | None], now: datetime) -> bytes:
    """The OCSP response, DER. `find` looks up an order by serial number (lower-case hex).

    A nonce is sent back (RFC 9654). What can't be read, has a nonce of a wrong length, or asks for several
    certificates is answered ``malformedRequest``; a certificate of another issuer ``unauthorized`` (RFC 5019 section
    2.2.3); a serial that was never issued ``unknown``. Never raises for what a client sends.
    """
    try:
        request = ocsp.load_der_ocsp_request(request_der)
        serial, algorithm = request.serial_number, request.hash_algorithm
        name_hash, key_hash = request.issuer_name_hash, request.issuer_key_hash
        nonce = _nonce(request)
    except (ValueError, NotImplementedError, UnsupportedAlgorithm):
        return _refusal(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
    ours_name, ours_key = issuer_hashes(material.intermediate, algorithm)
    if (name_hash, key_hash) != (ours_name, ours_key):
        return _refusal(ocsp.OCSPResponseStatus.UNAUTHORIZED)
    record = find(format(serial, "x"))
    status, reason, revoked = ocsp.OCSPCertStatus.UNKNOWN, None, None
    if record is not None:
        status = ocsp.OCSPCertStatus.GOOD
        if record.state is OrderState.REVOKED and record.revoked is not None:
            status, reason = ocsp.OCSPCertStatus.REVOKED, _reason(record)
            revoked = record.revoked.replace(microsecond=0)
    now = now.replace(microsecond=0)
    builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
        issuer_name_hash=ours_name,
        issuer_key_hash=ours_key,
        serial_number=serial,
        algorithm=algorithm,
        cert_status=status,
        this_update=now,
        next_update=now + OCSP_VALIDITY,
        revocation_time=revoked,
        revocation_reason=reason,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, material.intermediate)
    if nonce is not None:
        builder = builder.add_extension(crypto.OCSPNonce(nonce), critical=False)
    return builder.sign(material.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _nonce(request: ocsp.OCSPRequest) -> bytes | None:
    try:
        nonce = request.extensions.get_extension_for_class(crypto.OCSPNonce).value.nonce
    except crypto.ExtensionNotFound:
        return None
    if not 1 <= len(nonce) <= MAX_NONCE_BYTES:
        raise ValueError("nonce length")
    return nonce


def issuer_hashes(issuer: crypto.Certificate, algorithm: hashes.HashAlgorithm) -> tuple[bytes, bytes]:
    """Of the issuer's name and of its key's bits without tag and length (RFC 6960 section 4.1.1)."""
    key = issuer.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    results = []
    for content in (issuer.subject.public_bytes(), key):
        digest = hashes.Hash(algorithm)
        digest.update(content)
        results.append(digest.finalize())
    return results[0], results[1]


def _refusal(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(serialization.Encoding.DER)


def _reason(record: OrderRecord) -> crypto.ReasonFlags | None:
    """None for ``unspecified``, which must be left out (RFC 5280 section 5.3.1)."""
    return None if record.reason in (None, "unspecified") else crypto.ReasonFlags(record.reason)
