"""A process that carries out installs in children of its own, each of which is killed at a line of `connectors/` that
it is told: a job a line in, how it ended a line out."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from connectors.endpoints.contract import Material
from connectors.endpoints.journal import Journal
from connectors.endpoints.procedure import install
from connectors.errors import ConnectorError
from connectors.registry import Surroundings, find
from connectors.secrets import resolve
from connectors.web import trusting

ROOT = Path(__file__).resolve().parents[4]


@dataclass(frozen=True)
class Ended:
    """`lines` were run of `connectors/`; `told` is empty where the install came to a good end."""

    killed: bool
    lines: int = 0
    told: str = ""


class Killer:
    """The process from enter to exit."""

    def __enter__(self) -> Killer:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.connectors.endpoints.f5.drill"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def run(self, settings: dict[str, Any], home: Path, binding: str, material: Material, at: int | None) -> Ended:
        """Install, and die at the line of that number; None: live, and count. It blocks."""
        assert material.private_key_pem is not None
        job = {
            "settings": settings,
            "home": str(home),
            "binding": binding,
            "material": [material.certificate_pem, list(material.chain_pem), material.private_key_pem.decode()],
            "at": at,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


async def carry_out(settings: dict[str, Any], home: Path, binding: str, material: Material) -> str:
    """Install once; gives what failed."""
    kind = find("endpoints", "f5-big-ip")
    endpoint = kind.open(kind.configure(settings), Surroundings(home, resolve))
    try:
        await install(endpoint, binding, material, journal=Journal(home / "journal"), progress=lambda _: None)
    except ConnectorError as error:
        return f"{type(error).__name__}: {error.message}"
    return ""


def _work(job: dict[str, Any]) -> dict[str, Any]:
    lines, folder = 0, str(ROOT / "connectors") + os.sep

    def line(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == job["at"]:
                os.kill(os.getpid(), signal.SIGKILL)
        return line

    def call(frame: FrameType, _event: str, _argument: object) -> Any:
        return line if frame.f_code.co_filename.startswith(folder) else None

    certificate, chain, key = job["material"]
    material = Material(certificate, chain, key.encode())
    threading.settrace(call)
    sys.settrace(call)
    told = asyncio.run(carry_out(job["settings"], Path(job["home"]), job["binding"], material))
    sys.settrace(None)
    return {"killed": False, "lines": lines, "told": told}


def main() -> None:
    """Until the input ends."""
    find("endpoints", "f5-big-ip")
    for text in sys.stdin:
        job = json.loads(text)
        trusting(Path(job["settings"]["ca_file"]))
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours)
            with os.fdopen(theirs, "w") as stream:
                stream.write(json.dumps(_work(job)))
            os._exit(0)
        os.close(theirs)
        with os.fdopen(ours) as stream:
            ended = stream.read()
        os.waitpid(child, 0)
        print(ended or json.dumps({"killed": True}), flush=True)


if __name__ == "__main__":
    main()
