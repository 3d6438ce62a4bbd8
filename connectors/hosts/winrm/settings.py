"""Settings of a connection by WinRM."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from connectors.secrets import Reference

Authentication = Literal["negotiate", "kerberos", "ntlm", "certificate", "basic"]
ENCRYPTS_MESSAGES = ("negotiate", "kerberos", "ntlm")


class WinrmSettings(BaseModel):
    """How to reach and sign in to one Windows host."""

    model_config = ConfigDict(extra="forbid")

    address: str = Field(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9])?$", description="Name or IP address of the host."
    )
    port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of WinRM. Default: 5986, and 5985 without TLS."
    )
    tls: bool = Field(
        default=True,
        description="Whether WinRM is reached by HTTPS, and its certificate verified. Without, every message is "
        "encrypted by the sign-in (negotiate, kerberos, ntlm).",
    )
    ca_file: str | None = Field(
        default=None,
        pattern="^/",
        description="PEM file with the CA certificates that the host's own certificate is verified with. Default: "
        "the public ones.",
    )
    authentication: Authentication = Field(
        default="negotiate",
        description="How to sign in: negotiate (Kerberos, else NTLM), kerberos, ntlm, certificate (of the gateway) or "
        "basic (a local account).",
    )
    username: str | None = Field(
        default=None, min_length=1, description="Account, such as GATEWAY@EXAMPLE.ORG or WEB-1\\certgate."
    )
    password: Reference | None = Field(
        default=None, description="Reference to the account's password. Kerberos does without, from its ticket cache."
    )
    certificate_file: str | None = Field(
        default=None, pattern="^/", description="The gateway's certificate, PEM, for authentication by certificate."
    )
    key_file: str | None = Field(default=None, pattern="^/", description="Its private key, unencrypted PEM.")
    configuration_name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of a JEA session configuration. Then only certgate's functions are called there, which must "
        "have been installed; no script is sent.",
    )
    answer_timeout_seconds: float = Field(
        default=30.0, gt=0, le=600, description="How long the host may take to answer one message."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.tls and self.authentication not in ENCRYPTS_MESSAGES:
            raise ValueError(f"authentication {self.authentication} needs tls: it would send messages in the clear")
        if not self.tls and self.ca_file is not None:
            raise ValueError("ca_file has no meaning without tls")
        if self.authentication == "certificate":
            if self.certificate_file is None or self.key_file is None:
                raise ValueError("authentication certificate needs certificate_file and key_file")
            if self.username is not None or self.password is not None:
                raise ValueError("authentication certificate takes neither username nor password")
            return self
        if self.certificate_file is not None or self.key_file is not None:
            raise ValueError("certificate_file and key_file are for authentication certificate")
        if (self.username is None) != (self.password is None) and self.authentication != "kerberos":
            raise ValueError("username and password go together")
        if self.authentication in ("basic", "ntlm") and self.username is None:
            raise ValueError(f"authentication {self.authentication} needs username and password")
        return self

    @property
    def effective_port(self) -> int:
        """The port that is connected to."""
        return self.port or (5986 if self.tls else 5985)
