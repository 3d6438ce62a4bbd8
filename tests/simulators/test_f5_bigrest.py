"""The simulator through the eyes of another maker's client, bigrest: it does what that client expects of a device, and
our connector and that client see the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from bigrest.bigip import BIGIP
from bigrest.common.exceptions import RESTAPIError

from connectors.endpoints.procedure import look
from connectors.registry import Surroundings, find
from connectors.secrets import resolve
from tests.simulators.f5 import Faults, Simulator
from tests.support.f5 import settings_of
from tests.support.installing import ThrowawayAuthority, fingerprint_of
from tests.support.products import Described, Installation, shown

WWW = "/mgmt/tm/ltm/profile/client-ssl/~Common~www"


@pytest.fixture(scope="module")
def device() -> Iterator[Simulator]:
    with Simulator(faults=Faults.off()) as made:
        yield made


@pytest.fixture
def client(device: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[BIGIP]:
    """Signed in with a token, and its TLS verified."""
    device.reset()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(device.ca_file))
    made = BIGIP(device.address, "admin", device.password, request_token=True, session_verify=str(device.ca_file))
    yield made
    made.session.close()


def put(client: BIGIP, folder: Path, name: str, content: str | bytes) -> None:
    """Upload a file under a name."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    client.upload("/mgmt/shared/file-transfer/uploads", str(path))


def source(name: str, **more: str) -> dict[str, str]:
    """The body of a file object."""
    return {"name": name, "partition": "Common", "sourcePath": f"file:/var/config/rest/downloads/{name}", **more}


def test_it_binds_a_pair_in_a_transaction_and_it_is_served(client: BIGIP, device: Simulator, tmp_path: Path) -> None:
    material = ThrowawayAuthority().issue("www.example.com")
    assert material.private_key_pem is not None
    put(client, tmp_path, "new.key", material.private_key_pem)
    put(client, tmp_path, "new.crt", material.certificate_pem)
    put(client, tmp_path, "chain.crt", "".join(material.chain_pem))
    with client as transaction:
        assert transaction.properties["state"] == "STARTED"
        client.create("/mgmt/tm/sys/file/ssl-key", source("new.key"))
        client.create("/mgmt/tm/sys/file/ssl-cert", source("new.crt"))
        client.create("/mgmt/tm/sys/file/ssl-cert", source("chain.crt"))
        chain = [{"name": "www", "cert": "/Common/new.crt", "key": "/Common/new.key", "chain": "/Common/chain.crt"}]
        client.modify(WWW, {"certKeyChain": chain})
        assert client.session.headers["X-F5-REST-Coordination-Id"]
    assert shown(device.ports["vs_web"], "www.example.com") == fingerprint_of(material)
    found = client.load("/mgmt/tm/sys/file/ssl-cert/~Common~new.crt").properties
    assert found["fingerprint"].replace(":", "").lower() == f"sha256/{fingerprint_of(material)}"
    assert found["checksum"].endswith(hashlib.sha1(material.certificate_pem.encode()).hexdigest())
    bundle = client.load("/mgmt/tm/sys/file/ssl-cert/~Common~chain.crt/bundle-certificates")
    assert [one.properties["keyType"] for one in bundle] == ["ec-public", "ec-public"]
    client.command("/mgmt/tm/util/unix-rm", {"command": "run", "utilCmdArgs": "/var/config/rest/downloads/new.key"})
    told = client.command("/mgmt/tm/util/unix-ls", {"command": "run", "utilCmdArgs": "/var/config/rest/downloads"})
    assert "new.key" not in told
    assert "new.crt" in told


def test_a_transaction_fails_as_a_whole_and_single_changes_of_a_pair_do_too(
    client: BIGIP, device: Simulator, tmp_path: Path
) -> None:
    before = device.configuration
    authority = ThrowawayAuthority()
    first, second = authority.issue("www.example.com"), authority.issue("www.example.com")
    assert first.private_key_pem is not None
    put(client, tmp_path, "new.key", first.private_key_pem)
    put(client, tmp_path, "new.crt", second.certificate_pem)
    client.transaction_create()
    client.create("/mgmt/tm/sys/file/ssl-key", source("new.key"))
    client.create("/mgmt/tm/sys/file/ssl-cert", source("new.crt"))
    pair = {"name": "www", "cert": "/Common/new.crt", "key": "/Common/new.key"}
    client.modify(WWW, {"certKeyChain": [pair]})
    with pytest.raises(RESTAPIError) as caught:
        client.transaction_commit()
    told = "transaction failed:01070317:3: profile /Common/www's key and certificate do not match"
    assert told in str(caught.value)
    assert device.configuration is before
    assert not client.exist("/mgmt/tm/sys/file/ssl-key/~Common~new.key")
    for collection, name, file in (("ssl-key", "www.key", "new.key"), ("ssl-cert", "www.crt", "new.crt")):
        with pytest.raises(RESTAPIError, match="01070317"):
            client.modify(f"/mgmt/tm/sys/file/{collection}/~Common~{name}", {"sourcePath": source(file)["sourcePath"]})


def test_what_is_refused_has_the_devices_numbers(client: BIGIP, device: Simulator, tmp_path: Path) -> None:
    put(client, tmp_path, "bad.crt", "no certificate")
    put(client, tmp_path, "www.crt", ThrowawayAuthority().issue("x").certificate_pem)
    missing = {"name": "www", "cert": "/Common/www.crt", "key": "/Common/nowhere.key"}
    cases = [
        ("01020066", "create", "/mgmt/tm/sys/file/ssl-cert", source("www.crt")),
        ("01070712", "create", "/mgmt/tm/sys/file/ssl-cert", source("bad.crt")),
        ("01070712", "create", "/mgmt/tm/sys/file/ssl-cert", source("never-uploaded.crt")),
        ("01070277", "modify", WWW, {"certKeyChain": [missing]}),
        ("01020036", "modify", WWW.replace("www", "nowhere"), {"serverName": "a"}),
        ("0107149e", "modify", WWW.replace("www", "api"), {"serverName": "www.example.com"}),
        ("unknown property", "modify", WWW, {"certificate": "x"}),
    ]
    for number, verb, path, body in cases:
        with pytest.raises(RESTAPIError, match=number):
            getattr(client, verb)(path, body)
    for number, path in (
        ("01071349", "/mgmt/tm/sys/file/ssl-key/~Common~www.key"),
        ("01070320", WWW),
        ("01020036", "/mgmt/tm/sys/file/ssl-key/~Common~nowhere.key"),
    ):
        with pytest.raises(RESTAPIError, match=number):
            client.delete(path)
    assert device.configuration.profiles["/Common/www"]["serverName"] == "www.example.com"


def test_a_dry_run_changes_nothing_and_transactions_end(client: BIGIP, device: Simulator) -> None:
    client.transaction_create()
    client.modify(WWW, {"description": "tried"})
    told = client.transaction_validate()
    assert told.properties["state"] == "STARTED"
    assert "description" not in device.configuration.profiles["/Common/www"]
    client.transaction_commit()
    assert device.configuration.profiles["/Common/www"]["description"] == "tried"
    client.transaction_create()
    with pytest.raises(RESTAPIError, match="no room for reading"):
        client.load(WWW)
    device.end_transactions()
    with pytest.raises(RESTAPIError, match="There is no transaction"):
        client.modify(WWW, {"description": "again"})


def test_parts_of_a_file_have_to_follow_each_other(client: BIGIP, device: Simulator, tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    put(client, tmp_path, "long", content)
    assert device.active.files["/var/config/rest/downloads/long"] == content
    url = f"https://{device.address}/mgmt/shared/file-transfer/uploads/long"
    for content_range, size, status in (
        ("0-1048576/2000000", 1_048_577, 413),
        ("0-9/100", 11, 400),
        ("20-29/100", 10, 400),
        ("nonsense", 10, 400),
        ("", 10, 400),
    ):
        answer = client.session.post(url, data=b"x" * size, headers={"Content-Range": content_range})
        assert answer.status_code == status
    outside = url.replace("long", "..%2Fetc%2Fpasswd")
    answer = client.session.post(outside, data=b"x", headers={"Content-Range": "0-0/1"})
    assert answer.status_code == 400


def test_who_may_what(device: Simulator, client: BIGIP) -> None:
    assert client.load(WWW).properties["serverName"] == "www.example.com"
    with pytest.raises(RESTAPIError, match="Authentication failed"):
        BIGIP(device.address, "admin", "wrong", request_token=True, session_verify=str(device.ca_file))
    guest = BIGIP(device.address, "guest", device.password, session_verify=str(device.ca_file))
    with guest.session:
        assert guest.exist(WWW)
        with pytest.raises(RESTAPIError, match="Authorization failed"):
            guest.modify(WWW, {"description": "x"})
    device.end_tokens()
    with pytest.raises(RESTAPIError, match="X-F5-Auth-Token does not exist"):
        client.load(WWW)


def test_save_objects_and_read_status(client: BIGIP, device: Simulator) -> None:
    profile = client.load(WWW)
    profile.properties["description"] = "as a whole"
    client.save(profile)
    assert device.configuration.profiles["/Common/www"]["description"] == "as a whole"
    told = client.load("/mgmt/tm/cm/sync-status").properties["entries"]
    [status] = [one["nestedStats"]["entries"]["status"]["description"] for one in told.values()]
    assert status == "Changes Pending"
    client.command("/mgmt/tm/cm", {"command": "run", "utilCmdArgs": "config-sync to-group failover-group"})
    assert device.units[1].configuration is device.configuration


async def test_what_our_connector_does_that_client_sees(client: BIGIP, device: Simulator, tmp_path: Path) -> None:
    material = ThrowawayAuthority().issue("www.example.com")
    settings = settings_of(device, tmp_path)
    await Installation(Described("f5-big-ip", settings, "/Common/www", ()), tmp_path).install(material)
    [entry] = client.load(WWW).properties["certKeyChain"]
    told = client.load(f"/mgmt/tm/sys/file/ssl-cert/{entry['cert'].replace('/', '~')}").properties
    assert told["fingerprint"].replace(":", "").lower() == f"sha256/{fingerprint_of(material)}"
    assert client.exist(f"/mgmt/tm/sys/file/ssl-key/{entry['key'].replace('/', '~')}")
    kind = find("endpoints", "f5-big-ip")
    endpoint = kind.open(kind.configure(settings), Surroundings(tmp_path, resolve))
    seen = {one.id for one in await endpoint.discover()}
    every = {one.properties["fullPath"] for one in client.load("/mgmt/tm/ltm/profile/client-ssl")}
    assert seen == {one for one in every if one.startswith("/Common/") and not one.startswith("/Common/clientssl")}
    assert {one.fingerprint for one in await look(endpoint, "/Common/www")} == {fingerprint_of(material)}
