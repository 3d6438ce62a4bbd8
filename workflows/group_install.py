"""The installs of a request: on one binding, and on a group of bindings, canaries first.

Of a group the records are the truth (`activities/groups.py`): the workflow asks which bindings come next, has them
installed on, and asks again. Killed, canceled, retried or held up by a window that closes, it goes on with those that
do not have the certificate yet.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from datetime import datetime

from temporalio import workflow

from workflows import options
from workflows.dispatch import Held, Moved, RequestDispatch, Stuck
from workflows.steps import NotPickedUp, StepFailed, records

with workflow.unsafe.imports_passed_through():
    from activities.groups import Groups
    from activities.installation import Installations
    from activities.verification import Verifications
    from model import messages as m
    from model.states import CertificateStatus, InstallState, KeyPlace


class GroupInstall(RequestDispatch):
    """The part of a request workflow that installs."""

    def __init__(self, request_id: int) -> None:
        super().__init__(request_id)
        self._key_place = KeyPlace.GATEWAY

    @abstractmethod
    async def _until(self, condition: Callable[[], bool], *, at: datetime | None = None) -> bool: ...

    @abstractmethod
    async def _finish(self, state: InstallState, message: str, installed: m.Installed | None) -> None: ...

    async def _install_at(self, endpoint: m.EndpointAccess, binding: str, place: m.GatewayPlace) -> m.Installed:
        """Install on one binding. Raises `StepFailed`, `NotPickedUp`, `Moved`, `Canceled`."""
        admission = self._admitted
        assert admission.keystore is not None
        assert self._certificate_pem is not None
        wanted = m.InstallCertificate(
            request_id=self._id,
            endpoint=endpoint,
            binding=binding,
            keystore=admission.keystore,
            alias=admission.key_alias,
            certificate_pem=self._certificate_pem,
            chain_pem=self._chain_pem,
            key_place=self._key_place if admission.reinstall is None else admission.key_place,
        )
        pick_up = options.PICK_UP[min(self._attempts - 1, len(options.PICK_UP) - 1)]
        installed: m.Installed = await self._at_place(
            place, Installations.install, wanted, options.INSTALLATION, pick_up
        )
        return installed

    def _failed_install(self, error: StepFailed) -> tuple[InstallState, str]:
        """The state that a failed install leads to, and what is told of it."""
        state = {
            "RolledBack": InstallState.ROLLED_BACK,
            "ActionRequired": InstallState.ACTION_REQUIRED,
            "KeyMissing": InstallState.ACTION_REQUIRED,
        }.get(error.kind, InstallState.FAILED)
        if error.kind != "KeyMissing":
            return state, error.message
        admission = self._admitted
        if self._key_place == KeyPlace.ENDPOINT or admission.key_place == KeyPlace.ENDPOINT:
            cure = "cancel, revoke the certificate and submit the request again."
            return state, f"{error.message.rstrip('.')}: {cure}"
        return state, (
            f"Key {admission.key_alias} is not on gateway {admission.gateway} any more: put back the backup of "
            "its keystore and retry, or cancel, revoke the certificate and submit the request again."
        )

    async def _install_group(self, admission: m.Admission, group: str) -> None:
        """Install on all bindings of the group that don't have the certificate yet."""
        assert self._certificate_id is not None
        while True:
            plan = await records(
                Groups.plan_group, m.PlanGroup(self._id, self._certificate_id, at_once=self._install_word)
            )
            self._place = plan.place
            if plan.place.unserved is not None:
                raise Held(plan.place.unserved)
            if plan.problem is not None:
                raise Stuck(InstallState.FAILED, plan.problem, step="install.failed")
            self._reason = plan.message if plan.done < plan.total else None
            if plan.look_at:
                await self._look_at_canaries(plan)
            elif plan.targets:
                await self._install_on(admission, plan)
            elif plan.wait_until is not None:
                self._project(CertificateStatus.ISSUED, InstallState.SCHEDULED, plan.message)
                await self._until(lambda: self._install_word, at=plan.wait_until)
            else:
                break
        self._served, self._reason = self._issued, None
        await self._finish(
            InstallState.COMPLETED, f"All {plan.total} bindings of group {group} serve the certificate.", None
        )

    async def _install_on(self, admission: m.Admission, plan: m.GroupPlan) -> None:
        """One install on each target, side by side; then tell what failed, if anything did."""
        self._attempts += 1
        names = ", ".join(str(target) for target in plan.targets)
        self._project(CertificateStatus.ISSUED, InstallState.INSTALLING, f"gateway {admission.gateway}: {names}")
        ends = await asyncio.gather(
            *(self._install_target(target, plan.place) for target in plan.targets), return_exceptions=True
        )
        failures: list[m.RecordTarget] = []
        for end in ends:
            if isinstance(end, NotPickedUp):
                await self._away(admission.gateway)
            elif isinstance(end, BaseException) and not isinstance(end, Moved):
                raise end
            elif isinstance(end, m.RecordTarget):
                failures.append(end)
        if failures:
            first = failures[0]
            done = plan.done + sum(end is None for end in ends)
            more = f" ({len(failures) - 1} more failed)" if len(failures) > 1 else ""
            told = f"{first.message.rstrip('.')}{more}. {done} of {plan.total} bindings have the certificate; "
            told += "retry goes on with the others."
            raise Stuck(first.state, told, step="install.failed")

    async def _install_target(self, target: m.GroupTarget, place: m.GatewayPlace) -> m.RecordTarget | None:
        """What failed, or None."""
        assert self._certificate_id is not None
        try:
            installed = await self._install_at(target.endpoint, target.binding, place)
        except StepFailed as error:
            state, told = self._failed_install(error)
            failed = m.RecordTarget(
                request_id=self._id,
                certificate_id=self._certificate_id,
                endpoint_id=target.endpoint.id,
                binding=target.binding,
                state=state,
                message=f"{target}: {told}",
                served=error.trouble.served if error.trouble else None,
                steps=error.trouble.steps if error.trouble else [],
            )
            await records(Groups.record_target, failed)
            return failed
        already = "already served" if installed.already else "now serves"
        await records(
            Groups.record_target,
            m.RecordTarget(
                request_id=self._id,
                certificate_id=self._certificate_id,
                endpoint_id=target.endpoint.id,
                binding=target.binding,
                state=InstallState.COMPLETED,
                message=f"{target.endpoint.name} {already} the certificate on {target.binding}.",
                installed=installed,
            ),
        )
        return None

    async def _look_at_canaries(self, plan: m.GroupPlan) -> None:
        """The canaries were watched long enough: what do they serve now?"""
        assert self._certificate_id is not None
        asked = m.CanaryLook(self._certificate_id, [(one.endpoint.id, one.binding) for one in plan.look_at])
        targets = await records(Verifications.canaries, asked)
        try:
            seen: m.TargetsSeen = await self._at_place(
                plan.place, Installations.verify, targets, options.LOOK, options.PICK_UP[0]
            )
        except (StepFailed, NotPickedUp):
            await self._away(self._admitted.gateway)
            return
        except Moved:
            return
        await records(Verifications.record_verification, m.RecordVerification("certgate", seen.seen))
