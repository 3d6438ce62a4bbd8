"""May this order be taken, and what does its certificate look like? No files and no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509 as crypto
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from connectors.ca.contract import OrderRequest
from connectors.ca.private.material import Material, authority_key_identifier, new_serial
from connectors.ca.private.settings import Settings
from connectors.errors import Permanent
from model import x509
from model.errors import CertgateError
from model.rules.certificates import check_signing_request
from model.rules.names import normalize_name, normalize_names

MIN_VALIDITY_SECONDS = 60
MAX_COMMON_NAME = 64  # RFC 5280 appendix A.1, ub-common-name


@dataclass(frozen=True)
class AcceptedOrder:
    """An order that the CA will issue; its names are normalized and its key is checked."""

    reference: str
    csr_pem: str
    common_name: str
    names: tuple[str, ...]
    profile: str
    validity_seconds: int
    public_key_sha256: str


def accept(request: OrderRequest, settings: Settings, material: Material) -> AcceptedOrder:
    """Raises `Permanent` with the first reason why this CA will not issue what is ordered."""
    if not 1 <= len(request.reference) <= 200 or not request.reference.isprintable():
        raise Permanent("The reference of an order must have 1 to 200 printable characters.")
    profile_name = request.profile or settings.default_profile
    profile = settings.profiles.get(profile_name)
    if profile is None:
        known = ", ".join(sorted(settings.profiles))
        raise Permanent(f"This CA has no profile {profile_name!a}; it has: {known}.")
    validity = profile.validity_seconds if request.validity_seconds is None else request.validity_seconds
    if not MIN_VALIDITY_SECONDS <= validity <= profile.validity_seconds:
        raise Permanent(
            f"A validity of {validity} s is outside {MIN_VALIDITY_SECONDS} to {profile.validity_seconds} s, "
            f"which the profile {profile_name} allows."
        )
    try:
        names = normalize_names(request.common_name, request.names)
        found = x509.key_algorithm(x509.load_csr(request.csr_pem).public_key())
        if found is None or found not in profile.algorithms:
            allowed = ", ".join(profile.algorithms)
            raise Permanent(f"The profile {profile_name} takes keys of type {allowed}, and the request has {found}.")
        checked = check_signing_request(request.csr_pem, names, found)
    except CertgateError as error:
        raise Permanent(error.message) from None
    # Both: what is configured now, and what the intermediate was made with and clients will enforce.
    for limits in (settings.constraints, material.constraints):
        refused = x509.constraint_problem(names, limits) if limits else None
        if refused is not None:
            raise Permanent(f"The name {refused} is outside the names that this CA may issue for.")
    return AcceptedOrder(
        reference=request.reference,
        csr_pem=request.csr_pem,
        common_name=normalize_name(request.common_name),
        names=tuple(names),
        profile=profile_name,
        validity_seconds=validity,
        public_key_sha256=checked.public_key_sha256,
    )


def issue(order: AcceptedOrder, settings: Settings, material: Material, now: datetime) -> crypto.Certificate:
    """A TLS server certificate for an accepted order. Raises `Permanent` when the CA's own life is too short for it."""
    profile = settings.profiles.get(order.profile)
    if profile is None:
        raise Permanent(f"The profile {order.profile} of the order was taken out of the CA's settings.")
    # Backdating is part of the life, and only a small part of a short one.
    backdated = timedelta(seconds=min(settings.backdate_seconds, order.validity_seconds // 10))
    start = now.replace(microsecond=0) - backdated
    end = start + timedelta(seconds=order.validity_seconds - 1)  # both ends count, RFC 5280 section 4.1.2.5
    if end > material.intermediate.not_valid_after_utc:
        raise Permanent(
            f"The CA's intermediate ends on {material.intermediate.not_valid_after_utc:%Y-%m-%d}, before a certificate "
            f"of {order.validity_seconds} s would; order a shorter one or set up the CA anew."
        )
    key = x509.load_csr(order.csr_pem).public_key()
    subject = []
    if len(order.common_name) <= MAX_COMMON_NAME:
        subject.append(crypto.NameAttribute(NameOID.COMMON_NAME, order.common_name))
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH]
    if profile.client_authentication:
        purposes.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    names = crypto.SubjectAlternativeName(x509.general_names(order.names))
    builder = (
        crypto.CertificateBuilder()
        .subject_name(crypto.Name(subject))
        .issuer_name(material.intermediate.subject)
        .public_key(key)
        .serial_number(new_serial())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(crypto.BasicConstraints(ca=False, path_length=None), critical=True)
        # Key encipherment is for TLS 1.2 clients that can't do better, and only RSA keys can do it at all.
        .add_extension(_usage(key_encipherment=isinstance(key, rsa.RSAPublicKey)), critical=True)
        .add_extension(crypto.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(crypto.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(authority_key_identifier(material.intermediate), critical=False)
        .add_extension(names, critical=not subject)  # RFC 5280 section 4.2.1.6
    )
    for extension in _pointers(settings):
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(material.key, hashes.SHA256())


def _pointers(settings: Settings) -> Sequence[crypto.ExtensionType]:
    """Where revocation and issuer can be looked up (RFC 5280 sections 4.2.1.13 and 4.2.2.1), as far as configured."""
    found: list[crypto.ExtensionType] = []
    if settings.revocation_url:
        location: list[crypto.GeneralName] = [crypto.UniformResourceIdentifier(settings.revocation_url)]
        found.append(crypto.CRLDistributionPoints([crypto.DistributionPoint(location, None, None, None)]))
    methods = [
        (AuthorityInformationAccessOID.OCSP, settings.ocsp_url),
        (AuthorityInformationAccessOID.CA_ISSUERS, settings.issuer_url),
    ]
    access = [crypto.AccessDescription(oid, crypto.UniformResourceIdentifier(url)) for oid, url in methods if url]
    if access:
        found.append(crypto.AuthorityInformationAccess(access))
    return found


def _usage(*, key_encipherment: bool) -> crypto.KeyUsage:
    return crypto.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
