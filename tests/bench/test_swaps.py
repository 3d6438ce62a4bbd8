"""The benches of installs measure what they say, and see a request that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import bindings
from bench.load import Load, ask
from bench.swaps import Report, swap
from tests.support.nginx import NginxProduct


async def test_certificates_are_exchanged_under_load(tmp_path: Path) -> None:
    with NginxProduct(tmp_path / "nginx") as nginx:
        swapped = await swap("nginx", nginx, tmp_path, 3, 0.2)
    assert len(swapped.installs) == 3
    assert swapped.under_swaps.seconds
    assert swapped.quiet.seconds
    assert Report([swapped]).failed == 0, swapped.under_swaps.failures
    assert Report([swapped]).as_json()["swaps"]["nginx"]["swaps"] == 3


def test_a_request_that_fails_is_counted(tmp_path: Path) -> None:
    with NginxProduct(tmp_path / "nginx") as nginx:
        ask(nginx.nginx.port, "a.example")
        with Load(nginx.nginx.port, "a.example", 2) as load:
            nginx.stop()
            with pytest.raises(OSError, match="refused"):
                ask(nginx.nginx.port, "a.example")
    assert load.answers.failed > 0
    assert any("refused" in words for words in load.answers.failures)


def test_an_answer_that_is_not_200_is_a_failure(tmp_path: Path) -> None:
    nginx = NginxProduct(tmp_path / "nginx")
    text = nginx.nginx.configuration.read_text()
    nginx.nginx.configuration.write_text(text.replace("return 200", "return 503"))
    with nginx, pytest.raises(OSError, match="503"):
        ask(nginx.nginx.port, "a.example")


async def test_very_many_bindings() -> None:
    report = await bindings.measure(10, lambda _: None)
    assert [len(one.each) for one in report.arrangements] == [10, 10, 10]
    assert report.as_json()["bindings"]["ten nginx"]["ratio"] > 0
