"""A Vault-compatible server as a client sees it: ways of signing in, tokens that end, KV secrets, what goes wrong."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import TypeAdapter, ValidationError

from connectors.errors import AuthorityFault, ConnectorError, Permanent, Retryable
from connectors.registry import utc_now
from connectors.secrets import Reference, resolve
from connectors.vault import Vault, VaultAccess, VaultSecrets
from tests.pki import DAY, PrivateKey, make_ca, make_leaf, new_key, pem
from tests.support.openbao import OpenBao
from tests.support.scripted import ServerTls, scripted, server_tls

HIDDEN = "s3cret-that-nobody-sees"


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def private_pem(key: PrivateKey) -> bytes:
    """A key without a passphrase, for a file."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signed_jwt(key: PrivateKey, claims: dict[str, Any]) -> str:
    """A JWT by ES256 (RFC 7518 section 3.4)."""
    assert isinstance(key, ec.EllipticCurvePrivateKey)

    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    head = f"{part(json.dumps({'alg': 'ES256'}).encode())}.{part(json.dumps(claims).encode())}"
    r, s = decode_dss_signature(key.sign(head.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{head}.{part(r.to_bytes(32) + s.to_bytes(32))}"


@pytest.fixture
def keep(tmp_path: Path) -> Callable[[str, str], str]:
    """Put a secret into a file, and give its reference."""

    def kept(name: str, value: str) -> str:
        path = tmp_path / name
        path.write_text(value)
        path.chmod(0o600)
        return f"file:{path}"

    return kept


@pytest.fixture
def by_role(openbao: OpenBao, keep: Callable[[str, str], str]) -> VaultAccess:
    return VaultAccess(
        address=openbao.address,
        ca_file=openbao.ca_file,
        role_id=openbao.role_id(),
        secret_id=keep("secret-id", openbao.secret_id()),
    )


@pytest.fixture
def by_token(openbao: OpenBao, keep: Callable[[str, str], str]) -> Callable[[str], VaultAccess]:
    def access(token: str) -> VaultAccess:
        return VaultAccess(address=openbao.address, ca_file=openbao.ca_file, token=keep("token", token))

    return access


Opened = Callable[..., Vault]


@pytest_asyncio.fixture
async def opened() -> AsyncIterator[Opened]:
    """Opens servers, and closes them at the end."""
    vaults = []

    def open_one(access: VaultAccess, clock: Callable[[], datetime] = utc_now) -> Vault:
        vaults.append(Vault("the Vault", access, resolve, clock))
        return vaults[-1]

    yield open_one
    for vault in vaults:
        await vault.close()


async def accessor_of(vault: Vault) -> str:
    """Which token it is, without the token."""
    return str((await vault.ask("GET", "auth/token/lookup-self")).data["accessor"])


# --- signing in -------------------------------------------------------------------------------------------------------


async def test_by_app_role_once_for_many_requests(openbao: OpenBao, by_role: VaultAccess, opened: Opened) -> None:
    vault = opened(by_role)
    found = await asyncio.gather(*(accessor_of(vault) for _ in range(20)))
    assert len(set(found)) == 1
    assert "certgate" in (await vault.token())["policies"]
    assert "id" not in await vault.token()


async def test_by_token(openbao: OpenBao, by_token: Callable[[str], VaultAccess], opened: Opened) -> None:
    vault = opened(by_token(openbao.token("certgate", ttl="1h")))
    assert (await vault.token())["policies"] == ["certgate", "default"]


async def test_by_client_certificate(openbao: OpenBao, tmp_path: Path, opened: Opened) -> None:
    now, key = datetime.now(UTC), new_key()
    issuer = make_ca("Root of clients", not_before=now - DAY, not_after=now + DAY)
    usage = ExtendedKeyUsageOID.CLIENT_AUTH
    leaf = make_leaf(issuer, key, [], common_name="certgate", usage=usage, not_before=now - DAY, not_after=now + DAY)
    (tmp_path / "client.pem").write_text(pem(leaf))
    (tmp_path / "client.key").write_bytes(private_pem(key))
    openbao.ask("POST", "sys/auth/cert", {"type": "cert"})
    try:
        trusted = {"certificate": pem(issuer.certificate), "token_policies": ["certgate"], "token_ttl": "1h"}
        openbao.ask("POST", "auth/cert/certs/manager", trusted)
        access = VaultAccess(
            address=openbao.address,
            ca_file=openbao.ca_file,
            client_certificate=tmp_path / "client.pem",
            client_key=tmp_path / "client.key",
            sign_in_role="manager",
        )
        vault = opened(access)
        assert "certgate" in (await vault.token())["policies"]
    finally:
        openbao.ask("DELETE", "sys/auth/cert")


async def test_by_jwt(openbao: OpenBao, keep: Callable[[str, str], str], opened: Opened) -> None:
    """A JWT that the server can check by a key that it knows, as it does for a cluster's service accounts."""
    key = new_key()
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    openbao.ask("POST", "sys/auth/cluster", {"type": "jwt"})
    try:
        openbao.ask("POST", "auth/cluster/config", {"jwt_validation_pubkeys": [public.decode()]})
        role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "token_policies": ["certgate"]}
        openbao.ask("POST", "auth/cluster/role/manager", role)
        now = int(datetime.now(UTC).timestamp())
        claims = {"sub": "certgate", "aud": "vault", "iat": now - 60, "nbf": now - 60, "exp": now + 600}
        token = signed_jwt(key, claims)
        access = VaultAccess(
            address=openbao.address,
            ca_file=openbao.ca_file,
            jwt=keep("jwt", token),
            sign_in_role="manager",
            sign_in_mount="cluster",
        )
        vault = opened(access)
        assert "certgate" in (await vault.token())["policies"]
    finally:
        openbao.ask("DELETE", "sys/auth/cluster")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "needs one way of signing in"),
        ({"token": "env:A", "role_id": "r", "secret_id": "env:B"}, "needs one way of signing in"),
        ({"role_id": "r"}, "belong together"),
        ({"client_certificate": "/a"}, "belong together"),
        ({"jwt": "env:A"}, "jwt needs sign_in_role"),
        ({"token": HIDDEN}, "not the secret itself"),
        ({"token": "env:A", "address": "http://vault.example.com"}, "must begin with https"),
        ({"token": "env:A", "address": f"https://u:{HIDDEN}@vault.example.com"}, "must be the server's address"),
        ({"token": "env:A", "sign_in_mount": "a/../b"}, "mounted at"),
    ],
)
def test_settings_that_make_no_sense(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told) as caught:
        VaultAccess.model_validate({"address": "https://vault.example.com", **fields})
    assert HIDDEN not in str(caught.value)


async def test_wrong_credentials(
    openbao: OpenBao, by_role: VaultAccess, keep: Callable[[str, str], str], opened: Opened
) -> None:
    wrong = by_role.model_copy(update={"secret_id": keep("wrong", HIDDEN)})
    with pytest.raises(Permanent, match=r"refuses to let us sign in by AppRole at auth/approle/login.*wrong") as caught:
        await opened(wrong).token()
    assert HIDDEN not in caught.value.message
    token = VaultAccess(address=openbao.address, ca_file=openbao.ca_file, token=keep("wrong", HIDDEN))
    with pytest.raises(Permanent, match=r"refuses the token that file:.*wrong names") as caught:
        await opened(token).token()
    assert HIDDEN not in caught.value.message
    with pytest.raises(Permanent, match="does not hold a token"):
        await opened(token.model_copy(update={"token": keep("odd", "a\x01b")})).token()


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_a_revoked_token_is_replaced_once(openbao: OpenBao, by_role: VaultAccess, opened: Opened) -> None:
    vault = opened(by_role)
    first = await accessor_of(vault)
    openbao.ask("POST", "auth/token/revoke-accessor", {"accessor": first})
    found = await asyncio.gather(*(accessor_of(vault) for _ in range(10)))
    assert first not in found
    assert len(set(found)) == 1


async def test_a_revoked_token_that_nobody_replaced(
    openbao: OpenBao, by_token: Callable[[str], VaultAccess], opened: Opened
) -> None:
    token = openbao.token("certgate", ttl="1h")
    vault = opened(by_token(token))
    await vault.token()
    openbao.ask("POST", "auth/token/revoke", {"token": token})
    with pytest.raises(Permanent, match="has ended or was revoked") as caught:
        await vault.token()
    assert token not in caught.value.message
    by_token(openbao.token("certgate", ttl="1h"))  # somebody puts another into the file
    assert (await vault.token())["policies"] == ["certgate", "default"]


async def test_a_token_is_renewed_before_it_ends(
    openbao: OpenBao, keep: Callable[[str, str], str], opened: Opened
) -> None:
    openbao.ask("POST", "auth/approle/role/brief", {"token_ttl": "10m", "token_max_ttl": "11m"})
    access = VaultAccess(
        address=openbao.address,
        ca_file=openbao.ca_file,
        role_id=openbao.role_id("brief"),
        secret_id=keep("secret-id", openbao.secret_id("brief")),
    )
    clock = Clock()
    vault = opened(access, clock)
    first = await accessor_of(vault)
    before = openbao.ask("POST", "auth/token/lookup-accessor", {"accessor": first})["data"]
    assert "last_renewal" not in before
    clock.now += timedelta(minutes=5)
    assert await accessor_of(vault) == first
    clock.now += timedelta(minutes=2)  # two thirds are over
    assert await accessor_of(vault) == first
    after = openbao.ask("POST", "auth/token/lookup-accessor", {"accessor": first})["data"]
    assert after["last_renewal"]


async def test_a_token_that_gets_no_longer_life_is_replaced(
    openbao: OpenBao, by_role: VaultAccess, opened: Opened
) -> None:
    openbao.ask("POST", "auth/approle/role/ending", {"token_ttl": "1h", "token_max_ttl": "1h"})
    Path(str(by_role.secret_id).removeprefix("file:")).write_text(openbao.secret_id("ending"))
    clock = Clock()
    vault = opened(by_role.model_copy(update={"role_id": openbao.role_id("ending")}), clock)
    first = await accessor_of(vault)
    openbao.ask("POST", "auth/approle/role/ending", {"token_ttl": "1m", "token_max_ttl": "1m"})
    clock.now += timedelta(minutes=50)
    assert await accessor_of(vault) != first


async def test_a_token_that_can_not_be_renewed_is_replaced(
    openbao: OpenBao, by_role: VaultAccess, opened: Opened
) -> None:
    openbao.ask("POST", "auth/approle/role/batch", {"token_ttl": "1h", "token_type": "batch"})
    secret = openbao.secret_id("batch")
    Path(str(by_role.secret_id).removeprefix("file:")).write_text(secret)
    clock = Clock()
    vault = opened(by_role.model_copy(update={"role_id": openbao.role_id("batch")}), clock)
    assert (await vault.token())["type"] == "batch"
    # Used up: one more sign-in is refused, and so is told.
    openbao.ask("POST", "auth/approle/role/batch/secret-id/destroy", {"secret_id": secret})
    clock.now += timedelta(minutes=30)
    await vault.token()
    clock.now += timedelta(minutes=20)
    with pytest.raises(Permanent, match="refuses to let us sign in by AppRole"):
        await vault.token()


async def test_a_policy_that_does_not_allow_it_is_told_and_costs_no_sign_in(
    openbao: OpenBao, by_role: VaultAccess, opened: Opened
) -> None:
    vault = opened(by_role)
    first = await accessor_of(vault)
    with pytest.raises(Permanent, match="does not let us write to sys/seal: add it to the policies"):
        await vault.ask("POST", "sys/seal", body={})
    assert await accessor_of(vault) == first


# --- the server -------------------------------------------------------------------------------------------------------


async def test_sealed_passes_by_itself(openbao: OpenBao, by_role: VaultAccess, opened: Opened) -> None:
    vault = opened(by_role)
    await vault.token()
    openbao.seal()
    try:
        with pytest.raises(Retryable, match="is sealed: somebody has to unseal it"):
            await vault.token()
        assert (await vault.health())["sealed"] is True
    finally:
        openbao.unseal()
    assert await vault.token()


async def test_nothing_is_mounted_there(
    openbao: OpenBao, by_token: Callable[[str], VaultAccess], opened: Opened
) -> None:
    vault = opened(by_token(openbao.token("root")))
    with pytest.raises(Permanent, match="has nothing mounted for nowhere/x"):
        await vault.ask("GET", "nowhere/x")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ServerTls:
    return server_tls(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize(
    ("status", "body", "headers", "error", "told"),
    [
        ("503 Service Unavailable", b"<html>", ["retry-after: 7"], Retryable, "is in trouble"),
        ("500 Internal Server Error", b'{"errors":["x"]}', [], Retryable, "is in trouble"),
        ("429 Too Many Requests", b"{}", ["retry-after: 7"], Retryable, "asks us to wait"),
        ("307 Temporary Redirect", b"", ["location: https://other.example/"], Retryable, "is a standby"),
        ("412 Precondition Failed", b"{}", [], Retryable, "has not caught up"),
        ("302 Found", b"", ["location: https://other.example/"], Permanent, "sends us elsewhere"),
        ("200 OK", b"<!doctype html><p>Sign in</p>", [], AuthorityFault, "an HTML page"),
        ("200 OK", b"[1]", [], AuthorityFault, "no object"),
        ("200 OK", b'{"data":', [], AuthorityFault, "no JSON"),
    ],
)
async def test_answers_that_are_none(
    tls: ServerTls,
    keep: Callable[[str, str], str],
    status: str,
    body: bytes,
    headers: list[str],
    error: type[ConnectorError],
    told: str,
    opened: Opened,
) -> None:
    async with scripted(tls.context) as server:
        server.answer(status, body, *headers)
        access = VaultAccess(
            address=f"https://127.0.0.1:{server.port}", ca_file=tls.ca_file, token=keep("token", HIDDEN)
        )
        vault = opened(access)
        with pytest.raises(error, match=told) as caught:
            await vault.token()
        assert HIDDEN not in caught.value.message
        if isinstance(caught.value, Retryable) and "retry-after: 7" in headers:
            assert caught.value.after == timedelta(seconds=7)


async def test_a_flood_a_cut_and_a_certificate_that_does_not_verify(
    tls: ServerTls, keep: Callable[[str, str], str], opened: Opened
) -> None:
    async with scripted(tls.context) as server:
        access = VaultAccess(
            address=f"https://127.0.0.1:{server.port}", ca_file=tls.ca_file, token=keep("token", HIDDEN)
        )
        server.stream(b"x" * 1_000_000, 50)
        vault = opened(access)
        with pytest.raises(AuthorityFault, match="sent more than"):
            await vault.token()
        server.says = [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", None]
        with pytest.raises(Retryable, match="was cut"):
            await vault.token()
        stranger = opened(access.model_copy(update={"ca_file": None}))
        with pytest.raises(Permanent, match="does not verify"):
            await stranger.token()


async def test_a_sign_in_without_a_token(tls: ServerTls, keep: Callable[[str, str], str], opened: Opened) -> None:
    async with scripted(tls.context) as server:
        answer = {"auth": {"client_token": "", "mfa_requirement": {"mfa_request_id": "x"}}}
        server.answer("200 OK", json.dumps(answer).encode())
        access = VaultAccess(
            address=f"https://127.0.0.1:{server.port}", ca_file=tls.ca_file, role_id="r", secret_id=keep("s", HIDDEN)
        )
        vault = opened(access)
        with pytest.raises(Permanent, match="wants more than AppRole"):
            await vault.token()


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def secrets(openbao: OpenBao, by_role: VaultAccess) -> VaultSecrets:
    openbao.ask("POST", "secret/data/certgate/ca", {"data": {"password": HIDDEN, "number": 7, "empty": ""}})
    openbao.ask("POST", "secret/data/certgate/gone", {"data": {"password": "x"}})
    openbao.ask("DELETE", "secret/data/certgate/gone")
    openbao.ask("POST", "old/certgate/ca", {"password": "välue"})
    return VaultSecrets(by_role, resolve)


def test_both_versions_of_the_engine(secrets: VaultSecrets) -> None:
    assert resolve("vault:secret/certgate/ca#password", {}, secrets) == HIDDEN.encode()
    assert resolve("vault:old/certgate/ca#password", {}, secrets) == "välue".encode()


async def test_also_where_a_loop_is_running(secrets: VaultSecrets) -> None:
    assert secrets("secret/certgate/ca", "password") == HIDDEN.encode()
    found = await asyncio.gather(*(asyncio.to_thread(secrets, "old/certgate/ca", "password") for _ in range(8)))
    assert set(found) == {"välue".encode()}


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("vault:secret/certgate/ca#other", "without a field of that name"),
        ("vault:secret/certgate/ca#number", "something other than a text"),
        ("vault:secret/certgate/ca#empty", "is empty"),
        ("vault:secret/certgate/none#password", "no secret there"),
        ("vault:secret/certgate/gone#password", "no secret there"),
        ("vault:secret/other/ca#password", "does not let us read secret/data/other/ca"),
        ("vault:pki_int/ca#certificate", "another engine than kv at pki_int: pki"),
        ("vault:nowhere/ca#password", "can't be had"),
        ("vault:secret/../sys#x", "must look like"),
        ("vault:secret#x", "must look like"),
        ("vault:secret/ca", "must look like"),
    ],
)
def test_what_can_not_be_had(secrets: VaultSecrets, reference: str, told: str) -> None:
    with pytest.raises(Permanent, match=told) as caught:
        resolve(reference, {}, secrets)
    assert HIDDEN not in caught.value.message


def test_without_a_server_it_is_said_where_one_is_set() -> None:
    with pytest.raises(Permanent, match=r"this process knows none: set \[vault\]"):
        resolve("vault:secret/ca#password")


def test_a_changed_secret_counts_after_a_few_seconds(openbao: OpenBao, by_role: VaultAccess) -> None:
    now = 0.0
    secrets = VaultSecrets(by_role, resolve, fresh=20, clock=lambda: now)
    openbao.ask("POST", "old/certgate/changing", {"password": "one"})
    assert secrets("old/certgate/changing", "password") == b"one"
    openbao.ask("POST", "old/certgate/changing", {"password": "two"})
    assert secrets("old/certgate/changing", "password") == b"one"
    now = 21.0
    assert secrets("old/certgate/changing", "password") == b"two"


def test_a_sealed_server_is_waited_for(openbao: OpenBao, secrets: VaultSecrets) -> None:
    openbao.seal()
    try:
        with pytest.raises(Retryable, match=r"vault:secret/certgate/ca#password can't be had: .* is sealed"):
            resolve("vault:secret/certgate/ca#password", {}, secrets)
    finally:
        openbao.unseal()
    assert resolve("vault:secret/certgate/ca#password", {}, secrets) == HIDDEN.encode()


def test_every_field_for_a_reference_takes_it() -> None:
    adapter: TypeAdapter[str] = TypeAdapter(Reference)
    assert adapter.validate_python("vault:secret/certgate/ca#password")
    for wrong in ("vault:secret/a/../b#x", "vault:/secret/a#x", "vault:secret/a#", "vault:secret/a#x#y", "vault:a#x\n"):
        with pytest.raises(ValidationError, match="not the secret itself"):
            adapter.validate_python(wrong)
