"""Whether a certificate is revoked, as its CA publishes it: OCSP (RFC 6960), else the CRL (RFC 5280 section 5).

The addresses stand in the certificate (authority information access, CRL distribution points), so only public ones
are asked unless the CA's networks are allowed. An answer counts if it is signed by the issuer of the certificate, or
for OCSP by a responder that the issuer named for that, and if it is of today; what is forged, stale or of another
certificate is an `AuthorityFault` and says nothing about the certificate.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from cryptography import x509 as crypto
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from connectors.ca.contract import HeldCertificate, Standing
from connectors.errors import AuthorityFault, ConnectorError, Retryable
from connectors.web import Addresses, Answer, Web, place
from model import x509
from model.errors import InvalidInput

# The largest lists of public CAs have some ten megabytes; it is read into memory, once for all certificates of a CA.
LARGEST_LIST = 50 * 1024 * 1024
_LARGEST_RESPONSE = 256 * 1024
_PATIENCE = 20.0
# A responder's clock may differ from ours by this much.
_SKEW = timedelta(minutes=5)
# Without nextUpdate "newer information is available all the time" (RFC 6960 section 2.4); older than this is replayed.
_FRESH = timedelta(days=1)
# A list is asked for anew after this time, however long it says it is good for: revocations come earlier.
_LIST_KEPT = timedelta(hours=1)
_LISTS_KEPT = 4
_NONCE_BYTES = 32  # RFC 9654 section 2.1
_PUBLISHED_AT_MOST = 3  # addresses of one kind that are tried


@dataclass(frozen=True)
class Published:
    """What was found: `standing` None where nothing counts. `problem` is why, or what was wrong besides: `passing`
    where nobody answered, `faulty` where an answer was wrong or may not be asked for, else nothing is published.
    `after` is the other side's hint when to ask again."""

    standing: Standing | None
    problem: str | None = None
    passing: bool = False
    faulty: bool = False
    after: timedelta | None = None


@dataclass(frozen=True)
class _List:
    crl: crypto.CertificateRevocationList
    until: datetime


class Publications:
    """Asks OCSP responders and fetches CRLs. Connections and lists are kept for the next certificate."""

    def __init__(self, addresses: Addresses, clock: Callable[[], datetime]) -> None:
        self._addresses, self._clock = addresses, clock
        self._servers: OrderedDict[str, Web] = OrderedDict()
        self._lists: OrderedDict[str, _List] = OrderedDict()

    async def close(self) -> None:
        """Close all connections."""
        for server in self._servers.values():
            await server.close()
        self._servers.clear()

    async def standing(self, certificate: HeldCertificate) -> Published:
        """What is published about a certificate; `chain_pem` has to begin with its issuer. Never raises for what the
        other side does."""
        try:
            leaf = x509.load_certificate(certificate.certificate_pem)
            issuer = _issuer(leaf, certificate)
        except (InvalidInput, AuthorityFault) as error:
            return Published(None, error.message)
        ways = [(self._ocsp, url) for url in _responders(leaf)] + [(self._crl, url) for url in _lists(leaf)]
        if not ways:
            return Published(None, "The certificate names neither an OCSP responder nor a CRL.")
        wrong: list[ConnectorError] = []
        for ask, url in ways:
            try:
                standing = await ask(leaf, issuer, url)
            except ConnectorError as error:
                wrong.append(error)
                continue
            problem = _fault(wrong)
            return Published(standing, problem, faulty=problem is not None)
        fault = _fault(wrong)
        hints = [error.after for error in wrong if isinstance(error, Retryable) and error.after is not None]
        told = fault or wrong[0].message
        return Published(None, told, passing=fault is None, faulty=fault is not None, after=max(hints, default=None))

    async def _ocsp(self, leaf: crypto.Certificate, issuer: crypto.Certificate, url: str) -> Standing:
        nonce = os.urandom(_NONCE_BYTES)
        # SHA-1 only names the issuer here, and it is what every responder knows (RFC 5019 section 2.1.1).
        builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1())  # noqa: S303
        asked = builder.add_extension(crypto.OCSPNonce(nonce), critical=False).build()
        server = self._server("the OCSP responder", url, _LARGEST_RESPONSE)
        answer = await server.post(
            url,
            content=asked.public_bytes(serialization.Encoding.DER),
            headers={"content-type": "application/ocsp-request", "accept": "application/ocsp-response"},
        )
        return judge_response(_body(answer), asked, issuer, nonce, answer.where, self._clock())

    async def _crl(self, leaf: crypto.Certificate, issuer: crypto.Certificate, url: str) -> Standing:
        now = self._clock()
        kept = self._lists.get(url)
        if kept is None or kept.until <= now or not _signed(kept.crl, issuer):
            answer = await self._server("the CRL's server", url, LARGEST_LIST).get(url)
            crl = judge_list(_body(answer), issuer, answer.where, now)
            until = now + _LIST_KEPT
            kept = _List(crl, min(until, crl.next_update_utc) if crl.next_update_utc else until)
            self._lists[url] = kept
            while len(self._lists) > _LISTS_KEPT:
                self._lists.popitem(last=False)
        self._lists.move_to_end(url)
        entry = kept.crl.get_revoked_certificate_by_serial_number(leaf.serial_number)
        if entry is None:
            return Standing(False, "CRL")
        try:
            reason = str(entry.extensions.get_extension_for_class(crypto.CRLReason).value.reason.value)
        except crypto.ExtensionNotFound:
            reason = None
        if reason == crypto.ReasonFlags.remove_from_crl.value:
            return Standing(False, "CRL")
        return Standing(True, "CRL", entry.revocation_date_utc, reason)

    def _server(self, title: str, url: str, largest: int) -> Web:
        key = f"{title} {place(url)}"
        if key not in self._servers:
            self._servers[key] = Web(
                title, place(url), patience=_PATIENCE, largest=largest, addresses=self._addresses, plain=True
            )
        return self._servers[key]


def judge_response(
    der: bytes,
    asked: ocsp.OCSPRequest,
    issuer: crypto.Certificate,
    nonce: bytes,
    where: str,
    now: datetime,
) -> Standing:
    """What an OCSP response (DER) says of the certificate that was asked for. Raises `AuthorityFault` for one that does
    not count, `Retryable` where the responder asks to come again."""
    try:
        response = ocsp.load_der_ocsp_response(der)
        if response.response_status in (
            ocsp.OCSPResponseStatus.TRY_LATER,
            ocsp.OCSPResponseStatus.INTERNAL_ERROR,
        ):
            raise Retryable(f"{where} asks to come again ({response.response_status.name}).")
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise AuthorityFault(f"{where} does not answer for this certificate ({response.response_status.name}).")
        _check_responder(response, issuer, where, now)
        _check_nonce(response, nonce, where)
        single = _single(response, asked, where)
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):
        raise AuthorityFault(f"{where} answered with something that is no OCSP response.") from None
    _check_time(single.this_update_utc, single.next_update_utc, f"The answer of {where}", now)
    if single.certificate_status is ocsp.OCSPCertStatus.GOOD:
        return Standing(False, "OCSP")
    if single.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
        raise AuthorityFault(f"{where} does not know the certificate.")
    reason = single.revocation_reason
    return Standing(True, "OCSP", single.revocation_time_utc, str(reason.value) if reason else None)


def judge_list(
    content: bytes, issuer: crypto.Certificate, where: str, now: datetime
) -> crypto.CertificateRevocationList:
    """A CRL (DER or PEM) of that issuer, complete and of today. Raises `AuthorityFault`."""
    try:
        pem = content.lstrip().startswith(b"-----BEGIN")
        crl = crypto.load_pem_x509_crl(content) if pem else crypto.load_der_x509_crl(content)
        extensions = list(crl.extensions)
    except (ValueError, UnsupportedAlgorithm):
        raise AuthorityFault(f"{where} answered with something that is no CRL.") from None
    if not _signed(crl, issuer):
        raise AuthorityFault(f"The CRL of {where} is not signed by the issuer of the certificate.")
    for extension in extensions:
        value = extension.value
        if isinstance(value, crypto.DeltaCRLIndicator):
            raise AuthorityFault(f"The CRL of {where} is a delta and not the whole list.")
        if isinstance(value, crypto.IssuingDistributionPoint):
            if value.indirect_crl or value.only_contains_ca_certs or value.only_contains_attribute_certs:
                raise AuthorityFault(f"The CRL of {where} is not for certificates of this kind.")
        elif extension.critical:
            oid = extension.oid.dotted_string
            raise AuthorityFault(f"The CRL of {where} has the extension {oid}, which must not be ignored.")
    _check_time(crl.last_update_utc, crl.next_update_utc, f"The CRL of {where}", now)
    return crl


def _issuer(leaf: crypto.Certificate, certificate: HeldCertificate) -> crypto.Certificate:
    for pem in certificate.chain_pem:
        for one in x509.load_certificates(pem):
            if x509.is_signed_by(leaf, one):
                return one
    raise AuthorityFault("The issuer of the certificate is not known, so nothing can be asked about it.")


def _responders(leaf: crypto.Certificate) -> list[str]:
    try:
        access = leaf.extensions.get_extension_for_class(crypto.AuthorityInformationAccess).value
    except crypto.ExtensionNotFound:
        return []
    found = (one.access_location for one in access if one.access_method == AuthorityInformationAccessOID.OCSP)
    return _addresses(found)


def _lists(leaf: crypto.Certificate) -> list[str]:
    try:
        points = leaf.extensions.get_extension_for_class(crypto.CRLDistributionPoints).value
    except crypto.ExtensionNotFound:
        return []
    # With a cRLIssuer somebody else signs the list, and with reasons it is not whole.
    whole = (point for point in points if point.crl_issuer is None and point.reasons is None)
    return _addresses(name for point in whole for name in point.full_name or ())


def _addresses(names: Iterator[crypto.GeneralName]) -> list[str]:
    urls = [name.value for name in names if isinstance(name, crypto.UniformResourceIdentifier)]
    usable = [url for url in urls if urlsplit(url).scheme in ("http", "https") and urlsplit(url).hostname]
    return usable[:_PUBLISHED_AT_MOST]


def _fault(wrong: list[ConnectorError]) -> str | None:
    """What has to be told even where another address answered well: not that somebody was away."""
    return next((error.message for error in wrong if not isinstance(error, Retryable)), None)


def _body(answer: Answer) -> bytes:
    if answer.status != 200 or answer.empty:
        raise AuthorityFault(f"{answer.where} answered with status {answer.status} and nothing that counts.")
    return answer.content


def _check_time(this_update: datetime, next_update: datetime | None, what: str, now: datetime) -> None:
    if this_update - _SKEW > now:
        raise AuthorityFault(f"{what} is of {this_update:%Y-%m-%d %H:%M} UTC, which is yet to come.")
    end = next_update if next_update is not None else this_update + _FRESH
    if end + _SKEW < now:
        raise AuthorityFault(f"{what} is stale: it was good until {end:%Y-%m-%d %H:%M} UTC.")


def _check_nonce(response: ocsp.OCSPResponse, nonce: bytes, where: str) -> None:
    """A responder that makes its answers in advance leaves it out (RFC 9654 section 1)."""
    try:
        given = response.extensions.get_extension_for_class(crypto.OCSPNonce).value.nonce
    except crypto.ExtensionNotFound:
        return
    if given != nonce:
        raise AuthorityFault(f"The answer of {where} is to another question than ours (nonce).")


def _single(response: ocsp.OCSPResponse, asked: ocsp.OCSPRequest, where: str) -> ocsp.OCSPSingleResponse:
    for one in response.responses:
        same_issuer = (one.issuer_name_hash, one.issuer_key_hash) == (asked.issuer_name_hash, asked.issuer_key_hash)
        if one.serial_number == asked.serial_number and same_issuer:
            return one
    raise AuthorityFault(f"{where} answered for another certificate.")


def _check_responder(response: ocsp.OCSPResponse, issuer: crypto.Certificate, where: str, now: datetime) -> None:
    """Signed by the issuer, or by a certificate that the issuer gave out for just that (RFC 6960 section 4.2.2.2)."""
    if _verifies(response, issuer):
        return
    for responder in response.certificates:
        if not x509.is_signed_by(responder, issuer) or not _may_respond(responder, now):
            continue
        if _verifies(response, responder):
            return
    raise AuthorityFault(
        f"The answer of {where} is signed neither by the issuer of the certificate nor by a responder of it."
    )


def _may_respond(responder: crypto.Certificate, now: datetime) -> bool:
    try:
        usage = responder.extensions.get_extension_for_class(crypto.ExtendedKeyUsage).value
    except crypto.ExtensionNotFound:
        return False
    alive = responder.not_valid_before_utc - _SKEW <= now <= responder.not_valid_after_utc
    return alive and ExtendedKeyUsageOID.OCSP_SIGNING in usage


def _verifies(response: ocsp.OCSPResponse, by: crypto.Certificate) -> bool:
    key, algorithm = by.public_key(), response.signature_hash_algorithm
    signature, content = response.signature, response.tbs_response_bytes
    if isinstance(algorithm, hashes.SHA1 | hashes.MD5):
        return False
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm is not None:
            key.verify(signature, content, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm is not None:
            key.verify(signature, content, ec.ECDSA(algorithm))
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, content)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _signed(crl: crypto.CertificateRevocationList, issuer: crypto.Certificate) -> bool:
    key = issuer.public_key()
    if crl.issuer != issuer.subject or isinstance(crl.signature_hash_algorithm, hashes.SHA1 | hashes.MD5):
        return False
    try:
        usage = issuer.extensions.get_extension_for_class(crypto.KeyUsage).value
        if not usage.crl_sign:
            return False
    except crypto.ExtensionNotFound:
        pass
    try:
        return crl.is_signature_valid(key)  # type: ignore[arg-type]  # what no CA has is refused with TypeError
    except (TypeError, UnsupportedAlgorithm, ValueError):
        return False
