"""Names shared by all processes: workflow ids, task queues, key aliases, order references."""

from __future__ import annotations

import hashlib

MANAGER_QUEUE = "manager"


def gateway_queue(gateway_id: int, channel: int = 1) -> str:
    """Task queue of one gateway's worker on one channel: ``gateway-7``, and ``gateway-7-2`` once it was restored.

    A channel has a queue of its own, so that nothing is ever put where the host of a dead channel could take it.
    """
    return f"gateway-{gateway_id}" if channel == 1 else f"gateway-{gateway_id}-{channel}"


def request_workflow(request_id: int) -> str:
    """Workflow id of a certificate request."""
    return f"request-{request_id}"


def renewal_workflow(certificate_id: int) -> str:
    """Workflow id of the renewal of an active certificate."""
    return f"renewal-{certificate_id}"


def revocation_workflow(certificate_id: int) -> str:
    """Workflow id of the revocation of a certificate."""
    return f"revocation-{certificate_id}"


def authority_workflow(authority_id: int) -> str:
    """Workflow id of the watch over what a CA says of its certificates."""
    return f"authority-{authority_id}"


def campaign_workflow(campaign_id: int) -> str:
    """Workflow id of a replacement campaign."""
    return f"campaign-{campaign_id}"


def import_workflow(import_id: int) -> str:
    """Workflow id of an import of certificates from a CA."""
    return f"import-{import_id}"


def join_workflow(gateway_id: int, public_key: str) -> str:
    """Workflow id of a gateway's join: one for each key, so that a second host is judged as one."""
    return f"join-{gateway_id}-{hashlib.sha256(public_key.encode()).hexdigest()[:16]}"


def check_in_workflow(gateway_id: int, channel: int) -> str:
    """Workflow id of what a gateway tells of itself when it starts."""
    return f"check-in-{gateway_id}-{channel}"


def sync_workflow(gateway_id: int) -> str:
    """Workflow id of the sync of a gateway's modules."""
    return f"sync-{gateway_id}"


def discovery_workflow(endpoint_id: int) -> str:
    """Workflow id of the discovery of an endpoint's bindings."""
    return f"discovery-{endpoint_id}"


def authority_check_workflow(authority_id: int, gateway_id: int) -> str:
    """Workflow id of a gateway's question to a CA."""
    return f"authority-check-{authority_id}-{gateway_id}"


def endpoint_test_workflow(endpoint_id: int) -> str:
    """Workflow id of the test of the connection to an endpoint."""
    return f"endpoint-test-{endpoint_id}"


def verification_workflow(what: str) -> str:
    """Workflow id of a verification: ``verification-17`` of one installation, ``verification-gateway-3`` of all at a
    gateway, ``verification-all`` of all."""
    return f"verification-{what}"


def keystore_workflow(keystore_id: int) -> str:
    """Workflow id of a look into a keystore."""
    return f"keystore-{keystore_id}"


def scan_workflow(scan_id: int) -> str:
    """Workflow id of a network scan."""
    return f"network-scan-{scan_id}"


def key_alias(request_id: int) -> str:
    """Alias of a request's key in the gateway's keystore."""
    return f"request-{request_id}"


def order_reference(installation: str, request_id: int) -> str:
    """Our reference on an order, the same however often the step runs.

    `installation` is this certgate's own id, so that two certgates may share a CA.
    """
    return f"certgate-{installation}-{request_id}"
