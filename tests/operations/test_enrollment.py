"""Gateways join, with a token and a key of their own: once, on one host, with the manager that made the token."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlmodel import col, select
from temporalio import activity
from temporalio.worker import Worker

from connectors.registry import Module, modules
from model import access, channel, naming
from model.database import Database
from model.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unavailable
from model.messages import CheckInStart, JoinResult, JoinStart
from model.states import ConnectionStatus, Outcome
from model.tables import AuditEntry, Gateway, GatewayChannel
from operations import enrollment, gateway_changes, gateways, joining, manager_key, tokens
from operations.joining import Itself
from operations.tokens import Token
from tests.operations.conftest import NOW, Records
from tests.support import databases
from tests.support.world import World
from workflows.gateways import GatewayJoinWorkflow

HERE, THERE = Itself("here.example", "Linux 6.1", "0.1.0"), Itself("there.example", "Linux 6.12", "0.1.0")


def added(world: World, name: str) -> Token:
    """A new gateway's token."""
    return tokens.read(gateway_changes.add(world.context("admin"), gateway_changes.NewGateway(name)).token)


async def joined(world: World, name: str) -> tuple[Token, X25519PrivateKey]:
    """A gateway that has joined, and its channel's private key."""
    token, key = added(world, name), channel.new_key()
    await joining.join(world.client, token, key, itself=HERE)
    return token, key


async def refused(world: World, token: Token, key: X25519PrivateKey | None = None) -> str:
    """Why a join does not count; the audit has the same words."""
    with pytest.raises(NotPermitted) as caught:
        await joining.join(world.client, token, key or channel.new_key(), itself=THERE)
    last = told(world, token.gateway_id)[-1]
    assert (last.action, last.outcome, last.description) == ("gateway.joined", Outcome.REFUSED, caught.value.message)
    assert token.secret not in caught.value.message
    return caught.value.message


def told(world: World, gateway_id: int) -> list[AuditEntry]:
    """What the audit tells of a gateway."""
    with world.database.read() as session:
        statement = select(AuditEntry).where(AuditEntry.gateway_id == gateway_id)
        return list(session.exec(statement.order_by(col(AuditEntry.sequence))).all())


async def test_a_token_is_spent_once_by_one_host(shared_world: World) -> None:
    token, key = added(shared_world, "joins"), channel.new_key()
    admin = shared_world.context("admin")
    assert (await gateways.statuses(admin))[token.gateway_id] == ConnectionStatus.PENDING
    # Two at once, as after an answer that was lost: one join.
    for _ in range(2):
        assert await joining.join(shared_world.client, token, key, itself=HERE) == "joins"
    entries = [row.description for row in told(shared_world, token.gateway_id) if row.action == "gateway.joined"]
    assert entries == ["Gateway joins joined from the host here.example (Linux 6.1) with certgate 0.1.0, on channel 1."]
    assert "used before" in (why := await refused(shared_world, token))
    assert "here.example" in why
    with shared_world.database.read() as session:
        row = session.get_one(Gateway, token.gateway_id)
        kept = session.exec(select(GatewayChannel).where(GatewayChannel.gateway_id == token.gateway_id)).one()
    assert (row.token_digest, row.version, row.os, row.host) == (None, "0.1.0", "Linux 6.1", "here.example")
    assert (kept.public_key, kept.host, kept.closed_at) == (channel.public_text(key), "here.example", None)
    assert (await gateways.statuses(admin))[token.gateway_id] == ConnectionStatus.DISCONNECTED


async def test_each_token_that_does_not_count_is_refused_with_its_reason(shared_world: World) -> None:
    admin = shared_world.context("admin")
    first = added(shared_world, "refusals")
    newer = tokens.read(enrollment.new_token(admin, "refusals").token)
    assert "a newer one has taken its place" in await refused(shared_world, first)
    with shared_world.database.write() as session:
        row = session.get_one(Gateway, newer.gateway_id)
        row.token_expires_at = shared_world.clock() - timedelta(seconds=1)
        session.add(row)
    assert "has expired on" in await refused(shared_world, newer)
    elsewhere = dataclasses.replace(newer, installation="another")
    assert "of another certgate" in await refused(shared_world, elsewhere)
    newest = tokens.read(enrollment.new_token(admin, first.gateway_id).token)
    gateway_changes.delete(admin, "refusals")
    assert "was deleted" in await refused(shared_world, newest)
    assert "was deleted" in await refused(shared_world, dataclasses.replace(newest, gateway_id=999_999))


async def test_who_owns_the_engine_can_neither_swap_the_key_nor_use_the_token(shared_world: World) -> None:
    token, key, thief = added(shared_world, "watched"), channel.new_key(), channel.new_key()
    seen: list[JoinStart] = []
    parties = joining.parties_of(token, key)
    word = json.dumps({"secret": token.secret}).encode()
    sealed = channel.seal(channel.channel_key(key, parties), channel.Purpose.JOIN, parties, word)
    seen.append(JoinStart(token.gateway_id, channel=1, installation=token.installation, sealed=sealed))

    async def sent(start: JoinStart) -> JoinResult:
        return await shared_world.client.execute_workflow(
            GatewayJoinWorkflow.run,
            start,
            id=naming.join_workflow(token.gateway_id, start.public_key or "none"),
            task_queue=naming.MANAGER_QUEUE,
        )

    (start,) = seen
    swapped = await sent(dataclasses.replace(start, public_key=channel.public_text(thief)))
    assert "could not be opened with this manager's key" in (swapped.refused or "")
    older = await sent(JoinStart(token.gateway_id, token_digest="0" * 64, version="0.1.0", os="Linux"))
    assert "older certgate" in (older.refused or "")
    for wrong in ("", "x" * 300_000, sealed[:-4]):
        answer = await sent(dataclasses.replace(start, public_key=channel.public_text(key), sealed=wrong))
        assert "could not be opened" in (answer.refused or "")
    for weak in ("AAAA", "A" * 43 + "="):
        assert (await sent(dataclasses.replace(start, public_key=weak))).refused
    # What he saw, sent again, makes the host that asked join and nobody else; and it holds no secret in the clear.
    again = await sent(dataclasses.replace(start, public_key=channel.public_text(key)))
    assert again.refused is None
    handle = shared_world.client.get_workflow_handle(naming.join_workflow(token.gateway_id, channel.public_text(key)))
    history = (await handle.fetch_history()).to_json()
    assert token.secret not in history
    assert access.token_digest(token.secret) not in history
    assert await joining.join(shared_world.client, token, key) == "watched"


async def test_who_only_pretends_to_be_the_manager_is_refused(
    shared_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    @activity.defn(name="records.join")
    def pretend(asked: JoinStart) -> JoinResult:
        return JoinResult(None, "yours", confirmation="AAAA")

    token = added(shared_world, "pretended")
    monkeypatch.setattr(naming, "MANAGER_QUEUE", "pretender")
    with ThreadPoolExecutor(2) as executor:
        async with Worker(
            shared_world.client,
            task_queue="pretender",
            workflows=[GatewayJoinWorkflow],
            activities=[pretend],
            activity_executor=executor,
        ):
            with pytest.raises(NotPermitted, match="not the manager that made this token"):
                await joining.join(shared_world.client, token, channel.new_key())


async def test_a_manager_that_is_away_is_told(shared_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token, key = added(shared_world, "waits"), channel.new_key()
    monkeypatch.setattr(naming, "MANAGER_QUEUE", "nobody")
    with pytest.raises(Unavailable, match="join again"):
        await joining.join(shared_world.client, token, key, patience=0.1)
    monkeypatch.undo()
    assert await joining.join(shared_world.client, token, key) == "waits"


async def test_restore_shuts_the_old_host_out_and_lets_a_new_one_in(shared_world: World) -> None:
    admin = shared_world.context("admin")
    token, key = await joined(shared_world, "restored")
    with pytest.raises(Conflict, match="has joined on"):
        enrollment.new_token(admin, "restored")
    old = joining.parties_of(token, key)

    async def checks_in(parties: channel.Parties, key: X25519PrivateKey) -> str | None:
        return (await joining.check_in(shared_world.client, key, parties, [], shared_world.clock())).note

    assert await checks_in(old, key) is None
    newer = tokens.read(enrollment.restore(admin, "Restored").token)
    assert newer.channel == 2
    assert naming.gateway_queue(newer.gateway_id, newer.channel) == f"gateway-{token.gateway_id}-2"
    with pytest.raises(NotPermitted, match=r"Channel 1 of gateway restored was closed on .* by a restore"):
        await checks_in(old, key)
    assert [row.outcome for row in told(shared_world, token.gateway_id) if row.action == "gateway.refused"] == [
        Outcome.REFUSED
    ]
    assert "closed on" in await refused(shared_world, token, key)
    with pytest.raises(Conflict, match="No host has joined"):
        enrollment.restore(admin, "restored")
    # The old host does not get in with the new token's channel either: the key it has is not agreed there.
    with pytest.raises(NotPermitted, match="not the one that joined"):
        await checks_in(dataclasses.replace(old, number=2), key)
    new_key = channel.new_key()
    assert await joining.join(shared_world.client, newer, new_key, itself=THERE) == "restored"
    assert await checks_in(joining.parties_of(newer, new_key), new_key) is None


async def test_a_check_in_tells_what_the_gateway_is_and_who_it_is_not(shared_world: World) -> None:
    admin, client = shared_world.context("admin"), shared_world.client
    token, key = await joined(shared_world, "checks in")
    parties = joining.parties_of(token, key)
    found = [*modules(), Module("endpoints", "own", "Our own", "3.2")]
    assert {("endpoints", "nginx"), ("keystores", "pem"), ("cas", "private"), ("hosts", "local")} <= {
        (one.kind, one.name) for one in found
    }
    for _ in range(2):
        assert (await joining.check_in(client, key, parties, found, shared_world.clock(), itself=THERE)).note is None
    with shared_world.database.read() as session:
        row = session.get_one(Gateway, token.gateway_id)
    assert (row.host, row.os) == ("there.example", "Linux 6.12")
    assert {"kind": "endpoints", "name": "own", "title": "Our own", "version": "3.2"} in row.modules
    # Told when something changed, not each time.
    assert [one.action for one in told(shared_world, token.gateway_id)].count("gateway.checked_in") == 1
    late = await joining.check_in(client, key, parties, found, shared_world.clock() - timedelta(hours=1), itself=THERE)
    assert "behind the manager's" in (late.note or "")
    gateway_changes.edit(admin, "checks in", active=False)
    quiet = await joining.check_in(client, key, parties, found, shared_world.clock(), itself=THERE)
    assert "not active" in (quiet.note or "")
    stranger = channel.new_key()
    other = dataclasses.replace(parties, gateway_key=channel.public_text(stranger))
    with pytest.raises(NotPermitted, match="not the one that joined"):
        await joining.check_in(client, stranger, other, [], shared_world.clock())
    forged = CheckInStart(token.gateway_id, 1, parties.installation, parties.gateway_key, "AAAA")
    answer = await client.execute_workflow(
        "GatewayCheckIn", forged, id="forged", task_queue=naming.MANAGER_QUEUE, result_type=type(quiet)
    )
    assert "not sealed with the key of its channel" in (answer.refused or "")
    gateway_changes.delete(admin, "checks in")
    with pytest.raises(NotPermitted, match="was deleted"):
        await joining.check_in(client, key, parties, [], shared_world.clock())


# --- the manager's key ------------------------------------------------------------------------------------------------


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Database]:
    """An installation that has no key yet."""
    made = databases.empty(tmp_path)
    yield made
    made.close()


def test_the_managers_key_is_made_once_and_must_fit(empty: Database, tmp_path: Path) -> None:
    file = tmp_path / "manager.key"
    key = manager_key.establish(empty, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert channel.public_text(manager_key.establish(empty, file)) == channel.public_text(key)
    with empty.read() as session:
        assert manager_key.public_key(session) == channel.public_text(key)
    file.chmod(0o644)
    with pytest.raises(Unavailable, match="chmod 600"):
        manager_key.establish(empty, file)
    # A file that somebody mounts has whatever mode it has, and may be 64 digits.
    given = tmp_path / "given"
    given.write_text(key.private_bytes_raw().hex())
    assert channel.public_text(manager_key.establish(empty, given, given=True)) == channel.public_text(key)
    given.write_text(channel.new_key().private_bytes_raw().hex())
    with pytest.raises(Conflict, match="share their key"):
        manager_key.establish(empty, given, given=True)
    given.write_text("secret words")
    with pytest.raises(InvalidInput) as caught:
        manager_key.establish(empty, given, given=True)
    assert "secret words" not in caught.value.message
    file.unlink()
    with pytest.raises(Unavailable, match="missing"):
        manager_key.establish(empty, file)
    with pytest.raises(Unavailable, match="missing"):
        manager_key.establish(empty, tmp_path / "nowhere", given=True)
    assert not file.exists()
    assert [path.name for path in tmp_path.iterdir() if "key-" in path.name] == []


# --- without an engine ------------------------------------------------------------------------------------------------


def test_a_token_says_whom_to_believe_and_only_its_hash_is_kept(records: Records) -> None:
    new = gateway_changes.NewGateway("new", address="temporal.example:7233", namespace="n")
    made = gateway_changes.add(records.acting("mrao"), new)
    token = tokens.read(made.token + "\n")
    assert (token.gateway_id, token.name, token.channel) == (made.gateway_id, "new", 1)
    assert (token.address, token.namespace) == ("temporal.example:7233", "n")
    with records.database.read() as session:
        row = session.get_one(Gateway, made.gateway_id)
        assert token.manager_key == manager_key.public_key(session)
    assert row.token_expires_at == NOW + timedelta(hours=24)
    assert token.secret not in repr(made) + repr(token) + repr(row)
    with pytest.raises(NotFound):
        enrollment.new_token(records.acting("stranger"), "alpha")
