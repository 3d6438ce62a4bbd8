"""Keys and certificates on the device: what is there, and what of ours may go."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.endpoints.f5 import names
from connectors.endpoints.f5.bindings import Profile
from connectors.endpoints.f5.names import segment
from connectors.endpoints.f5.session import Session

CERTIFICATES = "/mgmt/tm/sys/file/ssl-cert"
KEYS = "/mgmt/tm/sys/file/ssl-key"
PROFILES = "/mgmt/tm/ltm/profile/client-ssl"
VIRTUALS = "/mgmt/tm/ltm/virtual"
# Besides those in use: the one that was in use before the present one, and the one that the next install replaces.
GENERATIONS_KEPT = 1


async def profile(session: Session, path: str) -> Profile | None:
    """A client-ssl profile; None where there is none."""
    found = await session.look(f"{PROFILES}/{segment(path)}")
    return Profile.of(found) if found is not None else None


async def profiles(session: Session) -> list[Profile]:
    """All that the user may see."""
    return [Profile.of(one) for one in await session.items(PROFILES)]


async def certificate(session: Session, path: str) -> dict[str, Any] | None:
    """What is told of a certificate; None where there is none."""
    return await session.look(f"{CERTIFICATES}/{segment(path)}")


async def fingerprints(session: Session, path: str) -> tuple[str, ...]:
    """SHA-256 of each certificate in a file, in its order; empty where there is no such file, or where the device does
    not tell it for each one in a bundle."""
    told = await certificate(session, path)
    if told is None:
        return ()
    if str(told.get("isBundle")).lower() != "true":
        own = fingerprint(told)
        return (own,) if own else ()
    items = await session.items(f"{CERTIFICATES}/{segment(path)}/bundle-certificates")
    found = [fingerprint(one) for one in items]
    return tuple(one for one in found if one) if all(found) else ()


def fingerprint(told: Mapping[str, Any]) -> str | None:
    """``SHA256/AA:BB:…`` as lower-case hex."""
    found = re.fullmatch(r"SHA256/([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){31})", str(told.get("fingerprint", "")))
    return found[1].replace(":", "").lower() if found else None


def dns_names(told: Mapping[str, Any]) -> list[str]:
    """Those of the subject alternative names, which the device tells as ``DNS:a, DNS:b``."""
    parts = re.split(r",\s*", str(told.get("subjectAlternativeName") or ""))
    return [one[4:].lower() for one in parts if one.startswith("DNS:")]


def authentication(told: Mapping[str, Any]) -> str:
    """``RSA`` or ``ECDSA``, as `certificates.authentication_of` calls it."""
    return "RSA" if str(told.get("keyType", "")).startswith("rsa") else "ECDSA"


async def ours(session: Session, profile_path: str) -> list[dict[str, Any]]:
    """The certificates that certgate made for a profile, chains left out, newest first."""
    begin = names.tag(profile_path)
    found = [
        one
        for one in await session.items(CERTIFICATES)
        if str(one.get("name", "")).startswith(f"{begin}-")
        and names.of_certificate(str(one.get("fullPath"))) is not None
    ]
    return sorted(found, key=lambda one: (str(one.get("createTime", "")), str(one.get("name"))), reverse=True)


def in_use(every: Sequence[Profile]) -> set[str]:
    """All that profiles name."""
    entries = [entry for one in every for entry in one.entries]
    return {path for entry in entries for path in (entry.certificate, entry.key, entry.chain) if path}


async def prune(session: Session, profile_path: str) -> None:
    """Delete generations of ours that nobody will go back to: not in use, and not the newest of those that aren't, for
    each key type. What something uses after all, the device keeps."""
    used = in_use(await profiles(session))
    idle: dict[str, list[str]] = {}
    for one in await ours(session, profile_path):
        if one["fullPath"] not in used:
            idle.setdefault(authentication(one), []).append(str(one["fullPath"]))
    for found in idle.values():
        await delete(session, profile_path, found[GENERATIONS_KEPT:])


async def delete(session: Session, profile_path: str, unwanted: Sequence[str]) -> None:
    """Delete certificates of ours with their chains and keys; a key that another certificate of ours is for stays."""
    left = {str(one["fullPath"]) for one in await ours(session, profile_path)} - set(unwanted) if unwanted else set()
    keys = {of.key for path in left if (of := names.of_certificate(path)) is not None}
    for path in unwanted:
        of = names.of_certificate(path)
        if of is None or not await session.delete(f"{CERTIFICATES}/{segment(of.certificate)}"):
            continue
        await session.delete(f"{CERTIFICATES}/{segment(of.chain)}")
        if of.key not in keys:
            await session.delete(f"{KEYS}/{segment(of.key)}")
