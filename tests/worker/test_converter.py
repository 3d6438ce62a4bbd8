"""Messages are written and read as the SDK's own converter does it."""

from __future__ import annotations

from datetime import UTC, datetime

from temporalio.contrib.pydantic import pydantic_data_converter

from model.messages import Admission, InstallPlan, KeystoreAccess
from model.states import InstallMode
from worker.converter import DATA_CONVERTER

MESSAGES = [
    InstallPlan(datetime(2026, 11, 28, 1, tzinfo=UTC), "The window opens later."),
    InstallPlan(None, ""),
    Admission(7, None, names=["a"], keystore=KeystoreAccess("pem", {"folder": "x"}), install_mode=InstallMode.MANUAL),
]


async def test_both_write_the_same_bytes_and_read_each_other() -> None:
    for message in MESSAGES:
        ours = await DATA_CONVERTER.encode([message])
        theirs = await pydantic_data_converter.encode([message])
        assert ours == theirs
        assert await DATA_CONVERTER.decode(theirs, [type(message)]) == [message]
        assert await pydantic_data_converter.decode(ours, [type(message)]) == [message]
