"""The way through an HTTP proxy: joined and run through a real one, and past it nothing goes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from model.errors import InvalidInput
from model.tables import Gateway
from operations import gateway_changes
from operations.gateway_changes import NewGateway
from tests.support.programs import program
from tests.support.running import certgate, environment_without_ours, start, stop, until
from tests.support.world import World
from worker import proxies, readiness, settings
from worker.processes import free_port
from worker.settings import TemporalSettings

PASSWORD = "open5esame5of5the5proxy"


@dataclass
class Proxy:
    """A tinyproxy that lets through to one port only, and whoever knows the password."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        """As it is given to certgate."""
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def target(shared_world: World) -> int:
    """The port of Temporal."""
    return int(shared_world.client.service_client.config.target_host.rpartition(":")[2])


@pytest.fixture
def proxy(target: int, tmp_path: Path) -> Iterator[Proxy]:
    """That proxy, at work."""
    made = Proxy(free_port(), tmp_path / "proxy.log")
    configuration = tmp_path / "tinyproxy.conf"
    lines = [f"Port {made.port}", "Listen 127.0.0.1", "Allow 127.0.0.1", f"ConnectPort {target}", "Timeout 600"]
    lines += [f"BasicAuth gateway {PASSWORD}", f'LogFile "{made.log}"', "LogLevel Connect", "MaxClients 20"]
    configuration.write_text("\n".join([*lines, ""]))
    command = [program("tinyproxy"), "-d", "-c", str(configuration)]
    process = start(command, tmp_path / "tinyproxy.out", environment_without_ours())
    try:
        while not any(one.laddr.port == made.port for one in psutil.Process(process.pid).net_connections()):
            assert process.poll() is None, (tmp_path / "tinyproxy.out").read_text()
        yield made
    finally:
        stop(process)


@dataclass
class Host:
    """Where a gateway lives."""

    folder: Path

    @property
    def home(self) -> Path:
        """The gateway's home."""
        return self.folder / "gateway"

    def join(self, token: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Join with a token."""
        file = self.folder / "token"
        file.write_text(token)
        command = [sys.executable, "-m", "cli.main", "gateway", "join", "--token-file", str(file)]
        return subprocess.run(
            [*command, "--gateway-home", str(self.home), *words],
            env=environment_without_ours(**environment),
            capture_output=True,
            text=True,
            check=False,
        )


async def test_a_gateway_joins_and_works_through_a_proxy_alone(
    shared_world: World, proxy: Proxy, target: int, tmp_path: Path
) -> None:
    host, address = Host(tmp_path), f"127.0.0.1:{target}"
    made = gateway_changes.add(shared_world.context("admin"), NewGateway("behind a proxy", address=address))

    async def join(*words: str, **environment: str) -> tuple[int, str]:
        done = await asyncio.to_thread(host.join, made.token, *words, **environment)
        assert "Traceback" not in done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done.returncode, done.stderr

    code, said = await join("--proxy", proxy.url)
    assert (code, "wants a user and password" in said) == (1, True), said
    credential = tmp_path / "credential"
    credential.touch(mode=0o600)
    credential.write_text("gateway:wrong\n")
    way = ("--proxy", proxy.url, "--proxy-credential", f"file:{credential}")
    code, said = await join(*way)
    assert (code, "refuses the user and password that it was given" in said) == (1, True), said
    credential.write_text(f"gateway:{PASSWORD}\n")
    # Temporal is there, and could be reached directly: but what the proxy refuses is not reached.
    elsewhere = free_port()
    code, said = await join(*way, TEMPORAL_ADDRESS=f"127.0.0.1:{elsewhere}")
    assert (code, f"does not let connections through to 127.0.0.1:{elsewhere}" in said) == (1, True), said

    assert (await join(*way))[0] == 0
    file = (host.home / "gateway.toml").read_text()
    assert f'proxy = "{proxy.url}"' in file
    assert f'proxy_credential = "file:{credential}"' in file
    gateway = start(
        certgate(tmp_path / "unused", "gateway", "run", "--gateway-home", str(host.home)),
        tmp_path / "gateway.log",
        environment_without_ours(),
    )
    try:
        await until(lambda: readiness.ready(host.home, "gateway") is not None)

        def checked_in() -> bool:
            with shared_world.database.read() as session:
                return bool(session.get_one(Gateway, made.gateway_id).modules)

        await until(checked_in)
        remote = {one.raddr.port for one in psutil.Process(gateway.pid).net_connections("inet") if one.raddr}
        assert remote == {proxy.port}, (tmp_path / "gateway.log").read_text()
    finally:
        assert stop(gateway) == 0
    assert f"CONNECT {address}" in proxy.log.read_text()
    assert PASSWORD not in (tmp_path / "gateway.log").read_text()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("http://[::1]:3128/", "http://[::1]:3128"),
        ("", None),
    ],
)
def test_a_proxy_is_named_as_people_name_it(given: str, kept: str | None) -> None:
    assert TemporalSettings(proxy=given).proxy == kept


@pytest.mark.parametrize(
    "words",
    [
        ["https://proxy.example:3128"],
        ["socks5://proxy.example:3128"],
        ["http://proxy.example"],
        ["http://user:pass@proxy.example:3128"],
        ["http://proxy.example:99999"],
        ["http://proxy.example:3128/path"],
    ],
)
def test_a_proxy_that_is_none_is_a_sentence_without_a_password(words: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "certgate.toml").write_text(f'[temporal]\nproxy = "{words[0]}"\n')
    with pytest.raises(InvalidInput, match=r"temporal\.proxy") as caught:
        settings.load(tmp_path, {})
    assert "pass@" not in caught.value.message


def test_a_credential_is_a_reference_to_user_and_password(tmp_path: Path) -> None:
    (tmp_path / "certgate.toml").write_text('[temporal]\nproxy = "a:1"\nproxy_credential = "me:secret"\n')
    with pytest.raises(InvalidInput, match="must be a reference") as caught:
        settings.load(tmp_path, {})
    assert "secret" not in caught.value.message.replace("not the secret itself", "")
    file = tmp_path / "credential"
    file.touch(mode=0o600)
    way = TemporalSettings(proxy="a:1", proxy_credential=f"file:{file}")
    for wrong in ("", "no colon", ":only", "\udcff"):
        file.write_text(wrong, errors="surrogateescape")
        with pytest.raises(InvalidInput):
            proxies.of(way)
    file.write_text("me:with:colons")
    found = proxies.of(way)
    assert found is not None
    assert (found.target_host, found.basic_auth) == ("a:1", ("me", "with:colons"))
