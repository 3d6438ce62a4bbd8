"""Replacement campaigns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from model.messages.certificates import CampaignItemEnded
from model.states import CampaignState


@dataclass(frozen=True)
class CampaignStart:
    """Carry one campaign through. `ended` was heard and not looked at before continue-as-new."""

    campaign_id: int
    ended: Sequence[CampaignItemEnded] = ()


@dataclass(frozen=True)
class CampaignRate:
    """An administrator's word that a campaign goes faster or slower: orders an hour, and certificates at the same time
    (None: as before)."""

    administrator: str
    rate_per_hour: int | None = None
    at_once: int | None = None
    comment: str = ""


@dataclass(frozen=True)
class SayCampaign:
    """A word to a campaign (pause, resume, cancel, change_rate), to be judged."""

    campaign_id: int
    word: str
    administrator: str
    comment: str = ""
    rate_per_hour: int | None = None
    at_once: int | None = None


@dataclass(frozen=True)
class CampaignSaid:
    """What became of a word: `refused` is why it does not count, `message` what it did."""

    refused: str | None
    message: str = ""
    state: CampaignState = CampaignState.RUNNING


@dataclass(frozen=True)
class AdvanceCampaign:
    """Look at the campaign's certificates, and say which are to be ordered now. `ended` came as signals since the last
    look; the records tell the same."""

    campaign_id: int
    ended: Sequence[CampaignItemEnded] = ()


@dataclass(frozen=True)
class CampaignStanding:
    """Where a campaign stands. `hand_over` are the items whose certificates are to be ordered now. The next look is
    after `wait_seconds`, or when `wake_after` certificates ended. `over`: nothing is left to do."""

    state: CampaignState
    name: str
    organization: str
    why: str | None
    over: bool
    total: int
    waiting: int
    running: int
    awaiting_approval: int
    done: int
    failed: int
    skipped: int
    rate_per_hour: int
    at_once: int
    expected_at: datetime | None
    deadline_at: datetime | None
    hand_over: Sequence[int] = field(default=())
    wait_seconds: float = 60.0
    wake_after: int = 1


@dataclass(frozen=True)
class HandOver:
    """Have the renewal workflows of these items' certificates order."""

    campaign_id: int
    items: Sequence[int]


@dataclass(frozen=True)
class HandedOver:
    """How many were told."""

    count: int


@dataclass(frozen=True)
class CampaignView:
    """The answer to a campaign's query `view`. Times are UTC."""

    campaign_id: int
    name: str
    state: CampaignState
    why: str | None
    total: int = 0
    waiting: int = 0
    running: int = 0
    awaiting_approval: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    rate_per_hour: int = 0
    at_once: int = 0
    expected_at: datetime | None = None
    deadline_at: datetime | None = None
