"""Which certificates nginx serves where: from a tree of directives to bindings. No input or output, but for paths that
`resolve` follows.

nginx's own rules that matter here (documentation of ngx_http_core_module, ngx_http_ssl_module, "Server names"):

- whether a socket speaks TLS (or the PROXY protocol) is a property of address and port; one ``ssl`` makes it so for all
  servers on it;
- the first server on a socket, or the one marked ``default_server``, answers where no name fits;
- of two servers with the same name on one socket the first one wins, the other is never reached by it;
- ``ssl_certificate`` may stand several times in one server (RSA and ECDSA) and is inherited only where there is none.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from connectors.endpoints.contract import Place
from connectors.endpoints.files import without_pin
from connectors.endpoints.nginx.configuration import Directive, named, value_of
from connectors.endpoints.virtual_hosts import HOST_NAME, Server, Socket, is_address

LOADED_OTHERWISE = ("data:", "engine:", "store:")
# A key that is in a token stays there, and the certificate beside it can be exchanged all the same.
IN_TOKEN = re.compile(r"(engine:[\w-]+:|store:)pkcs11:.+")


@dataclass(frozen=True)
class _Listen:
    socket: Socket
    tls: bool
    default: bool
    proxied: bool


def servers_of(tree: Sequence[Directive], folder: str) -> list[Server]:
    """All server blocks with TLS, of http, stream and mail. `folder` is where relative paths start."""
    return [
        server
        for kind in ("http", "stream", "mail")
        for context in named(tree, kind)
        for server in _servers_in(kind, context.block or (), folder)
    ]


def _servers_in(kind: str, context: Sequence[Directive], folder: str) -> list[Server]:
    blocks = [directive.block or () for directive in named(context, "server")]
    listens = [_listens(kind, block, legacy=_setting("ssl", block, context) == "on") for block in blocks]
    every = [listen for listens_of_one in listens for listen in listens_of_one]
    tls = {listen.socket for listen in every if listen.tls}
    proxied = {listen.socket for listen in every if listen.proxied}
    taken: dict[tuple[Socket, str], int] = {}
    defaults = {listen.socket: index for index, own in reversed(list(enumerate(listens))) for listen in own}
    defaults |= {listen.socket: index for index, own in enumerate(listens) for listen in own if listen.default}
    servers: list[Server] = []
    for index, (block, own) in enumerate(zip(blocks, listens, strict=True)):
        sockets = [socket for socket in dict.fromkeys(listen.socket for listen in own) if socket in tls]
        names = _names(block) if kind != "mail" else []
        # Names are taken on plain sockets too, but nobody asks for those.
        owned = {
            socket: [name for name in names if taken.setdefault((socket, name), index) == index] for socket in sockets
        }
        if _setting("ssl_reject_handshake", block, context) == "on":
            continue
        if not sockets and not any(listen_speaks_tls(directive) for directive in named(block, "listen")):
            continue
        places, obstacle = _places(block, context, folder)
        if not sockets:
            obstacle = obstacle or "it listens only on Unix sockets or QUIC, where no TLS handshake can look."
        default_on = {socket for socket in sockets if defaults[socket] == index}
        servers.append(Server(sockets, names, places, obstacle, proxied & set(sockets), owned, default_on))
    return servers


def listen_speaks_tls(directive: Directive) -> bool:
    """Whether a listen directive itself says TLS, be it over TCP, QUIC or a Unix socket."""
    return not {"ssl", "quic"}.isdisjoint(directive.arguments[1:])


def _setting(name: str, block: Sequence[Directive], context: Sequence[Directive]) -> str | None:
    """A simple directive of a server, inherited from the level above."""
    own = value_of(block, name)
    return own if own is not None else value_of(context, name)


def _listens(kind: str, block: Sequence[Directive], *, legacy: bool) -> list[_Listen]:
    """What a server listens on over TCP. Without any listen, http listens on port 80."""
    found: list[_Listen] = []
    directives = named(block, "listen")
    for directive in directives:
        if not directive.arguments or "quic" in directive.arguments or "udp" in directive.arguments:
            continue
        value, options = directive.arguments[0], set(directive.arguments[1:])
        for socket in _sockets(value):
            tls, default = legacy or "ssl" in options, not {"default_server", "default"}.isdisjoint(options)
            found.append(_Listen(socket, tls, default, "proxy_protocol" in options))
    if not directives and kind == "http":
        found.append(_Listen(Socket("", 80), legacy, default=False, proxied=False))
    return found


def _sockets(value: str) -> list[Socket]:
    """``443``, ``*:443``, ``192.0.2.1``, ``[::1]:8443``, ``name:8000-8010``; nothing for Unix sockets."""
    if value.startswith("unix:"):
        return []
    if value.startswith("["):
        address, _, ports = value[1:].partition("]")
        ports = ports.removeprefix(":")
    elif re.fullmatch(r"\d+(-\d+)?", value):
        address, ports = "", value
    else:
        address, _, ports = value.partition(":")
    first, _, last = (ports or "80").partition("-")
    if not first.isdigit() or not (last or first).isdigit():
        return []
    address = "" if address in ("*", "0.0.0.0") else address.lower()  # noqa: S104 (read, not bound)
    if ":" in address:
        address = str(ipaddress.ip_address(address)) if is_address(address) else address
    return [Socket(address, port) for port in range(int(first), int(last or first) + 1)]


def _names(block: Sequence[Directive]) -> list[str]:
    """Names that a certificate can cover. Regular expressions, ``www.example.*``, ``_`` and variables are not such."""
    names: list[str] = []
    for directive in named(block, "server_name"):
        for word in directive.arguments:
            name = word.lower()
            if name.startswith("."):
                names += [name[1:], f"*{name}"]
            else:
                names.append(name)
    return [name for name in dict.fromkeys(names) if name != "_" and (HOST_NAME.fullmatch(name) or is_address(name))]


def _places(block: Sequence[Directive], context: Sequence[Directive], folder: str) -> tuple[list[Place], str | None]:
    """Certificate and key paths in pairs, and what stands in the way of exchanging them."""
    certificates = _values("ssl_certificate", block, context)
    keys = _values("ssl_certificate_key", block, context)
    if not certificates:
        return [], "no ssl_certificate is configured for it; add ssl_certificate and ssl_certificate_key."
    if len(keys) != len(certificates):
        return (
            [],
            f"it has {len(certificates)} ssl_certificate and {len(keys)} ssl_certificate_key; they must be pairs.",
        )
    for value in (*certificates, *keys):
        if "$" in value:
            return [], f"its certificate is chosen by a variable ({without_pin(value)}), not by a file name."
        if value.startswith(LOADED_OTHERWISE) and (value in certificates or not IN_TOKEN.fullmatch(value)):
            return [], f"its certificate or key is loaded by {value.partition(':')[0]}:, not from a file."
    return [
        Place(_path(certificate, folder), without_pin(key) if IN_TOKEN.fullmatch(key) else _path(key, folder))
        for certificate, key in zip(certificates, keys, strict=True)
    ], None


def _path(value: str, folder: str) -> str:
    return posixpath.normpath(posixpath.join(folder, value))


def _values(name: str, block: Sequence[Directive], context: Sequence[Directive]) -> list[str]:
    own = named(block, name) or named(context, name)
    return [directive.arguments[0] for directive in own if directive.arguments]
