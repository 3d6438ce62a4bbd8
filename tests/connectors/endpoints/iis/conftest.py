"""What tests of IIS share."""

from __future__ import annotations

from collections.abc import Iterator

import pypsrp.powershell
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa


@pytest.fixture(scope="package", autouse=True)
def one_exchange_key() -> Iterator[None]:
    """pypsrp makes an RSA key for each session that sends a SecureString, which takes longer than all the rest of it:
    here they all have the same."""
    key = rsa.generate_private_key(65537, 2048)

    class Known:
        """The module `rsa`, as far as pypsrp uses it."""

        @staticmethod
        def generate_private_key(public_exponent: int, key_size: int) -> rsa.RSAPrivateKey:
            assert (public_exponent, key_size) == (65537, 2048)
            return key

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pypsrp.powershell, "rsa", Known)
        yield
