"""The device's configuration: what can be changed, and what it refuses to become.

One change, or those of a transaction, are applied to a copy; that takes the place of the present one if the whole of it
makes sense.

Profiles and virtual servers are kept as iControl REST shows them, so that what a client writes comes back to it.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.simulators.f5 import crypto
from tests.simulators.f5.crypto import File
from tests.simulators.f5.problems import (
    Problem,
    exists,
    in_use,
    mismatch,
    not_found,
    referenced,
    unknown_reference,
    wrong,
)

DOWNLOADS = "/var/config/rest/downloads"
PROFILE = "ltm/profile/client-ssl"
VIRTUAL = "ltm/virtual"
KEY = "sys/file/ssl-key"
CERTIFICATE = "sys/file/ssl-cert"
CRYPTO_KEY = "sys/crypto/key"
REQUEST = "sys/crypto/csr"
COLLECTIONS = (PROFILE, VIRTUAL, KEY, CERTIFICATE, CRYPTO_KEY, REQUEST)
TITLES = {
    PROFILE: "ClientSSL Profile",
    VIRTUAL: "Virtual Server",
    KEY: "Certificate Key File",
    CERTIFICATE: "Certificate File",
    CRYPTO_KEY: "Certificate Key File",
    REQUEST: "Certificate Signing Request File",
}
_PROFILE_FIELDS = frozenset(
    {
        *("name", "partition", "defaultsFrom", "inheritCertkeychain", "certKeyChain", "serverName", "sniDefault"),
        *("sslForwardProxy", "ciphers", "mode", "description", "cert", "key", "chain"),
    }
)
_VIRTUAL_FIELDS = frozenset({"name", "partition", "destination", "profiles", "ipProtocol", "disabled", "enabled"})
_ENTRY_FIELDS = frozenset({"name", "cert", "key", "chain", "passphrase", "usage"})


@dataclass
class Configuration:
    """All by full path. Profiles name others by their full paths, too."""

    keys: dict[str, File] = field(default_factory=dict)
    certificates: dict[str, File] = field(default_factory=dict)
    requests: dict[str, File] = field(default_factory=dict)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    virtuals: dict[str, dict[str, Any]] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    def copied(self) -> Configuration:
        """One that can be changed without this one; files never change."""
        return Configuration(
            dict(self.keys),
            dict(self.certificates),
            dict(self.requests),
            copy.deepcopy(self.profiles),
            copy.deepcopy(self.virtuals),
            dict(self.addresses),
        )

    def chain_of(self, path: str) -> list[dict[str, Any]]:
        """The ``certKeyChain`` in effect."""
        profile = self.profiles[path]
        parent = profile.get("defaultsFrom", "none")
        if profile.get("inheritCertkeychain") == "true" and parent in self.profiles:
            return self.chain_of(parent)
        chain: list[dict[str, Any]] = profile.get("certKeyChain", [])
        return chain

    def client_ssl(self, virtual: Mapping[str, Any]) -> list[str]:
        """The client-ssl profiles of a virtual server."""
        return [one["name"] for one in virtual["profiles"] if one["name"] in self.profiles]

    def validate(self) -> None:
        """Raise `Problem` if it makes no sense as a whole."""
        for path, profile in self.profiles.items():
            parent = profile.get("defaultsFrom", "none")
            if parent != "none" and parent not in self.profiles:
                raise unknown_reference("ClientSSL profile", parent)
            self._validate_chain(path)
        for path, virtual in self.virtuals.items():
            self._validate_virtual(path, virtual)

    def _validate_chain(self, path: str) -> None:
        kinds = set()
        for entry in self.chain_of(path):
            for name, known, kind in (
                ("cert", self.certificates, "certificate"),
                ("key", self.keys, "key"),
                ("chain", self.certificates, "certificate"),
            ):
                reference = entry.get(name, "none")
                if reference not in known and (name != "chain" or reference != "none"):
                    raise unknown_reference(kind, reference)
            [leaf, *_] = crypto.certificates_of(entry["cert"], self.certificates[entry["cert"]].content)
            key = crypto.key_of(entry["key"], self.keys[entry["key"]].content)
            if crypto.public(key) != crypto.public(leaf):
                raise mismatch(path)
            kinds.add(type(key))
        if len(kinds) < len(self.chain_of(path)):
            raise wrong(f"Client SSL profile {path} has more than one certificate of a key type")

    def _validate_virtual(self, path: str, virtual: Mapping[str, Any]) -> None:
        profiles = [self.profiles[one] for one in self.client_ssl(virtual)]
        names = [one["serverName"] for one in profiles if one.get("serverName", "none") != "none"]
        if len(set(names)) < len(names):
            raise Problem(
                f"0107149e:3: Virtual server {path} has more than one clientssl/serverssl profile "
                "with same server name."
            )
        if len(profiles) > 1 and sum(one.get("sniDefault") == "true" for one in profiles) != 1:
            raise wrong(f"Virtual server {path} needs exactly one clientssl profile that is default for SNI")


@dataclass(frozen=True)
class Changer:
    """Applies one request to a configuration. `files` are those that were uploaded, by path."""

    configuration: Configuration
    files: dict[str, bytes]
    now: Callable[[], dt.datetime]

    def apply(self, method: str, path: str, body: Mapping[str, Any]) -> tuple[str, str]:
        """Do it; gives the collection and the full path of what was changed. Raises `Problem`."""
        collection, name = split(path)
        if collection is None:
            raise Problem(f"Public URI path not registered: /mgmt/tm/{path}", 404)
        deeds = {
            "POST": self._make if not name else None,
            "PATCH": self._change if name else None,
            "PUT": self._change if name else None,
            "DELETE": self._delete if name else None,
        }
        deed = deeds.get(method)
        if deed is None:
            raise Problem(f"{method} is not supported for /mgmt/tm/{path}", 405)
        return collection, deed(collection, name, body)

    def _make(self, collection: str, _: str, body: Mapping[str, Any]) -> str:
        name = str(body.get("name", ""))
        if not name or any(not one.isprintable() for one in name):
            raise Problem("one or more properties must be specified")
        path = name if name.startswith("/") else f"/{body.get('partition', 'Common')}/{name}"
        if path in self._there(collection):
            raise exists(TITLES[collection], path)
        if collection == PROFILE:
            made = {"defaultsFrom": "/Common/clientssl", "inheritCertkeychain": "true"}
            chained = {"inheritCertkeychain": "false"} if "certKeyChain" in body else {}
            self.configuration.profiles[path] = {**made, **chained, **self._profile(body)}
        elif collection == VIRTUAL:
            raise Problem("virtual servers are not made here", 403)
        elif collection in (KEY, CERTIFICATE):
            self._put(collection, path, self._uploaded(path, body))
        elif collection == CRYPTO_KEY:
            self._put(KEY, path, self._crypto_key(path, body))
        else:
            self._put_request(path, body)
        return path

    def _change(self, collection: str, path: str, body: Mapping[str, Any]) -> str:
        there = self._there(collection)
        if path not in there:
            raise not_found(TITLES[collection], path)
        if collection == PROFILE:
            changed = self._profile(body)
            if "certKeyChain" in changed:
                changed.setdefault("inheritCertkeychain", "false")
            self.configuration.profiles[path] |= changed
        elif collection == VIRTUAL:
            self.configuration.virtuals[path] |= self._virtual(path, body)
        elif collection in (KEY, CERTIFICATE):
            self._put(collection, path, self._uploaded(path, body))
        else:
            raise Problem(f"{path} can't be changed", 405)
        return path

    def _delete(self, collection: str, path: str, _: Mapping[str, Any]) -> str:
        there = self._there(collection)
        if path not in there:
            raise not_found(TITLES[collection], path)
        configuration = self.configuration
        if collection == PROFILE and any(
            path in configuration.client_ssl(one) for one in configuration.virtuals.values()
        ):
            raise referenced("Profile", path)
        if collection in (KEY, CERTIFICATE, CRYPTO_KEY):
            entries = [entry for one in configuration.profiles for entry in configuration.chain_of(one)]
            if any(path in (entry["cert"], entry["key"], entry.get("chain")) for entry in entries):
                raise in_use(path)
        del there[path]
        return path

    def _there(self, collection: str) -> dict[str, Any]:
        configuration = self.configuration
        found: dict[str, Any] = {
            PROFILE: configuration.profiles,
            VIRTUAL: configuration.virtuals,
            KEY: configuration.keys,
            CRYPTO_KEY: configuration.keys,
            CERTIFICATE: configuration.certificates,
            REQUEST: configuration.requests,
        }
        chosen: dict[str, Any] = found[collection]
        return chosen

    def _put(self, collection: str, path: str, content: bytes) -> None:
        file = File(content, self.now())
        if collection == KEY:
            crypto.key_of(path, content)
            self.configuration.keys[path] = file
        else:
            crypto.certificates_of(path, content)
            self.configuration.certificates[path] = file

    def _uploaded(self, path: str, body: Mapping[str, Any]) -> bytes:
        source = str(body.get("sourcePath", ""))
        place = "/" + source.removeprefix("file:").lstrip("/")
        if not source.startswith("file:") or place not in self.files:
            raise Problem(f"01070712:3: {path}: source file {source} does not exist")
        return self.files[place]

    def _crypto_key(self, path: str, body: Mapping[str, Any]) -> bytes:
        local = body.get("from-local-file") or body.get("fromLocalFile")
        if local is not None:
            return self._uploaded(path, {"sourcePath": f"file:{local}"})
        kind = str(body.get("keyType", "rsa-private"))
        return crypto.make_key(kind, str(body.get("curveName", "none")), int(body.get("keySize", 2048)))

    def _put_request(self, path: str, body: Mapping[str, Any]) -> None:
        key = str(body.get("key", ""))
        key = key if key.startswith("/") else f"/Common/{key}"
        if key not in self.configuration.keys:
            raise unknown_reference("key", key)
        alternatives, common_name = str(body.get("subjectAlternativeName", "")), str(body.get("commonName", ""))
        made = crypto.make_request(crypto.key_of(key, self.configuration.keys[key].content), common_name, alternatives)
        self.configuration.requests[path] = File(made, self.now())
        self.files[f"/config/ssl/ssl.csr/{path.rpartition('/')[2]}"] = made

    def _profile(self, body: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in body.items() if not _told_only(name)}
        unknown = set(given) - _PROFILE_FIELDS
        if unknown:
            raise Problem(f'"{sorted(unknown)[0]}" unknown property')
        taken = {name: value for name, value in given.items() if name not in ("name", "partition")}
        if "certKeyChain" in taken:
            taken["certKeyChain"] = [self._entry(one) for one in taken["certKeyChain"]]
        return taken

    def _entry(self, given: Any) -> dict[str, Any]:
        entry = {name: value for name, value in given.items() if not name.endswith("Reference")}
        if set(entry) - _ENTRY_FIELDS or not entry.get("name") or not entry.get("cert") or not entry.get("key"):
            raise Problem('"certKeyChain" needs name, cert and key in each entry')
        for name in ("cert", "key", "chain"):
            if entry.get(name, "none") != "none" and not entry[name].startswith("/"):
                entry[name] = f"/Common/{entry[name]}"
        return entry

    def _virtual(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in body.items() if not _told_only(name)}
        unknown = set(given) - _VIRTUAL_FIELDS
        if unknown:
            raise Problem(f'"{sorted(unknown)[0]}" unknown property')
        if "profiles" in given:
            folder = path.rpartition("/")[0]
            given["profiles"] = [
                {
                    "name": one["name"] if one["name"].startswith("/") else f"{folder}/{one['name']}",
                    "context": one.get("context", "all"),
                }
                for one in given["profiles"]
            ]
            for one in given["profiles"]:
                if one["context"] == "clientside" and one["name"] not in self.configuration.profiles:
                    raise unknown_reference("profile", one["name"])
        return given


def split(path: str) -> tuple[str | None, str]:
    """``ltm/profile/client-ssl/~Common~www`` as collection and full path; no name for the collection itself."""
    for collection in COLLECTIONS:
        if path == collection:
            return collection, ""
        if path.startswith(f"{collection}/"):
            name = unquote(path.removeprefix(f"{collection}/"))
            if "/" in name:
                return None, ""
            return collection, name.replace("~", "/") if name.startswith("~") else f"/Common/{name}"
    return None, ""


def _told_only(name: str) -> bool:
    """What the device tells and a client may send back, without any effect."""
    return name in ("kind", "selfLink", "fullPath", "generation", "subPath") or name.endswith("Reference")
