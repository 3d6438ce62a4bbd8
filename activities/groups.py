"""A certificate for several bindings: which of them get it next, canaries first, each in its own window."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlmodel import Session, col, select
from temporalio import activity

from activities.installing import keep_installation, serves
from activities.records import Records, endpoint_access, gateway_place, load
from model.messages import GatewayPlace, GroupPlan, GroupTarget, PlanGroup, RecordTarget
from model.rules import windows
from model.states import InstallState, Outcome
from model.tables import (
    CertificateRequest,
    Endpoint,
    EndpointGroup,
    EndpointGroupMember,
    Gateway,
    Installation,
)

_IN_USE = ("MATCH", "IN_PLACE")


class Groups(Records):
    """Steps on the manager for requests whose certificate goes to a group."""

    @activity.defn(name="records.plan_group")
    def plan_group(self, asked: PlanGroup) -> GroupPlan:
        """Where the group stands and what comes next; the records of what was installed are the truth."""
        with self.writing() as session:
            request = load(session, asked.request_id)
            plan = self._plan(session, request, asked)
            waits = plan.wait_until is not None
            request.install_state = InstallState.SCHEDULED if waits else InstallState.INSTALLING
            request.install_after = plan.wait_until
            request.reason = plan.message if plan.done < plan.total else None
            request.updated_at = self._clock()
            session.add(request)
            return plan

    def _plan(self, session: Session, request: CertificateRequest, asked: PlanGroup) -> GroupPlan:
        place = gateway_place(session, session.get_one(Gateway, request.gateway_id), request)
        group = session.get(EndpointGroup, request.group_id) if request.group_id is not None else None
        if group is None:
            gone = "The group that the certificate is for was removed: cancel the request, and submit it for another."
            return GroupPlan(place, [], 0, 0, gone, problem=gone)
        members = _members(session, group)
        rows = _installations(session, asked.certificate_id, members)
        done = [member for member in members if _is_done(rows.get(_key(member)), request)]
        told = f"{len(done)} of {len(members)} bindings of group {group.name} have the certificate."
        pending = [member for member in members if member not in done]
        if not pending:
            return GroupPlan(place, [], len(done), len(members), told)
        canaries = members[: group.canaries]
        waiting_canaries = [member for member in canaries if member not in done]
        now = self._clock()
        if not waiting_canaries:
            proved = [rows[_key(member)] for member in canaries]
            held = self._soaking(session, group, canaries, proved, now)
            if held is not None:
                wait, look_at, problem = held
                message = problem or told
                if wait is not None:
                    message = f"{told} The rest follows on {wait:%Y-%m-%d %H:%M} UTC, if the canaries serve it still."
                return GroupPlan(
                    place, [], len(done), len(members), message, wait_until=wait, look_at=look_at, problem=problem
                )
        return _next(session, group, waiting_canaries or pending, asked, now, place, told, len(done), len(members))

    def _soaking(
        self,
        session: Session,
        group: EndpointGroup,
        canaries: Sequence[EndpointGroupMember],
        proved: Sequence[Installation],
        now: datetime,
    ) -> tuple[datetime | None, list[GroupTarget], str | None] | None:
        """What holds the rest back while the canaries are watched: until when, whom to look at, or what is wrong."""
        if group.soak_seconds == 0 or not proved:
            return None
        until = max(row.installed_at or row.updated_at for row in proved) + timedelta(seconds=group.soak_seconds)
        if now < until:
            return until, [], None
        unseen = [
            member
            for member, row in zip(canaries, proved, strict=True)
            if row.verified_at is None or row.verified_at < until
        ]
        if unseen:
            return None, [_target(session, member) for member in unseen], None
        for member, row in zip(canaries, proved, strict=True):
            if row.verification not in _IN_USE:
                name = session.get_one(Endpoint, member.endpoint_id).name
                seen = row.sightings[0]["message"] if row.sightings else row.verification
                problem = (
                    f"Canary {member.binding} of {name} does not serve the certificate any more ({seen}): the rest of "
                    f"group {group.name} was left as it is; mend the canary, verify it, and retry."
                )
                return None, [], problem
        return None

    @activity.defn(name="records.record_target")
    def record_target(self, ended: RecordTarget) -> None:
        """Keep how the install on one binding ended, and tell it."""
        with self.writing() as session:
            request = load(session, ended.request_id)
            now = self._clock()
            row = keep_installation(session, ended.certificate_id, ended.endpoint_id, ended.binding, ended.state, now)
            row.attempts += 1
            if ended.installed is not None:
                row.verification = ended.installed.verification
                row.served_before = ended.installed.served_before or row.served_before
                row.steps = [{"name": step.name, "outcome": step.outcome} for step in ended.installed.steps]
                row.served_after, row.installed_at = ended.installed.served_after, now
            else:
                row.served_after = ended.served
                row.steps = [{"name": step.name, "outcome": step.outcome} for step in ended.steps]
            row.message = ended.message
            session.add(row)
            good = ended.state == InstallState.COMPLETED
            serves(session, ended.endpoint_id, ended.binding, row.served_after if good else None, ended.message, now)
            request.updated_at = now
            session.add(request)
            action = "certificate.installed" if good else "install.failed"
            if ended.state == InstallState.ROLLED_BACK:
                action = "install.rolled_back"
            # One step a binding: its own name in the audit.
            self.tell(session, request, action, ended.message, outcome=Outcome.DONE if good else Outcome.FAILED)


def _members(session: Session, group: EndpointGroup) -> Sequence[EndpointGroupMember]:
    statement = select(EndpointGroupMember).where(EndpointGroupMember.group_id == group.id)
    return session.exec(statement.order_by(col(EndpointGroupMember.position), col(EndpointGroupMember.id))).all()


def _installations(
    session: Session, certificate_id: int, members: Sequence[EndpointGroupMember]
) -> dict[tuple[int, str], Installation]:
    wanted = {_key(member) for member in members}
    rows = session.exec(select(Installation).where(Installation.certificate_id == certificate_id)).all()
    return {(row.endpoint_id, row.binding): row for row in rows if (row.endpoint_id, row.binding) in wanted}


def _key(member: EndpointGroupMember) -> tuple[int, str]:
    return member.endpoint_id, member.binding


def _is_done(row: Installation | None, request: CertificateRequest) -> bool:
    """Installed by this very request: one that puts a certificate back finds rows of the first time."""
    if row is None or row.state != InstallState.COMPLETED or row.installed_at is None:
        return False
    return row.installed_at >= request.created_at


def _target(session: Session, member: EndpointGroupMember) -> GroupTarget:
    return GroupTarget(endpoint_access(session.get_one(Endpoint, member.endpoint_id)), member.binding)


def _next(
    session: Session,
    group: EndpointGroup,
    pending: Sequence[EndpointGroupMember],
    asked: PlanGroup,
    now: datetime,
    place: GatewayPlace,
    told: str,
    done: int,
    total: int,
) -> GroupPlan:
    """Those of the pending ones whose window is open, as many as may be under way at once; else when one opens."""
    targets: list[GroupTarget] = []
    opening: tuple[datetime, str] | None = None
    for member in pending:
        endpoint = session.get_one(Endpoint, member.endpoint_id)
        window = None
        if endpoint.window_cron and not asked.at_once:
            window = windows.Window(endpoint.window_cron, endpoint.window_zone, endpoint.window_minutes)
        start = windows.earliest_start(window, now)
        if start <= now and len(targets) < group.at_once:
            targets.append(GroupTarget(endpoint_access(endpoint), member.binding))
        elif start > now and (opening is None or start < opening[0]):
            opening = (start, endpoint.name)
    if targets:
        return GroupPlan(place, targets, done, total, told)
    assert opening is not None
    message = f"{told} The maintenance window of {opening[1]} opens on {opening[0]:%Y-%m-%d %H:%M} UTC."
    return GroupPlan(place, [], done, total, message, wait_until=opening[0])
