"""A request comes in: checked, kept, started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select
from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from model import access, messages, naming, x509
from model.database import Database
from model.errors import InvalidInput, NotPermitted, Unavailable
from model.keys import KeyAlgorithm
from model.rules import names
from model.rules.permissions import Scope
from model.states import InstallMode, InstallState, KeyPlace, Privilege
from model.tables import (
    CertificateAuthority,
    CertificateProfile,
    CertificateRequest,
    Endpoint,
    EndpointBinding,
    EndpointGroup,
)
from operations import groups, lookup
from operations.context import Context
from operations.lookup import identity
from operations.requests import RequestDetail, show
from workflows.request import CertificateRequestWorkflow

_LONGEST_COMMENT = 1024


@dataclass(frozen=True)
class NewRequest:
    """What a request is made of, in the words of the form and the command line. `group` in place of an endpoint: the
    certificate is installed on all of its bindings."""

    common_name: str
    organization: str
    gateway: str | int
    names: Sequence[str] = ()
    department: str | None = None
    endpoint: str | None = None
    binding: str | None = None
    ca: str | None = None
    profile: str | None = None
    key_algorithm: KeyAlgorithm | None = None
    install: InstallMode | None = None
    comments: str = ""
    keystore: str | int | None = None
    group: str | int | None = None


async def submit(context: Context, new: NewRequest) -> RequestDetail:
    """Check, keep and start a request. Raises `InvalidInput`, `NotFound`, `NotPermitted`; then nothing was changed.

    When the engine is away the request is kept all the same and the manager starts it as soon as both are back; that is
    told as `Unavailable` with the request's number.
    """
    wanted = names.normalize_names(new.common_name, new.names)
    if len(new.comments) > _LONGEST_COMMENT:
        raise InvalidInput(f"Comments have at most {_LONGEST_COMMENT} characters, not {len(new.comments)}.")
    with context.acting("request.submitted", "request") as session:
        request = _checked(context, session, new, wanted)
        session.add(request)
        session.flush()
        request.key_alias = naming.key_alias(identity(request))
        session.add(request)
        context.tell(
            session,
            "request.submitted",
            "request",
            f"Requested a certificate for {', '.join(wanted)}.",
            object_id=request.id,
            gateway_id=request.gateway_id,
            scope=access.scope_of(request),
        )
        request_id = identity(request)
    try:
        await start(await context.temporal(), context.database, request_id)
    except Unavailable as error:
        raise Unavailable(
            f"Request {request_id} is kept, but could not be started ({error.message}) "
            "The manager starts it as soon as Temporal is back; don't submit it again."
        ) from error
    return show(context, request_id)


def judge(context: Context, session: Session, new: NewRequest) -> None:
    """Raise what `submit` would, from `InvalidInput` to `NotPermitted`; nothing is kept."""
    _checked(context, session, new, names.normalize_names(new.common_name, new.names))


async def start(client: Client, database: Database, request_id: int) -> None:
    """Start the workflow of a request that is kept; one that runs already is success."""
    with database.read() as session:
        request = session.get_one(CertificateRequest, request_id)
    try:
        await client.start_workflow(
            CertificateRequestWorkflow.run,
            messages.RequestStart(request_id),
            id=naming.request_workflow(request_id),
            task_queue=naming.MANAGER_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            static_summary=f"Certificate for {request.common_name}",
        )
    except WorkflowAlreadyStartedError:
        pass
    except RPCError as error:
        raise Unavailable(f"Temporal does not answer ({error.message}).") from error
    with database.write() as session:
        request = session.get_one(CertificateRequest, request_id)
        request.started = True
        session.add(request)


def _checked(context: Context, session: Session, new: NewRequest, wanted: list[str]) -> CertificateRequest:
    actor = context.actor
    organization = lookup.organization(session, actor, new.organization)
    department = lookup.department(session, actor, organization, new.department) if new.department else None
    scope = Scope(identity(organization), identity(department) if department else None)
    context.require(Privilege.REQUEST, scope, f"request certificates for {organization.name}")
    gateway = lookup.gateway(session, actor, new.gateway)
    if not access.gateway_serves(session, gateway, identity(organization), scope.department_id):
        whom = f"{organization.name}/{department.name}" if department else organization.name
        raise NotPermitted(
            f"Gateway {gateway.name} is not delegated to {whom}: delegate it, or choose another gateway."
        )
    profile = lookup.profile(session, new.profile) if new.profile else _default_profile(session)
    authority = (
        lookup.authority(session, new.ca) if new.ca else session.get_one(CertificateAuthority, profile.authority_id)
    )
    if not authority.active:
        raise InvalidInput(f"CA {authority.name} is switched off: choose another one.")
    names.check_allowed(wanted, profile.allowed_names)
    if new.group is not None and (new.endpoint or new.binding):
        raise InvalidInput("A certificate is for an endpoint or for a group: name one of them.")
    group = groups.find(session, gateway, new.group) if new.group is not None else None
    endpoint = lookup.endpoint(session, gateway, new.endpoint) if new.endpoint else None
    binding = _binding(session, endpoint, new.binding, wanted) if endpoint else None
    if endpoint is None and new.binding:
        raise InvalidInput("A binding was given without its endpoint: name the endpoint too.")
    if group is not None:
        endpoint, binding = _first_of(session, group, wanted)
    keystore = lookup.keystore(session, gateway, new.keystore) if new.keystore is not None else None
    now = context.clock()
    return CertificateRequest(
        organization_id=identity(organization),
        department_id=scope.department_id,
        requester_id=actor.id,
        common_name=wanted[0],
        names=wanted,
        profile_id=identity(profile),
        authority_id=identity(authority),
        authority_chosen=authority.id != profile.authority_id,
        gateway_id=identity(gateway),
        endpoint_id=identity(endpoint) if endpoint else None,
        binding=binding,
        group_id=group.id if group else None,
        key_place=KeyPlace.ENDPOINT if endpoint and endpoint.key_at_endpoint else KeyPlace.GATEWAY,
        keystore_id=keystore.id if keystore else None,
        key_algorithm=new.key_algorithm or profile.key_algorithm,
        install_mode=new.install or (endpoint.install_mode if endpoint else InstallMode.AUTO),
        comments=new.comments,
        install_state=InstallState.NOT_STARTED,
        created_at=now,
        updated_at=now,
    )


def _default_profile(session: Session) -> CertificateProfile:
    profile = session.exec(select(CertificateProfile).order_by(col(CertificateProfile.id))).first()
    if profile is None:
        raise InvalidInput("There is no certificate profile yet: add one with `certgate profile add`.")
    return profile


def _binding(session: Session, endpoint: Endpoint, asked: str | None, wanted: list[str]) -> str:
    rows = session.exec(
        select(EndpointBinding).where(EndpointBinding.endpoint_id == endpoint.id).order_by(col(EndpointBinding.binding))
    ).all()
    if not rows:
        raise InvalidInput(
            f"Nothing is known yet of what {endpoint.name} serves: run `certgate endpoint discover` for it first."
        )
    listed = ", ".join(row.binding for row in rows[:20])
    if asked is None:
        fitting = [row for row in rows if _covered(row, wanted)]
        if len(fitting) != 1:
            count = "No binding" if not fitting else "More than one binding"
            raise InvalidInput(f"{count} of {endpoint.name} fits these names: name one of {listed}.")
        return fitting[0].binding
    found = next((row for row in rows if row.binding == asked), None)
    if found is None:
        raise InvalidInput(f"{endpoint.name} has no binding {asked!r}; it has {listed}.")
    if found.obstacle:
        raise InvalidInput(f"Nothing can be installed on {asked}: {found.obstacle}")
    if not _covered(found, wanted):
        missing = ", ".join(name for name in found.names if not any(x509.covers(given, name) for given in wanted))
        raise InvalidInput(f"The certificate would not cover {missing}, which {asked} answers to: add it to the names.")
    return found.binding


def _first_of(session: Session, group: EndpointGroup, wanted: list[str]) -> tuple[Endpoint, str]:
    """The first binding of a group, all of whose hosts the certificate must cover."""
    members = groups.bindings_of(session, group)
    if not members:
        raise InvalidInput(f"Group {group.name} has no bindings: add some first.")
    for member, binding in members:
        name = session.get_one(Endpoint, member.endpoint_id).name
        if binding is None:
            raise InvalidInput(f"{member.binding} of {name} is not there any more: take it out of group {group.name}.")
        if not _covered(binding, wanted):
            missing = ", ".join(one for one in binding.names if not any(x509.covers(given, one) for given in wanted))
            raise InvalidInput(
                f"The certificate would not cover {missing}, which {member.binding} of {name} answers to: add it to "
                "the names."
            )
    first, _ = members[0]
    return session.get_one(Endpoint, first.endpoint_id), first.binding


def _covered(binding: EndpointBinding, wanted: list[str]) -> bool:
    return all(any(x509.covers(given, name) for given in wanted) for name in binding.names)
