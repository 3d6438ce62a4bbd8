"""Which names may be asked for: syntax on entry, and what a profile allows.

Names are normalized once, here, and compared as plain strings everywhere else: DNS names as lower-case A-labels
without a trailing dot, IP addresses in their shortest form.

Choices a newcomer may question:

- Internationalized names follow IDNA2008 (RFC 5890–5893) without compatibility mappings: only case is folded. A
  full-width or otherwise "mapped" character is refused rather than turned into a name that the person did not type. A
  label that mixes Latin with Cyrillic, Greek, Armenian or Cherokee letters is refused too (the mixes that look alike,
  Unicode TR 39); a look-alike that stays within one script can't be told from a name and is shown to the approver as
  its A-label.
- One trailing dot is dropped: ``example.com.`` and ``example.com`` are one name, and a certificate holds it without
  (RFC 5280 section 4.2.1.6).
- A wildcard stands for the whole leftmost label and has at least two labels below it: ``*.example.com``, not ``*.com``.
- Underscores are refused: they belong to DNS records, not to host names (RFC 1123 section 2.1).
- A name of a single label (``localhost``, ``intranet``) is well-formed, and allowed only where a profile lists it
  literally.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Sequence

import idna

from model.errors import InvalidInput

MAX_NAMES = 100
MAX_NAME_CHARACTERS = 253
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LOOK_ALIKE_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE")


def normalize_names(common_name: str, sans: Iterable[str]) -> list[str]:
    """All names of a request, normalized, the common name among them (put first if the SANs lack it).

    Raises `InvalidInput` for the first name that breaks a rule, for a name given twice, and for more than 100 names.
    """
    first = normalize_name(common_name)
    names: list[str] = []
    for given in sans:
        name = normalize_name(given)
        if name in names:
            raise InvalidInput(f"The name {_shown(given)} is given twice ({name}).")
        names.append(name)
        if len(names) > MAX_NAMES:
            break
    if first not in names:
        names.insert(0, first)
    if len(names) > MAX_NAMES:
        raise InvalidInput(f"A certificate may have at most {MAX_NAMES} names; split the request.")
    return names


def normalize_name(given: str) -> str:
    """One DNS name or IP address, normalized. Raises `InvalidInput` and says which rule it breaks."""
    if not given:
        raise InvalidInput("A name is empty.")
    if len(given) > 1024:  # bounds the work below; the real limit is checked on the A-labels
        raise InvalidInput(f"The name {_shown(given)} is longer than {MAX_NAME_CHARACTERS} characters.")
    if any(character.isspace() or unicodedata.category(character).startswith("C") for character in given):
        raise InvalidInput(f"The name {_shown(given)} has a space, control or invisible character in it.")
    if ":" in given or given.startswith("["):
        return _address(given)
    text = given[:-1] if given.endswith(".") else given
    labels = text.split(".")
    if labels[-1].isdecimal():  # no top-level domain is a number (RFC 3696 section 2): this is meant as an address
        return _address(given)
    wildcard = labels[0] == "*"
    if wildcard:
        labels = labels[1:]
        if len(labels) < 2:
            raise InvalidInput(f"The wildcard {_shown(given)} needs at least two labels after the star.")
    if any("*" in label for label in labels):
        raise InvalidInput(f"In {_shown(given)} the star does not stand for the whole leftmost label.")
    name = ".".join(_label(label, given) for label in labels)
    if wildcard:
        name = "*." + name
    if len(name) > MAX_NAME_CHARACTERS:
        raise InvalidInput(f"The name {_shown(given)} is longer than {MAX_NAME_CHARACTERS} characters.")
    return name


def allowed_by(names: Iterable[str], patterns: Sequence[str]) -> bool:
    """Whether every one of `names` (normalized) is allowed by a profile's `patterns`; see `check_allowed`."""
    return not _refused(names, patterns)


def check_allowed(names: Iterable[str], patterns: Sequence[str]) -> None:
    """Raises `InvalidInput` that lists which of `names` (normalized) no pattern allows.

    - ``example.com`` allows exactly this name; it may also be a wildcard's or single-label name, or an IP address.
    - ``*.example.com`` allows every name below ``example.com``, at any depth, wildcards too, but not ``example.com``
      itself. (Any depth, because whoever holds a domain hands out what lies below it; a profile is not a TLS client.)
    - ``*`` allows every DNS name of two labels or more; ``10.0.0.0/8`` and ``fd00::/8`` allow addresses.
    - No patterns at all: every DNS name of two labels or more and every address.
    """
    refused = _refused(names, patterns)
    if refused:
        shown = ", ".join(refused[:5]) + (f" and {len(refused) - 5} more" if len(refused) > 5 else "")
        raise InvalidInput(f"The profile does not allow {shown} (allowed: {', '.join(patterns) or 'full names'}).")


def explain_pattern(pattern: str) -> str:
    """What a profile's pattern allows, in words; see `check_allowed`. Raises `InvalidInput` for what is no pattern."""
    rule = _pattern(pattern)
    if not isinstance(rule, str):
        count = "one address" if rule.num_addresses == 1 else "addresses"
        return f"{rule}: {count} of this range"
    if rule == "*":
        return "*: every DNS name of two labels or more"
    if rule.startswith("*."):
        return f"{rule}: every name below {rule[2:]}, at any depth, wildcards too, but not {rule[2:]} itself"
    return f"{rule}: exactly this name"


def _refused(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    rules = [_pattern(pattern) for pattern in patterns] or ["*", *map(ipaddress.ip_network, ("0.0.0.0/0", "::/0"))]
    return [name for name in names if not any(_matches(name, rule) for rule in rules)]


def _pattern(given: str) -> str | ipaddress.IPv4Network | ipaddress.IPv6Network:
    if given == "*":
        return given
    if "/" in given:
        try:
            return ipaddress.ip_network(given)
        except ValueError:
            raise InvalidInput(f"The pattern {_shown(given)} is not an address range such as 10.0.0.0/8.") from None
    if given.startswith("*."):
        return "*." + normalize_name(given[2:])  # unlike in a certificate, "*.internal" is a useful pattern
    return normalize_name(given)


def _matches(name: str, rule: str | ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        if not isinstance(rule, str):
            return False
        if rule == "*":
            return "." in name
        return name == rule or (rule.startswith("*.") and name.endswith(rule[1:]))
    return str(address) == rule if isinstance(rule, str) else address in rule


def _address(given: str) -> str:
    try:
        address = ipaddress.ip_address(given)
    except ValueError:
        raise InvalidInput(
            f"{_shown(given)} is neither a DNS name nor an IP address (no brackets, no port, no zone)."
        ) from None
    if getattr(address, "scope_id", None):
        raise InvalidInput(f"The address {_shown(given)} has a zone; a certificate can't hold one.")
    if address.is_unspecified or address.is_multicast:
        raise InvalidInput(f"The address {_shown(given)} is not the address of one host.")
    return str(address)


def _label(label: str, given: str) -> str:
    if not label:
        raise InvalidInput(f"The name {_shown(given)} has an empty label (two dots, or one at the start).")
    if "_" in label:
        raise InvalidInput(f"The name {_shown(given)} has an underscore, which host names may not have.")
    try:
        if label.isascii():
            lowered = label.lower()
            if not _LABEL.fullmatch(lowered):
                raise InvalidInput(
                    f"In the name {_shown(given)} the label {_shown(label)} "
                    "is not 1 to 63 letters, digits or inner hyphens."
                )
            if lowered[2:4] != "--":
                return lowered
            # "xn--" has to decode; other labels with "--" there are reserved (RFC 5890 section 2.3.1).
            unicode_label = idna.ulabel(lowered)
        else:
            unicode_label = unicodedata.normalize("NFC", label.lower())
        encoded = idna.alabel(unicode_label).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise InvalidInput(
            f"In the name {_shown(given)} the label {_shown(label)} is not allowed by IDNA2008."
        ) from None
    if label.isascii() and encoded != label.lower():
        raise InvalidInput(f"In the name {_shown(given)} the label {_shown(label)} is not a proper A-label.")
    scripts = {name.split()[0] for character in unicode_label if (name := unicodedata.name(character, "-"))}
    mixed = sorted(scripts.intersection(_LOOK_ALIKE_SCRIPTS))
    if len(mixed) > 1:
        raise InvalidInput(
            f"In the name {_shown(given)} the label {_shown(label)} mixes scripts that look alike ({', '.join(mixed)})."
        )
    return encoded


def _shown(text: str) -> str:
    """Quoted, control and non-ASCII characters escaped, cut: safe to print in a terminal or a log."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
