"""What the device is configured with at first: virtual servers on loopback and their client-ssl profiles.

======================  =============================================================================================
``/Common/vs_web``      SNI: ``/Common/www`` (www.example.com, the default) and ``/Common/api`` (api.example.com)
``/Common/vs_single``   ``/Common/single``, without a name
``/Common/vs_dual``     ``/Common/dual``, RSA and ECDSA
``/Common/vs_child``    ``/Common/child``, which inherits its certificate from ``/Common/parent``
``/Common/vs_plain``    ``/Common/clientssl``, as it comes with the device
``/Common/vs off``      switched off; ``/Common/idle; $(reboot)``
``/Common/vs_any``      listens everywhere, where no handshake can look; ``/Common/any``
``/Shop/app/vs_shop``   ``/Shop/app/shop``, in a folder of another partition
======================  =============================================================================================

``/Common/idle`` and ``/Common/parent`` are used by no virtual server.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.simulators.f5 import crypto
from tests.simulators.f5.configuration import Configuration
from tests.simulators.f5.crypto import File, Key

PORTS = ("vs_web", "vs_single", "vs_dual", "vs_child", "vs_plain", "vs off", "vs_shop")


def usual(ports: Mapping[str, int], now: dt.datetime) -> Configuration:
    """`ports` are where the virtual servers listen on 127.0.0.1, by name."""
    made = Configuration()
    layout = _Layout(made, now)
    layout.pair("/Common/default", "localhost.localdomain")
    default = {"defaultsFrom": "none", "inheritCertkeychain": "false"}
    for name in ("clientssl", "clientssl-secure", "clientssl-insecure-compatible"):
        layout.profile(
            f"/Common/{name}", "default", **(default if name == "clientssl" else {"defaultsFrom": "/Common/clientssl"})
        )
    named = {
        "www": "www.example.com",
        "api": "api.example.com",
        "single": "single.example.com",
        "any": "any.example.com",
    }
    for name, host in {**named, "idle": "idle.example.com", "parent": "parent.example.com"}.items():
        layout.pair(f"/Common/{name}", host)
        layout.profile(f"/Common/{name}", name)
    layout.pair("/Common/odd", "odd.example.com")
    layout.profile("/Common/idle; $(reboot)", "odd")
    made.profiles["/Common/www"] |= {"serverName": "www.example.com", "sniDefault": "true"}
    made.profiles["/Common/api"] |= {"serverName": "api.example.com"}
    made.profiles["/Common/child"] = {"defaultsFrom": "/Common/parent", "inheritCertkeychain": "true"}
    layout.pair("/Common/dual-rsa", "dual.example.com", rsa.generate_private_key(65537, 2048))
    layout.pair("/Common/dual-ecdsa", "dual.example.com")
    layout.profile("/Common/dual", "dual-rsa", "dual-ecdsa")
    layout.pair("/Shop/app/shop", "shop.example.com")
    layout.profile("/Shop/app/shop", "shop")
    for name, profiles in {
        "vs_web": ("www", "api"),
        "vs_single": ("single",),
        "vs_dual": ("dual",),
        "vs_child": ("child",),
        "vs_plain": ("clientssl",),
        "vs off": ("idle; $(reboot)",),
    }.items():
        layout.virtual(f"/Common/{name}", f"/Common/127.0.0.1:{ports[name]}", *(f"/Common/{one}" for one in profiles))
    made.virtuals["/Common/vs off"]["disabled"] = True
    layout.virtual("/Common/vs_any", "/Common/0.0.0.0:443", "/Common/any")
    layout.virtual("/Shop/app/vs_shop", f"/Shop/shop_address:{ports['vs_shop']}", "/Shop/app/shop")
    made.addresses = {"/Common/127.0.0.1": "127.0.0.1", "/Shop/shop_address": "127.0.0.1%4"}
    made.validate()
    return made


class _Layout:
    def __init__(self, made: Configuration, now: dt.datetime) -> None:
        self._made = made
        self._now = now

    def pair(self, path: str, host: str, key: Key | None = None) -> None:
        """``PATH.key`` and a self-signed ``PATH.crt``."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        self._made.keys[f"{path}.key"] = File(crypto.pem_of(key), self._now)
        self._made.certificates[f"{path}.crt"] = File(crypto.self_signed(key, [host], self._now), self._now)

    def profile(self, path: str, *pairs: str, **more: str) -> None:
        """A client-ssl profile with pairs of its own folder."""
        folder = path.rpartition("/")[0]
        chain = [{"name": one, "cert": f"{folder}/{one}.crt", "key": f"{folder}/{one}.key"} for one in pairs]
        settings: dict[str, Any] = {"defaultsFrom": "/Common/clientssl", "inheritCertkeychain": "false", **more}
        self._made.profiles[path] = {**settings, "certKeyChain": chain}

    def virtual(self, path: str, destination: str, *profiles: str) -> None:
        """A virtual server."""
        found = [{"name": "/Common/tcp", "context": "all"}, {"name": "/Common/http", "context": "all"}]
        found += [{"name": one, "context": "clientside"} for one in profiles]
        self._made.virtuals[path] = {"destination": destination, "ipProtocol": "tcp", "profiles": found}
