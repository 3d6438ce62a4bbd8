"""What people say to a running workflow, and the answer."""

from __future__ import annotations

from dataclasses import dataclass

from model.states import CertificateStatus, InstallState


@dataclass(frozen=True)
class AdministratorWord:
    """An administrator's approve, decline, cancel, install or retry, as typed into the Temporal CLI or sent by us."""

    administrator: str
    comment: str = ""


@dataclass(frozen=True)
class Receipt:
    """The answer to an update: where the request stands now and one sentence."""

    status: CertificateStatus
    install_state: InstallState
    message: str
