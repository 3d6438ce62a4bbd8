"""Credential references."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from connectors import secrets
from connectors.errors import Permanent
from connectors.secrets import resolve


def secret_file(folder: Path, content: bytes, mode: int = 0o600) -> str:
    path = folder / "pass"
    path.write_bytes(content)
    path.chmod(mode)
    return f"file:{path}"


@pytest.mark.parametrize(
    ("content", "secret"),
    [(b"abc", b"abc"), (b"abc\n", b"abc"), (b"abc\r\n", b"abc"), (b" a b \n\n", b" a b \n"), (b"\xff\n", b"\xff")],
)
def test_a_file_without_its_last_line_end(tmp_path: Path, content: bytes, secret: bytes) -> None:
    assert resolve(secret_file(tmp_path, content)) == secret


def test_a_variable() -> None:
    assert resolve("env:NAME", {"NAME": "välue"}) == "välue".encode()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("hunter2", "must look like"),
        ("vault:hunter2", "must look like"),
        ("", "must look like"),
        ("env:NONE", "env:NONE is not set"),
        ("env:EMPTY", "env:EMPTY is empty"),
        ("file:relative/path", "absolute path"),
        ("file:/nonexistent/pass", "No such file"),
        ("file:/nonexistent/\x00", "can't be"),
        ("file:/proc", "not a regular file"),
    ],
)
def test_what_can_not_be_resolved(reference: str, message: str) -> None:
    with pytest.raises(Permanent, match=message) as caught:
        resolve(reference, {"EMPTY": ""})
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(Permanent, match=rf"open to others \(mode {mode:04o}\)") as caught:
        resolve(secret_file(tmp_path, b"hunter2", mode))
    assert "hunter2" not in caught.value.message


def test_a_container_secret_may_have_any_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = secret_file(tmp_path, b"abc", 0o444)
    monkeypatch.setattr(secrets, "CONTAINER_SECRETS", tmp_path)
    assert resolve(reference) == b"abc"


def test_a_link_out_of_the_container_secrets_does_not_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = secret_file(tmp_path, b"abc", 0o444)
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "link").symlink_to(reference.removeprefix("file:"))
    monkeypatch.setattr(secrets, "CONTAINER_SECRETS", mount)
    with pytest.raises(Permanent, match="open to others"):
        resolve(f"file:{mount / 'link'}")


def test_size_and_kind(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="longer than"):
        resolve(secret_file(tmp_path, b"x" * 70_000))
    with pytest.raises(Permanent, match="is empty"):
        resolve(secret_file(tmp_path, b"\n"))
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(Permanent, match="not a regular file"):
        resolve(f"file:{tmp_path / 'pipe'}")
