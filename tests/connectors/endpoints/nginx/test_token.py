"""A real nginx whose key is in a token (SoftHSM, by OpenSSL's engine for PKCS#11): the certificate beside it is
exchanged, the key never leaves."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from connectors.endpoints.contract import Material
from connectors.endpoints.handshake import fingerprint
from connectors.endpoints.journal import Journal
from connectors.endpoints.nginx import CONNECTOR as NGINX
from connectors.endpoints.procedure import install
from connectors.errors import Permanent, RolledBack
from connectors.keystores.contract import SigningRequest
from connectors.keystores.pkcs11 import CONNECTOR as PKCS11
from connectors.registry import Surroundings, utc_now
from model.keys import KeyAlgorithm
from tests.pki import Issuer, make_ca, make_leaf, new_key, pem
from tests.support import softhsm
from tests.support.installing import local_host, pkcs8
from tests.support.products import shown, until
from tests.support.programs import program
from worker.playground import free_port

NAME = "a.example"
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def authority() -> Issuer:
    return make_ca("Root")


class TokenNginx:
    """nginx with one site, whose key is ``request-1`` of a new token."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.token = folder, free_port(), softhsm.new_token()
        self.certificate, self.configuration = folder / "site.pem", folder / "nginx.conf"
        (engine,) = Path("/usr/lib").glob("*/engines-3/pkcs11.so")
        (folder / "openssl.cnf").write_text(
            "openssl_conf = init\n[init]\nengines = engines\n[engines]\npkcs11 = pkcs11\n"
            f"[pkcs11]\nengine_id = pkcs11\ndynamic_path = {engine}\nMODULE_PATH = {softhsm.module()}\ninit = 0\n"
        )
        uri = f"pkcs11:token={self.token.replace(' ', '%20')};object=request-1;type=private"
        pin = softhsm.PIN.replace(" ", "%20")
        self.configuration.write_text(
            f"user root; pid {folder}/nginx.pid; error_log {folder}/error.log; env SOFTHSM2_CONF; env OPENSSL_CONF;\n"
            f"ssl_engine pkcs11; events {{}}\nhttp {{ access_log off; server {{ listen 127.0.0.1:{self.port} ssl;\n"
            f'server_name {NAME}; ssl_certificate "{self.certificate}";\n'
            f'ssl_certificate_key "engine:pkcs11:{uri}?pin-value={pin}"; return 200; }} }}\n'
        )
        given = {"OPENSSL_CONF": f"{folder}/openssl.cnf", "SOFTHSM2_CONF": os.environ["SOFTHSM2_CONF"]}
        self.command = [program("env"), *(f"{name}={value}" for name, value in given.items()), program("nginx")]

    def start(self) -> None:
        subprocess.run([*self.command, "-p", str(self.folder), "-c", str(self.configuration)], check=True, timeout=30)
        until(lambda: shown(self.port, NAME) is not None, "nginx serves with the key of the token")

    def stop(self) -> None:
        pid_file = self.folder / "nginx.pid"
        if pid_file.exists():
            os.kill(int(pid_file.read_text()), signal.SIGTERM)
            until(lambda: not pid_file.exists(), "nginx ends")


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[TokenNginx]:
    one = TokenNginx(tmp_path)
    yield one
    one.stop()


async def test_the_certificate_of_a_key_in_a_token(nginx: TokenNginx, authority: Issuer, tmp_path: Path) -> None:
    surroundings = Surroundings(tmp_path, lambda _: softhsm.PIN.encode(), local_host())
    keystore = PKCS11.open(
        PKCS11.configure({"module": softhsm.module(), "token": nginx.token, "pin": "env:PIN"}), surroundings
    )
    csr: Any = x509.load_pem_x509_csr(
        (await keystore.sign_request(SigningRequest("request-1", KeyAlgorithm.EC_P256, NAME, [NAME]))).encode()
    )

    def material(key: Any) -> Material:
        now = utc_now()
        leaf = make_leaf(authority, key, [NAME], not_before=now - HOUR, not_after=now + HOUR)
        return Material(pem(leaf), [pem(authority.certificate)], None)

    def fingerprint_of(one: Material) -> str:
        return fingerprint(x509.load_pem_x509_certificate(one.certificate_pem.encode()))

    first, second = material(csr), material(csr)
    nginx.certificate.write_text(first.certificate_pem)
    nginx.start()
    assert shown(nginx.port, NAME) == fingerprint_of(first)
    settings = {"configuration": str(nginx.configuration), "prefix": str(tmp_path), "command": nginx.command}
    endpoint, journal = NGINX.open(NGINX.configure(settings), surroundings), Journal(tmp_path / "journal")
    (binding,) = await endpoint.discover()

    async def installed(one: Material) -> str:
        report = await install(
            endpoint, binding.id, one, journal=journal, progress=lambda _: None, verify_timeout=timedelta(seconds=10)
        )
        return report.served_after

    assert await installed(second) == fingerprint_of(second) == shown(nginx.port, NAME)
    with pytest.raises(RolledBack, match=r"refuses its configuration: .*mismatch") as caught:
        await installed(material(new_key()))
    assert softhsm.PIN not in str(caught.value) + str(caught.value.steps)
    assert shown(nginx.port, NAME) == fingerprint_of(second)
    key = new_key()
    with_key = replace(material(key), private_key_pem=pkcs8(key))
    with pytest.raises(RolledBack, match=r"is in a token .* from a keystore of the type pkcs11"):
        await installed(with_key)
    assert shown(nginx.port, NAME) == fingerprint_of(second)
    nginx.configuration.write_text(nginx.configuration.read_text().replace("object=request-1", "object=nobody"))
    with pytest.raises(Permanent, match="pin-value=…") as refused:
        await endpoint.check()
    assert softhsm.PIN.replace(" ", "%20") not in refused.value.message
    assert sorted(path.name for path in tmp_path.glob(".*")) == []
