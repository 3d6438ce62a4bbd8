"""The kinds of keystore files that there are."""

from __future__ import annotations

from connectors.archives.contract import Format
from connectors.archives.jks import JksArchive
from connectors.archives.pkcs12 import Pkcs12Archive

PKCS12 = Format("PKCS#12", Pkcs12Archive.read, Pkcs12Archive.new)
JKS = Format("JKS", JksArchive.read, JksArchive.new)
