"""A certificate is replaced before its time: its names stay, its key and, where that is asked, its profile change."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.ca.contract import RevocationReason
from model.errors import Conflict, InvalidInput
from model.messages import OrderWord
from model.states import OrderWay, Privilege
from model.tables import CertificateProfile, CertificateRequest
from operations import lookup
from operations.certificates import order_now, scope_of, successor_of, unreplaceable, visible
from operations.context import Context
from operations.lookup import identity

LONGEST_REASON = 256


@dataclass(frozen=True)
class Replacement:
    """What is asked. `reason` is for the CA and the record. `new_key` False keeps the key, None as the profile has it.
    `profile` is another one for the new certificate, and with it another CA or key algorithm. `revocation_reason` (RFC
    5280 section 5.3.1): the old certificate is revoked with it once the new one is served."""

    reason: str = ""
    new_key: bool | None = True
    profile: str | int | None = None
    revocation_reason: str | None = None


async def replace(context: Context, certificate_id: int, wanted: Replacement = Replacement()) -> int:
    """Replace now; gives the number of the request that does it. The CA reissues within the order where it can.

    Raises `InvalidInput`, `NotFound`, `NotPermitted`, `Conflict` (replaced, or a request is open), `Unavailable`.
    """
    known = [str(word) for word in RevocationReason]
    if wanted.revocation_reason is not None and wanted.revocation_reason not in known:
        raise InvalidInput(
            f"{wanted.revocation_reason!r} is no reason for a revocation: use one of {', '.join(known)}."
        )
    if len(wanted.reason) > LONGEST_REASON:
        raise InvalidInput(f"A reason has at most {LONGEST_REASON} characters, not {len(wanted.reason)}.")
    if wanted.new_key is False and wanted.revocation_reason == RevocationReason.KEY_COMPROMISE:
        raise InvalidInput("A key that is compromised can't be kept: have a new one made.")
    with context.database.read() as session:
        scope = scope_of(visible(context, session, certificate_id))
    with context.acting("certificate.replace", "certificate", certificate_id, scope) as session:
        certificate = visible(context, session, certificate_id)
        context.require(Privilege.REPLACE, scope, f"replace certificate {certificate_id}")
        if wanted.revocation_reason is not None:
            context.require(Privilege.REVOKE, scope, f"revoke certificate {certificate_id}")
        refused = unreplaceable(certificate, successor_of(session, certificate_id))
        if refused is not None:
            raise Conflict(refused)
        if wanted.new_key is False and session.get_one(CertificateRequest, certificate.request_id).key_alias == "":
            raise InvalidInput(f"The key of certificate {certificate_id} is in no keystore of ours: have one made.")
        profile = lookup.profile(session, wanted.profile) if wanted.profile is not None else None
        told = f"Asked to replace certificate {certificate_id}" + (f": {wanted.reason}" if wanted.reason else ".")
        context.tell(session, "certificate.replace", "certificate", told, object_id=certificate_id, scope=scope)
        word = _word(context, wanted, profile)
    return await order_now(context, certificate_id, word)


def _word(context: Context, wanted: Replacement, profile: CertificateProfile | None) -> OrderWord:
    return OrderWord(
        administrator=context.actor.login,
        way=OrderWay.REPLACE,
        reason=" ".join(wanted.reason.split()),
        new_key=wanted.new_key,
        revocation_reason=wanted.revocation_reason,
        profile_id=identity(profile) if profile is not None else None,
    )
