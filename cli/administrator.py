"""``certgate administrator``: who may act, and where."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from cli.common import (
    Json,
    Yes,
    acting,
    confirm,
    duration,
    emit_fields,
    emit_json,
    emit_rows,
    opened,
    say,
    secret,
    write_new,
)
from model.errors import InvalidInput
from model.states import AccessMethod, Privilege, Role

administrators = typer.Typer(no_args_is_help=True, help="Administrators: who may act, and where.")

Login = Annotated[str, typer.Argument(help="The administrator's login.")]
Organizations = Annotated[list[str] | None, typer.Option("--organization", help="Where a RAO's role holds.")]
Departments = Annotated[
    list[str] | None, typer.Option("--department", help="Where a DRAO's role holds: ORGANIZATION/NAME.")
]
Privileges = Annotated[
    list[Privilege] | None,
    typer.Option("--privilege", help="What the role allows; none given: request, renew and install."),
]
OidcIssuer = Annotated[str | None, typer.Option(help="The OpenID Connect provider; left out: the one of the settings.")]
OidcSubject = Annotated[str | None, typer.Option(help="Who he is at the provider: its claim 'sub'.")]
NoPassword = Annotated[bool, typer.Option("--no-password", help="He signs in through the provider only.")]
PasswordFile = Annotated[Path | None, typer.Option("--password-file", help="Holds the password; - for stdin.")]


def register(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    app.add_typer(administrators, name="administrator")


@administrators.command("list")
def list_administrators(
    search: Annotated[str, typer.Option(help="In login, name or e-mail address.")] = "",
    role: Annotated[Role | None, typer.Option(case_sensitive=False, help="Only holders of this role.")] = None,
    organization: Annotated[str | None, typer.Option(help="Only with a role in this organization.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Only active ones, or others.")] = None,
    as_json: Json = False,
) -> None:
    """List administrators."""
    from operations import administrators as operations

    with acting() as context:
        wanted = operations.Filter(search=search, role=role, organization=organization, active=active)
        rows = operations.page(context, wanted).rows
    columns = {
        "Login": lambda row: row.login,
        "Name": lambda row: row.full_name,
        "Roles": lambda row: "\n".join(map(str, row.roles)) or None,
        "Active": lambda row: row.active,
        "Last sign-in": lambda row: row.last_sign_in,
    }
    emit_rows(rows, as_json, columns, "There are no administrators.")


@administrators.command("show")
def show_administrator(login: Login, as_json: Json = False) -> None:
    """Show one administrator."""
    from operations import administrators as operations

    with acting() as context:
        row = operations.show(context, login)
    fields = {
        "ID": row.id,
        "Login": row.login,
        "Name": row.full_name,
        "E-mail": row.email,
        "Roles": "\n".join(map(str, row.roles)),
        "OIDC issuer": row.oidc_issuer,
        "OIDC subject": row.oidc_subject,
        "Active": row.active,
        "Locked until": row.locked_until,
        "Signs in by": [
            *(["password"] if row.has_password else []),
            *(["single sign-on"] if row.has_single_sign_on else []),
        ],
        "Last sign-in": row.last_sign_in,
        "Tokens": row.tokens,
        "Since": row.created_at,
    }
    emit_fields(row, as_json, fields)


@administrators.command("add")
def add_administrator(
    login: Annotated[str, typer.Option("--login", help="1 to 64 letters, digits, . _ @ + -")],
    role: Annotated[Role, typer.Option(case_sensitive=False, help="Of everything, of organizations, of departments.")],
    full_name: Annotated[str, typer.Option(help="For people.")] = "",
    email: Annotated[str, typer.Option(help="For people.")] = "",
    organization: Organizations = None,
    department: Departments = None,
    privilege: Privileges = None,
    password_file: PasswordFile = None,
    oidc_issuer: OidcIssuer = None,
    oidc_subject: OidcSubject = None,
    passwordless: NoPassword = False,
    as_json: Json = False,
) -> None:
    """Add an administrator. Without --password-file a password is made up and printed once, unless he is to sign in
    through the OpenID Connect provider only (--oidc-subject or --no-password)."""
    from operations import administrators as operations

    new = operations.NewAdministrator(
        login=login,
        role=role,
        full_name=full_name,
        email=email,
        organizations=organization or (),
        departments=department or (),
        privileges=privilege,
        password=secret("Password", password_file) if password_file else None,
        without_password=passwordless,
        oidc_issuer=_issuer(oidc_issuer) if oidc_subject is not None else None,
        oidc_subject=oidc_subject,
    )
    with acting() as context:
        added = operations.add(context, new)
    if as_json:
        emit_json(added)
    elif added.password is not None:
        print(added.password)
    once = "; the password is shown only now" if added.password is not None else ""
    say(f"Administrator {added.login} was added{once}.")


@administrators.command("edit")
def edit_administrator(
    login: Login,
    full_name: Annotated[str | None, typer.Option(help="For people.")] = None,
    email: Annotated[str | None, typer.Option(help="For people.")] = None,
    role: Annotated[Role | None, typer.Option(case_sensitive=False, help="Given with its scopes.")] = None,
    organization: Organizations = None,
    department: Departments = None,
    privilege: Privileges = None,
    oidc_issuer: OidcIssuer = None,
    oidc_subject: Annotated[
        str | None, typer.Option(help="Who he is at the provider: its claim 'sub'; '' for nobody any more.")
    ] = None,
    passwordless: NoPassword = False,
    as_json: Json = False,
) -> None:
    """Change an administrator. With --role he holds that one only; `grant` and `withdraw` change single ones."""
    from operations import administrators as operations
    from operations import single_sign_on

    change = operations.AdministratorChange(
        full_name=full_name,
        email=email,
        role=role,
        organizations=organization or (),
        departments=department or (),
        privileges=privilege,
    )
    with acting() as context:
        row = operations.edit(context, login, change)
        if oidc_subject:
            single_sign_on.link(context, login, _issuer(oidc_issuer), oidc_subject)
        elif oidc_subject is not None:
            single_sign_on.unlink(context, login)
        if passwordless:
            single_sign_on.remove_password(context, login)
        if passwordless or oidc_subject is not None:
            row = operations.show(context, login)
    if as_json:
        emit_json(row)
    say(f"Administrator {login} was edited.")


@administrators.command("sessions")
def list_sessions(
    login: Login,
    end: Annotated[bool, typer.Option("--end", help="End them, or the one of --session.")] = False,
    session: Annotated[int | None, typer.Option(help="With --end: only the session of this number.")] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """List where an administrator is signed in to the dashboard, or sign him out there: himself, or as MRAO anybody."""
    from operations import sessions as operations

    if session is not None and not end:
        raise InvalidInput("--session goes with --end.")
    if end:
        confirm(f"End {'all sessions' if session is None else f'session {session}'} of {login}?", yes)
        with acting() as context:
            count = operations.end(context, login, session)
        if as_json:
            emit_json({"login": login, "ended": count})
        say(f"{count} session(s) of {login} were ended.")
        return
    with opened() as door:
        context = door.context(door.command_line_actor(), AccessMethod.COMMAND_LINE)
        rows = operations.listing(context, timedelta(minutes=door.settings.dashboard.idle_minutes), login)
    columns = {
        "ID": lambda row: row.id,
        "Since": lambda row: row.created_at,
        "Last used": lambda row: row.seen_at,
        "Ends at": lambda row: row.expires_at,
        "By": lambda row: row.way,
        "Address": lambda row: row.address,
        "Browser": lambda row: row.agent,
    }
    emit_rows(rows, as_json, columns, f"{login} is signed in nowhere.")


def _issuer(given: str | None) -> str:
    """The provider that was named, else the one of the settings."""
    if given is not None:
        return given
    with opened() as door:
        if door.settings.oidc is None:
            raise InvalidInput("No provider is set in certgate.toml ([oidc]): name it with --oidc-issuer.")
        return door.settings.oidc.issuer


@administrators.command("grant")
def grant_role(
    login: Login,
    role: Annotated[Role, typer.Option(case_sensitive=False, help="Of everything, of organizations, of departments.")],
    organization: Organizations = None,
    department: Departments = None,
    privilege: Privileges = None,
    as_json: Json = False,
) -> None:
    """Give a role beside those that are held. Where it is held already, its privileges are given anew."""
    from operations import roles as operations

    given = operations.Assignment(role, organization or (), department or (), privilege)
    with acting() as context:
        rows = operations.grant(context, login, given)
    if as_json:
        emit_json(rows)
    say(f"Administrator {login} is {'; '.join(map(str, rows))}.")


@administrators.command("withdraw")
def withdraw_role(
    login: Login,
    role: Annotated[Role, typer.Option(case_sensitive=False, help="The role that ends.")],
    organization: Organizations = None,
    department: Departments = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take a role away: in the named places, or everywhere."""
    from operations import roles as operations

    held = operations.RoleRow(role, organization or [], department or [])
    confirm(f"Take the role {held} from {login}?", yes)
    with acting() as context:
        rows = operations.withdraw(context, login, held, exact=False)
    if as_json:
        emit_json(rows)
    say(f"Administrator {login} is {'; '.join(map(str, rows)) or 'without a role'}.")


@administrators.command("deactivate")
def deactivate_administrator(login: Login, yes: Yes = False) -> None:
    """Lock an administrator out; his tokens become void."""
    from operations import administrators as operations

    confirm(f"Lock {login} out?", yes)
    with acting() as context:
        operations.deactivate(context, login)
    say(f"Administrator {login} is deactivated.")


@administrators.command("activate")
def activate_administrator(login: Login) -> None:
    """Let a deactivated or locked administrator in again."""
    from operations import administrators as operations

    with acting() as context:
        operations.activate(context, login)
    say(f"Administrator {login} is active.")


@administrators.command("password")
def set_password(login: Login, password_file: PasswordFile = None) -> None:
    """Set a password: one's own, or as MRAO anybody's. It is asked for, or read from a file."""
    from operations import administrators as operations

    password = secret(f"New password of {login}", password_file, twice=True)
    with acting() as context:
        operations.set_password(context, login, password)
    say(f"The password of {login} was set.")


@administrators.command("tokens")
def list_tokens(login: Login, as_json: Json = False) -> None:
    """List the access tokens that are good: one's own, or as MRAO anybody's."""
    from operations import administrators as operations

    with acting() as context:
        rows = operations.tokens(context, login)
    columns = {"ID": lambda row: row.id, "Made": lambda row: row.created_at, "Until": lambda row: row.expires_at}
    emit_rows(rows, as_json, columns, f"There is no token of {login}: `certgate administrator token` makes one.")


@administrators.command("token")
def make_token(
    login: Login,
    lifetime: Annotated[str, typer.Option(help="How long it is good: 12h, 30d.")] = "90d",
    token_file: Annotated[
        Path | None, typer.Option(help="Write it there (0600, must not exist) and don't print it.")
    ] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Make all tokens of this administrator void.")] = False,
    as_json: Json = False,
) -> None:
    """Make an access token, printed once: put it into CERTGATE_TOKEN, or use it with `certgate login`."""
    from operations import administrators as operations

    if revoke:
        with acting() as context:
            count = operations.revoke_tokens(context, login)
        if as_json:
            emit_json({"login": login, "revoked": count})
        say(f"{count} token(s) of {login} are void.")
        return
    with acting() as context:
        if token_file is not None:
            write_new(token_file, "")
        try:
            token = operations.token(context, login, duration(lifetime))
        except BaseException:
            if token_file is not None:
                token_file.unlink(missing_ok=True)
            raise
    if token_file is not None:
        token_file.write_text(token + "\n", encoding="utf-8")
    if as_json:
        emit_json({"login": login, "token_file": token_file} if token_file else {"login": login, "token": token})
    elif token_file is None:
        print(token)
    say(f"A token for {login}, good for {lifetime}: it is shown only now.")
