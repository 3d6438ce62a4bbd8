"""What goes wrong on the way: a device that is busy, forgets tokens and transactions, cuts connections, fails over, is
out of sync, refuses, or says nothing."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from connectors.cures import cure
from connectors.endpoints.f5.settings import Settings
from connectors.errors import ConnectorError, Permanent, Retryable, RolledBack
from connectors.registry import find
from tests.connectors.endpoints.f5.conftest import Bigip
from tests.simulators.f5 import Fault, Faults
from tests.support.installing import fingerprint_of

COMMIT = "PATCH /mgmt/tm/transaction/"
BIND = "PATCH /mgmt/tm/ltm/profile/client-ssl/~Common~www"


def committed(bigip: Bigip) -> int:
    """How many transactions were done."""
    every = [one for unit in bigip.device.units for one in unit.transactions.values()]
    return sum(one.state == "COMPLETED" for one in every)


BEGIN = "POST /mgmt/tm/transaction"
# Before it begins certgate tries whether it may do these.
REHEARSED = (BEGIN, "uploads", "unix-rm")


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.UNAVAILABLE, Fault.TOKEN_ENDED, Fault.CUT_BEFORE])
async def test_what_passes_by_itself_is_survived(bigip: Bigip, fault: Fault) -> None:
    places = [BEGIN, BIND, COMMIT, "uploads", "unix-rm", "POST /mgmt/tm/cm", "sys/config", "GET /mgmt/tm/ltm/virtual"]
    for on in places:
        bigip.device.inject(fault, on=on, skip=1 if on in REHEARSED else 0)
    material = bigip.issue()
    await bigip.at().install(material)
    assert bigip.serves(material)
    assert [call.fault for call in bigip.device.calls if call.fault] == [fault.value] * len(places)
    assert committed(bigip) == 1
    assert not bigip.device.active.files


@pytest.mark.parametrize("fault", [Fault.CUT_AFTER, Fault.CUT_WITHIN])
async def test_a_lost_reply_does_nothing_twice(bigip: Bigip, fault: Fault) -> None:
    places = [BEGIN, BIND, COMMIT, "uploads", "POST /mgmt/tm/cm", "sys/config"]
    for on in places:
        bigip.device.inject(fault, on=on, skip=1 if on in REHEARSED else 0)
    material = bigip.issue()
    await bigip.at().install(material)
    assert bigip.serves(material)
    assert [call.fault for call in bigip.device.calls if call.fault] == [fault.value] * len(places)
    assert committed(bigip) == 1
    assert len(bigip.ours()) == 3
    assert not bigip.device.active.files


@pytest.mark.parametrize("on", [BIND, COMMIT])
async def test_a_transaction_that_is_gone_is_begun_anew(bigip: Bigip, on: str) -> None:
    """After 120 s it is, without a word."""
    bigip.device.inject(Fault.TRANSACTIONS_ENDED, on=on)
    material = bigip.issue()
    await bigip.at().install(material)
    assert bigip.serves(material)
    assert committed(bigip) == 1
    assert bigip.asked(BEGIN) == 1 + 2


async def test_transactions_that_never_last_are_put_back(bigip: Bigip) -> None:
    before = bigip.shown()
    bigip.device.inject(Fault.TRANSACTIONS_ENDED, on=COMMIT, times=9)
    with pytest.raises(RolledBack, match="longer than 120 s"):
        await bigip.at().install(bigip.issue())
    assert bigip.shown() == before
    assert bigip.ours() == []
    assert not bigip.device.active.files


@pytest.mark.parametrize("seed", [1, 2])
async def test_bad_weather_all_the_time(bigip: Bigip, seed: int) -> None:
    bigip.device.faults = Faults.usual(seed)
    material = bigip.issue()
    while True:
        try:
            await bigip.at().install(material)
            break
        except (Retryable, RolledBack):
            continue  # as the engine does
    bigip.device.fair_weather()
    assert bigip.serves(material)
    assert not bigip.device.active.files
    assert await bigip.at().install(material)


# --- two units --------------------------------------------------------------------------------------------------------


async def test_failover_before_the_commit_goes_on_with_the_other_unit(bigip: Bigip) -> None:
    bigip.device.inject(Fault.FAILOVER, on=COMMIT)
    material = bigip.issue()
    await bigip.at().install(material)
    assert bigip.device.active is bigip.device.units[1]
    assert bigip.serves(material)
    assert not bigip.device.active.files


async def test_failover_before_the_synchronization_is_put_back_and_told(bigip: Bigip) -> None:
    """The second unit never heard of the certificate: what the first one has is not pushed away, and not waited for."""
    before = bigip.shown()
    bigip.device.inject(Fault.FAILOVER, on="sys/config")
    place = bigip.at()
    with pytest.raises(RolledBack, match=r"Changes of bigip1\S* are pending .* would undo them") as caught:
        await place.install(bigip.issue())
    assert caught.value.served == before == bigip.shown()
    assert place.leftovers() == []
    with pytest.raises(Permanent, match="Changes of bigip1"):
        await place.install(bigip.issue())
    assert bigip.asked("POST /mgmt/tm/cm") == 0, "nobody's changes were overwritten"


async def test_what_another_unit_has_pending_is_left_alone(bigip: Bigip) -> None:
    bigip.device.change("PATCH", "ltm/profile/client-ssl/~Common~api", {"description": "by hand"}, unit=1)
    with pytest.raises(Permanent, match=r"Changes of bigip2\S* are pending .*Recommended action") as caught:
        await bigip.at().install(bigip.issue())
    assert cure(caught.value.message, Permanent).startswith("Synchronize the group")
    assert bigip.asked("POST /mgmt/tm/transaction") == bigip.asked("POST /mgmt/tm/cm") == 0


async def test_what_this_unit_has_pending_goes_along(bigip: Bigip) -> None:
    bigip.device.change("PATCH", "ltm/profile/client-ssl/~Common~api", {"description": "by hand"})
    material = bigip.issue()
    await bigip.at().install(material)
    bigip.device.fail_over()
    assert bigip.serves(material), "the other unit has it too"


async def test_units_that_do_not_reach_each_other(bigip: Bigip) -> None:
    bigip.device.disconnect()
    with pytest.raises(Permanent, match=r"can't be synchronized, it is Disconnected"):
        await bigip.at().install(bigip.issue())
    material = bigip.issue()
    await bigip.at(device_group=None).install(material)
    assert bigip.serves(material)


async def test_a_slow_synchronization_is_waited_for_and_bounded(bigip: Bigip) -> None:
    bigip.device.faults = Faults(sync_polls=3)
    material = bigip.issue()
    await bigip.at().install(material)
    assert bigip.asked("POST /mgmt/tm/cm") == 1
    bigip.device.faults = Faults(sync_polls=10_000)
    place = (await bigip.at().binding()).places[0]
    bigip.device.change("PATCH", "ltm/profile/client-ssl/~Common~api", {"description": "by hand"})
    with pytest.raises(Retryable, match=r"did not get in sync within 0.1 s: it is Not All Devices Synced"):
        await bigip.endpoint(sync_timeout_seconds=0.1).activate(place)


async def test_a_device_on_its_own_has_no_group(bigip: Bigip) -> None:
    bigip.device.api._units = bigip.device.units[:1]
    try:
        with pytest.raises(Permanent, match="is in no device group: take failover-group out"):
            await bigip.at().install(bigip.issue())
    finally:
        bigip.device.api._units = bigip.device.units


async def test_without_saving_a_restart_brings_the_old_one_back(bigip: Bigip) -> None:
    before, material = bigip.shown(), bigip.issue()
    await bigip.at(save=False, device_group=None).install(material)
    bigip.device.pause()
    bigip.device.start()
    assert bigip.shown() == before


async def test_a_device_that_still_starts_is_left_in_peace(bigip: Bigip) -> None:
    bigip.device.starting()
    with pytest.raises(Retryable, match="is still starting: configReady is no, provisionReady is no"):
        await bigip.at().install(bigip.issue())


async def test_what_somebody_else_did_after_a_killed_install_stays(bigip: Bigip) -> None:
    """The endpoint's part: what is put back is what was there, by name, also where nothing was written."""
    place = (await bigip.at().binding()).places[0]
    endpoint = bigip.endpoint()
    planned = await endpoint.plan(place, "abc")
    await endpoint.restore(planned)
    await endpoint.restore(planned)
    assert bigip.asked(BIND) == 0
    bigip.device.active.files["/var/config/rest/downloads/certgate-" + "0" * 8 + "-key"] = b"somebody else's"
    await endpoint.write(place, bigip.issue())
    await endpoint.restore(planned)
    assert [entry["cert"] for entry in bigip.device.configuration.chain_of("/Common/www")] == ["/Common/www.crt"]
    assert len(bigip.device.active.files) == 1


# --- who may ----------------------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_tried_once_and_told(bigip: Bigip) -> None:
    wrong = bigip.home / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("s3cret-and-wrong")
    endpoint = bigip.endpoint(password=f"file:{wrong}")
    for verb in (endpoint.discover, endpoint.check, endpoint.running):
        with pytest.raises(Permanent, match=r"refuses the login of user certgate .*not tried again") as caught:
            await verb()
        assert "s3cret" not in caught.value.message
    assert bigip.device.refused_logins == ["certgate"], "no more than once: devices lock users"
    wrong.write_text(bigip.device.password)
    assert await endpoint.running(), "another password is tried"


async def test_an_unknown_login_provider_is_told(bigip: Bigip) -> None:
    with pytest.raises(Permanent, match="login provider radius"):
        await bigip.endpoint(login_provider="radius").running()


async def test_a_user_who_may_only_look_is_told(bigip: Bigip) -> None:
    assert len(await bigip.endpoint(username="guest").discover()) == 9
    place = bigip.at(username="guest")
    with pytest.raises(Permanent, match=r"does not let user guest make .*give the user a role") as caught:
        await place.install(bigip.issue())
    assert "docs/endpoints-f5.md" in cure(caught.value.message, Permanent)
    assert place.leftovers() == []
    assert bigip.ours() == []


async def test_one_token_for_all_and_it_is_given_back(bigip: Bigip) -> None:
    endpoint = bigip.endpoint()
    await endpoint.discover()
    await bigip.endpoint().discover()
    await bigip.endpoint().check()
    assert bigip.asked("POST /mgmt/shared/authn/login") == 1
    assert len(bigip.device.active.tokens) == 1
    await endpoint.sign_out()
    assert bigip.asked("DELETE /mgmt/shared/authz/tokens") == 1
    assert not bigip.device.active.tokens


async def test_too_many_tokens_pass(bigip: Bigip) -> None:
    await bigip.endpoint().sign_out()
    for _ in range(100):
        bigip.device.active.give_token("certgate")
    with pytest.raises(Retryable, match="maximum active login tokens") as caught:
        await bigip.endpoint().running()
    assert "20 minutes" in cure(caught.value.message, Retryable)


# --- answers that are none --------------------------------------------------------------------------------------------


async def test_a_device_that_never_answers_is_told_in_time(bigip: Bigip) -> None:
    endpoint = bigip.endpoint(timeout_seconds=0.2)
    await endpoint.check()
    bigip.device.inject(Fault.STALLED, on="GET /mgmt/tm/ltm/profile/client-ssl", times=9)
    with pytest.raises(Retryable, match="did not answer in time"):
        await endpoint.discover()


async def test_a_device_that_stays_busy_is_told_in_time(bigip: Bigip) -> None:
    bigip.device.inject(Fault.BUSY, on="sys/ready", times=99)
    with pytest.raises(Retryable, match=r"is busy \(status 503, There is an active asynchronous task executing\)"):
        await bigip.endpoint(busy_timeout_seconds=0.3).running()


@pytest.mark.parametrize(
    ("fault", "told"), [(Fault.HTML, "an HTML page that is no JSON"), (Fault.HUGE, "more than 67108864 bytes")]
)
async def test_what_no_bigip_answers_is_told(bigip: Bigip, fault: Fault, told: str, monkeypatch: Any) -> None:
    if fault is Fault.HUGE:
        monkeypatch.setattr("connectors.endpoints.f5.session.LARGEST_ANSWER", 1024 * 1024)
        told = "more than 1048576 bytes"
    bigip.device.inject(fault, on="sys/ready")
    with pytest.raises(Permanent, match=told) as caught:
        await bigip.endpoint().running()
    assert "CA" not in caught.value.message.replace("BIG-IP", "")


async def test_a_certificate_of_the_device_that_does_not_verify(bigip: Bigip) -> None:
    with pytest.raises(Permanent, match=r"does not verify .*set ca_file"):
        await bigip.endpoint(ca_file=None).running()
    with pytest.raises(Permanent, match="does not verify"):
        await bigip.endpoint(certificate_name="bigip.example.com").running()
    assert await bigip.endpoint(certificate_name="localhost").running()
    assert bigip.device.refused_logins == []


async def test_a_profile_that_went_away(bigip: Bigip) -> None:
    place = (await bigip.at("/Common/idle").binding()).places[0]
    bigip.device.change("DELETE", "ltm/profile/client-ssl/~Common~idle", {})
    for verb in (bigip.endpoint().check(place), bigip.endpoint().write(place, bigip.issue())):
        with pytest.raises(Permanent, match="/Common/idle is not on the device any more"):
            await verb
    assert (await bigip.endpoint().in_place(place)).certificate is None


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "https://bigip"},
        {"address": "bigip; reboot"},
        {"address": "192.0.2.1:8443"},
        {"partition": "../Common"},
        {"partition": "Common/app"},
        {"partition": "$(reboot)"},
        {"device_group": "group; run util bash"},
        {"device_group": "a b"},
        {"username": "cert gate"},
        {"password": "in the clear"},
        {"networks": ["everywhere"]},
        {"new_profiles": ["vs_web"]},
        {"new_profiles": ["/Common/a~b"]},
        {"certificate_name": "*"},
        {"port": 0},
        {"unknown": 1},
    ],
)
def test_settings_that_are_none(wrong: dict[str, Any]) -> None:
    good = {"address": "192.0.2.1", "username": "certgate", "password": "env:BIGIP_PASSWORD"}
    assert Settings.model_validate(good).base_url == "https://192.0.2.1:443"
    with pytest.raises(ValidationError):
        Settings.model_validate(good | wrong)
    with pytest.raises(Permanent, match="F5 BIG-IP: setting"):
        find("endpoints", "f5-big-ip").configure(good | wrong)


def test_an_address_of_version_6() -> None:
    assert Settings(address="2001:DB8::1", username="a", password="env:A").base_url == "https://[2001:db8::1]:443"


async def test_no_secret_is_in_what_is_told(bigip: Bigip) -> None:
    """Of everything that can be refused, in turn."""
    material, told = bigip.issue(), []
    assert material.private_key_pem is not None
    for on in ("login", "uploads", "POST /mgmt/tm/transaction", BIND, COMMIT):
        bigip.device.inject(Fault.HTML, on=on, times=3)
        try:
            await bigip.at().install(material)
        except ConnectorError as error:
            told.append(f"{error.message} {error!r} {getattr(error, 'steps', '')}")
        bigip.device.fair_weather()
    assert told
    for one in told:
        assert bigip.device.password not in one
        assert material.private_key_pem.decode().splitlines()[1] not in one
    assert fingerprint_of(material)
