"""The CA behind the interface: a root and an intermediate of its own, real certificates, CRL and OCSP.

All in memory and made anew with each simulator. `Authority.urls` point to the simulator's plain server on loopback.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.simulators.sectigo.faults import Wrong

BACKDATED = timedelta(minutes=5)
ANSWERS_FOR = timedelta(hours=12)
DOMAIN_VALIDATED = ObjectIdentifier("2.23.140.1.2.1")  # CA/Browser Forum, Baseline Requirements section 7.1.6.1


@dataclass(frozen=True)
class Issuer:
    """A CA certificate and its key, which stays out of `repr`."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True)
class Issued:
    """A certificate and the issuers that are handed out with it, in the order in which they are."""

    leaf: x509.Certificate
    issuers: Sequence[x509.Certificate]


class Authority:
    """Signs. `cross_signed`: an older root signed the root's key too, and that path is what is handed out."""

    def __init__(self, now: datetime, url: str, *, cross_signed: bool = False) -> None:
        mark = secrets.token_hex(4)
        self._url = url
        root_key = ec.generate_private_key(ec.SECP256R1())
        self.root = Issuer(_ca(f"Sectigo Simulator Root {mark}", root_key, None, now), root_key)
        self.issuing = self._below(self.root, f"Sectigo Simulator TLS CA {mark}", now, "root")
        self.old_root = _new_root(f"Sectigo Simulator Old Root {mark}", now)
        self.cross = _ca(self.root.certificate.subject, root_key, self.old_root, now)
        self.stranger = _new_root(f"Somebody Else {mark}", now)
        self._other = self._below(self.stranger, f"Somebody Else TLS CA {mark}", now, "stranger")
        above = [self.cross, self.old_root.certificate] if cross_signed else [self.root.certificate]
        self.issuers: list[x509.Certificate] = [self.issuing.certificate, *above]
        self.published: dict[str, x509.Certificate] = {
            "root": self.root.certificate,
            "issuing": self.issuing.certificate,
            "cross": self.cross,
            "old-root": self.old_root.certificate,
        }

    def issue(
        self,
        key: CertificatePublicKeyTypes,
        common_name: str,
        names: Sequence[str],
        days: int,
        now: datetime,
        wrong: Wrong | None = None,
    ) -> Issued:
        """A leaf for `names`, good for `days`, and its issuers; `wrong` in one way if told."""
        start, signer, issuers = now - BACKDATED, self.issuing, list(self.issuers)
        if wrong is Wrong.OTHER_KEY:
            key = ec.generate_private_key(ec.SECP256R1()).public_key()
        elif wrong is Wrong.OTHER_NAMES:
            common_name, names = "wrong.example.net", ["wrong.example.net"]
        elif wrong is Wrong.EXPIRED:
            start -= timedelta(days=days + 1)
        elif wrong is Wrong.NOT_YET_VALID:
            start += timedelta(days=2)
        elif wrong is Wrong.UNKNOWN_ISSUER:
            signer, issuers = self._other, [self._other.certificate, self.stranger.certificate]
        elif wrong is Wrong.UNORDERED_CHAIN:
            issuers.reverse()
        elif wrong is Wrong.STRANGER_IN_CHAIN:
            issuers.insert(1, self.stranger.certificate)
        return Issued(self._leaf(signer, key, common_name, names, start, timedelta(days=days)), issuers)

    def _leaf(
        self,
        signer: Issuer,
        key: CertificatePublicKeyTypes,
        common_name: str,
        names: Sequence[str],
        start: datetime,
        life: timedelta,
    ) -> x509.Certificate:
        start = start.replace(microsecond=0)
        usage = _usage(digital_signature=True, key_encipherment=isinstance(key, rsa.RSAPublicKey))
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name) if len(common_name) <= 64 else x509.Name([]))
            .issuer_name(signer.certificate.subject)
            .public_key(key)
            .serial_number(_serial())
            .not_valid_before(start)
            .not_valid_after(start + life)
            .add_extension(_authority(signer.certificate), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(usage, critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.CertificatePolicies([x509.PolicyInformation(DOMAIN_VALIDATED, None)]), critical=False)
            .add_extension(self._information("issuing", responder=True), critical=False)
            .add_extension(self._distribution("issuing"), critical=False)
            .add_extension(x509.SubjectAlternativeName([general_name(name) for name in names]), critical=False)
        )
        return builder.sign(signer.key, hashes.SHA256())

    def _below(self, parent: Issuer, name: str, now: datetime, place: str) -> Issuer:
        key = ec.generate_private_key(ec.SECP256R1())
        more = [self._information(place, responder=False), self._distribution(place)]
        return Issuer(_ca(name, key, parent, now, more), key)

    def _information(self, place: str, *, responder: bool) -> x509.AuthorityInformationAccess:
        found = [(AuthorityInformationAccessOID.CA_ISSUERS, f"{self._url}/ca/{place}.crt")]
        if responder:
            found.append((AuthorityInformationAccessOID.OCSP, f"{self._url}/ocsp"))
        return x509.AuthorityInformationAccess(
            [x509.AccessDescription(kind, x509.UniformResourceIdentifier(url)) for kind, url in found]
        )

    def _distribution(self, place: str) -> x509.CRLDistributionPoints:
        url = x509.UniformResourceIdentifier(f"{self._url}/crl/{place}.crl")
        return x509.CRLDistributionPoints([x509.DistributionPoint([url], None, None, None)])

    def revocation_list(self, place: str, revoked: Iterable[Revocation], number: int, now: datetime) -> bytes:
        """A full CRL of ``issuing``, ``root`` or ``stranger``, DER; only the first has entries."""
        signer = {"issuing": self.issuing, "root": self.root, "stranger": self.stranger}[place]
        now = now.replace(microsecond=0)
        builder = x509.CertificateRevocationListBuilder().issuer_name(signer.certificate.subject)
        builder = builder.last_update(now).next_update(now + ANSWERS_FOR)
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        builder = builder.add_extension(_authority(signer.certificate), critical=False)
        for one in revoked if place == "issuing" else ():
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number)
            entry = entry.revocation_date(one.at.replace(microsecond=0))
            if one.reason is not None:
                entry = entry.add_extension(x509.CRLReason(one.reason), critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def answer(self, request_der: bytes, known: Sequence[Standing], now: datetime) -> bytes:
        """An OCSP response (RFC 6960), DER; what is no request for a certificate of ours is refused in it."""
        try:
            request = ocsp.load_der_ocsp_request(request_der)
            wanted, algorithm = request.serial_number, request.hash_algorithm
            nonce = next((one.value for one in request.extensions if isinstance(one.value, x509.OCSPNonce)), None)
        except (ValueError, NotImplementedError, UnsupportedAlgorithm):
            return _refused(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
        found = next((one for one in known if one.certificate.serial_number == wanted), None)
        if found is None:
            return _refused(ocsp.OCSPResponseStatus.UNAUTHORIZED)
        now = now.replace(microsecond=0)
        revoked = found.revoked
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=found.certificate,
            issuer=self.issuing.certificate,
            algorithm=algorithm,
            cert_status=ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
            this_update=now,
            next_update=now + ANSWERS_FOR,
            revocation_time=revoked.at.replace(microsecond=0) if revoked else None,
            revocation_reason=revoked.reason if revoked else None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self.issuing.certificate)
        if nonce is not None:
            builder = builder.add_extension(nonce, critical=False)
        return builder.sign(self.issuing.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True)
class Revocation:
    """One line of a CRL; `reason` is None for ``unspecified``, which is left out (RFC 5280 section 5.3.1)."""

    serial_number: int
    at: datetime
    reason: x509.ReasonFlags | None


@dataclass(frozen=True)
class Standing:
    """A certificate that was issued, and whether it is revoked."""

    certificate: x509.Certificate
    revoked: Revocation | None


def general_name(name: str) -> x509.GeneralName:
    """A DNS name or an IP address."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _refused(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(serialization.Encoding.DER)


def _new_root(name: str, now: datetime) -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    return Issuer(_ca(name, key, None, now), key)


def _ca(
    subject: str | x509.Name,
    key: ec.EllipticCurvePrivateKey,
    parent: Issuer | None,
    now: datetime,
    more: Sequence[x509.ExtensionType] = (),
) -> x509.Certificate:
    name = subject if isinstance(subject, x509.Name) else _name(subject)
    # Old enough for leaves that are expired on purpose.
    start = now.replace(microsecond=0) - timedelta(days=1000)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(parent.certificate.subject if parent else name)
        .public_key(key.public_key())
        .serial_number(_serial())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=6000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True, signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    signer = parent.key if parent else key
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(identifier, critical=False)
    for extension in more:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signer, hashes.SHA256())


def _authority(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _usage(*, digital_signature: bool = False, key_encipherment: bool = False, signs: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(digital_signature, False, key_encipherment, False, False, signs, signs, False, False)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _serial() -> int:
    return secrets.randbits(127) or 1
