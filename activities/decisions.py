"""Decisions: does this word of this person count?"""

from __future__ import annotations

from sqlmodel import Session, select
from temporalio import activity

from activities.records import Records, load
from model import access
from model.messages import Decide, DecideOutcome, Permit, PermitOutcome
from model.rules import approval
from model.rules.permissions import Scope
from model.states import CertificateStatus, InstallState, Outcome, Verdict
from model.tables import Administrator, CertificateRequest, Decision


class Decisions(Records):
    """Steps on the manager that judge what administrators say to a running request."""

    @activity.defn(name="records.decide")
    def decide(self, word: Decide) -> DecideOutcome:
        """Judge an approval or a decline; keep it if it counts, audit it either way."""
        with self.writing() as session:
            request = load(session, word.request_id)
            repeated = self._told_before(session, request, word)
            if repeated is not None:
                return repeated
            requester_login = self._login(session, request.requester_id)
            administrator = access.administrator_of(session, word.administrator)
            rules = access.rules_of(access.policy_for(session, request.organization_id))
            given = access.given_for(session, word.request_id)
            label = f"request {word.request_id}"
            grants = access.grants_of(session, administrator.id) if administrator and administrator.id else []
            refused = approval.refusal(
                rules,
                administrator=word.administrator,
                active=administrator is not None and administrator.active,
                grants=grants,
                requester=requester_login,
                verdict=word.verdict,
                scope=Scope(request.organization_id, request.department_id),
                status=request.status,
                given=given,
                label=label,
            )
            if refused is None and word.verdict == Verdict.DECLINE and not word.comment.strip():
                refused = f"A decline of {label} needs a reason: give it as the comment."
            if refused is not None:
                self.tell(session, request, "decision.refused", refused, actor=_actor(word), outcome=Outcome.REFUSED)
                return DecideOutcome(refused, approval.standing(rules, given))
            assert administrator is not None
            assert administrator.id is not None
            session.add(
                Decision(
                    request_id=word.request_id,
                    administrator_id=administrator.id,
                    verdict=word.verdict,
                    comment=word.comment[:1024],
                    decided_at=self._clock(),
                )
            )
            now_standing = approval.standing(rules, [*given, approval.Given(word.administrator, word.verdict)])
            if now_standing == approval.Standing.APPROVED:
                request.status = CertificateStatus.APPROVED
                if request.install_state == InstallState.KEY_READY:
                    request.install_state = InstallState.CERT_PROCESSING
            elif now_standing == approval.Standing.DECLINED:
                request.status = CertificateStatus.DECLINED
                request.reason = word.comment
            request.updated_at = self._clock()
            session.add(request)
            action = "request.approved" if word.verdict == Verdict.APPROVE else "request.declined"
            said = f"{word.verdict.capitalize()}d {label}" + (f": {word.comment}" if word.comment else ".")
            self.tell(session, request, action, said, actor=word.administrator)
            return DecideOutcome(None, now_standing)

    @activity.defn(name="records.permit")
    def permit(self, asked: Permit) -> PermitOutcome:
        """Judge a cancel, install or retry, and audit it."""
        with self.writing() as session:
            request = load(session, asked.request_id)
            administrator = access.administrator_of(session, asked.administrator)
            scope = access.scope_of(request)
            own = administrator is not None and administrator.active and administrator.id == request.requester_id
            allowed = administrator is not None and any(
                access.permitted(session, administrator, privilege, scope)
                for privilege in approval.NEEDED[asked.action]
            )
            action = f"request.{asked.action}"
            if not allowed and not (own and asked.action == "cancel"):
                names = " or ".join(f"'{privilege}'" for privilege in approval.NEEDED[asked.action])
                refused = (
                    f"{asked.administrator} may not {asked.action} request {asked.request_id}: "
                    f"the privilege {names} for its organization is missing."
                )
                self.tell(session, request, action, refused, actor=asked.administrator[:128], outcome=Outcome.REFUSED)
                return PermitOutcome(refused)
            said = f"Asked to {asked.action} request {asked.request_id}"
            said += f": {asked.comment}" if asked.comment else "."
            self.tell(session, request, action, said, actor=asked.administrator)
            return PermitOutcome(None)

    def _told_before(self, session: Session, request: CertificateRequest, word: Decide) -> DecideOutcome | None:
        """This very step ran before and its process died before the workflow heard of it: the same answer again."""
        administrator = access.administrator_of(session, word.administrator)
        if administrator is None:
            return None
        statement = select(Decision).where(
            Decision.request_id == request.id, Decision.administrator_id == administrator.id
        )
        decision = session.exec(statement).one_or_none()
        if decision is None or not self.told(session, "request.approved", "request.declined"):
            return None
        rules = access.rules_of(access.policy_for(session, request.organization_id))
        return DecideOutcome(None, approval.standing(rules, access.given_for(session, word.request_id)))

    def _login(self, session: Session, administrator_id: int) -> str:
        return session.get_one(Administrator, administrator_id).login


def _actor(word: Decide) -> str:
    return word.administrator[:128] or "nobody"
