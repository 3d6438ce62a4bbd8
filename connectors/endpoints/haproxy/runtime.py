"""HAProxy's Runtime API: certificates exchanged in the running process, over its stats socket.

Management Guide, "9.3. Unix Socket commands": ``set ssl cert`` opens a transaction, ``commit ssl cert`` takes it into
use, ``abort ssl cert`` drops it. There is one transaction at a time, and this is a trap: ``set`` for another file while
one is open changes the *open* one, and says so only by the name in its answer. A payload ends at its first empty line.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath

from connectors.errors import Permanent, Retryable
from connectors.hosts.contract import Host, ReachesSockets

TIMEOUT = timedelta(seconds=30)
_LARGEST_ANSWER = 1024 * 1024
# The request is put together on the host: neither argument nor file nor network has the key in it. $1 is the socket
# in socat's words, $2 the command, the rest are files.
_BY_SOCAT = (
    'socket=$1 command=$2; shift 2; { printf "%s\\n" "$command"; if [ $# -gt 0 ]; then cat -- "$@" | '
    'grep -v "^[[:space:]]*$"; echo; fi; } | socat -t 30 - "$socket"'
)


@dataclass(frozen=True)
class Runtime:
    """One stats socket: a path on the host, or a loopback address with a port."""

    host: Host
    socket: str
    resolve: Callable[[str], Awaitable[str]]

    async def exchange(self, certificate: str, files: Sequence[str]) -> str:
        """Make HAProxy serve what these files hold in place of what it has loaded from the file `certificate`. Gives
        its words. Raises `Permanent` with them; the old certificate is then served on."""
        known, opened = await self._known()
        name = await self._name_of(certificate, known)
        if opened and opened != name:
            raise Permanent(
                f"Somebody else is changing {opened} in the running HAProxy: let them commit it, or drop it with "
                f"'abort ssl cert {opened}' on {self.socket}."
            )
        if opened:
            await self._ask(f"abort ssl cert {_escaped(name)}")
        told = await self._ask(f"set ssl cert {_escaped(name)} <<", files)
        answered = re.search(r"^Transaction (?:created|updated) for certificate (.*)!$", told, re.MULTILINE)
        if answered is None or answered[1] != name:
            raise Permanent(f"HAProxy does not take the new certificate for {name}: {_sentence(told)}.")
        committed = await self._ask(f"commit ssl cert {_escaped(name)}")
        if "Success!" not in committed:
            await self._ask(f"abort ssl cert {_escaped(name)}")
            raise Permanent(f"HAProxy does not take the new certificate for {name} into use: {_sentence(committed)}.")
        return f"{told.strip()}\n{committed.strip()}"

    async def _known(self) -> tuple[list[str], str]:
        """The names of all certificates that are loaded, and of the one with an open transaction (empty: none)."""
        answer = await self._ask("show ssl cert")
        if "# filename" not in answer:
            raise Permanent(f"HAProxy does not tell its certificates over {self.socket}: {_sentence(answer)}.")
        lines = [line for line in answer.splitlines() if line and not line.startswith("#")]
        opened = next((line[1:] for line in lines if line.startswith("*")), "")
        return [line for line in lines if not line.startswith("*")], opened

    async def _name_of(self, certificate: str, known: Sequence[str]) -> str:
        """What HAProxy calls the file; it was named in the configuration, perhaps by another path."""
        if certificate in known:
            return certificate
        wanted = await self.resolve(certificate)
        for name in known:
            if PurePosixPath(name).name == PurePosixPath(certificate).name and await self.resolve(name) == wanted:
                return name
        raise Permanent(
            f"The running HAProxy has not loaded {certificate}: reload it once, by hand or by update=reload."
        )

    async def _ask(self, command: str, files: Sequence[str] = ()) -> str:
        """Say one command, with what the files hold as its payload."""
        path = self.socket.startswith("/")
        if not isinstance(self.host, ReachesSockets):
            # Another machine: the files are there, and what they hold stays there.
            address = f"UNIX-CONNECT:{_for_socat(self.socket)}" if path else f"TCP:{self.socket}"
            result = await self.host.run(["sh", "-c", _BY_SOCAT, "sh", address, command, *files], timeout=TIMEOUT)
            if result.status != 0:
                raise Retryable(f"HAProxy's socket {self.socket} can't be reached: {_sentence(result.errors)}.")
            return result.output
        request = f"{command}\n".encode()
        if files:
            lines = [line for file in files for line in (await self.host.read(file)).splitlines() if line.strip()]
            request += b"\n".join([*lines, b"", b""])
        if path:
            return (await self.host.exchange(self.socket, request, timeout=TIMEOUT)).decode("utf-8", "replace")
        return (await self._over_tcp(request)).decode("utf-8", "replace")

    async def _over_tcp(self, request: bytes) -> bytes:
        address, _, port = self.socket.rpartition(":")
        answer = bytearray()
        try:
            async with asyncio.timeout(TIMEOUT.total_seconds()):
                reader, writer = await asyncio.open_connection(address.strip("[]"), int(port))
                try:
                    writer.write(request)
                    writer.write_eof()
                    while (part := await reader.read(65_536)) and len(answer) < _LARGEST_ANSWER:
                        answer += part
                finally:
                    writer.close()
        except TimeoutError:
            raise Retryable(f"HAProxy's socket {self.socket} does not answer.") from None
        except OSError as error:
            words = os.strerror(error.errno) if error.errno else str(error)
            raise Retryable(f"HAProxy's socket {self.socket} can't be reached: {words}.") from error
        return bytes(answer)


def _escaped(name: str) -> str:
    """A word of a command line of HAProxy's."""
    return re.sub(r"([\s\\\"'#;<])", r"\\\1", name)


def _for_socat(path: str) -> str:
    """A path in an address of socat's."""
    return re.sub(r"([\\:,!\"'(\[{])", r"\\\1", path)


def _sentence(answer: str) -> str:
    """An answer in one line; the list of all commands, which follows one that is not known, is left out."""
    lines = [line.strip().rstrip(".!: ") for line in answer.splitlines() if line.strip() and " : " not in line]
    return "; ".join(lines[:3]) or "it says nothing"
