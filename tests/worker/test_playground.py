"""The nginx that can be thrown away."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from model.errors import Unavailable
from worker.playground import DisposableNginx


def test_it_serves_each_site_and_ends(tmp_path: Path) -> None:
    with DisposableNginx(tmp_path / "nginx", ["a.example", "b.example"]) as nginx:
        for site in nginx.sites:
            assert site.key.stat().st_mode & 0o777 == 0o600
            context = ssl.create_default_context(cafile=site.certificate)
            with (
                socket.create_connection(("127.0.0.1", site.port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname=site.name) as tls,
            ):
                assert tls.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(site.certificate.read_text())
        assert nginx.pid is not None
    assert nginx.pid is None
    assert not nginx.pid_file.exists()
    nginx.stop()


def test_a_start_that_fails_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nginx = DisposableNginx(tmp_path / "nginx", port=taken.getsockname()[1])
        with pytest.raises(Unavailable, match="Address already in use"):
            nginx.start()
    assert nginx.pid is None
