"""Sync of modules, the manager's part: is the order still good, what differs, what is taken over, what is agreed.

An order stands in `GatewaySync.asked` under its number. A step of a workflow whose order was replaced by a later one
changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from sqlmodel import Session, select
from temporalio import activity

from activities import modules_takeover
from activities.modules_file import connectors_here, obstacle, settled
from activities.records import Records, step_key
from connectors.errors import Permanent
from connectors.registry import OWN_INTERFACE
from model import access, audit, messages, naming
from model.errors import InvalidInput
from model.rules import modules
from model.rules.modules import Deed, Direction, Item, Side, Standing, SyncState
from model.states import AccessMethod, Outcome, Privilege
from model.tables import Gateway, GatewaySync


class ModuleRecords(Records):
    """Local steps on the manager."""

    def steps(self) -> Sequence[Callable[..., Any]]:
        """All of them, for the worker."""
        return [self.admit, self.judge, self.settle, self.fail]

    @activity.defn(name="modules.admit")
    def admit(self, asked: messages.AdmitSync) -> messages.SyncAdmission:
        """Whether the order may go on, and on which queue its gateway is now. Who asked must still be permitted."""
        with self.writing() as session:
            sync, gateway = _order(session, asked.gateway_id, asked.number)
            if sync is None or gateway is None:
                return messages.SyncAdmission(ended="This order was replaced by a later one, or its gateway is gone.")
            canceled_by = sync.asked.get("canceled_by")
            refused = self._refusal(session, sync, gateway)
            if canceled_by or refused:
                told = refused or f"Canceled by {canceled_by}."
                if sync.plan:
                    told += " What came from the gateway is kept; what is for it waits for the next sync."
                self._end(session, sync, SyncState.REFUSED if refused else SyncState.CANCELED, told)
                if refused:
                    self._tell(session, sync, gateway, "gateway.synced", refused, outcome=Outcome.REFUSED)
                return messages.SyncAdmission(ended=told)
            if asked.waiting:
                sync.state = SyncState.WAITING
                what = "write what the manager has for it" if asked.writing else "read its file"
                sync.message = f"Gateway {gateway.name} does not answer: it will {what} when it is back."
            else:
                sync.state = SyncState.WRITING if asked.writing else SyncState.COMPARING
                sync.message = None
            sync.seen = {**sync.seen, "channel": gateway.channel}
            self._keep(session, sync)
            return messages.SyncAdmission(naming.gateway_queue(asked.gateway_id, gateway.channel), gateway.name)

    @activity.defn(name="modules.judge")
    def judge(self, came: messages.JudgeModules) -> messages.ModulesJudged:
        """Compare both sides with what was agreed last, keep the difference for people, and take over what the order
        says: all of it, or nothing when a side is no longer what the administrator saw."""
        with self.writing() as session:
            sync, gateway = _order(session, came.gateway_id, came.number)
            if sync is None or gateway is None:
                return messages.ModulesJudged(SyncState.CANCELED, "This order was replaced by a later one.")
            if sync.plan.get("step") == step_key("judged"):
                return messages.ModulesJudged(SyncState.WRITING, "", messages.WriteModules(**sync.plan["write"]))
            read = came.read
            gateway.modules = [asdict(one) for one in read.connectors]
            session.add(gateway)
            manager = manager_document(session, gateway)
            if modules.size(manager) > modules.LARGEST:
                told = f"The manager's records of gateway {gateway.name} are larger than a gateway's file may be."
                return self._ended(session, sync, SyncState.FAILED, told)
            agreed, note = modules.base(sync.agreed, sync.revision, there=read.revision)
            items = _with_problems(
                session, gateway, modules.compare(agreed, manager, _taken(read), read.unusable), read
            )
            self._show(session, sync, items, read, note, modules.digest(manager))
            if not sync.asked.get("apply"):
                return self._ended(session, sync, SyncState.COMPARED, _compared(items, note))
            if not _as_seen(sync):
                told = "Something was changed in the meantime: nothing was done; look at the new difference."
                self._tell(session, sync, gateway, "gateway.synced", told, outcome=Outcome.FAILED)
                return self._ended(session, sync, SyncState.CHANGED, told)
            return self._carry_out(session, sync, gateway, items, agreed, read)

    @activity.defn(name="modules.settle")
    def settle(self, came: messages.SettleModules) -> messages.SyncResult:
        """Both sides are brought together: what they have alike now is what they agree on."""
        with self.writing() as session:
            sync, gateway = _order(session, came.gateway_id, came.number)
            if sync is None or gateway is None:
                return messages.SyncResult(SyncState.CANCELED, "This order was replaced by a later one.")
            if not sync.plan:
                return messages.SyncResult(sync.state, sync.message or "")
            plan, refused = sync.plan, came.written.refused
            write = messages.WriteModules(**plan["write"])
            if not came.written.written:
                told = (
                    "The gateway's file was changed while it was being brought up to date, and was left alone; what "
                    "came from it before is kept. Look at the new difference."
                )
                self._tell(session, sync, gateway, "gateway.synced", told, outcome=Outcome.FAILED)
                self._end(session, sync, SyncState.CHANGED, told)
                return messages.SyncResult(SyncState.CHANGED, told)
            agreed = dict(plan["agreed"])
            for key in refused:
                agreed.pop(key, None)
                if plan["before"].get(key) is not None:
                    agreed[key] = plan["before"][key]
            for key, value in write.changes.items():
                if key not in refused:
                    done = "written into" if value is not None else "taken out of"
                    told = f"{_named(key)} was {done} the file of gateway {gateway.name}: the manager's word counts."
                    self._tell(session, sync, gateway, "gateway.module_written", told, part=key)
            left = {**plan["left"], **refused}
            sync.agreed, sync.revision = agreed, write.revision
            gateway.modules_revision = write.revision
            session.add(gateway)
            sync.seen = {
                **sync.seen,
                "manager_digest": modules.digest(manager_document(session, gateway)),
                "gateway_digest": came.written.digest,
                "gateway_revision": write.revision,
            }
            given = len(write.changes) - len(refused)
            told = f"Revision {write.revision}: {_count(plan['taken'])} from the gateway, {_count(given)} to it"
            told += f"; {_count(len(left))} left alone." if left else "."
            sync.difference = [_left_alone(line, left) for line in sync.difference if _still(line, left)]
            self._tell(session, sync, gateway, "gateway.synced", f"Modules of gateway {gateway.name} synced. {told}")
            self._end(session, sync, SyncState.PARTLY if left else SyncState.DONE, told)
            return messages.SyncResult(sync.state, told)

    @activity.defn(name="modules.fail")
    def fail(self, came: messages.FailSync) -> messages.SyncResult:
        """A step failed for good: its sentence is shown."""
        with self.writing() as session:
            sync, gateway = _order(session, came.gateway_id, came.number)
            if sync is not None and gateway is not None:
                self._tell(session, sync, gateway, "gateway.synced", came.message, outcome=Outcome.FAILED)
                self._end(session, sync, SyncState.FAILED, came.message)
        return messages.SyncResult(SyncState.FAILED, came.message)

    # --- the parts of a judgement -------------------------------------------------------------------------------------

    def _carry_out(
        self,
        session: Session,
        sync: GatewaySync,
        gateway: Gateway,
        items: list[Item],
        agreed: modules.Document,
        read: messages.ModulesRead,
    ) -> messages.ModulesJudged:
        order = sync.asked
        decisions = {key: Side(word) for key, word in order.get("decisions", {}).items()}
        try:
            plan = modules.plan(items, Direction(order["direction"]), decisions)
        except InvalidInput as error:
            return self._ended(session, sync, SyncState.FAILED, error.message)
        target = {**read.document, **plan.to_gateway}
        if modules.size(target) > modules.LARGEST:
            told = f"The file of gateway {gateway.name} would be longer than {modules.LARGEST // 1024} KiB."
            return self._ended(session, sync, SyncState.FAILED, told)
        settled_now = _agreed(items, plan, agreed)
        for key, value in plan.to_manager.items():
            what = modules_takeover.take_over(session, gateway, key, value)
            told = f"{_named(key)} of gateway {gateway.name} was {what} by a sync: the gateway's word counts."
            self._tell(session, sync, gateway, f"{modules.split(key)[0]}.{what}", told, part=key)
        sync.message = None
        if settled_now == sync.agreed and read.revision == sync.revision and not plan.to_gateway:
            told = f"Both sides are at revision {sync.revision}"
            told += f"; {_count(len(plan.left))} left alone." if plan.left else ": there is nothing to do."
            sync.difference = [_left_alone(line, plan.left) for line in sync.difference]
            return self._ended(session, sync, SyncState.PARTLY if plan.left else SyncState.DONE, told)
        write = messages.WriteModules(
            gateway_id=sync.gateway_id,
            expected=read.digest,
            revision=max(sync.revision, read.revision or 0) + 1,
            changes=dict(plan.to_gateway),
        )
        sync.plan = {
            "step": step_key("judged"),
            "write": asdict(write),
            "agreed": settled_now,
            "before": {key: agreed.get(key) for key in plan.to_gateway},
            "left": plan.left,
            "taken": len(plan.to_manager),
        }
        sync.state = SyncState.WRITING
        self._keep(session, sync)
        return messages.ModulesJudged(SyncState.WRITING, "", write)

    def _show(
        self,
        session: Session,
        sync: GatewaySync,
        items: list[Item],
        read: messages.ModulesRead,
        note: str | None,
        manager_digest: str,
    ) -> None:
        there = [modules.Connector(one.kind, one.name, one.title, one.version) for one in read.connectors]
        sync.difference = [_line(item) for item in items if item.differs]
        sync.seen = {
            "manager_digest": manager_digest,
            "gateway_digest": read.digest,
            "gateway_revision": read.revision,
            "manager_changes": sum(item.at_manager != Deed.NOTHING for item in items),
            "gateway_changes": sum(item.at_gateway != Deed.NOTHING for item in items),
            "same": sum(not item.differs for item in items),
            "note": note,
            "connectors": [asdict(one) for one in modules.compare_connectors(connectors_here(), there)],
            "at": self._clock().isoformat(),
            "channel": sync.seen.get("channel"),
        }
        self._keep(session, sync)

    def _refusal(self, session: Session, sync: GatewaySync, gateway: Gateway) -> str | None:
        login = str(sync.asked.get("by"))
        administrator = access.administrator_of(session, login)
        scopes = access.custody(session, gateway)
        if administrator is None or not all(
            access.permitted(session, administrator, Privilege.MANAGE_GATEWAYS, scope) for scope in scopes
        ):
            return f"{login} may no longer manage gateway {gateway.name}."
        return None

    def _ended(self, session: Session, sync: GatewaySync, state: SyncState, told: str) -> messages.ModulesJudged:
        self._end(session, sync, state, told)
        return messages.ModulesJudged(state, told)

    def _end(self, session: Session, sync: GatewaySync, state: SyncState, told: str) -> None:
        sync.state, sync.message, sync.plan = state, told, {}
        self._keep(session, sync)

    def _keep(self, session: Session, sync: GatewaySync) -> None:
        sync.updated_at = self._clock()
        session.add(sync)

    def _tell(
        self,
        session: Session,
        sync: GatewaySync,
        gateway: Gateway,
        action: str,
        description: str,
        *,
        outcome: Outcome = Outcome.DONE,
        part: str = "",
    ) -> None:
        where = access.scope_of_gateway(session, gateway)
        once = step_key(action) if not part else step_key(modules.digest({"part": part})[:32])
        audit.append(
            session,
            audit.Act(
                actor=str(sync.asked.get("described", "certgate")),
                access_method=AccessMethod(sync.asked.get("method", AccessMethod.WORKFLOW)),
                action=action,
                object_type="gateway",
                object_id=gateway.id,
                gateway_id=gateway.id,
                organization_id=where.organization_id,
                department_id=where.department_id,
                description=description,
                outcome=outcome,
                once=once,
            ),
            self._clock(),
        )


def manager_document(session: Session, gateway: Gateway) -> dict[str, Any]:
    """What the manager's records say of a gateway, in normal form."""
    (document,) = manager_documents(session, [gateway]).values()
    return document


def manager_documents(session: Session, gateways: Sequence[Gateway]) -> dict[int, dict[str, Any]]:
    """The same of several gateways, by their ids."""
    return {
        number: {key: _settled_here(key, value) for key, value in document.items()}
        for number, document in modules_takeover.records_of(session, gateways).items()
    }


def _settled_here(key: str, value: Any) -> Any:
    try:
        return settled(key, value) if obstacle(key, value) is None else modules.normal(value)
    except Permanent:
        return modules.normal(value)


def _taken(read: messages.ModulesRead) -> dict[str, Any]:
    """The gateway's document in our normal form; what we can't judge stays as it came."""
    return {key: _settled_here(key, value) for key, value in read.document.items()}


def _order(session: Session, gateway_id: int, number: int) -> tuple[GatewaySync | None, Gateway | None]:
    """The row of the order, unless another one has taken its place; with its gateway."""
    sync = session.exec(select(GatewaySync).where(GatewaySync.gateway_id == gateway_id)).one_or_none()
    gateway = session.get(Gateway, gateway_id)
    if sync is None or gateway is None or access.is_gone(gateway) or sync.asked.get("number") != number:
        return None, None
    return sync, gateway


def _as_seen(sync: GatewaySync) -> bool:
    """Whether both sides are what the administrator saw; an order without that takes them as they are."""
    expected = (sync.asked.get("manager_digest"), sync.asked.get("gateway_digest"))
    return expected in ((None, None), (sync.seen["manager_digest"], sync.seen["gateway_digest"]))


def _with_problems(session: Session, gateway: Gateway, items: list[Item], read: messages.ModulesRead) -> list[Item]:
    there = {(one.kind, one.name) for one in read.connectors}
    uses = modules_takeover.Uses(session, gateway)
    made = []
    for item in items:
        if item.differs and item.standing != Standing.UNREADABLE:
            item = Item(
                item.key,
                item.standing,
                item.at_manager,
                item.at_gateway,
                item.manager,
                item.gateway,
                takeover_problem=_takeover_problem(item, uses),
                writing_problem=_writing_problem(item, there),
            )
        elif item.standing == Standing.UNREADABLE:
            item = Item(
                item.key, item.standing, item.at_manager, Deed.NOTHING, item.manager, None, read.unusable[item.key]
            )
        made.append(item)
    return made


def _takeover_problem(item: Item, uses: modules_takeover.Uses) -> str | None:
    if item.gateway is not None:
        wrong = obstacle(item.key, item.gateway)
        if wrong is not None:
            return f"The manager refuses it: {': '.join(filter(None, wrong)).rstrip('.')}."
    return uses.obstacle(item.key, item.manager, item.gateway)


def _writing_problem(item: Item, there: set[tuple[str, str]]) -> str | None:
    if item.manager is None or not isinstance(item.manager, dict):
        return None
    wrong = modules.obstacle(item.key, item.manager)
    if wrong is not None:
        return f"The gateway's file can't hold it: {wrong[0]} {wrong[1]}."
    kind, _ = modules.split(item.key)
    needed = [(f"{kind}s", item.manager["type"])]
    if kind == modules.ENDPOINT:
        connection = item.manager.get("connection", "local")
        if connection != OWN_INTERFACE:
            needed.append(("hosts", connection))
    for one in needed:
        if one not in there:
            return f"The gateway has no connector {one[1]!r} for {one[0]}: install it there first."
    return None


def _agreed(items: list[Item], plan: modules.Plan, agreed: modules.Document) -> dict[str, Any]:
    """What both sides have alike once the plan is carried out; for what is left alone, what was agreed before."""
    now: dict[str, Any] = {}
    for item in items:
        if item.key in plan.to_manager:
            value = plan.to_manager[item.key]
        elif item.key in plan.to_gateway:
            value = plan.to_gateway[item.key]
        else:
            value = agreed.get(item.key) if item.differs else item.manager
        if value is not None:
            now[item.key] = value
    return now


def _line(item: Item) -> dict[str, Any]:
    return {
        "key": item.key,
        "standing": str(item.standing),
        "at_manager": str(item.at_manager),
        "at_gateway": str(item.at_gateway),
        "manager": item.manager,
        "gateway": item.gateway,
        "takeover_problem": item.takeover_problem,
        "writing_problem": item.writing_problem,
        "left": None,
    }


def _still(line: dict[str, Any], left: dict[str, str]) -> bool:
    return line["key"] in left


def _left_alone(line: dict[str, Any], left: dict[str, str]) -> dict[str, Any]:
    return {**line, "left": left.get(line["key"])}


def _compared(items: list[Item], note: str | None) -> str:
    differing = [item for item in items if item.differs]
    conflicts = sum(item.standing == Standing.CONFLICT for item in differing)
    if differing:
        told = f"{_count(len(differing))} {'differs' if len(differing) == 1 else 'differ'}"
        told += f", {conflicts} of them changed on both sides." if conflicts else "."
    else:
        told = "Both sides are the same."
    return f"{note} {told}" if note else told


def _count(number: int) -> str:
    return f"{number} {'thing' if number == 1 else 'things'}"


def _named(key: str) -> str:
    kind, name = modules.split(key)
    return f"{kind.capitalize()} {name}"
