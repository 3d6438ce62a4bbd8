"""``certgate request``: submit, look, decide, install, retry; with live progress."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import Json, Limit, Offset, acting, emit_fields, emit_json, emit_rows, more, plain, run, say, shown
from model.keys import KeyAlgorithm
from model.states import CertificateStatus, InstallMode, InstallState

if TYPE_CHECKING:
    from model.messages import OrderValidation
    from operations.context import Context
    from operations.decisions import Word
    from operations.requests import RequestDetail, Waiting

requests = typer.Typer(no_args_is_help=True, help="Certificate requests: submit, approve, install, watch.")

Number = Annotated[int, typer.Argument(metavar="ID", help="The request's number.")]
Comment = Annotated[str, typer.Option(help="For the record, at most 1024 characters.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Watch it until it has ended or needs a person; exit 0 only if it is done.")
]
_DONE = (InstallState.COMPLETED, InstallState.NOT_CONFIGURED)
_STUCK = (InstallState.FAILED, InstallState.ROLLED_BACK, InstallState.ACTION_REQUIRED)


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(requests, name="request")


@requests.command("submit")
def submit_request(
    common_name: Annotated[str, typer.Option(help="A DNS name or IP address.")],
    organization: Annotated[str, typer.Option(help="Whom it is for.")],
    gateway: Annotated[str, typer.Option(help="The gateway that makes the key and installs.")],
    san: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A further name or address.")] = None,
    department: Annotated[str | None, typer.Option(help="A department of the organization.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Where it is installed.")] = None,
    binding: Annotated[str | None, typer.Option(help="Which place of the endpoint; else the one that fits.")] = None,
    group: Annotated[str | None, typer.Option(help="In place of an endpoint: all bindings of this group.")] = None,
    keystore: Annotated[str | None, typer.Option(help="Another keystore of the gateway than its default one.")] = None,
    ca: Annotated[str | None, typer.Option(help="Another CA than the profile's.")] = None,
    profile: Annotated[str | None, typer.Option(help="What kind of certificate.")] = None,
    key: Annotated[KeyAlgorithm | None, typer.Option(help="Another key than the profile's.")] = None,
    install: Annotated[InstallMode | None, typer.Option(help="Another mode than the endpoint's.")] = None,
    comment: Comment = "",
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Submit a certificate request."""
    from operations import submission

    new = submission.NewRequest(
        common_name=common_name,
        organization=organization,
        gateway=gateway,
        names=san or (),
        department=department,
        endpoint=endpoint,
        binding=binding,
        group=group,
        keystore=keystore,
        ca=ca,
        profile=profile,
        key_algorithm=key,
        install=install,
        comments=comment,
    )
    with acting() as context:
        code = run(_submitted(context, new, wait, as_json))
    raise typer.Exit(code)


async def _submitted(context: Context, new: object, wait: bool, as_json: bool) -> int:
    from operations import submission

    assert isinstance(new, submission.NewRequest)
    detail = await submission.submit(context, new)
    say(f"Request {detail.id} for {', '.join(detail.names)} is on its way (workflow {detail.workflow_id}).")
    return await ended(context, detail, wait, as_json)


@requests.command("list")
def list_requests(
    search: Annotated[str, typer.Option(help="In common name or order number.")] = "",
    status: Annotated[list[CertificateStatus] | None, typer.Option(case_sensitive=False)] = None,
    install_state: Annotated[list[InstallState] | None, typer.Option(case_sensitive=False)] = None,
    gateway: Annotated[str | None, typer.Option(help="Only of this gateway.")] = None,
    organization: Annotated[str | None, typer.Option(help="Only of this organization.")] = None,
    awaiting_me: Annotated[bool, typer.Option("--awaiting-me", help="Only those I might decide on.")] = False,
    limit: Limit = 100,
    offset: Offset = 0,
    as_json: Json = False,
) -> None:
    """List requests, the newest first."""
    from operations import requests as operations

    wanted = operations.Filter(
        search=search,
        statuses=status or (),
        install_states=install_state or (),
        gateway=gateway,
        organization=organization,
        awaiting_me=awaiting_me,
    )
    with acting() as context:
        page = operations.listing(context, wanted, offset=offset, limit=limit)
    columns = {
        "ID": lambda row: row.id,
        "Common name": lambda row: row.common_name,
        "Organization": lambda row: f"{row.organization}/{row.department}" if row.department else row.organization,
        "Gateway": lambda row: row.gateway,
        "Status": lambda row: row.status,
        "Install state": lambda row: row.install_state,
        "Requester": lambda row: row.requester,
        "Submitted": lambda row: shown(row.created_at)[:16],
    }
    emit_rows(page.rows, as_json, columns, "There are no such requests.")
    more(len(page.rows), offset, page.total)


@requests.command("show")
def show_request(number: Number, as_json: Json = False) -> None:
    """Show one request: where it stands, why, and what was served."""
    from operations import requests as operations

    with acting() as context:
        detail = operations.show(context, number)
    _emit(detail, as_json)


@requests.command("progress")
def show_progress(number: Number, as_json: Json = False) -> None:
    """Tell what a request is doing right now: the step that runs, what it said last, and for which names the CA has the
    proof that they are ours."""
    from operations import requests as operations

    with acting() as context:
        detail = operations.show(context, number)
        steps = run(operations.waiting(context, number))
    if as_json:
        emit_json({"request_id": number, "closed": detail.closed, "steps": plain(steps)})
        return
    if not steps:
        say(f"Request {number} has ended." if detail.closed else f"Request {number} waits for a person or a time.")
    for step in steps:
        print(_step(step))
        for one in step.validations:
            print("  " + validation_line(one))


def validation_line(one: OrderValidation) -> str:
    """Where the CA stands with a name, on one line."""
    told = f"{one.name}: {one.state}" + (f" by {one.method}" if one.method else "")
    return ". ".join([told, *(part.rstrip(".") for part in (one.missing, one.error) if part)])


@requests.command("approve")
def approve_request(number: Number, comment: Comment = "", wait: Wait = False, as_json: Json = False) -> None:
    """Approve a request that somebody else submitted."""
    _say_word(number, "approve", comment, wait, as_json)


@requests.command("decline")
def decline_request(
    number: Number,
    comment: Annotated[str, typer.Option(help="The reason; it is needed.")],
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Decline a request, with a reason."""
    _say_word(number, "decline", comment, wait, as_json)


@requests.command("install")
def install_request(number: Number, comment: Comment = "", wait: Wait = False, as_json: Json = False) -> None:
    """Install an issued certificate now, also before its maintenance window opens."""
    _say_word(number, "install", comment, wait, as_json)


@requests.command("cancel")
def cancel_request(number: Number, comment: Comment = "", wait: Wait = False, as_json: Json = False) -> None:
    """Cancel a request; what was made for it is cleaned up, what was ordered is told."""
    _say_word(number, "cancel", comment, wait, as_json)


@requests.command("retry")
def retry_request(number: Number, comment: Comment = "", wait: Wait = False, as_json: Json = False) -> None:
    """Try the step that failed again; nothing is ordered a second time."""
    _say_word(number, "retry", comment, wait, as_json)


def _say_word(number: int, word: Word, comment: str, wait: bool, as_json: bool) -> None:
    async def work(context: Context) -> int:
        from operations import decisions
        from operations import requests as operations

        before = operations.show(context, number)
        receipt = await decisions.say(context, number, word, comment)
        say(receipt.message)
        if not wait:
            if as_json:
                emit_json(operations.show(context, number))
            return 0
        return await ended(context, before, wait, as_json, said=word)

    with acting() as context:
        code = run(work(context))
    raise typer.Exit(code)


async def ended(context: Context, detail: RequestDetail, wait: bool, as_json: bool, said: Word | None = None) -> int:
    """Wait if asked for, print the request, and give the exit code."""
    if wait:
        # A word needs a moment to show: what is waited for is the next state, not the one that it was said in.
        detail = await _watched(context, detail, said is not None)
    if as_json or not wait:
        _emit(detail, as_json)
    if not wait:
        return 0
    return _told(detail, said)


def _told(detail: RequestDetail, said: Word | None) -> int:
    if detail.closed and detail.install_state in _DONE and detail.status == CertificateStatus.ISSUED:
        serves = f" and serves {detail.served_fingerprint}" if detail.served_fingerprint else ""
        say(f"Request {detail.id} is done: {detail.common_name} is issued{serves}.")
        return 0
    if (said, detail.status) in (("cancel", CertificateStatus.CANCELED), ("decline", CertificateStatus.DECLINED)):
        say(f"Request {detail.id} is {detail.status.lower()}.")
        return 0
    reason = f" {detail.reason}" if detail.reason else ""
    needed = _needs_a_person(detail)
    if detail.closed or needed is None:
        say(f"Request {detail.id} ended as {detail.status} / {detail.install_state}.{reason}")
    else:
        say(f"Request {detail.id} {needed}.{reason}")
    return 1


def _needs_a_person(detail: RequestDetail) -> str | None:
    """What a person has to do before the request goes on; None while it goes on by itself."""
    if detail.status == CertificateStatus.REQUESTED and detail.install_state == InstallState.KEY_READY:
        return f"awaits approval ({len(detail.decisions)} of {detail.approvals_required})"
    if detail.install_state == InstallState.READY_FOR_INSTALL:
        return "awaits the word to install"
    if detail.install_state in _STUCK and not detail.closed:
        return f"needs a person: it is {detail.status} / {detail.install_state}"
    return None


async def _watched(context: Context, before: RequestDetail, past: bool) -> RequestDetail:
    """Watch until it is closed or needs a person; with `past` only after it is no longer as it was `before`."""
    from operations import requests as operations

    detail = before
    with _Progress(context) as progress:
        async for detail in operations.watch(context, before.id):
            await progress.show(detail)
            moved = (detail.updated_at, detail.decisions) != (before.updated_at, before.decisions)
            if (moved or not past) and _needs_a_person(detail) is not None:
                break
    return detail


class _Progress:
    """Live lines on a terminal; elsewhere one line a change."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told = ""
        self._live: object | None = None

    def __enter__(self) -> _Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True, highlight=False), refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            from rich.live import Live

            assert isinstance(self._live, Live)
            self._live.stop()

    async def show(self, detail: RequestDetail) -> None:
        """Tell where it stands."""
        line = f"Request {detail.id}: {detail.status} / {detail.install_state}"
        if detail.order_number:
            line += f", order {detail.order_number}"
        if detail.reason:
            line += f" – {detail.reason}"
        if self._live is None:
            if line != self._told:
                say(line)
                self._told = line
            return
        from rich.live import Live
        from rich.spinner import Spinner

        assert isinstance(self._live, Live)
        self._live.update(Spinner("dots", text=line + await self._steps(detail.id)))

    async def _steps(self, number: int) -> str:
        from model.errors import Unavailable
        from operations import requests as operations

        try:
            return "".join(f"\n  {_step(one)}" for one in await operations.waiting(self._context, number))
        except Unavailable as error:
            return f"\n  {error.message}"


def _step(waiting: Waiting) -> str:
    tried = f", try {waiting.attempt}" if waiting.attempt > 1 else ""
    return f"{waiting.step}{tried}" + (f": {waiting.last_failure}" if waiting.last_failure else "")


def _emit(detail: RequestDetail, as_json: bool) -> None:
    fields = {
        "Request": detail.id,
        "Workflow": detail.workflow_id,
        "Common name": detail.common_name,
        "Names": detail.names,
        "Organization": f"{detail.organization}/{detail.department}" if detail.department else detail.organization,
        "Requester": detail.requester,
        "Gateway": detail.gateway,
        "Endpoint": detail.endpoint,
        "Binding": detail.binding,
        "Keystore": detail.keystore,
        "CA": detail.ca,
        "Profile": detail.profile,
        "Key": detail.key_algorithm,
        "Install": detail.install_mode,
        "Comments": detail.comments,
        "Status": detail.status,
        "Install state": detail.install_state,
        "Installs after": detail.install_after,
        "Ordered as": detail.order_way,
        "Order number": detail.order_number,
        "Ordered": detail.ordered_at,
        "Issued": detail.issued_fingerprint,
        "Served": detail.served_fingerprint,
        "Reason": detail.reason,
        "Certificate": detail.certificate_id,
        "Decisions": "\n".join(
            f"{one.administrator}: {one.verdict}, {shown(one.decided_at)} {one.comment}" for one in detail.decisions
        ),
        "You may": detail.may,
        "Submitted": detail.created_at,
    }
    emit_fields(plain(detail), as_json, fields)
