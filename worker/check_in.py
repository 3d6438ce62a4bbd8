"""A gateway tells its manager what it is: when it starts, and now and then while it runs.

It works meanwhile: a manager that is away for a day must not stop a gateway. A refusal ends it.
"""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import structlog
from temporalio.client import Client

from connectors.registry import modules
from model.errors import Unavailable
from operations import joining
from operations.context import now
from worker.gateway_home import GatewayHome

log = structlog.get_logger(__name__)

# A host that was restored elsewhere while it ran hears of it after this at the latest. It is given no work from the
# moment of the restore on; what it learns here is to end.
EVERY = timedelta(hours=6)
_AGAIN = timedelta(minutes=1)


async def keep_checking_in(client: Client, home: GatewayHome) -> None:
    """Check in at once and then every few hours, for ever. Raises `NotPermitted` when this host is not wanted."""
    agreed = home.key()
    if agreed is None:
        log.warning(
            "this gateway joined under an older certgate and has no channel key: restore it to get one",
            gateway=home.name,
        )
        await asyncio.Event().wait()
        return
    key, parties = agreed
    while True:
        pause = EVERY
        try:
            result = await joining.check_in(
                client, key, parties, modules(), now(), discovery=home.discovery.rules().told()
            )
            if result.note:
                log.warning(result.note, gateway=home.name)
        except Unavailable as error:
            log.warning("the gateway could not check in and tries again", gateway=home.name, reason=error.message)
            pause = _AGAIN
        # A thousand gateways that were started at once shall not come back at once.
        await asyncio.sleep(pause.total_seconds() * random.uniform(0.9, 1.0))  # noqa: S311  (not for a secret)
