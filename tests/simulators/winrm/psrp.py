"""PowerShell remoting (MS-PSRP), the server's side: fragments, messages, the key exchange. The encoding of objects
(CLIXML) is pypsrp's, the conversation is ours."""

from __future__ import annotations

import base64
import os
import struct
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from defusedxml import ElementTree
from pypsrp.complex_objects import GenericComplexObject
from pypsrp.messages import (
    ApplicationPrivateData,
    Destination,
    EncryptedSessionKey,
    MessageType,
    PipelineState,
    RunspacePoolStateMessage,
    SessionCapability,
)
from pypsrp.powershell import Fragment
from pypsrp.serializer import Serializer

from tests.simulators.winrm.signatures import Secure

OPENED = 2
COMPLETED, FAILED, STOPPED = 4, 5, 3
FRAGMENT_BYTES = 32_000


class _Serializer(Serializer):
    """Tells strings that came as SecureString from others."""

    def _deserialize_secure_string(self, value: ET.Element) -> Secure:
        assert self.cipher is not None, "a SecureString came before the key exchange"
        return Secure(super()._deserialize_secure_string(value))


@dataclass(frozen=True)
class Incoming:
    """A message of the client: its type, and its content where it has one."""

    kind: int
    content: ET.Element | None


@dataclass(frozen=True)
class Command:
    """One command of a pipeline: a script's text, or the name of a function."""

    text: str
    is_script: bool
    parameters: Mapping[str, Any]


class Conversation:
    """One runspace pool: what comes in fragments goes out as messages, and the other way round."""

    def __init__(self, pool: str) -> None:
        self._pool = uuid.UUID(pool)
        self._serializer = _Serializer()
        self._incoming: dict[int, bytes] = {}
        self._sent = 0

    def receive(self, data: bytes) -> list[Incoming]:
        """The messages that are complete with these fragments."""
        messages = []
        while data:
            fragment, data = Fragment.unpack(data)
            whole = self._incoming.pop(fragment.object_id, b"") + fragment.data
            if fragment.end:
                content = whole[40:].removeprefix(b"\xef\xbb\xbf")
                kind = struct.unpack("<I", whole[4:8])[0]
                messages.append(Incoming(kind, ElementTree.fromstring(content) if content else None))
            else:
                self._incoming[fragment.object_id] = whole
        return messages

    def opening(self) -> bytes:
        """What answers a client that opened the pool."""
        return (
            self._packed(SessionCapability("2.3", "2.0", "1.1.0.1"))
            + self._packed(ApplicationPrivateData({}))
            + self._packed(RunspacePoolStateMessage(OPENED))
        )

    def commands_of(self, message: Incoming) -> list[Command]:
        """The commands of a CREATE_PIPELINE message (MS-PSRP 2.2.2.10, 2.2.3.11 to 2.2.3.13)."""
        assert message.content is not None
        # The name of a type is written once and referred to from then on, wherever in the message.
        self._serializer._clear()
        for element in message.content.iter("Obj"):
            self._serializer._get_types_from_obj(element)
        found = message.content.findall("MS/Obj[@N='PowerShell']/MS/Obj[@N='Cmds']/LST/Obj/MS")
        return [
            Command(
                text=self._serializer._deserialize_string(one.findtext("S[@N='Cmd']")),
                is_script=one.findtext("B[@N='IsScript']") == "true",
                parameters={
                    self._value(argument, "N"): self._value(argument, "V")
                    for argument in one.findall("Obj[@N='Args']/LST/Obj/MS")
                },
            )
            for one in found
        ]

    def _value(self, argument: ET.Element, name: str) -> Any:
        element = argument.find(f"*[@N='{name}']")
        assert element is not None
        return self._serializer.deserialize(element, clear=False)

    def session_key(self, message: Incoming) -> bytes:
        """The answer to PUBLIC_KEY: a key for SecureStrings, encrypted to the client's (MS-PSRP 2.2.2.3 and 2.2.2.4,
        key blobs of Win32)."""
        assert message.content is not None
        blob = base64.b64decode(message.content.findtext("MS/S[@N='PublicKey']", ""))
        exponent, modulus = struct.unpack("<I", blob[16:20])[0], int.from_bytes(blob[20:], "little")
        key = os.urandom(32)
        encrypted = rsa.RSAPublicNumbers(exponent, modulus).public_key().encrypt(key, padding.PKCS1v15())
        self._serializer.cipher = Cipher(algorithms.AES(key), modes.CBC(b"\0" * 16))
        header = b"\x01\x02\x00\x00\x10\x66\x00\x00\x00\xa4\x00\x00"
        return self._packed(EncryptedSessionKey(base64.b64encode(header + encrypted[::-1]).decode()))

    def output(self, pipeline: str, properties: Mapping[str, Any] | str) -> bytes:
        """An object that a script puts out."""
        if isinstance(properties, str):
            return self._packed(properties, pipeline, MessageType.PIPELINE_OUTPUT)
        found = GenericComplexObject()
        found.types = ["System.Management.Automation.PSCustomObject", "System.Object"]
        found.extended_properties = dict(properties)
        return self._packed(found, pipeline, MessageType.PIPELINE_OUTPUT)

    def end(self, pipeline: str, error: str | None = None, state: int = COMPLETED) -> bytes:
        """The end of a pipeline, with what it threw."""
        if error is None:
            return self._packed(PipelineState(state), pipeline)
        record = GenericComplexObject()
        record.types = ["System.Management.Automation.ErrorRecord", "System.Object"]
        record.to_string = error
        record.extended_properties = {
            "FullyQualifiedErrorId": "RuntimeException",
            "ErrorCategory_Category": 14,
            "SerializeExtendedInfo": False,
        }
        failed = GenericComplexObject()
        failed.extended_properties = {"PipelineState": FAILED, "ExceptionAsErrorRecord": record}
        return self._packed(failed, pipeline, MessageType.PIPELINE_STATE)

    def _packed(self, content: Any, pipeline: str | None = None, kind: int | None = None) -> bytes:
        element = self._serializer.serialize(content)
        assert element is not None
        message = struct.pack("<II", Destination.CLIENT, kind or content.MESSAGE_TYPE)
        message += self._pool.bytes_le + (uuid.UUID(pipeline) if pipeline else uuid.UUID(int=0)).bytes_le
        message += b"\xef\xbb\xbf" + ET.tostring(element, encoding="utf-8")
        self._sent += 1
        parts = [message[at : at + FRAGMENT_BYTES] for at in range(0, len(message), FRAGMENT_BYTES)]
        last = len(parts) - 1
        return b"".join(
            Fragment(self._sent, number, part, start=number == 0, end=number == last).pack()
            for number, part in enumerate(parts)
        )
