"""Hooks, good and bad, run by a real host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from connectors.endpoints.hook import LARGEST_OUTPUT, HookSettings, run_hook
from connectors.errors import Permanent
from tests.support.installing import local_host

AWKWARD = '/etc/tls/it\'s "a" $(touch pwned); `id`\nnext line.pem'
PATHS = {"certificate": AWKWARD, "key": "/k ey.pem", "chain": "/chain.pem"}


async def run(paths: dict[str, str] | None = None, **settings: Any) -> str:
    return await run_hook(local_host(), HookSettings.model_validate(settings), **paths or {})


def script(*lines: str) -> list[str]:
    return [sys.executable, "-c", "import os, signal, sys, time\n" + "\n".join(lines)]


async def test_without_a_hook_nothing_is_run() -> None:
    assert await run() == ""


async def test_status_and_output_are_kept() -> None:
    told = await run(hook=script("print('reloaded'); print('one warning', file=sys.stderr)"))
    assert told == "exit status 0\nreloaded\none warning"
    assert await run(hook=["true"]) == "exit status 0, no output"
    assert await run(hook=script("sys.exit(3)"), hook_statuses=[0, 3]) == "exit status 3, no output"


async def test_paths_are_words_whatever_they_look_like(tmp_path: Path) -> None:
    show = script(f"os.chdir({str(tmp_path)!r}); print(sys.argv[1:])")
    told = await run(PATHS, hook=[*show, "{certificate}", "{key}", "{chain}", "x{key}", "a b"])
    assert told.splitlines()[1] == str([AWKWARD, "/k ey.pem", "/chain.pem", "x{key}", "a b"])
    assert list(tmp_path.iterdir()) == []


async def test_a_shell_only_when_asked(tmp_path: Path) -> None:
    assert await run(hook=["echo", "$HOME", ";", "touch", str(tmp_path / "made")]) != ""
    assert not (tmp_path / "made").exists()
    line = f'cd "{tmp_path}" && printf "%s|" "$1" "$2" "$3" && touch made'
    told = await run(PATHS, hook=[line], hook_shell=True)
    assert told == f"exit status 0\n{AWKWARD}|/k ey.pem|/chain.pem|"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"hook": script("print('x'); print('cannot read /etc/tls/key.pem.', file=sys.stderr); sys.exit(7)")},
            rf"^The hook {sys.executable} failed with exit status 7: cannot read /etc/tls/key.pem\.$",
        ),
        ({"hook": script("print('only this'); sys.exit(1)")}, r"failed with exit status 1: only this\.$"),
        ({"hook": ["false"]}, r"^The hook false failed with exit status 1: it wrote nothing\.$"),
        ({"hook": script("os.kill(os.getpid(), signal.SIGTERM)")}, r"failed with signal 15: it wrote nothing\.$"),
        ({"hook": ["true"], "hook_statuses": [3]}, r"failed with exit status 0"),
        ({"hook": ["no-such-program-here"]}, r"^The hook no-such-program-here failed: Can't run .*No such file"),
        ({"hook": ["exit 9"], "hook_shell": True}, r"^The hook \(a shell line\) failed with exit status 9"),
        (
            {"hook": ["sleep 600 & sleep 600"], "hook_shell": True, "hook_timeout_seconds": 0.05},
            r"^The hook \(a shell line\) did not end within 0.05 s and was stopped\.$",
        ),
    ],
)
async def test_a_hook_that_fails_is_told_in_its_own_words(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(Permanent, match=message) as caught:
        await run(**settings)
    assert "\n" not in caught.value.message


async def test_a_flood_and_a_private_key_are_not_kept() -> None:
    begin, end = "-----BEGIN EC PRIVATE KEY-----", "-----END EC PRIVATE KEY-----"
    told = await run(
        hook=script(f"print('{begin}\\nMHcCAQEE\\n{end}\\nafter\\x1b[31m red\\a'); print('{begin}\\nMIIE')")
    )
    assert told == "exit status 0\n[a private key, left out]\nafter red\n[a private key, left out]"
    told = await run(hook=script("print('x' * 100_000); print('the end')"))
    assert len(told) < LARGEST_OUTPUT + 30
    with pytest.raises(Permanent, match=r"…x+\.$") as caught:
        await run(hook=script("print('x' * 100_000, file=sys.stderr); sys.exit(1)"))
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    "settings",
    [
        {"hook": []},
        {"hook": [" "]},
        {"hook": ["a\0b"]},
        {"hook": "systemctl reload x"},
        {"hook": ["a", "b"], "hook_shell": True},
        {"hook_shell": True},
        {"hook": ["a"], "hook_timeout_seconds": 0},
        {"hook": ["a"], "hook_statuses": []},
        {"hook": ["a"], "hook_statuses": [256]},
        {"hock": ["a"]},
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"hook|hock"):
        HookSettings.model_validate(settings)


def test_a_hook_is_named_without_its_arguments() -> None:
    assert HookSettings(hook=["deploy", "--token", "t"]).hook_title == "the hook deploy"
    assert HookSettings().hook_title == "no hook"
