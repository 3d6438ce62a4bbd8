"""Certification paths: from a leaf to a trust anchor, found and verified (RFC 5280 section 6, RFC 4158).

Cross-signed CAs have several certificates, so several ways may lead up. All of them are found, and of those that hold
the first is taken by this rule:

1. the one that holds the longest: the earliest end in it, leaf included, is the latest. So a cross-sign that ends
   before the leaf is not chosen while another way outlives it, and one that has ended is no way at all;
2. the one that leaves out the fewest of the certificates that the CA sent: it knows its clients, and may have been
   asked for that chain (ACME, RFC 8555 section 7.4.2);
3. the shortest;
4. the one whose anchor ends last, then the smaller fingerprints, so that the same question has the same answer.

No CA, which is a name with a key, stands in a path twice: a way that comes back to one holds nothing that the way
without the loop lacks. Nor does a path go on beyond a trust anchor.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519, rsa
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from model.x509 import (
    MAX_PATH_LENGTH,
    ChainIncomplete,
    ChainProblem,
    ChainWrong,
    IssuerOutOfTime,
    RootNotTrusted,
    called,
    constraint_problem,
    covers,
    distinguished_name,
    extension,
    fingerprint,
    is_self_signed,
    is_signed_by,
    public_key_sha256,
    short,
    subject_names,
    weak_hash,
)

# Ways and signatures that are looked at. What CAs really have stays far below; what was made to keep us busy does not.
_MOST_STEPS = 2000
_MOST_SIGNATURES = 2000
_SHORTEST_RSA = 2048

Path = list[x509.Certificate]


def verify_chain(
    leaf: x509.Certificate,
    sent: Iterable[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    names: Sequence[str],
    at: datetime,
    known: Iterable[x509.Certificate] = (),
) -> Path:
    """The path from `leaf` to one of `anchors` (both included), valid for a TLS server with `names` at time `at`.

    `sent` is what the CA gave and `known` what else may complete it, in any order and with strangers. Two opinions must
    agree: rules of our own, which know how to say what is wrong, and the path validation of `cryptography` (RFC 5280
    section 6, name constraints included). Where an issuer has an Edwards-curve key, which that library refuses because
    the web's CAs may not have one, ours stands alone. Raises `ChainWrong`, `ChainIncomplete`, `IssuerOutOfTime` or
    `RootNotTrusted`.
    """
    present = subject_names(leaf)
    if not present:
        raise ChainWrong("The certificate has no subject alternative name.")
    for name in names:
        if not any(covers(one, name) for one in present):
            raise ChainWrong(f"The certificate is not valid for {name}.")
    search = _Search(leaf, sent, known, anchors)
    problem: ChainProblem | None = None
    for path in search.ranked():
        try:
            _check_path(path, at)
            _ask(path, [*names, *present][0], at)
        except ChainProblem as error:
            # What a newer certificate would mend is told rather than what nothing mends.
            if problem is None or (isinstance(error, ChainIncomplete) and not isinstance(problem, ChainIncomplete)):
                problem = error
        else:
            return path
    if problem is None:
        raise search.incomplete()
    if isinstance(problem, ChainIncomplete):
        raise type(problem)(problem.message, problem.missing_issuer, problem.ends, search.awaited())
    raise problem


class _Search:
    """All ways up from a leaf, the shortest first."""

    def __init__(
        self,
        leaf: x509.Certificate,
        sent: Iterable[x509.Certificate],
        known: Iterable[x509.Certificate],
        anchors: Sequence[x509.Certificate],
    ) -> None:
        self._leaf = leaf
        self._anchors = dict.fromkeys(anchors)
        self._sent = [one for one in dict.fromkeys(sent) if one != leaf and not is_self_signed(one)]
        self._by_name: dict[x509.Name, list[x509.Certificate]] = {}
        for one in dict.fromkeys([*anchors, *sent, *known]):
            self._by_name.setdefault(one.subject, []).append(one)
        self._signed: dict[tuple[x509.Certificate, x509.Certificate], bool] = {}
        self._reached: dict[x509.Certificate, None] = {}
        self._ends: list[Path] = []
        self._gave_up = False
        self._found = self._climb()

    def ranked(self) -> list[Path]:
        """Those that end at an anchor, the best first."""

        def rank(path: Path) -> tuple[float, int, int, float, list[str]]:
            end = min(one.not_valid_after_utc for one in path).timestamp()
            left_out = sum(one not in path for one in self._sent)
            prints = [fingerprint(one) for one in path]
            return -end, left_out, len(path), -path[-1].not_valid_after_utc.timestamp(), prints

        return sorted(self._found, key=rank)

    def awaited(self) -> list[str]:
        """The names of all CAs on the ways up."""
        return list(dict.fromkeys(distinguished_name(one.issuer) for one in self._reached))

    def incomplete(self) -> ChainProblem:
        """Why no way ends at an anchor, by the one that leads the farthest."""
        if self._gave_up:
            return ChainWrong("So many certificates sign each other that no way to a trust anchor was found.")
        if not self._ends:
            told = f"The CAs above {called(self._leaf)} sign only each other, and none of them is a trust anchor."
            return ChainIncomplete(told, distinguished_name(self._leaf.issuer), (), self.awaited())
        last = max(self._ends, key=len)[-1]
        issuer, subject = distinguished_name(last.issuer), called(last)
        ends = [path[-1] for path in self._ends if not is_self_signed(path[-1])]
        if is_self_signed(last):
            told = f"The chain ends at {subject}, which is not among the trust anchors."
            return RootNotTrusted(told, subject, ends, self.awaited())
        if (weak := weak_hash(last)) is not None:
            return ChainWrong(f"The certificate of {subject} is signed with {weak}, which can be forged.")
        namesakes = [one for one in self._by_name.get(last.issuer, []) if one != last]
        if any(_claims_to_have_signed(one, last) for one in namesakes):
            return ChainWrong(f"The key of {issuer} did not sign {subject}, which names it as its issuer.")
        another = " (there is one of that name with another key)" if namesakes else ""
        told = f"The chain is incomplete: the certificate of {issuer}, issuer of {subject}, is missing{another}."
        return ChainIncomplete(told, issuer, ends, self.awaited())

    def _climb(self) -> list[Path]:
        found: list[Path] = []
        waiting: deque[tuple[Path, frozenset[tuple[x509.Name, str]]]] = deque([([self._leaf], frozenset())])
        steps = 0
        while waiting:
            path, passed = waiting.popleft()
            steps += 1
            if steps > _MOST_STEPS or len(self._signed) > _MOST_SIGNATURES:
                self._gave_up = True
                break
            current = path[-1]
            self._reached[current] = None
            issuers = [one for one in self._by_name.get(current.issuer, []) if self._signs(one, current)]
            for issuer in issuers:
                if issuer in path:
                    continue
                if issuer in self._anchors:
                    found.append([*path, issuer])
                    continue
                who = (issuer.subject, public_key_sha256(issuer))
                if who not in passed and len(path) <= MAX_PATH_LENGTH:
                    waiting.append(([*path, issuer], passed | {who}))
            if not any(one != current for one in issuers):
                self._ends.append(path)
        return found

    def _signs(self, issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
        pair = (issuer, certificate)
        if pair not in self._signed:
            self._signed[pair] = is_signed_by(certificate, issuer)
        return self._signed[pair]


def _claims_to_have_signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether the certificate names this very key as its issuer's (RFC 5280 section 4.2.1.1), and not only the name."""
    authority = extension(certificate, x509.AuthorityKeyIdentifier)
    own = extension(issuer, x509.SubjectKeyIdentifier)
    return authority is not None and own is not None and authority.key_identifier == own.digest


def _check_path(path: Path, at: datetime) -> None:
    names = subject_names(path[0])
    below = 0  # intermediates that are not self-issued (RFC 5280 section 4.2.1.9)
    for depth, certificate in enumerate(path):
        _check_time(path, depth, at)
        usages = extension(certificate, x509.ExtendedKeyUsage)
        purposes = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
        # A root's own EKU says nothing about those below it; an intermediate's does (CA/Browser Forum, RFC 5280
        # 4.2.1.12).
        if usages is not None and purposes.isdisjoint(usages) and depth < len(path) - 1:
            raise ChainWrong(
                f"The extended key usage of {called(certificate)} lacks serverAuth: it is not meant for TLS servers."
            )
        if depth:
            _check_issuer(certificate, below, names)
            below += certificate.subject != certificate.issuer


def _check_time(path: Path, depth: int, at: datetime) -> None:
    certificate = path[depth]
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if begin <= at <= end:
        return
    subject = called(certificate)
    told = f"The life of {subject} begins only on {begin:%Y-%m-%d %H:%M} UTC."
    if at > end:
        told = f"The life of {subject} ended on {end:%Y-%m-%d %H:%M} UTC."
    if depth == 0:
        raise ChainWrong(told)
    raise IssuerOutOfTime(told, subject, [path[depth - 1]])


def _check_issuer(certificate: x509.Certificate, below: int, names: Sequence[str]) -> None:
    subject = distinguished_name(certificate.subject)
    basic = extension(certificate, x509.BasicConstraints)
    if basic is None or not basic.ca:
        raise ChainWrong(f"{subject} stands in the chain as an issuer and is not a CA certificate.")
    if basic.path_length is not None and below > basic.path_length:
        raise ChainWrong(f"{subject} allows at most {basic.path_length} intermediates below it.")
    usage = extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise ChainWrong(f"{subject} may not sign certificates (key usage without keyCertSign).")
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _SHORTEST_RSA:
        raise ChainWrong(f"The RSA key of {subject} has {key.key_size} bits; at least {_SHORTEST_RSA} are needed.")
    constraints = extension(certificate, x509.NameConstraints)
    if constraints is not None and (refused := constraint_problem(names, constraints)) is not None:
        raise ChainWrong(f"The name constraints of {subject} do not allow {refused}.")


def _ask(path: Path, name: str, at: datetime) -> None:
    if any(isinstance(one.public_key(), ed25519.Ed25519PublicKey | ed448.Ed448PublicKey) for one in path[1:]):
        _refuse_unjudged(path)
    else:
        _ask_library(path, name, at)


def _ask_library(path: Path, name: str, at: datetime) -> None:
    """The library's web profile is narrower than RFC 5280 (authority key identifiers, criticality); company CAs are not
    always that tidy, so only what the RFC demands is asked for. Signatures, validity, path length, name constraints,
    key sizes, and unknown critical extensions are the library's to judge."""
    subject: x509.DNSName | x509.IPAddress
    try:
        subject = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        # A wildcard is no name that somebody connects to; any name that it covers will do.
        subject = x509.DNSName("wildcard" + name[1:] if name.startswith("*.") else name)
    try:
        policy = library_policy(verification.Store([path[-1]]), at)
        policy.build_server_verifier(subject).verify(path[0], path[1:-1])
    except (verification.VerificationError, ValueError) as error:
        raise ChainWrong(f"The chain does not verify: {short(error)}.") from None


def library_policy(store: verification.Store, at: datetime) -> verification.PolicyBuilder:
    """What is asked of the library."""
    agnostic = verification.Criticality.AGNOSTIC
    permit = verification.ExtensionPolicy.permit_all
    policy = verification.PolicyBuilder().store(store).time(at)
    return policy.max_chain_depth(MAX_PATH_LENGTH).extension_policies(
        ca_policy=permit().require_present(x509.BasicConstraints, agnostic, None),
        ee_policy=permit().require_present(x509.SubjectAlternativeName, agnostic, None),
    )


def _refuse_unjudged(path: Path) -> None:
    """What is critical and not understood refuses the path (RFC 5280 section 4.2); name constraints must be ones that
    `constraint_problem` looks at."""
    judged = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)
    for certificate in path:
        for one in certificate.extensions:
            value = one.value
            if isinstance(value, x509.NameConstraints):
                trees = [*(value.permitted_subtrees or []), *(value.excluded_subtrees or [])]
                understood = all(isinstance(tree, x509.DNSName | x509.IPAddress) for tree in trees)
            else:
                understood = not one.critical or isinstance(value, judged)
            if not understood:
                raise ChainWrong(
                    f"The extension {one.oid.dotted_string} of {called(certificate)} can't be judged and must not be "
                    "ignored."
                )
