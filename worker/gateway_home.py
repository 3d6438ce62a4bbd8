"""A gateway's home: its number and name, how it reaches Temporal, its keys and its journal.

```toml
# gateway.toml
id = 1
name = "local"
manager_home = "/home/me/.certgate"  # where the manager's embedded server is on this machine; else:

[temporal]                           # as in certgate.toml; the SDK's environment configuration holds too
address = "temporal.example:7233"
namespace = "default"
```
"""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from model.errors import InvalidInput
from worker import settings as manager_settings
from worker.settings import Settings, TemporalSettings

FILE_NAME = "gateway.toml"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: int
    name: str
    manager_home: Path | None = None
    temporal: TemporalSettings = TemporalSettings()


@dataclass(frozen=True)
class GatewayHome:
    """A gateway's own folder, mode 0700."""

    folder: Path
    gateway_id: int
    name: str
    manager_home: Path | None
    temporal: TemporalSettings

    def settings(self) -> Settings:
        """How this gateway connects: over the manager's home on the same machine, else by its own file."""
        if self.manager_home is not None:
            return manager_settings.load(self.manager_home)
        outside = {
            "address": os.environ.get("TEMPORAL_ADDRESS") or self.temporal.address,
            "namespace": os.environ.get("TEMPORAL_NAMESPACE") or self.temporal.namespace,
            "profile": os.environ.get("TEMPORAL_PROFILE") or self.temporal.profile,
            "config_file": os.environ.get("TEMPORAL_CONFIG_FILE") or self.temporal.config_file,
        }
        # A gateway has no database; the URL is one that nothing could ever be read from.
        nothing = SecretStr("sqlite://")
        return Settings(home=self.folder, database_url=nothing, temporal=TemporalSettings.model_validate(outside))


def write(
    folder: Path,
    gateway_id: int,
    name: str,
    *,
    manager_home: Path | None = None,
    temporal: dict[str, str] | None = None,
) -> GatewayHome:
    """Make a gateway's home. One that is there is kept if it belongs to the same gateway, else `InvalidInput`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    path = folder / FILE_NAME
    if path.exists():
        there = read(folder)
        if there.gateway_id != gateway_id:
            raise InvalidInput(f"{folder} is the home of gateway {there.name}: choose another folder.")
        return there
    # A JSON string is a TOML string for every name that certgate allows.
    lines = [f"id = {gateway_id}", f"name = {json.dumps(name)}"]
    if manager_home is not None:
        lines.append(f"manager_home = {json.dumps(str(manager_home))}")
    if temporal:
        lines += ["", "[temporal]", *(f"{key} = {json.dumps(value)}" for key, value in temporal.items())]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)
    return read(folder)


def read(folder: Path) -> GatewayHome:
    """Read a gateway's home; raises `InvalidInput` with one sentence."""
    path = folder / FILE_NAME
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text())
        file = _File.model_validate(values)
    except FileNotFoundError:
        raise InvalidInput(f"{folder} is not a gateway's home: run `certgate gateway join` first.") from None
    except (tomllib.TOMLDecodeError, ValidationError, OSError) as error:
        raise InvalidInput(f"{path} can't be used: {str(error).splitlines()[0]}.") from None
    return GatewayHome(folder, file.id, file.name, file.manager_home, file.temporal)
