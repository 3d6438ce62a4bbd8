"""The channel: both sides derive one key, nobody else does, and what it seals is bound to whose it is."""

from __future__ import annotations

import base64
import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from model import channel
from model.channel import Parties, Purpose
from model.errors import InvalidInput

MANAGER, GATEWAY = channel.new_key(), channel.new_key()
PARTIES = Parties("0123456789ab", 7, 1, channel.public_text(MANAGER), channel.public_text(GATEWAY))
OTHERS = [
    dataclasses.replace(PARTIES, installation="0123456789ac"),
    dataclasses.replace(PARTIES, gateway_id=8),
    dataclasses.replace(PARTIES, number=2),
]


def test_both_sides_derive_one_key_and_no_other_channel_has_it() -> None:
    key = channel.channel_key(MANAGER, PARTIES)
    assert key == channel.channel_key(GATEWAY, PARTIES)
    assert len(key) == 32
    assert len({key, *(channel.channel_key(MANAGER, other) for other in OTHERS)}) == 1 + len(OTHERS)
    assert len({key, *(channel.purpose_key(key, purpose) for purpose in Purpose)}) == 1 + len(Purpose)
    with pytest.raises(InvalidInput, match="neither side"):
        channel.channel_key(channel.new_key(), PARTIES)


@pytest.mark.parametrize("raw", [bytes(32), b"\1" + bytes(31)], ids=["zero", "one"])
def test_a_public_key_that_protects_nothing_is_refused(raw: bytes) -> None:
    weak = dataclasses.replace(PARTIES, gateway_key=base64.b64encode(raw).decode())
    with pytest.raises(InvalidInput, match="protects nothing"):
        channel.channel_key(MANAGER, weak)


def test_what_is_sealed_opens_on_the_other_side_and_nowhere_else() -> None:
    key = channel.channel_key(GATEWAY, PARTIES)
    sealed = channel.seal(key, Purpose.JOIN, PARTIES, b"the secret")
    assert channel.unseal(channel.channel_key(MANAGER, PARTIES), Purpose.JOIN, PARTIES, sealed) == b"the secret"
    assert sealed != channel.seal(key, Purpose.JOIN, PARTIES, b"the secret")
    thief = channel.new_key()
    swapped = dataclasses.replace(PARTIES, gateway_key=channel.public_text(thief))
    moved = [(channel.channel_key(MANAGER, other), other) for other in [*OTHERS, swapped]]
    moved += [(key, other) for other in OTHERS]
    for one, parties in moved:
        with pytest.raises(InvalidInput, match="not sealed with the key of this channel"):
            channel.unseal(one, Purpose.JOIN, parties, sealed)
    for wrong in ("", "AAAA", "not Base64!", sealed[:-8], sealed.swapcase()):
        with pytest.raises(InvalidInput):
            channel.unseal(key, Purpose.JOIN, PARTIES, wrong)
    with pytest.raises(InvalidInput):
        channel.unseal(key, Purpose.CHECK_IN, PARTIES, sealed)


def test_a_proof_holds_for_its_content_only() -> None:
    key = channel.channel_key(MANAGER, PARTIES)
    said = channel.proof(key, Purpose.CONFIRMATION, PARTIES, "a", "bc")
    assert channel.proves(said, key, Purpose.CONFIRMATION, PARTIES, "a", "bc")
    assert not channel.proves(said, key, Purpose.CONFIRMATION, PARTIES, "ab", "c")
    assert not channel.proves(said, key, Purpose.CHECK_IN, PARTIES, "a", "bc")
    assert not channel.proves(said, bytes(32), Purpose.CONFIRMATION, PARTIES, "a", "bc")
    assert not channel.proves("ü", key, Purpose.CONFIRMATION, PARTIES, "a", "bc")


def test_a_private_key_is_read_from_both_forms_and_never_quoted() -> None:
    pem = channel.private_pem(MANAGER)
    assert channel.public_text(channel.read_private(pem)) == PARTIES.manager_key
    digits = MANAGER.private_bytes_raw().hex()
    assert channel.public_text(channel.read_private(f"{digits}\n".encode())) == PARTIES.manager_key
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for wrong in (b"", digits[:-2].encode(), b"x" * 64, pem[:60], other, b"\xff" * 40):
        with pytest.raises(InvalidInput) as caught:
            channel.read_private(wrong)
        assert digits[:12] not in caught.value.message
    for text in ("", "AAAA", "#" * 44, "A" * 4000):
        with pytest.raises(InvalidInput):
            channel.read_public(text)
