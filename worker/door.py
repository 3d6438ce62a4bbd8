"""How a face (command line, dashboard) gets at the operations: database and Temporal of a home, opened once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from temporalio.client import Client

from model.database import Database
from model.errors import NotPermitted
from model.states import AccessMethod
from operations import identity
from operations.context import Actor, Context, now
from worker import connection, embedded_state
from worker.settings import Settings

TOKEN_VARIABLE = "CERTGATE_TOKEN"  # noqa: S105  (a name, not a token)
TOKEN_FILE = "token"  # noqa: S105


class Door:
    """One home's database and Temporal connection, for the life of a command or of the dashboard's process.

    The Temporal client belongs to the event loop that first asked for it: use the coroutines of one loop only.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database_url.get_secret_value())
        self._client: Client | None = None
        self._connecting: asyncio.Lock | None = None

    async def temporal(self) -> Client:
        """The connection, made when it is first needed. Raises `Unavailable`."""
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if self._client is None:
                self._client = await connection.connect(self.settings)
            return self._client

    def context(self, actor: Actor, access_method: AccessMethod) -> Context:
        """What an operation needs to know about who acts."""
        return Context(self.database, actor, access_method, self.temporal)

    def command_line_actor(self, environment: Mapping[str, str] = os.environ) -> Actor:
        """Who acts on the command line: the token's administrator, else the owner of the home.

        Raises `NotPermitted` when the token is wrong, or there is none and the home belongs to somebody else.
        """
        token = environment.get(TOKEN_VARIABLE) or self._stored_token()
        if token:
            return identity.by_token(self.database, token, now())
        if self.settings.home.stat().st_uid != os.geteuid() and os.geteuid() != 0:
            raise NotPermitted(
                f"You are not the owner of {self.settings.home}: set {TOKEN_VARIABLE} or `certgate login`."
            )
        return identity.owner(self.database)

    def workflow_link(self, workflow_id: str) -> str | None:
        """Where the Temporal UI shows a workflow; None where there is no UI that we know of."""
        if self.settings.temporal.outside:
            return None
        record = embedded_state.find(self.settings.home)
        if record is None or record.ui is None:
            return None
        return f"{record.ui}/namespaces/{self.settings.temporal.embedded_namespace}/workflows/{workflow_id}"

    def temporal_place(self) -> tuple[str, str]:
        """Address and namespace of this installation's Temporal, for a gateway's token; an empty address when it isn't
        known now."""
        if self.settings.temporal.outside:
            config = connection.outside_config(self.settings)
            return config.get("target_host") or "", config.get("namespace") or "default"
        record = embedded_state.find(self.settings.home)
        return record.address if record else "", self.settings.temporal.embedded_namespace

    def token_path(self) -> Path:
        """Where `certgate login` keeps a token."""
        return self.settings.home / TOKEN_FILE

    def close(self) -> None:
        """Give the database back."""
        self.database.close()

    def _stored_token(self) -> str | None:
        with suppress(OSError):
            return self.token_path().read_text().strip() or None
        return None
