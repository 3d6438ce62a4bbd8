"""Which certificates IIS serves where: from what its configuration says of https bindings to our bindings. No input or
output.

The rules of http.sys that matter here (Microsoft's documents on SSL bindings, "netsh http add sslcert"):

- a certificate is kept by IP address and port (``ipport``), or, with Server Name Indication, by host name and port
  (``hostnameport``); so all bindings of the same address and port without SNI share one, whatever their host names;
- for a connection the record of its very address and port wins, then the one of its host name, then the one of all
  addresses;
- with the centralized certificate store (``ccs``) certificates are files on a share, found by their names.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import idna

from connectors.endpoints.contract import Binding, Listener, Place, Probe
from connectors.errors import Permanent

# Flags of a binding (sslFlags).
SNI, CENTRAL_STORE = 1, 2
FORM = "windows-store"
# The label that is put for ``*`` when a wildcard host is looked at.
PROBE_LABEL = "certgate-probe"
HOST_NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
# IIS itself refuses these in the name of a site, and ours must be told apart from what comes after it.
NOT_IN_SITES = re.compile(r"[/\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Row:
    """One https binding as the script tells it. `address` is empty for all of them, `host` for all names."""

    site: str
    information: str
    address: str
    port: int
    host: str
    flags: int
    thumbprint: str
    stopped: bool

    @property
    def id(self) -> str:
        """``SITE/ADDRESS:PORT:HOST``."""
        return f"{self.site}/{self.information}"

    @property
    def record(self) -> str:
        """Where http.sys keeps the certificate."""
        if self.flags & SNI:
            return f"{self.host.lower()}:{self.port}"
        address = self.address or "0.0.0.0"  # noqa: S104 (read, not bound)
        return f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"


def read(outputs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """What Get-CertgateBinding put out; raises `Permanent` where it is not that."""
    try:
        return [_row(output) for output in outputs]
    except (KeyError, TypeError, ValueError) as error:
        raise Permanent(f"IIS's configuration can't be read: a binding looks unlike any ({error}).") from None


def _row(output: Mapping[str, Any]) -> Row:
    information = str(output["Information"])
    address, port, host = information.rsplit(":", 2)
    return Row(
        site=str(output["Site"]),
        information=information,
        address="" if address == "*" else address.strip("[]"),
        port=int(port),
        host=host,
        flags=int(output["SslFlags"]),
        thumbprint=str(output["Thumbprint"] or "").upper(),
        stopped=bool(output["Stopped"]),
    )


def bindings_of(rows: Sequence[Row], store: str, host_address: str) -> list[Binding]:
    """Rows as bindings; `host_address` is where those on all addresses are reached."""
    users: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        users[row.record].append(row)
    addressed = {(row.address, row.port) for row in rows if row.address and not row.flags & SNI}
    return [_binding(row, users[row.record], addressed, store, host_address) for row in rows]


def _binding(row: Row, users: Sequence[Row], addressed: set[tuple[str, int]], store: str, host_address: str) -> Binding:
    name = _ascii(row.host)
    listener = Listener(row.address or host_address, row.port)
    server_name = name.replace("*", PROBE_LABEL, 1) if name and not _is_address(name) else None
    return Binding(
        id=row.id,
        names=(name,) if name else (),
        listeners=(listener,),
        probes=(Probe(listener, server_name),),
        places=(Place(row.record, f"Cert:\\LocalMachine\\{store}", form=FORM, alias=row.id),),
        shared_with=tuple(other.id for other in users if other.id != row.id),
        obstacle=_obstacle(row, name, addressed),
    )


def _obstacle(row: Row, name: str | None, addressed: set[tuple[str, int]]) -> str | None:
    if NOT_IN_SITES.search(row.site):
        return "its site has a name that IIS does not take; rename it."
    if name is None:
        return f"its host name {row.host!r} is no DNS name; correct it in IIS."
    if row.flags & CENTRAL_STORE:
        return "its certificates come from the centralized certificate store: put the file on that share."
    if row.flags & SNI and not row.host:
        return "it asks for Server Name Indication and has no host name; give it one, or take the flag away."
    if row.flags & SNI and row.address and (row.address, row.port) in addressed:
        return (
            f"no handshake reaches it: another binding without Server Name Indication has {row.address}:{row.port}, "
            "which http.sys looks at first."
        )
    if row.stopped:
        return "its site is stopped, and no handshake could prove what it serves: start the site."
    return None


def _ascii(host: str) -> str | None:
    """The name as certificates and handshakes have it (A-labels, lower case); empty for all names, None for no name."""
    name = host.strip(" ").lower().rstrip(".")
    if not name.isascii():
        try:
            wildcard, rest = ("*.", name[2:]) if name.startswith("*.") else ("", name)
            name = wildcard + idna.encode(rest, uts46=True).decode()
        except idna.IDNAError:
            return None
    return name if not name or HOST_NAME.fullmatch(name) or _is_address(name) else None


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
