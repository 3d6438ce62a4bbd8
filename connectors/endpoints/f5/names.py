"""How things are called: full paths and what they are in a URL, and the names of what certgate makes on a device.

A new key, its certificate and the chain are one generation; their names have one stem, ``certgate-TAG-STEM``. `TAG` is
for the profile, so that no two profiles share what is deleted one day, and STEM is the certificate's fingerprint or,
for a key that was made on the device, ``k-ALIAS``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote

PREFIX = "certgate"
DOWNLOADS = "/var/config/rest/downloads"
LONGEST_NAME = 200
_ALIAS = re.compile(r"[a-z0-9-]{1,64}")


def segment(full_path: str) -> str:
    """``/Common/app/www`` as a part of a URL: iControl REST writes ``~`` for ``/``."""
    return quote(full_path.replace("/", "~"), safe="~")


def addressable(full_path: str) -> bool:
    """Whether such a part of a URL says which object is meant: a ``~`` in a name would be taken for a ``/``."""
    return "~" not in full_path and full_path.startswith("/") and not {".", ".."} & set(full_path.split("/"))


def full_path(name: str, folder: str = "/Common") -> str:
    """A reference as the device gives it, which leaves the folder away for objects of the same one."""
    return name if name.startswith("/") else f"{folder}/{name}"


def tag(profile: str) -> str:
    """What the names of everything for one profile begin with."""
    return f"{PREFIX}-{hashlib.sha256(profile.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Generation:
    """The objects of one certificate in a profile: full paths."""

    key: str
    certificate: str
    chain: str


def generation(partition: str, profile: str, fingerprint: str, alias: str | None) -> Generation:
    """What the objects of a certificate are called. `alias` is that of a key that was made on the device."""
    begin = f"/{partition}/{tag(profile)}"
    stem = f"{begin}-{fingerprint[:32]}" if alias is None else f"{begin}-k-{alias}-{fingerprint[:16]}"
    return Generation(
        key=f"{stem}.key" if alias is None else made_key(partition, profile, alias),
        certificate=f"{stem}.crt",
        chain=f"{stem}-chain.crt",
    )


def made_key(partition: str, profile: str, alias: str) -> str:
    """What a key is called that is made on the device. Raises `ValueError` for an alias that certgate never makes."""
    if not _ALIAS.fullmatch(alias):
        raise ValueError(alias)
    return f"/{partition}/{tag(profile)}-k-{alias}.key"


def of_certificate(certificate: str) -> Generation | None:
    """The generation that a certificate of ours belongs to; None where the name is none of ours."""
    uploaded = re.fullmatch(rf"(/[^/]+/{PREFIX}-[0-9a-f]{{8}}-[0-9a-f]{{32}})\.crt", certificate)
    if uploaded:
        return Generation(f"{uploaded[1]}.key", certificate, f"{uploaded[1]}-chain.crt")
    made = re.fullmatch(rf"((/[^/]+/{PREFIX}-[0-9a-f]{{8}}-k-[a-z0-9-]+)-[0-9a-f]{{16}})\.crt", certificate)
    if made:
        return Generation(f"{made[2]}.key", certificate, f"{made[1]}-chain.crt")
    return None


def uploads(profile: str) -> tuple[str, str, str]:
    """What the files for key, certificate and chain are called while they are on their way. The same names each time,
    so that whoever comes after a killed process knows what to delete."""
    return f"{tag(profile)}-key", f"{tag(profile)}-certificate", f"{tag(profile)}-chain"


def new_profile(partition: str, virtual: str) -> str:
    """The profile that a virtual server gets of its own."""
    return f"/{partition}/{PREFIX}-{virtual.rpartition('/')[2]}"[:LONGEST_NAME]
