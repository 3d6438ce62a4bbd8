"""What is served is looked at again: which installations, by whom, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select
from temporalio import activity

from activities.failures import as_failures, heartbeating
from activities.installation import sighting
from activities.records import Records, endpoint_access, gateway_place, step_key
from connectors.endpoints import handshake
from connectors.endpoints.contract import Listener, Probe, Verification
from connectors.endpoints.starttls import StartTls
from model import access, audit, x509
from model.messages import (
    CanaryLook,
    LookFrom,
    ProbePlace,
    RecordVerification,
    Sighting,
    TargetSeen,
    TargetsSeen,
    VerificationBatch,
    VerificationCount,
    VerificationStart,
    VerifyTarget,
    VerifyTargets,
)
from model.rules.permissions import Scope
from model.states import AccessMethod, InstallState, Outcome, Privilege
from model.tables import (
    Administrator,
    Certificate,
    Endpoint,
    EndpointBinding,
    Gateway,
    Installation,
)

# Looked at in one step, some side by side; each may take half a minute, and the step stays within its time.
BATCH = 20
_GOOD = (Verification.MATCH, Verification.IN_PLACE)
# The worst of several sightings is what counts.
_ORDER = list(Verification)


class Verifications(Records):
    """Steps on the manager."""

    @activity.defn(name="records.plan_verification")
    def plan_verification(self, start: VerificationStart) -> VerificationBatch:
        """The next installations that this administrator may have looked at; those of one gateway, so that one step can
        look at them."""
        with self.reading() as session:
            administrator = access.administrator_of(session, start.asked_by)
            statement = (
                select(Installation, Certificate, Gateway)
                .join(Certificate, col(Certificate.id) == col(Installation.certificate_id))
                .join(Endpoint, col(Endpoint.id) == col(Installation.endpoint_id))
                .join(Gateway, col(Gateway.id) == col(Endpoint.gateway_id))
                .where(
                    Installation.state == InstallState.COMPLETED,
                    col(Certificate.active),
                    col(Installation.id) > start.after,
                )
                .order_by(col(Installation.id))
            )
            if start.installations:
                statement = statement.where(col(Installation.id).in_(start.installations))
            if start.gateway_id is not None:
                statement = statement.where(Gateway.id == start.gateway_id)
            targets: list[VerifyTarget] = []
            gateway: Gateway | None = None
            last = start.after
            for row, certificate, owner in session.exec(statement):
                if gateway is not None and owner.id != gateway.id:
                    break
                assert row.id is not None
                last = row.id
                if not _may(session, administrator, certificate):
                    continue
                gateway = owner
                targets.append(_target(session, row, certificate))
                if len(targets) == BATCH:
                    break
            if gateway is None:
                return VerificationBatch(None, [], last)
            return VerificationBatch(gateway_place(session, gateway), targets, last)

    @activity.defn(name="records.canaries")
    def canaries(self, asked: CanaryLook) -> VerifyTargets:
        """The canaries of a group as targets."""
        with self.reading() as session:
            certificate = session.get_one(Certificate, asked.certificate_id)
            rows = session.exec(select(Installation).where(Installation.certificate_id == certificate.id)).all()
            wanted = {(endpoint_id, binding) for endpoint_id, binding in asked.places}
            return VerifyTargets(
                [_target(session, row, certificate) for row in rows if (row.endpoint_id, row.binding) in wanted]
            )

    @activity.defn(name="records.record_verification")
    def record_verification(self, looked: RecordVerification) -> VerificationCount:
        """Keep what was seen. A certificate that is served in place of the right one is named where it is known."""
        failed = 0
        with self.writing() as session:
            for seen in looked.seen:
                row = session.get(Installation, seen.installation_id)
                if row is None:
                    continue
                failed += not self._keep(session, looked.asked_by, row, seen)
        return VerificationCount(len(looked.seen), failed)

    def _keep(self, session: Session, asked_by: str, row: Installation, seen: TargetSeen) -> bool:
        sightings = [_named(session, one) for one in seen.sightings]
        worst = max(sightings, key=lambda one: _ORDER.index(Verification(one.verification)), default=None)
        good = [one for one in sightings if one.verification in _GOOD]
        bad = next((one for one in sightings if one.verification not in _GOOD), None)
        row.verified_at = self._clock()
        before = row.verification
        if seen.problem is not None:
            row.verification = Verification.CONNECTION_FAILED
            row.sightings = [{"seen_from": "gateway", "where": "", "verification": "", "message": seen.problem}]
        else:
            row.sightings = [
                {
                    "seen_from": one.seen_from,
                    "where": one.where,
                    "verification": one.verification,
                    "fingerprint": one.fingerprint,
                    "message": one.message,
                }
                for one in sightings
            ]
            row.verification = bad.verification if bad else worst.verification if worst else row.verification
        session.add(row)
        served = (bad or (good[0] if good else None)) if seen.problem is None else None
        at = select(EndpointBinding).where(
            EndpointBinding.endpoint_id == row.endpoint_id, EndpointBinding.binding == row.binding
        )
        binding = session.exec(at).one_or_none()
        if binding is not None and served is not None and served.fingerprint is not None:
            binding.served_fingerprint = served.fingerprint
            session.add(binding)
        told = seen.problem or (bad.message if bad else good[0].message if good else "")
        good_now = seen.problem is None and bad is None
        row.unserved_since = None if good_now else row.unserved_since or row.verified_at
        # Of thousands that are as they should be nobody wants to read: what is wrong is told, and what has changed.
        if not good_now or row.verification != before:
            self._tell(session, asked_by, row, told, good_now)
        return good_now

    def _tell(self, session: Session, asked_by: str, row: Installation, told: str, done: bool) -> None:
        certificate = session.get_one(Certificate, row.certificate_id)
        endpoint = session.get_one(Endpoint, row.endpoint_id)
        audit.append(
            session,
            audit.Act(
                actor=asked_by,
                access_method=AccessMethod.WORKFLOW,
                action="installation.verified",
                object_type="certificate",
                object_id=certificate.id,
                gateway_id=endpoint.gateway_id,
                organization_id=certificate.organization_id,
                department_id=certificate.department_id,
                description=f"Certificate {certificate.id} on {row.binding} of {endpoint.name}: {told}",
                outcome=Outcome.DONE if done else Outcome.FAILED,
                once=f"{step_key('installation.verified')}/{row.id}",
            ),
            self._clock(),
        )


class Handshakes:
    """The manager looks for itself, where an endpoint allows that."""

    @activity.defn(name="handshakes.look")
    async def look(self, wanted: LookFrom) -> TargetsSeen:
        """What the manager sees at the places that the gateway named."""
        found: list[TargetSeen] = []
        with as_failures():
            async with heartbeating():
                for target, seen in zip(wanted.targets, wanted.seen, strict=True):
                    sightings: list[Sighting] = []
                    if target.from_manager and seen.probes:
                        leaf = x509.load_certificate(target.certificate_pem)
                        chain = [x509.load_certificate(pem) for pem in target.chain_pem]
                        sent = [x509.fingerprint(one) for one in chain if not x509.is_self_signed(one)]
                        expected = handshake.Expected(x509.fingerprint(leaf), sent, target.previous)
                        served = await handshake.verify_all([_probe(one) for one in seen.probes], expected)
                        sightings = [sighting("manager", one) for one in served]
                    found.append(TargetSeen(target.installation_id, [*seen.sightings, *sightings], [], seen.problem))
        return TargetsSeen(found)


def _probe(place: ProbePlace) -> Probe:
    starttls = StartTls(place.starttls) if place.starttls else None
    return Probe(Listener(place.address, place.port, place.proxy_protocol, starttls), place.server_name)


def _may(session: Session, administrator: Administrator | None, certificate: Certificate) -> bool:
    scope = Scope(certificate.organization_id, certificate.department_id)
    return administrator is not None and access.permitted(session, administrator, Privilege.INSTALL, scope)


def _target(session: Session, row: Installation, certificate: Certificate) -> VerifyTarget:
    assert row.id is not None
    endpoint = session.get_one(Endpoint, row.endpoint_id)
    before = select(Certificate.fingerprint).where(
        col(Certificate.id).in_(
            select(Installation.certificate_id).where(
                Installation.endpoint_id == row.endpoint_id,
                Installation.binding == row.binding,
                Installation.certificate_id != row.certificate_id,
            )
        )
    )
    previous: Sequence[str] = session.exec(before.order_by(col(Certificate.id).desc()).limit(5)).all()
    return VerifyTarget(
        installation_id=row.id,
        endpoint=endpoint_access(endpoint),
        binding=row.binding,
        certificate_pem=certificate.pem,
        chain_pem=list(certificate.chain_pem),
        previous=sorted({*previous, *([row.served_before] if row.served_before else [])} - {certificate.fingerprint}),
        from_manager=endpoint.verify_from_manager,
    )


def _named(session: Session, seen: Sighting) -> Sighting:
    """A certificate that is not known to whoever looked may be one of ours."""
    if seen.verification != Verification.UNKNOWN_CERTIFICATE or seen.fingerprint is None:
        return seen
    other = session.exec(select(Certificate).where(Certificate.fingerprint == seen.fingerprint)).one_or_none()
    if other is None:
        return seen
    message = f"{seen.where} serves another certificate that is known: {other.common_name}, certificate {other.id}."
    return Sighting(seen.seen_from, seen.where, Verification.OTHER_KNOWN_CERTIFICATE, seen.fingerprint, message)
