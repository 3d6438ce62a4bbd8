"""Connections to Temporal, embedded or outside."""

from __future__ import annotations

import asyncio
import functools
import time
from datetime import timedelta

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeIndexedValueType
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfigProfile, ClientConnectConfig
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import HttpConnectProxyConfig, RPCError, RPCStatusCode

from model.errors import InvalidInput, Unavailable
from worker import embedded_state, proxies
from worker.converter import DATA_CONVERTER
from worker.credentials import resolver
from worker.settings import Settings
from workflows import attributes

# The state of a gateway is the age of its last heartbeat; three intervals without one count as disconnected.
HEARTBEAT_INTERVAL = timedelta(seconds=5)
POLL = 0.1  # seconds between two attempts

_VALUE_TYPES = {
    SearchAttributeIndexedValueType.KEYWORD: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    SearchAttributeIndexedValueType.KEYWORD_LIST: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
    SearchAttributeIndexedValueType.TEXT: IndexedValueType.INDEXED_VALUE_TYPE_TEXT,
    SearchAttributeIndexedValueType.INT: IndexedValueType.INDEXED_VALUE_TYPE_INT,
    SearchAttributeIndexedValueType.DOUBLE: IndexedValueType.INDEXED_VALUE_TYPE_DOUBLE,
    SearchAttributeIndexedValueType.BOOL: IndexedValueType.INDEXED_VALUE_TYPE_BOOL,
    SearchAttributeIndexedValueType.DATETIME: IndexedValueType.INDEXED_VALUE_TYPE_DATETIME,
}


@functools.cache
def worker_runtime() -> Runtime:
    """The SDK runtime of a worker process, one for all its workers: its heartbeats show that the process lives."""
    return Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=HEARTBEAT_INTERVAL)


async def connect(
    settings: Settings,
    *,
    wait: timedelta = timedelta(seconds=15),
    runtime: Runtime | None = None,
    data_converter: DataConverter = DATA_CONVERTER,
    identity: str | None = None,
) -> Client:
    """Connects to the Temporal that the settings name, and makes sure that it answers.

    A server that is just starting is waited for, at most `wait`. Where no embedded server runs for this home and none
    is starting, that is said at once.

    Raises:
        InvalidInput: the SDK's environment configuration, or the proxy's credential, is wrong.
        Unavailable: nothing answers, or it refuses us; the sentence names the address.
    """
    deadline = time.monotonic() + wait.total_seconds()
    # What an embedded server says on the loopback interface goes through no proxy.
    proxy = None
    if settings.temporal.outside:
        proxy = await asyncio.to_thread(proxies.of, settings.temporal, resolver(settings.vault))
    while True:
        config = outside_config(settings) if settings.temporal.outside else _embedded_config(settings)
        if config is not None:
            try:
                return await _attempt(config, proxy, data_converter, runtime, identity)
            except (RuntimeError, RPCError) as error:
                if (permanent := _permanent(error, config)) is not None:
                    raise permanent from None
                if proxy is not None:
                    await proxies.examine(proxy, config.get("target_host", ""))
        if time.monotonic() >= deadline or (config is None and not embedded_state.supervised(settings.home)):
            raise Unavailable(_unreachable(settings, config))
        await asyncio.sleep(POLL)


async def _attempt(
    config: ClientConnectConfig,
    proxy: HttpConnectProxyConfig | None,
    data_converter: DataConverter,
    runtime: Runtime | None,
    identity: str | None,
) -> Client:
    client = await Client.connect(
        **config,
        data_converter=data_converter,
        runtime=runtime,
        identity=identity,
        http_connect_proxy_config=proxy,
    )
    # Connecting succeeds before the server knows its namespaces, and with a namespace that is not there.
    await client.count_workflows("WorkflowId = 'none'", rpc_timeout=timedelta(seconds=5))
    return client


def outside_config(settings: Settings) -> ClientConnectConfig:
    """How to reach the configured cluster: the SDK's environment configuration, completed by `certgate.toml`.

    Raises:
        InvalidInput: the profile or file does not exist or cannot be read, or names no address.
    """
    wanted = settings.temporal
    try:
        profile = ClientConfigProfile.load(
            profile=wanted.profile, config_source=wanted.config_file, config_file_strict=wanted.config_file is not None
        )
        config = profile.to_client_connect_config()
    except (RuntimeError, ValueError, OSError) as error:
        raise InvalidInput(f"The Temporal connection's settings are wrong: {error}.") from None
    # `load` put TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE over the file's values already, so these only say it again.
    if wanted.address:
        config["target_host"] = wanted.address
    if wanted.namespace:
        config["namespace"] = wanted.namespace
    if not config.get("target_host"):
        raise InvalidInput("The Temporal connection's settings name no address; set TEMPORAL_ADDRESS to host:port.")
    return config


def _embedded_config(settings: Settings) -> ClientConnectConfig | None:
    record = embedded_state.find(settings.home)
    if record is None:
        return None
    return ClientConnectConfig(target_host=record.address, namespace=settings.temporal.embedded_namespace)


def _permanent(error: RuntimeError | RPCError, config: ClientConnectConfig) -> Unavailable | None:
    """What waiting will not mend, as a sentence."""
    if not isinstance(error, RPCError):
        return None
    where = f"Temporal at {config.get('target_host')}"
    if error.status in (RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED):
        return Unavailable(f"{where} refuses us ({error.message}); check the API key or client certificate.")
    return None


def _unreachable(settings: Settings, config: ClientConnectConfig | None) -> str:
    if settings.temporal.outside and config is not None:
        namespace = config.get("namespace", "default")
        return (
            f"Temporal at {config.get('target_host')} does not answer for the namespace '{namespace}'"
            f"{f' through the proxy {settings.temporal.proxy}' if settings.temporal.proxy else ''}; "
            "check address, namespace and TLS settings."
        )
    if config is None:
        return f"No Temporal server runs for {settings.home}; start everything with: certgate up"
    return (
        f"The Temporal server of {settings.home} runs at {config.get('target_host')} but does not answer; "
        f"see {embedded_state.StateFiles(settings.home).log}."
    )


async def register_search_attributes(client: Client, *, wait: timedelta = timedelta(seconds=15)) -> None:
    """Makes the search attributes of `workflows.attributes` known to the namespace; what is there is left alone.

    Raises:
        Unavailable: the server does not let us (Temporal Cloud does not), or one exists with another type.
    """
    try:
        missing = await _missing_attributes(client)
        if missing:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
            )
    except RPCError as error:
        # Another process may have been quicker; then nothing is missing any more.
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            names = ", ".join(key.name for key in attributes.ALL)
            raise Unavailable(
                f"The search attributes cannot be registered in the namespace '{client.namespace}' ({error.message}); "
                f"create them there as type Keyword: {names}."
            ) from None
    deadline = time.monotonic() + wait.total_seconds()
    while await _missing_attributes(client):
        if time.monotonic() >= deadline:
            raise Unavailable(f"The search attributes did not appear in the namespace '{client.namespace}' in time.")
        await asyncio.sleep(POLL)


async def _missing_attributes(client: Client) -> dict[str, IndexedValueType.ValueType]:
    present = (
        await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
    ).custom_attributes
    missing: dict[str, IndexedValueType.ValueType] = {}
    for key in attributes.ALL:
        wanted = _VALUE_TYPES[key.indexed_value_type]
        if key.name not in present:
            missing[key.name] = wanted
        elif present[key.name] != wanted:
            raise Unavailable(
                f"The search attribute {key.name} exists in the namespace '{client.namespace}' with another type; "
                "use another namespace."
            )
    return missing
