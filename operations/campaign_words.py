"""What one says to a replacement campaign: start, pause, resume, cancel, change the rate, try the failed ones again.

A word is judged here, so that a refusal is told and audited at once, and again where it is done.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import update
from sqlmodel import Session, col, select
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError as NoAnswer
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from model import campaigns as facts
from model import messages, naming
from model.errors import CertgateError, Conflict, InvalidInput, NotPermitted, Unavailable
from model.messages import CampaignSaid
from model.rules import campaigns as rules
from model.rules.permissions import Scope
from model.states import CampaignState, ItemState
from model.tables import Campaign, CampaignItem, CertificateRequest
from operations import campaigns, decisions
from operations.campaigns import CampaignDetail
from operations.context import Context
from workflows.campaign import ReplacementCampaignWorkflow

Word = Literal["pause", "resume", "cancel", "change_rate"]

_ANSWER_WITHIN = timedelta(seconds=10)
_LONGEST_COMMENT = 1024
_MOST_RETRIES = 500
_DOING = {"change_rate": "change the rate of"}


@dataclass(frozen=True)
class Retried:
    """What is tried again: certificates that are ordered anew, requests whose failed step is, and what spoke against
    others."""

    ordered: int
    requests: int
    problems: list[str]


async def start(context: Context, campaign_id: int) -> CampaignDetail:
    """Start a draft. Raises `NotFound`, `NotPermitted`, `Conflict`, and `Unavailable` when the engine is away; then the
    campaign is started all the same, and the manager begins as soon as both are back."""
    with context.acting("campaign.started", "campaign", campaign_id, _scope(context, campaign_id)) as session:
        row = campaigns.visible(context, session, campaign_id, locked=True)
        _require(context, session, row, "start")
        if row.state != CampaignState.DRAFT:
            raise Conflict(f"Campaign {campaign_id} was started already: it is {row.state}.")
        now = context.clock()
        row.state, row.started_at, row.started_by_id = CampaignState.RUNNING, now, context.actor.id
        row.deadline_at = now + timedelta(seconds=row.deadline_seconds) if row.deadline_seconds else None
        session.add(row)
        told = (
            f"Campaign {campaign_id} ({row.name}) was started: {row.total} certificates, {row.rate_per_hour} an hour."
        )
        context.tell(session, "campaign.started", "campaign", told, object_id=campaign_id, scope=scope_of(row))
    try:
        await wake(await context.temporal(), campaign_id)
    except Unavailable as error:
        raise Unavailable(
            f"Campaign {campaign_id} is started, but could not begin ({error.message}) "
            "It begins as soon as Temporal is back."
        ) from error
    return campaigns.show(context, campaign_id)


async def say(
    context: Context,
    campaign_id: int,
    word: Word,
    comment: str = "",
    *,
    rate_per_hour: int | None = None,
    at_once: int | None = None,
) -> CampaignSaid:
    """Pause, resume, cancel or change the rate. Raises `NotFound`, `NotPermitted`, `Conflict`, `InvalidInput`,
    `Unavailable`."""
    if len(comment) > _LONGEST_COMMENT:
        raise InvalidInput(f"A comment has at most {_LONGEST_COMMENT} characters, not {len(comment)}.")
    if word == "change_rate" and rate_per_hour is None and at_once is None:
        raise InvalidInput("Say how many certificates an hour, or how many at the same time.")
    with context.acting(f"campaign.{word}", "campaign", campaign_id, _scope(context, campaign_id)) as session:
        row = campaigns.visible(context, session, campaign_id)
        _require(context, session, row, _DOING.get(word, word))
        if word == "change_rate":
            rules.check_pace(rate_per_hour or row.rate_per_hour, at_once or row.at_once)
        if row.state == CampaignState.DRAFT:
            return _say_to_draft(context, session, row, word, rate_per_hour, at_once)
        _require_fitting(row, word)
    login = context.actor.login
    said: Any = messages.AdministratorWord(login, comment)
    if word == "change_rate":
        said = messages.CampaignRate(login, rate_per_hour, at_once, comment)
    client = await context.temporal()
    handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(naming.campaign_workflow(campaign_id))
    try:
        answer: CampaignSaid = await handle.execute_update(
            word, said, id=f"{word}-{uuid.uuid4()}", result_type=CampaignSaid, rpc_timeout=_ANSWER_WITHIN
        )
        return answer
    except WorkflowUpdateFailedError as error:
        cause = error.cause
        raise Conflict(cause.message if isinstance(cause, ApplicationError) else str(cause or error)) from error
    except NoAnswer:
        return await _leave_word(context, client, campaign_id, word, said)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            # Somebody ended it by force: it is started again with the word.
            return await _leave_word(context, client, campaign_id, word, said)
        raise Unavailable(f"Temporal does not answer ({error.message}): nothing was changed, try again.") from error


async def retry(context: Context, campaign_id: int, *, skipped: bool = False) -> Retried:
    """Try what failed again, and with `skipped` what was left out: what has an open request is retried there, the rest
    is ordered anew in its turn. A completed campaign goes on. Raises `NotFound`, `NotPermitted`, `Conflict`."""
    with context.acting("campaign.retried", "campaign", campaign_id, _scope(context, campaign_id)) as session:
        row = campaigns.visible(context, session, campaign_id, locked=True)
        _require(context, session, row, "retry")
        if row.state in (CampaignState.DRAFT, CampaignState.CANCELED):
            raise Conflict(f"Nothing of campaign {campaign_id} can be tried again: it is {row.state}.")
        again = (ItemState.FAILED, ItemState.SKIPPED) if skipped else (ItemState.FAILED,)
        of = (CampaignItem.campaign_id == campaign_id, col(CampaignItem.state).in_(again))
        stuck = session.exec(
            select(CampaignItem.request_id)
            .join(CertificateRequest, col(CertificateRequest.id) == col(CampaignItem.request_id))
            .where(*of, ~col(CertificateRequest.closed))
            .limit(_MOST_RETRIES)
        ).all()
        anew = session.exec(
            select(CampaignItem.id)
            .outerjoin(CertificateRequest, col(CertificateRequest.id) == col(CampaignItem.request_id))
            .where(*of, col(CertificateRequest.id).is_(None) | col(CertificateRequest.closed))
        ).all()
        if not stuck and not anew:
            raise Conflict(f"Nothing of campaign {campaign_id} failed that could be tried again.")
        for some in facts.portions(anew):
            session.execute(
                update(CampaignItem)
                .where(col(CampaignItem.id).in_(some))
                .values(state=ItemState.WAITING, message=None, request_id=None, ended_at=None, handed_at=None)
                .execution_options(synchronize_session=False)
            )
        if row.state == CampaignState.COMPLETED:
            row.state, row.ended_at = CampaignState.RUNNING, None
        if row.state == CampaignState.RUNNING:
            row.why = None
            row.failures_before, row.ends_before = row.failures, row.ends
        session.add(row)
        told = f"{len(anew) + len(stuck)} certificates of campaign {campaign_id} are tried again."
        context.tell(session, "campaign.retried", "campaign", told, object_id=campaign_id, scope=scope_of(row))
    problems = await _retry_requests(context, [number for number in stuck if number is not None])
    await wake(await context.temporal(), campaign_id)
    return Retried(len(anew), len(stuck) - len(problems), problems)


async def wake(client: Client, campaign_id: int) -> None:
    """Have a campaign look at its records; one whose workflow does not run is started. Raises `Unavailable`."""
    try:
        await client.start_workflow(
            ReplacementCampaignWorkflow.run,
            messages.CampaignStart(campaign_id),
            id=naming.campaign_workflow(campaign_id),
            task_queue=naming.MANAGER_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal="look_again",
            static_summary=f"Replacement campaign {campaign_id}",
        )
    except RPCError as error:
        raise Unavailable(f"Temporal does not answer ({error.message}).") from error


# --- parts ------------------------------------------------------------------------------------------------------------


def _scope(context: Context, campaign_id: int) -> Scope:
    """Where a refusal is told. Raises `NotFound`."""
    with context.database.read() as session:
        return scope_of(campaigns.visible(context, session, campaign_id))


def scope_of(row: Campaign) -> Scope:
    """Where the acts on a campaign are told: where all of its certificates are."""
    return Scope(row.organization_id, row.department_id)


def _require(context: Context, session: Session, row: Campaign, doing: str) -> None:
    if not facts.permitted(session, row, context.actor.grants):
        wanted = " and ".join(f"'{privilege}'" for privilege in facts.Target.of(row).privileges)
        raise NotPermitted(
            f"{context.actor.login} may not {doing} campaign {row.id}: "
            f"the privilege {wanted} for all of its certificates is missing."
        )


def _require_fitting(row: Campaign, word: Word) -> None:
    if row.state not in (CampaignState.RUNNING, CampaignState.PAUSED):
        raise Conflict(f"Campaign {row.id} is {row.state}: nothing can be changed about it.")
    if word == "pause" and row.state == CampaignState.PAUSED:
        raise Conflict(f"Campaign {row.id} is paused already.")
    if word == "resume" and row.state == CampaignState.RUNNING:
        raise Conflict(f"Campaign {row.id} is running already.")


def _say_to_draft(
    context: Context, session: Session, row: Campaign, word: Word, rate_per_hour: int | None, at_once: int | None
) -> CampaignSaid:
    """Nothing runs yet: it is done here."""
    if word == "change_rate":
        row.rate_per_hour, row.at_once = rate_per_hour or row.rate_per_hour, at_once or row.at_once
        message = f"Campaign {row.id} will order {row.rate_per_hour} an hour, {row.at_once} at the same time."
    elif word == "cancel":
        row.state, row.ended_at = CampaignState.CANCELED, context.clock()
        row.why = f"Given up by {context.actor.login} before it was started."
        message = f"Campaign {row.id} is given up; nothing was ordered."
        session.execute(
            update(CampaignItem)
            .where(col(CampaignItem.campaign_id) == row.id, col(CampaignItem.state) == ItemState.WAITING)
            .values(state=ItemState.SKIPPED, message="The campaign was canceled.", ended_at=row.ended_at)
            .execution_options(synchronize_session=False)
        )
    else:
        raise Conflict(f"Campaign {row.id} is a draft: start it first.")
    session.add(row)
    context.tell(session, f"campaign.{word}", "campaign", message, object_id=row.id, scope=scope_of(row))
    return CampaignSaid(None, message, row.state)


async def _leave_word(context: Context, client: Client, campaign_id: int, word: Word, said: Any) -> CampaignSaid:
    """Nobody answers an update: the word is left as a signal, and counts as soon as somebody hears it."""
    try:
        await client.start_workflow(
            ReplacementCampaignWorkflow.run,
            messages.CampaignStart(campaign_id),
            id=naming.campaign_workflow(campaign_id),
            task_queue=naming.MANAGER_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal=word,
            start_signal_args=[said],
            static_summary=f"Replacement campaign {campaign_id}",
        )
    except RPCError as error:
        raise Unavailable(f"Temporal does not answer ({error.message}): nothing was changed, try again.") from error
    return CampaignSaid(
        None,
        f"The manager does not answer at once; your word to campaign {campaign_id} counts as soon as it does.",
        campaigns.show(context, campaign_id).row.state,
    )


async def _retry_requests(context: Context, numbers: Sequence[int]) -> list[str]:
    """Have the failed step of each request tried again; what spoke against it."""
    problems = []
    for number in numbers:
        try:
            await decisions.say(context, number, "retry", "tried again with its campaign")
        except CertgateError as error:
            problems.append(error.message)
    return problems
