"""Network discovery against real TLS servers on loopback addresses, and against those that do what they must not."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from pathlib import Path

import pytest

from connectors.endpoints import scan
from connectors.endpoints.scan import Looked, Pace, Rules, Service, Targets
from connectors.endpoints.starttls import StartTls
from connectors.errors import Permanent
from tests.support.served import context_for, garbage, listening, silent

NET = scan.network("127.0.0.0/29")


async def swept(
    targets: Targets, first: int = 0, names: tuple[str, ...] = (), timeout: float = 2.0, rate: int = 1000
) -> list[Looked]:
    looking = scan.sweep(
        targets,
        first,
        names,
        paces=[Pace(rate)],
        at_once=8,
        gate=asyncio.Semaphore(8),
        timeout=timedelta(seconds=timeout),
    )
    async with aclosing(looking) as found:
        return [one async for one in found]


async def test_what_is_served_on_which_address_is_found(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first, pem = context_for(tmp_path, ["one.example"])
        port = await stack.enter_async_context(listening("127.0.0.1", 0, first))
        second, other = context_for(tmp_path, ["two.example"])
        await stack.enter_async_context(listening("127.0.0.3", port, second))
        found = await swept(Targets([NET], [Service(port)]))
    assert [one.address for one in found] == [f"127.0.0.{last}" for last in range(1, 7)]
    assert {one.address: one.sighted[0].pem for one in found if one.sighted} == {"127.0.0.1": pem, "127.0.0.3": other}
    assert [one.answered for one in found] == [True, False, True, False, False, False]


async def test_further_names_are_asked_for_where_something_answers(tmp_path: Path) -> None:
    plain, pem = context_for(tmp_path, ["default.example"])
    special, other = context_for(tmp_path, ["special.example"])
    asked: list[str | None] = []

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        asked.append(name)
        if name == "special.example":
            connection.context = special

    plain.sni_callback = choose
    async with listening("127.0.0.1", 0, plain) as port:
        targets = Targets([scan.network("127.0.0.1"), scan.network("127.0.0.2")], [Service(port)])
        here, nowhere = await swept(targets, names=("special.example", "other.example"))
    assert [(one.server_name, one.pem) for one in here.sighted] == [
        (None, pem),
        ("special.example", other),
        ("other.example", pem),
    ]
    assert asked == [None, "special.example", "other.example"]
    assert not nowhere.sighted


async def test_servers_that_do_what_they_must_not_keep_nobody_from_the_others(tmp_path: Path) -> None:
    # OpenSSL takes no more than 100 KiB of certificates; one below that limit has thousands of names.
    huge, _ = context_for(tmp_path, [f"host-{number:05}.a-rather-long-domain.example" for number in range(3000)])
    large, pem = context_for(tmp_path, [f"host-{number:05}.example" for number in range(3000)])
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(listening("127.0.0.1", 0, answer=silent))
        await stack.enter_async_context(listening("127.0.0.2", port, answer=garbage))
        await stack.enter_async_context(listening("127.0.0.3", port, huge))
        await stack.enter_async_context(listening("127.0.0.4", port, large))
        await stack.enter_async_context(listening("127.0.0.5", port))
        found = await swept(Targets([NET], [Service(port)]), timeout=0.5)
    assert [one.answered for one in found] == [True, True, True, True, True, False]
    assert [[sighted.pem for sighted in one.sighted] for one in found] == [[], [], [], [pem], [], []]


async def test_a_protocol_is_spoken_first_where_it_is_named(tmp_path: Path) -> None:
    context, pem = context_for(tmp_path, ["mail.example"])

    async def smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example\r\n")
        await reader.readline()
        writer.write(b"250-mail.example\r\n250 STARTTLS\r\n")
        await reader.readline()
        writer.write(b"220 go\r\n")
        await writer.start_tls(context)
        writer.close()

    async with listening("127.0.0.1", 0, answer=smtp) as port:
        targets = Targets([scan.network("127.0.0.1")], [Service(port, StartTls.SMTP)])
        (found,) = await swept(targets)
    assert [one.pem for one in found.sighted] == [pem]


async def test_no_more_than_allowed_are_under_way_and_none_is_left(tmp_path: Path) -> None:
    under_way, most = 0, 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await reader.read(-1)
        under_way -= 1
        writer.close()

    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(listening("127.0.0.1", 0, answer=slow))
        for last in range(2, 7):
            await stack.enter_async_context(listening(f"127.0.0.{last}", port, answer=slow))
        looking = scan.sweep(
            Targets([NET], [Service(port)]),
            0,
            (),
            paces=[Pace(1000)],
            at_once=3,
            gate=asyncio.Semaphore(2),
            timeout=timedelta(seconds=0.2),
        )
        async with aclosing(looking) as found:
            async for _ in found:
                break
        while under_way:
            await asyncio.sleep(0.01)
    assert most <= 2


async def test_a_pace_gives_turns_at_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    pace = Pace(4)
    for _ in range(4):
        await pace.turn()
    # Nobody slept in truth, so each turn is a quarter of a second later than the one before.
    assert [round(seconds * 4) for seconds in slept] == [1, 2, 3]


def test_addresses_and_ports_are_numbered_port_by_port() -> None:
    networks = [scan.network(word) for word in ("127.0.0.0/30", "127.0.0.0/29", "127.0.1.4/32", "::1/128")]
    targets = Targets(networks, [Service(443), Service(25, StartTls.SMTP), Service(443)])
    hosts = [*(f"127.0.0.{last}" for last in range(1, 7)), "127.0.1.4", "::1"]
    assert list(targets) == [(host, one) for one in (Service(443), Service(25, StartTls.SMTP)) for host in hosts]
    with pytest.raises(IndexError):
        targets[len(targets)]


@pytest.mark.parametrize("word", ["10.0.0.0/8", "::/0", "2001:db8::/64"])
def test_what_is_too_large_is_told(word: str) -> None:
    with pytest.raises(Permanent, match="are more than the 1048576 that one scan looks at"):
        Targets([scan.network(word)], [Service(443)])


def test_nothing_is_allowed_by_itself() -> None:
    assert "do not allow the network 127.0.0.1/32 (allowed: none)" in str(
        Rules().refusal([scan.network("127.0.0.1")], [Service(443)])
    )


def test_only_networks_and_ports_within_the_gateways_own_are_allowed() -> None:
    rules = Rules((scan.network("127.0.0.0/29"),), scan.ports([443, "8000-8009"]))
    assert rules.refusal([scan.network("127.0.0.4/30")], [Service(443), Service(8009)]) is None
    assert "network 127.0.0.0/28" in str(rules.refusal([scan.network("127.0.0.0/28")], [Service(443)]))
    assert "network ::1/128" in str(rules.refusal([scan.network("::1")], [Service(443)]))
    assert "port 8010" in str(rules.refusal([NET], [Service(443), Service(8010)]))
    assert Rules.read(rules.told()) == rules


@pytest.mark.parametrize("word", ["", "0", "65536", "https", "443:", "443:gopher", "-1", "4 43"])
def test_what_is_no_port_is_told(word: str) -> None:
    with pytest.raises(Permanent, match=r"is no port|is not spoken before TLS"):
        scan.service(word)


def test_a_port_has_what_is_usual_there_unless_it_is_said() -> None:
    words = ["443", "25", "25:tls", "8025:SMTP"]
    assert [str(scan.service(word)) for word in words] == ["443", "25:smtp", "25", "8025:smtp"]


@pytest.mark.parametrize("word", ["10.0.0.1/24", "10.0.0.0/33", "example.org", ""])
def test_what_is_no_network_is_told(word: str) -> None:
    with pytest.raises(Permanent, match="can't be taken for a network"):
        scan.network(word)
