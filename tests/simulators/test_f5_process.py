"""``certgate simulate f5``: what it prints is enough to use it, and it serves until it is stopped."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.installing import ThrowawayAuthority, fingerprint_of
from tests.support.products import Described, Installation, shown
from tests.support.programs import program


def test_the_command_prints_how_to_use_it_and_serves_until_it_is_stopped(tmp_path: Path) -> None:
    command = [program("certgate"), "simulate", "f5", "--faults", "off"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert Path(told["password_file"]).stat().st_mode & 0o077 == 0
        settings = {name: told[name] for name in ("address", "port", "ca_file", "username", "device_group")}
        settings["password"] = f"file:{told['password_file']}"
        material = ThrowawayAuthority().issue("www.example.com")
        asyncio.run(Installation(Described("f5-big-ip", settings, "/Common/www", ()), tmp_path).install(material))
        assert shown(told["virtual_servers"]["vs_web"], "www.example.com") == fingerprint_of(material)
        assert len(_control(told, "calls")) > 20
        _control(told, "fail_over")
        assert shown(told["virtual_servers"]["vs_web"], "www.example.com") == fingerprint_of(material)
        _control(told, "change", method="DELETE", path="ltm/profile/client-ssl/~Common~idle", body={})
        with pytest.raises(urllib.error.HTTPError) as caught:
            _control(told, "change", method="DELETE", path="ltm/profile/client-ssl/~Common~idle", body={})
        caught.value.close()
        with pytest.raises(urllib.error.HTTPError) as caught:
            _control({**told, "control_secret": "guessed"}, "calls")
        caught.value.close()
        process.send_signal(signal.SIGTERM)
        rest, words = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")
    assert "Ctrl-C" in words
    assert not Path(told["ca_file"]).exists()


def _control(told: dict[str, Any], verb: str, **arguments: Any) -> Any:
    request = urllib.request.Request(
        f"{told['control_url']}{verb}",
        data=json.dumps(arguments).encode(),
        headers={"x-control-secret": told["control_secret"]},
        method="POST",
    )
    context = ssl.create_default_context(cafile=told["ca_file"])
    with urllib.request.urlopen(request, context=context) as answer:
        return json.load(answer)["value"]
