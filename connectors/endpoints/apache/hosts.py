"""Which certificates Apache serves where: from a tree of directives to virtual hosts. No input or output.

Apache's own rules that matter here ("An In-Depth Discussion of Virtual Host Matching",
https://httpd.apache.org/docs/2.4/vhosts/details.html, and mod_ssl):

- hosts that name the address of a connection come before those for all addresses; the main server answers only where no
  host is configured for address and port;
- among the hosts of one address and port the first whose ServerName or ServerAlias fits answers, in the order of the
  configuration, exact and wildcard names alike; where none fits, the first of them;
- whether a connection speaks TLS is decided by the first of them, before any name is known;
- certificates and keys are pairs by their position, a position that a host leaves out is the main server's, and a
  certificate without a key file has its key in its own file.
"""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from connectors.endpoints.apache.configuration import Configuration, Directive, named, value_of
from connectors.endpoints.contract import Place
from connectors.endpoints.virtual_hosts import HOST_NAME, Server, Socket, is_address

_EVERYWHERE = ("*", "_default_", "0.0.0.0")  # noqa: S104 (read, not bound)


@dataclass(frozen=True)
class _Address:
    """What a VirtualHost or Listen names: `address` empty for all, `port` None for all."""

    address: str
    port: int | None


@dataclass(frozen=True)
class _Host:
    """A VirtualHost, or the main server (no addresses)."""

    block: Sequence[Directive]
    addresses: Sequence[_Address]
    sockets: Sequence[Socket]
    names: Sequence[str]
    """All that it answers to, in lower case, with patterns."""


def servers_of(configuration: Configuration, host_address: str) -> list[Server]:
    """All hosts with TLS, in the order of the configuration, the main server last. `host_address` is where the host
    itself is reached: a virtual host that names this address comes before one for all addresses."""
    main = configuration.directives
    listens = [found for directive in named(main, "listen") if (found := _address(directive.arguments[:1])) is not None]
    hosts = [_host(directive, listens) for directive in named(main, "virtualhost")]
    answering = {
        socket: _answering(socket, hosts, host_address) for socket in _sockets([_Address("", None)], listens)
    } | {socket: _answering(socket, hosts, host_address) for one in hosts for socket in one.sockets}
    free = [socket for socket, found in answering.items() if not found]
    hosts.append(_Host(main, (), free, _names(main)))
    answering |= dict.fromkeys(free, hosts[-1:])
    managed = _managed(main)
    return [
        _server(host, answering, configuration, managed) for host in hosts if _setting("sslengine", host, main) == "on"
    ]


def error_logs(configuration: Configuration) -> list[str]:
    """The files to which the main server and its virtual hosts write errors: what a virtual host's certificate lacks is
    told in its own log."""
    blocks = [configuration.directives, *(host.block or () for host in named(configuration.directives, "virtualhost"))]
    values = [value_of(block, "errorlog") for block in blocks]
    return list(
        dict.fromkeys(configuration.path(one) for one in values if one and one[0] != "|" and one[:6] != "syslog")
    )


def _server(
    host: _Host, answering: dict[Socket, list[_Host]], configuration: Configuration, managed: set[str]
) -> Server:
    main = configuration.directives
    places, obstacle = _places(host, configuration)
    if not managed.isdisjoint(host.names):
        places, obstacle = [], "mod_md gets its certificate by itself (MDomain); take the name out of there first."
    sockets = [socket for socket in host.sockets if host in answering[socket]]
    plain = [socket for socket in sockets if _setting("sslengine", answering[socket][0], main) != "on"]
    if obstacle is None and not host.sockets:
        obstacle = "there is no Listen for its address and port."
    elif obstacle is None and not sockets:
        obstacle = "other virtual hosts name this host's address and answer in its place; set the address to look at."
    elif obstacle is None and len(plain) == len(sockets):
        obstacle = "the first virtual host on its address and port has no SSLEngine on, so nothing there speaks TLS."
    spoken = [socket for socket in sockets if socket not in plain]
    proxied = _setting("remoteipproxyprotocol", host, main) == "on"
    return Server(
        sockets=spoken,
        names=[name for name in host.names if HOST_NAME.fullmatch(name) or is_address(name)],
        places=places,
        obstacle=obstacle,
        proxied=set(spoken) if proxied else set(),
        owned={socket: _owned(host, answering[socket]) for socket in spoken},
        default_on={socket for socket in spoken if answering[socket][0] is host},
    )


def _owned(host: _Host, answering: Sequence[_Host]) -> list[str]:
    """The names by which it is reached among those on its socket: what an earlier one answers to is not its own."""
    earlier = [pattern for one in answering[: answering.index(host)] for pattern in one.names]
    plain = [name for name in host.names if HOST_NAME.fullmatch(name)]
    return [name for name in plain if not any(fnmatch.fnmatchcase(name, pattern) for pattern in earlier)]


def _answering(socket: Socket, hosts: Sequence[_Host], host_address: str) -> list[_Host]:
    """The hosts among which a connection to the socket is given out."""
    address = socket.address or host_address
    there = [host for host in hosts if socket in host.sockets or _named(host, address, socket.port)]
    return [host for host in there if _named(host, address, socket.port)] or there


def _named(host: _Host, address: str, port: int) -> bool:
    return any(one.address == address and one.port in (None, port) for one in host.addresses)


def _host(directive: Directive, listens: Sequence[_Address]) -> _Host:
    addresses = [one for word in directive.arguments if (one := _address([word])) is not None]
    block = directive.block or ()
    return _Host(block, addresses, _sockets(addresses, listens), _names(block))


def _sockets(addresses: Sequence[_Address], listens: Sequence[_Address]) -> list[Socket]:
    """Where a host with these addresses is reached: what it names and what is listened on must both fit."""
    found: list[Socket] = []
    for own in addresses:
        for listen in listens:
            same = not own.address or not listen.address or own.address == listen.address
            if listen.port is not None and own.port in (None, listen.port) and (same or listen.address == "::"):
                found.append(Socket(own.address or listen.address, listen.port))
    return list(dict.fromkeys(found))


def _address(words: Sequence[str]) -> _Address | None:
    """``443``, ``*:443``, ``_default_:443``, ``192.0.2.1``, ``[::1]:8443``, ``name:443``."""
    value = words[0].lower() if words else ""
    if value.startswith("["):
        address, _, port = value[1:].partition("]")
        address = str(ipaddress.ip_address(address)) if is_address(address) else address
        port = port.removeprefix(":")
    elif value.isdigit():
        address, port = "", value
    else:
        address, _, port = value.partition(":")
    if port not in ("", "*") and not port.isdigit():
        return None
    return _Address("" if address in _EVERYWHERE else address, int(port) if port.isdigit() else None)


def _names(block: Sequence[Directive]) -> list[str]:
    """ServerName without scheme and port, then the aliases."""
    own = value_of(block, "servername") or ""
    own = own.rpartition("://")[2]
    if not is_address(own):
        own = own.partition(":")[0]
    aliases = [word for directive in named(block, "serveralias") for word in directive.arguments]
    return list(dict.fromkeys(name.lower() for name in (own, *aliases) if name))


def _setting(name: str, host: _Host, main: Sequence[Directive]) -> str:
    """A simple directive of a host, inherited from the main server."""
    return (value_of(host.block, name) or value_of(main, name) or "").lower()


def _managed(main: Sequence[Directive]) -> set[str]:
    """Names whose certificates mod_md gets."""
    words = [word for directive in named(main, "mdomain") for word in directive.arguments]
    for section in named(main, "mdomainset"):
        words += [*section.arguments]
        words += [word for one in named(section.block or (), "mdmember") for word in one.arguments]
    return {word.lower() for word in words} - {"auto", "manual"}


def _places(host: _Host, configuration: Configuration) -> tuple[list[Place], str | None]:
    """Certificate, key and chain files, and what stands in the way of exchanging them."""
    main = configuration.directives
    certificates = _by_position("sslcertificatefile", host, main)
    keys = _by_position("sslcertificatekeyfile", host, main)
    chain = value_of(host.block, "sslcertificatechainfile") or value_of(main, "sslcertificatechainfile")
    if not certificates:
        return [], "no SSLCertificateFile is configured for it; add SSLCertificateFile and SSLCertificateKeyFile."
    for value in (*certificates, *keys, *([chain] if chain else [])):
        if value.startswith("pkcs11:"):
            return [], "its certificate or key is in a PKCS#11 token (pkcs11:), not in a file."
        if "${" in value:
            return (
                [],
                f"its path has a variable that is not known here ({value}): name the file with Apache's variables.",
            )
    if chain and len(certificates) > 1:
        return (
            [],
            "one SSLCertificateChainFile is for several certificates: put each chain into its certificate's file.",
        )
    places: list[Place] = []
    for position, certificate in enumerate(certificates):
        key = keys[position] if position < len(keys) else certificate
        places.append(
            Place(
                configuration.path(certificate), configuration.path(key), configuration.path(chain) if chain else None
            )
        )
    return places, None


def _by_position(name: str, host: _Host, main: Sequence[Directive]) -> list[str]:
    """A host's values, continued by those of the main server (``modssl_ctx_cfg_merge_certkeys_array``)."""
    own, inherited = (
        [directive.arguments[0] for directive in named(block, name) if directive.arguments]
        for block in (host.block, main)
    )
    return own if host.block is main else [*own, *inherited[len(own) :]]
