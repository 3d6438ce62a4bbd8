"""Whole requests at private CAs of others, on the real servers: from the manager and from a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509 as crypto

from connectors.registry import Surroundings
from model import x509
from model.states import CertificateStatus, InstallState
from model.tables import Certificate
from operations import authorities, trust
from operations.authorities import NewAuthority
from tests.support import cfssl
from tests.support.openbao import OpenBao
from tests.support.world import World
from worker.playground import DisposableNginx, served_by


@pytest_asyncio.fixture(loop_scope="session")
async def nginx(tmp_path: Path) -> AsyncIterator[DisposableNginx]:
    """An nginx with one virtual host."""
    with DisposableNginx(tmp_path / "nginx", ["www.example.com"]) as server:
        yield server


def kept(around: Surroundings, name: str, secret: str) -> str:
    """A secret in the home of the process that needs it."""
    path = around.home / name
    path.write_text(secret)
    path.chmod(0o600)
    return f"file:{path}"


async def installed(world: World, nginx: DisposableNginx, endpoint: str, ca: str) -> crypto.Certificate:
    """Request a certificate from `ca`, approve, and give it as it is served."""
    await world.endpoint(nginx, endpoint)
    number = await world.submit("www.example.com", endpoint=endpoint, ca=ca)
    await world.until(number, status=CertificateStatus.REQUESTED)
    await world.say(number, "approve")
    done = await world.until(number, state=InstallState.COMPLETED)
    assert await served_by(nginx) == done.issued_fingerprint
    [row] = [one for one in world.rows(Certificate) if one.id == done.certificate_id]
    return x509.load_certificate(row.pem)


@pytest.mark.parametrize("reached_from", ["manager", "gateway"])
async def test_openbao(shared_world: World, openbao: OpenBao, nginx: DisposableNginx, reached_from: str) -> None:
    world = shared_world
    around = world.surroundings if reached_from == "manager" else world.gateway_surroundings
    settings = {
        "address": openbao.address,
        "ca_file": str(openbao.ca_file),
        "mount": "pki_int",
        "role": "server",
        "role_id": openbao.role_id(),
        "secret_id": kept(around, "secret-id", openbao.secret_id()),
    }
    name = f"openbao-{reached_from}"
    new = NewAuthority(name, "vault", settings, reached_from)  # type: ignore[arg-type]
    await authorities.add(world.context("admin"), new, world.surroundings)
    if reached_from == "gateway":
        root = openbao.ask("GET", "pki/cert/ca")["data"]["certificate"]
        trust.add(world.context("admin"), root)
    leaf = await installed(world, nginx, f"web-{name}", name)
    assert x509.distinguished_name(leaf.issuer) == "CN=Test Intermediate pki_int"


async def test_cfssl(shared_world: World, nginx: DisposableNginx, tmp_path: Path) -> None:
    world = shared_world
    (tmp_path / "cfssl").mkdir()
    with cfssl.running(tmp_path / "cfssl") as server:
        settings = {
            "address": server.address,
            "profile": "signed",
            "auth_key": kept(world.surroundings, "cfssl-key", cfssl.AUTH_KEY),
        }
        await authorities.add(world.context("admin"), NewAuthority("cfssl", "cfssl", settings), world.surroundings)
        leaf = await installed(world, nginx, "web-cfssl", "cfssl")
        assert server.signed() == [leaf.serial_number]
