"""http-01 (RFC 8555 section 8.3; for addresses RFC 8738 section 4): a file below a well-known path of the name.

Either this process answers at an address of its own, only while a CA looks, or the answers are written into the folder
of a web server that is there already.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from connectors.ca.acme.challenges.answers import Answers
from connectors.ca.acme.challenges.contract import Challenge
from connectors.ca.acme.challenges.listener import LONGEST_REQUEST, PATIENCE, Listener
from connectors.errors import AuthorityFault, Permanent

PATH = "/.well-known/acme-challenge/"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,200}")


class OwnServer:
    """Answers from this process, at `address`."""

    def __init__(self, address: str, answers: Answers) -> None:
        self._answers = answers
        self._listener = Listener(address, self._serve, answers.any)

    async def present(self, challenge: Challenge) -> None:
        """See `Responder.present`."""
        await asyncio.to_thread(self._answers.put, _token(challenge), challenge)
        await self._listener.open()

    async def settled(self, challenge: Challenge) -> str | None:
        """Asks ourselves: at that address may also be somebody else."""
        host, port = self._listener.reachable
        said = b""
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(f"GET {PATH}{challenge.token} HTTP/1.0\r\nhost: {challenge.name}\r\n\r\n".encode())
                    said = await reader.read(LONGEST_REQUEST)
                finally:
                    writer.close()
        if said.endswith(b"\r\n\r\n" + challenge.key_authorization.encode()):
            return None
        return f"another program listens at {self._listener.address} of this host and does not give our answer"

    async def remove(self, challenge: Challenge) -> None:
        """See `Responder.remove`."""
        await asyncio.to_thread(self._answers.drop, challenge.token, challenge)
        await self._listener.close_unneeded()

    async def close(self) -> None:
        """See `Listens.close`."""
        await self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        method, _, rest = request.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
        path = rest.partition(" ")[0]
        found = None
        if method in ("GET", "HEAD") and path.startswith(PATH) and _TOKEN.fullmatch(path.removeprefix(PATH)):
            found = await asyncio.to_thread(self._answers.get, path.removeprefix(PATH))
        body = (found or "").encode()
        head = [
            "HTTP/1.1 200 OK" if found else "HTTP/1.1 404 Not Found",
            "content-type: application/octet-stream",
            f"content-length: {len(body)}",
            "connection: close",
        ]
        writer.write("\r\n".join([*head, "", ""]).encode() + (b"" if method == "HEAD" else body))
        await writer.drain()


class WebRoot:
    """Answers as files in a folder that a web server serves."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def present(self, challenge: Challenge) -> None:
        """See `Responder.present`."""
        await asyncio.to_thread(self._write, self._path(challenge), challenge.key_authorization.encode())

    async def settled(self, _challenge: Challenge) -> str | None:
        """It is once it is written: whether the web server is the one that the name leads to, only the CA sees."""
        return None

    async def remove(self, challenge: Challenge) -> None:
        """See `Responder.remove`."""
        await asyncio.to_thread(self._remove, self._path(challenge), challenge.key_authorization.encode())

    def _path(self, challenge: Challenge) -> Path:
        return self._root / PATH.strip("/") / _token(challenge)

    def _write(self, path: Path, content: bytes) -> None:
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            if not self._root.is_dir():
                raise Permanent(f"The web root {self._root} is not a folder.")
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    # The web server runs as somebody else, whatever our umask is.
                    os.fchmod(file.fileno(), 0o644)
                unfinished.rename(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise Permanent(f"The answer to a challenge can't be written to {path}: {error.strerror}.") from None

    def _remove(self, path: Path, content: bytes) -> None:
        try:
            for left_over in path.parent.glob(f".{path.name}.*"):
                left_over.unlink(missing_ok=True)
            if path.read_bytes() == content:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise Permanent(f"The answer to a challenge can't be deleted from {path}: {error.strerror}.") from None


def _token(challenge: Challenge) -> str:
    if not _TOKEN.fullmatch(challenge.token):
        raise AuthorityFault("The ACME server gave a token that is not of RFC 8555.")
    return challenge.token
