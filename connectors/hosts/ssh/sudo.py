"""What certgate does as root where it is not root: one short list of commands, and nothing else.

The commands of `Root` are those that are run, and the same functions give the lines that sudoers has to allow, so the
two can't differ. What varies in them (the random part of a backup's name, an owner, a mode) has a fixed length and
stands in sudoers as so many character classes: no ``*``, which in arguments would match blanks and slashes too
(sudoers(5), "Wildcards in command arguments"). Works with every sudo; the regular expressions of 1.9.10 are not needed.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from connectors.hosts.ssh.settings import SshSettings
from model.keys import KeyAlgorithm

STATE_FORMAT = "%u_%g_%f_%s_%d_%i"
DIGEST = {KeyAlgorithm.EC_P384: "-sha384"}
GENERATE: dict[KeyAlgorithm, tuple[str, ...]] = {
    KeyAlgorithm.EC_P256: ("EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:named_curve"),
    KeyAlgorithm.EC_P384: ("EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-pkeyopt", "ec_param_enc:named_curve"),
    KeyAlgorithm.RSA_2048: ("RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    KeyAlgorithm.RSA_3072: ("RSA", "-pkeyopt", "rsa_keygen_bits:3072"),
    KeyAlgorithm.RSA_4096: ("RSA", "-pkeyopt", "rsa_keygen_bits:4096"),
    KeyAlgorithm.ED25519: ("ED25519",),
}
# Stand for one hexadecimal, octal or decimal digit in a pattern; private-use characters occur in no path.
_HEX, _OCTAL, _DECIMAL = "\ue000", "\ue001", "\ue002"
_CLASSES = {_HEX: "[0-9a-f]", _OCTAL: "[0-7]", _DECIMAL: "[0-9]"}
OWNER_DIGITS, MODE_DIGITS, BACKUP_DIGITS, MOST_REQUEST_DIGITS = 10, 4, 12, 9
_OURS = re.compile(r"[0-9a-f]{12}|key-request-[0-9]{1,9}")


@dataclass(frozen=True)
class Root:
    """The commands that are run as root, as lists of arguments. Run by `sudo -n`, or without where nobody asks."""

    prefix: tuple[str, ...] = ("sudo", "-n", "--")

    def state(self, path: str) -> list[str]:
        return [*self.prefix, "stat", "-L", "-c", STATE_FORMAT, "--", path]

    def real(self, path: str) -> list[str]:
        return [*self.prefix, "realpath", "-z", "--", path]

    def content(self, path: str) -> list[str]:
        return [*self.prefix, "cat", "--", path]

    def create(self, path: str, mode: str) -> list[str]:
        """An empty file; install(1) makes it with no more than 0600."""
        return [*self.prefix, "install", "-m", mode, "-T", "--", "/dev/null", path]

    def resemble(self, like: str, path: str) -> list[str]:
        """Owner, mode, access list and security label of another file."""
        return [*self.prefix, "cp", "-a", "--attributes-only", "-T", "--", like, path]

    def own(self, path: str, owner: str, group: str) -> list[str]:
        return [*self.prefix, "chown", "-h", "--", f"{owner}:{group}", path]

    def fill(self, path: str) -> list[str]:
        """Content from standard input, on disk when it returns."""
        return [*self.prefix, "dd", f"of={path}", "conv=notrunc,fsync", "bs=64k", "status=none"]

    def move(self, source: str, path: str) -> list[str]:
        return [*self.prefix, "mv", "-f", "-T", "--", source, path]

    def link(self, path: str, second: str) -> list[str]:
        return [*self.prefix, "ln", "-T", "--", path, second]

    def remove(self, path: str) -> list[str]:
        return [*self.prefix, "rm", "-f", "--", path]

    def sync(self, path: str) -> list[str]:
        return [*self.prefix, "sync", "--", path]

    def pending(self, folder: str, file: str) -> list[str]:
        """The names of keys that were made for a file."""
        pattern = f".{file}.certgate-key-*"
        return [*self.prefix, "find", folder, "-maxdepth", "1", "-name", pattern, "-print0"]

    def generate(self, path: str, algorithm: KeyAlgorithm) -> list[str]:
        return [*self.prefix, "openssl", "genpkey", "-algorithm", *GENERATE[algorithm], "-out", path]

    def public_key(self, path: str) -> list[str]:
        return [*self.prefix, "openssl", "pkey", "-in", path, "-passin", "pass:", "-pubout", "-outform", "DER"]

    def sign(self, path: str, algorithm: KeyAlgorithm, message: str) -> list[str]:
        """Sign what is on standard input; Ed25519 wants it in a file, `message`."""
        if algorithm is KeyAlgorithm.ED25519:
            return [*self.prefix, "openssl", "pkeyutl", "-sign", "-rawin", "-inkey", path, "-in", message]
        return [*self.prefix, "openssl", "dgst", DIGEST.get(algorithm, "-sha256"), "-sign", path]


AS_ROOT = Root()
AS_USER = Root(prefix=())


def temporary_of(path: str) -> str:
    """The name under which a file is written before it gets its own; the same as on the local host."""
    folder, file = posixpath.split(path)
    return posixpath.join(folder, f".{file}.certgate-new")


def covers(files: Sequence[str], path: str) -> str | None:
    """Which of `files` a path belongs to: the file itself, its temporary file, a backup, a key made for it."""
    for file in files:
        if path in (file, temporary_of(file)):
            return file
        start = _beside(file, "")
        if path.startswith(start) and _OURS.fullmatch(path[len(start) :]):
            return file
    return None


def as_listed(commands: Sequence[str], command: Sequence[str]) -> list[str] | None:
    """The command as it stands in `commands`, or None if it is not among them. A program without a path is taken for
    the one of that name in the list."""
    for line in commands:
        words = shlex.split(line)
        program = words[0] if "/" in command[0] else posixpath.basename(words[0])
        if [program, *words[1:]] == list(command):
            return words
    return None


def sudoers(settings: SshSettings) -> str:
    """The fragment for /etc/sudoers.d that allows exactly what certgate runs as root with these settings."""
    lines = [
        "# What certgate runs as root here; install with: visudo -c -f THIS && install -m 0440 THIS /etc/sudoers.d/",
        f"Defaults:{_word(settings.username)} !requiretty",
    ]
    who = f"{_word(settings.username)} ALL=(root) NOPASSWD: "
    commands = [shlex.split(line) for line in settings.sudo_commands]
    for file in settings.sudo_files:
        commands.extend(_commands_for(file))
        if settings.sudo_makes_keys:
            commands.extend(_commands_for_keys(file))
    lines.extend(who + _line(command) for command in commands)
    return "\n".join(lines) + "\n"


def _commands_for(file: str) -> Iterator[list[str]]:
    root, temporary, folder = AS_USER, temporary_of(file), posixpath.dirname(file)
    backup = _beside(file, _HEX * BACKUP_DIGITS)
    for path in (file, temporary, backup):
        yield root.state(path)
        yield root.remove(path)
    yield root.content(file)
    yield root.public_key(file)
    yield root.real(file)
    # Never a mode with set-user-ID: that would be any program as root.
    yield root.create(temporary, "0" + _OCTAL * (MODE_DIGITS - 1))
    yield root.resemble(file, temporary)
    yield root.own(temporary, _DECIMAL * OWNER_DIGITS, _DECIMAL * OWNER_DIGITS)
    yield root.fill(temporary)
    yield root.move(temporary, file)
    yield root.link(file, backup)
    yield root.move(backup, file)
    yield root.sync(folder)


def _commands_for_keys(file: str) -> Iterator[list[str]]:
    root, temporary = AS_USER, temporary_of(file)
    yield root.pending(*posixpath.split(file))
    yield root.sync(temporary)
    for algorithm in KeyAlgorithm:
        yield root.generate(temporary, algorithm)
    for digits in range(1, MOST_REQUEST_DIGITS + 1):
        path = _beside(file, f"key-request-{_DECIMAL * digits}")
        yield root.state(path)
        yield root.content(path)
        yield root.public_key(path)
        yield root.link(temporary, path)
        yield root.remove(path)
        for algorithm in (KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384, KeyAlgorithm.ED25519):
            yield root.sign(path, algorithm, temporary)


def _beside(file: str, name: str) -> str:
    folder, base = posixpath.split(file)
    return posixpath.join(folder, f".{base}.certgate-{name}")


def _line(command: Sequence[str]) -> str:
    program = command[0] if command[0].startswith("/") else f"/usr/bin/{command[0]}"
    return " ".join([_word(program), *(_word(word) for word in command[1:])])


def _word(word: str) -> str:
    """A word as sudoers takes it literally, classes apart."""
    escaped = re.sub(r"([\\ :,=#*?\[\]!^])", r"\\\1", word)
    return "".join(_CLASSES.get(character, character) for character in escaped)
