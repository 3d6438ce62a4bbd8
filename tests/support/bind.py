"""Two real BIND servers for tests: a primary that takes dynamic updates, and a secondary that follows when it is told.

They have ports of their own and ask nobody else: the primary has a root zone, so it also serves as a resolver. It sends
no NOTIFY by itself: the secondary lags until the test says `catch_up`.
"""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype

from tests.support.programs import program
from worker import tether
from worker.processes import free_port

ADDRESS = "127.0.0.1"
KEY = "certgate"

# `example.test` is on both servers. Aliases of `static.test`, which nobody may change, lead to `acme.test`. Of the
# servers that NS records name, the ones at 127.0.0.2 are away.
ZONES: Mapping[str, str] = {
    ".": """
@ NS ns1.example.test.
example.test NS ns1.example.test.
acme.test NS ns1.acme.test.
static.test NS ns1.static.test.
ns1.example.test A 127.0.0.1
ns1.acme.test A 127.0.0.1
ns1.static.test A 127.0.0.1
""",
    "example.test": """
@ NS ns1
@ NS ns2
ns1 A 127.0.0.1
ns2 A 127.0.0.2
www A 127.0.0.1
alias CNAME www.static.test.
""",
    "acme.test": """
@ NS ns1
ns1 A 127.0.0.1
_acme-challenge.circle CNAME _acme-challenge.circle.static.test.
""",
    "static.test": """
@ NS ns1
ns1 A 127.0.0.1
_acme-challenge CNAME all.acme.test.
_acme-challenge.www CNAME www.acme.test.
_acme-challenge.twice CNAME step.static.test.
step CNAME twice.acme.test.
_acme-challenge.circle CNAME _acme-challenge.circle.acme.test.
_acme-challenge.self CNAME _acme-challenge.self.static.test.
"""
    + "".join(f"{'_acme-challenge.long' if n == 0 else f'long{n}'} CNAME long{n + 1}\n" for n in range(20)),
}
_START = "$TTL 60\n@ SOA ns1.example.test. hostmaster.example.test. 1 3600 600 86400 5\n"
UPDATABLE = ("example.test", "acme.test")


@dataclass(frozen=True)
class Bind:
    """The servers while they run. `secret_file` holds the secret of TSIG key `KEY`, `wrong_file` another one."""

    port: int
    secondary_port: int
    secret_file: Path
    wrong_file: Path
    logs: tuple[Path, Path]

    @property
    def settings(self) -> dict[str, object]:
        """What a CA's settings need to prove names by updates to the primary."""
        return {
            "dns01_server": self.primary,
            "dns01_key_name": KEY,
            "dns01_key_secret": f"file:{self.secret_file}",
            "dns01_resolvers": [self.primary],
            "dns01_check_servers": [self.primary],
        }

    @property
    def primary(self) -> str:
        """The primary, as settings name it."""
        return f"{ADDRESS}:{self.port}"

    @property
    def secondary(self) -> str:
        """The secondary."""
        return f"{ADDRESS}:{self.secondary_port}"

    def texts(self, name: str) -> set[str]:
        """The values of TXT records that the primary has at a name."""
        answer = dns.query.udp(dns.message.make_query(name, dns.rdatatype.TXT), ADDRESS, 5, self.port)
        return {
            b"".join(record.strings).decode()
            for rrset in answer.answer
            if rrset.rdtype == dns.rdatatype.TXT
            for record in rrset
        }

    def ttl(self, name: str) -> int:
        """The time to live of the TXT records at a name."""
        answer = dns.query.udp(dns.message.make_query(name, dns.rdatatype.TXT), ADDRESS, 5, self.port)
        return int(answer.answer[0].ttl)

    def catch_up(self, zone: str = "example.test") -> None:
        """Tell the secondary of the zone's change, and wait until it has it."""
        wanted = _serial(zone, self.port)
        notify = dns.message.make_query(zone, dns.rdatatype.SOA)
        notify.flags = dns.opcode.to_flags(dns.opcode.NOTIFY) | dns.flags.AA
        deadline = time.monotonic() + 30
        while _serial(zone, self.secondary_port) != wanted:
            assert time.monotonic() < deadline, self.logs[1].read_text()[-3000:]
            dns.query.udp(notify, ADDRESS, 5, self.secondary_port)
            time.sleep(0.05)


@contextmanager
def bind(folder: Path) -> Iterator[Bind]:
    """Both servers, running."""
    secret, wrong = (base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
    for name, content in (("secret", secret), ("wrong", wrong)):
        (folder / name).write_text(f"{content}\n")
        (folder / name).chmod(0o600)
    logs = (folder / "primary" / "log", folder / "secondary" / "log")
    # Somebody else may take a port between our look and the server's start.
    for attempt in range(5):
        made = Bind(free_port(), free_port(), folder / "secret", folder / "wrong", logs)
        with ExitStack() as running:
            for log, port in zip(logs, (made.port, made.secondary_port), strict=True):
                log.parent.mkdir(exist_ok=True)
                _configure(log.parent, port, made.port, secret)
                running.enter_context(_named(log))
            if not (_answers(made.port, logs[0]) and _answers(made.secondary_port, logs[1])):
                assert attempt < 4, "".join(log.read_text()[-2000:] for log in logs)
                continue
            made.catch_up()
            yield made
            return


def _configure(home: Path, port: int, primary: int, secret: str) -> None:
    text = f"""
options {{
    directory "{home}";
    pid-file "named.pid";
    session-keyfile "session.key";
    listen-on port {port} {{ {ADDRESS}; }};
    listen-on-v6 {{ none; }};
    recursion {"yes" if port == primary else "no"};
    dnssec-validation no;
    notify no;
    allow-transfer {{ {ADDRESS}; }};
    allow-notify {{ {ADDRESS}; }};
}};
controls {{ }};
key "{KEY}" {{ algorithm hmac-sha256; secret "{secret}"; }};
"""
    if port == primary:
        for zone, records in ZONES.items():
            file = f"{zone.rstrip('.')}.zone"
            # The serial moves with each update: an earlier attempt left a journal.
            (home / f"{file}.jnl").unlink(missing_ok=True)
            (home / file).write_text(
                f"$TTL 60\n@ SOA ns1.example.test. hostmaster 1 3600 600 86400 5\n{records.lstrip()}"
            )
            updates = f'key "{KEY}";' if zone in UPDATABLE else "none;"
            text += f'zone "{zone}" {{ type primary; file "{file}"; allow-update {{ {updates} }}; }};\n'
    else:
        source = f"primaries port {primary} {{ {ADDRESS}; }};"
        text += f'zone "example.test" {{ type secondary; file "copy"; {source} }};\n'
    (home / "named.conf").write_text(text)


@contextmanager
def _named(log: Path) -> Iterator[None]:
    with log.open("wb") as errors:
        command = [sys.executable, tether.__file__, str(os.getpid()), "--", program("named"), "-g", "-n", "1"]
        command += ["-c", str(log.parent / "named.conf")]
        process = subprocess.Popen(command, stderr=errors, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _answers(port: int, log: Path) -> bool:
    """Whether this very server listens there by now; False where it could not."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        said = log.read_text()
        if "address in use" in said or "exiting (due to fatal error)" in said:
            return False
        if " running\n" in said:
            return True
        time.sleep(0.02)
    return False


def _serial(zone: str, port: int) -> int | None:
    answer = dns.query.udp(dns.message.make_query(zone, dns.rdatatype.SOA), ADDRESS, 5, port)
    return int(answer.answer[0][0].serial) if answer.answer else None
