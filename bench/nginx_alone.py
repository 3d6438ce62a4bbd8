"""How long nginx itself takes for a reload: SIGHUP and handshakes, with nothing of certgate around it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import ssl
import time

import psutil

from worker.playground import DisposableNginx, Site

_POLL = 0.001


async def reload_seconds(nginx: DisposableNginx) -> float:
    """Put a new self-signed pair in place; seconds from SIGHUP until every new connection is served it.

    That is when no worker from before takes connections any more (nginx lets old and new ones answer side by side for
    0.1 s) and a handshake shows the new certificate.
    """
    site = nginx.sites[0]
    nginx.write_self_signed(site.certificate, site.key, [site.name])
    wanted = hashlib.sha256(ssl.PEM_cert_to_DER_cert(site.certificate.read_text())).hexdigest()
    assert nginx.pid is not None
    old = psutil.Process(nginx.pid).children()
    begin = time.perf_counter()
    os.kill(nginx.pid, signal.SIGHUP)
    while any(_serves(worker) for worker in old) or _served(site) != wanted:
        await asyncio.sleep(_POLL)
    return time.perf_counter() - begin


def _serves(worker: psutil.Process) -> bool:
    try:
        return worker.is_running() and "shutting down" not in " ".join(worker.cmdline())
    except psutil.Error:
        return False


def _served(site: Site) -> str:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", site.port), timeout=5) as connection,
        context.wrap_socket(connection, server_hostname=site.name) as tls,
    ):
        return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()
