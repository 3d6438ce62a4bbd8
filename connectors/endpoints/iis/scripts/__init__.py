"""The PowerShell that certgate runs on an IIS host: one script a file, values only by its parameters.

The same files make the functions of a JEA session (``../jea``). A new script must be named in both.
"""

from __future__ import annotations

from importlib.resources import files

from connectors.hosts.contract import Script


def _load(name: str) -> Script:
    return Script(name, files(__name__).joinpath(f"{name}.ps1").read_text("utf-8"))


GET_SERVER = _load("Get-CertgateServer")
GET_BINDINGS = _load("Get-CertgateBinding")
GET_CERTIFICATE = _load("Get-CertgateCertificate")
IMPORT_CERTIFICATE = _load("Import-CertgateCertificate")
ADD_CERTIFICATE = _load("Add-CertgateCertificate")
SET_BINDING = _load("Set-CertgateBinding")
REMOVE_CERTIFICATES = _load("Remove-CertgateCertificate")
NEW_REQUEST = _load("New-CertgateRequest")
REMOVE_KEY = _load("Remove-CertgateKey")

ALL = (
    GET_SERVER,
    GET_BINDINGS,
    GET_CERTIFICATE,
    IMPORT_CERTIFICATE,
    ADD_CERTIFICATE,
    SET_BINDING,
    REMOVE_CERTIFICATES,
    NEW_REQUEST,
    REMOVE_KEY,
)
