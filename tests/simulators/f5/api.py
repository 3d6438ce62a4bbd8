"""Paths and answers of iControl REST, as far as certificates need them."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from tests.simulators.f5 import crypto
from tests.simulators.f5.configuration import (
    CERTIFICATE,
    CRYPTO_KEY,
    KEY,
    PROFILE,
    REQUEST,
    TITLES,
    VIRTUAL,
    split,
)
from tests.simulators.f5.problems import Problem, not_found
from tests.simulators.f5.unit import BULK, Unit
from tests.simulators.sectigo.wire import Reply, Request

VERSION = "17.1.1"
GROUP = "failover-group"
COORDINATION = "x-f5-rest-coordination-id"
_CHANGES = ("POST", "PATCH", "PUT", "DELETE")


@dataclass(frozen=True)
class User:
    """Somebody who may sign in. `allowed` is pairs of a method and a pattern over paths; None: everything."""

    name: str
    password: str
    allowed: Sequence[tuple[str, re.Pattern[str]]] | None = None

    def may(self, method: str, path: str) -> bool:
        """Whether this request is among what the user may do."""
        if self.allowed is None:
            return True
        return any(method == wanted and pattern.fullmatch(unquote(path)) for wanted, pattern in self.allowed)


class Api:
    """Answers for whichever unit is active. Every method wants the simulator's lock held."""

    def __init__(
        self,
        users: Mapping[str, User],
        active: Callable[[], Unit],
        units: Sequence[Unit],
        *,
        pending_polls: Callable[[], int],
        refused: Callable[[str], None],
    ) -> None:
        self._users = users
        self._active = active
        self._units = units
        self._pending_polls = pending_polls
        self._refused = refused
        self._stamp = 0
        self._polls = 0
        self.disconnected = False
        self.starting = False

    def answer(self, request: Request) -> Reply:
        """What the device says."""
        try:
            return self._route(request)
        except Problem as problem:
            return Reply.of(problem.body(), problem.status)

    def next_stamp(self) -> int:
        """For the next change, on whatever unit."""
        self._stamp = max(self._stamp, *(unit.stamp for unit in self._units)) + 1
        return self._stamp

    # --- who --------------------------------------------------------------------------------------------------------

    def _route(self, request: Request) -> Reply:
        path = request.path.rstrip("/")
        if path == "/mgmt/shared/authn/login" and request.method == "POST":
            return self._login(request)
        user = self._user(request)
        if not user.may(request.method, path):
            link = f"https://localhost/mgmt/shared/authz/users/{user.name}"
            raise Problem(f"Authorization failed: user={link} resource={path} verb={request.method}", 401)
        if path.startswith("/mgmt/shared/"):
            return self._shared(request, path.removeprefix("/mgmt/shared/"))
        if not path.startswith("/mgmt/tm/"):
            raise Problem(f"Public URI path not registered: {path}", 404)
        return self._tm(request, path.removeprefix("/mgmt/tm/"))

    def _login(self, request: Request) -> Reply:
        body = _object(request)
        user = self._users.get(str(body.get("username")))
        if user is None or not _same(str(body.get("password")), user.password):
            self._refused(str(body.get("username")))
            told = {**Problem("Authentication failed.", 401).body(), "originalRequestBody": request.body.decode()}
            return Reply.of(told, 401)
        if body.get("loginProviderName", "tmos") not in ("tmos", "local"):
            return Reply.of(Problem("Authentication failed: no such login provider.", 401).body(), 401)
        token = self._active().give_token(user.name)
        seconds = 1200
        told = {
            "token": token.value,
            "name": token.value,
            "userName": user.name,
            "authProviderName": "tmos",
            "timeout": seconds,
            "kind": "shared:authz:tokens:authtokenitemstate",
            "selfLink": f"https://localhost/mgmt/shared/authz/tokens/{token.value}",
        }
        return Reply.of({"username": user.name, "loginProviderName": "tmos", "token": told, "generation": 0})

    def _user(self, request: Request) -> User:
        token = request.headers.get("x-f5-auth-token")
        if token is not None:
            name = self._active().user_of(token)
            if name is None:
                raise Problem("X-F5-Auth-Token does not exist.", 401)
            return self._users[name]
        kind, _, rest = request.headers.get("authorization", "").partition(" ")
        try:
            name, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            name, password = "", ""
        user = self._users.get(name)
        if kind.lower() != "basic" or user is None or not _same(password, user.password):
            self._refused(name)
            raise Problem("Authorization required", 401)
        return user

    # --- /mgmt/shared -------------------------------------------------------------------------------------------------

    def _shared(self, request: Request, path: str) -> Reply:
        unit = self._active()
        if path == "echo-query":
            return Reply.of({"stage": "STARTED"})
        if path.startswith("authz/tokens/") and request.method == "DELETE":
            if unit.tokens.pop(path.removeprefix("authz/tokens/"), None) is None:
                raise not_found("token", "it")
            return Reply.of({})
        if path.startswith("file-transfer/uploads/") and request.method == "POST":
            name = _file(path.removeprefix("file-transfer/uploads/"))
            return Reply.of(unit.upload(name, request.body, request.headers.get("content-range", "")))
        if path.startswith("file-transfer/bulk/") and request.method == "GET":
            return _download(unit, _file(path.removeprefix("file-transfer/bulk/")))
        raise Problem(f"Public URI path not registered: /mgmt/shared/{path}", 404)

    # --- /mgmt/tm -----------------------------------------------------------------------------------------------------

    def _tm(self, request: Request, path: str) -> Reply:
        if path == "transaction" or path.startswith("transaction/"):
            return self._transaction(request, path.removeprefix("transaction").strip("/"))
        number = request.headers.get(COORDINATION)
        if number is not None:
            return self._queue(request, path, number)
        if request.method == "GET":
            return self._look(request, path)
        unit = self._active()
        if request.method == "POST" and path.startswith("util/"):
            printed = unit.utility(path.removeprefix("util/"), _command(request))
            told = {"kind": f"tm:{path.replace('/', ':')}:runstate", "command": "run"}
            return Reply.of({**told, **({"commandResult": printed} if printed else {})})
        if request.method == "POST" and path == "cm":
            return self._synchronize(_command(request))
        if request.method == "POST" and path == "sys/config":
            if _object(request).get("command") != "save":
                raise Problem("only save is simulated")
            unit.saved = unit.configuration
            return Reply.of({"kind": "tm:sys:config:savestate", "command": "save"})
        if request.method not in _CHANGES:
            raise Problem(f"{request.method} is not supported", 405)
        [(collection, full_path)] = unit.change([(request.method, path, _object(request))], self.next_stamp())
        if request.method == "DELETE":
            return Reply.of({})
        return Reply.of(_told(unit, collection, full_path, expanded=False))

    def _transaction(self, request: Request, rest: str) -> Reply:
        unit = self._active()
        if request.headers.get(COORDINATION) is not None:
            raise Problem("A transaction is no command of a transaction.")
        if not rest:
            if request.method == "POST":
                return Reply.of(unit.begin().told())
            return Reply.of({"items": [one.told() for one in unit.transactions.values()]})
        number, _, part = rest.partition("/")
        found = unit.transaction(int(number) if number.isdigit() else 0)
        if request.method == "GET" and part == "commands":
            items = [
                {"commandId": at, "method": method, "uri": f"https://localhost/mgmt/tm/{path}", "evalOrder": at}
                for at, (method, path, _) in enumerate(found.commands, 1)
            ]
            return Reply.of({"items": items})
        if request.method == "GET" and not part:
            return Reply.of(found.told())
        if request.method == "DELETE" and not part:
            del unit.transactions[found.number]
            return Reply.of({})
        body = _object(request)
        if request.method != "PATCH" or part or body.get("state") != "VALIDATING":
            raise Problem("A transaction is committed by the state VALIDATING.")
        return Reply.of(unit.commit(found.number, self.next_stamp(), dry=body.get("validateOnly") is True).told())

    def _queue(self, request: Request, path: str, number: str) -> Reply:
        found = self._active().transaction(int(number) if number.isdigit() else 0)
        if request.method not in _CHANGES:
            raise Problem("A transaction has no room for reading.")
        if split(path)[0] is None:
            raise Problem(f"Public URI path not registered: /mgmt/tm/{path}", 404)
        if found.state != "STARTED":
            raise Problem(f"The transaction {number} is {found.state}.")
        body = _object(request)
        found.commands.append((request.method, path, body))
        told = {"method": request.method, "uri": f"https://localhost/mgmt/tm/{path}", "body": body}
        return Reply.of({**told, "evalOrder": len(found.commands), "commandId": len(found.commands)})

    def _look(self, request: Request, path: str) -> Reply:
        unit, expanded = self._active(), request.query.get("expandSubcollections") == "true"
        standing: dict[str, Callable[[], dict[str, Any]]] = {
            "sys/ready": self._ready,
            "cm/sync-status": self._sync_status,
            "cm/failover-status": self._failover_status,
            "cm/device": self._devices,
            "ltm/virtual-address": lambda: _collection(
                "ltm:virtual-address",
                [{"fullPath": one, "address": at} for one, at in unit.configuration.addresses.items()],
            ),
        }
        if path in standing:
            return Reply.of(standing[path]())
        bundle = path.removesuffix("/bundle-certificates")
        if bundle != path and split(bundle)[0] == CERTIFICATE:
            return Reply.of(_bundle(unit, split(bundle)[1]))
        collection, name = split(path)
        if collection is None:
            raise Problem(f"Public URI path not registered: /mgmt/tm/{path}", 404)
        if name:
            return Reply.of(_told(unit, collection, name, expanded=expanded))
        items = [_told(unit, collection, one, expanded=expanded) for one in _all(unit, collection)]
        return Reply.of(_collection(collection.replace("/", ":"), items))

    # --- the group ----------------------------------------------------------------------------------------------------

    def _synchronize(self, arguments: str) -> Reply:
        found = re.fullmatch(r"config-sync (?:force-full-load-push )?to-group (\S+)", arguments)
        if found is None or len(self._units) < 2 or found[1] != GROUP:
            raise Problem(f"01071a9d:3: Can't run {arguments}")
        active = self._active()
        for unit in self._units:
            if unit is not active:
                unit.configuration, unit.stamp, unit.saved = active.configuration, active.stamp, active.configuration
        self._polls = self._pending_polls()
        return Reply.of({"kind": "tm:cm:runstate", "command": "run", "utilCmdArgs": arguments})

    def _sync_status(self) -> dict[str, Any]:
        if len(self._units) < 2:
            return _status("sync-status", {"status": "Standalone", "color": "green", "mode": "standalone"}, [])
        others = [f"{unit.name}: {'disconnected' if self.disconnected else 'connected'}" for unit in self._units[1:]]
        words, details = "In Sync", []
        newest = max(self._units, key=lambda one: one.stamp)
        if self.disconnected:
            words = "Disconnected"
        elif any(unit.stamp != newest.stamp for unit in self._units):
            words = "Changes Pending"
            details = [f"{GROUP} (Changes Pending): There are changes on {newest.name} that are not synchronized."]
            details += [f" - Recommended action: Synchronize {newest.name} to group {GROUP}"]
        elif self._polls > 0:
            self._polls -= 1
            words = "Not All Devices Synced"
        color = "green" if words == "In Sync" else "yellow"
        told = {"status": words, "color": color, "mode": "high-availability", "summary": ""}
        return _status("sync-status", told, [*others, *details])

    def _failover_status(self) -> dict[str, Any]:
        return _status("failover-status", {"status": "ACTIVE", "color": "green", "summary": "1/1 active"}, [])

    def _devices(self) -> dict[str, Any]:
        active = self._active()
        items = [
            {
                "name": unit.name,
                "fullPath": f"/Common/{unit.name}",
                "selfDevice": "true" if unit is active else "false",
                "failoverState": "active" if unit is active else "standby",
                "version": VERSION,
            }
            for unit in self._units
        ]
        return _collection("cm:device", items)

    def _ready(self) -> dict[str, Any]:
        words = "no" if self.starting else "yes"
        return _status("ready", {"configReady": words, "licenseReady": "yes", "provisionReady": words}, [], room="sys")


def _told(unit: Unit, collection: str, path: str, *, expanded: bool) -> dict[str, Any]:
    configuration = unit.configuration
    partition, _, rest = path[1:].partition("/")
    sub, _, name = rest.rpartition("/")
    about = {"name": name, "partition": partition, "fullPath": path, "generation": unit.stamp}
    about |= {"subPath": sub} if sub else {}
    link = f"https://localhost/mgmt/tm/{collection}/{path.replace('/', '~')}"
    about |= {
        "selfLink": f"{link}?ver={VERSION}",
        "kind": f"tm:{collection.replace('/', ':')}:{collection.rpartition('/')[2]}state",
    }
    if path not in _all(unit, collection):
        raise not_found(TITLES[collection], path)
    if collection == PROFILE:
        chain = configuration.chain_of(path)
        told = {"serverName": "none", "sniDefault": "false", "sslForwardProxy": "disabled", "mode": "enabled"}
        return {**about, **told, **configuration.profiles[path], "certKeyChain": [_entry(one) for one in chain]}
    if collection == VIRTUAL:
        return {**about, **_virtual(link, configuration.virtuals[path], expanded=expanded)}
    if collection in (KEY, CRYPTO_KEY):
        file = configuration.keys[path]
        return {**crypto.described(path, file, "ssl-key"), **crypto.describe_key(path, file.content), **about}
    if collection == REQUEST:
        return {**about, "keySize": 0}
    file = configuration.certificates[path]
    found = crypto.certificates_of(path, file.content)
    bundle = {"bundleCertificatesReference": {"link": f"{link}/bundle-certificates", "isSubcollection": True}}
    more: dict[str, Any] = {"isBundle": "true" if len(found) > 1 else "false", **bundle}
    return {**crypto.described(path, file, "ssl-cert"), **crypto.describe_certificate(found[0]), **more, **about}


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    told = dict(entry)
    for name, collection in (("cert", CERTIFICATE), ("key", KEY), ("chain", CERTIFICATE)):
        if entry.get(name, "none") != "none":
            told[f"{name}Reference"] = {
                "link": f"https://localhost/mgmt/tm/{collection}/{entry[name].replace('/', '~')}"
            }
    return told


def _virtual(link: str, virtual: Mapping[str, Any], *, expanded: bool) -> dict[str, Any]:
    told = {name: value for name, value in virtual.items() if name != "profiles"}
    told |= {} if virtual.get("disabled") else {"enabled": True}
    reference: dict[str, Any] = {"link": f"{link}/profiles", "isSubcollection": True}
    if expanded:
        reference["items"] = [
            {
                "name": one["name"].rpartition("/")[2],
                "partition": one["name"].split("/")[1],
                "fullPath": one["name"],
                "context": one["context"],
                "kind": "tm:ltm:virtual:profiles:profilesstate",
            }
            for one in virtual["profiles"]
        ]
    return {**told, "profilesReference": reference}


def _bundle(unit: Unit, path: str) -> dict[str, Any]:
    file = unit.configuration.certificates.get(path)
    if file is None:
        raise not_found(TITLES[CERTIFICATE], path)
    found = crypto.certificates_of(path, file.content)
    items = [{"name": one.subject.rfc4514_string(), **crypto.describe_certificate(one)} for one in found]
    return _collection("sys:file:ssl-cert:bundle-certificates", items if len(found) > 1 else [])


def _all(unit: Unit, collection: str) -> list[str]:
    configuration = unit.configuration
    found: dict[str, Mapping[str, Any]] = {
        PROFILE: configuration.profiles,
        VIRTUAL: configuration.virtuals,
        KEY: configuration.keys,
        CRYPTO_KEY: configuration.keys,
        CERTIFICATE: configuration.certificates,
        REQUEST: configuration.requests,
    }
    return list(found[collection])


def _collection(kind: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    about = {"kind": f"tm:{kind}:{kind.rpartition(':')[2]}collectionstate", "selfLink": "https://localhost/mgmt/tm/"}
    # The device leaves an empty list away.
    return {**about, **({"items": items} if items else {})}


def _status(name: str, texts: Mapping[str, str], details: Sequence[str], room: str = "cm") -> dict[str, Any]:
    entries: dict[str, Any] = {one: {"description": text} for one, text in texts.items()}
    if details:
        nested = {
            f"https://localhost/mgmt/tm/{room}/{name}/0/details/{at}": {
                "nestedStats": {"entries": {"details": {"description": text}}}
            }
            for at, text in enumerate(details)
        }
        entries[f"https://localhost/mgmt/tm/{room}/{name}/0/details"] = {"nestedStats": {"entries": nested}}
    inner = {f"https://localhost/mgmt/tm/{room}/{name}/0": {"nestedStats": {"entries": entries}}}
    return {"kind": f"tm:{room}:{name}:{name}stats", "selfLink": "https://localhost/mgmt/tm/", "entries": inner}


def _download(unit: Unit, name: str) -> Reply:
    content = unit.files.get(f"{BULK}/{name}")
    if content is None:
        raise not_found("file", f"{BULK}/{name}")
    headers = {"Content-Range": f"0-{len(content) - 1}/{len(content)}"}
    return Reply(200, content, content_type="application/octet-stream", headers=headers)


def _file(name: str) -> str:
    bare = unquote(name)
    if not bare or "/" in bare or bare in (".", ".."):
        raise Problem("a file is called by its name only")
    return bare


def _command(request: Request) -> str:
    body = _object(request)
    if body.get("command") != "run" or not isinstance(body.get("utilCmdArgs"), str):
        raise Problem("command must be run, with utilCmdArgs")
    return str(body["utilCmdArgs"])


def _object(request: Request) -> dict[str, Any]:
    if not request.body:
        return {}
    try:
        found = request.json()
    except Exception:
        raise Problem("Found invalid JSON body in the request.") from None
    if not isinstance(found, dict):
        raise Problem("Found invalid JSON body in the request.")
    return found


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())
