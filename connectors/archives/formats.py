"""The kinds of keystore files that there are."""

from __future__ import annotations

from connectors.archives.contract import Archive, Format, Passphrases, Unreadable, kind_of
from connectors.archives.jks import JksArchive
from connectors.archives.pkcs12 import Pkcs12Archive

PKCS12 = Format("PKCS#12", Pkcs12Archive.read, Pkcs12Archive.new)
JKS = Format("JKS", JksArchive.read, JksArchive.new)

_BY_FORM = {"pkcs12": PKCS12, "jks": JKS}


def of(form: str) -> Format:
    """The kind that a place's form (``pkcs12``, ``jks``) means."""
    return _BY_FORM[form]


def form_of(content: bytes) -> str | None:
    """``pkcs12`` or ``jks`` by a file's first bytes; None for anything else."""
    title = kind_of(content)
    return next((form for form, kind in _BY_FORM.items() if kind.title == title), None)


def opened(content: bytes, passphrases: Passphrases) -> Archive:
    """A file, whichever of the kinds it is; raises `Unreadable`."""
    form = form_of(content)
    if form is not None:
        return _BY_FORM[form].read(content, passphrases)
    if not content:
        raise Unreadable("it is empty (0 bytes)")
    title = kind_of(content)
    raise Unreadable(
        f"it is a {title} file, which certgate does not write; convert it with keytool -importkeystore to PKCS#12"
        if title == "JCEKS"
        else "it is a PEM file and no keystore"
        if title
        else "it is neither PKCS#12 nor JKS"
    )
