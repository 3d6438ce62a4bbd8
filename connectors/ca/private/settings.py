"""What can be configured of the private CA."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated

from cryptography import x509 as crypto
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from model.errors import InvalidInput
from model.keys import KeyAlgorithm
from model.rules.names import normalize_name

DAY_SECONDS = 86_400
# Edwards-curve keys are left out: no browser takes them in a server certificate. A profile may list them.
USUAL_ALGORITHMS = tuple(one for one in KeyAlgorithm if one is not KeyAlgorithm.ED25519)


def _http_url(url: str) -> str:
    # Not https: to check the certificate of that server one would need what is to be fetched (RFC 5280 section 8).
    if not url.startswith("http://") or not url.isascii() or len(url) > 1000 or any(one.isspace() for one in url):
        raise ValueError("must be an http:// address")
    return url


def _subtree(name: str) -> str:
    try:
        return str(ipaddress.ip_network(name)) if "/" in name else normalize_name(name.removeprefix("."))
    except (ValueError, InvalidInput) as error:
        raise ValueError(f"{name!a} is neither a DNS domain nor an address range ({error})") from None


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Subtree = Annotated[str, AfterValidator(_subtree)]


class Profile(BaseModel):
    """What certificates of one kind have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    validity_seconds: int = Field(ge=60, le=825 * DAY_SECONDS, description="Longest life, backdating included.")
    algorithms: tuple[KeyAlgorithm, ...] = Field(default=USUAL_ALGORITHMS, min_length=1, description="Keys it takes.")
    client_authentication: bool = Field(
        default=False, description="Adds clientAuth to the extended key usage serverAuth."
    )


def _default_profiles() -> Mapping[str, Profile]:
    return {
        "server": Profile(validity_seconds=47 * DAY_SECONDS),
        "short": Profile(validity_seconds=6 * DAY_SECONDS),
        "year": Profile(validity_seconds=398 * DAY_SECONDS),
    }


class Settings(BaseModel):
    """Settings of the built-in private CA. Names and ranges under `permitted_names` and `excluded_names` are subtrees
    as in RFC 5280 section 4.2.1.10: ``example.com`` is itself and everything below it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path | None = Field(
        default=None, description="Keys, certificates, orders (mode 0700); default: ca in the home."
    )
    name: str = Field(
        default="certgate",
        pattern=r"^[A-Za-z0-9 .-]{1,40}$",
        description="Stands in the names of root and intermediate.",
    )
    profiles: Mapping[str, Profile] = Field(
        default_factory=_default_profiles, description="Replaces the built-in ones."
    )
    default_profile: str = Field(default="server", description="For orders that name none.")
    permitted_names: tuple[Subtree, ...] = Field(default=(), description="Only these; empty: no limit.")
    excluded_names: tuple[Subtree, ...] = Field(default=(), description="Never these.")
    issuance_delay_seconds: int = Field(
        default=0, ge=0, le=366 * DAY_SECONDS, description="Orders are pending that long."
    )
    manual: bool = Field(default=False, description="Orders are pending until the owner of the CA releases them.")
    revocation_url: HttpUrl | None = Field(default=None, description="Where the CRL is served, put into certificates.")
    ocsp_url: HttpUrl | None = Field(default=None, description="Where OCSP is answered, put into certificates.")
    issuer_url: HttpUrl | None = Field(default=None, description="Where the intermediate is served, put in likewise.")
    backdate_seconds: int = Field(default=300, ge=0, le=3600, description="For clients whose clocks are behind.")
    crl_validity_seconds: int = Field(default=7 * DAY_SECONDS, ge=3600, description="From thisUpdate to nextUpdate.")

    @model_validator(mode="after")
    def _default_exists(self) -> Settings:
        if self.default_profile not in self.profiles:
            raise ValueError(f"default_profile {self.default_profile!a} is none of {', '.join(sorted(self.profiles))}")
        return self

    @cached_property
    def constraints(self) -> crypto.NameConstraints | None:
        """The same limits as a certificate extension, or None.

        A kind of name of which nothing is permitted is excluded as a whole, because the RFC would let it pass.
        """
        if not self.permitted_names and not self.excluded_names:
            return None
        permitted = [_general_name(name) for name in self.permitted_names]
        excluded = [_general_name(name) for name in self.excluded_names]
        if permitted:
            networks = [one.value for one in permitted if isinstance(one, crypto.IPAddress)]
            for version, whole in ((4, "0.0.0.0/0"), (6, "::/0")):
                if not any(network.version == version for network in networks):
                    excluded.append(crypto.IPAddress(ipaddress.ip_network(whole)))
            if not any(isinstance(one, crypto.DNSName) for one in permitted):
                excluded.append(crypto.DNSName(""))
        return crypto.NameConstraints(permitted or None, excluded or None)


def _general_name(name: str) -> crypto.DNSName | crypto.IPAddress:
    try:
        return crypto.IPAddress(ipaddress.ip_network(name))
    except ValueError:
        return crypto.DNSName(name)
