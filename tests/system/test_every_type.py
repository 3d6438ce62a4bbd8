"""Each type of endpoint through the whole life of a certificate: request, approval, issue, install, served; a renewal;
an install that fails and is put back, and is retried without a new order. The engine, the CA and the products are real
(F5 and IIS: simulated devices); products with files are installed on locally and over SSH.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from model import messages, naming
from model.states import CertificateStatus, InstallState, KeyPlace
from model.tables import Certificate, Endpoint
from operations import certificates, requests
from operations.lookup import identity
from operations.requests import RequestDetail
from tests.support.apache import DisposableApache
from tests.support.dovecot import DovecotProduct
from tests.support.f5 import DisposableF5
from tests.support.haproxy import DisposableHAProxy
from tests.support.iis import SimulatedIis
from tests.support.keystore_files import KeystoreFile, ServedKeystore
from tests.support.nginx import NginxProduct
from tests.support.pem import PlainFiles, TlsServer
from tests.support.postfix import PostfixProduct
from tests.support.postgresql import PostgresqlProduct
from tests.support.products import Connected, Installation, Product
from tests.support.sshd import Sshd
from tests.support.tomcat import DisposableTomcat, TomcatProduct
from tests.support.world import World
from workflows.gateways import EndpointDiscoveryWorkflow


@contextmanager
def tomcat(folder: Path) -> Iterator[TomcatProduct]:
    """A Tomcat with its connector on a PKCS#12 file."""
    with DisposableTomcat(folder) as made:
        yield TomcatProduct(made)


IN_FILES: dict[str, Callable[[Path], AbstractContextManager[Product]]] = {
    "nginx": NginxProduct,
    "apache": DisposableApache,
    "haproxy": DisposableHAProxy,
    "haproxy-runtime": lambda folder: DisposableHAProxy(folder, update="runtime"),
    "pem": TlsServer,
    "pem-unserved": PlainFiles,
    "pkcs12": ServedKeystore,
    "jks": lambda folder: KeystoreFile(folder, "jks"),
    "tomcat": tomcat,
    "postfix": lambda _: PostfixProduct(),
    "dovecot": lambda _: DovecotProduct(),
    "postgresql": lambda _: PostgresqlProduct(),
}
DEVICES: dict[str, Callable[[Path], AbstractContextManager[Product]]] = {"f5": DisposableF5, "iis": SimulatedIis}


@pytest.fixture(scope="module")
def product(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One of them, running; the same for both ways to it."""
    with {**IN_FILES, **DEVICES}[request.param](tmp_path_factory.mktemp(request.param)) as made:
        if not made.running():
            made.start()
        yield made


@dataclass
class Life:
    """One product as an endpoint of the gateway, and what can be asked of it."""

    world: World
    product: Product
    endpoint: str
    seen: Installation

    async def requested(self) -> RequestDetail:
        """A certificate is asked for, approved and issued; gives how its installation ended."""
        first, *rest = self.product.names
        number = await self.world.submit(first, names=rest, endpoint=self.endpoint, binding=self.product.binding)
        await self.world.until(number, state=InstallState.KEY_READY)
        await self.world.say(number, "approve")
        return await self.ended(number)

    async def ended(self, number: int) -> RequestDetail:
        """How a request ended, for good or until somebody says a word."""
        async for detail in requests.watch(self.world.context("admin"), number, every=0.1):
            if detail.install_state in (InstallState.COMPLETED, InstallState.ROLLED_BACK, InstallState.FAILED):
                return detail
        raise AssertionError(self.world.show(number))

    def certificate(self, request_id: int) -> Certificate:
        """The certificate of a request."""
        with self.world.database.read() as session:
            return session.exec(select(Certificate).where(Certificate.request_id == request_id)).one()

    async def served(self) -> Sequence[str | None]:
        """What handshakes show, or the file of a product without them; looked at from outside certgate's gateway."""
        return sorted(set(await self.seen.served()), key=str)


async def added(world: World, product: Product, way: str, settings: dict[str, Any], home: Path, **more: Any) -> Life:
    """The product as an endpoint whose bindings are known."""
    name = f"{product.type} {way} {home.name}"
    if isinstance(product, Connected):
        way, settings = product.connection, product.connection_settings
    with world.database.write() as session:
        row = Endpoint(
            gateway_id=world.gateway_id,
            name=name,
            type=product.type,
            settings=product.settings,
            connection=way,
            connection_settings=settings,
            **more,
        )
        session.add(row)
        session.flush()
        number = identity(row)
    found = await world.client.execute_workflow(
        EndpointDiscoveryWorkflow.run,
        messages.DiscoveryStart(number, "test"),
        id=naming.discovery_workflow(number),
        task_queue=naming.MANAGER_QUEUE,
    )
    assert product.binding in [one.binding for one in world.bindings(number)], found
    return Life(world, product, name, Installation(product, home))


@pytest.mark.parametrize("product", [*IN_FILES, *DEVICES], indirect=True)
async def test_the_life_of_a_certificate(shared_world: World, product: Product, tmp_path: Path) -> None:
    own = "rest" if product.type.startswith("f5") else "local"
    await lived(await added(shared_world, product, own, {}, tmp_path))


@pytest.mark.parametrize("product", IN_FILES, indirect=True)
async def test_the_life_of_a_certificate_over_ssh(
    shared_world: World, product: Product, ssh_server: Sshd, tmp_path: Path
) -> None:
    await lived(await added(shared_world, product, "ssh", ssh_server.settings, tmp_path))


@pytest.mark.parametrize("product", ["nginx", "haproxy"], indirect=True)
async def test_keys_that_are_made_on_the_host_and_stay_there(
    shared_world: World, product: Product, ssh_server: Sshd, tmp_path: Path
) -> None:
    keystore = shared_world.gateway_surroundings.home / "keys"
    before = sorted(keystore.glob("*"))
    life = await added(shared_world, product, "ssh", ssh_server.settings, tmp_path, key_at_endpoint=True)
    await lived(life)
    assert sorted(keystore.glob("*")) == before


async def lived(life: Life) -> None:
    """First certificate, renewal, failure, way back, retry."""
    product = life.product
    before = await life.served()

    first = await life.requested()
    assert (first.status, first.install_state) == (CertificateStatus.ISSUED, InstallState.COMPLETED), first
    assert await life.served() == [first.issued_fingerprint] != before

    renewing = await certificates.renew(life.world.context("bob"), life.certificate(first.id).id or 0)
    renewed = await life.ended(renewing)
    assert renewed.install_state == InstallState.COMPLETED, renewed
    assert await life.served() == [renewed.issued_fingerprint] != [first.issued_fingerprint]

    state = await life.seen.state()
    product.break_next()
    try:
        failed = await life.requested()
        assert failed.install_state == InstallState.ROLLED_BACK, failed
        assert failed.reason
        assert await life.seen.state() == state
        assert await life.served() == [renewed.issued_fingerprint]
    finally:
        product.mend()
    order = failed.order_number
    await life.world.say(failed.id, "retry")
    retried = await life.world.until(failed.id, state=InstallState.COMPLETED)
    assert (retried.order_number, retried.issued_fingerprint) == (order, failed.issued_fingerprint)
    assert await life.served() == [failed.issued_fingerprint]
    # Of the keys that were made there, the one in use and the one before it are kept.
    kept = [name for name in life.seen.leftovers() if "certgate-key-request" in name]
    assert life.seen.leftovers() == kept
    assert len(kept) == (2 if first.key_place is KeyPlace.ENDPOINT else 0)
