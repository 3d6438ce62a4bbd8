"""Decryption with RC2 (RFC 2268), which PKCS#12 files of older programs hide their certificates with, at 40 bits.

It protects nothing any more; certificates are public. `cryptography` has it only for keys of 128 bits.
"""

from __future__ import annotations

import struct

from connectors.archives.contract import WRONG, Unreadable

# It runs in Python: this much takes under a second.
_LARGEST = 512 * 1024
_PI = bytes.fromhex(
    "d978f9c419ddb5ed28e9fd794aa0d89dc67e37832b76538e624c6488448bfba2179a59f587b34f1361456d8d09817d32"
    "bd8f40eb86b77b0bf09521225c6b4e8254d66593ce60b21c7356c014a78cf1dc1275ca1f3bbee4d1423dd430a33cb626"
    "6fbf0eda4669075727f21d9bbc944303f811c7f690ef3ee706c3d52fc8661ed708e8eade8052eef784aa72ac354d6a2a"
    "961ad2715a1549744b9fd05e0418a4ecc2e0416e0f51cbcc2491af50a1f47039997c3a8523b8b47afc02365b25559731"
    "2d5dfa98e38a92ae05df2910676cbac9d300e6cfe19ea82c6316013f58e289a90d38341bab33ffb0bb480c5fb9b1cd2e"
    "c5f3db47e5a59c770aa62068fe7fc1ad"
)


def decrypt_cbc(key: bytes, iv: bytes, sealed: bytes) -> bytes:
    """Plain bytes, still padded; the effective length of the key is its length. Raises `Unreadable`."""
    if len(sealed) > _LARGEST:
        raise Unreadable(f"it holds more than {_LARGEST} bytes protected with RC2; save it anew with keytool")
    if len(sealed) % 8 or not sealed:
        raise Unreadable(WRONG)
    words = _expanded(key)
    parts, before = [], iv
    for at in range(0, len(sealed), 8):
        block = sealed[at : at + 8]
        parts.append(bytes(a ^ b for a, b in zip(_block(words, block), before, strict=True)))
        before = block
    return b"".join(parts)


def _expanded(key: bytes) -> tuple[int, ...]:
    """Section 2."""
    length = len(key)
    buffer = bytearray(key)
    for at in range(length, 128):
        buffer.append(_PI[(buffer[at - 1] + buffer[at - length]) & 255])
    buffer[128 - length] = _PI[buffer[128 - length]]
    for at in range(127 - length, -1, -1):
        buffer[at] = _PI[buffer[at + 1] ^ buffer[at + length]]
    return struct.unpack("<64H", buffer)


def _block(words: tuple[int, ...], block: bytes) -> bytes:
    """Section 4: five mixing rounds, a mashing one, six, a mashing one, five, all backwards."""
    r = list(struct.unpack("<4H", block))
    at = 63
    for rounds in (5, 6, 5):
        for _ in range(rounds):
            for i, turn in ((3, 5), (2, 3), (1, 2), (0, 1)):
                value = (r[i] >> turn | r[i] << 16 - turn) & 0xFFFF
                one, two, three = r[i - 1], r[i - 2], r[i - 3]
                r[i] = (value - words[at] - (one & two) - (~one & three)) & 0xFFFF
                at -= 1
        if at >= 0:
            for i in (3, 2, 1, 0):
                r[i] = (r[i] - words[r[i - 1] & 63]) & 0xFFFF
    return struct.pack("<4H", *r)
