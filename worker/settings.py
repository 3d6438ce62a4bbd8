"""What an installation is told about itself: its home folder, its database, its Temporal cluster, its ports.

The sources, the later one wins: defaults, `certgate.toml` in the home folder, the environment.

```toml
# certgate.toml, every key with its default
# home: --home, else CERTGATE_HOME, else ~/.certgate

[database]
url = "sqlite:///<home>/certgate.db"  # CERTGATE_DATABASE_URL
url_file = ""           # CERTGATE_DATABASE_URL_FILE: a path to a file that holds the URL (a mounted secret)

[temporal]
port = 7233             # of the embedded server; 0: any free one, the same again where possible
ui_port = 8233          # of its web page; 0 as above
retention_days = 30     # how long closed workflows stay visible in the embedded server
# Any of the next three names an outside cluster instead, and so do TEMPORAL_ADDRESS, TEMPORAL_PROFILE and
# TEMPORAL_CONFIG_FILE. All go through the SDK's own environment configuration, where TLS and API keys are set.
address = ""            # host:port
profile = ""            # a profile in the SDK's configuration file
config_file = ""        # that file, where it is not in its usual place
namespace = "default"   # TEMPORAL_NAMESPACE; of the embedded server or of the cluster

proxy = ""              # http://host:port of an HTTP proxy that connections go through (CONNECT)
proxy_credential = ""   # its user:password, as a reference such as file:/etc/certgate/proxy or env:PROXY_PASSWORD

[trust]
key_file = ""           # CERTGATE_MANAGER_KEY_FILE: the manager's key, where managers on several machines share it;
                        # without it the manager makes its own, manager.key in its home
fetch_issuers = true    # fetch an issuer that is missing in a chain from where its certificates say (docs/trust.md)
fetch_networks = []     # networks, such as "10.0.0.0/8", that CA certificates are fetched from besides public addresses

[dashboard]
host = "127.0.0.1"      # CERTGATE_DASHBOARD_HOST; anything else is for containers and reverse proxies
port = 8501             # CERTGATE_DASHBOARD_PORT; 0: any free one
public_url = ""         # CERTGATE_DASHBOARD_PUBLIC_URL: what people type, if not host and port: behind a proxy
trusted_proxies = ["127.0.0.1"]  # whose word (X-Forwarded-For) is taken for where a browser is
idle_minutes = 120      # a session that nobody uses ends after so long
session_hours = 12      # a session ends after so long in any case

[notifications]
away_seconds = 60       # people are told when a gateway with open work has been away for so long
renewal_days = 7        # a certificate that it serves is open work when it must be renewed within so many days
keep_days = 90          # how long notifications are kept
ca_file = ""            # PEM certificates that webhook and mail server may be trusted by, besides the machine's own

[notifications.webhook] # none of it: no webhook
url = ""                # or a reference to one that is itself a secret: file:/absolute/path, env:NAME
secret = ""             # reference to the key that signs

[notifications.email]   # none of it: no e-mail
server = ""
port = 587
security = "starttls"   # or "tls" from the start, or "none"
user = ""
password = ""           # reference
sender = ""             # From
to = []                 # addresses that get everything
administrators = true   # administrators with an address get what concerns the gateways that they manage, too

[oidc]                  # signing in through an OpenID Connect provider; needs [dashboard] public_url (docs/sign-in.md)
issuer = ""             # the provider's address; its metadata is at ISSUER/.well-known/openid-configuration
client_id = ""
client_secret = ""      # a reference, file:/absolute/path or env:NAME; none for a public client
label = "single sign-on"  # the button says "Sign in with LABEL"
scopes = ["openid", "email", "profile"]
link = "subject"        # who is who: "subject" (an MRAO enters it), or "email" (a verified address binds it once)
email_domains = []      # whose addresses may sign in at all; none named: everybody's
prompt = ""             # such as "login" or "select_account": what the provider is asked to show
ca_file = ""            # certificates to trust at the provider, where its CA is a private one

[vault]                 # the Vault-compatible server that references vault:PATH#FIELD are looked up in
                        # (docs/credentials.md); none of it: what BAO_ADDR or VAULT_ADDR in the environment say
address = ""            # https://vault.example.com:8200
namespace = ""
ca_file = ""
token = ""              # one way of signing in: this reference (file:/absolute/path or env:NAME),
role_id = ""            # or an AppRole
secret_id = ""          # reference
client_certificate = "" # or a TLS client certificate
client_key = ""
jwt = ""                # or a JWT, such as a Kubernetes service account's: reference
sign_in_role = ""       # the role to sign in as, by JWT or certificate
sign_in_mount = ""      # where that way is mounted; default: approle, cert or kubernetes
```
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from connectors.notices.settings import NotificationSettings
from connectors.secrets import Reference
from connectors.vault import VaultAccess
from model.errors import InvalidInput, Unavailable

FILE_NAME = "certgate.toml"
OUTSIDE_VARIABLES = ("TEMPORAL_ADDRESS", "TEMPORAL_CONFIG_FILE", "TEMPORAL_PROFILE")

Port = Annotated[int, Field(ge=0, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _none_if_empty(given: object) -> object:
    """An empty string in a file means the same as no key."""
    return None if given == "" else given


def _proxy(given: str) -> str:
    """``http://host:port``, as most people write it, in that form."""
    parts = urlsplit(given if "://" in given else f"http://{given}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.username or parts.password:
        raise ValueError("must not hold a password: name a file with proxy_credential")
    if parts.scheme != "http" or not parts.hostname or port is None or parts.path.strip("/") or parts.query:
        raise ValueError("must look like http://host:port")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"http://{host}:{port}"


def _origin(url: str) -> str:
    if not url:
        return url
    parts = urlsplit(url)
    bare = parts._replace(path="", query="", fragment="").geturl()
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or url.rstrip("/") != bare:
        raise ValueError("must be a scheme and a host without a path, such as https://certgate.example.com")
    return bare.lower()


def _network(given: str) -> str:
    try:
        return str(ipaddress.ip_network(given))
    except ValueError:
        raise ValueError("must be a network such as 10.0.0.0/8 or fd00::/8") from None


def _https(url: str) -> str:
    parts = urlsplit(url)
    loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or parts.query or parts.fragment or (parts.scheme != "https" and not loopback):
        raise ValueError("must be the provider's https address, without a query")
    return url


class TemporalSettings(_Section):
    """Where Temporal is. `outside` decides between the embedded server and a configured cluster."""

    port: Port = 7233
    ui_port: Port = 8233
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    address: str | None = None
    profile: str | None = None
    config_file: Path | None = None
    namespace: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    proxy: Annotated[Annotated[str, AfterValidator(_proxy)] | None, BeforeValidator(_none_if_empty)] = None
    proxy_credential: Annotated[Reference | None, BeforeValidator(_none_if_empty)] = None

    @property
    def outside(self) -> bool:
        """True if a cluster was configured; the embedded server is then never started."""
        return bool(self.address or self.profile or self.config_file)

    @property
    def embedded_namespace(self) -> str:
        """The namespace to use in the embedded server."""
        return self.namespace or "default"


class OidcSettings(_Section):
    """The OpenID Connect provider that people may sign in through."""

    issuer: Annotated[str, Field(max_length=512), AfterValidator(_https)]
    client_id: Annotated[str, Field(min_length=1, max_length=256)]
    client_secret: Reference | None = None
    label: Annotated[str, Field(min_length=1, max_length=40)] = "single sign-on"
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    link: Literal["subject", "email"] = "subject"
    email_domains: tuple[str, ...] = ()
    prompt: str = ""
    ca_file: Path | None = None

    @property
    def metadata_url(self) -> str:
        """Where the provider describes itself (OpenID Connect Discovery 1.0 section 4)."""
        return f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"


class VaultSettings(VaultAccess):
    """The Vault-compatible server that this process looks references up in, and how it signs in there."""

    @model_validator(mode="after")
    def _signs_in_by_itself(self) -> VaultSettings:
        for reference in (self.token, self.secret_id, self.jwt):
            if reference is not None and reference.startswith("vault:"):
                raise ValueError("signs in by file:/absolute/path or env:NAME, not by what it holds itself")
        return self


class TrustSettings(_Section):
    """Where the manager's key is, if not in its home, and from where CA certificates may be fetched."""

    key_file: Path | None = None
    fetch_issuers: bool = True
    fetch_networks: tuple[Annotated[str, AfterValidator(_network)], ...] = ()


class DashboardSettings(_Section):
    """Where the dashboard listens, where browsers find it, and how long their sessions last."""

    host: str = "127.0.0.1"
    port: Port = 8501
    public_url: Annotated[str, AfterValidator(_origin)] = ""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1",)
    idle_minutes: Annotated[int, Field(ge=5, le=1440)] = 120
    session_hours: Annotated[int, Field(ge=1, le=720)] = 12

    @property
    def secure(self) -> bool:
        """Whether browsers come over HTTPS."""
        return self.public_url.startswith("https://")


class Settings(_Section):
    """One installation. Make it with `load`; the home folder exists then and belongs to its owner alone."""

    home: Path
    # The URL may hold a password: it shows only by get_secret_value().
    database_url: SecretStr
    temporal: TemporalSettings = TemporalSettings()
    dashboard: DashboardSettings = DashboardSettings()
    trust: TrustSettings = TrustSettings()
    notifications: NotificationSettings = NotificationSettings()
    oidc: OidcSettings | None = None
    vault: VaultSettings | None = None

    @property
    def logs(self) -> Path:
        """The folder that the processes' logs are in."""
        return self.home / "logs"

    @property
    def run(self) -> Path:
        """The folder for what is only true while processes run."""
        return self.home / "run"


def _oidc(given: object) -> object:
    """An empty string means the same as no key, and without an issuer there is no provider."""
    if not isinstance(given, dict):
        return given
    told = {name: value for name, value in given.items() if value != "" or name in ("issuer", "client_id")}
    return told if told.get("issuer") else None


def given_vault(given: object) -> object:
    """``[vault]`` as the documented example reads: an empty text is no key, and without an address there is none."""
    if not isinstance(given, dict):
        return given
    told = {name: value for name, value in given.items() if value != ""}
    return told if told.get("address") else None


class _DatabaseFile(_Section):
    url: SecretStr | None = None
    url_file: Path | None = None


class _File(_Section):
    """`certgate.toml` as it stands."""

    database: _DatabaseFile = _DatabaseFile()
    temporal: TemporalSettings = TemporalSettings()
    dashboard: DashboardSettings = DashboardSettings()
    trust: TrustSettings = TrustSettings()
    oidc: Annotated[OidcSettings | None, BeforeValidator(_oidc)] = None
    vault: Annotated[VaultSettings | None, BeforeValidator(given_vault)] = None
    notifications: NotificationSettings = NotificationSettings()

    @field_validator("notifications", mode="before")
    @classmethod
    def _empty_as_missing(cls, given: Any) -> Any:
        return _without_empty(given)


def load(home: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings of an installation, and makes its home folder (mode 0700) if there is none.

    `home` is what `--home` said; `environment` is `os.environ` unless a test says otherwise.

    Raises:
        InvalidInput: the settings file or a variable is wrong; the sentence names the key.
        Unavailable: the home folder, or a file named in the settings, cannot be used.
    """
    variables = os.environ if environment is None else environment
    folder = _home(home, variables)
    file = _read_file(folder / FILE_NAME)

    # An empty string in the file means the same as no key: that is how the documented example reads.
    temporal = {name: value for name, value in file.temporal.model_dump().items() if value not in ("", Path())}
    for key, variable in zip(("address", "config_file", "profile"), OUTSIDE_VARIABLES, strict=True):
        if variables.get(variable):
            temporal[key] = variables[variable]
    if variables.get("TEMPORAL_NAMESPACE"):
        temporal["namespace"] = variables["TEMPORAL_NAMESPACE"]
    dashboard = file.dashboard.model_dump()
    for key in ("host", "port", "public_url"):
        if variables.get(f"CERTGATE_DASHBOARD_{key.upper()}"):
            dashboard[key] = variables[f"CERTGATE_DASHBOARD_{key.upper()}"]
    if file.oidc is not None and not dashboard["public_url"]:
        raise InvalidInput(
            f"{folder / FILE_NAME} sets [oidc] without 'public_url' under [dashboard]: the provider has to know where "
            "to send people back to."
        )
    try:
        return Settings(
            home=folder,
            database_url=_database_url(file.database, folder, variables),
            temporal=TemporalSettings.model_validate(temporal),
            dashboard=DashboardSettings.model_validate(dashboard),
            trust=file.trust.model_copy(update={"key_file": _key_file(file.trust, folder, variables)}),
            notifications=_placed(file.notifications, folder),
            oidc=file.oidc,
            vault=file.vault,
        )
    except ValidationError as error:
        raise InvalidInput(f"The environment has a wrong setting: {explain(error)}.") from None


def _home(named: Path | None, variables: Mapping[str, str]) -> Path:
    home = (named or Path(variables.get("CERTGATE_HOME") or Path.home() / ".certgate")).expanduser().absolute()
    try:
        # Parents get the usual mode; only the home itself is closed to others.
        home.parent.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"The home folder {home} cannot be made: {error.strerror}; name another with --home."
        ) from None
    # One home has one name: a running server is recognized by the path of its state file.
    return home.resolve()


def _read_file(path: Path) -> _File:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return _File()
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8 text.") from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}.") from None
    try:
        return _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}.") from None
    except ValidationError as error:
        raise InvalidInput(f"{path} is wrong: {explain(error)}.") from None


def _placed(given: NotificationSettings, home: Path) -> NotificationSettings:
    return given if given.ca_file is None else given.model_copy(update={"ca_file": home / given.ca_file})


def _without_empty(given: Any) -> Any:
    """``[notifications]`` as the documented example reads: an empty text is no key, and a webhook without URL and
    e-mail without server are none."""
    if not isinstance(given, dict):
        return given
    kept: dict[str, Any] = {}
    for key, value in given.items():
        if isinstance(value, dict):
            if value.get("url" if key == "webhook" else "server") != "":
                kept[key] = _without_empty(value)
        elif value != "":
            kept[key] = value
    return kept


def explain(error: ValidationError) -> str:
    """The first complaint, in words, and without the value: it may be a secret."""
    first = error.errors(include_input=False, include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"there is no key '{key}'"
    message = first["msg"]
    return f"'{key}': {message[0].lower()}{message[1:]}"


def _database_url(file: _DatabaseFile, home: Path, variables: Mapping[str, str]) -> SecretStr:
    if variables.get("CERTGATE_DATABASE_URL"):
        return SecretStr(variables["CERTGATE_DATABASE_URL"])
    if variables.get("CERTGATE_DATABASE_URL_FILE"):
        return _secret_file(Path(variables["CERTGATE_DATABASE_URL_FILE"]), "CERTGATE_DATABASE_URL_FILE")
    if file.url is not None and file.url.get_secret_value():
        return file.url
    if file.url_file is not None and file.url_file != Path():
        return _secret_file(home / file.url_file, "database.url_file")
    return SecretStr(f"sqlite:///{home / 'certgate.db'}")


def _key_file(file: TrustSettings, home: Path, variables: Mapping[str, str]) -> Path | None:
    if variables.get("CERTGATE_MANAGER_KEY_FILE"):
        return Path(variables["CERTGATE_MANAGER_KEY_FILE"]).absolute()
    if file.key_file is not None and file.key_file != Path():
        return home / file.key_file
    return None


def _secret_file(path: Path, named_by: str) -> SecretStr:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Unavailable(f"The file {path} (named by {named_by}) cannot be read: {error.strerror}.") from None
    if not secret:
        raise InvalidInput(f"The file {path} (named by {named_by}) is empty.")
    return SecretStr(secret)
