"""One token: who may use it in this process, how it is logged in to, and what its errors mean.

A PKCS#11 module is a library with one state for the whole process, in which a login counts for all sessions (PKCS #11
v3.0 section 5.6). So there is one session at a time: it is opened and logged in for a piece of work and closed after
it, and a token that was pulled or a PIN that was changed is noticed at once. After a fork the module is initialized
anew in the child, as section 5.4 demands.

A wrong PIN is counted by the token, which locks itself after some. So a PIN that was refused is not offered again by
this process, and a token that warns of its last try is left to a person.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pkcs11
from pkcs11 import exceptions as errors
from pkcs11.constants import TokenFlag

from connectors.errors import ConnectorError, Permanent, Retryable

# How long somebody else's work in the same module is waited for. An RSA key of 4096 bits can take a token a minute.
LONGEST_WAIT_SECONDS = 120.0
AWAY = (
    errors.NoSuchToken,
    errors.TokenNotPresent,
    errors.TokenNotRecognised,
    errors.SlotIDInvalid,
    errors.DeviceRemoved,
    errors.DeviceError,
    errors.SessionHandleInvalid,
    errors.SessionClosed,
)
UNABLE = (
    errors.MechanismInvalid,
    errors.MechanismParamInvalid,
    errors.DomainParamsInvalid,
    errors.KeySizeRange,
    errors.FunctionNotSupported,
    errors.TemplateInconsistent,
    errors.AttributeValueInvalid,
)


@dataclass
class _Module:
    """A library as this process has it. `refused` has PINs that a token did not take, as salted hashes."""

    process: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    refused: set[tuple[bytes, bytes]] = field(default_factory=set)
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    initialized: bool = False

    def seal(self, serial: bytes, pin: str) -> tuple[bytes, bytes]:
        return serial, hashlib.sha256(self.salt + serial + b"\0" + pin.encode()).digest()


_modules: dict[str, _Module] = {}
_guard = threading.Lock()


def _after_fork() -> None:
    global _guard
    _guard = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _module(path: str) -> _Module:
    """A child has a state of its own: its parent's lock may be held by a thread that it does not have."""
    with _guard:
        found = _modules.get(path)
        if found is None or found.process != os.getpid():
            found = _modules[path] = _Module(os.getpid())
        return found


@dataclass(frozen=True)
class TokenAddress:
    """Which token: the module's path, and the token's label, serial number or both."""

    module: str
    label: str | None
    serial: str | None

    def __str__(self) -> str:
        return self.label if self.label is not None else f"with the serial number {self.serial}"


@contextmanager
def session(address: TokenAddress, pin: str) -> Iterator[Any]:
    """A session (``pkcs11.Session``, read and write) in which `pin` is logged in. It blocks: call it in a thread.

    Raises `Permanent`: the module can't be loaded, the PIN is refused or locked, several tokens fit, the token can't do
    what is asked of it; `Retryable`: the token is away, or somebody else's work in it takes too long.
    """
    module = _module(address.module)
    if not module.lock.acquire(timeout=LONGEST_WAIT_SECONDS):
        raise Retryable(f"The token {address} is busy: other work in it took more than {LONGEST_WAIT_SECONDS:g} s.")
    try:
        with _told(address):
            token = _token(address, module)
            _require_unlocked(address, token)
            mark = module.seal(token.serial, pin)
            if mark in module.refused:
                raise Permanent(
                    f"The token {address} refused this PIN before, and certgate does not offer it again, so that the "
                    "token does not lock itself: correct the PIN where its reference points to; after a PIN was "
                    "changed in the token itself, start the gateway again."
                )
            try:
                opened = token.open(rw=True, user_pin=pin)
            except (errors.PinIncorrect, errors.PinInvalid, errors.PinLenRange):
                module.refused.add(mark)
                raise
            with opened:
                yield opened
    except Retryable:
        # The library may go on with what it knows of a token that is gone.
        module.initialized = False
        raise
    finally:
        module.lock.release()


def _token(address: TokenAddress, module: _Module) -> Any:
    """The token. One that was put in since the module was initialized is seen only after it was initialized again."""
    library = pkcs11.lib(address.module)
    if not module.initialized:
        # In a forked child it still has its parent's state.
        library.reinitialize()
        module.initialized = True
    serial = address.serial.encode() if address.serial is not None else None
    try:
        return library.get_token(token_label=address.label, token_serial=serial)
    except errors.NoSuchToken:
        library.reinitialize()
        return library.get_token(token_label=address.label, token_serial=serial)


def _require_unlocked(address: TokenAddress, token: Any) -> None:
    if TokenFlag.USER_PIN_LOCKED in token.flags:
        raise _locked(address)
    if TokenFlag.USER_PIN_FINAL_TRY in token.flags:
        raise Permanent(
            f"The token {address} says that one more wrong PIN would lock it: log in to it yourself once, with the "
            "right PIN, then ask again."
        )


def _locked(address: TokenAddress) -> Permanent:
    return Permanent(
        f"The PIN of the token {address} is locked after too many wrong ones: unlock it as its security officer."
    )


@contextmanager
def _told(address: TokenAddress) -> Iterator[None]:
    """Turn the library's errors into one sentence. None of them holds a PIN or a key."""
    try:
        yield
    except ConnectorError:
        raise
    except errors.PinLocked:
        raise _locked(address) from None
    except (errors.PinIncorrect, errors.PinInvalid, errors.PinLenRange):
        raise Permanent(
            f"The token {address} refuses the PIN; it is not tried again by itself, so that the token does not lock: "
            "correct the PIN where its reference points to."
        ) from None
    except errors.PinExpired:
        raise Permanent(f"The PIN of the token {address} has expired: set a new one in the token.") from None
    except errors.UserPinNotInitialized:
        raise Permanent(f"The token {address} has no user PIN yet: set one as its security officer.") from None
    except errors.MultipleTokensReturned:
        raise Permanent(
            f"Several tokens are called {address.label}: set the serial number of the one that is meant."
        ) from None
    except AWAY:
        raise Retryable(f"The token {address} is away: its slot is empty or does not answer.") from None
    except (errors.TokenWriteProtected, errors.SessionReadOnly):
        raise Permanent(f"The token {address} is write-protected.") from None
    except errors.DeviceMemory:
        raise Permanent(f"The token {address} is full: remove what nobody needs.") from None
    except UNABLE as error:
        raise Permanent(
            f"The token {address} can't do that ({type(error).__name__}): choose another algorithm."
        ) from None
    except errors.PKCS11Error as error:
        if "while loading" in str(error):
            why = str(error).rpartition(": ")[2][:200]
            raise Permanent(f"The PKCS#11 module {address.module} can't be loaded: {why}.") from None
        raise Retryable(f"The token {address} failed ({type(error).__name__}).") from None
