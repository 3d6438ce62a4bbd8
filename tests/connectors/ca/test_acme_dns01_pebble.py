"""dns-01 from order to certificate: a real Pebble with its delays and faults, which asks a real BIND."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from connectors.ca.acme import CONNECTOR, AcmeAuthority, authority
from connectors.ca.contract import CollectRequest, IssuedCertificate, OrderRequest
from connectors.errors import Pending, Permanent
from connectors.registry import Surroundings
from connectors.secrets import resolve
from model.keys import KeyAlgorithm
from model.rules.certificates import check_issued
from model.x509 import load_certificate, public_key_sha256
from tests.pki import make_csr, shared_key
from tests.support.bind import KEY, Bind
from tests.support.pebble import Pebble

Open = Callable[..., AcmeAuthority]


@pytest_asyncio.fixture(loop_scope="session")
async def open_ca(tmp_path: Path, dns_pebble: Pebble, name_servers: Bind) -> AsyncIterator[Open]:
    opened: list[AcmeAuthority] = []
    reached = {name: dns_pebble.settings[name] for name in ("directory_url", "ca_file", "terms_agreed")}

    def open_one(**settings: Any) -> AcmeAuthority:
        configured = CONNECTOR.configure({**reached, **name_servers.settings, **settings})
        opened.append(CONNECTOR.open(configured, Surroundings(tmp_path, resolve)))
        return opened[-1]

    yield open_one
    for ca in opened:
        await ca.close()


def order(*names: str, reference: str = "request-1") -> OrderRequest:
    return OrderRequest(reference, make_csr(shared_key(KeyAlgorithm.EC_P256), names), names[0], names)


async def obtain(ca: AcmeAuthority, request: OrderRequest) -> IssuedCertificate:
    placed = await ca.submit(request)
    while True:
        try:
            return await ca.collect(CollectRequest(placed.number, request))
        except Pending:
            await asyncio.sleep(0.1)


def checked(pebble: Pebble, issued: IssuedCertificate, request: OrderRequest) -> None:
    leaf = load_certificate(issued.certificate_pem)
    check_issued(
        issued.certificate_pem,
        issued.chain_pem,
        public_key_sha256=public_key_sha256(leaf),
        names=list(request.names),
        anchors=pebble.roots(),
        now=leaf.not_valid_before_utc,
    )


async def test_a_wildcard_and_its_parent_in_one_order_beside_another_order(
    dns_pebble: Pebble, name_servers: Bind, open_ca: Open
) -> None:
    # Four values at one name, of two orders at one time; each order takes away its own.
    ca, name = open_ca(), "both.example.test"
    requests = [order(name, f"*.{name}", reference=f"request-{number}") for number in (1, 2)]
    for request, issued in zip(
        requests, await asyncio.gather(*(obtain(ca, request) for request in requests)), strict=True
    ):
        checked(dns_pebble, issued, request)
    assert name_servers.texts(f"_acme-challenge.{name}") == set()


async def test_a_name_whose_proof_is_delegated(dns_pebble: Pebble, name_servers: Bind, open_ca: Open) -> None:
    request = order("www.static.test", "*.www.static.test")
    checked(dns_pebble, await obtain(open_ca(), request), request)
    assert name_servers.texts("www.acme.test") == set()


async def test_a_server_that_lags_is_named_until_it_has_caught_up(
    dns_pebble: Pebble, name_servers: Bind, open_ca: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority, "PATIENCE", timedelta(0))
    ca = open_ca(dns01_check_servers=[name_servers.primary, name_servers.secondary])
    request = order("lagging.example.test")
    placed = await ca.submit(request)
    with pytest.raises(Pending, match=r"waits for the proof of lagging\.example\.test") as caught:
        await ca.collect(CollectRequest(placed.number, request))
    [seen] = caught.value.validations
    assert (seen.name, seen.state, seen.method) == ("lagging.example.test", "pending", "dns-01")
    assert seen.missing == (
        "The record at _acme-challenge.lagging.example.test is shown by 1 of 2 DNS servers: "
        f"127.0.0.1 port {name_servers.secondary_port} shows none."
    )
    name_servers.catch_up()
    checked(dns_pebble, await obtain(ca, request), request)
    assert name_servers.texts("_acme-challenge.lagging.example.test") == set()


BY_PROGRAM = {"dns01_server": None, "dns01_key_name": None, "dns01_key_secret": None}


def program(folder: Path, servers: Bind, first: str) -> Path:
    """An administrator's program for the zone acme.test, which does `first` at first."""
    path = folder / "hook"
    path.write_text(f"""#!{sys.executable}
import pathlib, sys
import dns.query, dns.tsig, dns.update

verb, name, value = sys.argv[1:]
{first}
key = dns.tsig.Key("{KEY}", pathlib.Path("{servers.secret_file}").read_text(), "hmac-sha256")
update = dns.update.UpdateMessage("acme.test", keyring=key)
update.add(name + ".", 60, "TXT", value) if verb == "present" else update.delete(name + ".", "TXT", value)
sys.exit(dns.query.tcp(update, "127.0.0.1", 10, {servers.port}).rcode())
""")
    path.chmod(0o700)
    return path


async def test_a_program_proves_names(dns_pebble: Pebble, name_servers: Bind, open_ca: Open, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    noted = f'print(verb, name, file=open("{calls}", "a"))'
    ca = open_ca(**BY_PROGRAM, dns01_program=str(program(tmp_path, name_servers, noted)))
    request = order("hook.acme.test")
    checked(dns_pebble, await obtain(ca, request), request)
    told = calls.read_text().splitlines()
    assert set(told[:-1]) == {"present _acme-challenge.hook.acme.test"}
    assert told[-1] == "remove _acme-challenge.hook.acme.test"
    assert name_servers.texts("_acme-challenge.hook.acme.test") == set()


async def test_a_value_that_stays_keeps_no_certificate_back(
    dns_pebble: Pebble, name_servers: Bind, open_ca: Open, tmp_path: Path
) -> None:
    request, name = order("stays.acme.test"), "_acme-challenge.stays.acme.test"
    ca = open_ca(**BY_PROGRAM, dns01_program=str(program(tmp_path, name_servers, 'verb == "remove" and sys.exit(1)')))
    issued = await obtain(ca, request)
    checked(dns_pebble, issued, request)
    assert len(name_servers.texts(name)) == 1
    # It is known still, and taken away when the order is asked for once more and that is possible.
    assert await obtain(open_ca(), request) == issued
    assert name_servers.texts(name) == set()


async def test_what_a_person_must_mend_is_told_and_then_goes_on(
    dns_pebble: Pebble, name_servers: Bind, open_ca: Open
) -> None:
    request = order("mended.example.test")
    wrong = open_ca(dns01_key_secret=f"file:{name_servers.wrong_file}")
    placed = await wrong.submit(request)
    with pytest.raises(Permanent, match=r"has another secret for the TSIG key certgate \(BADSIG\)"):
        await wrong.collect(CollectRequest(placed.number, request))
    checked(dns_pebble, await obtain(open_ca(), request), request)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dns01_key_secret": None}, "dns01_key_name and dns01_key_secret belong together"),
        ({"dns01_key_secret": "c2VjcmV0"}, "must be a reference"),
        ({"dns01_key_name": "a..b"}, "is no name of a TSIG key"),
        ({"dns01_key_name": "schlüssel"}, "is no name of a TSIG key"),
        ({"dns01_program": "/bin/true"}, "dns01_program excludes dns01_server"),
        ({"dns01_program": "hook"}, "must be an absolute path"),
        ({"dns01_server": "ns1.example.com:dns"}, "must be a DNS server"),
        ({"dns01_server": "http://ns1.example.com"}, "must be a DNS server"),
        ({"dns01_resolvers": ["192.0.2.1:0"]}, "must be a DNS server"),
        ({"dns01_resolvers": ["192.0.2.1:99999"]}, "must be a DNS server"),
        ({"dns01_check_servers": ["[2001:db8::1"]}, "must be a DNS server"),
        ({"dns01_ttl_seconds": -1}, "greater than or equal to 0"),
        ({"dns01_key_algorithm": "hmac-md5.sig-alg.reg.int"}, "Input should be"),
    ],
)
def test_settings_that_are_wrong(name_servers: Bind, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(Permanent, match=message):
        CONNECTOR.configure({"directory_url": "https://ca.example/dir", **name_servers.settings, **settings})


@pytest.mark.parametrize(
    "server",
    ["192.0.2.1", "192.0.2.1:5353", "ns1.example.com", "ns1.example.com:53", "2001:db8::1", "[2001:db8::1]:5353"],
)
def test_servers_as_people_write_them(server: str) -> None:
    configured = CONNECTOR.configure({"directory_url": "https://ca.example/dir", "dns01_server": server})
    assert configured.dns01_server == server
    assert configured.methods == ("dns-01",)
