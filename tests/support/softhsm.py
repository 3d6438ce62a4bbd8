"""Tokens of SoftHSM: a folder of their own for this process and its children, a token for whoever asks."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.support.programs import program

PIN = "a PIN of tests"


@cache
def module() -> str:
    """The library's path. The first call makes the folder of the tokens and says so to the library, by the only way
    that it has: the environment."""
    if "CERTGATE_TEST_TOKENS" not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="certgate-hsm-"))
        (folder / "tokens").mkdir()
        configuration = folder / "softhsm2.conf"
        configuration.write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
        os.environ["SOFTHSM2_CONF"] = str(configuration)
        os.environ["CERTGATE_TEST_TOKENS"] = str(folder)
        owner = os.getpid()
        atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return "/usr/lib/softhsm/libsofthsm2.so"


def folder() -> Path:
    """Where the tokens are, one folder a token."""
    module()
    return Path(os.environ["CERTGATE_TEST_TOKENS"]) / "tokens"


def new_token(label: str | None = None, pin: str = PIN) -> str:
    """Make a token; gives its label."""
    module()
    label = label or f"token {secrets.token_hex(6)}"
    command = [program("softhsm2-util"), "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", "0000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return label


def remove_token(label: str) -> None:
    """Pull it for good."""
    command = [program("softhsm2-util"), "--delete-token", "--token", label]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
