"""What is particular of each product: what is found in its own configuration, what it says when it refuses, files that
do not exist yet."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from connectors.endpoints.contract import Place
from connectors.endpoints.handshake import fingerprint
from connectors.endpoints.pem.dovecot import _blocks_in
from connectors.endpoints.pem.postgresql import _from_command_line, _read_configuration
from connectors.endpoints.starttls import StartTls
from connectors.errors import Permanent, RolledBack
from connectors.registry import Surroundings, find
from tests.support.dovecot import OTHER, DovecotProduct
from tests.support.installing import ThrowawayAuthority, fingerprint_of, local_host, no_secrets
from tests.support.pem import NAME, TlsServer, shown_by
from tests.support.postfix import PostfixProduct
from tests.support.postgresql import PostgresqlProduct
from tests.support.products import Installation


def opened(type_: str, home: Path, **settings: Any) -> Any:
    kind = find("endpoints", type_)
    return kind.open(kind.configure(settings), Surroundings(home, no_secrets, local_host()))


@pytest.fixture(scope="module")
def postfix() -> Iterator[PostfixProduct]:
    with PostfixProduct() as product:
        yield product


@pytest.fixture(scope="module")
def dovecot() -> Iterator[DovecotProduct]:
    with DovecotProduct() as product:
        yield product


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgresqlProduct]:
    with PostgresqlProduct() as product:
        yield product


# Files of any server.


async def test_files_that_do_not_exist_are_made_with_the_owner_and_mode_of_the_settings(
    tmp_path: Path, authority: ThrowawayAuthority
) -> None:
    path, key = tmp_path / 'a "new" file.pem', tmp_path / "new.key"
    settings: dict[str, Any] = {"certificate": str(path), "key": str(key)}
    (binding,) = await opened("pem", tmp_path, **settings).discover()
    assert binding.obstacle == f"{path} does not exist; put it there, or set owner and mode, so that it can be made."
    (binding,) = await opened("pem", tmp_path, certificate="/nowhere/at/all.pem").discover()
    assert "the folder /nowhere/at does not exist" in (binding.obstacle or "")
    settings |= {"owner": "nobody", "mode": "0640", "certificate_mode": "0604"}
    endpoint, material = opened("pem", tmp_path, **settings), authority.issue("a.example")
    (binding,) = await endpoint.discover()
    assert binding.obstacle is None
    await endpoint.write(binding.places[0], material)
    nobody = pwd.getpwnam("nobody")
    for one, mode in ((path, 0o604), (key, 0o640)):
        found = one.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (nobody.pw_uid, nobody.pw_gid, mode)
    settings["owner"] = "no-such-user-here"
    key.unlink()
    with pytest.raises(Permanent, match=r"The user no-such-user-here .* is not known on this host"):
        await opened("pem", tmp_path, **settings).write(binding.places[0], material)


async def test_der_and_a_chain_of_its_own(tmp_path: Path, authority: ThrowawayAuthority) -> None:
    for name in ("leaf.der", "key.der", "chain.pem"):
        (tmp_path / name).touch(0o600)
    paths = {name: str(tmp_path / f"{name}.{'pem' if name == 'chain' else 'der'}") for name in ("leaf", "key", "chain")}
    settings = {"certificate": paths["leaf"], "key": paths["key"], "chain": paths["chain"], "format": "der"}
    endpoint, material = opened("pem", tmp_path, **settings), authority.issue("a.example")
    place = (await endpoint.discover())[0].places[0]
    await endpoint.write(place, material)
    assert fingerprint(x509.load_der_x509_certificate((tmp_path / "leaf.der").read_bytes())) == fingerprint_of(material)
    assert (await endpoint.in_place(place)).chain
    await endpoint.check(place)
    (tmp_path / "key.der").write_bytes(b"nonsense")
    with pytest.raises(Permanent, match="holds no private key that can be read"):
        await endpoint.check(place)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"certificate": "relative.pem"}, "certificate"),
        ({"certificate": "/a/../b.pem"}, "without '..'"),
        ({"certificate": "/a.der", "format": "der"}, "name a key of its own"),
        ({"certificate": "/a.pem", "key": "/b", "key_first": True}, "key_first is for a file that has both"),
        ({"certificate": "/a.pem", "chain": "/a.pem"}, "chain must be a file of its own"),
        ({"certificate": "/a.pem", "owner": "x; reboot"}, "must be USER or USER:GROUP"),
        ({"certificate": "/a.pem", "mode": "99"}, "mode"),
        ({"certificate": "/a.pem", "listeners": ["a.example"]}, "listeners"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(Permanent, match=message):
        find("endpoints", "pem").configure(settings)


async def test_a_check_command_and_a_hook_are_told_in_their_words(
    tmp_path: Path, authority: ThrowawayAuthority
) -> None:
    with TlsServer(tmp_path) as product:
        there = Installation(product, tmp_path / "home")
        before, material = await there.state(), authority.issue(NAME)
        refusing = ["/bin/sh", "-c", "echo 'line 7 is odd' >&2; exit 3"]
        with pytest.raises(Permanent, match=r"are refused by the check command: line 7 is odd\."):
            await there.install(material, check_command=refusing)
        for hook, words in (
            (["/bin/sh", "-c", "echo no room >&2; exit 9"], "failed with exit status 9: no room"),
            (["/no/such/hook"], "The hook /no/such/hook failed: Can't run"),
            (["sleep", "600"], "The hook sleep did not end within 0.1 s and was stopped"),
        ):
            with pytest.raises(RolledBack, match=words):
                await there.install(material, hook=hook, hook_timeout_seconds=0.1)
            assert await there.state() == before
        report = await there.install(material)
        told = {step.name: step.outcome for step in report.steps}["activate"]
        assert told == f"requested: exit status 0\ntold {product.certificate}"


# PostgreSQL.


async def test_postgresql_tells_what_its_log_says(
    postgresql: PostgresqlProduct, authority: ThrowawayAuthority, tmp_path: Path
) -> None:
    there = Installation(postgresql, tmp_path)
    before, material = await there.state(), authority.issue("db.example")
    postgresql.break_next()
    with pytest.raises(
        RolledBack, match=r"did not take the certificate: could not load root certificate file"
    ) as caught:
        await there.install(material)
    postgresql.mend()
    assert "SSL configuration was not reloaded" in str(caught.value)
    assert await there.state() == before
    postgresql.key.chmod(0o644)
    with pytest.raises(RolledBack, match=r"would refuse the private key .* \(mode 0644\)"):
        await there.install(material)
    postgresql.key.chmod(0o600)
    assert (await there.install(material)).served_after == shown_by(postgresql.port, StartTls.POSTGRESQL)


async def test_postgresql_configuration_as_it_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text(
        "# comment\n\nPort=5433 # another\nssl on\nssl_cert_file='it''s \\'a\\' \\101'# close\n"
        "include 'b'\ninclude_if_exists nowhere\nlisten_addresses = 'a, *'\nport = 5434\n"
    )
    (tmp_path / "b").write_text("ssl_key_file = k.pem\r\nport = 1\n")
    found = await _read_configuration(local_host(), f"{tmp_path}/a.conf", "It")
    assert found == {
        "port": "5434",
        "ssl": "on",
        "ssl_cert_file": "it's 'a' A",
        "ssl_key_file": "k.pem",
        "listen_addresses": "a, *",
    }
    for text, words in (
        ("port = 1\nssl_cert_file = 'open\n", r"syntax error in .*a\.conf:2"),
        ("include_dir 'nowhere'\n", "nowhere .* does not exist"),
        ("include 'a.conf'\n", "again and again"),
        ("include 'gone.conf'\n", "does not exist"),
    ):
        (tmp_path / "a.conf").write_text(text)
        with pytest.raises(Permanent, match=words):
            await _read_configuration(local_host(), f"{tmp_path}/a.conf", "It")


def test_postgresql_command_line() -> None:
    opts = b'/usr/bin/postgres "-D" "/a b" "-p" "99" "-c" "ssl=on" "--ssl-key-file=/x y" "-h" "::1"\n'
    assert _from_command_line(opts) == {"port": "99", "ssl": "on", "ssl_key_file": "/x y", "listen_addresses": "::1"}


# Postfix.


async def test_postfix_finds_services_and_chain_files(postfix: PostfixProduct, tmp_path: Path) -> None:
    endpoint = Installation(postfix, tmp_path).endpoint
    general, other = await endpoint.discover()
    assert (general.id, other.id) == ("smtpd", f"127.0.0.1:{postfix.other_port}")
    assert general.places == (Place(str(postfix.chain), str(postfix.chain), form="pem-key-first"),)
    assert [(one.port, one.starttls) for one in general.listeners] == [
        (postfix.port, StartTls.SMTP),
        (postfix.tls_port, None),
    ]
    assert other.places == (Place(str(postfix.certificate), str(postfix.key)),)
    assert (general.shared_with, other.shared_with, general.obstacle, other.obstacle) == ((), (), None, None)


async def test_postfix_chain_files_in_every_order(postfix: PostfixProduct, tmp_path: Path) -> None:
    main = postfix.configuration / "main.cf"
    text = main.read_text()
    key, certificate, chain = str(postfix.key), str(postfix.certificate), str(postfix.chain)
    endpoint = Installation(postfix, tmp_path).endpoint

    async def found(value: str) -> Any:
        main.write_text(text + f"smtpd_tls_chain_files = {value}\n")
        try:
            return (await endpoint.discover())[0]
        finally:
            main.write_text(text)

    assert (await found(f"{key}, {certificate}")).places == (Place(certificate, key),)
    assert len((await found(f"{chain}\n  {key} {certificate}")).places) == 2
    assert "the key is first" in ((await found(f"{certificate}, {key}")).obstacle or "")
    assert "has no certificate after it" in ((await found(key)).obstacle or "")
    assert (await found("/nowhere/new.pem")).places == (
        Place("/nowhere/new.pem", "/nowhere/new.pem", form="pem-key-first"),
    )
    main.write_text(text + "a line without an equals sign\n")
    try:
        with pytest.raises(Permanent, match=r"refuses its configuration: .*missing '=' after attribute name"):
            await endpoint.check()
    finally:
        main.write_text(text)


async def test_postfix_takes_a_pair_of_another_service(
    postfix: PostfixProduct, authority: ThrowawayAuthority, tmp_path: Path
) -> None:
    there, material = Installation(postfix, tmp_path), authority.issue("mail.example")
    general = await there.served()
    other = f"127.0.0.1:{postfix.other_port}"
    assert (await there.install(material, other)).served_after == shown_by(postfix.other_port, StartTls.SMTP)
    assert await there.served() == general
    assert stat.S_IMODE(os.stat(postfix.key).st_mode) == 0o600  # noqa: PTH116


# Dovecot.


async def test_dovecot_serves_two_certificates_by_name(
    dovecot: DovecotProduct, authority: ThrowawayAuthority, tmp_path: Path
) -> None:
    there = Installation(dovecot, tmp_path)
    general, other = await there.endpoint.discover()
    assert (general.id, other.id, other.names) == ("default", f"local_name {OTHER}", (OTHER,))
    assert [(one.port, one.starttls) for one in general.listeners] == [
        (dovecot.port, StartTls.IMAP),
        (dovecot.tls_port, None),
    ]
    material, before = authority.issue(OTHER), await there.served()
    assert (await there.install(material, other.id)).served_after == fingerprint_of(material)
    assert shown_by(dovecot.port, StartTls.IMAP, OTHER) == fingerprint_of(material)
    assert await there.served() == before
    with pytest.raises(Permanent, match="does not belong"):
        await there.install(replace(material, private_key_pem=authority.issue(OTHER).private_key_pem), other.id)


async def test_dovecot_asks_doveconf_where_blocks_overlap(dovecot: DovecotProduct, tmp_path: Path) -> None:
    block = f"local 127.0.0.1 {{\n ssl_cert = <{dovecot.other_certificate}\n ssl_key = <{dovecot.other_key}\n}}\n"
    endpoint = Installation(dovecot, tmp_path).endpoint
    dovecot.configuration.write_text(dovecot.text + block)
    try:
        bindings = {one.id: one for one in await endpoint.discover()}
        assert [probe.listener.port for probe in bindings["local 127.0.0.1"].probes] == [dovecot.port, dovecot.tls_port]
        assert "no connection gets it" in (bindings["default"].obstacle or "")
        assert bindings["local 127.0.0.1"].shared_with == (f"local_name {OTHER}",)
        dovecot.configuration.write_text(dovecot.text + "ssl_cert = -----BEGIN CERTIFICATE-----\n")
        assert "is not a file" in ((await endpoint.discover())[0].obstacle or "")
        dovecot.configuration.write_text(dovecot.text + "nonsense here\n")
        with pytest.raises(Permanent, match=r"refuses its configuration: .* line 30: Expecting"):
            await endpoint.check()
    finally:
        dovecot.configuration.write_text(dovecot.text)


def test_dovecot_blocks() -> None:
    shown = "ssl_cert = </a\nlocal 10.0.0.1 {\n  local_name a.example b.example {\n    ssl_cert = </c\n  }\n}\n"
    shown += "service imap-login {\n  ssl_cert = </x\n}\nprotocol imap {\n  ssl_cert = </d\n}\n"
    assert [block.id for block in _blocks_in(shown, "ssl_cert")] == [
        "local 10.0.0.1 local_name a.example b.example",
        "protocol imap",
    ]
