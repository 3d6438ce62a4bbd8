"""A workflow of the same shape as a plain certificate request, with nothing in it.

The same activities by number, kind, order, queue and timeouts, the same update, timers, search attributes and child
workflow, and payloads of about the same size; `tests/bench` compares the histories event by event. What certgate takes
more time for than this is certgate's own work; what both take is the engine's.

Nothing of certgate is imported here: this module is loaded anew for each workflow by the sandbox, like any other.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RetryPolicy, SearchAttributeKey, WorkflowIDReusePolicy

MANAGER_QUEUE = "bare-manager"
# No gateway has the number 0.
GATEWAY_ID = 0
GATEWAY_QUEUE = "gateway-0"

_STATUS = SearchAttributeKey.for_keyword("CertgateStatus")
_INSTALL_STATE = SearchAttributeKey.for_keyword("CertgateInstallState")
_GATEWAY = SearchAttributeKey.for_keyword("CertgateGateway")
_ORGANIZATION = SearchAttributeKey.for_keyword("CertgateOrganization")
_COMMON_NAME = SearchAttributeKey.for_keyword("CertgateCommonName")

_PATIENT = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=10))


@dataclass(frozen=True)
class Parcel:
    """What activities take and give: a text of a certain length. `wait` is how long the install shall take, seconds."""

    text: str = ""
    wait: float = 0.0


@dataclass(frozen=True)
class Step:
    """How many characters go into an activity and come out of it."""

    takes: int
    gives: int


# The lengths that a plain request's payloads have (P-256, private CA, one name).
STEPS = {
    "records.admit": Step(takes=1, gives=1170),
    "keys.prepare": Step(takes=150, gives=446),
    "records.accept_csr": Step(takes=455, gives=12),
    "records.decide": Step(takes=80, gives=18),
    "orders.submit": Step(takes=765, gives=20),
    "records.progress": Step(takes=200, gives=0),
    "orders.collect": Step(takes=940, gives=1548),
    "records.request_place": Step(takes=20, gives=80),
    "records.accept_certificate": Step(takes=1550, gives=932),
    "records.plan_install": Step(takes=10, gives=105),
    "installation.install": Step(takes=1910, gives=557),
    "records.record_install": Step(takes=620, gives=4),
    "records.plan_renewal": Step(takes=60, gives=180),
}
_WORD, _RECEIPT, _RESULT, _RENEWAL = 20, 70, 280, 28


@dataclass(frozen=True)
class BareStart:
    """`install_wait`: seconds that the install waits, for what nginx itself makes everybody wait; 0 for none."""

    install_wait: float


@workflow.defn(name="BareRequest")
class BareRequestWorkflow:
    """The request's shape."""

    @workflow.init
    def __init__(self, start: BareStart) -> None:
        self._wait = start.install_wait
        self._approved = False

    @workflow.run
    async def run(self, _start: BareStart) -> Parcel:
        """One step after the other."""
        await _local("records.admit")
        workflow.upsert_search_attributes(
            [
                _GATEWAY.value_set("local"),
                _ORGANIZATION.value_set("Default"),
                _COMMON_NAME.value_set("bare.example"),
                _STATUS.value_set("REQUESTED"),
                _INSTALL_STATE.value_set("KEY_PROCESSING"),
            ]
        )
        await _remote("keys.prepare", GATEWAY_QUEUE, timedelta(minutes=3), pick_up=timedelta(minutes=1))
        await _local("records.accept_csr")
        workflow.upsert_search_attributes([_INSTALL_STATE.value_set("KEY_READY")])
        await workflow.wait_condition(lambda: self._approved, timeout=timedelta(days=1))
        _show("APPROVED", "CERT_PROCESSING")
        await _local("records.request_place")
        await _remote("orders.submit", MANAGER_QUEUE, timedelta(minutes=2))
        await _local("records.progress")
        workflow.upsert_search_attributes([_STATUS.value_set("APPLIED")])
        await _remote("orders.collect", MANAGER_QUEUE, timedelta(minutes=2))
        await _local("records.accept_certificate")
        await _local("records.plan_install")
        _show("ISSUED", "INSTALLING")
        await _remote(
            "installation.install",
            GATEWAY_QUEUE,
            timedelta(minutes=10),
            pick_up=timedelta(minutes=1),
            wait=self._wait,
        )
        await _local("records.record_install")
        await workflow.start_child_workflow(
            BareRenewalWorkflow.run,
            filler(_RENEWAL),
            id=child_id(int(workflow.info().workflow_id.removeprefix("bare-"))),
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
        )
        workflow.upsert_search_attributes([_INSTALL_STATE.value_set("COMPLETED")])
        return filler(_RESULT)

    @workflow.update
    async def approve(self, _word: Parcel) -> Parcel:
        """The approval."""
        await _local("records.decide")
        self._approved = True
        return filler(_RECEIPT)

    @approve.validator
    def _check_approve(self, _word: Parcel) -> None:
        if self._approved:
            raise RuntimeError("approved already")


@workflow.defn(name="BareRenewal")
class BareRenewalWorkflow:
    """The shape of the renewal that watches over the certificate: plans once and sleeps."""

    @workflow.run
    async def run(self, _start: Parcel) -> None:
        """Sleep until somebody ends it."""
        await _local("records.plan_renewal")
        workflow.upsert_search_attributes(
            [
                _GATEWAY.value_set("local"),
                _ORGANIZATION.value_set("Default"),
                _COMMON_NAME.value_set("bare.example"),
                _STATUS.value_set("ISSUED"),
            ]
        )
        await workflow.sleep(timedelta(days=30))


def filler(length: int, *, wait: float = 0.0) -> Parcel:
    """A parcel with that much text."""
    return Parcel("x" * length, wait)


Handle: TypeAlias = "WorkflowHandle[BareRequestWorkflow, Parcel]"


def workflow_id(number: int) -> str:
    """Workflow id of the bare workflow with that number."""
    return f"bare-{number}"


def child_id(number: int) -> str:
    """Workflow id of the child of the bare workflow with that number."""
    return f"bare-renewal-{number}"


async def start(client: Client, number: int, install_wait: float) -> Handle:
    """Start one, as `operations.submission` starts a request."""
    return await client.start_workflow(
        BareRequestWorkflow.run,
        BareStart(install_wait),
        id=workflow_id(number),
        task_queue=MANAGER_QUEUE,
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        static_summary="Certificate for bare.example",
    )


async def approve(handle: Handle) -> None:
    """Approve, as `operations.decisions` does; that would turn to a signal when no answer comes, this one waits."""
    await handle.execute_update(
        BareRequestWorkflow.approve,
        filler(_WORD),
        id=f"approve-{uuid.uuid4()}",
        rpc_timeout=timedelta(minutes=2),
    )


def _show(status: str, state: str) -> None:
    workflow.upsert_search_attributes([_STATUS.value_set(status), _INSTALL_STATE.value_set(state)])


async def _local(name: str) -> None:
    await workflow.execute_local_activity(
        name,
        filler(STEPS[name].takes),
        result_type=Parcel,
        start_to_close_timeout=timedelta(seconds=30),
        retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=200)),
    )


async def _remote(
    name: str, queue: str, start_to_close: timedelta, *, pick_up: timedelta | None = None, wait: float = 0.0
) -> Any:
    return await workflow.execute_activity(
        name,
        filler(STEPS[name].takes, wait=wait),
        result_type=Parcel,
        task_queue=queue,
        start_to_close_timeout=start_to_close,
        schedule_to_start_timeout=pick_up,
        heartbeat_timeout=timedelta(seconds=10),
        retry_policy=_PATIENT,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
