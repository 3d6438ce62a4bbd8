"""The first start on one machine: the database, the manager's key, and the machine's own gateway with its channel."""

from __future__ import annotations

from connectors.registry import Surroundings
from model import channel
from model.database import Database
from operations import bootstrap
from operations.bootstrap import Prepared
from operations.context import now
from worker import gateway_home
from worker.credentials import resolver
from worker.gateway_home import Enrolled
from worker.settings import Settings
from worker.up import gateway_home as folder_of


async def prepare(home: Settings) -> Prepared:
    """Make database and local gateway ready. What is there stays; what a home lacks (0.1 knew no channels) is added."""
    database = Database(home.database_url.get_secret_value())
    try:
        around = Surroundings(home.home, resolver(home.vault))
        prepared = await bootstrap.prepare(database, around, now(), key_file=home.trust.key_file)
        assert prepared.gateway_id is not None
        folder = folder_of(home)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        number = _channel(database, home, prepared.gateway_id)
        enrolled = Enrolled(number, *bootstrap.installation_of(database))
    finally:
        database.close()
    gateway_home.write(
        folder,
        prepared.gateway_id,
        bootstrap.LOCAL_GATEWAY,
        manager_home=home.home,
        enrolled=enrolled,
        take_over=True,
    )
    return prepared


def _channel(database: Database, home: Settings, gateway_id: int) -> int:
    """The live channel with a key in the local gateway's home. After a restore, or where the home was wiped, the next
    one: its key is made first, so that a process killed in between goes on where it was."""
    folder = folder_of(home)
    number = bootstrap.live_channel(database, gateway_id)
    while True:
        key = gateway_home.hold_key(folder, number)
        agreed = bootstrap.local_channel(database, gateway_id, number, channel.public_text(key), now())
        if agreed == number:
            return number
        number = agreed
