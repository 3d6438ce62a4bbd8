"""Certificate profiles: what kinds of certificate there are to ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import func
from sqlmodel import Session, col, select

from model.errors import Conflict, InvalidInput
from model.keys import KeyAlgorithm
from model.rules import names
from model.tables import CertificateAuthority, CertificateProfile, CertificateRequest
from operations import lookup
from operations.context import Context
from operations.lookup import identity
from operations.organizations import checked_name, refuse_if_used

# From a minute, for tests and demonstrations, to what any public CA ever allowed.
_SHORTEST, _LONGEST = 60, 825 * 86_400
_MOST_PATTERNS = 100
_LONGEST_AUTHORITY_PROFILE = 128


@dataclass(frozen=True)
class ProfileRow:
    """A line of the list. `allowed_names` empty allows every full name; `validity_seconds` None: the CA's own;
    `include_root` has servers send the root as well."""

    id: int
    name: str
    ca: str
    authority_profile: str | None
    key_algorithm: KeyAlgorithm
    validity_seconds: int | None
    reuse_key: bool
    allowed_names: list[str] = field(default_factory=list)
    include_root: bool = False


@dataclass(frozen=True)
class ProfileChange:
    """What a profile is made of, or what is to be changed of it: None leaves it. `authority_profile` empty and
    `validity_seconds` 0 take the CA's own again."""

    name: str | None = None
    ca: str | None = None
    authority_profile: str | None = None
    key_algorithm: KeyAlgorithm | None = None
    validity_seconds: int | None = None
    reuse_key: bool | None = None
    allowed_names: Sequence[str] | None = None
    include_root: bool | None = None


def listing(context: Context) -> list[ProfileRow]:
    """All profiles, by name; everybody who may ask for certificates has to know them."""
    with context.database.read() as session:
        rows = session.exec(select(CertificateProfile).order_by(col(CertificateProfile.name))).all()
        return [_row(session, row) for row in rows]


def show(context: Context, which: str | int) -> ProfileRow:
    """One profile. Raises `NotFound`."""
    with context.database.read() as session:
        return _row(session, lookup.profile(session, which))


def add(context: Context, name: str, ca: str, change: ProfileChange = ProfileChange()) -> ProfileRow:
    """Add a profile for a CA. Raises `InvalidInput`, `NotFound` (CA), `Conflict` (name), `NotPermitted`."""
    with context.acting("profile.added", "profile") as session:
        context.require_owner("add certificate profiles")
        row = CertificateProfile(name="", authority_id=identity(lookup.authority(session, ca)))
        _rename(session, row, name)
        _apply(session, row, change)
        session.add(row)
        session.flush()
        context.tell(session, "profile.added", "profile", f"Profile {row.name} was added.", object_id=row.id)
        return _row(session, row)


def edit(context: Context, which: str | int, change: ProfileChange, seen: ProfileRow | None = None) -> ProfileRow:
    """Change a profile; requests that were admitted keep what they have. `seen` is the profile as the change was made
    up. Raises as `add`, `NotFound`, and `Conflict` when somebody else changed it meanwhile."""
    with context.acting("profile.edited", "profile") as session:
        context.require_owner("edit certificate profiles")
        row = lookup.profile(session, which)
        name = row.name
        if seen is not None and _row(session, row) != seen:
            raise Conflict(f"Profile {seen.name} was edited meanwhile by somebody else: look at it again.")
        if change.name is not None and change.name.strip() != row.name:
            _rename(session, row, change.name)
        _apply(session, row, change)
        session.add(row)
        session.flush()
        context.tell(session, "profile.edited", "profile", f"Profile {name} was edited.", object_id=row.id)
        return _row(session, row)


def remove(context: Context, which: str | int) -> None:
    """Remove a profile that no request names. Raises `NotFound`, `Conflict`, `NotPermitted`."""
    with context.acting("profile.removed", "profile") as session:
        context.require_owner("remove certificate profiles")
        row = lookup.profile(session, which)
        used = select(func.count()).where(CertificateRequest.profile_id == identity(row))
        refuse_if_used(f"Profile {row.name}", {"request": session.exec(used).one()})
        session.delete(row)
        context.tell(session, "profile.removed", "profile", f"Profile {row.name} was removed.", object_id=row.id)


def _rename(session: Session, row: CertificateProfile, name: str) -> None:
    name = checked_name(name, "A profile's name")
    if session.exec(select(CertificateProfile.id).where(CertificateProfile.name == name)).first() is not None:
        raise Conflict(f"There is a certificate profile {name!r} already.")
    row.name = name


def _apply(session: Session, row: CertificateProfile, change: ProfileChange) -> None:
    if change.ca is not None:
        row.authority_id = identity(lookup.authority(session, change.ca))
    if change.authority_profile is not None:
        wanted = change.authority_profile.strip()
        if len(wanted) > _LONGEST_AUTHORITY_PROFILE or not wanted.isprintable():
            raise InvalidInput(f"A CA's profile has at most {_LONGEST_AUTHORITY_PROFILE} printable characters.")
        row.authority_profile = wanted or None
    row.key_algorithm = change.key_algorithm or row.key_algorithm
    if change.validity_seconds is not None:
        if change.validity_seconds and not _SHORTEST <= change.validity_seconds <= _LONGEST:
            raise InvalidInput(f"A validity is {_SHORTEST} to {_LONGEST} seconds, or 0 for the CA's own.")
        row.validity_seconds = change.validity_seconds or None
    if change.reuse_key is not None:
        row.reuse_key = change.reuse_key
    if change.include_root is not None:
        row.include_root = change.include_root
    if change.allowed_names is not None:
        for pattern in change.allowed_names:
            names.explain_pattern(pattern)
        if len(set(change.allowed_names)) > _MOST_PATTERNS:
            raise InvalidInput(f"A profile has at most {_MOST_PATTERNS} patterns of names.")
        row.allowed_names = list(dict.fromkeys(change.allowed_names))


def _row(session: Session, row: CertificateProfile) -> ProfileRow:
    return ProfileRow(
        id=identity(row),
        name=row.name,
        ca=session.get_one(CertificateAuthority, row.authority_id).name,
        authority_profile=row.authority_profile,
        key_algorithm=row.key_algorithm,
        validity_seconds=row.validity_seconds,
        reuse_key=row.reuse_key,
        allowed_names=list(row.allowed_names),
        include_root=row.include_root,
    )
