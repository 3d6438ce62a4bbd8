"""The example of docs/write-a-ca.md, taken out of the page: built, installed, found, and used for a request."""

from __future__ import annotations

import asyncio
import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509 as crypto
from cryptography.hazmat.primitives import hashes

from connectors import registry
from connectors.ca.contract import (
    CertificateAuthority,
    CollectRequest,
    FindsOrders,
    OrderRequest,
    RevocationReason,
    RevokeRequest,
)
from connectors.errors import AuthorityFault, Pending, Rejected, Retryable
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model import x509
from model.keys import KeyAlgorithm
from model.states import CertificateStatus, InstallState
from operations import authorities, profiles, trust
from operations.authorities import NewAuthority
from tests import pki
from tests.support.world import World, world

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "write-a-ca.md"
NAME = "www.example.com"


def block(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example as a wheel that its own pyproject.toml makes, laid where Python finds it."""
    source, built, site = (tmp_path_factory.mktemp(name) for name in ("source", "built", "site"))
    (source / "certgate_dropfolder.py").write_text(block("python"))
    (source / "pyproject.toml").write_text(block("toml"))
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(built)], cwd=source, check=True, capture_output=True)
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(site)
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    registry.installed.cache_clear()
    yield source
    sys.path.remove(str(site))
    sys.modules.pop("certgate_dropfolder", None)
    importlib.invalidate_caches()
    registry.installed.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "drop"
    made.mkdir()
    return made


def opened(folder: Path, installed: Path) -> Any:
    kind = registry.find("cas", "dropfolder")
    return kind.open(kind.configure({"folder": str(folder)}), Surroundings(folder, resolve))


def order(reference: str = "certgate-1") -> OrderRequest:
    return OrderRequest(reference, pki.make_csr(pki.shared_key(KeyAlgorithm.EC_P256), [NAME]), NAME, [NAME])


def authority() -> pki.Issuer:
    now = datetime.now(UTC)
    return pki.make_ca("Offline CA", not_before=now - timedelta(days=1), not_after=now + timedelta(days=900))


def signed(issuer: pki.Issuer, csr_pem: str) -> str:
    """What the person with the offline CA does."""
    csr = x509.load_csr(csr_pem)
    now = datetime.now(UTC)
    builder = crypto.CertificateBuilder().subject_name(csr.subject).issuer_name(issuer.certificate.subject)
    builder = builder.public_key(csr.public_key()).serial_number(crypto.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=30))
    names = csr.extensions.get_extension_for_class(crypto.SubjectAlternativeName).value
    builder = builder.add_extension(names, critical=False)
    key = crypto.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return pki.pem(builder.add_extension(key, critical=False).sign(issuer.key, hashes.SHA256()))


def test_the_page_is_whole(installed: Path) -> None:
    """What the page shows is formatted and checked as our own code is."""
    for command in (
        ["ruff", "check", "--quiet", "--ignore=ARG002,E501"],
        ["mypy", "--strict", "--follow-imports=silent"],
    ):
        program = Path(sys.executable).parent / command[0]
        done = subprocess.run(
            [program, *command[1:], str(installed / "certgate_dropfolder.py")],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert tomllib.loads(block("toml"))["project"]["name"] == "certgate-dropfolder"


def test_it_is_found_and_its_settings_are_a_form(installed: Path, folder: Path) -> None:
    assert authorities.types()["dropfolder"] == "Drop folder"
    ca = opened(folder, installed)
    assert isinstance(ca, CertificateAuthority)
    assert isinstance(ca, FindsOrders)
    assert ("cas", "dropfolder", "1.0") in [(one.kind, one.name, one.version) for one in registry.modules()]


async def test_each_outcome(installed: Path, folder: Path) -> None:
    ca = opened(folder, installed)
    request = order()
    assert await ca.find(request) is None
    placed = await ca.submit(request)
    assert await ca.submit(request) == placed == await ca.find(request)
    assert [file.name for file in folder.iterdir()] == ["certgate-1.csr"]
    assert (await ca.check()).usable
    collecting = CollectRequest(placed.number, request)
    with pytest.raises(Pending, match="Nobody has laid"):
        await ca.collect(collecting)
    (folder / "certgate-1.pem").write_text("no certificate")
    with pytest.raises(AuthorityFault):
        await ca.collect(collecting)
    issuer = authority()
    leaf = signed(issuer, request.csr_pem)
    (folder / "certgate-1.pem").write_text(leaf + pki.pem(issuer.certificate))
    issued = await ca.collect(collecting)
    assert issued.certificate_pem == leaf
    assert list(issued.chain_pem) == [pki.pem(issuer.certificate)]
    (folder / "certgate-1.refused").write_text("not\nours")
    with pytest.raises(Rejected, match=r"refused \(not ours\)"):
        await ca.collect(collecting)
    serial = x509.serial_hex(x509.load_certificate(leaf))
    await ca.revoke(RevokeRequest(placed.number, leaf, serial, RevocationReason.SUPERSEDED))
    assert (folder / "certgate-1.revoke").read_text() == f"{serial} superseded\n"


async def test_without_its_folder_it_says_so(installed: Path, folder: Path) -> None:
    ca = opened(folder / "nowhere", installed)
    assert not (await ca.check()).usable
    with pytest.raises(Retryable, match="can't be written to"):
        await ca.submit(order())


@pytest_asyncio.fixture(loop_scope="session")
async def running(installed: Path, tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def test_a_request_goes_through_it(running: World, folder: Path) -> None:
    """As the page says it: added, trusted, used by a profile; the person signs; the request goes on by itself."""
    admin = running.context("admin")
    issuer = authority()
    settings = {"folder": str(folder), "look_every_seconds": "1"}
    row = await authorities.add(admin, NewAuthority("Offline CA", "dropfolder", settings), running.surroundings)
    trust.add(admin, pki.pem(issuer.certificate))
    profiles.add(admin, "offline", row.name)
    number = await running.submit(NAME, profile="offline")
    await running.until(number, state=InstallState.KEY_READY)
    await running.say(number, "approve")
    waiting = await running.until(number, status=CertificateStatus.APPLIED)
    assert waiting.order_number is not None
    csr = folder / f"{waiting.order_number}.csr"
    while not csr.exists():
        await asyncio.sleep(0.02)
    (folder / f"{waiting.order_number}.pem").write_text(signed(issuer, csr.read_text()))
    done = await running.until(number, state=InstallState.NOT_CONFIGURED)
    assert done.status == CertificateStatus.ISSUED
    assert len(list(folder.glob("*.csr"))) == 1
