"""A gateway's home: its number and name, its channel, how it reaches Temporal, its keys and its journal.

```toml
# gateway.toml
id = 1
name = "local"
channel = 1                          # which enrollment this is; a restore opens the next one
installation = "0123456789ab"        # the certgate that it belongs to
manager_key = "…"                    # the manager's public key: nobody else is believed
manager_home = "/home/me/.certgate"  # where the manager's embedded server is on this machine; else:

[temporal]                           # as in certgate.toml; the SDK's environment configuration holds too
address = "temporal.example:7233"
namespace = "default"
proxy = "http://proxy.example:3128"  # where there is no way out but through an HTTP proxy
proxy_credential = "file:/etc/certgate/proxy"   # its user:password; or env:NAME

[vault]                              # as in certgate.toml: where this gateway looks references vault:PATH#FIELD up
address = "https://vault.example:8200"
token = "file:/etc/certgate/vault-token"

[discovery]                          # none of it: networks are not looked through (docs/inventory.md)
networks = ["10.0.0.0/24"]           # the only ones that this gateway looks through, whoever asks
ports = [443, 8443, "9000-9100"]     # the only ports there; default: the usual ones of TLS
rate = 50                            # the most connections a second, of all scans together
at_once = 32                         # the most that are open at a time
```

The channel's private key is beside it, `channel-NUMBER.key`, mode 0600.
"""

from __future__ import annotations

import json
import os
import secrets
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator

from connectors.endpoints import scan
from connectors.errors import Permanent
from model import channel as channels
from model.channel import Parties
from model.errors import InvalidInput
from worker import settings as manager_settings
from worker.settings import Settings, TemporalSettings, VaultSettings, given_vault

FILE_NAME = "gateway.toml"


class DiscoverySettings(BaseModel):
    """What may be looked through for certificates; nothing, unless it is named."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    networks: tuple[str, ...] = ()
    ports: tuple[int | str, ...] = scan.USUAL_PORTS
    rate: int = Field(default=scan.RATE, ge=1, le=scan.MOST_RATE)
    at_once: int = Field(default=scan.AT_ONCE, ge=1, le=scan.MOST_AT_ONCE)

    @field_validator("networks")
    @classmethod
    def _networks(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for word in given:
            try:
                scan.network(word)
            except Permanent as error:
                raise ValueError(error.message) from None
        return given

    @field_validator("ports")
    @classmethod
    def _ports(cls, given: tuple[int | str, ...]) -> tuple[int | str, ...]:
        scan.ports(given)
        return given

    def rules(self) -> scan.Rules:
        """The same as scans are held to."""
        networks = tuple(scan.network(word) for word in self.networks)
        return scan.Rules(networks, scan.ports(self.ports), self.rate, self.at_once)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: int
    name: str
    channel: int = 1
    installation: str | None = None
    manager_key: str | None = None
    manager_home: Path | None = None
    temporal: TemporalSettings = TemporalSettings()
    vault: Annotated[VaultSettings | None, BeforeValidator(given_vault)] = None
    discovery: DiscoverySettings = DiscoverySettings()


@dataclass(frozen=True)
class Enrolled:
    """What a join agreed: the channel's number, and whom to believe."""

    channel: int
    installation: str
    manager_key: str


@dataclass(frozen=True)
class GatewayHome:
    """A gateway's own folder, mode 0700. `enrolled` is None for one that joined under 0.1 and has no channel key."""

    folder: Path
    gateway_id: int
    name: str
    manager_home: Path | None
    temporal: TemporalSettings
    enrolled: Enrolled | None = None
    vault: VaultSettings | None = None
    discovery: DiscoverySettings = field(default_factory=DiscoverySettings)

    @property
    def channel(self) -> int:
        """The number of its channel."""
        return self.enrolled.channel if self.enrolled else 1

    def settings(self) -> Settings:
        """How this gateway connects: over the manager's home on the same machine, else by its own file."""
        if self.manager_home is not None:
            there = manager_settings.load(self.manager_home)
            return there.model_copy(update={"vault": self.vault}) if self.vault else there
        outside = {
            **self.temporal.model_dump(),
            "address": os.environ.get("TEMPORAL_ADDRESS") or self.temporal.address,
            "namespace": os.environ.get("TEMPORAL_NAMESPACE") or self.temporal.namespace,
            "profile": os.environ.get("TEMPORAL_PROFILE") or self.temporal.profile,
            "config_file": os.environ.get("TEMPORAL_CONFIG_FILE") or self.temporal.config_file,
        }
        # A gateway has no database; the URL is one that nothing could ever be read from.
        nothing = SecretStr("sqlite://")
        temporal = TemporalSettings.model_validate(outside)
        return Settings(home=self.folder, database_url=nothing, temporal=temporal, vault=self.vault)

    def key(self) -> tuple[X25519PrivateKey, Parties] | None:
        """The channel's private key and whose channel it is; None where nothing was agreed. Raises `InvalidInput`."""
        if self.enrolled is None:
            return None
        path = _key_path(self.folder, self.channel)
        key = _read_key(path)
        if key is None:
            raise InvalidInput(f"The channel's key {path} is missing: restore gateway {self.name}, then join again.")
        parties = Parties(
            self.enrolled.installation,
            self.gateway_id,
            self.channel,
            self.enrolled.manager_key,
            channels.public_text(key),
        )
        return key, parties


def holds_key(folder: Path, channel: int) -> bool:
    """Whether the home has a key for this channel already."""
    return _key_path(folder, channel).exists()


def drop_key(folder: Path, channel: int) -> None:
    """Delete the key of a channel that came to nothing, and the home where nothing else is in it."""
    _key_path(folder, channel).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def hold_key(folder: Path, channel: int) -> X25519PrivateKey:
    """The private key of a channel, made and on the disk before anybody hears of it; the same when asked again."""
    path = _key_path(folder, channel)
    key = _read_key(path)
    if key is not None:
        return key
    made = channels.new_key()
    _replace(path, channels.private_pem(made))
    return made


def write(
    folder: Path,
    gateway_id: int,
    name: str,
    *,
    manager_home: Path | None = None,
    temporal: Mapping[str, str] | None = None,
    enrolled: Enrolled | None = None,
    take_over: bool = False,
) -> GatewayHome:
    """Make a gateway's home, or bring it to another channel. Raises `InvalidInput` where another gateway lives, unless
    `take_over`.

    What the file says of the way to Temporal stays, but for what is given, and so do its ``[vault]`` and its
    ``[discovery]``. Keys of earlier channels are deleted.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    path = folder / FILE_NAME
    way: dict[str, Any] = {}
    vault: dict[str, Any] = {}
    discovery: dict[str, Any] = {}
    if path.exists():
        there = read(folder)
        if there.gateway_id != gateway_id and not take_over:
            raise InvalidInput(f"{folder} is the home of gateway {there.name}: choose another folder.")
        same = (there.gateway_id, there.enrolled, there.manager_home) == (gateway_id, enrolled, manager_home)
        if same and not temporal:
            return there
        way = there.temporal.model_dump(exclude_defaults=True, exclude_none=True, mode="json")
        if there.vault is not None:
            vault = there.vault.model_dump(exclude_none=True, mode="json")
        discovery = there.discovery.model_dump(exclude_defaults=True, mode="json")
    way.update(temporal or {})
    # A JSON string is a TOML string for every name that certgate allows.
    lines = [f"id = {gateway_id}", f"name = {json.dumps(name)}"]
    if enrolled is not None:
        lines += [
            f"channel = {enrolled.channel}",
            f"installation = {json.dumps(enrolled.installation)}",
            f"manager_key = {json.dumps(enrolled.manager_key)}",
        ]
    if manager_home is not None:
        lines.append(f"manager_home = {json.dumps(str(manager_home))}")
    if way:
        lines += ["", "[temporal]", *(f"{key} = {json.dumps(value)}" for key, value in way.items())]
    if vault:
        lines += ["", "[vault]", *(f"{key} = {json.dumps(value)}" for key, value in vault.items())]
    if discovery:
        lines += ["", "[discovery]", *(f"{key} = {json.dumps(value)}" for key, value in discovery.items())]
    _replace(path, ("\n".join(lines) + "\n").encode())
    if enrolled is not None:
        for old in folder.glob("channel-*.key"):
            if old != _key_path(folder, enrolled.channel):
                old.unlink(missing_ok=True)
    return read(folder)


def read(folder: Path) -> GatewayHome:
    """Read a gateway's home; raises `InvalidInput` with one sentence."""
    path = folder / FILE_NAME
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text())
        file = _File.model_validate(values)
    except FileNotFoundError:
        raise InvalidInput(f"{folder} is not a gateway's home: run `certgate gateway join` first.") from None
    except ValidationError as error:
        raise InvalidInput(f"{path} is wrong: {manager_settings.explain(error)}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InvalidInput(f"{path} can't be used: {str(error).splitlines()[0]}.") from None
    enrolled = None
    if file.installation is not None and file.manager_key is not None:
        enrolled = Enrolled(file.channel, file.installation, file.manager_key)
    return GatewayHome(
        folder, file.id, file.name, file.manager_home, file.temporal, enrolled, file.vault, file.discovery
    )


def _key_path(folder: Path, channel: int) -> Path:
    return folder / f"channel-{channel}.key"


def _read_key(path: Path) -> X25519PrivateKey | None:
    try:
        mode = path.stat().st_mode & 0o777
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput(f"The channel's key {path} can't be read: {error.strerror}.") from None
    if mode & 0o077:
        raise InvalidInput(f"The channel's key {path} is open to others (mode {mode:04o}): run chmod 600 on it.")
    try:
        return channels.read_private(content)
    except InvalidInput as error:
        raise InvalidInput(f"The channel's key {path} can't be used. {error.message}") from None


def _replace(path: Path, content: bytes) -> None:
    """Put a file there, whole or not at all, for its owner alone."""
    unfinished = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.rename(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InvalidInput(f"{path} can't be written: {error.strerror}.") from None
