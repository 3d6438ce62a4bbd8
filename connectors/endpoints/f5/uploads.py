"""Files on their way to the device and back ("iControl REST User Guide", file transfer).

They go in parts of at most 512 KiB, each with a Content-Range whose end is included. What is uploaded lies in
`names.DOWNLOADS` until it is deleted, and a key may not stay there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from connectors.endpoints.f5.names import DOWNLOADS
from connectors.endpoints.f5.session import TRIES, Session
from connectors.errors import Permanent, Retryable

UPLOADS = "/mgmt/shared/file-transfer/uploads"
LARGEST_PART = 512 * 1024


async def upload(session: Session, name: str, content: bytes) -> str:
    """Put a file there; gives it as a ``sourcePath``. What was there under that name is gone."""
    for _ in range(TRIES - 1):
        with suppress(Retryable):
            await _send(session, name, content)
            break
    else:
        await _send(session, name, content)
    return f"file://{DOWNLOADS}/{name}"


async def _send(session: Session, name: str, content: bytes) -> None:
    """All parts in order. Where one is lost nobody knows whether it arrived: the next try begins with the first."""
    size = len(content)
    for start in range(0, size, LARGEST_PART):
        part = content[start : start + LARGEST_PART]
        await session.put(f"{UPLOADS}/{name}", part, f"{start}-{start + len(part) - 1}/{size}")


async def remove(session: Session, paths: Sequence[str]) -> None:
    """Delete files, whether they are there or not; raises `Permanent` where one stays."""
    told = await session.again(
        "POST", "/mgmt/tm/util/unix-rm", {"command": "run", "utilCmdArgs": " ".join(["-f", *paths])}
    )
    words = str(told.get("commandResult") or "").strip()
    if words:
        raise Permanent(
            f"The device did not delete {' and '.join(paths)}, where a private key may be: delete it by hand. It says: "
            f"{' '.join(words.split())[:200]}"
        )


async def remove_uploads(session: Session, names: Sequence[str]) -> None:
    """Delete what `upload` put there."""
    await remove(session, [f"{DOWNLOADS}/{name}" for name in names])
