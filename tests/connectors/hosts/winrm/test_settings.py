"""What a connection by WinRM takes, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.errors import Permanent
from connectors.hosts.winrm import CONNECTOR
from connectors.registry import connections, find

ACCOUNT = {"username": r"WEB-1\certgate", "password": "env:WINRM_PASSWORD"}


@pytest.mark.parametrize(
    ("settings", "port"),
    [
        ({**ACCOUNT}, 5986),
        ({**ACCOUNT, "tls": False}, 5985),
        ({**ACCOUNT, "port": 8443, "authentication": "basic"}, 8443),
        ({"authentication": "kerberos"}, 5986),
        ({"authentication": "kerberos", "username": "gateway@EXAMPLE.ORG"}, 5986),
        ({"authentication": "certificate", "certificate_file": "/c.pem", "key_file": "/k.pem"}, 5986),
        ({}, 5986),
    ],
)
def test_what_is_taken(settings: dict[str, Any], port: int) -> None:
    assert CONNECTOR.configure({"address": "web-1.example.org", **settings}).effective_port == port


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({**ACCOUNT, "tls": False, "authentication": "basic"}, "needs tls"),
        ({"tls": False, "authentication": "certificate", "certificate_file": "/c", "key_file": "/k"}, "needs tls"),
        ({**ACCOUNT, "tls": False, "ca_file": "/ca.pem"}, "no meaning without tls"),
        ({"authentication": "certificate"}, "needs certificate_file and key_file"),
        ({**ACCOUNT, "authentication": "certificate", "certificate_file": "/c", "key_file": "/k"}, "takes neither"),
        ({**ACCOUNT, "key_file": "/k"}, "are for authentication certificate"),
        ({"username": "x"}, "go together"),
        ({"authentication": "ntlm"}, "needs username and password"),
        ({"authentication": "digest"}, "authentication"),
        ({**ACCOUNT, "password": "hunter2"}, "must be a reference"),
        ({"address": "http://web-1"}, "address"),
        ({"address": "web-1; rm"}, "address"),
        ({"address": "web-1\n"}, "address"),
        ({"address": "web-1/wsman"}, "address"),
        ({"configuration_name": "$(calc)"}, "configuration_name"),
        ({"configuration_name": "a/../Microsoft.PowerShell"}, "configuration_name"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(Permanent, match=told) as caught:
        CONNECTOR.configure({"address": "web-1.example.org", **settings})
    assert "hunter2" not in caught.value.message


def test_only_iis_is_connected_by_it() -> None:
    assert connections(find("endpoints", "iis")) == ["winrm"]
    assert "winrm" not in connections(find("endpoints", "nginx"))
