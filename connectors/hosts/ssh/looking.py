"""Looking at files through SFTP: one channel that stays open, many questions at a time, no process for any of them.

Limits of the protocol as OpenSSH speaks it (draft-ietf-secsh-filexfer-02): no inode numbers, no extended attributes, no
opening that does not wait. What needs those is done by commands.
"""

from __future__ import annotations

import asyncio
import stat
from typing import cast

import asyncssh

from connectors.errors import Permanent
from connectors.hosts.contract import FileState
from connectors.hosts.ssh.commands import decoded, encoded

READ_AT_LEAST = 65536


class NotAllowed(Exception):
    """The account may not look at that file."""


async def state(sftp: asyncssh.SFTPClient, path: str) -> FileState | None:
    """What is at `path`, links followed; None if nothing is. Raises `NotAllowed`, `asyncssh.SFTPError`."""
    # Both questions at once; the second one's answer is of no interest where the first one's is no.
    real = asyncio.ensure_future(sftp.realpath(encoded(path)))
    try:
        found = await sftp.stat(encoded(path))
        resolved = await real
    except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
        return None
    except asyncssh.SFTPPermissionDenied:
        raise NotAllowed from None
    finally:
        real.cancel()
        await asyncio.gather(real, return_exceptions=True)
    assert isinstance(resolved, bytes)
    return FileState(
        path=decoded(resolved),
        owner=found.uid or 0,
        group=found.gid or 0,
        mode=stat.S_IMODE(found.permissions or 0),
        size=found.size or 0,
    )


async def read(sftp: asyncssh.SFTPClient, path: str, most: int) -> bytes | None:
    """At most `most` bytes and one more of a regular file; None where there is none. Raises `NotAllowed`,
    `asyncssh.SFTPError`, and `Permanent` for what is not a regular file: opening a FIFO would never return."""
    try:
        found = await sftp.stat(encoded(path))
        if found.permissions is not None and not stat.S_ISREG(found.permissions):
            raise Permanent("it is not a regular file")
        async with sftp.open(encoded(path), "rb", encoding=None) as file:
            content = b""
            while len(content) <= most:
                # One byte more than is there asks for the end as well. Files under /proc have the size 0.
                wanted = min(max((found.size or 0) + 1, READ_AT_LEAST), most + 1 - len(content))
                part = cast("bytes", await file.read(wanted))
                content += part
                if len(part) < wanted:
                    break
            return content
    except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
        return None
    except asyncssh.SFTPPermissionDenied:
        raise NotAllowed from None
