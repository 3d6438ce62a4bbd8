"""Texts that people type and others read: no characters that are unseen or turn what stands around them."""

from __future__ import annotations

import unicodedata

# Control characters, lone surrogates, and the line and paragraph separators of Unicode.
_UNWANTED = ("Cc", "Cs", "Zl", "Zp")
# They turn the direction of writing, so that a text reads as another one (Unicode UAX #9).
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def unwanted(text: str) -> str | None:
    """The first character that may not be there, as ``U+0007``; None where all may. A line end may."""
    for one in text:
        if one != "\n" and (unicodedata.category(one) in _UNWANTED or one in _TURNING):
            return f"U+{ord(one):04X}"
    return None
