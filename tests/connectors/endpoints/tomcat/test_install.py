"""Tomcat keeps the contract of endpoints, with each kind of keystore and file that it has."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from connectors.endpoints.contract import Verification
from connectors.endpoints.procedure import look
from connectors.endpoints.tomcat.manager import Manager
from connectors.endpoints.tomcat.settings import TomcatSettings
from connectors.errors import Permanent, RolledBack
from tests.connectors.endpoints.conformance import EndpointConformance
from tests.support.installing import ThrowawayAuthority, fingerprint_of, trace
from tests.support.products import Installation, Product, keyless, shown
from tests.support.programs import program
from tests.support.tomcat import KEY_WORD, STORE_WORD, DisposableTomcat, TomcatProduct

P12, JKS = "tls/p12/keys.p12", "tls/jks/keys.jks"


@pytest.fixture(scope="module")
def tomcat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DisposableTomcat]:
    with DisposableTomcat(tmp_path_factory.mktemp("tomcat") / "base") as tomcat:
        yield tomcat


def installation(tomcat: DisposableTomcat, home: Path, host: str, *paths: str, **changes: object) -> Installation:
    return Installation(TomcatProduct(tomcat, host, paths, changes), home)


class TestConformance(EndpointConformance):
    """On a JKS whose key has a passphrase of its own."""

    @pytest.fixture
    def product(self, tomcat: DisposableTomcat) -> Product:
        return TomcatProduct(tomcat, "jks.example", [JKS])


@pytest.mark.parametrize(
    ("host", "names", "paths"),
    [
        ("p12.example", ["p12.example"], [P12]),
        ("pem.example", ["pem.example"], ["tls/pem/leaf.pem", "tls/pem/key.pem", "tls/pem/chain.pem"]),
        ("*.wild.example", ["*.wild.example"], ["tls/wild/both.pem"]),
    ],
)
@pytest.mark.parametrize("reload", ["manager", "jmx"])
async def test_every_kind_of_certificate_by_every_way(
    tomcat: DisposableTomcat,
    tmp_path: Path,
    authority: ThrowawayAuthority,
    host: str,
    names: list[str],
    paths: list[str],
    reload: str,
) -> None:
    user = {"manager": "certgate", "jmx": "bean"}[reload]
    place = installation(tomcat, tmp_path, host, *paths, reload=reload, manager_user=user)
    before = [trace(path) for path in place.product.files()]
    material = authority.issue(*names)
    report = await place.install(material)
    assert report.verification is Verification.MATCH
    (activate,) = [step for step in report.steps if step.name == "activate"]
    assert activate.outcome.startswith("done: OK - ")
    assert shown(tomcat.tls_port, host.replace("*", "a")) == fingerprint_of(material)
    for was, path in zip(before, place.product.files(), strict=True):
        now = trace(path)
        assert (now.owner, now.group, now.mode) == (was.owner, was.group, was.mode)
        assert now.inode != was.inode
    assert (await place.install(material)).already
    assert place.leftovers() == []


async def test_the_other_entries_of_a_keystore_stay(
    tomcat: DisposableTomcat, tmp_path: Path, authority: ThrowawayAuthority
) -> None:
    """By keytool's account: the key of somebody else is there, and our alias is spelled as it was."""
    file = tomcat.base / P12

    def listed() -> dict[str, str]:
        command = [program("keytool"), "-J-XX:TieredStopAtLevel=1", "-list", "-keystore", str(file)]
        told = subprocess.run([*command, "-storepass", STORE_WORD], capture_output=True, text=True, check=True).stdout
        return dict(re.findall(r"(\S+), .* PrivateKeyEntry, \n.*: ([0-9A-F:]+)", told))

    before = listed()
    await installation(tomcat, tmp_path, "p12.example", P12).install(authority.issue("p12.example"))
    after = listed()
    assert set(after) == {"webserver", "other"}
    assert (after["webserver"] != before["webserver"], after["other"] == before["other"]) == (True, True)


async def test_a_pem_key_keeps_its_passphrase(
    tomcat: DisposableTomcat, tmp_path: Path, authority: ThrowawayAuthority
) -> None:
    files = ("tls/pem/leaf.pem", "tls/pem/key.pem", "tls/pem/chain.pem")
    place = installation(tomcat, tmp_path, "pem.example", *files)
    material = authority.issue("pem.example")
    await place.install(material)
    leaf, key, chain = place.product.files()
    assert key.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert load_pem_private_key(key.read_bytes(), KEY_WORD.encode())
    assert (leaf.read_text(), chain.read_text()) == (material.certificate_pem, material.chain_pem[0])
    # Without a new key the one in place stays as it is.
    locked = key.read_bytes()
    loaded = load_pem_private_key(locked, KEY_WORD.encode())
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    again = authority.issue("pem.example", key=loaded)
    assert (await place.install(keyless(again))).served_after == fingerprint_of(again)
    assert key.read_bytes() == locked


async def test_rsa_and_ecdsa_of_one_host_are_exchanged_on_their_own(
    tomcat: DisposableTomcat, tmp_path: Path, authority: ThrowawayAuthority
) -> None:
    names = ("tls/two/rsa.pem", "tls/two/rsa.key", "tls/two/ec.pem", "tls/two/ec.key")
    place = installation(tomcat, tmp_path, "two.example", *names)
    before = [path.read_bytes() for path in place.product.files()]
    elliptic = authority.issue("two.example")
    assert (await place.install(elliptic)).verification is Verification.MATCH
    after = [path.read_bytes() for path in place.product.files()]
    assert (after[:2] == before[:2], after[2] != before[2]) == (True, True)
    other = authority.issue("two.example", key=rsa.generate_private_key(65537, 2048))
    assert (await place.install(other)).verification is Verification.MATCH
    assert [path.read_bytes() for path in place.product.files()][2:] == after[2:]
    served = {await _verified(place, one) for one in (elliptic, other)}
    assert served == {Verification.MATCH}


async def _verified(place: Installation, material: object) -> Verification:
    (seen,) = await look(place.endpoint, place.product.binding, expected=material)  # type: ignore[arg-type]
    return seen.verification


async def test_a_pair_that_does_not_match_is_found_before_tomcat_says_ok(
    tomcat: DisposableTomcat, tmp_path: Path, authority: ThrowawayAuthority
) -> None:
    """Tomcat answers OK, and no handshake succeeds any more: `check` is what stands between."""
    place = installation(tomcat, tmp_path, "*.wild.example", "tls/wild/both.pem")
    (file,) = place.product.files()
    sound, port = file.read_bytes(), tomcat.tls_port
    where = (await place.binding()).places[0]
    await place.endpoint.check(where)
    one, other = authority.issue("*.wild.example"), authority.issue("*.wild.example")
    assert other.private_key_pem is not None
    file.write_bytes(one.certificate_pem.encode() + other.private_key_pem)
    with pytest.raises(Permanent, match=r"^The private key in .* does not belong to the certificate in .*both\.pem"):
        await place.endpoint.check(where)
    status, told = tomcat.manage("sslReload?tlsHostName=*.wild.example")
    assert (status, told.split(" ")[0]) == (200, "OK")
    assert shown(port, "a.wild.example") is None
    # An install mends it: nothing that could be served was there before.
    await place.install(one)
    assert shown(port, "a.wild.example") == fingerprint_of(one)
    file.write_bytes(sound)
    tomcat.manage("sslReload?tlsHostName=*.wild.example")


async def test_what_tomcat_refuses_is_told_with_its_words(
    tomcat: DisposableTomcat, tmp_path: Path, authority: ThrowawayAuthority
) -> None:
    material = authority.issue("jks.example")

    async def told(**changes: object) -> str:
        place = installation(tomcat, tmp_path, "jks.example", JKS, **changes)
        before = await place.state()
        with pytest.raises(RolledBack) as caught:
            await place.install(material)
        assert await place.state() == before
        assert place.leftovers() == []
        return caught.value.message

    assert "refuses the credentials (status 403)" in await told(manager_user="nobody")
    assert "refuses the credentials (status 401)" in await told(manager_user="stranger")
    port = tomcat.plain_port
    nothing = await told(manager_url=f"http://127.0.0.1:{port}/elsewhere")
    assert "has no text interface (status 404): is the manager application deployed there" in nothing
    refused = await told(reload="hook", hook=["/bin/false"])
    assert refused.startswith("The hook /bin/false failed with exit status 1: it wrote nothing.")


async def test_a_restart_as_hook_is_waited_for(
    tomcat: DisposableTomcat, tmp_path: Path, authority: ThrowawayAuthority
) -> None:
    """It comes back when the old process has ended, as systemctl does; a handshake then would reach nobody."""
    place = installation(tomcat, tmp_path, "jks.example", JKS, reload="hook", hook=["/bin/true"])
    script = tmp_path / "restart"
    ended = f"kill -KILL {tomcat.process_id}; while kill -0 {tomcat.process_id} 2>/dev/null; do sleep 0.02; done"
    script.write_text(f"#!/bin/sh\n{ended}\necho 'Tomcat is down'\n")
    script.chmod(0o755)
    place.product.changes["hook"] = [str(script)]  # type: ignore[attr-defined]
    with tomcat.started_again():
        report = await place.install(authority.issue("jks.example"))
    (activate,) = [step for step in report.steps if step.name == "activate"]
    assert activate.outcome == "requested: exit status 0\nTomcat is down"
    assert report.verification is Verification.MATCH


async def test_the_manager_of_another_tomcat_is_noticed(
    tomcat: DisposableTomcat, tmp_path: Path, authority: ThrowawayAuthority
) -> None:
    """Its JMX proxy knows no connector on our port."""
    settings = TomcatSettings.model_validate({**tomcat.settings, "reload": "jmx", "manager_user": "bean"})
    async with Manager(settings, lambda _: (tomcat.base / "manager-pass").read_bytes()) as manager:
        with pytest.raises(Permanent, match="knows no connector on port 1: is it another Tomcat's"):
            await manager.reload_port(1)
        assert "OK" in await manager.reload_port(tomcat.tls_port)
