"""A hook: the command that an administrator sets, run on the endpoint's host once the files are in place.

It is a list of words that no shell looks at, unless a shell is asked for. Its exit status says whether it went well;
what it wrote is kept, bounded and without private keys, for the installation's record and for the error's sentence. It
is never proof that the new certificate is served: handshakes are.
"""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from connectors.errors import Permanent
from connectors.hosts.contract import CommandResult, Host

SHELL = "/bin/sh"
LARGEST_OUTPUT = 4096
"""Characters of a hook's output that are kept: the last ones, where a command says how it ended."""
_LONGEST_COMPLAINT = 300
_PLACEHOLDERS = ("{certificate}", "{key}", "{chain}")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
# Terminal sequences (ECMA-48 section 5.4) and other control characters, but for tab and line feed.
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class HookSettings(BaseModel):
    """Settings of a hook, for endpoint types to inherit from."""

    model_config = ConfigDict(extra="forbid")

    hook: list[str] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description='Command that is run after the files were exchanged, such as ["systemctl", "reload", "vsftpd"]. '
        "A word {certificate}, {key} or {chain} becomes the path of that file.",
    )
    hook_shell: bool = Field(
        default=False,
        description="Let /bin/sh run the hook, which is then one line; in it $1 is the certificate's path, $2 the "
        "key's and $3 the chain's.",
    )
    hook_timeout_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="A hook that takes longer is ended, and the install is put back."
    )
    hook_statuses: list[int] = Field(
        default=[0], min_length=1, max_length=256, description="Exit statuses that mean that the hook went well."
    )

    @field_validator("hook")
    @classmethod
    def _words(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and (not value[0].strip() or any("\0" in word for word in value)):
            raise ValueError("the first word must be a program, and no word may hold a NUL character")
        return value

    @field_validator("hook_statuses")
    @classmethod
    def _statuses(cls, value: list[int]) -> list[int]:
        if not all(0 <= status <= 255 for status in value):
            raise ValueError("exit statuses are numbers from 0 to 255")
        return value

    @model_validator(mode="after")
    def _one_line_for_a_shell(self) -> Self:
        if self.hook_shell and (self.hook is None or len(self.hook) != 1):
            raise ValueError("hook_shell needs a hook of exactly one word, which is the shell's line")
        return self

    @property
    def hook_title(self) -> str:
        """The hook in sentences: its program, or that it is a shell's line. Its arguments are left out."""
        if self.hook is None:
            return "no hook"
        return "the hook (a shell line)" if self.hook_shell else f"the hook {self.hook[0]}"


async def run_hook(
    host: Host, settings: HookSettings, *, certificate: str = "", key: str = "", chain: str | None = None
) -> str:
    """Run the hook, if one is set, and give its exit status and output as text (see `bounded`); empty without a hook.

    `certificate`, `key` and `chain` are the paths that its placeholders stand for. Raises `Permanent` with the hook's
    own words where its exit status is none of the accepted ones, where it can't be started, and where it had to be
    ended after its timeout.
    """
    if settings.hook is None:
        return ""
    words = (certificate, key, chain or "")
    if settings.hook_shell:
        # Paths are parameters of the shell, never part of its line.
        command = [SHELL, "-c", settings.hook[0], "certgate-hook", *words]
    else:
        values = dict(zip(_PLACEHOLDERS, words, strict=True))
        command = [values.get(word, word) for word in settings.hook]
    title = settings.hook_title[0].upper() + settings.hook_title[1:]
    seconds = settings.hook_timeout_seconds
    begun = asyncio.get_running_loop().time()
    try:
        result = await host.run(command, timeout=timedelta(seconds=seconds))
    except Permanent as error:
        if asyncio.get_running_loop().time() - begun >= seconds:
            # The host's own sentence has the whole command, with its arguments.
            raise Permanent(f"{title} did not end within {seconds:g} s and was stopped.") from error
        raise Permanent(f"{title} failed: {error.message}") from error
    if result.status not in settings.hook_statuses:
        raise Permanent(f"{title} failed with {_ending(result)}: {complaint(result)}.")
    output = bounded(result)
    return f"{_ending(result)}\n{output}" if output else f"{_ending(result)}, no output"


def complaint(result: CommandResult) -> str:
    """What a failed command says, for a sentence: its last lines, standard error before standard output, one line of at
    most 300 characters without a full stop."""
    for text in (result.errors, result.output):
        lines = [line.strip().rstrip(".") for line in plain(text).splitlines() if line.strip()]
        if lines:
            said = "; ".join(dict.fromkeys(lines[-3:]))
            return said if len(said) <= _LONGEST_COMPLAINT else f"…{said[-_LONGEST_COMPLAINT:]}"
    return "it wrote nothing"


def bounded(result: CommandResult) -> str:
    """What a command wrote, output before errors: the last 4096 characters, without control characters or keys."""
    text = "\n".join(part for part in (plain(result.output).strip(), plain(result.errors).strip()) if part)
    return text if len(text) <= LARGEST_OUTPUT else f"…{text[-LARGEST_OUTPUT:]}"


def plain(text: str) -> str:
    """Text of a command without private keys, terminal sequences and control characters."""
    return _CONTROL.sub("", _PRIVATE_KEY.sub("[a private key, left out]", text.replace("\r\n", "\n")))


def _ending(result: CommandResult) -> str:
    return f"exit status {result.status}" if result.status >= 0 else f"signal {-result.status}"
