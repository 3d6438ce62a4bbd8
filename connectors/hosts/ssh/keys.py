"""Keys that stay on the host: made, looked at and used by openssl there (`connectors.hosts.contract.KeepsKeys`)."""

from __future__ import annotations

import re
from typing import NoReturn

from connectors.errors import Permanent
from connectors.hosts.limits import LARGEST_FILE
from connectors.hosts.ssh import scripts
from connectors.hosts.ssh import sudo as root
from connectors.hosts.ssh.commands import line_of
from connectors.hosts.ssh.connections import Connection
from connectors.hosts.ssh.root_files import RootFiles
from connectors.hosts.ssh.work import NO_PERMISSION
from connectors.keystores.contract import SigningRequest
from connectors.keystores.signing import Unsigned
from model.keys import KeyAlgorithm

# RSA of 4096 bits on a small machine.
KEY_SECONDS = 120.0


class Keys(RootFiles):
    """What is asked of a host about private keys; none of it gives one away."""

    async def without_keys(self, path: str) -> bytes:
        """The content of a PEM file without the private keys in it."""
        self._checked("read", path)
        async with self._connection() as connection:
            done = await self._script(connection, scripts.WITHOUT_KEYS, [path], most=LARGEST_FILE + 1)
            if done.status != 0 and self._covered(path) and "ermission denied" in done.words:
                await self._state_as_root(connection, "read", path)
                script = f"{line_of(root.AS_ROOT.content(path))} | {scripts.STRIP_KEYS}"
                done = await self._script(connection, script, [], most=LARGEST_FILE + 1)
                if done.errors:
                    self._sudo_refused(done, " ".join(root.AS_ROOT.content(path)))
                    self._fail("read", path, done.words)
            if done.status == scripts.IN_THE_WAY:
                self._fail("read", path, "it is not a regular file")
            self._succeeded(done, "read", path)
        if len(done.output) > LARGEST_FILE:
            self._fail("read", path, f"it is larger than {LARGEST_FILE} bytes")
        return done.output

    async def public_key(self, path: str) -> bytes | None:
        """SubjectPublicKeyInfo (DER) of the private key in the file, made by openssl there."""
        self._checked("read", path)
        async with self._connection() as connection:
            return await self._public_key(connection, path)

    async def _public_key(self, connection: Connection, path: str) -> bytes | None:
        done = await self._script(connection, line_of(root.AS_USER.public_key(path)), [])
        if done.status != 0 and self._covered(path) and re.search("permission denied", done.words, re.IGNORECASE):
            done = await self._script(connection, line_of(root.AS_ROOT.public_key(path)), [])
            self._sudo_refused(done, " ".join(root.AS_ROOT.public_key(path)))
        if done.status == 127:
            self._no_openssl()
        if done.status != 0 and re.search("permission denied", done.words, re.IGNORECASE):
            self._fail("read", path, NO_PERMISSION)
        return done.output if done.status == 0 and done.output else None

    async def make_key(self, path: str, request: SigningRequest) -> str:
        """The CSR of the key at `path`, which is made by openssl there if there is none; the key stays there."""
        self._checked("make a key at", path)
        async with self._connection() as connection:
            file = self._settings.sudo_makes_keys and self._covered(path)
            who = root.AS_ROOT if file else root.AS_USER
            new = root.temporary_of(file or path)
            script = scripts.make_key(who.generate(new, request.algorithm), who, path, new)
            done = await self._script(connection, script, [], seconds=KEY_SECONDS)
            if file:
                self._sudo_refused(done, f"what makes a key at {path}")
            if done.status == 127:
                self._no_openssl()
            self._written(done, path)
            public = await self._public_key(connection, path)
            if public is None:
                self._fail("use the key at", path, "openssl finds no private key in it that it can read")
            unsigned = Unsigned(public, request)
            return unsigned.signed(
                await self._signature(connection, who, path, request.algorithm, new, unsigned.message)
            )

    async def _signature(
        self, connection: Connection, who: root.Root, path: str, algorithm: KeyAlgorithm, scratch: str, message: bytes
    ) -> bytes:
        sign = who.sign(path, algorithm, scratch)
        if algorithm is KeyAlgorithm.ED25519:
            script = scripts.sign_from_file(who, sign, scratch, len(message))
        else:
            script = line_of(sign)
        done = await self._script(connection, script, [], message)
        if who.prefix:
            self._sudo_refused(done, f"what signs with {path}")
        self._succeeded(done, "sign with", path)
        return done.output

    def _no_openssl(self) -> NoReturn:
        raise Permanent(f"Can't run openssl on {self._where}: no such command; keys that stay there need it.")
