"""Which certificates a BIG-IP serves where: from virtual servers and client-ssl profiles to bindings. No input or
output.

The device's own rules that matter here (F5 K13452, K14783, K15062; "SSL Administration"):

- a virtual server has any number of client-ssl profiles; with more than one, SNI chooses: the profile whose
  ``serverName`` fits, or, where it has none, the names in its certificate; ``sniDefault`` answers where no name fits;
- a profile takes what it does not set itself from ``defaultsFrom``; with ``inheritCertkeychain`` also the certificates;
- ``certKeyChain`` has one entry a key type (RSA, ECDSA), each with certificate, key and chain.

A binding is one profile: it is what has a certificate. Profiles that no virtual server uses are bindings, too.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.endpoints.contract import Binding, Listener, Place, Probe
from connectors.endpoints.f5 import names

# The label that is put for ``*`` when a wildcard host is looked at.
PROBE_LABEL = "certgate-probe"
CLIENT_SSL = "client-ssl"
NEW_CLIENT_SSL = "new client-ssl"
# Profiles that come with the device. Others take their settings from them; a certificate does not belong there.
COME_WITH_IT = frozenset(
    f"/Common/{name}"
    for name in (
        *("clientssl", "clientssl-secure", "clientssl-insecure-compatible", "clientssl-quic"),
        *("crypto-server-default-clientssl", "splitsession-default-clientssl", "wom-default-clientssl"),
    )
)
MOST_NAMES_PROBED = 8
_HOST_NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Entry:
    """One entry of ``certKeyChain``: full paths, empty where there is none. `more` is what else stands in it."""

    name: str
    certificate: str
    key: str
    chain: str = ""
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def body(self) -> dict[str, Any]:
        """As the device wants it."""
        chain = {"chain": self.chain} if self.chain else {}
        return {**self.more, "name": self.name, "cert": self.certificate, "key": self.key, **chain}


@dataclass(frozen=True)
class Profile:
    """A client-ssl profile: `entries` are those in effect, be they its own or inherited."""

    path: str
    parent: str
    inherits: bool
    entries: tuple[Entry, ...]
    server_name: str = ""
    default: bool = False
    forward_proxy: bool = False

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Profile:
        """From what iControl REST says of it."""
        path = str(told.get("fullPath", ""))
        folder = path.rpartition("/")[0] or "/Common"
        chain = told.get("certKeyChain")
        server_name = str(told.get("serverName") or "none").lower().rstrip(".")
        return cls(
            path=path,
            parent=_reference(told.get("defaultsFrom"), folder),
            inherits=_true(told.get("inheritCertkeychain")),
            entries=tuple(_entry(one, folder) for one in (chain if isinstance(chain, list) else [])),
            server_name="" if server_name == "none" else server_name,
            default=_true(told.get("sniDefault")),
            forward_proxy=told.get("sslForwardProxy") == "enabled",
        )


@dataclass(frozen=True)
class Virtual:
    """A virtual server: where it listens (None: everywhere, or where no handshake can look), and its profiles in their
    order, as full path and context."""

    path: str
    address: str | None
    port: int
    enabled: bool
    profiles: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, told: Mapping[str, Any], addresses: Mapping[str, str]) -> Virtual:
        """From what iControl REST says of it, its subcollection of profiles expanded. `addresses` maps the full path of
        a virtual address to its address, for those that have a name."""
        path = str(told.get("fullPath", ""))
        folder = path.rpartition("/")[0] or "/Common"
        address, port = destination(str(told.get("destination", "")), addresses)
        reference = told.get("profilesReference")
        items = reference.get("items", []) if isinstance(reference, dict) else []
        profiles = tuple(
            (_reference(one.get("fullPath") or one.get("name"), folder), str(one.get("context", "all")))
            for one in items
            if isinstance(one, dict)
        )
        return cls(path, address, port, "disabled" not in told, profiles)


def destination(given: str, addresses: Mapping[str, str]) -> tuple[str | None, int]:
    """Address and port of a virtual server's ``destination``: ``/Common/192.0.2.1:443``, ``/Common/2001:db8::1.443``,
    ``/Common/192.0.2.1%4:443`` (a route domain), ``/Common/name:443``; no address for ``0.0.0.0`` and ``any6``."""
    folder, _, last = given.rpartition("/")
    found = re.fullmatch(r"(.+)[:.]([0-9]+|any)", last)
    if found is None:
        return None, 0
    name, port = found[1], 0 if found[2] == "any" else int(found[2])
    bare = addresses.get(f"{folder}/{name}", name).partition("%")[0]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None, port
    return (None if address.is_unspecified or not 0 < port < 65_536 else str(address)), port


def bindings_of(
    profiles: Sequence[Profile],
    virtuals: Sequence[Virtual],
    *,
    partition: str,
    certificate_names: Mapping[str, Sequence[str]],
    networks: Sequence[str] = (),
    new_profiles: Sequence[str] = (),
) -> list[Binding]:
    """All bindings of a partition, in the device's order. `certificate_names` are the DNS names in each certificate,
    which choose a profile that has no name of its own."""
    known = {profile.path: profile for profile in profiles}
    seen = [_Reached(virtual, known) for virtual in virtuals]
    reachable = tuple(ipaddress.ip_network(one) for one in networks)
    found = [
        _binding(profile, profiles, seen, certificate_names, reachable)
        for profile in profiles
        if profile.path.startswith(f"/{partition}/") and profile.path not in COME_WITH_IT
    ]
    there = {binding.id for binding in found}
    wanted = [(names.new_profile(partition, path), path) for path in new_profiles]
    made = [_new(profile, path, seen, reachable) for profile, path in wanted if profile not in there]
    return [*found, *made]


class _Reached:
    """A virtual server and its client-ssl profiles."""

    def __init__(self, virtual: Virtual, known: Mapping[str, Profile]) -> None:
        self.virtual = virtual
        self.profiles = [known[path] for path, context in virtual.profiles if path in known and context != "serverside"]

    def listener(self, reachable: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> Listener | None:
        virtual = self.virtual
        if virtual.address is None or not virtual.enabled:
            return None
        address = ipaddress.ip_address(virtual.address)
        if reachable and not any(address in network for network in reachable if network.version == address.version):
            return None
        return Listener(virtual.address, virtual.port)

    def asked_for(self, profile: Profile, own_names: Sequence[str]) -> list[str | None]:
        """The names in SNI that show this profile, None for no name at all."""
        taken = {one.server_name for one in self.profiles if one is not profile}
        asked: list[str | None] = []
        asked += [_asked(name) for name in own_names if name not in taken][:MOST_NAMES_PROBED]
        if len(self.profiles) == 1:
            return asked or [None]
        return [*asked, None] if profile.default else asked


def _binding(
    profile: Profile,
    profiles: Sequence[Profile],
    seen: Sequence[_Reached],
    certificate_names: Mapping[str, Sequence[str]],
    reachable: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network],
) -> Binding:
    using = [one for one in seen if any(used is profile for used in one.profiles)]
    own = _names(profile, using, certificate_names)
    pairs = [(one, listener) for one in using if (listener := one.listener(reachable)) is not None]
    probes = [Probe(listener, name) for one, listener in pairs for name in one.asked_for(profile, own)]
    return Binding(
        id=profile.path,
        names=own,
        listeners=list(dict.fromkeys(listener for _, listener in pairs)),
        probes=list(dict.fromkeys(probes)),
        places=[Place(profile.path, profile.path, form=CLIENT_SSL, alias=one.name) for one in profile.entries]
        or [Place(profile.path, profile.path, form=CLIENT_SSL, alias=names.PREFIX)],
        shared_with=[one.path for one in profiles if one is not profile and _inherits_from(one, profile, profiles)],
        obstacle=_obstacle(profile),
    )


def _names(profile: Profile, using: Sequence[_Reached], certificate_names: Mapping[str, Sequence[str]]) -> list[str]:
    if profile.server_name:
        return [profile.server_name] if _HOST_NAME.fullmatch(profile.server_name) else []
    if profile.default or all(len(one.profiles) == 1 for one in using):
        return []
    found = [name for entry in profile.entries for name in certificate_names.get(entry.certificate, ())]
    return [name for name in dict.fromkeys(found) if _HOST_NAME.fullmatch(name)]


def _inherits_from(profile: Profile, above: Profile, profiles: Sequence[Profile]) -> bool:
    known = {one.path: one for one in profiles}
    passed: set[str] = set()
    while profile.inherits and profile.parent in known and profile.path not in passed:
        if profile.parent == above.path:
            return True
        passed.add(profile.path)
        profile = known[profile.parent]
    return False


def _obstacle(profile: Profile) -> str | None:
    if not names.addressable(profile.path):
        return "its name has a ~ in it, which iControl REST takes for the end of a folder's name; rename the profile."
    if profile.forward_proxy:
        return "it is a profile of SSL forward proxy, which makes certificates itself."
    if not profile.inherits and any(entry.more.get("passphrase") for entry in profile.entries):
        return (
            "it keeps the passphrase of its key, and what certgate can't put back it does not replace: give the "
            "profile a key without a passphrase first."
        )
    return None


def _new(
    profile: str,
    virtual: str,
    seen: Sequence[_Reached],
    reachable: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network],
) -> Binding:
    """A profile that the first install makes for a virtual server."""
    reached = next((one for one in seen if one.virtual.path == virtual), None)
    place = Place(profile, profile, form=NEW_CLIENT_SSL, alias=virtual)
    if reached is None:
        told = f"there is no virtual server {virtual}: correct new_profiles in the endpoint's settings."
        return Binding(profile, (), (), places=[place], obstacle=told)
    others = [one.path for one in reached.profiles if one.path not in COME_WITH_IT]
    obstacle = f"{virtual} has a client-ssl profile already: install on {others[0]}." if others else None
    listener = reached.listener(reachable)
    listeners = [listener] if listener else []
    probes = [Probe(one, None) for one in listeners]
    return Binding(profile, (), listeners, probes, [place], obstacle=obstacle)


def _entry(told: Any, folder: str) -> Entry:
    known = told if isinstance(told, dict) else {}
    values = {name: _reference(known.get(name), folder) for name in ("cert", "key", "chain")}
    more = {
        name: value
        for name, value in known.items()
        if name not in ("name", "cert", "key", "chain") and not name.endswith("Reference")
    }
    return Entry(str(known.get("name", "")), values["cert"], values["key"], values["chain"], more)


def _reference(value: Any, folder: str) -> str:
    text = str(value or "")
    return "" if text in ("", "none") else names.full_path(text, folder)


def _true(value: Any) -> bool:
    return str(value).lower() in ("true", "enabled", "yes")


def _asked(name: str) -> str:
    return f"{PROBE_LABEL}{name[1:]}" if name.startswith("*.") else name
