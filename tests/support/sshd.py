"""Real SSH servers (OpenSSH's sshd) on free ports of 127.0.0.1, with their own configuration, host keys and accounts.

`Sshd` lets the user in that runs the tests. `SudoHost` has an account that is not root, a real sudo, and /etc/passwd,
/etc/shadow and /etc/sudoers of its own, in a mount namespace of its own: nothing of the machine is changed.
"""

from __future__ import annotations

import getpass
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncssh
import psutil

from connectors.hosts.ssh import CONNECTOR
from connectors.hosts.ssh.host import SshHost
from connectors.registry import Surroundings
from connectors.secrets import resolve
from tests.support.programs import program
from worker.playground import free_port

ACCOUNT, ACCOUNT_ID, ACCOUNT_PASSWORD = "certgate", 60123, "correct horse"
START_SECONDS = 20.0


class Sshd:
    """One server in a folder of its own; `key` is a file with a private key that it lets in."""

    def __init__(self, folder: Path, *, username: str | None = None, more: str = "") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.username = username or getpass.getuser()
        # What bash reads for every command that comes over SSH; some accounts print something there.
        self.home = folder / "home"
        self.home.mkdir(exist_ok=True)
        (self.home / ".bashrc").write_text("echo Welcome to this account; echo mind the step >&2\n")
        self.port = free_port()
        self.key, self.host_key = folder / "client", folder / "host"
        self.log = folder / "sshd.log"
        self.before: list[str] = []
        self.client_key = self.new_key(self.key)
        self.authorized = folder / "authorized_keys"
        self.authorized.write_bytes(self.client_key.export_public_key())
        self.change_host_key()
        self.user_ca = asyncssh.generate_private_key("ssh-ed25519")
        (folder / "user_ca.pub").write_bytes(self.user_ca.export_public_key())
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.host_key}\nPidFile none\nUsePAM no\nStrictModes no\n"
            f"AuthorizedKeysFile {self.authorized}\nTrustedUserCAKeys {folder}/user_ca.pub\nPermitRootLogin yes\n"
            f"Subsystem sftp internal-sftp\nPrintMotd no\nLogLevel INFO\nAllowTcpForwarding yes\n"
            f"SetEnv HOME={self.home}\n{more}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def new_key(self, path: Path, passphrase: str = "") -> asyncssh.SSHKey:
        """A key in a file that only its owner may read, as OpenSSH makes it."""
        path.unlink(missing_ok=True)
        command = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", str(path)]
        subprocess.run(command, check=True)
        return asyncssh.read_private_key(path, passphrase or None)

    def change_host_key(self) -> None:
        """Another host key, from the next start on."""
        self.server_key = self.new_key(self.host_key)

    @property
    def host_key_line(self) -> str:
        """The host's public key."""
        return self.server_key.export_public_key().decode().strip()

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of a connection that is let in."""
        return {
            "address": "127.0.0.1",
            "port": self.port,
            "username": self.username,
            "host_keys": [self.host_key_line],
            "private_key": f"file:{self.key}",
        }

    def host(self, **settings: Any) -> SshHost:
        """A host over this server. A setting that is None is left out."""
        given = {name: value for name, value in {**self.settings, **settings}.items() if value is not None}
        return CONNECTOR.open(CONNECTOR.configure(given), Surroundings(home=Path("/"), secret=resolve))

    def start(self) -> None:
        """Start it and wait until it greets."""
        if os.geteuid() == 0:
            # Where a root sshd wants it to be; Debian's service makes it at each start.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.before, program("sshd"), "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._greets():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"sshd does not run: {self.log.read_text(errors='replace')}")
            time.sleep(0.01)

    def _greets(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as probe:
            return probe.recv(4) == b"SSH-"
        return False

    @property
    def pid(self) -> int:
        """The listening process."""
        assert self._process is not None
        return self._process.pid

    def sessions(self) -> list[psutil.Process]:
        """The processes of connections that are open, and what runs in them."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def connections(self) -> int:
        """How many connections are open."""
        with suppress(psutil.NoSuchProcess):
            return len([one for one in psutil.Process(self.pid).children() if one.status() != psutil.STATUS_ZOMBIE])
        return 0

    def cut(self) -> None:
        """Cut every connection."""
        for one in psutil.Process(self.pid).children():
            for process in (*one.children(), one):
                if process.name() == "sshd":
                    with suppress(psutil.NoSuchProcess):
                        process.kill()

    def stop(self) -> None:
        """End it with all that runs in its sessions."""
        if self._process is None:
            return
        left = self.sessions()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process = None


@contextmanager
def sshd(folder: Path, **options: Any) -> Iterator[Sshd]:
    """A server that runs."""
    made = Sshd(folder, **options)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@contextmanager
def ssh_agent(key: Path, folder: Path) -> Iterator[str]:
    """An agent that has the key in a file; gives its socket."""
    path = folder / "agent"
    process = subprocess.Popen([program("ssh-agent"), "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.005)
        subprocess.run(
            [program("ssh-add"), str(key)], check=True, capture_output=True, env={"SSH_AUTH_SOCK": str(path)}
        )
        yield str(path)
    finally:
        process.terminate()
        process.wait()


def may_mount() -> bool:
    """Whether this process may make a mount namespace."""
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class SudoHost(Sshd):
    """A server with the account `certgate`, which has a password, and a real sudo. `sudoers` is what sudo goes by.

    `folder` has to be where other accounts get to, which the folders of pytest are not.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, username=ACCOUNT, more="PasswordAuthentication yes")
        home = self.home
        os.chown(home, ACCOUNT_ID, ACCOUNT_ID)
        folder.chmod(0o711)
        etc = folder / "etc"
        etc.mkdir(exist_ok=True)
        password = subprocess.run(
            [program("openssl"), "passwd", "-6", ACCOUNT_PASSWORD], capture_output=True, text=True, check=True
        ).stdout.strip()
        entry = f"{ACCOUNT}:x:{ACCOUNT_ID}:{ACCOUNT_ID}::{home}:/bin/sh\n"
        (etc / "passwd").write_text(Path("/etc/passwd").read_text() + entry)
        (etc / "group").write_text(Path("/etc/group").read_text() + f"{ACCOUNT}:x:{ACCOUNT_ID}:\n")
        (etc / "shadow").write_text(Path("/etc/shadow").read_text() + f"{ACCOUNT}:{password}:19000:0:99999:7:::\n")
        self.sudoers = etc / "sudoers"
        self.allow("")
        mounts = "".join(
            f"mount --bind {etc}/{name} /etc/{name} && " for name in ("passwd", "group", "shadow", "sudoers")
        )
        self.before = ["unshare", "--mount", "sh", "-c", f'{mounts}exec "$@"', "sh"]

    def allow(self, lines: str) -> None:
        """What sudo allows from now on. Checked by visudo, as an operator would."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.sudoers.touch(0o440)
        # Written in place: the file is mounted.
        self.sudoers.write_text(f'Defaults secure_path="{path}"\nroot ALL=(ALL:ALL) ALL\n{lines}')
        self.sudoers.chmod(0o440)
        done = subprocess.run(
            [program("visudo"), "-c", "-f", str(self.sudoers)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout


def account_exists() -> bool:
    """Whether the machine itself knows the account; it should not."""
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        return False
    return True


__all__ = ["ACCOUNT_PASSWORD", "Sshd", "SudoHost", "account_exists", "may_mount", "ssh_agent", "sshd"]
