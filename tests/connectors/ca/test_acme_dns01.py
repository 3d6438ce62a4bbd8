"""dns-01 against real BIND servers: dynamic updates, aliases, several values at one name, who shows them, and hooks."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import dns.flags
import dns.update
import pytest
from acme import challenges
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from josepy import jwk

from connectors.ca.acme.challenges import dns01 as dns01_responder
from connectors.ca.acme.challenges import dns01_lookup
from connectors.ca.acme.challenges.contract import Challenge, Method, Responder
from connectors.ca.acme.challenges.dns01 import Dns01
from connectors.ca.acme.challenges.dns01_hook import HookPublisher
from connectors.ca.acme.challenges.dns01_lookup import Lookup
from connectors.ca.acme.challenges.dns01_record import validation_name, validation_value
from connectors.ca.acme.challenges.dns01_update import TsigAlgorithm, TsigKey, UpdatePublisher
from connectors.errors import Permanent, Retryable
from connectors.secrets import resolve
from model.errors import InvalidInput
from model.keys import KeyAlgorithm
from model.rules.names import normalize_name
from tests.pki import shared_key
from tests.support.bind import KEY, Bind


def challenge(name: str, token: str = "token") -> Challenge:
    return Challenge(name, Method.DNS_01, token, f"{token}.thumbprint")


def value(token: str = "token") -> str:
    return validation_value(f"{token}.thumbprint")


def updating(servers: Bind, **more: object) -> UpdatePublisher:
    settings: dict[str, object] = {
        "server": servers.primary,
        "key": TsigKey(KEY, f"file:{servers.secret_file}"),
        **more,
    }
    return UpdatePublisher(Lookup([servers.primary]), resolve, **settings)  # type: ignore[arg-type]


def responder(servers: Bind, **more: object) -> Dns01:
    return Dns01(updating(servers, **more), Lookup([servers.primary]), [servers.primary, servers.secondary])


# --- the record -------------------------------------------------------------------------------------------------------


def test_the_record_is_as_the_rfc_has_it() -> None:
    assert validation_name("www.example.org").to_text() == "_acme-challenge.www.example.org."
    # Another implementation's word for the value.
    key = jwk.JWKEC(key=shared_key(KeyAlgorithm.EC_P256))
    theirs = challenges.DNS01(token=b"\xfe" * 16)
    assert validation_value(theirs.key_authorization(key)) == theirs.validation(key)


@pytest.mark.parametrize(
    "name",
    ["", "*.example.test", "münchen.example", "10.0.0.7", "fd00::1", "-a.example", "a..example", "a b", "a.",
     "A.example", "x" * 64 + ".example", "_acme.example", "a.example\n", '"; rm'],
)  # fmt: skip
def test_what_is_no_name_has_no_record(name: str) -> None:
    with pytest.raises(Permanent, match="can't be proved by dns-01: it is no DNS name"):
        validation_name(name)


def test_a_name_may_leave_no_room_for_the_prefix() -> None:
    label = "a" * 62
    long = ".".join([label, label, label, "b" * 46])
    assert len(validation_name(long).to_wire() or b"") == 253
    with pytest.raises(Permanent, match="longer than the DNS allows"):
        validation_name(f"{long}.bbb")


LABELS = st.one_of(
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True), st.text("äöüßéñ中文字ж", max_size=9)
)


@settings(max_examples=100, deadline=None)
@given(st.lists(LABELS, min_size=1, max_size=4), st.booleans())
def test_every_name_that_may_be_requested_has_a_record(labels: list[str], wildcard: bool) -> None:
    try:
        name = normalize_name(".".join([*(["*"] if wildcard else []), *labels, "example", "test"]))
    except InvalidInput:
        reject()
    bare = name.removeprefix("*.")
    if len(bare) <= 253 - len("_acme-challenge."):
        assert validation_name(bare).to_text() == f"_acme-challenge.{bare}."
    else:
        with pytest.raises(Permanent, match="longer than the DNS allows"):
            validation_name(bare)


# --- dynamic update ---------------------------------------------------------------------------------------------------


async def test_a_record_comes_is_seen_by_all_servers_and_goes(name_servers: Bind) -> None:
    dns01: Responder = responder(name_servers, ttl=7)
    proof, name = challenge("www.example.test"), "_acme-challenge.www.example.test"
    await dns01.present(proof)
    assert name_servers.texts(name) == {value()}
    # Another process may do it again.
    await responder(name_servers, ttl=7).present(proof)
    assert name_servers.texts(name) == {value()}
    assert name_servers.ttl(name) == 7
    assert await dns01.settled(proof) == (
        f"The record at {name} is shown by 1 of 2 DNS servers: 127.0.0.1 port {name_servers.secondary_port} shows none."
    )
    name_servers.catch_up()
    assert await dns01.settled(proof) is None
    for _ in range(2):
        await dns01.remove(proof)
    assert name_servers.texts(name) == set()


async def test_values_of_several_orders_stand_beside_each_other(name_servers: Bind) -> None:
    # The wildcard, its parent, and another order prove one name at one time.
    dns01, name = responder(name_servers), "_acme-challenge.several.example.test"
    proofs = [challenge("several.example.test", token) for token in ("one", "two", "three")]
    await asyncio.gather(*(dns01.present(proof) for proof in proofs))
    assert name_servers.texts(name) == {value(token) for token in ("one", "two", "three")}
    name_servers.catch_up()
    assert await asyncio.gather(*(dns01.settled(proof) for proof in proofs)) == [None, None, None]
    await dns01.remove(proofs[1])
    assert name_servers.texts(name) == {value("one"), value("three")}
    await dns01.present(challenge("several.example.test", "four"))
    told = await dns01.settled(challenge("several.example.test", "four"))
    assert told is not None
    assert told.endswith("shows other values.")
    for token in ("one", "three", "four"):
        await dns01.remove(challenge("several.example.test", token))
    assert name_servers.texts(name) == set()


@pytest.mark.parametrize(
    ("name", "owner"),
    [("www.static.test", "www.acme.test"), ("static.test", "all.acme.test"), ("twice.static.test", "twice.acme.test")],
)
async def test_an_alias_leads_to_the_zone_that_may_be_changed(name_servers: Bind, name: str, owner: str) -> None:
    dns01 = Dns01(updating(name_servers), Lookup([name_servers.primary]), [name_servers.primary])
    await dns01.present(challenge(name))
    assert name_servers.texts(owner) == {value()}
    # Whoever asks for the record of the name itself gets it by the alias.
    assert name_servers.texts(f"_acme-challenge.{name}") == {value()}
    assert await dns01.settled(challenge(name)) is None
    await dns01.remove(challenge(name))
    assert name_servers.texts(owner) == set()


async def test_the_zones_own_servers_are_asked(name_servers: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns01_lookup, "DNS_PORT", name_servers.port)
    lookup = Lookup([name_servers.primary], 2)
    # Neither the server for updates nor the ones to look at are set: SOA and NS name them.
    zone = await lookup.zone(validation_name("own.example.test"))
    assert (str(zone), str(zone.primary)) == ("example.test", "ns1.example.test.")
    servers = [(server.name, server.addresses) for server in await lookup.authorities(zone)]
    assert servers == [("ns1.example.test", ("127.0.0.1",)), ("ns2.example.test", ("127.0.0.2",))]
    key = TsigKey(KEY, f"file:{name_servers.secret_file}")
    dns01 = Dns01(UpdatePublisher(lookup, resolve, key=key), lookup)
    for name, lacks in (("own.acme.test", ""), ("own.example.test", "ns2.example.test")):
        await dns01.present(challenge(name))
        told = await dns01.settled(challenge(name)) or ""
        assert told.partition(": ")[2].partition(" does")[0] == lacks
        await dns01.remove(challenge(name))
    assert told == (
        "The record at _acme-challenge.own.example.test is shown by 1 of 2 DNS servers: "
        "ns2.example.test does not answer within 2 s."
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("circle.static.test", r"The aliases \(CNAME\) of _acme-challenge.circle.static.test go in a circle"),
        ("self.static.test", "go in a circle by _acme-challenge.self.static.test: correct them"),
        ("long.static.test", "have no end after 10"),
        (
            "www.nowhere.test",
            "The DNS has no zone for _acme-challenge.www.nowhere.test: look whether",
        ),
        ("static.test.nowhere", "The DNS has no zone"),
        (
            "plain.static.test",
            r"refuses to update zone static.test \(REFUSED\): allow it there for the TSIG key",
        ),
    ],
)
async def test_what_a_person_must_mend(name_servers: Bind, name: str, message: str) -> None:
    with pytest.raises(Permanent, match=message):
        await responder(name_servers).present(challenge(name))


async def test_a_server_that_does_not_hold_the_zone(name_servers: Bind) -> None:
    dns01 = responder(name_servers, server=name_servers.secondary)
    with pytest.raises(Permanent, match=r"does not hold zone acme.test \(NOTAUTH\): set the server that is"):
        await dns01.present(challenge("held.acme.test"))
    # A resolver that is none.
    with pytest.raises(Permanent, match=r"No DNS resolver tells of .*nowhere.test: .* port \d+ answers with REFUSED"):
        await Lookup([name_servers.secondary]).zone(validation_name("nowhere.test"))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, r"refuses to update zone example.test \(REFUSED\): allow it there for no key"),
        (("another", TsigAlgorithm.SHA256), r"does not know the TSIG key another \(BADKEY\)"),
        ((KEY, TsigAlgorithm.SHA512), r"\(BADKEY\): compare its name and algorithm"),
    ],
)
async def test_keys_that_the_server_does_not_have(
    name_servers: Bind, key: tuple[str, TsigAlgorithm] | None, message: str
) -> None:
    made = TsigKey(key[0], f"file:{name_servers.secret_file}", key[1]) if key else None
    with pytest.raises(Permanent, match=message):
        await responder(name_servers, key=made).present(challenge("keys.example.test"))
    assert name_servers.texts("_acme-challenge.keys.example.test") == set()


async def test_secrets_that_are_wrong(name_servers: Bind, tmp_path: Path) -> None:
    wrong = TsigKey(KEY, f"file:{name_servers.wrong_file}")
    with pytest.raises(Permanent, match=r"has another secret for the TSIG key certgate \(BADSIG\)") as caught:
        await responder(name_servers, key=wrong).present(challenge("keys.example.test"))
    assert name_servers.wrong_file.read_text().strip() not in str(caught.value)
    garbage = tmp_path / "garbage"
    garbage.write_text("not base64 at all!")
    garbage.chmod(0o600)
    with pytest.raises(Permanent, match="is no TSIG secret: it must be Base64") as caught:
        await responder(name_servers, key=TsigKey(KEY, f"file:{garbage}")).present(challenge("keys.example.test"))
    assert "not base64" not in str(caught.value)


async def test_clocks_that_differ(name_servers: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    dns01 = responder(name_servers)
    await dns01.present(challenge("clocks.example.test"))
    monkeypatch.setattr(time, "time", lambda: real() - 4000)
    with pytest.raises(Retryable, match=r"clocks that differ too much for the TSIG key certgate \(BADTIME\)"):
        await responder(name_servers).present(challenge("clocks.example.test"))
    monkeypatch.undo()
    await dns01.remove(challenge("clocks.example.test"))


# --- servers that are away, hang, or talk nonsense --------------------------------------------------------------------


@contextmanager
def silent() -> Iterator[int]:
    """A port where nobody answers: connections wait, datagrams vanish."""
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        stream.bind(("127.0.0.1", 0))
        stream.listen()
        datagrams.bind(("127.0.0.1", stream.getsockname()[1]))
        yield stream.getsockname()[1]


@contextmanager
def away() -> Iterator[int]:
    """A port that is taken and closed."""
    with socket.socket() as stream:
        stream.bind(("127.0.0.1", 0))
        yield stream.getsockname()[1]


class Speaker:
    """A DNS server over TCP that says what it is told to."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        said = self.answer
        if said is None:
            # What a stranger can say who does not have the key: that update was done.
            response = dns.update.UpdateMessage("example.test", id=int.from_bytes(question[:2], "big"))
            response.flags |= dns.flags.QR
            said = response.to_wire()
        writer.write(len(said).to_bytes(2, "big") + said if said else b"")
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def speaker() -> AsyncIterator[tuple[Speaker, str]]:
    made = Speaker(None)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    async with server:
        yield made, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_server_for_updates_that_is_away(name_servers: Bind) -> None:
    with away() as port, pytest.raises(Retryable, match=rf"127.0.0.1 port {port} can't be reached \(.*refused\)"):
        await responder(name_servers, server=f"127.0.0.1:{port}").present(challenge("away.example.test"))


async def test_a_server_that_hangs(name_servers: Bind) -> None:
    with silent() as port:
        slow = Lookup([f"127.0.0.1:{port}"], 0.2)
        with pytest.raises(Retryable, match=r"No DNS resolver tells of .*: .* port \d+ does not answer within 0.2 s"):
            await slow.canonical(validation_name("www.example.test"))
        # The next resolver is asked where one does not answer.
        assert await Lookup([f"127.0.0.1:{port}", name_servers.primary], 2).zone(validation_name("www.example.test"))
        impatient = Lookup([name_servers.primary], 2)
        publisher = UpdatePublisher(impatient, resolve, server=f"127.0.0.1:{port}")
        with pytest.raises(Retryable, match=r"does not answer within 2 s: zone example.test could not be updated"):
            await Dns01(publisher, impatient).present(challenge("www.example.test"))


@pytest.mark.parametrize(("answer", "why"), [(b"", "cuts the connection"), (b"what?", "gives no valid answer")])
async def test_a_server_that_talks_nonsense(
    name_servers: Bind, speaker: tuple[Speaker, str], answer: bytes, why: str
) -> None:
    speaker[0].answer = answer
    with pytest.raises(Retryable, match=why):
        await responder(name_servers, server=speaker[1]).present(challenge("www.example.test"))


async def test_an_answer_without_the_keys_signature_is_not_believed(
    name_servers: Bind, speaker: tuple[Speaker, str]
) -> None:
    with pytest.raises(Retryable, match="gives no valid answer"):
        await responder(name_servers, server=speaker[1]).present(challenge("www.example.test"))


async def test_a_server_whose_name_does_not_resolve(name_servers: Bind) -> None:
    with pytest.raises(Retryable, match=r"The name of the DNS server ns\.invalid can't be resolved"):
        await responder(name_servers, server="ns.invalid").present(challenge("www.example.test"))


# --- the hook ---------------------------------------------------------------------------------------------------------


PROGRAM = """#!{python}
import pathlib, sys
import dns.name, dns.query, dns.tsig, dns.update

verb, name, value = sys.argv[1:]
key = dns.tsig.Key("{key}", pathlib.Path("{file}").read_text(), "hmac-sha256")
owner = dns.name.from_text(name)
update = dns.update.UpdateMessage(owner.parent().parent(), keyring=key)
if verb == "present":
    update.add(owner, 60, "TXT", value)
else:
    update.delete(owner, "TXT", value)
sys.exit(dns.query.tcp(update, "127.0.0.1", 10, {port}).rcode())
"""


def hook(folder: Path, script: str) -> Path:
    path = folder / "hook"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return path


def hooked(servers: Bind, program: Path, patience: float = 30) -> Dns01:
    return Dns01(HookPublisher(program, timedelta(seconds=patience)), Lookup([servers.primary]), [servers.primary])


async def test_a_program_is_called_with_the_record_and_nothing_else(
    name_servers: Bind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERTGATE_SECRET", "never")
    seen = tmp_path / "seen"
    dns01 = hooked(name_servers, hook(tmp_path, f'(echo "$# $*"; env; pwd; cat) >> {seen}'))
    await dns01.present(challenge("www.static.test"))
    await dns01.remove(challenge("example.test", "t"))
    lines = seen.read_text().splitlines()
    assert sum("remove" in line for line in lines) == 1
    # An alias is followed for a program too.
    assert lines[0] == f"3 present www.acme.test {value()}"
    assert f"3 remove _acme-challenge.example.test {value('t')}" in lines
    told = {line.partition("=")[0] for line in lines if "=" in line and "remove" not in line}
    assert told <= {"PATH", "LC_ALL", "PWD", "SHLVL", "_", "OLDPWD"}
    assert "/" in lines


async def test_a_program_publishes_and_all_servers_are_looked_at(name_servers: Bind, tmp_path: Path) -> None:
    # The other end of the hook is the same BIND, changed by a program that an administrator may have written.
    program = tmp_path / "hook"
    program.write_text(
        PROGRAM.format(python=sys.executable, key=KEY, file=name_servers.secret_file, port=name_servers.port)
    )
    program.chmod(0o700)
    dns01, proof = hooked(name_servers, program), challenge("hooked.example.test")
    assert await dns01.settled(proof) is not None
    await dns01.present(proof)
    assert await dns01.settled(proof) is None
    await dns01.remove(proof)
    assert name_servers.texts("_acme-challenge.hooked.example.test") == set()


async def test_a_program_is_not_called_at_every_look(
    name_servers: Bind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, proof = tmp_path / "seen", challenge("looks.example.test")
    dns01 = hooked(name_servers, hook(tmp_path, f"echo $1 >> {seen}"))
    for _ in range(3):
        await dns01.present(proof)
    assert seen.read_text().split() == ["present"]
    # After a while it is: somebody may have taken the record away.
    with monkeypatch.context() as later:
        later.setattr(dns01_responder, "REPEATED_SECONDS", 0.0)
        await dns01.present(proof)
    assert seen.read_text().split() == ["present", "present"]
    await dns01.remove(proof)
    await dns01.present(proof)
    assert seen.read_text().split() == ["present", "present", "remove", "present"]


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("exit 3", Permanent, r"\(present _acme-challenge.f.example.test\) failed with status 3 and said nothing\."),
        ("echo first >&2; echo 'No such zone.' >&2; echo out; exit 1", Permanent, "status 1 and said: No such zone.$"),
        ("echo on stdout; exit 1", Permanent, "said: on stdout"),
        ("echo later; exit 75", Retryable, r"asks to be called again later \(status 75\) and said: later\."),
        ("kill -9 $$", Permanent, "was ended by signal 9"),
        ("printf 'a\\033[31mb\\007'; exit 1", Permanent, r"said: a \[31mb\.$"),
        ("head -c 3000000 /dev/zero | tr '\\0' x; exit 1", Permanent, "said: x{200}…"),
    ],
)
async def test_programs_that_fail(
    name_servers: Bind, tmp_path: Path, script: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        await hooked(name_servers, hook(tmp_path, script)).present(challenge("f.example.test"))
    assert len(str(caught.value)) < 600


async def test_a_program_that_hangs_is_ended_with_its_children(name_servers: Bind, tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/child; wait"
    with pytest.raises(Retryable, match=r"hook \(present .*\) did not end within 2 s and was stopped"):
        await hooked(name_servers, hook(tmp_path, script), 2).present(challenge("h.example.test"))
    child = int((tmp_path / "child").read_text())
    while Path(f"/proc/{child}/stat").exists() and ") Z" not in Path(f"/proc/{child}/stat").read_text():
        await asyncio.sleep(0.01)


async def test_programs_that_can_not_be_started(name_servers: Bind, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for program, why in ((tmp_path / "none", os.strerror(2)), (plain, os.strerror(13))):
        with pytest.raises(Permanent, match=f"Can't run {program} on this host: {why}"):
            await hooked(name_servers, program).present(challenge("www.example.test"))
