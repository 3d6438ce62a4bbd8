"""Whether people can sign in through the OpenID Connect provider; part of `certgate doctor`."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from connectors.errors import ConnectorError
from connectors.secrets import resolve
from operations.health import Finding

_NAME = "OpenID Connect provider"
_PATIENCE = 10.0  # seconds
_LONGEST = 1_000_000  # bytes
_NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")


@dataclass(frozen=True)
class Asked:
    """What the settings say of the provider."""

    issuer: str
    metadata_url: str
    client_secret: str | None
    ca_file: Path | None


async def check(asked: Asked, secret: Callable[[str], bytes] = resolve) -> list[Finding]:
    """The secret can be read (`secret` resolves its reference); the provider answers, is the one that it should be, and
    can do what is needed."""
    findings = []
    if asked.client_secret is not None:
        try:
            await asyncio.to_thread(secret, asked.client_secret)
        except ConnectorError as error:
            findings.append(Finding(f"{_NAME}: client secret", False, str(error)))
    try:
        verify = ssl.create_default_context(cafile=asked.ca_file) if asked.ca_file else ssl.create_default_context()
        async with httpx.AsyncClient(verify=verify, timeout=_PATIENCE) as client:
            answer = await client.get(asked.metadata_url)
            answer.raise_for_status()
            metadata = json.loads(answer.content[:_LONGEST])
    except (httpx.HTTPError, OSError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        told = f"{asked.metadata_url} gives no metadata: {why} See issuer and ca_file under [oidc] in certgate.toml."
        return [*findings, Finding(_NAME, False, told)]
    return [*findings, _judged(asked, metadata if isinstance(metadata, dict) else {})]


def _judged(asked: Asked, metadata: dict[str, object]) -> Finding:
    if metadata.get("issuer") != asked.issuer:
        other = str(metadata.get("issuer"))[:200]
        told = f"{asked.metadata_url} is the metadata of {other!r}, not of {asked.issuer!r}: "
        return Finding(_NAME, False, told + "set 'issuer' under [oidc] exactly as the provider does.")
    missing = [name for name in _NEEDED if not metadata.get(name)]
    if missing:
        return Finding(_NAME, False, f"{asked.metadata_url} names no {', '.join(missing)}.")
    challenges = metadata.get("code_challenge_methods_supported")
    if isinstance(challenges, list) and "S256" not in challenges:
        return Finding(_NAME, False, f"{asked.issuer} does not support PKCE with S256, which certgate needs.")
    if not metadata.get("end_session_endpoint"):
        return Finding(_NAME, None, f"{asked.issuer} answers; it has no sign-out of its own, so signing out ends ours.")
    return Finding(_NAME, True, f"{asked.issuer} answers.")
