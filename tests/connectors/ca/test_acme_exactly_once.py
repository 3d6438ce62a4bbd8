"""ACME against Pebble, with the process killed at any line and the connection cut at any byte: as many certificates as
orders were asked for."""

from __future__ import annotations

import socket
from pathlib import Path

from model import x509
from model.messages import AuthorityAccess
from tests.connectors.ca.exactly_once import CuttingProxy, buy, many, orders
from tests.support.pebble import HOST, pebble
from tests.support.world import wait_until

COUNT = many(12)


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


async def test_every_order_is_one_certificate(tmp_path: Path) -> None:
    with pebble(tmp_path, {"PEBBLE_VA_NOSLEEP": "1"}) as server:
        async with CuttingProxy(server.port) as proxy:
            settings = {
                **server.settings,
                "directory_url": f"https://{HOST}:{proxy.port}/dir",
                "validation_pause_seconds": 0,
                "validation_tries": 10,
            }
            access = AuthorityAccess("Pebble", "acme", settings, "manager", False)
            home = tmp_path / "home"
            home.mkdir(mode=0o700)
            bought = await buy(
                access, orders(access, COUNT), home, seed=20261124, proxy=proxy, kill_share=0.4, cut_share=0.35
            )
        # Nothing is answered any more, and so nothing listens.
        assert not list((home / "acme").glob("answers/[!.]*"))
        await wait_until(lambda: not is_open(server.http_port))
        assert bought.kills >= COUNT / 2, bought.kills
        assert bought.cuts >= COUNT / 2, bought.cuts
        assert len(set(bought.numbers.values())) == COUNT
        collected = [x509.load_certificate(one.certificate_pem) for one in bought.certificates.values()]
        assert sorted(server.issued()) == sorted(x509.serial_hex(one).lstrip("0") for one in collected)
