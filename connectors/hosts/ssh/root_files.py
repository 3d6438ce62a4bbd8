"""Files that only root may touch (`sudo_files` of the settings), by the commands of `sudo.py` and no others."""

from __future__ import annotations

import posixpath
import re
import stat
from collections.abc import Sequence

from connectors.hosts.contract import FileState
from connectors.hosts.limits import LARGEST_FILE
from connectors.hosts.ssh import scripts
from connectors.hosts.ssh import sudo as root
from connectors.hosts.ssh.commands import Outcome, decoded, line_of
from connectors.hosts.ssh.connections import Connection
from connectors.hosts.ssh.work import Work

LARGEST_LIST = 4 * 1024 * 1024


class RootFiles(Work):
    """The verbs of a host for those files."""

    async def _state_as_root(self, connection: Connection, deed: str, path: str) -> tuple[FileState, int] | None:
        """The state of one of `sudo_files` and its kind (as in st_mode); the account itself may not look."""
        file = self._root_file(deed, path)
        done = await self._script(connection, line_of(root.AS_ROOT.state(path)), [])
        if done.status != 0:
            self._sudo_refused(done, " ".join(root.AS_ROOT.state(path)))
            if re.search("no such file|not a directory", done.words, re.IGNORECASE):
                return None
            self._fail(deed, path, done.words)
        owner, group, mode, size, _, _ = done.output.decode().strip().split("_")
        resolved = path
        if path == file:
            real = await self._script(connection, line_of(root.AS_ROOT.real(path)), [])
            self._succeeded(real, deed, path)
            resolved = decoded(real.output.rstrip(b"\0"))
        return (
            FileState(resolved, int(owner), int(group), stat.S_IMODE(int(mode, 16)), int(size)),
            stat.S_IFMT(int(mode, 16)),
        )

    async def _read_as_root(self, connection: Connection, path: str) -> bytes | None:
        found = await self._state_as_root(connection, "read", path)
        if found is None:
            return None
        if found[1] != stat.S_IFREG:
            self._fail("read", path, "it is not a regular file")
        done = await self._script(connection, line_of(root.AS_ROOT.content(path)), [], most=LARGEST_FILE + 1)
        self._succeeded(done, "read", path)
        return done.output

    async def _pending_as_root(self, connection: Connection, pattern: str) -> Outcome | None:
        for file in self._settings.sudo_files:
            folder, name = posixpath.split(file)
            if pattern == re.sub(r"([*?\[])", r"[\1]", f"{folder}/.{name}.certgate-key-") + "*":
                return await self._script(
                    connection, line_of(root.AS_ROOT.pending(folder, name)), [], most=LARGEST_LIST
                )
        return None

    async def _write_as_root(
        self,
        connection: Connection,
        path: str,
        parts: Sequence[bytes | str],
        owner: int | None,
        group: int | None,
        mode: int,
    ) -> None:
        before = await self._state_as_root(connection, "write", path)
        target = before[0].path if before else path
        self._root_file("write", target)
        # What root owns and nobody asked for otherwise stays root's.
        wanted = (owner or 0, group or 0, mode)
        like = before is not None and (before[0].owner, before[0].group, before[0].mode) == wanted
        give = None if like or wanted[:2] == (0, 0) else (f"{wanted[0]:010d}", f"{wanted[1]:010d}")
        source, size = [], 0
        for part in parts:
            if isinstance(part, bytes):
                source.append(f"head -c {len(part)}")
                size += len(part)
            else:
                source.append(line_of(root.AS_ROOT.content(part)))
                size += await self._size_as_root(connection, part)
        content = b"".join(part for part in parts if isinstance(part, bytes))
        script = scripts.write_as_root(
            root.AS_ROOT,
            target,
            root.temporary_of(target),
            mode=f"{mode:04o}",
            like=like,
            owner=give,
            source="; ".join(source) or ":",
            size=size,
        )
        done = await self._script(connection, script, [], content)
        self._sudo_refused(done, f"what writes {target}")
        self._written(done, target)

    async def _size_as_root(self, connection: Connection, path: str) -> int:
        found = await self._state_as_root(connection, "read", path)
        if found is None:
            self._fail("read", path, "it does not exist")
        return found[0].size

    async def _resolved_as_root(self, connection: Connection, deed: str, path: str) -> str:
        """The file that one of `sudo_files` leads to, which has to be one of them too."""
        found = await self._state_as_root(connection, deed, path)
        target = found[0].path if found else path
        self._root_file(deed, target)
        return target

    async def _keep_as_root(self, connection: Connection, path: str, backup: str) -> None:
        path = await self._resolved_as_root(connection, "keep a second name of", path)
        state, link, sync = (
            line_of(command)
            for command in (
                root.AS_ROOT.state(backup),
                root.AS_ROOT.link(path, backup),
                root.AS_ROOT.sync(posixpath.dirname(path)),
            )
        )
        original = line_of(root.AS_ROOT.state(path))
        done = await self._script(
            connection,
            f"there=$({original}) || exit 1\n"
            f'if found=$({state} 2>/dev/null); then [ "$found" = "$there" ] || exit 3; else {link} || exit 1; fi\n'
            f"{sync}",
            [],
        )
        if done.status == scripts.IN_THE_WAY:
            self._in_the_way(path, backup)
        self._sudo_refused(done, f"what keeps {path}")
        self._succeeded(done, "keep a second name of", path)

    async def _put_back_as_root(self, connection: Connection, backup: str, path: str) -> None:
        path = await self._resolved_as_root(connection, "put back", path)
        state, same, move, remove, sync = (
            line_of(command)
            for command in (
                root.AS_ROOT.state(backup),
                root.AS_ROOT.state(path),
                root.AS_ROOT.move(backup, path),
                root.AS_ROOT.remove(backup),
                root.AS_ROOT.sync(posixpath.dirname(path)),
            )
        )
        done = await self._script(
            connection,
            f"there=$({state} 2>&1) || "
            'case $there in *"No such file"*) exit 0;; *) echo "$there" >&2; exit 1;; esac\n'
            f'if [ "$there" = "$({same} 2>/dev/null)" ]; then {remove} || exit 1; else {move} || exit 1; fi\n'
            f"{sync}",
            [],
        )
        self._sudo_refused(done, f"what puts {path} back")
        self._succeeded(done, "put back", path)

    async def _delete_as_root(self, connection: Connection, path: str) -> None:
        remove, sync = root.AS_ROOT.remove(path), root.AS_ROOT.sync(posixpath.dirname(path))
        done = await self._script(connection, f"{line_of(remove)} || exit 1\n{line_of(sync)}", [])
        self._sudo_refused(done, " ".join(remove))
        self._succeeded(done, "delete", path)
